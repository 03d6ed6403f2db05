#include "import/export/pairs.h"

#include <string.h>

#include "ir/half.h"

enum { VERSION = 3 };

void xp_put(SuText *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        const char byte = (char)(value >> 8 * i);
        su_text_append(out, &byte, 1);
    }
}

void xp_put_text(SuText *out, const char *text, size_t size) {
    xp_put(out, size, 8);
    su_text_append(out, text, size);
}

void xp_put_head(SuText *out, uint64_t n_tensors, const XpPairs *pairs) {
    su_text_append(out, "GGUF", 4);
    xp_put(out, VERSION, 4);
    xp_put(out, n_tensors, 8);
    xp_put(out, pairs->count, 8);
    su_text_append(out, pairs->bytes.text, pairs->bytes.size);
}

static SuText *begin(XpPairs *pairs, const char *key, ImGgufType type) {
    xp_put_text(&pairs->bytes, key, strlen(key));
    xp_put(&pairs->bytes, (uint64_t)type, 4);
    pairs->count++;
    return &pairs->bytes;
}

void xp_put_number(XpPairs *pairs, const char *key, uint64_t value) { xp_put(begin(pairs, key, IM_GGUF_U32), value, 4); }

void xp_put_real(XpPairs *pairs, const char *key, double value) {
    xp_put(begin(pairs, key, IM_GGUF_F32), ir_bits_of((float)value), 4);
}

void xp_put_flag(XpPairs *pairs, const char *key, bool value) { xp_put(begin(pairs, key, IM_GGUF_BOOL), value, 1); }

void xp_put_word(XpPairs *pairs, const char *key, const char *word) {
    xp_put_text(begin(pairs, key, IM_GGUF_STRING), word, strlen(word));
}

void xp_put_array(XpPairs *pairs, const char *key, ImGgufType type, uint64_t count) {
    SuText *out = begin(pairs, key, IM_GGUF_ARRAY);
    xp_put(out, (uint64_t)type, 4);
    xp_put(out, count, 8);
}

void xp_put_all(XpPairs *pairs, const XpPairs *more) {
    su_text_append(&pairs->bytes, more->bytes.text, more->bytes.size);
    pairs->count += more->count;
}
