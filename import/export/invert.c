/* A plan the other way round: of which rows of its outputs the tensors that it takes consist. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "import/export/export.h"

typedef struct Inverting {
    const ImPlan *plan;
    SuArena *arena;
    XpTensor *tensors; /* one for each that the source invented, in its order */
} Inverting;

static XpTensor *tensor_of(Inverting *v, const ImTensor *named) {
    XpTensor *t = &v->tensors[named->number];
    t->named = named;
    return t;
}

static void add_run(Inverting *v, XpTensor *t, XpRun run) {
    t->runs = su_grow(v->arena, t->runs, &t->runs_capacity, t->n_runs + 1, sizeof *t->runs);
    t->runs[t->n_runs++] = run;
    if (run.first + run.rows > t->rows) t->rows = run.first + run.rows;
}

/* Rows of a piece: those of one that took all of a tensor, whose size nobody knew, share what the others leave. */
static uint64_t rows_of(const ImOutput *output, const ImPiece *piece, uint64_t all) {
    uint64_t known = 0, unknown = 0;
    for (size_t i = 0; i < output->count; i++) {
        known += output->pieces[i].rows;
        unknown += output->pieces[i].rows == 0;
    }
    return piece->rows ? piece->rows : all > known ? (all - known) / unknown : 0;
}

static bool add_output(Inverting *v, const FeTensor *tensor, size_t index, const ImOutput *output) {
    const uint64_t K = tensor->rank > 1 ? (uint64_t)tensor->shape[tensor->rank - 1] : 1;
    uint64_t all = 1, at = 0;
    for (int i = 0; i < tensor->rank; i++) all *= (uint64_t)tensor->shape[i];
    all /= K;
    for (size_t i = 0; i < output->count; i++) {
        const ImPiece *piece = &output->pieces[i];
        const uint64_t rows = rows_of(output, piece, all);
        if (!piece->from || piece->factor != 1 || piece->order.kind != IM_IN_ORDER || !rows) return false;
        XpTensor *t = tensor_of(v, piece->from);
        if (t->n_runs && t->K != K) return false;
        t->K = K;
        t->rank = tensor->rank > 1 ? 2 : 1;
        add_run(v, t, (XpRun){.first = piece->first, .rows = rows, .tensor = index, .from = at});
        if (piece->plus) {
            XpTensor *plus = tensor_of(v, piece->plus);
            plus->K = plus->rank = 1;
            add_run(v, plus, (XpRun){.first = piece->plus_first, .rows = rows, .tensor = SIZE_MAX});
        }
        at += rows;
    }
    return at == all;
}

static int by_first(const void *a, const void *b) {
    const XpRun *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Runs in order, without gaps; the dtype that holds all of them. */
static bool finish(XpTensor *t, const FeTensor *tensors) {
    uint64_t at = 0;
    if (!t->n_runs) return false;
    qsort(t->runs, t->n_runs, sizeof *t->runs, by_first);
    bool first = true;
    for (size_t i = 0; i < t->n_runs; i++) {
        if (t->runs[i].first != at) return false;
        at += t->runs[i].rows;
        IrDtype dtype = t->runs[i].tensor == SIZE_MAX ? IR_F32 : tensors[t->runs[i].tensor].dtype;
        if (ir_is_blocks(dtype)) dtype = IR_F32;
        t->dtype = first || dtype == t->dtype ? dtype : IR_F32;
        first = false;
    }
    return true;
}

XpTensor *xp_invert(const ImPlan *plan, const FeTensor *tensors, size_t n_tensors, SuArena *arena, size_t *out_count,
                    SuDiags *diags) {
    Inverting v = {.plan = plan, .arena = arena};
    v.tensors = SU_NEW_ARRAY(arena, XpTensor, plan->source->n_invented);
    for (size_t i = 0; i < n_tensors; i++) {
        const ImOutput *output = im_plan_find(plan, tensors[i].name);
        if (output && add_output(&v, &tensors[i], i, output)) continue;
        su_error(diags, (SuSpan){0}, NULL, "tensor '%s' has no place in files of this family", tensors[i].name);
        return NULL;
    }
    for (size_t i = 0; i < plan->source->n_invented; i++)
        if (!finish(&v.tensors[i], tensors)) SU_BUG("tensor '%s' is not made of ours", plan->source->invented[i]->name);
    *out_count = plan->source->n_invented;
    return v.tensors;
}
