/* PG_HEADS: the decay, the recurrence, the output and the gate of one panel of 16 channels over the rows of a segment, where all
 * channels of a head share a time step, and all elements of a channel's state a decay. 16 threads share a channel, each with every
 * sixteenth element of its state. Without experts these stay in registers while the rows go by; with experts each row moves others. */
#include "codegen/cuda/kernels.h"

#include <math.h>
#include <stdio.h>

static void print_pointers(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "enum { N = %lld, PANELS = %llu, O = %lld, P = %lld, OF_GROUP = %lld, AT_ONCE = %lld, E = %lld, k = %lld };\n",
          (long long)k->N, (unsigned long long)pg_panels(k->O), (long long)k->O, (long long)k->times, (long long)(k->O / k->groups),
          (long long)((k->N + 15) / 16), (long long)k->E, (long long)k->k);
    cg_cuda_strides(c);
    cg_cu(c, "const float *d = floats(step, phase, %d), *b = floats(step, phase, %d), *c = floats(step, phase, %d);\n",
          PG_HEADS_DELTA, PG_HEADS_B, PG_HEADS_C);
    cg_cu(c, "const float *x = floats(step, phase, %d), *A = floats(step, phase, %d), *D = floats(step, phase, %d);\n", PG_HEADS_X,
          PG_HEADS_A, PG_HEADS_D);
    if (k->gate) cg_cu(c, "const float *z = floats(step, phase, %d);\n", PG_HEADS_Z);
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_HEADS_Y);
    cg_cuda_words(c);
    if (k->scan != PG_SCAN_PLAIN)
        cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\nconst float *combine_weights = floats(step, phase, %d);\n",
              PG_HEADS_EXPERTS, PG_HEADS_COMBINE_W);
    if ((k->x_layout == PG_POSITIONS || k->dbc_layout == PG_POSITIONS) && k->mode == PG_BLOCK) cg_cuda_groups(c, PG_HEADS_GROUPS);
    cg_cuda_shared(c, "float", "lane_parts", (uint64_t)c->target->threads * sizeof(float));
}

/* Element `i` of an operand at the row's place: the row itself, the expert's plane or the chosen one's position. */
typedef struct At {
    char text[200];
} At;

static At at(const char *name, PgLayout layout, int64_t width, const char *i) {
    At a;
    const char *place = layout == PG_POSITIONS ? "position" : "row";
    if (layout == PG_PLANES)
        snprintf(a.text, sizeof a.text, "%s[expert * (%llu * ld) + element(ld, row, %s)]", name,
                 (unsigned long long)pg_panels(width) * PG_LANES, i);
    else
        snprintf(a.text, sizeof a.text, "%s[element(%s, %s, %s)]", name, cg_cuda_stride(layout), place, i);
    return a;
}

/* float `name`: the channel's element of A or D, mixed by the row's combine weights where it is the experts' and there is one state. */
static void print_parameter(CgCuda *c, const char *name, const char *from, bool own) {
    bool mixed = own && c->kernel->scan == PG_SCAN_PARAMS;
    if (!mixed) {
        cg_cu(c, "const float %s = %s[(%spanel) * 16 + channel];\n", name, from, own ? "expert * PANELS + " : "");
        return;
    }
    cg_cu(c,
          "float %s = 0;\n"
          "for (u32 j = 0; j < k; j++)\n"
          "%s = fmaf(combine_weights[row * k + j], %s[((u64)expert_indices[row * k + j] * PANELS + panel) * 16 + channel], %s);\n",
          name, name, from, name);
}

/* float decay and input of the row. */
static void print_input(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "float delta = %s;\n", at("d", k->x_layout, k->O / k->times, "head").text);
    if (k->limited) {
        cg_cu(c, "delta = ");
        cg_cuda_held(c, "delta");
        cg_cu(c, ";\n");
    }
    print_parameter(c, "rate", "A", k->own_A);
    cg_cu(c, "const float v = delta * rate, decay = vm_exp(v);\n");
    cg_cu(c, k->zoh ? "const float input = delta * vm_zoh(v) * x_row;\n" : "const float input = delta * x_row;\n");
}

