#include "import/dtypes.h"

#include <string.h>

#include "frontend/kinds.h"

const char *const im_dtype_words[] = {
    [IM_AS_STORED] = "stored", [IM_TO_F32] = "f32", [IM_TO_BF16] = "bf16", [IM_TO_Q8] = "q8", [IM_TO_Q4] = "q4", NULL};

static const char *const weight_words[] = {
#define FE_WEIGHT(name, q8, q4, help) #name,
#include "frontend/weights.def"
};

/* Whether blocks that q8 holds are so in all rows: a -128 is none of its numbers. */
static bool rows_are_kept(const ImPiece *piece) {
    for (uint64_t row = piece->first; piece->from->form == IM_Q8_0 && row < piece->first + piece->rows; row++)
        if (im_form_is_low(IM_Q8_0, im_row(piece->from, row), piece->from->K)) return false;
    return true;
}

/* What holds a piece: itself where that is exact, else q8 for blocks; IR_I32: nothing is known yet. */
static IrDtype dtype_of(const ImPiece *piece, bool exact) {
    if (!piece->from) return IR_I32;
    const ImFormInfo *form = im_form(piece->from->form);
    bool changed = piece->factor != 1 || piece->plus;
    if (exact && !rows_are_kept(piece)) return IR_F32;
    if (form->kept == IR_I32 || (changed && ir_is_blocks(form->kept))) return exact ? IR_F32 : IR_Q8;
    return changed && exact ? IR_F32 : form->kept;
}

/* What holds both. */
static IrDtype join(IrDtype a, IrDtype b, bool exact) {
    if (a == IR_I32 || a == b) return b;
    if (b == IR_I32) return a;
    return ir_is_blocks(a) && ir_is_blocks(b) && !exact ? IR_Q8 : IR_F32;
}

typedef struct Choice {
    IrDtype wanted[FE_N_WEIGHTS]; /* IR_I32: no tensor of this kind */
    double weights[IR_DTYPES];    /* numbers stored in each */
} Choice;

static void choose(const ImPlan *plan, FeSpec *spec, bool exact, Choice *out) {
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    for (int i = 0; i < FE_N_WEIGHTS; i++) out->wanted[i] = IR_I32;
    for (size_t i = 0; i < count; i++) {
        const ImOutput *output = tensors[i].map ? im_plan_find(plan, tensors[i].name) : NULL;
        IrDtype *wanted = output ? &out->wanted[fe_find_weight(tensors[i].map)] : NULL;
        for (size_t p = 0; output && p < output->count; p++) *wanted = join(*wanted, dtype_of(&output->pieces[p], exact), exact);
    }
    for (size_t i = 0; i < count; i++) {
        if (!tensors[i].map) continue;
        double n = 1;
        for (int d = 0; d < tensors[i].rank; d++) n *= (double)tensors[i].shape[d];
        out->weights[out->wanted[fe_find_weight(tensors[i].map)]] += n;
    }
}

/* How the language stores each kind of weight under a dtype. */
static void defaults_of(IrDtype dtype, const SuText *text, IrDtype out[FE_N_WEIGHTS]) {
    SuDiags diags = {0};
    SuArena arena = {0};
    FeSpec spec = {0};
    const char *set = su_printf(&arena, "weights.dtype=%s", ir_dtype_word(dtype));
    if (!fe_spec_parse("", text->text, text->size, &set, 1, &spec, &diags)) SU_BUG("a spec is refused with %s", set);
    memcpy(out, spec.weights.of, sizeof spec.weights.of);
    fe_spec_free(&spec);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

const char *im_weights_of(const ImPlan *plan, FeSpec *spec, const SuText *text, ImDtype dtype, bool exact, SuArena *arena) {
    if (dtype != IM_AS_STORED) return su_printf(arena, "{dtype: %s}", im_dtype_words[dtype]);
    Choice choice = {0};
    IrDtype most = IR_F32, by_default[FE_N_WEIGHTS];
    const char *overrides = "";
    choose(plan, spec, exact, &choice);
    for (int d = 0; d < IR_STORED_DTYPES; d++)
        if (choice.weights[d] > choice.weights[most]) most = (IrDtype)d;
    defaults_of(most, text, by_default);
    for (int i = 0; i < FE_N_WEIGHTS; i++) {
        if (choice.wanted[i] == IR_I32 || choice.wanted[i] == by_default[i]) continue;
        overrides =
            su_printf(arena, "%s%s%s: %s", overrides, *overrides ? ", " : "", weight_words[i], ir_dtype_word(choice.wanted[i]));
    }
    bool blocks = choice.weights[IR_Q8] + choice.weights[IR_Q4] > 0;
    return su_printf(arena, "{dtype: %s%s%s%s%s}", ir_dtype_word(most), *overrides ? ", overrides: {" : "", overrides,
                     *overrides ? "}" : "", exact && blocks ? ", activations: f32" : "");
}
