/* Keys of config.json that follow from several values of a spec. */
#include "import/export/made.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/export/place.h"
#include "import/export/sets.h"
#include "import/families/parts.h"

static cJSON *whole(int64_t value) { return cJSON_CreateNumber((double)value); }

/* To some decimal digits: the fewest that give a value back are those that people wrote. */
static double rounded(double value, int digits) {
    char text[40];
    snprintf(text, sizeof text, "%.*g", digits, value);
    return strtod(text, NULL);
}

XpMake xp_make(XpFamily family, const cJSON *json) {
    return (XpMake){.json = json, .family = family, .pairs = xp_family_is(family, XP_SET_PAIRS)};
}

/* ---- layers */

/* In families of pairs a mixer and an mlp are a layer, else each block is one. */
static int64_t layers_in(const XpMake *m) {
    return cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(m->json, "stack")) / (m->pairs ? 2 : 1);
}

bool xp_layer_has(const XpMake *m, int64_t layer, const char *kind) {
    const cJSON *entry = xp_blocks(m->json);
    for (int64_t i = 0; entry && i < layer * (m->pairs ? 2 : 1); i++) entry = entry->next;
    for (int i = 0; entry && i < (m->pairs ? 2 : 1); i++, entry = entry->next)
        if (xp_block_in(entry, kind, strlen(kind))) return true;
    return false;
}

static cJSON *layers(const XpMake *m) { return whole(layers_in(m)); }

/* The numbers of the layers that have a block of a kind. */
static cJSON *numbers_of(const XpMake *m, const char *kind) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < layers_in(m); i++)
        if (xp_layer_has(m, i, kind)) cJSON_AddItemToArray(list, whole(i));
    return list;
}

static cJSON *layers_that_look(const XpMake *m) { return numbers_of(m, "attention"); }
static cJSON *dense_layers(const XpMake *m) { return numbers_of(m, "dense"); }

static cJSON *layer_types(const XpMake *m) {
    const bool convolves = xp_value_at(m->json, "shortconv") != NULL;
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < layers_in(m); i++) {
        const char *looks = convolves ? "full_attention" : "attention", *other = convolves ? "conv" : "mamba";
        cJSON_AddItemToArray(list, cJSON_CreateString(xp_layer_has(m, i, "attention") ? looks : other));
    }
    return list;
}

static cJSON *pattern(const XpMake *m) {
    const int64_t n = layers_in(m);
    char *letters = malloc((size_t)n + 1);
    for (int64_t i = 0; letters && i < n; i++)
        letters[i] = xp_layer_has(m, i, "ssm")         ? 'M'
                     : xp_layer_has(m, i, "attention") ? '*'
                     : xp_layer_has(m, i, "moe")       ? 'E'
                                                       : '-';
    if (letters) letters[n] = 0;
    cJSON *text = letters ? cJSON_CreateString(letters) : NULL;
    free(letters);
    return text;
}

/* Layers with a kind of block at a regular distance: that, and the first; where there is none the first is behind the last. */
static int64_t first_with(const XpMake *m, const char *kind, int64_t from) {
    while (from < layers_in(m) && !xp_layer_has(m, from, kind)) from++;
    return from;
}

static int64_t period(const XpMake *m, const char *kind) {
    const int64_t first = first_with(m, kind, 0), next = first_with(m, kind, first + 1);
    return next < layers_in(m) ? next - first : layers_in(m) + 1;
}

static cJSON *attention_period(const XpMake *m) { return whole(period(m, "attention")); }
static cJSON *attention_offset(const XpMake *m) { return whole(first_with(m, "attention", 0)); }
static cJSON *experts_period(const XpMake *m) { return whole(period(m, "moe")); }
static cJSON *experts_offset(const XpMake *m) { return whole(first_with(m, "moe", 0)); }

/* ---- mixers */

static cJSON *expand(const XpMake *m) {
    const double inner = xp_number_at(m->json, "ssm.d_inner");
    return inner > 0 ? cJSON_CreateNumber(inner / xp_number_at(m->json, "d_model")) : NULL;
}

static cJSON *heads(const XpMake *m) {
    const double head = xp_number_at(m->json, "ssm.head_dim");
    return head > 0 ? cJSON_CreateNumber(xp_number_at(m->json, "ssm.d_inner") / head) : NULL;
}

static cJSON *limit(const XpMake *m) {
    const cJSON *given = xp_value_at(m->json, "ssm.dt_limit");
    if (!cJSON_IsArray(given)) return NULL;
    cJSON *pair = cJSON_CreateArray();
    for (const cJSON *at = given->child; at; at = at->next)
        cJSON_AddItemToArray(pair, cJSON_IsNumber(at) ? cJSON_Duplicate(at, true) : cJSON_CreateRaw("Infinity"));
    return pair;
}

