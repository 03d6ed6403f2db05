/* A step of a tokenizer.json's normalizer, pre_tokenizer or decoder. */
#ifndef MOSSC_TOKENIZER_STEP_H
#define MOSSC_TOKENIZER_STEP_H

#include "tokenizer/split.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocab.h"

enum { TK_MAX_STEPS = 16 }; /* of a section */

typedef enum TkStepKind {
    TK_STEP_FORM,    /* normalizer: NFC, NFD, NFKC, NFKD */
    TK_STEP_PREPEND, /* normalizer: `text` in front */
    TK_STEP_STRIP,   /* normalizer: white space away, on the left, on the right */
    TK_STEP_REPLACE, /* normalizer, decoder: `content` in place of what matches */
    TK_STEP_SPLIT,      /* pre_tokenizer: Split, Digits */
    TK_STEP_BYTE_LEVEL, /* pre_tokenizer: bytes as characters; with a pattern, split by it before */
    TK_STEP_METASPACE,  /* pre_tokenizer: `text` for every blank, put in front by `scheme`; with a pattern, split before each */
    TK_STEP_BYTES,      /* decoder: ByteLevel's characters as bytes */
    TK_STEP_FALLBACK,   /* decoder: <0x41> as a byte */
    TK_STEP_TRIM,       /* decoder: Strip, the character `text` away, `start` times in front and `stop` times behind */
    TK_STEP_BLANKS,     /* decoder: Metaspace, a blank for `text`; nothing for it in the first token, unless scheme is never */
    TK_STEP_KINDS
} TkStepKind;

/* When Metaspace puts its sign in front: of every piece, of the one that begins the text, of none. */
typedef enum TkScheme { TK_ALWAYS, TK_FIRST, TK_NEVER, TK_SCHEMES } TkScheme;

typedef struct TkStep {
    TkStepKind kind;
    TkPattern *pattern; /* or NULL */
    TkText text;        /* as the kinds say; of SPLIT and REPLACE, the pattern's */
    bool literal;       /* the pattern is a text */
    TkText content;
    TkForm form;
    TkBehavior behavior;
    TkScheme scheme;
    bool invert;      /* SPLIT */
    bool prefix;      /* BYTE_LEVEL: a piece that begins with no blank gets one */
    bool left, right; /* STRIP */
    bool whole;       /* TRIM behind Fuse: of the text, not of each token */
    uint32_t start, stop;
} TkStep;

typedef struct TkSteps {
    TkStep items[TK_MAX_STEPS];
    int count;
} TkSteps;

/* What a matcher may be needed for, and where its failures are told. */
typedef struct TkWork {
    const TkUnicode *unicode;
    TkMatcher *matcher;
    SuDiags *diags;
    SuText room[2]; /* results; free them with tk_work_free */
} TkWork;

void tk_work_free(TkWork *work);

/* normal.c: *text becomes its normal form by all steps, which lies in the work's room or where it was. false with an error when a
 * pattern gives up. */
bool tk_normalize(const TkSteps *steps, TkWork *work, TkText *text);
/* decode.c: *text, of a token, becomes what it says by all steps that are of tokens. `first`: it is the first of a text. */
bool tk_decode(const TkSteps *steps, TkWork *work, bool first, TkText *text);

#endif
