/* A space from its file: YAML, the axes, and then what names axes and metrics. Every stage reports all the mistakes that it can tell
 * apart and passes on what is left. */
#include "explore/space.h"

#include <math.h>
#include <string.h>

#include "explore/number.h"
#include "explore/parse.h"
#include "support/file.h"
#include "support/str.h"

#define KEY(section, key) EX_KEY_##section##_##key

/* ---- expressions and rules */

static const char *type_text(uint32_t types) {
    return types == EX_IS_TRUTH    ? "a truth value"
           : types == EX_IS_NUMBER ? "a number"
           : types == EX_IS_WORD   ? "a word"
                                   : "none of those";
}

const ExExpr *ex_read_expression(const ExParse *p, const FeNode *node, ExKey key, uint32_t types) {
    const FeReader *r = &p->reader;
    if (!node || node->kind == FE_POISON) return NULL;
    if (node->kind != FE_SCALAR || !node->text[0]) {
        su_report(r->diags, SU_CODE_wrong_value, node->span, NULL, "'%s': expected %s, got %s", ex_key_name(r->arena, key),
                  ex_type_what(EX_T_EXPRESSION), fe_node_what(r->arena, node));
        return NULL;
    }
    if (!p->names_known) return NULL;
    const ExExpr *expr = ex_parse(r->arena, &p->names, node->text, node->span, r->diags);
    if (!expr || (ex_types(expr) & types)) return expr;
    su_report(r->diags, SU_CODE_bad_expression, node->span, NULL, "'%s': expected a truth value, and this is %s",
              ex_key_name(r->arena, key), type_text(ex_types(expr)));
    return NULL;
}

static void read_require(const ExParse *p, const ExMap *file) {
    const FeNode *list = ex_read_list(&p->reader, file, KEY(file, require), 0, EX_MAX_RULES);
    if (!list) return;
    const ExExpr **rules = SU_NEW_ARRAY(p->reader.arena, const ExExpr *, list->count);
    for (size_t i = 0; i < list->count; i++) rules[i] = ex_read_expression(p, list->items[i], KEY(file, require), EX_IS_TRUTH);
    p->space->require = rules;
    p->space->n_require = list->count;
}

static void read_derive(const ExParse *p, const ExMap *file) {
    const FeNode *list = ex_read_list(&p->reader, file, KEY(file, derive), 0, EX_MAX_RULES);
    if (!list) return;
    ExDerive *rows = SU_NEW_ARRAY(p->reader.arena, ExDerive, list->count);
    for (size_t i = 0; i < list->count; i++) {
        ExMap map;
        if (!ex_read_map(&p->reader, list->items[i], EX_SECTION_derive, &map)) continue;
        ex_read_path(p, ex_node(&map, KEY(derive, path)), KEY(derive, path), &rows[i].target);
        rows[i].value = ex_read_expression(p, ex_node(&map, KEY(derive, value)), KEY(derive, value), UINT32_MAX);
    }
    p->space->derive = rows;
    p->space->n_derive = list->count;
}

/* ---- metrics */

/* Reports a name that is no metric's; `text`, which stands at `span`, may have a minus before it. */
static bool find_metric(const ExParse *p, const char *text, SuSpan span, ExMetric *out) {
    const char *names[EX_METRIC_COUNT];
    if (ex_find_metric(text, out)) {
        if (*out != EX_METRIC_QUALITY || p->space->quality_command || p->space->quality_file) return true;
        return su_report(p->reader.diags, SU_CODE_unfit_value, span, "give quality: {command: ...} or {file: ...}",
                         "nothing says the metric 'quality'");
    }
    for (ExMetric metric = 0; metric < EX_METRIC_COUNT; metric++) names[metric] = ex_metric(metric)->name;
    const char *near = su_nearest(text, names, EX_METRIC_COUNT);
    const char *hint = near ? su_printf(p->reader.arena, "did you mean '%s'?", near) : "mossc help space lists the metrics";
    return su_report(p->reader.diags, SU_CODE_wrong_value, span, hint, "unknown metric %s", fe_quote(p->reader.arena, text));
}

