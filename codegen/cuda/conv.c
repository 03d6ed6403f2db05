/* PG_CONV: the causal convolution of one panel of channels over the rows of a segment. A thread takes a channel and every
 * sixteenth row or so: all inputs are there already, those before the segment in the sequence's history. */
#include "codegen/cuda/kernels.h"

/* float w of tap t (and of the bias) for the row at hand. */
static void print_weight(CgCuda *c) {
    const PgKernel *k = c->kernel;
    if (k->per_expert) {
        cg_cu(c, "float w = 0;\n"
                 "for (u32 j = 0; j < TERMS; j++) {\n"
                 "const u64 own = (u64)routes[row * TERMS + j] * PANELS + panel;\n"
                 "w = fmaf(gates[row * TERMS + j], weights[(own * TAPS + t) * 16 + lane], w);\n"
                 "}\n");
    } else if (k->mixed) {
        cg_cu(c, "const float w = weights[((panel * ld + row) * TAPS + t) * 16 + lane];\n");
    } else {
        cg_cu(c, "const float w = weights[(panel * TAPS + t) * 16 + lane];\n");
    }
}

static void print_bias(CgCuda *c) {
    if (!c->kernel->per_expert) {
        cg_cu(c, "v += bias[panel * 16 + lane];\n");
        return;
    }
    cg_cu(c, "for (u32 j = 0; j < TERMS; j++) {\n"
             "const u64 own = (u64)routes[row * TERMS + j] * PANELS + panel;\n"
             "v = fmaf(gates[row * TERMS + j], bias[own * 16 + lane], v);\n"
             "}\n");
}

static void print_rows(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "for (i32 i = threadIdx.x / 16; i < count; i += THREADS / 16) {\n"
             "const u64 row = segment->first_row + i, at = (panel * ld + row) * 16 + lane;\n"
             "float v = 0;\n"
             "for (i32 t = 0; t < TAPS; t++) { /* the oldest first */\n"
             "const i32 back = TAPS - 1 - t;\n");
    print_weight(c);
    if (k->taps > 1) {
        cg_cu(c, "v = fmaf(w, i < back ? history[(TAPS - 1 + i - back) * 16] : x[at - back * 16], v);\n}\n");
    } else {
        cg_cu(c, "v = fmaf(w, x[at], v);\n}\n");
    }
    if (k->bias) { print_bias(c); }
    cg_cu(c, "y[at] = %s(v);\n}\n", cg_cuda_act(k->act));
}

/* The last inputs of the segment, and where it is short the newest of before, become the history. */
static void print_history(CgCuda *c) {
    cg_cu(c, "const i32 t = threadIdx.x / 16, from = count + t - (TAPS - 1);\n"
             "float kept = 0;\n"
             "if (t < TAPS - 1) {\n"
             "kept = from < 0 ? history[(TAPS - 1 + from) * 16] : x[(panel * ld + segment->first_row + from) * 16 + lane];\n"
             "}\n"
             "__syncthreads();\n"
             "if (t < TAPS - 1) history[t * 16] = kept;\n");
}

void cg_cuda_conv(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "enum { PANELS = %llu, TAPS = %lld, TERMS = %lld };\n", (unsigned long long)pg_panels(k->O), (long long)k->taps,
          (long long)k->k);
    cg_cuda_strides(c);
    cg_cu(c, "const float *x = floats(step, phase, %d), *weights = floats(step, phase, %d);\n", PG_CONV_X, PG_CONV_W);
    if (k->bias) { cg_cu(c, "const float *bias = floats(step, phase, %d);\n", PG_CONV_BIAS); }
    if (k->per_expert) {
        cg_cu(c, "const i32 *routes = ints(step, phase, %d);\nconst float *gates = floats(step, phase, %d);\n", PG_CONV_ROUTES,
              PG_CONV_GATES);
    }
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_CONV_Y);
    cg_cuda_tiles(c, 1);
    cg_cu(c, "const Segment *segment = step->segments + tile / PANELS;\n"
             "const u64 panel = tile %% PANELS;\n"
             "const u32 lane = threadIdx.x %% 16;\n"
             "const i32 count = (i32)segment->count;\n");
    if (k->taps > 1) {
        cg_cu(c, "float *history = state_floats(segment, phase, %d) + panel * ((TAPS - 1) * 16) + lane;\n", PG_CONV_HISTORY);
    }
    print_rows(c);
    if (k->taps > 1) { print_history(c); }
    cg_cuda_end_tiles(c);
}
