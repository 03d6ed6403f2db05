/* Device files: tables of keys, one for the device and one for each kind of map in it. */
#include "frontend/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/yaml.h"
#include "support/str.h"

typedef enum Type {
    TEXT,
    INT,
    REAL,
    REAL_OR_0, /* NaN where it is absent */
    FRACTION,  /* the same, of 0 to 1 */
    CLUSTERS, /* a list of maps of their keys */
    RATES,    /* a map */
    KERNELS   /* a list of maps */
} Type;

typedef struct Key {
    const char *name;
    Type type;
    bool needed;
    size_t offset;
} Key;

static const Key device_keys[] = {
    {"name", TEXT, true, offsetof(FeDevice, name)},
    {"about", TEXT, true, offsetof(FeDevice, about)},
    {"target", TEXT, true, offsetof(FeDevice, target)},
    {"workers", TEXT, false, offsetof(FeDevice, workers)},
    {"source", TEXT, true, offsetof(FeDevice, source)},
    {"l3_kb", INT, false, offsetof(FeDevice, l3_kb)},
    {"bandwidth_gb_s", REAL, false, offsetof(FeDevice, bandwidth_gb_s)},
    {"clusters", CLUSTERS, false, 0},
    {"rates", RATES, false, 0},
    {"kernels", KERNELS, false, 0},
};

static const Key cluster_keys[] = {
    {"cpu", TEXT, true, offsetof(FeCluster, cpu)},
    {"cpus", TEXT, false, offsetof(FeCluster, cpus)},
    {"source", TEXT, true, offsetof(FeCluster, source)},
    {"cores", INT, true, offsetof(FeCluster, cores)},
    {"vector_bits", INT, true, offsetof(FeCluster, vector_bits)},
    {"l1d_kb", INT, true, offsetof(FeCluster, l1d_kb)},
    {"l2_kb", INT, true, offsetof(FeCluster, l2_kb)},
    {"ghz", REAL, false, offsetof(FeCluster, ghz)},
    {"fma_pipes", INT, false, offsetof(FeCluster, fma_pipes)},
};

static const Key rates_keys[] = {
    {"threads", INT, false, offsetof(FeRates, threads)},         {"read_gb_s", REAL, true, offsetof(FeRates, read_gb_s)},
    {"cache_gb_s", REAL, false, offsetof(FeRates, cache_gb_s)},  {"panel_gflop_s", REAL, true, offsetof(FeRates, panel_gflop_s)},
    {"exp_g_s", REAL, true, offsetof(FeRates, exp_g_s)},         {"phase_us", REAL_OR_0, false, offsetof(FeRates, phase_us)},
    {"stage_us", REAL_OR_0, false, offsetof(FeRates, stage_us)},
};

static const Key kernel_keys[] = {
    {"kernel", TEXT, true, offsetof(FeKernelTime, kernel)},        {"step", TEXT, true, offsetof(FeKernelTime, step)},
    {"weights", TEXT, false, offsetof(FeKernelTime, weights)},     {"experts", TEXT, false, offsetof(FeKernelTime, experts)},
    {"memory", REAL_OR_0, false, offsetof(FeKernelTime, memory)},  {"cache", REAL_OR_0, false, offsetof(FeKernelTime, cache)},
    {"flops", REAL_OR_0, false, offsetof(FeKernelTime, flops)},    {"exps", REAL_OR_0, false, offsetof(FeKernelTime, exps)},
    {"overlap", FRACTION, false, offsetof(FeKernelTime, overlap)}, {"fixed_us", REAL_OR_0, false, offsetof(FeKernelTime, fixed_us)},
};

#define COUNT(keys) (sizeof(keys) / sizeof *(keys))
enum { MOST_KEYS = 16 };
_Static_assert(COUNT(device_keys) <= MOST_KEYS && COUNT(cluster_keys) <= MOST_KEYS, "no table is longer");

typedef struct Reader {
    SuArena *arena;
    SuDiags *diags;
} Reader;

static bool wrong_value(const Reader *r, const char *key, const FeNode *node, const char *wanted) {
    return su_report(r->diags, SU_CODE_wrong_value, node->span, NULL, "'%s': expected %s, got %s", key, wanted,
                     fe_node_what(r->arena, node));
}

