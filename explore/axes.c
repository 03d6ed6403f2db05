/* The axes of a space: names, paths, conditions, and the order in which conditions can be asked. */
#include <stdlib.h>
#include <string.h>

#include "explore/parse.h"
#include "support/str.h"

#define KEY(section, key) EX_KEY_##section##_##key

_Static_assert(EX_MAX_AXES <= 64, "a set of axes is a uint64_t");

/* ---- names */

/* Columns of the tables of points that are no metrics: an axis's name is a column too. */
static const char *const columns[] = {"index", "device", "fidelity", "spec_hash"};

static bool is_column(const char *name) {
    ExMetric metric;
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (strcmp(columns[i], name) == 0) return true;
    return ex_find_metric(name, &metric);
}

static bool bad_name(const FeReader *r, const FeNode *node, const char *why) {
    return su_report(r->diags, SU_CODE_bad_name, node->span, "choose another name", "'axis.name': %s %s", node->text, why);
}

/* The name of an axis, or false. Words that YAML tools read as truth values are refused but for y and n, which are names of sizes. */
static bool read_name(const ExParse *p, const ExMap *map, size_t n_before, ExAxis *axis) {
    const FeReader *r = &p->reader;
    const FeNode *node = ex_node(map, KEY(axis, name));
    if (!node) return false;
    bool ok = node->kind == FE_SCALAR && fe_is_name(node->text) && !strchr(node->text, '-');
    if (!ok) return ex_wrong_value(r, node, KEY(axis, name), NULL);
    if (ex_is_keyword(node->text)) return bad_name(r, node, "is a word of expressions");
    if (fe_is_truth_word(node->text) && node->text[1]) return bad_name(r, node, "is a truth value to YAML tools");
    if (is_column(node->text)) return bad_name(r, node, "is another column of points.csv");
    axis->name = node->text;
    axis->span = node->span;
    for (size_t i = 0; i < n_before; i++) {
        const ExAxis *other = &p->space->axes[i];
        if (!other->name || strcmp(other->name, axis->name) != 0) continue;
        su_report(r->diags, SU_CODE_bad_name, node->span,
                  su_printf(r->arena, "the other is at line %u", (unsigned)other->span.line), "two axes are named %s",
                  fe_quote(r->arena, axis->name));
    }
    return true;
}

/* ---- paths */

/* key ("." key | "[" index or name "]")*, as --set takes it */
static bool is_path(const char *text) {
    bool key = true; /* one must come */
    while (*text) {
        size_t size = strcspn(text, ".[]=");
        if (key && size == 0) return false;
        if (!key && size > 0) return false;
        text += size;
        key = *text == '.';
        if (*text == '[') {
            size = strcspn(text + 1, "[]=");
            if (size == 0 || text[1 + size] != ']') return false;
            text += size + 1;
        } else if (*text && *text != '.') {
            return false;
        }
        text += *text != '\0';
    }
    return !key;
}

bool ex_read_path(const ExParse *p, const FeNode *node, ExKey key, ExTarget *out) {
    if (!node || node->kind == FE_POISON) return false;
    if (node->kind != FE_SCALAR || !is_path(node->text))
        return su_report(p->reader.diags, SU_CODE_wrong_value, node->span, NULL, "'%s': expected %s, got %s",
                         ex_key_name(p->reader.arena, key), ex_type_what(EX_T_PATH), fe_node_what(p->reader.arena, node));
    *out = (ExTarget){node->text, node->span};
    return true;
}

static void read_targets(const ExParse *p, const ExMap *map, ExAxis *axis) {
    const FeNode *one = ex_node(map, KEY(axis, path)), *list = NULL;
    if (!one) list = ex_read_list(&p->reader, map, KEY(axis, paths), 1, EX_MAX_PATHS);
    ExTarget *targets = SU_NEW_ARRAY(p->reader.arena, ExTarget, list ? list->count : 1);
    if (one && ex_read_path(p, one, KEY(axis, path), &targets[0])) axis->n_targets = 1;
    for (size_t i = 0; list && i < list->count; i++)
        if (ex_read_path(p, list->items[i], KEY(axis, paths), &targets[axis->n_targets])) axis->n_targets++;
    axis->targets = targets;
}

/* Two axes that put their values at one place, also where one of them is off: only the later one's would stay there. */
static void check_paths(const ExParse *p, const ExAxis *a, const ExAxis *b) {
    const FeReader *r = &p->reader;
    if (a->set || b->set) return;
    for (size_t i = 0; i < a->n_targets; i++) {
        for (size_t j = a == b ? i + 1 : 0; j < b->n_targets; j++) {
            if (strcmp(a->targets[i].path, b->targets[j].path) != 0) continue;
            su_report(r->diags, SU_CODE_unfit_value, b->targets[j].span,
                      su_printf(r->arena, "the other is at line %u", (unsigned)a->targets[i].span.line),
                      "%s is the place of two values", fe_quote(r->arena, b->targets[j].path));
        }
    }
}

/* ---- words */

static int by_text(const void *left, const void *right) { return strcmp(*(const char *const *)left, *(const char *const *)right); }