static ExUnits units_of(ExMetric metric) {
    const char *unit = ex_metric(metric)->unit;
    return strcmp(unit, "bytes") == 0 ? EX_BYTES : strcmp(unit, "ms") == 0 ? EX_NO_UNITS : EX_THOUSANDS;
}

static bool read_bound(const FeNode *node, ExMetric metric, double *out) {
    return node->kind == FE_SCALAR && node->plain && ex_parse_size(node->text, units_of(metric), out) &&
           (*out >= 0 || metric == EX_METRIC_QUALITY);
}

/* A number, or [low, high] whose second may be none. */
static bool read_bounds(const FeNode *node, ExBudget *out) {
    if (node->kind != FE_SEQUENCE) return read_bound(node, out->metric, &out->high);
    if (node->count != 2 || !read_bound(node->items[0], out->metric, &out->low)) return false;
    const FeNode *high = node->items[1];
    bool none = high->kind == FE_SCALAR && strcmp(high->text, "none") == 0;
    return (none || read_bound(high, out->metric, &out->high)) && out->low <= out->high;
}

static bool read_budget(const ExParse *p, const FePair *pair, ExBudget *out) {
    static const char *const wanted[] = {[EX_NO_UNITS] = "a number",
                                         [EX_THOUSANDS] = "a number, which may have k, M or G behind it,",
                                         [EX_BYTES] = "a size such as 500 MiB"};
    const FeReader *r = &p->reader;
    *out = (ExBudget){.low = -INFINITY, .high = INFINITY, .span = pair->key_span};
    if (!find_metric(p, pair->key, pair->key_span, &out->metric) || pair->value->kind == FE_POISON) return false;
    return read_bounds(pair->value, out) ||
           su_report(r->diags, SU_CODE_wrong_value, pair->value->span, NULL,
                     "'budgets.%s': expected %s or [low, high], low <= high, where high may be none; got %s", pair->key,
                     wanted[units_of(out->metric)], fe_node_what(r->arena, pair->value));
}

static void read_budgets(const ExParse *p, const ExMap *file) {
    const FeNode *node = ex_node(file, KEY(file, budgets));
    if (!node || fe_node_empty(node)) return;
    if (node->kind != FE_MAPPING) {
        ex_wrong_value(&p->reader, node, KEY(file, budgets), NULL);
        return;
    }
    ExBudget *rows = SU_NEW_ARRAY(p->reader.arena, ExBudget, node->count);
    p->space->budgets = rows;
    for (size_t i = 0; i < node->count; i++)
        if (read_budget(p, &node->pairs[i], &rows[p->space->n_budgets])) p->space->n_budgets++;
}

static bool read_objective(const ExParse *p, const FeNode *node, ExObjective *out) {
    if (node->kind == FE_POISON) return false;
    if (node->kind != FE_SCALAR || !node->text[0])
        return su_report(p->reader.diags, SU_CODE_wrong_value, node->span, NULL, "'objectives': expected metrics, got %s",
                         fe_node_what(p->reader.arena, node));
    out->maximise = node->text[0] == '-';
    out->span = node->span;
    return find_metric(p, node->text + out->maximise, node->span, &out->metric);
}

static void read_objectives(const ExParse *p, const ExMap *file) {
    enum { MOST = 4 };
    const FeNode *list = ex_read_list(&p->reader, file, KEY(file, objectives), 1, MOST);
    if (!list) return;
    ExObjective *rows = SU_NEW_ARRAY(p->reader.arena, ExObjective, list->count);
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (!read_objective(p, list->items[i], &rows[count])) continue;
        size_t same = 0;
        while (same < count && rows[same].metric != rows[count].metric) same++;
        if (same < count)
            su_report(p->reader.diags, SU_CODE_unfit_value, rows[count].span, NULL, "'%s' is an objective already",
                      ex_metric(rows[count].metric)->name);
        count++;
    }
    p->space->objectives = rows;
    p->space->n_objectives = count;
}

