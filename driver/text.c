/* Text of the user's and of the model's. */
#include "driver/text.h"

#include <string.h>

#include "support/alloc.h"
#include "support/utf8.h"

TkBpeOptions dr_bpe_options(const FeSpec *spec, SuArena *arena) {
    const FeTokenizer *t = &spec->tokenizer;
    TkBpeOptions options = {.vocab_size = spec->vocab_size, .bos = (int32_t)t->bos.id, .eos = -1, .bos_text = t->bos.text};
    if (t->n_eos == 0) return options;
    TkSpecial *ends = SU_NEW_ARRAY(arena, TkSpecial, (size_t)t->n_eos);
    for (int64_t i = 0; i < t->n_eos; i++) ends[i] = (TkSpecial){.id = (int32_t)t->eos[i].id, .text = t->eos[i].text};
    options.eos = ends[0].id;
    options.eos_text = ends[0].text;
    options.more_eos = ends + 1;
    options.n_more_eos = (size_t)t->n_eos - 1;
    return options;
}

RtTokenizer *dr_tokenizer(const FeSpec *spec, SuDiags *diags) {
    if (spec->tokenizer.kind == FE_TOKENIZER_BPE) {
        SuArena arena = {0};
        TkBpeOptions options = dr_bpe_options(spec, &arena);
        RtTokenizer *bpe = tk_bpe_open(spec->tokenizer.file, &options, diags);
        su_arena_free(&arena);
        return bpe;
    }
    const FeTokenizer *t = &spec->tokenizer;
    int32_t last = -1; /* the largest of those that end a text: the vocabulary reaches as far */
    for (int64_t i = 0; i < t->n_eos; i++) last = t->eos[i].id > last ? (int32_t)t->eos[i].id : last;
    RtTokenizer *tokenizer = rt_tokenizer_bytes(spec->vocab_size, (int32_t)t->bos.id, last);
    if (!tokenizer) su_out_of_memory(diags, "making a tokenizer");
    if (tokenizer) rt_tokenizer_set_ends(tokenizer, NULL, 0);
    for (int64_t i = 0; tokenizer && i < t->n_eos; i++) rt_tokenizer_add_end(tokenizer, (int32_t)t->eos[i].id);
    return tokenizer;
}

void dr_skip_bom(const char *path, char **text, size_t *size, SuDiags *diags) {
    static const char bom[] = "\xEF\xBB\xBF";
    size_t length = sizeof bom - 1;
    if (*size < length || memcmp(*text, bom, length) != 0) return;
    *text += length;
    *size -= length;
    su_note(diags, path ? su_file_span(diags, path) : (SuSpan){0}, NULL, "byte-order mark at the start of the text was skipped");
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