static cJSON *gated_norm(const XpMake *m) { return cJSON_CreateBool(xp_is_text(xp_value_at(m->json, "ssm.gated_norm"), "rms")); }

/* ---- attention */

static cJSON *rope_scaling(const XpMake *m) {
    static const char *const names[][2] = {{"factor", "factor"},
                                           {"low_freq_factor", "low_freq_factor"},
                                           {"high_freq_factor", "high_freq_factor"},
                                           {"original_max_positions", "original_max_position_embeddings"}};
    const cJSON *scaling = xp_value_at(m->json, "attention.rope.scaling");
    if (!cJSON_IsObject(scaling)) return NULL;
    cJSON *map = cJSON_CreateObject();
    cJSON_AddStringToObject(map, "rope_type", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(scaling, "kind")));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(scaling, names[i][0]);
        if (cJSON_IsNumber(value)) cJSON_AddItemToObject(map, names[i][1], cJSON_Duplicate(value, true));
    }
    return map;
}

static cJSON *rotary_part(const XpMake *m) {
    const double turned = xp_number_at(m->json, "attention.rope.dim"), size = xp_number_at(m->json, "attention.head_dim");
    return turned > 0 && size > 0 ? cJSON_CreateNumber(turned / size) : NULL;
}

static cJSON *positions(const XpMake *m) {
    return cJSON_CreateString(cJSON_IsObject(xp_value_at(m->json, "attention.rope")) ? "rope" : "nope");
}

/* What a family divides by the root of a head's size. */
static cJSON *key_multiplier(const XpMake *m) {
    const double scale = xp_number_at(m->json, "attention.scale"), root = sqrt(xp_number_at(m->json, "attention.head_dim"));
    double value = scale * root;
    for (int digits = 1; digits <= 17; digits++) {
        value = rounded(scale * root, digits);
        if (value / root == scale) break;
    }
    return cJSON_CreateNumber(value);
}

/* ---- the rest */

/* What a family divides 1 by. */
static cJSON *logits_scaling(const XpMake *m) {
    const double scale = xp_number_at(m->json, "logit_scale");
    double value = 1 / scale;
    for (int digits = 1; digits <= 17; digits++) {
        value = rounded(1 / scale, digits);
        if (1 / value == scale) break;
    }
    return cJSON_CreateNumber(value);
}

static cJSON *mlp_multipliers(const XpMake *m) {
    const double both[] = {1, xp_number_at(m->json, "mlp.output_scale")};
    return cJSON_CreateDoubleArray(both, 2);
}

/* llama.cpp ends where a model without experts has groups of them. */
static cJSON *one_beside_experts(const XpMake *m) { return xp_value_at(m->json, "moe") ? whole(1) : NULL; }

static cJSON *shared_width(const XpMake *m) {
    const double shared = xp_number_at(m->json, "moe.experts.shared");
    if (!xp_value_at(m->json, "moe")) return cJSON_CreateNumber(xp_number_at(m->json, "dense.d_ff"));
    return cJSON_CreateNumber(shared > 0 ? xp_number_at(m->json, "moe.experts.shared_d_ff") : 0);
}

/* silu where none of theirs is ours: the comparison says so. */
static cJSON *activation_at(const XpMake *m, const char *place, bool gated) {
    const char *ours = cJSON_GetStringValue(xp_value_at(m->json, place)), *theirs = ours ? im_activation_of(ours, gated) : NULL;
    return cJSON_CreateString(theirs ? theirs : "silu");
}

static cJSON *activation(const XpMake *m) {
    const bool gated = xp_value_at(m->json, "mlp") != NULL;
    return activation_at(m, gated ? "mlp.activation" : "ssm.activation", gated);
}

static cJSON *mixer_activation(const XpMake *m) { return activation_at(m, "ssm.activation", false); }

/* ---- the table */

typedef struct Row {
    unsigned families;
    const char *key;
    cJSON *(*make)(const XpMake *make);
} Row;

static const Row rows[] = {
#define XP_MADE(families, key, way) {families, key, way},
#include "import/export/keys.def"
};

void xp_add_made(cJSON *config, const XpMake *make) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(rows[i].families >> make->family & 1) || cJSON_GetObjectItemCaseSensitive(config, rows[i].key)) continue;
        cJSON *value = rows[i].make(make);
        if (value) cJSON_AddItemToObject(config, rows[i].key, value);
    }
}