static bool read_number(const Reader *r, const Key *key, const FeNode *node, void *at) {
    char *end = NULL;
    double number = node->kind == FE_SCALAR ? strtod(node->text, &end) : NAN;
    bool whole = key->type == INT, fraction = key->type == FRACTION, zero = (key->type == REAL_OR_0 || fraction) && number == 0;
    bool good =
        end != NULL && end != node->text && *end == '\0' && (number > 0 || zero) && number < 1e9 && !(fraction && number > 1);
    if (!good || (whole && number != floor(number)))
        return wrong_value(r, key->name, node,
                           whole                    ? "an integer above 0"
                           : fraction               ? "a number from 0 to 1"
                           : key->type == REAL_OR_0 ? "a number from 0 on"
                                                    : "a number above 0");
    if (whole)
        *(int64_t *)at = (int64_t)number;
    else
        *(double *)at = number;
    return true;
}

static bool read_text(const Reader *r, const Key *key, const FeNode *node, void *at) {
    if (node->kind != FE_SCALAR || fe_node_empty(node)) return wrong_value(r, key->name, node, "a text");
    *(const char **)at = node->text;
    return true;
}

/* Keys that no table has, and those that are missing. */
static bool check_keys(const Reader *r, const FeNode *map, const Key *keys, size_t count) {
    const char *names[MOST_KEYS];
    size_t errors = r->diags->errors;
    for (size_t i = 0; i < count; i++) {
        names[i] = keys[i].name;
        if (keys[i].needed && fe_node_find(map, keys[i].name) == NULL)
            su_report(r->diags, SU_CODE_missing_key, map->span, NULL, "'%s' is missing", keys[i].name);
    }
    for (size_t i = 0; i < map->count; i++) {
        const char *key = map->pairs[i].key, *near = su_nearest(key, names, count);
        size_t k = 0;
        while (k < count && strcmp(key, names[k]) != 0) k++;
        if (k < count) continue;
        const char *hint = near == NULL ? NULL : su_printf(r->arena, "did you mean '%s'?", near);
        su_report(r->diags, SU_CODE_unknown_key, map->pairs[i].key_span, hint, "unknown key %s", fe_quote(r->arena, key));
    }
    return r->diags->errors == errors;
}

static bool read_clusters(const Reader *r, const FeNode *list, FeDevice *device);
static bool read_rates(const Reader *r, const FeNode *map, FeDevice *device);
static bool read_kernels(const Reader *r, const FeNode *list, FeDevice *device);

/* The values of a map by a table, into the struct at `base`. */
static bool read_map(const Reader *r, const FeNode *map, const Key *keys, size_t count, void *base) {
    if (map->kind != FE_MAPPING)
        return su_report(r->diags, SU_CODE_wrong_value, map->span, NULL, "expected a map, got %s", fe_node_what(r->arena, map));
    bool ok = check_keys(r, map, keys, count);
    for (size_t i = 0; i < count; i++) {
        const FePair *pair = fe_node_find(map, keys[i].name);
        void *at = (char *)base + keys[i].offset;
        if (pair == NULL) continue;
        switch (keys[i].type) {
        case TEXT: ok = read_text(r, &keys[i], pair->value, at) && ok; break;
        case INT:
        case REAL:
        case REAL_OR_0:
        case FRACTION: ok = read_number(r, &keys[i], pair->value, at) && ok; break;
        case CLUSTERS: ok = read_clusters(r, pair->value, base) && ok; break;
        case RATES: ok = read_rates(r, pair->value, base) && ok; break;
        case KERNELS: ok = read_kernels(r, pair->value, base) && ok; break;
        }
    }
    return ok;
}

static bool read_clusters(const Reader *r, const FeNode *list, FeDevice *device) {
    if (list->kind != FE_SEQUENCE || list->count == 0 || list->count > FE_MAX_CLUSTERS)
        return wrong_value(r, "clusters", list, su_printf(r->arena, "a list of 1 to %d clusters", FE_MAX_CLUSTERS));
    bool ok = true;
    for (size_t i = 0; i < list->count; i++)
        ok = read_map(r, list->items[i], cluster_keys, COUNT(cluster_keys), &device->clusters[i]) && ok;
    device->n_clusters = (int)list->count;
    return ok;
}

static bool read_rates(const Reader *r, const FeNode *map, FeDevice *device) {
    device->has_rates = true;
    device->rates.phase_us = device->rates.stage_us = NAN;
    return read_map(r, map, rates_keys, COUNT(rates_keys), &device->rates);
}

