#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "support/alloc.h"
#include "tokenizer/known.h"
#include "tokenizer/model.h"
#include "tokenizer/packed.h"

/* A file being read. */
typedef struct Reader {
    const uint8_t *data;
    size_t size;
    const TkPackedHeader *header;
    const uint8_t *at; /* the next array */
    const char *text;
    SuSpan span;
    SuDiags *diags;
} Reader;

static bool damaged(const Reader *r) {
    return su_error(r->diags, r->span, "create it again with mossc compile", "file is corrupt: inconsistent table");
}

SuDigest tk_packed_digest(const uint8_t *data, size_t size) {
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, data, offsetof(TkPackedHeader, digest));
    su_digest_add(stream, data + sizeof(TkPackedHeader), size - sizeof(TkPackedHeader));
    SuDigest digest = su_digest_now(stream);
    su_digest_end(stream);
    return digest;
}

/* The bytes that all arrays of a header take. Counts of 32 bits cannot overflow it. */
static uint64_t whole_size(const TkPackedHeader *h) {
    return sizeof *h + (uint64_t)h->n_tokens * sizeof(TkPackedToken) +
           ((uint64_t)h->n_added + h->n_added_normal) * sizeof(TkPackedAdded) + (uint64_t)h->n_merges * sizeof(TkPackedMerge) +
           ((uint64_t)h->n_steps[0] + h->n_steps[1] + h->n_steps[2]) * sizeof(TkPackedStep) +
           ((uint64_t)h->n_classes + h->n_orders + h->n_parts) * sizeof(uint32_t) +
           ((uint64_t)h->n_decompositions + h->n_compatible) * sizeof(TkDecomposition) +
           (uint64_t)h->n_compositions * sizeof(TkComposition) + h->text_bytes;
}

static bool check_header(const Reader *r, int64_t vocab_size) {
    const TkPackedHeader *h = r->header;
    if (r->size < sizeof *h || memcmp(h->magic, TK_PACKED_MAGIC, sizeof h->magic) != 0)
        return su_error(r->diags, r->span, NULL, "file is not a complete packed tokenizer");
    if (h->format != TK_PACKED_FORMAT) {
        return su_error(r->diags, r->span, "create it again with mossc compile",
                        "file has format version %u, but this program reads version %d", h->format, TK_PACKED_FORMAT);
    }
    SuDigest digest = tk_packed_digest(r->data, r->size);
    if (!su_digest_equal(&digest, &h->digest) || whole_size(h) != r->size)
        return su_error(r->diags, r->span, "create it again with mossc compile", "file is corrupt or truncated");
    if (h->vocab_size != vocab_size) {
        return su_error(r->diags, r->span, NULL, "tokenizer was packed for a model with %lld ids, but this one has %lld",
                        (long long)h->vocab_size, (long long)vocab_size);
    }
    bool ids = h->n_ids <= TK_MAX_ID + 1 && h->bos < vocab_size && h->unk < (int32_t)h->n_ids && h->n_ends <= MOSS_MAX_ENDS;
    for (uint32_t i = 0; ids && i < h->n_ends; i++) ids = h->ends[i] >= 0 && h->ends[i] < vocab_size;
    for (int i = 0; i < 3; i++) ids = ids && h->n_steps[i] <= TK_MAX_STEPS;
    return (ids && h->n_classes > 0 && h->n_orders > 0) || damaged(r);
}

static const void *take(Reader *r, uint32_t count, size_t size) {
    const void *items = r->at;
    r->at += count * size;
    return items;
}

static bool has_text(const Reader *r, const TkPackedText *text) {
    return text->at <= r->header->text_bytes && text->size <= r->header->text_bytes - text->at;
}

/* ---- sections */

static bool read_tokens(Reader *r, TkBpe *bpe) {
    const TkPackedHeader *h = r->header;
    const TkPackedToken *tokens = take(r, h->n_tokens, sizeof *tokens);
    tk_vocab_make(&bpe->vocab, &bpe->arena, h->n_tokens, h->n_ids);
    for (uint32_t i = 0; i < h->n_tokens; i++) {
        const TkPackedToken *t = &tokens[i];
        bool known = t->id >= 0 && (uint32_t)t->id < h->n_ids && has_text(r, &t->text);
        if (!known || bpe->vocab.texts[t->id].text) return damaged(r);
        if (tk_vocab_add(&bpe->vocab, t->id, r->text + t->text.at, t->text.size) >= 0) return damaged(r);
    }
    tk_model_index_characters(bpe);
    return true;
}

