/* config.json of a spec, and whether what was read back from it is the spec. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "import/export/export.h"
#include "import/families/parts.h"

static const struct {
    const char *name, *architecture;
} families[] = {
#define XP_FAMILY(NAME, model_type, architecture) {model_type, architecture},
#include "import/export/keys.def"
};

enum {
#define XP_FAMILY(NAME, model_type, architecture) NAME = 1 << XP_FAMILY_##NAME,
#include "import/export/keys.def"
    ALL = (1 << XP_FAMILIES) - 1,
    RECURRENT = MAMBA | MAMBA2,
    TRANSFORMERS = ALL & ~RECURRENT
};

static const struct {
    unsigned families;
    const char *place, *key;
} keys[] = {
#define XP_KEY(families, place, key) {families, place, key},
#include "import/export/keys.def"
};

const char *xp_family_name(XpFamily family) { return families[family].name; }

/* ---- values of a spec */

/* The map of the first block of a kind. */
static const cJSON *block_of(const cJSON *json, const char *kind, size_t size) {
    const cJSON *stack = cJSON_GetObjectItemCaseSensitive(json, "stack");
    for (const cJSON *entry = stack ? stack->child : NULL; entry; entry = entry->next)
        for (const cJSON *block = entry->child; block; block = block->next)
            if (strlen(block->string) == size && strncmp(block->string, kind, size) == 0) return block;
    return NULL;
}

static const cJSON *member(const cJSON *map, const char *name, size_t size) {
    for (const cJSON *item = cJSON_IsObject(map) ? map->child : NULL; item; item = item->next)
        if (strlen(item->string) == size && strncmp(item->string, name, size) == 0) return item;
    return NULL;
}

/* The value at a place of keys.def, or NULL. */
static const cJSON *value_at(const cJSON *json, const char *place) {
    size_t size = strcspn(place, ".");
    const cJSON *at = member(json, place, size);
    if (!at) at = block_of(json, place, size);
    while (at && place[size]) {
        place += size + 1;
        size = strcspn(place, ".");
        at = member(at, place, size);
    }
    return at;
}

static bool is_text(const cJSON *item, const char *text) { return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0; }

static double number_at(const cJSON *json, const char *place) {
    const cJSON *item = value_at(json, place);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* ---- the family */

static bool refuse(SuSpan span, SuDiags *diags, const char *path, const char *value) {
    return su_error(diags, span, "docs/import.md lists what the formats of others can say",
                    "%s: %s: no family that is exported has this", path, value);
}

XpFamily xp_family_of(const cJSON *json, SuSpan span, SuDiags *diags) {
    const cJSON *kind = value_at(json, "ssm.kind");
    const cJSON *stack = cJSON_GetObjectItemCaseSensitive(json, "stack");
    int at = 0;
    for (const cJSON *entry = stack ? stack->child : NULL; entry; entry = entry->next, at++) {
        const cJSON *block = entry->child;
        while (block && strcmp(block->string, "name") == 0) block = block->next;
        const char *word = block ? block->string : "", *wanted = kind ? "ssm" : at % 2 ? "mlp" : "attention";
        if (strcmp(word, wanted) == 0) continue;
        refuse(span, diags, su_printf(&diags->arena, "stack[%d]", at), word);
        return XP_FAMILIES;
    }
    if (kind && is_text(kind, "mamba1")) return XP_FAMILY_MAMBA;
    if (kind && is_text(kind, "mamba2")) return XP_FAMILY_MAMBA2;
    if (kind) {
        refuse(span, diags, "stack[0].ssm.kind", kind->valuestring);
        return XP_FAMILIES;
    }
    if (cJSON_IsObject(value_at(json, "mlp.experts"))) return XP_FAMILY_MIXTRAL;
    if (is_text(value_at(json, "attention.qk_norm"), "head")) return XP_FAMILY_QWEN3;
    if (cJSON_IsTrue(value_at(json, "attention.qkv_bias"))) return XP_FAMILY_QWEN2;
    return cJSON_IsNumber(value_at(json, "attention.window")) ? XP_FAMILY_MISTRAL : XP_FAMILY_LLAMA;
}

/* ---- the config */

static void add_scaling(cJSON *config, const cJSON *scaling) {
    static const char *const names[][2] = {{"factor", "factor"},
                                           {"low_freq_factor", "low_freq_factor"},
                                           {"high_freq_factor", "high_freq_factor"},
                                           {"original_max_positions", "original_max_position_embeddings"}};
    cJSON *map = cJSON_AddObjectToObject(config, "rope_scaling");
    cJSON_AddStringToObject(map, "rope_type", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(scaling, "kind")));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(scaling, names[i][0]);
        if (cJSON_IsNumber(value)) cJSON_AddItemToObject(map, names[i][1], cJSON_Duplicate(value, true));
    }
}

static void add_recurrent(cJSON *config, XpFamily family, const cJSON *json) {
    const double inner = number_at(json, "ssm.d_inner"), head = number_at(json, "ssm.head_dim");
    cJSON_AddNumberToObject(config, "expand", inner / number_at(json, "d_model"));
    if (family == XP_FAMILY_MAMBA2 && head > 0) cJSON_AddNumberToObject(config, "num_heads", inner / head);
    const cJSON *limit = value_at(json, "ssm.dt_limit");
    if (!cJSON_IsArray(limit)) return;
    cJSON *pair = cJSON_AddArrayToObject(config, "time_step_limit");
    for (const cJSON *at = limit->child; at; at = at->next)
        cJSON_AddItemToArray(pair, cJSON_IsNumber(at) ? cJSON_Duplicate(at, true) : cJSON_CreateRaw("Infinity"));
}

