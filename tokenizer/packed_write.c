/* From a tokenizer.json to a packed file. What Unicode says is asked of the libraries that mossc itself goes by, character by
 * character, so that a device splits and normalises as mossc does. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "support/alloc.h"
#include "tokenizer/bpe.h"
#include "tokenizer/known.h"
#include "tokenizer/model.h"
#include "tokenizer/packed.h"
#include "tokenizer/regex.h"

enum { CODES = 0x110000 };

/* Arrays of the file in the making. */
typedef struct Writer {
    const TkBpe *bpe;
    TkPackedHeader header;
    SuText arrays, text;
    SuSpan span;
    SuDiags *diags;
} Writer;

static TkPackedText add_text(Writer *w, const char *text, size_t size) {
    TkPackedText added = {.at = (uint32_t)w->text.size, .size = (uint32_t)size};
    if (size) su_text_append(&w->text, text, size);
    return added;
}

static void add_item(Writer *w, const void *item, size_t size, uint32_t *count) {
    su_text_append(&w->arrays, item, size);
    (*count)++;
}

/* ---- the model */

static void add_tokens(Writer *w) {
    const TkVocab *vocab = &w->bpe->vocab;
    for (size_t id = 0; id < vocab->n_ids; id++) {
        const TkText *t = &vocab->texts[id];
        if (!t->text) continue;
        TkPackedToken token = {.id = (int32_t)id, .text = add_text(w, t->text, t->size)};
        add_item(w, &token, sizeof token, &w->header.n_tokens);
    }
}

static void add_added(Writer *w, const TkAdded *added, uint32_t *count) {
    for (size_t i = 0; i < added->count; i++) {
        const TkAddedToken *t = &added->tokens[i];
        const TkText *text = &w->bpe->added.texts[t->id];
        TkPackedAdded item = {.id = t->id,
                              .flags = (t->single_word ? TK_SINGLE_WORD : 0u) | (t->lstrip ? TK_LSTRIP : 0u) |
                                       (t->rstrip ? TK_RSTRIP : 0u),
                              .searched = add_text(w, t->text, t->size),
                              .text = add_text(w, text->text, text->size)};
        add_item(w, &item, sizeof item, count);
    }
}

static int by_rank(const void *a, const void *b) {
    uint32_t x = (*(const TkMerge *const *)a)->rank, y = (*(const TkMerge *const *)b)->rank;
    return (x > y) - (x < y);
}

static void add_merges(Writer *w) {
    const TkMerges *merges = &w->bpe->merges;
    SuArena arena = {0};
    const TkMerge **sorted = SU_NEW_ARRAY(&arena, const TkMerge *, merges->mask + 1);
    size_t count = 0;
    for (size_t i = 0; i <= merges->mask; i++)
        if (merges->slots[i].pair != UINT64_MAX) sorted[count++] = &merges->slots[i];
    qsort(sorted, count, sizeof *sorted, by_rank);
    for (size_t i = 0; i < count; i++) {
        TkPackedMerge merge = {(int32_t)(sorted[i]->pair >> 32), (int32_t)(uint32_t)sorted[i]->pair, sorted[i]->id};
        add_item(w, &merge, sizeof merge, &w->header.n_merges);
    }
    su_arena_free(&arena);
}

static bool add_steps(Writer *w, const char *section, const TkSteps *steps, uint32_t *count) {
    for (int i = 0; i < steps->count; i++) {
        const TkStep *s = &steps->items[i];
        TkKnown known = s->pattern ? tk_known_by_text(s->text, s->literal) : TK_KNOWN_NONE;
        if (s->pattern && known == TK_KNOWN_NONE) {
            return su_error(w->diags, w->span,
                            "supported are the patterns of GPT-2 (GPT-NeoX), Llama 3 and Qwen 2, Digits, and String patterns",
                            "%s %d: pattern is not supported on devices: %.200s", section, i, s->text.text);
        }
        bool pattern_alone = s->pattern && !s->literal; /* a known pattern has no need of its text */
        TkPackedStep step = {.kind = s->kind,
                             .form = s->form,
                             .behavior = s->behavior,
                             .scheme = s->scheme,
                             .flags = (s->invert ? TK_STEP_INVERT : 0u) | (s->prefix ? TK_STEP_PREFIX : 0u) |
                                      (s->left ? TK_STEP_LEFT : 0u) | (s->right ? TK_STEP_RIGHT : 0u) |
                                      (s->whole ? TK_STEP_WHOLE : 0u),
                             .known = known,
                             .start = s->start,
                             .stop = s->stop,
                             .text = add_text(w, s->text.text, pattern_alone ? 0 : s->text.size),
                             .content = add_text(w, s->content.text, s->content.size)};
        add_item(w, &step, sizeof step, count);
    }
    return true;
}

/* ---- Unicode */

/* Whether UTF-8 can write it: all but surrogates. */
static bool is_character(uint32_t code) { return code < 0xD800 || code > 0xDFFF; }

