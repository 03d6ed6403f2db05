/* A plan the other way round: of which rows of its outputs the tensors that it takes consist. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "import/export/export.h"

static XpTensor *tensor_of(XpJob *job, const ImTensor *named) {
    XpTensor *t = &job->theirs[named->number];
    t->named = named;
    return t;
}

static void add_run(XpJob *job, XpTensor *t, XpRun run) {
    t->runs = su_grow(&job->arena, t->runs, &t->runs_capacity, t->n_runs + 1, sizeof *t->runs);
    t->runs[t->n_runs++] = run;
    if (run.first + run.rows > t->rows) t->rows = run.first + run.rows;
}

static void add_ones(XpJob *job, XpRun run) {
    job->ones = su_grow(&job->arena, job->ones, &job->ones_capacity, job->n_ones + 1, sizeof *job->ones);
    job->ones[job->n_ones++] = run;
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

static bool add_output(XpJob *job, size_t index, const ImOutput *output) {
    const FeTensor *tensor = &job->tensors[index];
    const uint64_t K = tensor->rank > 1 ? (uint64_t)tensor->shape[tensor->rank - 1] : 1;
    uint64_t all = 1, at = 0;
    for (int i = 0; i < tensor->rank; i++) all *= (uint64_t)tensor->shape[i];
    all /= K;
    for (size_t i = 0; i < output->count; i++) {
        const ImPiece *piece = &output->pieces[i];
        const uint64_t rows = rows_of(output, piece, all);
        if (piece->factor != 1 || piece->order.kind != IM_IN_ORDER || !rows) return false;
        if (piece->from) {
            XpTensor *t = tensor_of(job, piece->from);
            if (t->n_runs && t->K != K) return false;
            t->K = K;
            t->rank = tensor->rank > 1 ? 2 : 1;
            add_run(job, t, (XpRun){.first = piece->first, .rows = rows, .tensor = index, .from = at});
        } else {
            add_ones(job, (XpRun){.rows = rows, .tensor = index, .from = at});
        }
        if (piece->plus) {
            XpTensor *plus = tensor_of(job, piece->plus);
            plus->K = plus->rank = 1;
            add_run(job, plus, (XpRun){.first = piece->plus_first, .rows = rows, .tensor = SIZE_MAX});
        }
        at += rows;
    }
    return at == all;
}

static int by_first(const void *a, const void *b) {
    const XpRun *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* How many experts a tensor holds all rows of; 1: it holds no tensor of experts, or one expert of it. */
static uint64_t experts_of(const XpTensor *t, const FeTensor *tensors) {
    const FeTensor *of = t->runs[0].tensor == SIZE_MAX ? NULL : &tensors[t->runs[0].tensor];
    if (!of || of->rank != 3) return 1;
    uint64_t rows = 0;
    for (size_t i = 0; i < t->n_runs; i++) rows += t->runs[i].tensor == t->runs[0].tensor ? t->runs[i].rows : 0;
    return rows == (uint64_t)(of->shape[0] * of->shape[1]) ? (uint64_t)of->shape[0] : 1;
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
    t->experts = experts_of(t, tensors);
    if (t->experts > 1) t->rank = 3;
    return true;
}

bool xp_invert(XpJob *job) {
    const ImPlan *plan = &job->plan;
    job->n_theirs = plan->source->n_invented;
    job->theirs = SU_NEW_ARRAY(&job->arena, XpTensor, job->n_theirs);
    for (size_t i = 0; i < job->n_tensors; i++) {
        const ImOutput *output = im_plan_find(plan, job->tensors[i].name);
        if (output && add_output(job, i, output)) continue;
        return su_error(job->diags, (SuSpan){0}, NULL, "tensor '%s' has no place in files of this family", job->tensors[i].name);
    }
    for (size_t i = 0; i < job->n_theirs; i++)
        if (!finish(&job->theirs[i], job->tensors)) SU_BUG("tensor '%s' is not made of ours", plan->source->invented[i]->name);
    return true;
}
