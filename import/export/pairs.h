/* The metadata of a GGUF file (import/gguf.h), as the bytes that it is. */
#ifndef MOSSC_IMPORT_EXPORT_PAIRS_H
#define MOSSC_IMPORT_EXPORT_PAIRS_H

#include "import/gguf.h"
#include "support/str.h"

typedef struct XpPairs {
    SuText bytes;
    uint64_t count;
} XpPairs; /* `XpPairs p = {0};` holds none; free the bytes */

/* The low bytes of a number; the length of a text, and the text. */
void xp_put(SuText *out, uint64_t value, int bytes);
void xp_put_text(SuText *out, const char *text, size_t size);
/* "GGUF", its version, how many tensors and pairs, and the pairs. */
void xp_put_head(SuText *out, uint64_t n_tensors, const XpPairs *pairs);

void xp_put_number(XpPairs *pairs, const char *key, uint64_t value); /* uint32 */
void xp_put_real(XpPairs *pairs, const char *key, double value);     /* float32 */
void xp_put_flag(XpPairs *pairs, const char *key, bool value);
void xp_put_word(XpPairs *pairs, const char *key, const char *word);
/* An array of `count` items, which are put behind it into pairs->bytes. */
void xp_put_array(XpPairs *pairs, const char *key, ImGgufType type, uint64_t count);
/* Those of `more` too. */
void xp_put_all(XpPairs *pairs, const XpPairs *more);

#endif