static void add_runs(Writer *w, const uint8_t values[CODES], uint32_t *count) {
    for (uint32_t code = 0; code < CODES; code++) {
        if (code > 0 && values[code] == values[code - 1]) continue;
        uint32_t run = code << 8 | values[code];
        add_item(w, &run, sizeof run, count);
    }
}

/* Where a piece lies in the text of all characters. */
typedef struct Marking {
    uint8_t *values; /* [CODES] */
    uint8_t bit;
} Marking;

static bool mark(void *context, const char *text, size_t size) {
    const Marking *m = context;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code;
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &code);
        m->values[code] |= m->bit;
    }
    return true;
}

/* The characters of a class, as PCRE2 has them. */
static bool mark_class(Writer *w, const SuText *all, const char *pattern, Marking marking) {
    SuArena arena = {0};
    const char *why = "out of memory";
    TkPattern *compiled = tk_pattern_compile(&arena, pattern, strlen(pattern), false, &why);
    TkMatcher *matcher = tk_matcher_create();
    bool ok = compiled && matcher ? tk_split(compiled, matcher, TK_REMOVED, true, all->text, all->size, mark, &marking, w->diags)
                                  : su_error(w->diags, (SuSpan){0}, NULL, "cannot determine character classes: %s", why);
    tk_pattern_free(compiled);
    tk_matcher_free(matcher);
    su_arena_free(&arena);
    return ok;
}

static bool add_classes(Writer *w) {
    SuArena arena = {0};
    SuText all = {0};
    uint8_t *values = su_alloc(&arena, CODES);
    for (uint32_t code = 0; code < CODES; code++) {
        utf8proc_uint8_t bytes[4];
        if (!is_character(code)) continue;
        su_text_append(&all, (const char *)bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, bytes));
        values[code] = tk_utf8proc.is_word(&tk_utf8proc, code) ? TK_CLASS_WORD : 0;
    }
    bool ok = mark_class(w, &all, "\\p{L}", (Marking){values, TK_CLASS_LETTER}) &&
              mark_class(w, &all, "\\p{N}", (Marking){values, TK_CLASS_NUMBER});
    if (ok) add_runs(w, values, &w->header.n_classes);
    su_text_free(&all);
    su_arena_free(&arena);
    return ok;
}

static void add_orders(Writer *w) {
    SuArena arena = {0};
    uint8_t *values = su_alloc(&arena, CODES);
    for (uint32_t code = 0; code < CODES; code++)
        if (is_character(code)) values[code] = (uint8_t)utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
    add_runs(w, values, &w->header.n_orders);
    su_arena_free(&arena);
}

static bool is_hangul(uint32_t code) { return code >= 0xAC00 && code <= 0xD7A3; }

enum { MOST_PARTS = 32 }; /* the longest decomposition has 18 */

/* The full decomposition, if it differs from the character. */
static size_t decompose(uint32_t code, bool compatible, uint32_t parts[MOST_PARTS]) {
    utf8proc_int32_t out[MOST_PARTS] = {0};
    int boundary = 0;
    if (!is_character(code) || is_hangul(code)) return 0;
    int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, out, MOST_PARTS, (utf8proc_option_t)options, &boundary);
    if (n < 1 || n > MOST_PARTS || (n == 1 && (uint32_t)out[0] == code)) return 0;
    for (int i = 0; i < n; i++) parts[i] = (uint32_t)out[i];
    return (size_t)n;
}

static void add_decompositions(Writer *w, bool compatible, SuText *parts, uint32_t *count) {
    uint32_t found[MOST_PARTS];
    for (uint32_t code = 0; code < CODES; code++) {
        TkDecomposition d = {.code = code, .at = w->header.n_parts, .count = (uint32_t)decompose(code, compatible, found)};
        if (d.count == 0) continue;
        add_item(w, &d, sizeof d, count);
        su_text_append(parts, (const char *)found, d.count * sizeof found[0]);
        w->header.n_parts += d.count;
    }
}

static bool has_compatible_form(const TkSteps *steps) {
    for (int i = 0; i < steps->count; i++)
        if (steps->items[i].kind == TK_STEP_FORM && tk_form_is_compatible(steps->items[i].form)) return true;
    return false;
}

static void add_all_decompositions(Writer *w) {
    SuText parts = {0};
    add_decompositions(w, false, &parts, &w->header.n_decompositions);
    if (has_compatible_form(&w->bpe->normalizer)) add_decompositions(w, true, &parts, &w->header.n_compatible);
    su_text_append(&w->arrays, parts.text, parts.size);
    su_text_free(&parts);
}