/* float moved: what the state gives after it has moved by the row. `element`: where element m of this thread's lies. */
static void print_move(CgCuda *c, const char *element) {
    const PgKernel *k = c->kernel;
    char b_at[80], c_at[80];
    snprintf(b_at, sizeof b_at, "%lld + group * N + n", (long long)k->b_start);
    snprintf(c_at, sizeof c_at, "%lld + group * N + n", (long long)k->c_start);
    print_parameter(c, "skip", "D", k->own_D);
    cg_cu(c,
          "float moved = 0;\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) {\n"
          "const u32 n = lane + 16 * m;\n"
          "if (n >= N) break;\n"
          "const float now = vm_cut(fmaf(decay, %s, input * %s));\n"
          "%s = now;\n"
          "moved = fmaf(now, %s, moved);\n"
          "}\n"
          "moved = sum_of_sixteen(moved, lane_parts) + x_row * skip;\n",
          element, at("b", k->dbc_layout, k->b_width, b_at).text, element, at("c", k->dbc_layout, k->c_width, c_at).text);
}

/* float total: the chosen experts' outputs by their combine weights. */
static void print_experts(CgCuda *c) {
    const PgKernel *k = c->kernel;
    bool all = k->scan == PG_SCAN_UPDATE, positions = k->x_layout == PG_POSITIONS || k->dbc_layout == PG_POSITIONS;
    cg_cu(c, "float total = 0;\n");
    if (all)
        cg_cu(c, "for (u64 expert = 0; expert < E; expert++) {\n"
                 "u32 slot = k;\n"
                 "for (u32 j = 0; j < k; j++) slot = expert_indices[row * k + j] == expert ? j : slot;\n");
    else
        cg_cu(c, "for (u32 slot = 0; slot < k; slot++) {\nconst u64 expert = expert_indices[row * k + slot];\n");
    if (positions) cg_cu(c, "const u64 position = %s;\n", k->mode == PG_ROW ? "slot" : "groups.pos_of[row * k + slot]");
    cg_cu(c, "float *own = state + expert * (u64)(PANELS * N * 16);\n");
    print_input(c);
    print_move(c, "own[n * 16]");
    cg_cu(c, "%stotal = fmaf(combine_weights[row * k + slot], moved, total);\n}\n", all ? "if (slot < k) " : "");
}

static void print_rows(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "for (u64 row = segment->first_row; row < end; row++) {\n"
             "const u64 out = (panel * ld + row) * 16 + channel;\n"
             "const float x_row = x[out];\n");
    if (pg_experts_have_states(k)) {
        print_experts(c);
    } else {
        print_input(c);
        print_move(c, "s[m]");
        cg_cu(c, "const float total = moved;\n");
    }
    cg_cu(c, "if (lane > 0) continue;\nconst float result = total");
    if (k->gate) cg_cu(c, " * %s(z[out])", cg_cuda_act(k->act));
    cg_cu(c, ";\n");
    cg_cuda_put(c, "", "ld", "out", "row", "panel * 16 + channel", "result");
    cg_cu(c, "}\n");
}

void cg_cuda_heads(CgCuda *c) {
    const PgKernel *k = c->kernel;
    bool registers = !pg_experts_have_states(k);
    if (c->target->threads != 256) SU_BUG("a scan takes 256 threads");
    print_pointers(c);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS, end = segment->first_row + segment->count;\n"
          "const u32 channel = threadIdx.x %% 16, lane = threadIdx.x / 16;\n"
          "const u32 of = panel * 16 + channel < O ? panel * 16 + channel : O - 1; /* lanes past O */\n"
          "const u32 head = of / P, group = of / OF_GROUP;\n"
          "float *state = state_floats(segment, phase, %d) + panel * (N * 16) + channel;\n",
          PG_HEADS_STATE);
    if (registers)
        cg_cu(c, "float s[AT_ONCE];\n"
                 "#pragma unroll\n"
                 "for (u32 m = 0; m < AT_ONCE; m++) s[m] = lane + 16 * m < N ? state[(lane + 16 * m) * 16] : 0;\n");
    print_rows(c);
    if (registers)
        cg_cu(c, "#pragma unroll\n"
                 "for (u32 m = 0; m < AT_ONCE; m++)\n"
                 "if (lane + 16 * m < N) state[(lane + 16 * m) * 16] = s[m];\n");
    cg_cuda_end_tiles(c);
}
