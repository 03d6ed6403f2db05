#include "explore/about.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "explore/csv.h"
#include "support/digest.h"

static const char *const states[] = {
    [EX_POINT] = "point", [EX_TWIN] = "twin", [EX_EXCLUDED] = "excluded", [EX_INVALID] = "invalid"};

static void add_values(const ExSpace *space, const uint32_t *choices, cJSON *out) {
    cJSON *values = cJSON_AddObjectToObject(out, "values");
    for (size_t a = 0; a < space->n_axes; a++) {
        SuText text = {0};
        ex_node_text(space->axes[a].nodes[choices[a]], &text);
        cJSON_AddStringToObject(values, space->axes[a].name, text.text ? text.text : "");
        su_text_free(&text);
    }
}

static void add_device(const ExStudy *study, const ExCost *cost, size_t device, cJSON *devices) {
    cJSON *item = cJSON_AddObjectToObject(devices, study->devices[device].name);
    cJSON_AddStringToObject(item, "fidelity", ex_fidelity(&study->devices[device]));
    cJSON_AddBoolToObject(item, "within", ex_within(&study->space, cost, device));
    cJSON *metrics = cJSON_AddObjectToObject(item, "metrics");
    for (int m = 0; m < EX_METRIC_COUNT; m++) {
        double value = ex_value(cost, (ExMetric)m, device);
        if (isfinite(value)) cJSON_AddNumberToObject(metrics, ex_metric((ExMetric)m)->name, value);
    }
}

/* false: the reason is in diags. */
static bool add_cost(const ExStudy *study, ExScratch *scratch, const uint32_t *choices, const ExValue *derived, cJSON *out,
                     SuDiags *diags) {
    const char *why;
    ExCost cost;
    SuDigest digest;
    char hex[SU_HEX];
    ExVerdict verdict = ex_cost(scratch, choices, derived, &cost, &why);
    if (verdict == EX_BROKEN || (verdict == EX_COSTED && !ex_hash(scratch, digest.bytes)))
        return su_error(diags, (SuSpan){0}, NULL, "the point could not be costed");
    cJSON_AddStringToObject(out, "state", states[verdict == EX_COSTED ? EX_POINT : EX_INVALID]);
    if (verdict == EX_REFUSED) cJSON_AddStringToObject(out, "why", why);
    if (verdict == EX_REFUSED) return true;
    cJSON_AddStringToObject(out, "spec_hash", su_digest_hex(&digest, hex));
    cJSON *devices = cJSON_AddObjectToObject(out, "devices");
    for (size_t d = 0; d < study->n_devices; d++) add_device(study, &cost, d, devices);
    return true;
}

cJSON *ex_about_point(const ExStudy *study, ExScratch *scratch, uint64_t index, SuDiags *diags) {
    const ExSpace *space = &study->space;
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why;
    const ExExpr *where;
    if (index >= space->n_indices) {
        ex_no_such_point(space, index, (SuSpan){0}, diags);
        return NULL;
    }
    cJSON *out = cJSON_CreateObject();
    ex_choices(space, index, choices);
    ExPointState state = ex_point(space, choices, values, derived, &why, &where);
    cJSON_AddNumberToObject(out, "index", (double)index);
    add_values(space, choices, out);
    if (state == EX_POINT && !add_cost(study, scratch, choices, derived, out, diags)) {
        cJSON_Delete(out);
        return NULL;
    }
    if (state == EX_POINT) return out;
    cJSON_AddStringToObject(out, "state", states[state]);
    if (state == EX_TWIN) cJSON_AddNumberToObject(out, "twin_of", (double)ex_twin_of(space, index));
    if (state == EX_INVALID) {
        SuText text = {0};
        su_text_add(&text, "%s: %s", ex_text(where), why);
        cJSON_AddStringToObject(out, "why", text.text);
        su_text_free(&text);
    }
    return out;
}
