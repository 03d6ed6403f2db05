/* The family of a spec, and its config.json. */
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

bool xp_has_positions(XpFamily family) { return (1u << family & RECURRENT) == 0; }

/* ---- the family */

static bool refuse(SuSpan span, SuDiags *diags, const char *path, const char *value) {
    return su_error(diags, span, "docs/import.md lists what the formats of others can say",
                    "%s: %s: no family that is exported has this", path, value);
}

XpFamily xp_family_of(const cJSON *json, SuSpan span, SuDiags *diags) {
    const cJSON *kind = xp_value_at(json, "ssm.kind");
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
    if (kind && xp_is_text(kind, "mamba1")) return XP_FAMILY_MAMBA;
    if (kind && xp_is_text(kind, "mamba2")) return XP_FAMILY_MAMBA2;
    if (kind) {
        refuse(span, diags, "stack[0].ssm.kind", kind->valuestring);
        return XP_FAMILIES;
    }
    if (cJSON_IsObject(xp_value_at(json, "mlp.experts"))) return XP_FAMILY_MIXTRAL;
    if (xp_is_text(xp_value_at(json, "attention.qk_norm"), "head")) return XP_FAMILY_QWEN3;
    if (cJSON_IsTrue(xp_value_at(json, "attention.qkv_bias"))) return XP_FAMILY_QWEN2;
    return cJSON_IsNumber(xp_value_at(json, "attention.window")) ? XP_FAMILY_MISTRAL : XP_FAMILY_LLAMA;
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
    const double inner = xp_number_at(json, "ssm.d_inner"), head = xp_number_at(json, "ssm.head_dim");
    cJSON_AddNumberToObject(config, "expand", inner / xp_number_at(json, "d_model"));
    if (family == XP_FAMILY_MAMBA2 && head > 0) cJSON_AddNumberToObject(config, "num_heads", inner / head);
    const cJSON *limit = xp_value_at(json, "ssm.dt_limit");
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
    const char *activation = cJSON_GetStringValue(xp_value_at(json, gated ? "mlp.activation" : "ssm.activation"));
    const int blocks = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(json, "stack"));
    cJSON *config = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(config, "architectures"), cJSON_CreateString(families[family].architecture));
    cJSON_AddStringToObject(config, "model_type", families[family].name);
    cJSON_AddStringToObject(config, "torch_dtype", dtype == IR_BF16 ? "bfloat16" : dtype == IR_F16 ? "float16" : "float32");
    cJSON_AddNumberToObject(config, "num_hidden_layers", gated ? blocks / 2 : blocks);
    const char *theirs = activation ? im_activation_of(activation, gated) : NULL;
    cJSON_AddStringToObject(config, "hidden_act", theirs ? theirs : "silu");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *value = keys[i].families & set ? xp_value_at(json, keys[i].place) : NULL;
        if (value)
            cJSON_AddItemToObject(config, keys[i].key,
                                  xp_is_text(value, "none") ? cJSON_CreateNull() : cJSON_Duplicate(value, true));
    }
    add_specials(config, specials);
    const cJSON *scaling = xp_value_at(json, "attention.rope.scaling");
    if (!gated) add_recurrent(config, family, json);
    if (gated && cJSON_IsObject(scaling)) add_scaling(config, scaling);
    return config;
}