/* ---- the rest of the top level */

/* `file` as seen from where the space lies. */
static const char *beside(const ExParse *p, const char *file) { return su_beside(p->reader.arena, p->space->source->path, file); }

static bool ends_in(const char *text, const char *end) {
    size_t size = strlen(text), tail = strlen(end);
    return size >= tail && strcmp(text + size - tail, end) == 0;
}

static bool read_device(const ExParse *p, const FeNode *node, size_t n_before, const char **out) {
    const FeReader *r = &p->reader;
    if (node->kind == FE_POISON) return false;
    bool text = node->kind == FE_SCALAR && node->text[0], file = text && ends_in(node->text, ".yaml");
    if (!text || (!file && strchr(node->text, '/')))
        return su_report(r->diags, SU_CODE_wrong_value, node->span, NULL,
                         "'devices': expected the name of a device, or a file that ends in .yaml; got %s",
                         fe_node_what(r->arena, node));
    *out = file ? beside(p, node->text) : node->text;
    for (size_t i = 0; i < n_before; i++)
        if (strcmp(p->space->devices[i], *out) == 0)
            return su_report(r->diags, SU_CODE_unfit_value, node->span, NULL, "the device %s is there twice",
                             fe_quote(r->arena, node->text));
    return true;
}

static void read_devices(const ExParse *p, const ExMap *file) {
    ExSpace *space = p->space;
    const FeNode *list = ex_read_list(&p->reader, file, KEY(file, devices), 1, EX_MAX_DEVICES);
    const char **devices = SU_NEW_ARRAY(p->reader.arena, const char *, list ? list->count : 1);
    SuSpan *spans = SU_NEW_ARRAY(p->reader.arena, SuSpan, list ? list->count : 1);
    space->devices = devices;
    space->device_spans = spans;
    if (!list) {
        devices[0] = "host";
        spans[0] = file->span;
        space->n_devices = 1;
    }
    for (size_t i = 0; list && i < list->count; i++) {
        spans[space->n_devices] = list->items[i]->span;
        if (read_device(p, list->items[i], space->n_devices, &devices[space->n_devices])) space->n_devices++;
    }
}

/* A map of the top level; false where it is absent or wrong. */
static bool read_part(const ExParse *p, const ExMap *file, ExKey key, ExSection section, ExMap *out) {
    const FeNode *node = ex_node(file, key);
    return node && ex_read_map(&p->reader, node, section, out);
}

/* Its fallbacks are those of the table. */
static void read_count(const ExParse *p, const ExMap *map, ExKey key, int64_t least, int64_t most, int64_t *out) {
    fe_parse_integer(ex_key_row(key)->fallback, out);
    if (map) ex_read_integer(&p->reader, map, key, least, most, out);
}

static void read_workload(const ExParse *p, const ExMap *file) {
    ExWorkload *w = &p->space->workload;
    ExMap part;
    const ExMap *map = read_part(p, file, KEY(file, workload), EX_SECTION_workload, &part) ? &part : NULL;
    read_count(p, map, KEY(workload, prefill), 1, INT32_MAX, &w->prefill);
    read_count(p, map, KEY(workload, decode), 1, INT32_MAX, &w->decode);
    read_count(p, map, KEY(workload, batch), 1, INT32_MAX, &w->batch);
    read_count(p, map, KEY(workload, threads), 0, 1024, &w->threads);
}

static void read_quality(const ExParse *p, const ExMap *file) {
    ExSpace *space = p->space;
    ExMap map;
    const char *path;
    if (read_part(p, file, KEY(file, quality), EX_SECTION_quality, &map)) {
        ex_read_text(&p->reader, &map, KEY(quality, command), &space->quality_command);
        if (ex_read_text(&p->reader, &map, KEY(quality, file), &path)) space->quality_file = beside(p, path);
    }
    bool broken = file->pairs[KEY(file, quality)] && !space->quality_command && !space->quality_file;
    if (broken) space->quality_command = ""; /* reported: metrics do not ask for it again */
}