/* Equal words become one: afterwards equal words are equal pointers, and names.words is in order. */
static void intern(ExParse *p, ExAxis *axes, size_t n_axes) {
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < n_axes; i++) count += axes[i].n_values;
    const char **words = SU_NEW_ARRAY(p->reader.arena, const char *, count);
    count = 0;
    for (size_t i = 0; i < n_axes; i++)
        for (size_t j = 0; j < axes[i].n_values; j++)
            if (axes[i].values[j].type == EX_WORD) words[count++] = axes[i].values[j].word;
    qsort(words, count, sizeof *words, by_text);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(words[kept - 1], words[i]) != 0) words[kept++] = words[i];
    for (size_t i = 0; i < n_axes; i++) {
        ExValue *values = SU_NEW_ARRAY(p->reader.arena, ExValue, axes[i].n_values);
        for (size_t j = 0; j < axes[i].n_values; j++) {
            values[j] = axes[i].values[j];
            if (values[j].type == EX_WORD)
                values[j].word = *(const char **)bsearch(&values[j].word, words, kept, sizeof *words, by_text);
        }
        axes[i].values = values;
    }
    p->names.words = words;
    p->names.n_words = kept;
}

/* Names, types and words of the axes, for expressions. */
static void take_names(ExParse *p, ExAxis *axes, size_t n_axes) {
    const char **names = SU_NEW_ARRAY(p->reader.arena, const char *, n_axes);
    uint32_t *types = SU_NEW_ARRAY(p->reader.arena, uint32_t, n_axes);
    p->names_known = true;
    for (size_t i = 0; i < n_axes; i++) {
        names[i] = axes[i].name ? axes[i].name : "";
        p->names_known = p->names_known && axes[i].name;
        for (size_t j = 0; j < axes[i].n_values && !axes[i].opaque; j++) types[i] |= 1u << axes[i].values[j].type;
        if (axes[i].n_values == 0) types[i] = EX_IS_NONE | EX_IS_NUMBER | EX_IS_TRUTH | EX_IS_WORD; /* broken */
    }
    p->names.axes = names;
    p->names.types = types;
    p->names.n_axes = n_axes;
    intern(p, axes, n_axes);
}

/* ---- the order of conditions */

/* An axis among `waiting`, whose conditions go round: "a -> b -> a". */
static void report_cycle(const ExParse *p, const ExAxis *axes, const uint64_t *uses, uint64_t waiting) {
    uint64_t seen = 0;
    int at = __builtin_ctzll(waiting), first;
    for (; !(seen >> at & 1); at = __builtin_ctzll(uses[at] & waiting)) seen |= 1ull << at;
    const char *text = axes[first = at].name;
    do {
        at = __builtin_ctzll(uses[at] & waiting);
        text = su_printf(p->reader.arena, "%s -> %s", text, axes[at].name);
    } while (at != first);
    su_report(p->reader.diags, SU_CODE_bad_expression, ex_span(axes[first].when), NULL,
              "the axis '%s' is a condition of itself: %s", axes[first].name, text);
}

static void take_order(ExParse *p, const ExAxis *axes, size_t n_axes) {
    uint32_t *order = SU_NEW_ARRAY(p->reader.arena, uint32_t, n_axes);
    uint64_t uses[EX_MAX_AXES] = {0}, waiting = n_axes == 64 ? UINT64_MAX : (1ull << n_axes) - 1;
    for (size_t i = 0; i < n_axes; i++)
        for (size_t j = 0; j < n_axes && axes[i].when; j++) uses[i] |= (uint64_t)ex_uses(axes[i].when, j) << j;
    for (size_t count = 0; count < n_axes; count++) {
        size_t next = 0;
        while (next < n_axes && (!(waiting >> next & 1) || (uses[next] & waiting))) next++;
        if (next == n_axes) {
            report_cycle(p, axes, uses, waiting);
            return;
        }
        order[count] = (uint32_t)next;
        waiting &= ~(1ull << next);
    }
    p->space->order = order;
}

static void take_product(const ExParse *p, const ExAxis *axes, size_t n_axes) {
    uint64_t product = 1;
    for (size_t i = 0; i < n_axes; i++) {
        if (axes[i].n_values == 0) return;
        if (__builtin_mul_overflow(product, (uint64_t)axes[i].n_values, &product) || product > 1ull << 62) {
            su_report(p->reader.diags, SU_CODE_too_large, axes[i].value_span, NULL,
                      "the axes up to '%s' have more than 2^62 points", axes[i].name ? axes[i].name : "this one");
            return;
        }
    }
    p->space->n_indices = product;
}

/* ---- all of them */

/* Returns the node of `when`. */
static const FeNode *read_axis(ExParse *p, const FeNode *node, size_t n_before, ExAxis *axis) {
    ExMap map;
    if (!ex_read_map(&p->reader, node, EX_SECTION_axis, &map)) return NULL;
    read_name(p, &map, n_before, axis);
    read_targets(p, &map, axis);
    ex_read_values(p, &map, axis);
    ex_read_set(p, &map, axis);
    return ex_node(&map, KEY(axis, when));
}

void ex_read_axes(ExParse *p, const FeNode *list) {
    const size_t n = list->count;
    ExAxis *axes = SU_NEW_ARRAY(p->reader.arena, ExAxis, n);
    const FeNode *whens[EX_MAX_AXES];
    p->space->axes = axes;
    p->space->n_axes = n;
    for (size_t i = 0; i < n; i++) whens[i] = read_axis(p, list->items[i], i, &axes[i]);
    take_names(p, axes, n);
    for (size_t i = 0; i < n; i++)
        if (whens[i]) axes[i].when = ex_read_expression(p, whens[i], KEY(axis, when), EX_IS_TRUTH);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) check_paths(p, &axes[j], &axes[i]);
    if (p->names_known) take_order(p, axes, n);
    take_product(p, axes, n);
}
