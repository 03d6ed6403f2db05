/* The config.json of a spec. */
#include <string.h>

#include "import/export/export.h"
#include "import/export/made.h"
#include "import/export/place.h"
#include "import/export/sets.h"

static const struct {
    unsigned families;
    const char *place, *key;
} keys[] = {
#define XP_KEY(families, place, key) {families, place, key},
#include "import/export/keys.def"
};

static const struct {
    unsigned families;
    const char *key, *json;
} fixed[] = {
#define XP_FIXED(families, key, json) {families, key, json},
#include "import/export/keys.def"
};

static const char *const reals[] = {
#define XP_REAL(key) key,
#include "import/export/keys.def"
};

bool xp_family_is(XpFamily family, unsigned set) { return (set >> family & 1) != 0; }

static void add(cJSON *config, const char *key, cJSON *value) {
    if (cJSON_GetObjectItemCaseSensitive(config, key))
        cJSON_Delete(value);
    else
        cJSON_AddItemToObject(config, key, value);
}

static void add_specials(cJSON *config, const TkSpecials *specials) {
    if (specials->bos >= 0) cJSON_AddNumberToObject(config, "bos_token_id", specials->bos);
    cJSON *list = specials->n_ends > 1 ? cJSON_AddArrayToObject(config, "eos_token_id") : NULL;
    for (uint32_t i = 0; list && i < specials->n_ends; i++) cJSON_AddItemToArray(list, cJSON_CreateNumber(specials->ends[i]));
    if (specials->n_ends == 1) cJSON_AddNumberToObject(config, "eos_token_id", specials->ends[0]);
}

cJSON *xp_config(XpFamily family, const cJSON *json, const TkSpecials *specials, IrDtype dtype) {
    const XpMake make = xp_make(family, json);
    cJSON *config = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(config, "architectures"), cJSON_CreateString(xp_family_architecture(family)));
    cJSON_AddStringToObject(config, "model_type", xp_family_name(family));
    cJSON_AddStringToObject(config, "torch_dtype", dtype == IR_BF16 ? "bfloat16" : dtype == IR_F16 ? "float16" : "float32");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *value = xp_family_is(family, keys[i].families) ? xp_value_at(json, keys[i].place) : NULL;
        if (value) add(config, keys[i].key, xp_is_text(value, "none") ? cJSON_CreateNull() : cJSON_Duplicate(value, true));
    }
    xp_add_made(config, &make);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (xp_family_is(family, fixed[i].families)) add(config, fixed[i].key, cJSON_Parse(fixed[i].json));
    add_specials(config, specials);
    return config;
}

/* ---- as text */

/* Numbers as reals: 1.0, not 1. */
static cJSON *as_reals(const cJSON *value) {
    char text[SU_REAL + 2];
    if (cJSON_IsArray(value)) {
        cJSON *list = cJSON_CreateArray();
        for (const cJSON *item = value->child; item; item = item->next) cJSON_AddItemToArray(list, as_reals(item));
        return list;
    }
    if (!cJSON_IsNumber(value)) return cJSON_Duplicate(value, true);
    su_real_text(value->valuedouble, text);
    if (!strpbrk(text, ".en")) strcat(text, ".0");
    return cJSON_CreateRaw(text);
}

char *xp_config_text(const cJSON *config) {
    cJSON *shown = cJSON_Duplicate(config, true);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(config, reals[i]);
        if (value) cJSON_ReplaceItemInObjectCaseSensitive(shown, reals[i], as_reals(value));
    }
    char *text = cJSON_Print(shown);
    cJSON_Delete(shown);
    return text;
}
