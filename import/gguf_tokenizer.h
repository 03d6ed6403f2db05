/* The tokenizer of a GGUF file (tokenizer.ggml.*) as a tokenizer.json, which tokenizer/ and others read.
 *
 * Two kinds of tokenizer.ggml.model are understood: gpt2, merges over bytes that are written as characters, whose words are cut as
 * tokenizer.ggml.pre says (gguf_pre.def); and llama, SentencePiece's, which merges whatever gives the token of the highest score. The
 * merges of that one are made of the scores, as Hugging Face makes them. */
#ifndef MOSSC_IMPORT_GGUF_TOKENIZER_H
#define MOSSC_IMPORT_GGUF_TOKENIZER_H

#include "import/gguf.h"
#include "support/str.h"

enum { IM_MOST_ENDS = 8, IM_LONGEST_PIECE = 1024 /* bytes of a token that merges may make */ };

typedef struct ImGgufTokenizer {
    SuText json; /* of tokenizer.json; empty: the file has no tokenizer, or none that is understood, which a warning says */
    int32_t bos; /* what a text begins with; -1: nothing */
    int32_t ends[IM_MOST_ENDS]; /* the tokens that end a text, eos first */
    size_t n_ends;
} ImGgufTokenizer;

/* What tokenizer.ggml.pre calls texts that are cut so (gguf_pre.def); NULL: nothing. */
const char *im_gguf_pre(const char *pattern, bool digits, bool nfc, bool whole);
/* What is wrong with a tokenizer is a warning: the model can be used without. */
void im_gguf_tokenizer(const ImGguf *gguf, ImGgufTokenizer *out, SuDiags *diags);
void im_gguf_tokenizer_free(ImGgufTokenizer *tokenizer);

/* ---- for gguf_tokenizer.c and gguf_merges.c */

typedef enum ImTokenKind {
    IM_TOKEN_NONE,
    IM_TOKEN_NORMAL,
    IM_TOKEN_UNKNOWN,
    IM_TOKEN_CONTROL,
    IM_TOKEN_USER,
    IM_TOKEN_UNUSED,
    IM_TOKEN_BYTE
} ImTokenKind;

typedef struct ImToken {
    const char *text; /* into the file */
    size_t size;
    double score;
    ImTokenKind kind;
} ImToken;

/* Adds the merges that the scores of `tokens` mean, the first one first, as the items of a JSON list: "a b","c d". NULL, or what is wrong. */
const char *im_gguf_merges(const ImToken *tokens, size_t count, SuText *json);
/* Adds a text as JSON; false: it is no UTF-8. */
bool im_json_add_text(SuText *json, const char *text, size_t size);

#endif
