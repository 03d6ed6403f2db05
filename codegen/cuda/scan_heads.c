/* PG_HEADS: the decay, the recurrence, the output and the gate of one panel of 16 channels over the rows of a segment, where all
 * channels of a head share a time step, and all elements of a channel's state a decay. 16 threads share a channel; each keeps every
 * sixteenth element of its state in registers while the rows go by. */
#include "codegen/cuda/kernels.h"

#include <math.h>

static void print_pointers(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "enum { N = %lld, PANELS = %llu, O = %lld, P = %lld, OF_GROUP = %lld, AT_ONCE = %lld };\n", (long long)k->N,
          (unsigned long long)pg_panels(k->O), (long long)k->O, (long long)k->times, (long long)(k->O / k->groups),
          (long long)((k->N + 15) / 16));
    cg_cuda_strides(c);
    cg_cu(c, "const float *d = floats(step, phase, %d), *b = floats(step, phase, %d), *c = floats(step, phase, %d);\n",
          PG_HEADS_DELTA, PG_HEADS_B, PG_HEADS_C);
    cg_cu(c, "const float *x = floats(step, phase, %d), *A = floats(step, phase, %d), *D = floats(step, phase, %d);\n", PG_HEADS_X,
          PG_HEADS_A, PG_HEADS_D);
    if (k->gate) cg_cu(c, "const float *z = floats(step, phase, %d);\n", PG_HEADS_Z);
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_HEADS_Y);
    cg_cuda_shared(c, "float", "lane_parts", (uint64_t)c->target->threads * sizeof(float));
}

/* float decay and input of the row. */
static void print_input(CgCuda *c) {
    const PgKernel *k = c->kernel;
    char low[48], high[48];
    cg_cu(c, "const u64 at = (panel * ld + row) * 16 + channel;\nfloat delta = d[element(ld, row, head)];\n");
    if (k->limited) cg_cu(c, "delta = raised(delta, %s);\n", cg_cuda_float(k->low, low));
    if (k->limited && !isinf((float)k->high)) cg_cu(c, "delta = lowered(delta, %s);\n", cg_cuda_float(k->high, high));
    cg_cu(c, "const float v = delta * A[panel * 16 + channel], decay = vm_exp(v), x_row = x[at];\n");
    cg_cu(c, k->zoh ? "const float input = delta * vm_zoh(v) * x_row;\n" : "const float input = delta * x_row;\n");
}

void cg_cuda_heads(CgCuda *c) {
    const PgKernel *k = c->kernel;
    if (c->target->threads != 256) SU_BUG("a scan takes 256 threads");
    print_pointers(c);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
          "const u32 channel = threadIdx.x %% 16, lane = threadIdx.x / 16;\n"
          "const u32 of = panel * 16 + channel < O ? panel * 16 + channel : O - 1; /* lanes past O */\n"
          "const u32 head = of / P, group = of / OF_GROUP;\n"
          "float *state = state_floats(segment, phase, %d) + panel * (N * 16) + channel;\n"
          "float s[AT_ONCE];\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) s[m] = lane + 16 * m < N ? state[(lane + 16 * m) * 16] : 0;\n"
          "for (u64 row = segment->first_row; row < end; row++) {\n",
          PG_HEADS_STATE);
    print_input(c);
    cg_cu(c,
          "float moved = 0;\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) {\n"
          "const u32 n = lane + 16 * m;\n"
          "if (n >= N) break;\n"
          "s[m] = vm_cut(fmaf(decay, s[m], input * b[element(ld, row, %lld + group * N + n)]));\n"
          "moved = fmaf(s[m], c[element(ld, row, %lld + group * N + n)], moved);\n"
          "}\n"
          "moved = sum_of_sixteen(moved, lane_parts) + x_row * D[panel * 16 + channel];\n"
          "if (lane == 0) y[at] = moved",
          (long long)k->b_start, (long long)k->c_start);
    if (k->gate) cg_cu(c, " * %s(z[at])", cg_cuda_act(k->act));
    cg_cu(c, ";\n}\n"
             "#pragma unroll\n"
             "for (u32 m = 0; m < AT_ONCE; m++)\n"
             "if (lane + 16 * m < N) state[(lane + 16 * m) * 16] = s[m];\n");
    cg_cuda_end_tiles(c);
}
