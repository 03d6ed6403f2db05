/* What follows from a tokenizer's tables, whichever file they come from. */
#include "tokenizer/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/utf8.h"

/* What encoding looks up most: single characters and the bytes of byte_fallback. */
void tk_model_index_characters(TkBpe *bpe) {
    for (uint32_t code = 0; code < TK_LOW_CODES; code++) {
        char text[4];
        bpe->low_ids[code] = tk_vocab_find(&bpe->vocab, text, su_utf8_encode(code, text));
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        int size = snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        bpe->fallback_ids[byte] = tk_vocab_find(&bpe->vocab, text, (size_t)size);
    }
}

/* ---- what ids say */

bool tk_model_matcher(const TkBpe *bpe, TkMatcher **out) {
    *out = bpe->make_matcher ? bpe->make_matcher() : NULL;
    return *out || !bpe->make_matcher;
}

typedef struct Decoding {
    const TkBpe *bpe;
    TkWork work;
} Decoding;

static void free_matcher(void *decoding) {
    Decoding *d = decoding;
    if (d->work.matcher) d->bpe->free_matcher(d->work.matcher);
}

static bool make_outputs(TkBpe *bpe, TkWork *work) {
    for (size_t id = 0; id < bpe->vocab.n_ids; id++) {
        TkText token = bpe->vocab.texts[id], said = token;
        if (!token.text || bpe->outputs[id].text) continue;
        if (!tk_decode(&bpe->decoder, work, false, &said)) return false;
        bool same = said.size == token.size && memcmp(said.text, token.text, token.size) == 0;
        bpe->outputs[id] = same ? token : (TkText){.text = su_strndup(&bpe->arena, said.text, said.size), .size = said.size};
    }
    return true;
}

bool tk_model_make_outputs(TkBpe *bpe, SuDiags *diags) {
    Decoding d = {.bpe = bpe, .work = {.diags = diags}};
    bpe->outputs = bpe->added.texts;
    if (!tk_model_matcher(bpe, &d.work.matcher)) return su_out_of_memory(diags, "reading a tokenizer");
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, free_matcher, &d);
    bool ok = make_outputs(bpe, &d.work);
    su_cleanup_done(&cleanup);
    free_matcher(&d);
    tk_work_free(&d.work);
    return ok;
}

static bool first_differs(const TkBpe *bpe) {
    for (int i = 0; i < bpe->decoder.count; i++)
        if (bpe->decoder.items[i].kind == TK_STEP_BLANKS) return true;
    return false;
}

void tk_model_first_output(const TkBpe *bpe, int32_t id, SuText *out) {
    SuDiags diags = {0};
    Decoding d = {.bpe = bpe, .work = {.diags = &diags}};
    TkText said = bpe->outputs[id];
    bool of_vocab = (size_t)id < bpe->vocab.n_ids && bpe->vocab.texts[id].text &&
                    tk_vocab_find(&bpe->added, bpe->vocab.texts[id].text, bpe->vocab.texts[id].size) < 0;
    if (of_vocab && first_differs(bpe) && tk_model_matcher(bpe, &d.work.matcher)) {
        TkText token = bpe->vocab.texts[id];
        if (tk_decode(&bpe->decoder, &d.work, true, &token)) said = token;
    }
    su_text_append(out, said.text, said.size);
    free_matcher(&d);
    tk_work_free(&d.work);
    su_diags_free(&diags);
}

const TkStep *tk_model_leading(const TkBpe *bpe) {
    for (int i = 0; i < bpe->decoder.count; i++)
        if (bpe->decoder.items[i].whole) return &bpe->decoder.items[i];
    return NULL;
}

int32_t tk_model_find(const TkBpe *bpe, const char *text) {
    int32_t id = tk_vocab_find(&bpe->added, text, strlen(text));
    return id >= 0 ? id : tk_vocab_find(&bpe->vocab, text, strlen(text));
}

bool tk_model_is_gap(const TkBpe *bpe, int32_t id) { return id < 0 || (size_t)id >= bpe->added.n_ids || !bpe->outputs[id].text; }

static void free_patterns(TkSteps *steps) {
    for (int i = 0; i < steps->count; i++) tk_pattern_free(steps->items[i].pattern);
}

void tk_model_free(TkBpe *bpe) {
    free_patterns(&bpe->normalizer);
    free_patterns(&bpe->pre_tokenizer);
    free_patterns(&bpe->decoder);
    su_map_close(&bpe->map);
    su_arena_free(&bpe->arena);
}
