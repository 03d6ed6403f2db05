/* Which family could say a spec (keys.def). */
#include <math.h>
#include <string.h>

#include "import/export/export.h"
#include "import/export/place.h"
#include "import/families/parts.h"

static const struct {
    const char *name, *architecture;
} families[] = {
#define XP_FAMILY(NAME, model_type, architecture) {model_type, architecture},
#include "import/export/keys.def"
};

const char *xp_family_name(XpFamily family) { return families[family].name; }
const char *xp_family_architecture(XpFamily family) { return families[family].architecture; }

/* ---- traits */

enum {
#define XP_TRAIT(NAME) NUMBER_##NAME,
#include "import/export/keys.def"
};
enum {
#define XP_TRAIT(NAME) NAME = 1 << NUMBER_##NAME,
#include "import/export/keys.def"
};

static const char ANY[] = "any", SOME[] = "some", NOT_1[] = "not 1";

static const struct {
    unsigned trait;
    const char *place, *is;
} has[] = {
#define XP_HAS(NAME, place, is) {NAME, place, is},
#include "import/export/keys.def"
};

static const struct {
    unsigned traits;
    XpFamily family;
} signs[] = {
#define XP_SIGN(traits, NAME) {traits, XP_FAMILY_##NAME},
#include "import/export/keys.def"
};

static bool is(const cJSON *value, const char *what) {
    if (!value) return false;
    if (what == ANY) return !xp_is_text(value, "none");
    if (what == SOME) return cJSON_IsNumber(value) && value->valuedouble > 0;
    if (what == NOT_1) return cJSON_IsNumber(value) && value->valuedouble != 1;
    if (cJSON_IsBool(value)) return strcmp(what, cJSON_IsTrue(value) ? "true" : "false") == 0;
    return xp_is_text(value, what);
}

static bool is_mixer(const cJSON *block) {
    static const char *const mixers[] = {"ssm", "attention", "shortconv", "parallel"};
    for (size_t i = 0; i < sizeof mixers / sizeof *mixers; i++)
        if (strcmp(block->string, mixers[i]) == 0) return true;
    return false;
}

static bool is_plain(const cJSON *block) {
    const bool ssm = strcmp(block->string, "ssm") == 0;
    if (ssm) return xp_is_text(cJSON_GetObjectItemCaseSensitive(block, "kind"), "mamba2");
    return strcmp(block->string, "attention") == 0 || strcmp(block->string, "mlp") == 0;
}

/* The first entry that is no mixer or mlp in its turn, or the last one where it lacks its mlp; NULL: none. *out_at: its number. */
static const cJSON *out_of_turn(const cJSON *json, int *out_at) {
    const cJSON *entry = xp_blocks(json);
    int at = 0;
    for (; entry; entry = entry->next, at++) {
        const bool fits = at % 2 ? strcmp(xp_kind(entry)->string, "mlp") == 0 : is_mixer(xp_kind(entry));
        *out_at = at;
        if (!fits || (at % 2 == 0 && !entry->next)) break;
    }
    return entry;
}

static unsigned of_layers(const cJSON *json) {
    const char *activation = cJSON_GetStringValue(xp_value_at(json, "mlp.activation"));
    const bool looks = xp_value_at(json, "attention") != NULL;
    unsigned traits = looks && xp_value_at(json, "ssm") ? ALONE | PLAIN : ALONE;
    int at;
    for (const cJSON *entry = xp_blocks(json); entry; entry = entry->next) {
        if (strcmp(xp_kind(entry)->string, "ssm") != 0) traits &= ~(unsigned)ALONE;
        if (!is_plain(xp_kind(entry))) traits &= ~(unsigned)PLAIN;
    }
    if (looks && !out_of_turn(json, &at) && activation && im_activation_of(activation, true)) traits |= PAIRS;
    return traits;
}

static unsigned traits_of(const cJSON *json) {
    unsigned traits = of_layers(json);
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        if (is(xp_value_at(json, has[i].place), has[i].is)) traits |= has[i].trait;
    const double size = xp_number_at(json, "attention.head_dim");
    if (size > 0 && fabs(xp_number_at(json, "attention.scale") * sqrt(size) - 1) > 1e-9) traits |= FACTORS;
    return traits;
}

/* ---- the family */

static bool refuse(SuSpan span, SuDiags *diags, const char *path, const char *value) {
    return su_error(diags, span, "docs/import.md lists what the formats of others can say",
                    "%s: %s: no family that is exported has this", path, value);
}

XpFamily xp_family_of(const cJSON *json, SuSpan span, SuDiags *diags) {
    const unsigned traits = traits_of(json);
    const cJSON *kind = xp_value_at(json, "ssm.kind");
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if ((signs[i].traits & ~traits) == 0) return signs[i].family;
    int at = 0;
    const cJSON *entry = out_of_turn(json, &at), *activation = xp_value_at(json, "mlp.activation");
    if (kind && !(traits & (SSM1 | SSM2)))
        refuse(span, diags, "ssm.kind", kind->valuestring);
    else if (entry)
        refuse(span, diags, su_printf(&diags->arena, "stack[%d]", at), xp_kind(entry)->string);
    else if (!xp_value_at(json, "attention"))
        refuse(span, diags, "stack", "no attention beside mlp");
    else
        refuse(span, diags, "mlp.activation", activation ? activation->valuestring : "none");
    return XP_FAMILIES;
}
