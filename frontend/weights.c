/* weights: how embed, head and the linear maps are stored, and how the input of a q8 or q4 map is taken (docs/language.md, "Weights of
 * 8 and 4 bits"). The rows of weights.def have the defaults. */
#include <string.h>

#include "frontend/kinds.h"

/* ---- reading ---- */

static IrDtype by_default(IrDtype dtype, FeWeight weight) {
    static const IrDtype of_q8[] = {
#define FE_WEIGHT(name, q8, q4, help) [FE_WEIGHT_##name] = IR_##q8,
#include "frontend/weights.def"
    };
    static const IrDtype of_q4[] = {
#define FE_WEIGHT(name, q8, q4, help) [FE_WEIGHT_##name] = IR_##q4,
#include "frontend/weights.def"
    };
    return dtype == IR_Q8 ? of_q8[weight] : dtype == IR_Q4 ? of_q4[weight] : dtype;
}

/* The keys of overrides are the rows of weights.def. */
static FeKey override_of(FeWeight weight) { return (FeKey)(FE_FIRST_KEY_overrides + (int)weight); }

static const char *weight_word(FeWeight weight) { return fe_key_row(override_of(weight))->name; }

FeWeight fe_find_weight(const char *map) {
    for (FeWeight i = 0; i < FE_N_WEIGHTS; i++)
        if (strcmp(weight_word(i), map) == 0) return i;
    SU_BUG("no weight is named %s", map);
}

static IrDtype dtype_at(const FeMap *map, FeKey key, IrDtype otherwise) {
    return map && fe_given(map, key) ? (IrDtype)fe_integer(map, key) : otherwise;
}

void fe_read_weights(FeSpec *spec, const FeMap *weights) {
    const FeMap *overrides = fe_child(weights, KEY(weights, overrides));
    FeWeights *out = &spec->weights;
    out->dtype = dtype_at(weights, KEY(weights, dtype), IR_F32);
    out->adapters = ir_is_blocks(out->dtype) ? IR_BF16 : out->dtype;
    out->rounds = fe_integer(weights, KEY(weights, activations)) == 0;
    for (FeWeight i = 0; i < FE_N_WEIGHTS; i++) out->of[i] = dtype_at(overrides, override_of(i), by_default(out->dtype, i));
}

/* ---- what has an effect ---- */

/* Which of the weights some tensor is. */
typedef struct Present {
    bool is[FE_N_WEIGHTS];
} Present;

static Present find_present(FeSpec *spec) {
    Present present = {0};
    FeTensorList list = fe_list_tensors(spec);
    for (size_t i = 0; i < list.count; i++)
        if (list.items[i].map) present.is[fe_find_weight(list.items[i].map)] = true;
    return present;
}

/* "embed, in_proj, out_proj" */
static const char *present_words(SuArena *arena, const Present *present) {
    const char *text = "";
    for (FeWeight i = 0; i < FE_N_WEIGHTS; i++)
        if (present->is[i]) text = su_printf(arena, "%s%s%s", text, *text ? ", " : "", weight_word(i));
    return text;
}

static void refuse_override(const FeLoad *load, const Present *present, FeWeight weight, const FeValue *value) {
    SuArena *arena = load->reader.arena;
    const char *hint =
        weight == FE_WEIGHT_head ? "a tied head is embed" : su_printf(arena, "this model has %s", present_words(arena, present));
    su_report(load->reader.diags, SU_CODE_misplaced_key, value->key_span, hint, "'weights.overrides': no tensor is %s",
              weight_word(weight));
}

/* An override that says what holds without it is dropped. */
static bool settle_overrides(const FeLoad *load, FeMap *weights, const Present *present) {
    FeMap *overrides = fe_child(weights, KEY(weights, overrides));
    bool ok = true, any = false;
    for (FeWeight i = 0; overrides && i < FE_N_WEIGHTS; i++) {
        const FeValue *value = fe_value(overrides, override_of(i));
        if (value->state != FE_GIVEN) continue;
        if (!present->is[i]) {
            refuse_override(load, present, i, value);
            ok = false;
        }
        if (load->spec->weights.of[i] == by_default(load->spec->weights.dtype, i))
            fe_drop(overrides, override_of(i));
        else
            any = true;
    }
    if (!any) fe_drop(weights, KEY(weights, overrides));
    return ok;
}

/* Whether something multiplies a q8 or q4 weight with a vector: of an embed that is not tied only rows are taken. */
static bool has_quantised_map(const FeSpec *spec, const Present *present) {
    for (FeWeight i = 0; i < FE_N_WEIGHTS; i++) {
        bool multiplies = i != FE_WEIGHT_embed || spec->tie_embeddings;
        if (present->is[i] && multiplies && ir_is_blocks(spec->weights.of[i])) return true;
    }
    return false;
}

static bool is_asked(const FeMap *weights) {
    return fe_child(weights, KEY(weights, overrides)) != NULL || ir_is_blocks((IrDtype)fe_integer(weights, KEY(weights, dtype)));
}

bool fe_settle_weights(const FeLoad *load) {
    FeMap *weights = fe_child(load->file, KEY(file, weights));
    const Present present = is_asked(weights) ? find_present(load->spec) : (Present){0};
    bool ok = settle_overrides(load, weights, &present);
    if (!has_quantised_map(load->spec, &present)) {
        fe_set_moot(&load->reader, weights, KEY(weights, activations));
        load->spec->weights.rounds = true;
    }
    return ok;
}
