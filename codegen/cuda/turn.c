/* PG_TURN: what a mamba3 block makes of B and C, a head and the rows of a segment a tile (codegen/llvm/turn.c has the formulas). A
 * thread moves an angle; then a warp takes B or C of a rank, a pair of components a thread. */
#include "codegen/cuda/kernels.h"

static void print_pointers(CgCuda *c) {
    const PgKernel *k = c->kernel;
    static const struct {
        const char *name;
        int slot;
    } read[] = {{"x", PG_TURN_X},           {"d", PG_TURN_DELTA},       {"theta", PG_TURN_THETA},  {"norm_b", PG_TURN_NORM_B},
                {"norm_c", PG_TURN_NORM_C}, {"bias_b", PG_TURN_BIAS_B}, {"bias_c", PG_TURN_BIAS_C}};
    cg_cu(c, "enum { N = %lld, H = %lld, S = %lld, G = %lld, RANKS = %lld, WIDTH = %lld };\n", (long long)k->N, (long long)k->heads,
          (long long)(k->rope_dim / 2), (long long)k->groups, (long long)pg_ranks(k), (long long)k->O);
    cg_cuda_strides(c);
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
        cg_cu(c, "const float *%s = floats(step, phase, %d);\n", read[i].name, read[i].slot);
    cg_cu(c, "float *b = floats(step, phase, %d), *b_last = floats(step, phase, %d), *q = floats(step, phase, %d);\n", PG_TURN_B,
          PG_TURN_B_LAST, PG_TURN_C);
    cg_cuda_shared(c, "float", "cosines", (uint64_t)k->rope_dim / 2 * sizeof(float));
    cg_cuda_shared(c, "float", "sines", (uint64_t)k->rope_dim / 2 * sizeof(float));
}

static void print_angles(CgCuda *c) {
    cg_cu(c, "__syncthreads();\n" /* the row before has read its own */
             "for (u32 i = threadIdx.x; i < S; i += THREADS) {\n"
             "const float angle = vm_wrap(fmaf(theta[element(ld, row, i)], d[element(ld, row, head)], angles[i]));\n"
             "angles[i] = angle;\ncosines[i] = vm_cos(angle);\nsines[i] = vm_sin(angle);\n}\n"
             "__syncthreads();\n");
}

static void print_jobs(CgCuda *c) {
    char eps[48];
    cg_cu(c,
          "for (u32 job = threadIdx.x / 32; job < 2 * RANKS; job += THREADS / 32) {\n"
          "const u32 r = job / 2, first = ((job %% 2 * RANKS + r) * G + head / (H / G)) * N;\n"
          "const bool is_b = job %% 2 == 0;\n"
          "const float *weights = is_b ? norm_b : norm_c, *bias = (is_b ? bias_b : bias_c) + r * WIDTH + head * N;\n"
          "float *to = (is_b ? b : q) + r * (WIDTH * ld), *to_last = b_last + r * (WIDTH * ld);\n"
          "const Spread spread = run_spread(x, ld, row, first, N, %s);\n"
          "for (u32 i = threadIdx.x %% 32; i < N / 2; i += 32) {\n"
          "float v0 = x[element(ld, row, first + 2 * i)] * spread.scale * weights[2 * i] + bias[2 * i];\n"
          "float v1 = x[element(ld, row, first + 2 * i + 1)] * spread.scale * weights[2 * i + 1] + bias[2 * i + 1];\n"
          "if (i < S) {\n"
          "const float t0 = v0 * cosines[i] - v1 * sines[i];\n"
          "v1 = v1 * cosines[i] + v0 * sines[i];\nv0 = t0;\n}\n"
          "const u64 at = element(ld, row, head * N + 2 * i);\n"
          "to[at] = v0;\nto[at + 1] = v1;\n"
          "if (!is_b) continue;\n"
          "float *held = history + r * WIDTH + 2 * i;\n"
          "to_last[at] = held[0];\nto_last[at + 1] = held[1];\n"
          "held[0] = v0;\nheld[1] = v1;\n"
          "}\n}\n",
          cg_cuda_float(c->kernel->eps, eps));
}

void cg_cuda_turn(CgCuda *c) {
    print_pointers(c);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / H;\n"
          "const u32 head = tile %% H;\n"
          "const u64 end = segment->first_row + segment->count;\n"
          "float *angles = state_floats(segment, phase, %d) + head * S;\n"
          "float *history = state_floats(segment, phase, %d) + head * N;\n"
          "for (u64 row = segment->first_row; row < end; row++) {\n",
          PG_TURN_ANGLE, PG_TURN_HISTORY);
    print_angles(c);
    print_jobs(c);
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}
