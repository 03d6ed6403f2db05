/* PG_ROUTE, and a router in parts (PG_SOFTMAX, PG_SELECT, PG_GATES). A block takes a row at a time; its scores lie in
 * shared memory. */
#include "codegen/cuda/kernels.h"
#include "codegen/cuda/product.h"

/* Shared memory of a row's scores, of whether an expert is chosen, and of sums. */
static void print_shared(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cuda_shared(c, "float", "scores", pg_panels(k->E) * 64);
    cg_cuda_shared(c, "u8", "chosen", (uint64_t)k->E);
    if (k->expert_groups > 0) cg_cuda_shared(c, "u8", "closed", (uint64_t)k->expert_groups);
    cg_cuda_shared(c, "float", "score_parts", (uint64_t)c->target->threads / 32 * sizeof(float));
}

static void print_combine_weights(CgCuda *c) {
    char scale[48];
    cg_cu(c,
          "make_combine_weights(scores, expert_indices + row * k, k, %s, %s, combine_weights + row * k, threadIdx.x, THREADS);\n",
          cg_cuda_truth(c->kernel->normalize), cg_cuda_float(c->kernel->scaled ? c->kernel->scale : 1, scale));
}

void cg_cuda_route_keys(CgCuda *c, const char *scores, bool bias, const char *closed, const char *me, const char *count,
                        const char *sync) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "Keys keys = {%s, %s};\n", scores, bias ? "select_bias" : "nullptr");
    if (k->expert_groups == 0) return;
    cg_cu(c,
          "keys.size = %lld;\n"
          "close_runs(keys, %lld, %lld, %s, %s, %s);\n"
          "%s();\n"
          "keys.closed = %s;\n",
          (long long)(k->E / k->expert_groups), (long long)k->expert_groups, (long long)k->top_groups, closed, me, count, sync,
          closed);
}

static void print_select(CgCuda *c, bool bias) {
    cg_cu(c, "{\n");
    cg_cuda_route_keys(c, "scores", bias, "closed", "threadIdx.x", "THREADS", "__syncthreads");
    cg_cu(c, "select_experts(keys, E, k, chosen, expert_indices + row * k);\n}\n");
}

/* ---------------------------------------------------------------------------------------------- PG_ROUTE */

/* scores := W · norm(x) (+ bias), the panels of experts in turns. Rows are taken one by one in either mode. */
static void print_scores(CgCuda *c, CgProduct *p) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "const u64 row = tile;\n"
             "for (u32 group = 0; group < GROUPS; group++) {\n"
             "const u64 panel = group * SIDE + threadIdx.x / 32 / SPLIT;\n");
    cg_product_sums(p, "x", "row");
    cg_cu(c, "if (panel < PANELS && part == 0 && lane < 4) {\n*quad(scores + panel * 16 + 4 * q) = %s;\n}\n}\n__syncthreads();\n",
          k->bias ? "add4(sum, quad(bias + panel * 16)[q])" : "sum");
    cg_cu(c, "if (!scores_are_finite(scores, E) && threadIdx.x == 0) report_nonfinite(step, phase, row);\n");
}

void cg_cuda_route_operands(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "const float *x = floats(step, phase, %d);\nconst u8 *w = operand(step, phase, %d);\n", PG_ROUTE_X, PG_ROUTE_W);
    if (k->bias) cg_cu(c, "const float *bias = floats(step, phase, %d);\n", PG_ROUTE_BIAS);
    if (k->select_bias) cg_cu(c, "const float *select_bias = floats(step, phase, %d);\n", PG_ROUTE_SELECT_BIAS);
    if (k->norm != PG_NO_NORM) cg_cu(c, "const float *norm_w = floats(step, phase, %d);\n", PG_ROUTE_NORM_W);
    if (k->norm == PG_LAYER) cg_cu(c, "const float *norm_b = floats(step, phase, %d);\n", PG_ROUTE_NORM_B);
    cg_cu(c, "i32 *expert_indices = ints(step, phase, %d);\nfloat *combine_weights = floats(step, phase, %d);\n", PG_ROUTE_EXPERTS,
          PG_ROUTE_COMBINE_W);
}

void cg_cuda_route(CgCuda *c) {
    const PgKernel *k = c->kernel;
    if (c->form == CG_MANY) {
        cg_cuda_route_rows(c);
        return;
    }
    CgProduct p = cg_product_of_one_row(c, k->E, k->K, "ld");
    cg_cuda_strides(c);
    cg_cu(c, "enum { E = %lld, k = %lld };\n", (long long)k->E, (long long)k->k);
    cg_cuda_route_operands(c);
    cg_product_begin(&p);
    print_shared(c);
    cg_cuda_tiles(c, 1);
    print_scores(c, &p);
    if (!k->select_bias) print_select(c, false); /* by what the linear layer gave: different scores may squash to one */
    if (k->sigmoid)
        cg_cu(c, "for (u32 e = threadIdx.x; e < E; e += THREADS) scores[e] = vm_sigmoid(scores[e]);\n__syncthreads();\n");
    else
        cg_cu(c, "softmax(scores, E, score_parts);\n");
    if (k->select_bias) print_select(c, true);
    print_combine_weights(c);
    cg_cuda_end_tiles(c);
}

/* ---------------------------------------------------------------------------------------------- in parts */

/* For each row of the tile: its scores are taken from X. */
static void open_row(CgCuda *c) {
    const PgKernel *k = c->kernel;
    int rows = k->mode == PG_ROW ? 1 : PG_ROW_BLOCK;
    cg_cu(c, "enum { E = %lld, k = %lld };\n", (long long)k->E, (long long)k->k);
    cg_cu(c, "const u64 ld = %s;\nconst float *x = floats(step, phase, %d);\n", k->mode == PG_ROW ? "1" : "step->ld", PG_OP_X);
    print_shared(c);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "for (u64 row = tile * %d; row < tile * %d + %d && row < step->rows; row++) {\n"
          "__syncthreads();\n"
          "for (u32 e = threadIdx.x; e < E; e += THREADS) scores[e] = x[element(ld, row, e)];\n"
          "__syncthreads();\n",
          rows, rows, rows);
}

static void close_row(CgCuda *c) {
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}

static void check_scores(CgCuda *c) {
    cg_cu(c, "if (!scores_are_finite(scores, E) && threadIdx.x == 0) report_nonfinite(step, phase, row);\n");
}

void cg_cuda_softmax(CgCuda *c) {
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_OP_Y);
    open_row(c);
    check_scores(c);
    cg_cu(c, "softmax(scores, E, score_parts);\n"
             "for (u32 e = threadIdx.x; e < E; e += THREADS) y[element(ld, row, e)] = scores[e];\n");
    close_row(c);
}

void cg_cuda_select(CgCuda *c) {
    cg_cu(c, "i32 *expert_indices = ints(step, phase, %d);\n", PG_OP_EXPERTS);
    if (c->kernel->select_bias) cg_cu(c, "const float *select_bias = floats(step, phase, %d);\n", PG_OP_W);
    open_row(c);
    check_scores(c);
    print_select(c, c->kernel->select_bias);
    close_row(c);
}

void cg_cuda_gates(CgCuda *c) {
    cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\nfloat *combine_weights = floats(step, phase, %d);\n",
          PG_OP_EXPERTS, PG_OP_COMBINE_W);
    open_row(c);
    print_combine_weights(c);
    close_row(c);
}
