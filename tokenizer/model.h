/* A tokenizer.json once it is read, shared by the reader (read.c) and the encoder (bpe.c). */
#ifndef MOSSC_TOKENIZER_MODEL_H
#define MOSSC_TOKENIZER_MODEL_H

#include "support/arena.h"
#include "support/diag.h"
#include "tokenizer/added.h"
#include "tokenizer/bpe.h"
#include "tokenizer/split.h"
#include "tokenizer/vocab.h"

enum { TK_MAX_STAGES = 16, TK_LOW_CODES = 0x180 };

/* A pre-tokenizer. */
typedef struct TkStage {
    enum { TK_SPLIT, TK_BYTE_LEVEL } kind;
    bool add_prefix_space; /* byte level: a piece that begins with no blank gets one */
    TkPattern *pattern;    /* NULL: byte level without use_regex */
    TkBehavior behavior;
    bool invert;
} TkStage;

typedef struct TkBpe {
    SuArena arena;
    int64_t vocab_size;

    TkVocab vocab;
    TkMerges merges;
    int32_t unk; /* -1: none */
    bool fuse_unk, byte_fallback, ignore_merges;
    int32_t fallback_ids[256];         /* of <0x00> to <0xFF>, -1: none */
    int32_t low_ids[TK_LOW_CODES];     /* of single characters below, -1: none */
    uint16_t char_of_byte[256];        /* ByteLevel's printable characters, all below TK_LOW_CODES */
    int16_t byte_of_char[TK_LOW_CODES]; /* -1: stands for no byte */

    bool nfc;
    TkStage stages[TK_MAX_STAGES];
    int n_stages;
    TkVocab added;                   /* the added tokens; ids below n_ids, which is that of all tokens */
    TkAdded added_raw, added_normal; /* their texts, looked for before and after normalising */

    bool decode_byte_level, decode_byte_fallback;
    TkText *outputs; /* [added.n_ids], what an id says; text NULL: the id stands for nothing */
} TkBpe;

/* Reads a file's text. false after adding to diags; tk_model_free then frees what is there. */
bool tk_model_read(TkBpe *bpe, const char *text, size_t size, const char *path, SuDiags *diags);
void tk_model_free(TkBpe *bpe);

/* The id of a token by its text, -1 if there is none. */
int32_t tk_model_find(const TkBpe *bpe, const char *text);

#endif