static bool read_added(Reader *r, TkBpe *bpe, uint32_t count, TkAdded *added) {
    const TkPackedAdded *items = take(r, count, sizeof *items);
    for (uint32_t i = 0; i < count; i++) {
        const TkPackedAdded *a = &items[i];
        bool known = a->id >= 0 && (uint32_t)a->id < r->header->n_ids && has_text(r, &a->text) && has_text(r, &a->searched);
        if (!known || bpe->added.texts[a->id].text || a->searched.size < 1 || a->searched.size > TK_MAX_ADDED) return damaged(r);
        if (tk_vocab_add(&bpe->added, a->id, r->text + a->text.at, a->text.size) >= 0) return damaged(r);
        TkAddedToken token = {.id = a->id,
                              .text = r->text + a->searched.at,
                              .size = a->searched.size,
                              .single_word = a->flags & TK_SINGLE_WORD,
                              .lstrip = a->flags & TK_LSTRIP,
                              .rstrip = a->flags & TK_RSTRIP};
        if (tk_added_add(added, &bpe->arena, &token) >= 0) return damaged(r);
    }
    return true;
}

static bool read_merges(Reader *r, TkBpe *bpe) {
    const TkPackedMerge *merges = take(r, r->header->n_merges, sizeof *merges);
    tk_merges_make(&bpe->merges, &bpe->arena, r->header->n_merges);
    for (uint32_t rank = 0; rank < r->header->n_merges; rank++) {
        const TkPackedMerge *m = &merges[rank];
        bool known = m->left >= 0 && m->right >= 0 && m->id >= 0 && (uint32_t)m->id < r->header->n_ids;
        if (!known || !tk_merges_add(&bpe->merges, m->left, m->right, rank, m->id)) return damaged(r);
    }
    return true;
}

static TkText text_of(const Reader *r, const TkPackedText *text) {
    return (TkText){.text = r->text + text->at, .size = text->size};
}

/* Whether a step may stand in the section, and has what it needs. */
static bool is_sound(const Reader *r, const TkPackedStep *s, int section) {
    static const uint32_t kinds[3] = {1u << TK_STEP_FORM | 1u << TK_STEP_PREPEND | 1u << TK_STEP_STRIP | 1u << TK_STEP_REPLACE,
                                      1u << TK_STEP_SPLIT | 1u << TK_STEP_BYTE_LEVEL | 1u << TK_STEP_METASPACE,
                                      1u << TK_STEP_REPLACE | 1u << TK_STEP_BYTES | 1u << TK_STEP_FALLBACK | 1u << TK_STEP_TRIM |
                                          1u << TK_STEP_BLANKS};
    bool known = s->kind < TK_STEP_KINDS && kinds[section] >> s->kind & 1 && s->form < TK_FORMS && s->behavior <= TK_CONTIGUOUS &&
                 s->scheme < TK_SCHEMES && s->known < TK_KNOWN_COUNT && has_text(r, &s->text) && has_text(r, &s->content);
    bool matches = s->kind == TK_STEP_SPLIT || s->kind == TK_STEP_REPLACE;
    bool signs =
        s->known == TK_KNOWN_LITERAL || s->kind == TK_STEP_METASPACE || s->kind == TK_STEP_TRIM || s->kind == TK_STEP_BLANKS;
    return known && !(matches && s->known == TK_KNOWN_NONE) && !(signs && s->text.size == 0);
}

/* The steps of a section, whose patterns read the tables that come behind them. */
static bool read_steps(Reader *r, int section, TkSteps *steps, const TkTables *tables) {
    const TkPackedStep *items = take(r, r->header->n_steps[section], sizeof *items);
    for (uint32_t i = 0; i < r->header->n_steps[section]; i++) {
        const TkPackedStep *s = &items[i];
        if (!is_sound(r, s, section)) return damaged(r);
        TkStep *step = &steps->items[steps->count++];
        *step = (TkStep){.kind = (TkStepKind)s->kind,
                         .text = text_of(r, &s->text),
                         .literal = s->known == TK_KNOWN_LITERAL,
                         .content = text_of(r, &s->content),
                         .form = (TkForm)s->form,
                         .behavior = (TkBehavior)s->behavior,
                         .scheme = (TkScheme)s->scheme,
                         .invert = s->flags & TK_STEP_INVERT,
                         .prefix = s->flags & TK_STEP_PREFIX,
                         .left = s->flags & TK_STEP_LEFT,
                         .right = s->flags & TK_STEP_RIGHT,
                         .whole = s->flags & TK_STEP_WHOLE,
                         .start = s->start,
                         .stop = s->stop};
        if (s->known == TK_KNOWN_NONE) continue;
        step->pattern = tk_known_make((TkKnown)s->known, tables, step->text);
        if (!step->pattern) return su_out_of_memory(r->diags, "making a tokenizer");
    }
    return true;
}

static bool read_runs(Reader *r, uint32_t count, TkRuns *out) {
    *out = (TkRuns){.items = take(r, count, sizeof *out->items), .count = count};
    bool rises = out->items[0] >> 8 == 0;
    for (uint32_t i = 1; i < count; i++) rises = rises && out->items[i] >> 8 > out->items[i - 1] >> 8;
    return rises || damaged(r);
}

static bool are_inside(const TkDecompositions *all, uint32_t n_parts) {
    bool inside = true;
    for (size_t i = 0; i < all->count; i++)
        inside = inside && all->items[i].at <= n_parts && all->items[i].count <= n_parts - all->items[i].at;
    return inside;
}

