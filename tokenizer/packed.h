/* Packed tokenizers: what `mossc compile` makes of a tokenizer.json for a device, which needs no JSON, PCRE2 or utf8proc for it.
 *
 * A file holds the vocab, the merges, the added tokens, the pre-tokenizers and, as tables, what Unicode says of characters. It is
 * mapped; texts are used in place. Its digest is always checked, and nothing in it is followed before it is known to be inside. */
#ifndef MOSSC_TOKENIZER_PACKED_H
#define MOSSC_TOKENIZER_PACKED_H

#include "ir/program.h"
#include "mossc/moss.h"
#include "runtime/tokenizer.h"
#include "support/digest.h"

enum { TK_PACKED_FORMAT = 2 };
#define TK_PACKED_MAGIC "mosscT\r\n"

/* Bits of TkPackedHeader.flags. */
enum { TK_FUSE_UNK = 1, TK_BYTE_FALLBACK = 2, TK_IGNORE_MERGES = 4 };

/* The first bytes, little endian. Behind it, in this order and 4-aligned: TkPackedToken tokens[n_tokens], added tokens, normalised
 * added tokens, merges, steps of the normalizer, the pre-tokenizer and the decoder; class runs and order runs (uint32_t),
 * decompositions, those by compatibility (none where no step asks for them), their parts (uint32_t), compositions (tables.h); text. */
typedef struct TkPackedHeader {
    char magic[8];
    uint32_t format, flags;
    int64_t vocab_size; /* the model's V */
    int32_t bos, unk;
    uint32_t n_ends;    /* of `ends`, what a text ends with */
    int32_t ends[MOSS_MAX_ENDS];
    uint32_t n_ids;     /* largest id + 1, of all tokens */
    uint32_t n_tokens, n_added, n_added_normal, n_merges, n_steps[3];
    uint32_t n_classes, n_orders, n_decompositions, n_compatible, n_parts, n_compositions;
    uint32_t text_bytes, pad;
    SuDigest digest; /* of all else */
} TkPackedHeader;

/* A text of the file. */
typedef struct TkPackedText {
    uint32_t at, size;
} TkPackedText;

typedef struct TkPackedToken {
    int32_t id;
    TkPackedText text;
} TkPackedToken;

/* Bits of TkPackedAdded.flags. */
enum { TK_SINGLE_WORD = 1, TK_LSTRIP = 2, TK_RSTRIP = 4 };

typedef struct TkPackedAdded {
    int32_t id;
    uint32_t flags;
    TkPackedText searched, text; /* as it is looked for, as it is written */
} TkPackedAdded;

/* In the order of their ranks. */
typedef struct TkPackedMerge {
    int32_t left, right, id;
} TkPackedMerge;

/* Bits of TkPackedStep.flags: those of TkStep. */
enum { TK_STEP_INVERT = 1, TK_STEP_PREFIX = 2, TK_STEP_LEFT = 4, TK_STEP_RIGHT = 8, TK_STEP_WHOLE = 16 };

/* A TkStep. A Metaspace that splits has known TK_KNOWN_LITERAL and its sign as text. */
typedef struct TkPackedStep {
    uint32_t kind, form, behavior, scheme, flags;
    uint32_t known; /* TkKnown of its pattern */
    uint32_t start, stop;
    TkPackedText text, content;
} TkPackedStep;

_Static_assert(sizeof(TkPackedHeader) == 184 && sizeof(TkPackedStep) == 48 && sizeof(TkPackedAdded) == 24, "no padding in files");

/* moss_tokenizer_open from a file's bytes, which must outlive it; NULL after adding to diags. `path` is for messages. */
RtTokenizer *tk_packed_parse(const uint8_t *data, size_t size, const char *path, int64_t vocab_size, SuDiags *diags);
/* The digest that a header should carry. */
SuDigest tk_packed_digest(const uint8_t *data, size_t size);

#endif
