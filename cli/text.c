/* Text of the user's and of the model's. */
#include "cli/text.h"

RtTokenizer *cli_tokenizer(const FeSpec *spec, SuDiags *diags) {
    if (spec->tokenizer.kind == FE_TOKENIZER_BPE) {
        su_error(diags, spec->span, "with --set 'tokenizer={kind: bytes}' an id is a byte",
                 "tokenizer: kind: bpe is not in this version");
        return NULL;
    }
    RtTokenizer *tokenizer = rt_tokenizer_bytes(spec->vocab_size, (int32_t)spec->tokenizer.bos, (int32_t)spec->tokenizer.eos);
    if (!tokenizer) su_error(diags, (SuSpan){0}, NULL, "out of memory");
    return tokenizer;
}

bool cli_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags) {
    if (rt_tokenizer_bos(tokenizer) >= 0) rt_tokens_add(out, rt_tokenizer_bos(tokenizer));
    return rt_tokenizer_encode(tokenizer, text, size, out, diags);
}

/* Bytes of the character at text[0..size); 0 if that is not UTF-8 (overlong forms, surrogates, beyond U+10FFFF), or NUL. */
static size_t utf8_size(const unsigned char *text, size_t size) {
    if (text[0] < 0x80) return text[0] != 0;
    size_t n = text[0] < 0xC2 ? 0 : text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : text[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > size) return 0;
    unsigned char low = text[0] == 0xE0 ? 0xA0 : text[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = text[0] == 0xED ? 0x9F : text[0] == 0xF4 ? 0x8F : 0xBF;
    if (text[1] < low || text[1] > high) return 0;
    for (size_t i = 2; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
    }
    return n;
}

SuText cli_clean_utf8(const char *text, size_t size) {
    SuText clean = {0};
    su_text_append(&clean, "", 0);
    for (size_t at = 0; at < size;) {
        size_t n = utf8_size((const unsigned char *)text + at, size - at);
        su_text_append(&clean, n ? text + at : "\xEF\xBF\xBD", n ? n : 3);
        at += n ? n : 1;
    }
    return clean;
}
