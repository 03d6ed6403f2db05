/* Whether what was read back from an export is the spec. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "import/export/export.h"
#include "import/export/place.h"
#include "import/export/sets.h"

static const char *shown(const cJSON *item, SuArena *arena) {
    char *text = item ? cJSON_PrintUnformatted(item) : NULL;
    const char *kept = su_printf(arena, "%.80s", text ? text : "nothing");
    cJSON_free(text);
    return kept;
}

/* Of the top level: what configs do not say. Only attention has a longest sequence. */
static bool is_aside(XpFamily family, const char *key) {
    const bool positions = strcmp(key, "max_positions") == 0 && !xp_family_is(family, XP_SET_LOOKING);
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
    if (!xp_is_text(kind, "llama3") || !cJSON_Compare(kind, cJSON_GetObjectItemCaseSensitive(made, "kind"), true)) return false;
    const double pi = 3.14159265358979323846, close = 1e-4;
    const double size = xp_number_at(job->ours.root, "attention.head_dim"),
                 theta = xp_number_at(job->ours.root, "attention.rope.theta");
    for (double i = 0; i < size; i += 2) {
        const double wavelength = 2 * pi * pow(theta, i / size);
        if (!(fabs(divisor_of(ours, wavelength) / divisor_of(made, wavelength) - 1) < close)) return false;
    }
    return true;
}

/* A number that was float32 meanwhile. */
static bool same_float(const cJSON *ours, const cJSON *made) {
    const bool numbers = cJSON_IsNumber(ours) && cJSON_IsNumber(made);
    return numbers && fabs(ours->valuedouble - made->valuedouble) <= (double)FLT_EPSILON * fabs(ours->valuedouble);
}

static bool compare(const XpJob *c, const char *path, const cJSON *ours, const cJSON *made) {
    SuArena *arena = &c->diags->arena;
    const bool maps = cJSON_IsObject(ours) && cJSON_IsObject(made), lists = cJSON_IsArray(ours) && cJSON_IsArray(made);
    if (!maps && !lists) {
        if (ours && made && (cJSON_Compare(ours, made, true) || (c->floats && same_float(ours, made)))) return true;
        return su_error(c->diags, c->span, "docs/import.md lists what the formats of others can say",
                        "%s: %s: the family %s has %s there", path, shown(ours, arena), xp_family_name(c->family),
                        shown(made, arena));
    }
    if (maps && c->floats && same_divisors(c, ours, made)) return true;
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