static void add_specials(cJSON *config, const TkSpecials *specials) {
    if (specials->bos >= 0) cJSON_AddNumberToObject(config, "bos_token_id", specials->bos);
    cJSON *list = specials->n_ends > 1 ? cJSON_AddArrayToObject(config, "eos_token_id") : NULL;
    for (uint32_t i = 0; list && i < specials->n_ends; i++) cJSON_AddItemToArray(list, cJSON_CreateNumber(specials->ends[i]));
    if (specials->n_ends == 1) cJSON_AddNumberToObject(config, "eos_token_id", specials->ends[0]);
}

cJSON *xp_config(XpFamily family, const cJSON *json, const TkSpecials *specials, IrDtype dtype) {
    const unsigned set = 1u << family;
    const bool gated = (set & TRANSFORMERS) != 0;
    const char *activation = cJSON_GetStringValue(value_at(json, gated ? "mlp.activation" : "ssm.activation"));
    const int blocks = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(json, "stack"));
    cJSON *config = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(config, "architectures"), cJSON_CreateString(families[family].architecture));
    cJSON_AddStringToObject(config, "model_type", families[family].name);
    cJSON_AddStringToObject(config, "torch_dtype", dtype == IR_BF16 ? "bfloat16" : dtype == IR_F16 ? "float16" : "float32");
    cJSON_AddNumberToObject(config, "num_hidden_layers", gated ? blocks / 2 : blocks);
    const char *theirs = activation ? im_activation_of(activation, gated) : NULL;
    cJSON_AddStringToObject(config, "hidden_act", theirs ? theirs : "silu");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *value = keys[i].families & set ? value_at(json, keys[i].place) : NULL;
        if (value)
            cJSON_AddItemToObject(config, keys[i].key, is_text(value, "none") ? cJSON_CreateNull() : cJSON_Duplicate(value, true));
    }
    add_specials(config, specials);
    const cJSON *scaling = value_at(json, "attention.rope.scaling");
    if (!gated) add_recurrent(config, family, json);
    if (gated && cJSON_IsObject(scaling)) add_scaling(config, scaling);
    return config;
}

/* ---- comparing */

static const char *shown(const cJSON *item, SuArena *arena) {
    char *text = item ? cJSON_PrintUnformatted(item) : NULL;
    const char *kept = su_printf(arena, "%.80s", text ? text : "nothing");
    cJSON_free(text);
    return kept;
}

/* Of the top level: what configs do not say. Only attention has a longest sequence. */
static bool is_aside(XpFamily family, const char *key) {
    const bool positions = strcmp(key, "max_positions") == 0 && (1u << family & RECURRENT) != 0;
    return positions || strcmp(key, "weights") == 0 || strcmp(key, "tokenizer") == 0;
}

double xp_divisor(double turns, double factor, double low, double high) {
    const double share = (turns - low) / (high - low);
    return turns > high ? 1 : turns < low ? factor : 1 / ((1 - share) / factor + share);
}

/* That of a spec, of a wavelength in positions. */
static double divisor_of(const cJSON *scaling, double wavelength) {
    static const char *const names[] = {"original_max_positions", "factor", "low_freq_factor", "high_freq_factor"};
    double numbers[4];
    for (int i = 0; i < 4; i++) numbers[i] = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(scaling, names[i]));
    return xp_divisor(numbers[0] / wavelength, numbers[1], numbers[2], numbers[3]);
}

/* Whether both are Llama 3's scaling and come to the same divisors. */
static bool same_divisors(const XpJob *job, const cJSON *ours, const cJSON *made) {
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(ours, "kind");
    if (!is_text(kind, "llama3") || !cJSON_Compare(kind, cJSON_GetObjectItemCaseSensitive(made, "kind"), true)) return false;
    const double pi = 3.14159265358979323846, close = 1e-4;
    const double size = number_at(job->ours.root, "attention.head_dim"), theta = number_at(job->ours.root, "attention.rope.theta");
    for (double i = 0; i < size; i += 2) {
        const double wavelength = 2 * pi * pow(theta, i / size);
        if (!(fabs(divisor_of(ours, wavelength) / divisor_of(made, wavelength) - 1) < close)) return false;
    }
    return true;
}

static bool compare(const XpJob *c, const char *path, const cJSON *ours, const cJSON *made) {
    SuArena *arena = &c->diags->arena;
    const bool maps = cJSON_IsObject(ours) && cJSON_IsObject(made), lists = cJSON_IsArray(ours) && cJSON_IsArray(made);
    if (!maps && !lists) {
        if (ours && made && cJSON_Compare(ours, made, true)) return true;
        return su_error(c->diags, c->span, "docs/import.md lists what the formats of others can say",
                        "%s: %s: the family %s has %s there", path, shown(ours, arena), xp_family_name(c->family),
                        shown(made, arena));
    }
    if (maps && c->divisors && same_divisors(c, ours, made)) return true;
    const cJSON *a = ours->child, *b = made->child;
    for (int i = 0; a || b; i++) {
        const cJSON *named = a ? a : b;
        const char *place =
            lists ? su_printf(arena, "%s[%d]", path, i) : su_printf(arena, "%s%s%s", path, *path ? "." : "", named->string);
        const cJSON *other = maps && a ? cJSON_GetObjectItemCaseSensitive(made, a->string) : b;
        const bool aside = maps && (strcmp(named->string, "name") == 0 || (!*path && is_aside(c->family, named->string)));
        if (!aside && !compare(c, place, a, other)) return false;
        a = a ? a->next : NULL;
        b = b ? b->next : NULL;
    }
    return true;
}

bool xp_same_spec(const XpJob *job, const cJSON *made) { return compare(job, "", job->ours.root, made); }
