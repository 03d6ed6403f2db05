/* The tokenizer `bpe`: a tokenizer.json of Hugging Face's, of the GPT-2, GPT-NeoX, Llama, Mistral, Gemma and Qwen kinds.
 *
 * A library of its own beside the runtime: an embedder that brings its own ids leaves it out, with PCRE2 and utf8proc. Devices have
 * packed.h in its place.
 *
 * Understood: the model BPE (merges as "a b" or ["a", "b"], unk_token, fuse_unk, byte_fallback, ignore_merges); the normalizers
 * NFC, NFD, NFKC, NFKD, Prepend, Replace and Strip; the pre-tokenizers ByteLevel, Split, Digits and Metaspace; added tokens with all
 * their flags; the decoders ByteLevel, ByteFallback, Replace, Strip, Metaspace and Fuse, and behind Fuse a Replace of one character
 * and a Strip at the start; Sequences of them. Anything else in the file is an error that names its place: nothing is guessed.
 *
 * Ids are those of Hugging Face's encode(add_special_tokens=False); what a post-processor would add is for the caller to say, as
 * bos and eos. Four things differ, three of them where Hugging Face loses text: a character that has no token, with no unk_token to stand
 * for it, is an error; an added token decodes to its own text whatever the decoder; the bytes of a ByteFallback become U+FFFD
 * only where they are no character; characters that Unicode has had since 2019 have their normal forms. What a decoder takes away at
 * the start of a text (Strip, Metaspace), it takes from streams of whole texts only: what follows a prompt keeps its blank. */
#ifndef MOSSC_TOKENIZER_BPE_H
#define MOSSC_TOKENIZER_BPE_H

#include "runtime/tokenizer.h"
#include "support/limits.h"

enum { TK_MAX_FILE = SU_LIMIT(64 << 20, 8192), TK_MAX_VALUES = SU_LIMIT(4 << 20, 1024) }; /* bytes; values in the file */

/* A token by its id, or by its text where that is not NULL. */
typedef struct TkSpecial {
    int32_t id;
    const char *text;
} TkSpecial;

typedef struct TkBpeOptions {
    int64_t vocab_size;             /* the model's V: encoding an id from there on is an error */
    int32_t bos, eos;               /* ids, -1: none */
    const char *bos_text, *eos_text; /* or tokens by their text; NULL: as bos and eos say */
    const TkSpecial *more_eos;       /* [n_more_eos] that end a text as eos does; less than MOSS_MAX_ENDS */
    size_t n_more_eos;
} TkBpeOptions;

/* NULL after adding to diags. rt_tokenizer_free frees it. The tokenizer may be used by several threads at once. */
RtTokenizer *tk_bpe_open(const char *path, const TkBpeOptions *options, SuDiags *diags);
/* The same from text in memory; `path` is for messages. */
RtTokenizer *tk_bpe_parse(const char *text, size_t size, const char *path, const TkBpeOptions *options, SuDiags *diags);

/* Writes what a device needs of a tokenizer.json into `out`: a packed file (packed.h). false after adding to diags, also when a
 * pattern is none that known.h has. */
bool tk_bpe_pack(const char *path, const TkBpeOptions *options, SuText *out, SuDiags *diags);

#endif
