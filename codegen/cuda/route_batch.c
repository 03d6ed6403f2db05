/* PG_ROUTE for many rows: a block takes eight at a time. Their norms are made once, a warp a row; the linear layer runs as that of eight rows
 * does, the k of a panel of experts shared by SPLIT warps, with x through the norm in shared memory; then a warp makes the expert indices and
 * combine weights of a row from its scores. */
#include "codegen/cuda/kernels.h"

#include <stdio.h>

enum { ROWS = 8, CHUNK = 256 /* k that lie in shared memory at a time */ };

static void print_memory(CgCuda *c, uint64_t panels) {
    const PgKernel *k = c->kernel;
    cg_cuda_shared(c, "float", "xs", (uint64_t)CHUNK * ROWS * sizeof(float)); /* [CHUNK][8] */
    cg_cuda_shared(c, "float4", "parts", (uint64_t)c->target->threads * 16);
    cg_cuda_shared(c, "Spread", "spreads", ROWS * 2 * sizeof(float));
    cg_cuda_shared(c, "float", "scores", ROWS * panels * 64);
    cg_cuda_shared(c, "i32", "picks", ROWS * (uint64_t)k->k * sizeof(int32_t));
    if (k->expert_groups > 0) cg_cuda_shared(c, "u8", "closed", ROWS * (uint64_t)k->expert_groups);
}

static void print_norms(CgCuda *c) {
    const PgKernel *k = c->kernel;
    char eps[48];
    if (k->norm == PG_NO_NORM) return;
    cg_cu(c,
          "if (warp < rows) {\n"
          "const Spread spread = warp_spread(x, ld, row0 + warp, K, %s, %s);\n"
          "if (lane == 0) spreads[warp] = spread;\n"
          "}\n",
          cg_cuda_truth(k->norm == PG_LAYER), cg_cuda_float(k->eps, eps));
}

/* x of k0 … k0 + CHUNK, four k of a row a thread: a warp reads the 512 bytes that eight rows have of a panel. */
static void print_load(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "__syncthreads();\n"
             "for (u32 i = threadIdx.x; i < CHUNK * 2; i += THREADS) {\n"
             "const u32 r = i / 4 %% 8, at = i / 32 * 16 + i %% 4 * 4;\n"
             "float4 v = splat4(0);\n"
             "if (r < rows && k0 + at < K) v = *quad(x + element(ld, row0 + r, k0 + at));\n"
             "const float values[4] = {v.x, v.y, v.z, v.w};\n"
             "#pragma unroll\n"
             "for (u32 j = 0; j < 4; j++) {\n");
    if (k->norm == PG_NO_NORM) {
        cg_cu(c, "xs[(at + j) * 8 + r] = k0 + at + j < K ? values[j] : 0;\n");
    } else {
        cg_cu(c,
              "float normed = 0;\n"
              "if (r < rows && k0 + at + j < K) {\n"
              "normed = (values[j] - spreads[r].mean) * spreads[r].scale * norm_w[k0 + at + j]%s;\n"
              "}\n"
              "xs[(at + j) * 8 + r] = normed;\n",
              k->norm == PG_LAYER ? " + norm_b[k0 + at + j]" : "");
    }
    cg_cu(c, "}\n}\n__syncthreads();\n");
}

/* acc[8] += W · xs of the chunk; what is missing of a last four k is 0 in both. */
static void print_multiply(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "const u32 n = K - k0 < CHUNK ? K - k0 : CHUNK;\n");
    if (ir_dtype(k->dtype)->group == 1) {
        cg_cu(c, "const float4 *w_at = (const float4 *)w + (panel * K + k0) * 4 + q;\n"
                 "#pragma unroll 4\n"
                 "for (u32 i = lane / 4 + 8 * part; panel < PANELS && i < n; i += 8 * SPLIT) add_8_rows(acc, __ldg(w_at + 4 * i), "
                 "xs + 8 * i);\n");
        return;
    }
    cg_cu(c,
          "const uint4 *w_panel = panel_at<%s>(w, panel < PANELS ? panel : 0, K);\n"
          "for (u32 i = lane / 4 + 8 * part; panel < PANELS && 4 * i < n; i += 8 * SPLIT) { /* four k */\n"
          "float4 four[4];\n"
          "%s::four_of_panel(w_panel, K, k0 / 4 + i, q, four);\n"
          "#pragma unroll\n"
          "for (u32 j = 0; j < 4; j++) add_8_rows(acc, four[j], xs + 32 * i + 8 * j);\n"
          "}\n",
          cg_cuda_type(k->dtype), cg_cuda_type(k->dtype));
}

