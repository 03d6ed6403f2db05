/* Device files: two tables of keys, one for the device and one for its clusters. */
#include "frontend/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/yaml.h"
#include "support/str.h"

typedef enum Type { TEXT, INT, REAL, CLUSTERS } Type;

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
    {"bandwidth_gb_s", REAL, true, offsetof(FeDevice, bandwidth_gb_s)},
    {"clusters", CLUSTERS, true, 0},
};

static const Key cluster_keys[] = {
    {"cpu", TEXT, true, offsetof(FeCluster, cpu)},
    {"cpus", TEXT, false, offsetof(FeCluster, cpus)},
    {"source", TEXT, true, offsetof(FeCluster, source)},
    {"cores", INT, true, offsetof(FeCluster, cores)},
    {"vector_bits", INT, true, offsetof(FeCluster, vector_bits)},
    {"l1d_kb", INT, true, offsetof(FeCluster, l1d_kb)},
    {"l2_kb", INT, true, offsetof(FeCluster, l2_kb)},
    {"ghz", REAL, true, offsetof(FeCluster, ghz)},
};

enum { N_DEVICE_KEYS = sizeof device_keys / sizeof device_keys[0], N_CLUSTER_KEYS = sizeof cluster_keys / sizeof cluster_keys[0] };

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
    bool whole = key->type == INT, good = end != NULL && end != node->text && *end == '\0' && number > 0 && number < 1e9;
    if (!good || (whole && number != floor(number)))
        return wrong_value(r, key->name, node, whole ? "an integer above 0" : "a number above 0");
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
    const char *names[N_DEVICE_KEYS + N_CLUSTER_KEYS];
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
        case REAL: ok = read_number(r, &keys[i], pair->value, at) && ok; break;
        case CLUSTERS: ok = read_clusters(r, pair->value, base) && ok; break;
        }
    }
    return ok;
}

static bool read_clusters(const Reader *r, const FeNode *list, FeDevice *device) {
    if (list->kind != FE_SEQUENCE || list->count == 0 || list->count > FE_MAX_CLUSTERS)
        return wrong_value(r, "clusters", list, su_printf(r->arena, "a list of 1 to %d clusters", FE_MAX_CLUSTERS));
    bool ok = true;
    for (size_t i = 0; i < list->count; i++)
        ok = read_map(r, list->items[i], cluster_keys, N_CLUSTER_KEYS, &device->clusters[i]) && ok;
    device->n_clusters = (int)list->count;
    return ok;
}

bool fe_device_parse(const char *path, const char *text, size_t size, SuArena *arena, FeDevice *out, SuDiags *diags) {
    *out = (FeDevice){0};
    Reader r = {arena, diags};
    SuSource *source = SU_NEW(arena, SuSource);
    *source = (SuSource){.path = su_strdup(arena, path), .text = su_strndup(arena, text, size), .size = size};
    size_t errors = diags->errors;
    const FeNode *root = fe_yaml_parse(arena, source, 0, diags);
    return root != NULL && diags->errors == errors && read_map(&r, root, device_keys, N_DEVICE_KEYS, out);
}