static bool read_tables(Reader *r, TkTables *t) {
    const TkPackedHeader *h = r->header;
    if (!read_runs(r, h->n_classes, &t->classes) || !read_runs(r, h->n_orders, &t->orders)) return false;
    t->canonical = (TkDecompositions){take(r, h->n_decompositions, sizeof *t->canonical.items), h->n_decompositions};
    t->compatible = (TkDecompositions){take(r, h->n_compatible, sizeof *t->compatible.items), h->n_compatible};
    t->parts = take(r, h->n_parts, sizeof *t->parts);
    if (!are_inside(&t->canonical, h->n_parts) || !are_inside(&t->compatible, h->n_parts)) return damaged(r);
    t->n_compositions = h->n_compositions;
    t->compositions = take(r, h->n_compositions, sizeof *t->compositions);
    tk_tables_ready(t);
    return true;
}

static void read_flags(const TkPackedHeader *h, TkBpe *bpe) {
    bpe->vocab_size = h->vocab_size;
    bpe->unk = h->unk;
    bpe->fuse_unk = h->flags & TK_FUSE_UNK;
    bpe->byte_fallback = h->flags & TK_BYTE_FALLBACK;
    bpe->ignore_merges = h->flags & TK_IGNORE_MERGES;
}

static bool read_model(Reader *r, TkBpe *bpe) {
    const TkPackedHeader *h = r->header;
    TkTables *tables = SU_NEW(&bpe->arena, TkTables);
    r->at = r->data + sizeof *h;
    r->text = (const char *)r->data + r->size - h->text_bytes;
    bpe->unicode = bpe->added_raw.unicode = bpe->added_normal.unicode = &tables->unicode;
    read_flags(h, bpe);
    tk_vocab_make(&bpe->added, &bpe->arena, (size_t)h->n_added + h->n_added_normal, h->n_ids);
    bool ok = read_tokens(r, bpe) && read_added(r, bpe, h->n_added, &bpe->added_raw) &&
              read_added(r, bpe, h->n_added_normal, &bpe->added_normal) && read_merges(r, bpe) &&
              read_steps(r, 0, &bpe->normalizer, tables) && read_steps(r, 1, &bpe->pre_tokenizer, tables) &&
              read_steps(r, 2, &bpe->decoder, tables) && read_tables(r, tables);
    return ok && tk_model_make_outputs(bpe, r->diags);
}

/* ---- files */

TkBpe *tk_packed_read(const uint8_t *data, size_t size, const char *path, int64_t vocab_size, SuDiags *diags) {
    Reader r = {.data = data, .size = size, .header = (const TkPackedHeader *)(const void *)data, .diags = diags};
    r.span = su_file_span(diags, path);
    if (!check_header(&r, vocab_size)) return NULL;
    TkBpe *bpe = su_calloc(1, sizeof *bpe);
    if (!bpe) {
        su_out_of_memory(diags, "making a tokenizer");
        return NULL;
    }
    if (read_model(&r, bpe)) return bpe;
    tk_model_free(bpe);
    su_free(bpe);
    return NULL;
}

static RtTokenizer *make(TkBpe *bpe, const uint8_t *data) {
    const TkPackedHeader *header = (const TkPackedHeader *)(const void *)data;
    if (!bpe) return NULL;
    TkSpecials specials = {.bos = header->bos, .n_ends = header->n_ends};
    memcpy(specials.ends, header->ends, sizeof specials.ends);
    return tk_model_tokenizer(bpe, &specials);
}

RtTokenizer *tk_packed_parse(const uint8_t *data, size_t size, const char *path, int64_t vocab_size, SuDiags *diags) {
    return make(tk_packed_read(data, size, path, vocab_size, diags), data);
}

static MossError tokenizer_open_unguarded(const char *directory, const char *name, int64_t vocab_size,
                                          MossTokenizer **out_tokenizer) {
    SuDiags diags = {0};
    SuText path = {0};
    SuMap map;
    MossError error = {.code = MOSS_OK};
    su_text_add(&path, "%s/%s.tokenizer", directory, name);
    bool opened = su_map_open(path.text, &map, &diags);
    TkBpe *bpe = opened ? tk_packed_read(map.data, map.size, path.text, vocab_size, &diags) : NULL;
    if (bpe)
        bpe->map = map;
    else if (opened)
        su_map_close(&map);
    *out_tokenizer = make(bpe, map.data);
    if (diags.errors)
        error = rt_error_from(opened ? MOSS_BAD_INPUT : MOSS_NO_FILE, &diags);
    else if (!*out_tokenizer)
        error = rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a tokenizer");
    su_text_free(&path);
    su_diags_free(&diags);
    return error;
}

MossError moss_tokenizer_open(const char *directory, const char *name, int64_t vocab_size, MossTokenizer **out_tokenizer) {
    *out_tokenizer = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "opening a tokenizer")) return rt_failure(&guard.failure);
    MossError result = tokenizer_open_unguarded(directory, name, vocab_size, out_tokenizer);
    su_guard_end(&guard);
    return result;
}