static void print_scores(CgCuda *c) {
    cg_cu(c, "for (u32 group = 0; group < GROUPS; group++) {\n"
             "const u64 panel = group * SIDE + warp / SPLIT;\n"
             "float4 acc[8] = {};\n"
             "for (u32 k0 = 0; k0 < K; k0 += CHUNK) {\n");
    print_load(c);
    print_multiply(c);
    cg_cu(c,
          "}\n"
          "float4 sum = sum_8_rows(acc); /* of row lane / 4 */\n"
          "parts[threadIdx.x] = sum;\n"
          "__syncthreads();\n"
          "for (u32 s = 1; part == 0 && s < SPLIT; s++) sum = add4(sum, parts[threadIdx.x + 32 * s]);\n"
          "if (panel < PANELS && part == 0) *quad(scores + (lane / 4 * PANELS + panel) * 16 + 4 * q) = %s;\n"
          "}\n"
          "__syncthreads();\n",
          c->kernel->bias ? "add4(sum, quad(bias + panel * 16)[q])" : "sum");
}

static void print_select(CgCuda *c, bool bias) {
    char closed[64];
    snprintf(closed, sizeof closed, "(closed + warp * %lld)", (long long)c->kernel->expert_groups);
    cg_cu(c, "{\n");
    cg_cuda_route_keys(c, "own", bias, closed, "lane", "32", "__syncwarp");
    cg_cu(c, "warp_select(keys, E, k, picks + warp * k, expert_indices + row * k);\n}\n");
}

/* As route.c's does it with a block. */
static void print_choice(CgCuda *c) {
    const PgKernel *k = c->kernel;
    char scale[48];
    cg_cu(c, "if (warp < rows) {\n"
             "const u64 row = row0 + warp;\n"
             "float *own = scores + warp * PANELS * 16;\n"
             "if (!warp_is_finite(own, E) && lane == 0) report_nonfinite(step, phase, row);\n");
    if (!k->select_bias) print_select(c, false);
    if (k->sigmoid)
        cg_cu(c, "for (u32 e = lane; e < E; e += 32) own[e] = vm_sigmoid(own[e]);\n__syncwarp();\n");
    else
        cg_cu(c, "warp_softmax(own, E);\n");
    if (k->select_bias) print_select(c, true);
    cg_cu(c, "make_combine_weights(own, expert_indices + row * k, k, %s, %s, combine_weights + row * k, lane, 32);\n}\n",
          cg_cuda_truth(k->normalize), cg_cuda_float(k->scaled ? k->scale : 1, scale));
}

void cg_cuda_route_rows(CgCuda *c) {
    const PgKernel *k = c->kernel;
    uint64_t panels = pg_panels(k->E), warps = (uint64_t)c->target->threads / 32, split = 1;
    while (split < warps && panels * split * 2 <= warps) split *= 2;
    uint64_t side = warps / split;
    cg_cu(c, "enum { E = %lld, k = %lld, K = %lld, PANELS = %llu, CHUNK = %d, SPLIT = %llu, SIDE = %llu, GROUPS = %llu };\n",
          (long long)k->E, (long long)k->k, (long long)k->K, (unsigned long long)panels, CHUNK, (unsigned long long)split,
          (unsigned long long)side, (unsigned long long)((panels + side - 1) / side));
    cg_cuda_strides(c);
    cg_cuda_route_operands(c);
    print_memory(c, panels);
    cg_cu(c, "const u32 lane = threadIdx.x %% 32, warp = threadIdx.x / 32, q = lane %% 4, part = warp %% SPLIT;\n");
    cg_cuda_tiles_of(c, ROWS, 1, 0);
    cg_cu(c, "const u64 row0 = (u64)tile * 8;\n"
             "const u32 rows = step->rows - row0 < 8 ? (u32)(step->rows - row0) : 8;\n");
    print_norms(c);
    print_scores(c);
    print_choice(c);
    cg_cuda_end_tiles(c);
}