static void read_head(const ExParse *p, const ExMap *file) {
    const FeReader *r = &p->reader;
    ExSpace *space = p->space;
    const char *path;
    int64_t version, seed;
    ex_read_integer(r, file, KEY(file, mossc_space), 1, 1, &version);
    const FeNode *name = ex_node(file, KEY(file, name));
    if (ex_read_text(r, file, KEY(file, name), &space->name) &&
        strspn(space->name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(space->name))
        ex_wrong_value(r, name, KEY(file, name), NULL);
    if (ex_read_text(r, file, KEY(file, spec), &path)) {
        space->spec = beside(p, path);
        space->spec_span = ex_node(file, KEY(file, spec))->span;
    }
    read_count(p, file, KEY(file, seed), 0, ((int64_t)1 << 53) - 1, &seed);
    space->seed = (uint64_t)seed;
}

static void read_file(ExParse *p, const ExMap *file) {
    const FeNode *axes = ex_read_list(&p->reader, file, KEY(file, axes), 1, EX_MAX_AXES);
    read_head(p, file);
    if (axes) ex_read_axes(p, axes);
    read_derive(p, file);
    read_require(p, file);
    read_devices(p, file);
    read_workload(p, file);
    read_quality(p, file);
    read_budgets(p, file);
    read_objectives(p, file);
}

static bool read_source(const SuSource *source, ExSpace *space, SuDiags *diags) {
    const size_t errors = diags->errors, first = diags->count;
    ExParse p = {.reader = {&space->arena, diags}, .space = space};
    ExMap file;
    space->source = source;
    const FeNode *root = fe_yaml_parse(&space->arena, source, 0, diags);
    if (root && fe_node_find(root, "mossc") && !fe_node_find(root, "mossc_space"))
        return su_report(diags, SU_CODE_wrong_value, fe_node_find(root, "mossc")->key_span,
                         "a space names its base spec under 'spec'", "this is a spec, not a space of specs");
    if (!root || !ex_read_map(&p.reader, root, EX_SECTION_file, &file)) return false;
    read_file(&p, &file);
    su_diags_sort(diags, first);
    return diags->errors == errors;
}

/* ---- entry points */

static SuSource *new_source(SuArena *arena, const char *path, const char *text, size_t size) {
    SuSource *source = SU_NEW(arena, SuSource);
    *source = (SuSource){su_strdup(arena, path), text, size};
    return source;
}

static bool load_unguarded(const char *path, ExSpace *out, SuDiags *diags) {
    char *text;
    size_t size;
    *out = (ExSpace){0};
    if (!su_read_file(&out->arena, path, FE_MAX_INPUT, &text, &size, diags)) return false;
    return read_source(new_source(&out->arena, path, text, size), out, diags);
}

bool ex_space_load(const char *path, ExSpace *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading the space")) {
        *out = (ExSpace){0}; /* what it held is freed */
        return false;
    }
    bool result = load_unguarded(path, out, diags);
    su_guard_end(&guard);
    return result;
}

static bool parse_unguarded(const char *name, const char *text, size_t size, ExSpace *out, SuDiags *diags) {
    *out = (ExSpace){0};
    if (size > FE_MAX_INPUT)
        return su_report(diags, SU_CODE_too_large, su_file_span(diags, name), NULL, "space exceeds the limit of %d bytes",
                         FE_MAX_INPUT);
    return read_source(new_source(&out->arena, name, su_strndup(&out->arena, text, size), size), out, diags);
}

bool ex_space_parse(const char *name, const char *text, size_t size, ExSpace *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading the space")) {
        *out = (ExSpace){0}; /* what it held is freed */
        return false;
    }
    bool result = parse_unguarded(name, text, size, out, diags);
    su_guard_end(&guard);
    return result;
}

void ex_space_free(ExSpace *space) {
    su_arena_free(&space->arena);
    *space = (ExSpace){0};
}
