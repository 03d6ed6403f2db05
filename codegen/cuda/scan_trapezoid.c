/* PG_TRAPEZOID: the decay, the recurrence, the outputs and the gate of one panel of 16 channels of a mamba3 block over the rows of a
 * segment; codegen/llvm/scan_trapezoid.c has the formulas. 16 threads share a channel, each with every sixteenth element of its state,
 * which stay in registers while the rows go by. */
#include "codegen/cuda/kernels.h"

#include <stdio.h>

static void print_pointers(CgCuda *c) {
    const PgKernel *k = c->kernel;
    static const struct {
        const char *name;
        int slot;
    } all[] = {{"d", PG_TRAPEZOID_DELTA},       {"a", PG_TRAPEZOID_A}, {"trap", PG_TRAPEZOID_TRAP}, {"b", PG_TRAPEZOID_B},
               {"b_last", PG_TRAPEZOID_B_LAST}, {"c", PG_TRAPEZOID_C}, {"x", PG_TRAPEZOID_X},       {"D", PG_TRAPEZOID_D}};
    cg_cu(c, "enum { N = %lld, PANELS = %llu, OF_HEAD = %lld, AT_ONCE = %lld, RANKS = %lld };\n", (long long)k->N,
          (unsigned long long)pg_panels(k->O), (long long)(k->times / PG_LANES), (long long)(k->N / PG_LANES),
          (long long)pg_ranks(k));
    cg_cuda_strides(c);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cg_cu(c, "const float *%s = floats(step, phase, %d);\n", all[i].name, all[i].slot);
    if (k->gate) cg_cu(c, "const float *z = floats(step, phase, %d);\n", PG_TRAPEZOID_Z);
    if (k->mimo) cg_cu(c, "const float *mimo_x = floats(step, phase, %d);\n", PG_TRAPEZOID_MIMO_X);
    if (k->mimo && k->gate)
        cg_cu(c, "const float *mimo_z = floats(step, phase, %d), *mimo_o = floats(step, phase, %d);\n", PG_TRAPEZOID_MIMO_Z,
              PG_TRAPEZOID_MIMO_O);
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_TRAPEZOID_Y);
    cg_cuda_words(c);
    cg_cuda_shared(c, "float", "lane_parts", (uint64_t)c->target->threads * sizeof(float));
}

/* " * mimo_x[…]" of rank r and this channel; nothing without MIMO. */
static const char *spread(const PgKernel *k, const char *name, char out[64]) {
    out[0] = '\0';
    if (k->mimo) snprintf(out, 64, " * %s[(r * PANELS + panel) * 16 + channel]", name);
    return out;
}

/* Element n of the head's B or C of rank r and the row. */
static const char *element(const char *name, char out[96], const PgKernel *k) {
    snprintf(out, 96, "%s[r * (%llu * ld) + element(ld, row, head * N + n)]", name,
             (unsigned long long)(k->O / k->times * k->N)); /* whole panels */
    return out;
}

static void print_scalars(CgCuda *c) {
    char low[48];
    cg_cu(c,
          "const float delta = d[element(ld, row, head)], part = trap[element(ld, row, head)];\n"
          "const float alpha = vm_exp(-raised(%s(a[element(ld, row, head)]), %s) * delta);\n"
          "const float gamma = vm_sigmoid(part) * delta, beta = vm_sigmoid(-part) * delta * alpha;\n",
          cg_cuda_act(c->kernel->act), cg_cuda_float(c->kernel->low, low));
}

static void print_move(CgCuda *c) {
    char mx[64], last[96], now[96];
    spread(c->kernel, "mimo_x", mx);
    cg_cu(c,
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) {\n"
          "const u32 n = lane + 16 * m;\n"
          "float sum = 0;\n"
          "for (u64 r = 0; r < RANKS; r++) sum = fmaf(x_before%s * beta, %s, sum);\n"
          "for (u64 r = 0; r < RANKS; r++) sum = fmaf(x_row%s * gamma, %s, sum);\n"
          "s[m] = vm_cut(fmaf(alpha, s[m], sum));\n"
          "}\n",
          mx, element("b_last", last, c->kernel), mx, element("b", now, c->kernel));
}

static void print_outputs(CgCuda *c) {
    const PgKernel *k = c->kernel;
    char mx[64], mz[64], mo[64], at[96];
    cg_cu(c, "float total = 0;\n"
             "for (u64 r = 0; r < RANKS; r++) {\n"
             "float moved = 0;\n"
             "#pragma unroll\n"
             "for (u32 m = 0; m < AT_ONCE; m++) {\n"
             "const u32 n = lane + 16 * m;\n");
    cg_cu(c, "moved = fmaf(s[m], %s, moved);\n}\n", element("c", at, k));
    cg_cu(c, "moved = sum_of_sixteen(moved, lane_parts) + x_row%s * D[panel * 16 + channel];\n", spread(k, "mimo_x", mx));
    if (k->gate)
        cg_cu(c, "moved = moved * vm_silu(z[out]%s)%s;\ntotal = r == 0 ? moved : total + moved;\n}\nif (lane == 0) {\n",
              spread(k, "mimo_z", mz), spread(k, "mimo_o", mo));
    else
        cg_cu(c, "if (lane > 0) continue;\n");
    cg_cuda_put(c, k->gate ? "" : "r * (PANELS * 16 * ld)", "ld", "out", "row", "panel * 16 + channel",
                k->gate ? "total" : "moved");
    cg_cu(c, "}\n");
}

void cg_cuda_trapezoid(CgCuda *c) {
    if (c->target->threads != 256) SU_BUG("a scan takes 256 threads");
    print_pointers(c);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
          "const u32 channel = threadIdx.x %% 16, lane = threadIdx.x / 16, head = panel / OF_HEAD;\n"
          "float *state = state_floats(segment, phase, %d) + panel * (N * 16) + channel;\n"
          "float *history = state_floats(segment, phase, %d) + panel * 16 + channel, x_before = *history;\n"
          "float s[AT_ONCE];\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) s[m] = state[(lane + 16 * m) * 16];\n"
          "for (u64 row = segment->first_row; row < end; row++) {\n"
          "const u64 out = (panel * ld + row) * 16 + channel;\n"
          "const float x_row = x[out];\n",
          PG_TRAPEZOID_STATE, PG_TRAPEZOID_HISTORY);
    print_scalars(c);
    print_move(c);
    print_outputs(c);
    cg_cu(c, "x_before = x_row;\n}\n"
             "__syncthreads(); /* all threads of a channel have read its history */\n"
             "if (lane == 0) *history = x_before;\n"
             "#pragma unroll\n"
             "for (u32 m = 0; m < AT_ONCE; m++) state[(lane + 16 * m) * 16] = s[m];\n");
    cg_cuda_end_tiles(c);
}
