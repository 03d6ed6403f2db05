/* Text of the user's and of the model's. */
#include "driver/text.h"

#include <string.h>

#include "support/alloc.h"
#include "support/utf8.h"

TkBpeOptions dr_bpe_options(const FeSpec *spec) {
    const FeTokenizer *t = &spec->tokenizer;
    return (TkBpeOptions){.vocab_size = spec->vocab_size,
                          .bos = (int32_t)t->bos,
                          .eos = (int32_t)t->eos,
                          .bos_text = t->bos_text,
                          .eos_text = t->eos_text};
}

RtTokenizer *dr_tokenizer(const FeSpec *spec, SuDiags *diags) {
    if (spec->tokenizer.kind == FE_TOKENIZER_BPE) {
        TkBpeOptions options = dr_bpe_options(spec);
        return tk_bpe_open(spec->tokenizer.file, &options, diags);
    }
    RtTokenizer *tokenizer = rt_tokenizer_bytes(spec->vocab_size, (int32_t)spec->tokenizer.bos, (int32_t)spec->tokenizer.eos);
    if (!tokenizer) su_out_of_memory(diags, "making a tokenizer");
    return tokenizer;
}

void dr_skip_bom(const char *path, char **text, size_t *size, SuDiags *diags) {
    static const char bom[] = "\xEF\xBB\xBF";
    size_t length = sizeof bom - 1;
    if (*size < length || memcmp(*text, bom, length) != 0) return;
    *text += length;
    *size -= length;
    su_note(diags, path ? su_file_span(diags, path) : (SuSpan){0}, NULL, "the byte-order mark at the start of the text is skipped");
}

bool dr_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags) {
    if (rt_tokenizer_bos(tokenizer) >= 0) rt_tokens_add(out, rt_tokenizer_bos(tokenizer));
    return rt_tokenizer_encode(tokenizer, text, size, out, diags);
}

SuText dr_clean_utf8(const char *text, size_t size) {
    SuText clean = {0};
    su_text_append(&clean, "", 0);
    for (size_t at = 0; at < size;) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        bool good = c.whole && c.code;
        su_text_append(&clean, good ? text + at : SU_UTF8_REPLACEMENT, good ? c.size : strlen(SU_UTF8_REPLACEMENT));
        at += c.size;
    }
    return clean;
}