static bool read_kernels(const Reader *r, const FeNode *list, FeDevice *device) {
    if (list->kind != FE_SEQUENCE || list->count > FE_MAX_KERNEL_TIMES)
        return wrong_value(r, "kernels", list, su_printf(r->arena, "a list of at most %d maps", FE_MAX_KERNEL_TIMES));
    bool ok = true;
    FeKernelTime *kernels = SU_NEW_ARRAY(r->arena, FeKernelTime, list->count);
    device->kernels = kernels;
    for (size_t i = 0; i < list->count; i++) {
        kernels[i] = (FeKernelTime){.memory = 1, .cache = 1, .flops = 1, .exps = 1, .overlap = 1};
        ok = read_map(r, list->items[i], kernel_keys, COUNT(kernel_keys), &kernels[i]) && ok;
    }
    device->n_kernels = (int)list->count;
    device->has_kernels = true;
    return ok;
}

/* What it can do follows from its cores and memory, or rates say it: of a GPU, or measured. */
static bool check_device(const Reader *r, const FeNode *root, const FeDevice *device) {
    const char *missing = device->n_clusters == 0 ? "clusters" : device->bandwidth_gb_s == 0 ? "bandwidth_gb_s" : NULL;
    for (int i = 0; i < device->n_clusters && !missing; i++)
        if (device->clusters[i].ghz == 0) missing = "ghz";
    return device->has_rates || !missing ||
           su_report(r->diags, SU_CODE_missing_key, root->span, "or give 'rates'", "'%s' is missing", missing);
}

bool fe_device_parse(const char *path, const char *text, size_t size, SuArena *arena, FeDevice *out, SuDiags *diags) {
    *out = (FeDevice){0};
    Reader r = {arena, diags};
    SuSource *source = SU_NEW(arena, SuSource);
    *source = (SuSource){.path = su_strdup(arena, path), .text = su_strndup(arena, text, size), .size = size};
    size_t errors = diags->errors;
    const FeNode *root = fe_yaml_parse(arena, source, 0, diags);
    return root != NULL && diags->errors == errors && read_map(&r, root, device_keys, COUNT(device_keys), out) &&
           check_device(&r, root, out);
}

/* ---------------------------------------------------------------------------------------------- printing */

/* Quoted, so that any text reads back: YAML's single quotes, doubled inside. */
static void print_text(const char *text, SuText *out) {
    su_text_add(out, "'");
    for (const char *c = text; *c; c++) su_text_add(out, *c == '\'' ? "''" : "%c", *c);
    su_text_add(out, "'");
}

/* Whether a value of the table's scalars was given; lists and maps are printed by themselves. */
static bool is_known(const Key *key, const void *at) {
    switch (key->type) {
    case TEXT: return *(const char *const *)at != NULL;
    case INT: return *(const int64_t *)at != 0;
    case REAL: return *(const double *)at > 0;
    case REAL_OR_0:
    case FRACTION: return !isnan(*(const double *)at);
    case CLUSTERS:
    case RATES:
    case KERNELS: return false;
    }
    return false;
}

/* "key: value" of what is known, `between` before all but the first. */
static void print_map(const Key *keys, size_t count, const void *base, const char *between, SuText *out) {
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        const void *at = (const char *)base + keys[i].offset;
        char real[SU_REAL];
        if (!is_known(&keys[i], at)) continue;
        su_text_add(out, "%s%s: ", first ? "" : between, keys[i].name);
        first = false;
        if (keys[i].type == TEXT) print_text(*(const char *const *)at, out);
        if (keys[i].type == INT) su_text_add(out, "%lld", (long long)*(const int64_t *)at);
        if (keys[i].type == REAL || keys[i].type == REAL_OR_0 || keys[i].type == FRACTION)
            su_text_add(out, "%s", su_real_text(*(const double *)at, real));
    }
}

void fe_print_device(const FeDevice *device, SuText *out) {
    print_map(device_keys, COUNT(device_keys), device, "\n", out);
    su_text_add(out, "\n");
    if (device->n_clusters > 0) su_text_add(out, "clusters:\n");
    for (int i = 0; i < device->n_clusters; i++) {
        su_text_add(out, "  - {");
        print_map(cluster_keys, COUNT(cluster_keys), &device->clusters[i], ", ", out);
        su_text_add(out, "}\n");
    }
    if (device->has_rates) {
        su_text_add(out, "rates: {");
        print_map(rates_keys, COUNT(rates_keys), &device->rates, ", ", out);
        su_text_add(out, "}\n");
    }
    if (device->has_kernels) su_text_add(out, device->n_kernels ? "kernels:\n" : "kernels: []\n");
    for (int i = 0; i < device->n_kernels; i++) {
        su_text_add(out, "  - {");
        print_map(kernel_keys, COUNT(kernel_keys), &device->kernels[i], ", ", out);
        su_text_add(out, "}\n");
    }
}