/* What codes in canonical order become: their number. */
static size_t compose(utf8proc_int32_t *codes, size_t count) {
    return (size_t)utf8proc_normalize_utf32(codes, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}

/* The pair that a character is put together from: what all but the last of its parts make, and the last. */
static bool find_pair(uint32_t code, TkComposition *out) {
    uint32_t parts[MOST_PARTS];
    size_t n = decompose(code, false, parts);
    utf8proc_int32_t first[MOST_PARTS], both[2];
    if (n < 2) return false;
    for (size_t i = 0; i + 1 < n; i++) first[i] = (utf8proc_int32_t)parts[i];
    if (compose(first, n - 1) != 1) return false;
    both[0] = first[0];
    both[1] = (utf8proc_int32_t)parts[n - 1];
    *out = (TkComposition){.first = (uint32_t)both[0], .second = (uint32_t)both[1], .code = code};
    return compose(both, 2) == 1 && (uint32_t)both[0] == code;
}

static int by_pair(const void *a, const void *b) {
    const TkComposition *x = a, *y = b;
    return x->first != y->first ? (x->first > y->first ? 1 : -1) : (x->second > y->second) - (x->second < y->second);
}

static void add_compositions(Writer *w) {
    SuArena arena = {0};
    TkComposition *pairs = SU_NEW_ARRAY(&arena, TkComposition, w->header.n_decompositions);
    size_t count = 0;
    for (uint32_t code = 0; code < CODES; code++) count += find_pair(code, &pairs[count]);
    qsort(pairs, count, sizeof *pairs, by_pair);
    for (size_t i = 0; i < count; i++) add_item(w, &pairs[i], sizeof pairs[i], &w->header.n_compositions);
    su_arena_free(&arena);
}

/* ---- the file */

static uint32_t flags_of(const TkBpe *bpe) {
    return (bpe->fuse_unk ? TK_FUSE_UNK : 0u) | (bpe->byte_fallback ? TK_BYTE_FALLBACK : 0u) |
           (bpe->ignore_merges ? TK_IGNORE_MERGES : 0u);
}

static bool add_all(Writer *w) {
    add_tokens(w);
    add_added(w, &w->bpe->added_raw, &w->header.n_added);
    add_added(w, &w->bpe->added_normal, &w->header.n_added_normal);
    add_merges(w);
    const TkBpe *bpe = w->bpe;
    bool ok = add_steps(w, "normalizer", &bpe->normalizer, &w->header.n_steps[0]) &&
              add_steps(w, "pre_tokenizer", &bpe->pre_tokenizer, &w->header.n_steps[1]) &&
              add_steps(w, "decoder", &bpe->decoder, &w->header.n_steps[2]) && add_classes(w);
    if (!ok) return false;
    add_orders(w);
    add_all_decompositions(w);
    add_compositions(w);
    return true;
}

static bool pack(const TkBpe *bpe, const char *path, const TkSpecials *specials, SuText *out, SuDiags *diags) {
    Writer w = {.bpe = bpe, .span = su_file_span(diags, path), .diags = diags};
    w.header = (TkPackedHeader){.format = TK_PACKED_FORMAT,
                                .flags = flags_of(bpe),
                                .vocab_size = bpe->vocab_size,
                                .bos = specials->bos,
                                .n_ends = specials->n_ends,
                                .unk = bpe->unk,
                                .n_ids = (uint32_t)bpe->added.n_ids};
    memcpy(w.header.ends, specials->ends, sizeof specials->ends);
    memcpy(w.header.magic, TK_PACKED_MAGIC, sizeof w.header.magic);
    bool ok = add_all(&w);
    if (ok) {
        size_t begin = out->size;
        w.header.text_bytes = (uint32_t)w.text.size;
        su_text_append(out, (const char *)&w.header, sizeof w.header);
        su_text_append(out, w.arrays.text, w.arrays.size);
        su_text_append(out, w.text.text ? w.text.text : "", w.text.size);
        w.header.digest = tk_packed_digest((const uint8_t *)out->text + begin, out->size - begin);
        memcpy(out->text + begin, &w.header, sizeof w.header);
    }
    su_text_free(&w.arrays);
    su_text_free(&w.text);
    return ok;
}

static bool bpe_pack_unguarded(const char *path, const TkBpeOptions *options, SuText *out, SuDiags *diags) {
    SuArena arena = {0};
    char *text;
    size_t size;
    TkSpecials specials;
    TkBpe *bpe = su_read_file(&arena, path, TK_MAX_FILE, &text, &size, diags)
                     ? tk_bpe_read(text, size, path, options->vocab_size, diags)
                     : NULL;
    bool ok = bpe && tk_bpe_resolve(bpe, path, options, &specials, diags) && pack(bpe, path, &specials, out, diags);
    tk_bpe_free(bpe);
    su_arena_free(&arena);
    return ok;
}

bool tk_bpe_pack(const char *path, const TkBpeOptions *options, SuText *out, SuDiags *diags) {
    SuGuard guard;
    bool none = out->text == NULL;
    if (SU_CAUGHT(&guard, diags, "packing a tokenizer")) {
        if (none) *out = (SuText){0}; /* what it had is freed */
        return false;
    }
    bool result = bpe_pack_unguarded(path, options, out, diags);
    su_guard_end(&guard);
    return result;
}
