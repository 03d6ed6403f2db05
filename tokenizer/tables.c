/* Unicode by tables: what utf8proc does for mossc, for a device. */
#include "tokenizer/tables.h"

#include "support/alloc.h"
#include "support/limits.h"
#include "support/utf8.h"

uint32_t tk_runs_value(const TkRuns *runs, uint32_t code) {
    size_t low = 0, high = runs->count; /* the last run that begins at or before the code */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(runs->items[middle] >> 8 <= code ? &low : &high) = middle;
    }
    return runs->items[low] & 0xFF;
}

static bool is_word(const TkUnicode *unicode, uint32_t code) {
    return tk_class_of((const TkTables *)unicode, code) & TK_CLASS_WORD;
}

/* ---- Hangul (Unicode 3.12): syllables are numbered by their letters */

enum {
    S_BASE = 0xAC00,
    L_BASE = 0x1100,
    V_BASE = 0x1161,
    T_BASE = 0x11A7,
    L_COUNT = 19,
    V_COUNT = 21,
    T_COUNT = 28,
    S_COUNT = L_COUNT * V_COUNT * T_COUNT
};

/* ---- codes */

typedef struct Codes {
    uint32_t *items; /* malloced */
    size_t count, capacity;
} Codes;

static void add(Codes *codes, uint32_t code) {
    if (codes->count == codes->capacity) {
        codes->capacity = codes->capacity ? 2 * codes->capacity : SU_LIMIT(64, 1);
        uint32_t *grown = su_realloc(codes->items, codes->capacity * sizeof *grown);
        if (!grown) su_no_memory(codes->capacity * sizeof *grown);
        codes->items = grown;
    }
    codes->items[codes->count++] = code;
}

static uint32_t order_of(const TkTables *tables, uint32_t code) { return code < 0x300 ? 0 : tk_runs_value(&tables->orders, code); }

/* ---- decomposition */

static const TkDecomposition *find_decomposition(const TkDecompositions *all, uint32_t code) {
    size_t low = 0, high = all->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const TkDecomposition *d = &all->items[middle];
        if (d->code == code) return d;
        if (d->code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void decompose(const TkTables *tables, TkForm form, uint32_t code, Codes *out) {
    uint32_t syllable = code - S_BASE;
    if (syllable < S_COUNT) {
        add(out, L_BASE + syllable / (V_COUNT * T_COUNT));
        add(out, V_BASE + syllable % (V_COUNT * T_COUNT) / T_COUNT);
        if (syllable % T_COUNT) add(out, T_BASE + syllable % T_COUNT);
        return;
    }
    const TkDecomposition *d = find_decomposition(tk_form_is_compatible(form) ? &tables->compatible : &tables->canonical, code);
    if (!d) add(out, code);
    for (uint32_t i = 0; d && i < d->count; i++) add(out, tables->parts[d->at + i]);
}

/* Orders every run of marks by its class, equal ones as they stood: by counting. */
static void order_marks(const TkTables *tables, uint32_t *marks, size_t count, Codes *scratch) {
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++) starts[order_of(tables, marks[i]) + 1]++;
    for (int c = 0; c < 256; c++) starts[c + 1] += starts[c];
    scratch->count = 0;
    for (size_t i = 0; i < count; i++) add(scratch, marks[i]);
    for (size_t i = 0; i < count; i++) marks[starts[order_of(tables, scratch->items[i])]++] = scratch->items[i];
}

static void order(const TkTables *tables, Codes *codes, Codes *scratch) {
    for (size_t at = 0, end; at < codes->count; at = end) {
        end = at + 1;
        if (order_of(tables, codes->items[at]) == 0) continue;
        while (end < codes->count && order_of(tables, codes->items[end]) != 0) end++;
        order_marks(tables, codes->items + at, end - at, scratch);
    }
}

/* ---- composition */

/* 0: they stay apart. */
static uint32_t compose_pair(const TkTables *tables, uint32_t first, uint32_t second) {
    if (first - L_BASE < L_COUNT && second - V_BASE < V_COUNT)
        return S_BASE + ((first - L_BASE) * V_COUNT + (second - V_BASE)) * T_COUNT;
    if (first - S_BASE < S_COUNT && (first - S_BASE) % T_COUNT == 0 && second > T_BASE && second < T_BASE + T_COUNT)
        return first + (second - T_BASE);
    size_t low = 0, high = tables->n_compositions;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const TkComposition *c = &tables->compositions[middle];
        if (c->first == first && c->second == second) return c->code;
        if (c->first < first || (c->first == first && c->second < second))
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* Joins marks, and letters of Hangul, with the last starter before them, unless a mark of the same or a higher class lies between. */
static void compose(const TkTables *tables, Codes *codes) {
    size_t kept = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of what was kept behind the starter */
    for (size_t i = 0; i < codes->count; i++) {
        uint32_t code = codes->items[i], class = order_of(tables, code), joined = 0;
        bool reaches = starter != SIZE_MAX && (kept == starter + 1 || (last < class && last != 0));
        if (reaches) joined = compose_pair(tables, codes->items[starter], code);
        if (joined) {
            codes->items[starter] = joined;
            continue;
        }
        if (class == 0) starter = kept;
        last = class;
        codes->items[kept++] = code;
    }
    codes->count = kept;
}

/* ---- normal forms */

static void normalize(const TkUnicode *unicode, TkForm form, const char *text, size_t size, SuText *out) {
    const TkTables *tables = (const TkTables *)unicode;
    Codes codes = {0}, scratch = {0};
    for (size_t at = 0; at < size;) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        decompose(tables, form, c.code, &codes);
        at += c.size;
    }
    order(tables, &codes, &scratch);
    if (tk_form_composes(form)) compose(tables, &codes);
    for (size_t i = 0; i < codes.count; i++) {
        char bytes[4];
        su_text_append(out, bytes, su_utf8_encode(codes.items[i], bytes));
    }
    su_free(codes.items);
    su_free(scratch.items);
}

void tk_tables_ready(TkTables *tables) {
    tables->unicode = (TkUnicode){.is_word = is_word, .normalize = normalize};
    for (uint32_t code = 0; code < 128; code++) tables->low[code] = (uint8_t)tk_runs_value(&tables->classes, code);
}
