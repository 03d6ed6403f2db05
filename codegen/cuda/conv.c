/* PG_CONV: the causal convolution of one panel of channels over the rows of a segment. All inputs are there already, those
 * before the segment in the sequence's history.
 *
 * A thread takes four channels of every 64th row, 16 bytes at a time, with their weights in registers; where weights are mixed for
 * each row it takes a channel and every 16th row. In a launch of its own SLICES blocks share a segment's rows. The first of them alone
 * reads and writes the history: it lies before the others' rows, which are more than there are taps. */
#include "codegen/cuda/kernels.h"

enum {
    SLICES = 8,
    SLICE_ROWS = 64, /* at least: a row for each four threads */
    MOST_TAPS = 8    /* whose weights lie in registers */
};

/* float w of tap t (and of the bias) for the row at hand. */
static void print_weight(CgCuda *c) {
    const PgKernel *k = c->kernel;
    if (k->per_expert) {
        cg_cu(c, "float w = 0;\n"
                 "for (u32 j = 0; j < TERMS; j++) {\n"
                 "const u64 own = (u64)expert_indices[row * TERMS + j] * PANELS + panel;\n"
                 "w = fmaf(combine_weights[row * TERMS + j], weights[(own * TAPS + t) * 16 + lane], w);\n"
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
             "const u64 own = (u64)expert_indices[row * TERMS + j] * PANELS + panel;\n"
             "v = fmaf(combine_weights[row * TERMS + j], bias[own * 16 + lane], v);\n"
             "}\n");
}

/* Four channels a thread. */
static void print_quads(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "const u32 q = threadIdx.x %% 4;\n"
             "float4 w[TAPS];\n"
             "#pragma unroll\n"
             "for (u32 t = 0; t < TAPS; t++) w[t] = quad(weights + (panel * TAPS + t) * 16)[q];\n");
    if (k->bias) cg_cu(c, "const float4 shift = quad(bias + panel * 16)[q];\n");
    cg_cu(c, "#pragma unroll 2\n"
             "for (i32 i = first_row + threadIdx.x / 4; i < past_row; i += THREADS / 4) {\n"
             "const float4 *at = quad(x + (panel * ld + segment->first_row + i) * 16) + q;\n"
             "float4 v = splat4(0);\n"
             "#pragma unroll\n"
             "for (i32 t = 0; t < TAPS; t++) { /* the oldest first */\n"
             "const i32 back = TAPS - 1 - t;\n");
    if (k->taps > 1)
        cg_cu(c, "v = fma4(w[t], i < back ? quad(history + (TAPS - 1 + i - back) * 16)[q] : at[-4 * back], v);\n}\n");
    else
        cg_cu(c, "v = fma4(w[t], *at, v);\n}\n");
    if (k->bias) cg_cu(c, "v = add4(v, shift);\n");
    if (k->act != PG_NO_ACT) cg_cu(c, "v = EACH4(%s, v);\n", k->act == PG_SILU ? "fast_silu" : cg_cuda_act(k->act));
    cg_cu(c, "const u64 row = segment->first_row + i;\n");
    cg_cuda_put_quad(c, "", "ld", "(panel * ld + row) * 16 + 4 * q", "row", "panel", "v");
    cg_cu(c, "}\n");
}

static void print_rows(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "for (i32 i = first_row + threadIdx.x / 16; i < past_row; i += THREADS / 16) {\n"
             "const u64 row = segment->first_row + i, at = (panel * ld + row) * 16 + lane;\n"
             "float v = 0;\n"
             "for (i32 t = 0; t < TAPS; t++) { /* the oldest first */\n"
             "const i32 back = TAPS - 1 - t;\n");
    print_weight(c);
    if (k->taps > 1)
        cg_cu(c, "v = fmaf(w, i < back ? history[(TAPS - 1 + i - back) * 16 + lane] : x[at - back * 16], v);\n}\n");
    else
        cg_cu(c, "v = fmaf(w, x[at], v);\n}\n");
    if (k->bias) print_bias(c);
    if (k->act != PG_NO_ACT) cg_cu(c, "v = %s(v);\n", cg_cuda_act(k->act));
    cg_cuda_put(c, "", "ld", "at", "row", "panel * 16 + lane", "v");
    cg_cu(c, "}\n");
}

/* The last inputs of the segment, and where it is short the newest of before, become the history. */
static void print_history(CgCuda *c) {
    cg_cu(c, "const i32 t = threadIdx.x / 16, from = count + t - (TAPS - 1);\n"
             "float kept = 0;\n"
             "if (t < TAPS - 1) {\n"
             "kept = from < 0 ? history[(TAPS - 1 + from) * 16 + lane] : x[(panel * ld + segment->first_row + from) * 16 + lane];\n"
             "}\n"
             "__syncthreads();\n"
             "if (t < TAPS - 1) history[t * 16 + lane] = kept;\n");
}

void cg_cuda_conv(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "enum { PANELS = %llu, TAPS = %lld, TERMS = %lld, SLICES = %d, SLICE_ROWS = %d };\n",
          (unsigned long long)pg_panels(k->O), (long long)k->taps, (long long)k->k, SLICES, SLICE_ROWS);
    cg_cuda_strides(c);
    cg_cu(c, "const float *x = floats(step, phase, %d), *weights = floats(step, phase, %d);\n", PG_CONV_X, PG_CONV_W);
    if (k->bias) cg_cu(c, "const float *bias = floats(step, phase, %d);\n", PG_CONV_BIAS);
    if (k->per_expert) {
        cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\nconst float *combine_weights = floats(step, phase, %d);\n",
              PG_CONV_EXPERTS, PG_CONV_COMBINE_W);
    }
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_CONV_Y);
    cg_cuda_words(c);
    bool sliced = c->form == CG_MANY && k->taps <= SLICE_ROWS, mixed = k->per_expert || k->mixed;
    cg_cuda_tiles(c, sliced ? SLICES : 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / (PANELS%s);\n"
          "const u64 panel = tile%s %% PANELS;\n"
          "const u32 lane = threadIdx.x %% 16;\n"
          "const i32 count = (i32)segment->count;\n",
          sliced ? " * SLICES" : "", sliced ? " / SLICES" : "");
    if (sliced) {
        cg_cu(
            c,
            "const i32 size = count > SLICES * SLICE_ROWS ? (count + SLICES - 1) / SLICES : SLICE_ROWS;\n"
            "const i32 first_row = (i32)(tile %% SLICES) * size, past_row = count - first_row < size ? count : first_row + size;\n"
            "if (first_row >= count) continue;\n");
    } else {
        cg_cu(c, "const i32 first_row = 0, past_row = count;\n");
    }
    if (k->taps > 1) cg_cu(c, "float *history = state_floats(segment, phase, %d) + panel * ((TAPS - 1) * 16);\n", PG_CONV_HISTORY);
    if (mixed || k->taps > MOST_TAPS)
        print_rows(c);
    else
        print_quads(c);
    if (k->taps > 1) {
        if (sliced) cg_cu(c, "if (first_row > 0) continue;\n");
        print_history(c);
    }
    cg_cuda_end_tiles(c);
}
