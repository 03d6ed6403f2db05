/* The scan of rows side by side: a thread takes a channel of a sequence, in steps of one row 16 threads do, with every sixteenth
 * product of delta and element of the state each. Nothing is kept between rows. A warp reads 64 bytes in a row wherever it reads;
 * what a thread needs of a state comes in AT_ONCE loads that do not wait for each other. */
#include "codegen/cuda/scan.h"

enum { MOST_AT_ONCE = 8 };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---------------------------------------------------------------------------------------------- delta */

/* float sum = W_dt · δ + b_dt of an expert (or "0"), without softplus, for the row or position `place`. */
static void print_sum(const Scan *s, const char *expert, const char *plane) {
    const PgKernel *k = s->k;
    cg_cu(s->c,
          "float sum = 0;\n"
          "{\n"
          "const u64 own = (u64)%s * PANELS + panel;\n"
          "const float shift = dt_b[own * 16 + channel];\n"
          "const u8 *w = dt_w + own * %lluull;\n"
          "const float *from = d + %s * (%llu * ld);\n"
          "#pragma unroll 8\n"
          "for (u32 r = lane; r < R; r += LANES) {\n"
          "sum = fmaf(%s::weight(w, R, r, channel), from[element(%s, place, %lld + r)], sum);\n"
          "}\n",
          k->own_dt ? expert : "0", (unsigned long long)ir_panel_bytes(k->dtype, k->R), plane,
          (unsigned long long)cg_scan_plane(k->delta_width), cg_cuda_type(k->dtype), cg_cuda_stride(k->dbc_layout),
          (long long)k->delta_start);
    if (k->mode == PG_ROW) cg_cu(s->c, "sum = sum_of_sixteen(sum, lane_parts);\n");
    cg_cu(s->c, "sum += shift;\n}\n");
}

static void print_delta(const Scan *s, const char *expert, const char *plane) {
    if (!s->mixed_delta) {
        print_sum(s, expert, plane);
        cg_cu(s->c, "const float delta = fast_softplus(sum);\n");
        return;
    }
    cg_cu(s->c, "float mixed = 0;\nfor (u32 j = 0; j < k; j++) {\n");
    print_sum(s, "expert_indices[row * k + j]", "0");
    cg_cu(s->c, "mixed = fmaf(combine_weights[row * k + j], sum, mixed);\n}\nconst float delta = fast_softplus(mixed);\n");
}

/* ---------------------------------------------------------------------------------------------- states */

/* float decay: A_n of the row, mixed or as it is. */
static void print_decay(const Scan *s, const char *own_A) {
    if (!s->mixed_A) {
        cg_cu(s->c, "decay[m] = A[((%s * PANELS + panel) * N + n) * 16 + channel];\n", own_A);
        return;
    }
    cg_cu(s->c, "for (u32 j = 0; j < k; j++) {\n"
                "const u64 expert = (u64)expert_indices[row * k + j];\n"
                "decay[m] = fmaf(combine_weights[row * k + j], A[((expert * PANELS + panel) * N + n) * 16 + channel], decay[m]);\n"
                "}\n");
}

/* Where the states of `expert` lie, and its B and C. */
static void print_states(const Scan *s, const char *expert, const char *plane) {
    cg_cu(s->c,
          "float *state = states + %s * (u64)(PANELS * N * 16);\n"
          "const float *b_at = b + %s * (%llu * ld), *c_at = c + %s * (%llu * ld);\n",
          expert, plane, (unsigned long long)cg_scan_plane(s->k->b_width), plane, (unsigned long long)cg_scan_plane(s->k->c_width));
}

/* The elements n0, n0 + LANES …, AT_ONCE of them, and what they move by. */
static void print_loads(const Scan *s, const char *expert) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    const char *stride = cg_cuda_stride(k->dbc_layout);
    cg_cu(c,
          "float old[AT_ONCE] = {}, decay[AT_ONCE] = {}, bs[AT_ONCE] = {}, cs[AT_ONCE] = {};\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) {\n"
          "const u32 n = n0 + LANES * m;\n"
          "if (n >= N) break;\n"
          "old[m] = state[n * 16];\n"
          "bs[m] = b_at[element(%s, place, %lld + n)];\n"
          "cs[m] = c_at[element(%s, place, %lld + n)];\n",
          stride, (long long)k->b_start, stride, (long long)k->c_start);
    print_decay(s, k->own_A && s->experts ? expert : "0");
    cg_cu(c, "}\n");
}

/* What becomes of them: they move, and `moved` grows by what they give. */
static void print_moves(const Scan *s) {
    cg_cu(s->c,
          "#pragma unroll\n"
          "for (u32 m = 0; m < AT_ONCE; m++) {\n"
          "const u32 n = n0 + LANES * m;\n"
          "if (n >= N) break;\n"
          "const float s = vm_cut(fmaf(FAST_EXP2(delta * (decay[m] * LOG2_E)), old[m], delta * input * bs[m]%s));\n"
          "state[n * 16] = s;\n"
          "moved = fmaf(s, cs[m], moved);\n"
          "}\n",
          s->k->zoh ? " * vm_zoh(delta * decay[m])" : "");
}

/* One row whose states a thread loads in one go: before the barriers that lead to delta, which nothing can be moved over. */
static bool loads_first(const Scan *s) { return s->k->mode == PG_ROW && !s->experts && s->k->N <= PG_LANES * MOST_AT_ONCE; }

/* float moved: what the states of `expert` give after they have moved by the row. */
static void print_move(const Scan *s, const char *expert, const char *plane) {
    CgCuda *c = s->c;
    cg_cu(c, "float moved = 0;\n");
    if (loads_first(s)) {
        print_moves(s);
    } else {
        print_states(s, expert, plane);
        cg_cu(c, "#pragma unroll 1\n"
                 "for (u32 n0 = lane; n0 < N; n0 += LANES * AT_ONCE) {\n");
        print_loads(s, expert);
        print_moves(s);
        cg_cu(c, "}\n");
    }
    if (s->k->mode == PG_ROW) cg_cu(c, "moved = sum_of_sixteen(moved, lane_parts);\n");
}

/* ---------------------------------------------------------------------------------------------- experts */

static void print_place(const Scan *s) {
    if (s->k->dbc_layout != PG_POSITIONS)
        cg_cu(s->c, "const u64 place = row;\n");
    else
        cg_cu(s->c, "const u64 place = %s;\n", s->k->mode == PG_ROW ? "slot" : "groups.pos_of[row * k + slot]");
}

/* The chosen experts of the row, or all where all move. */
static void print_experts(const Scan *s) {
    CgCuda *c = s->c;
    const char *plane = s->k->dbc_layout == PG_PLANES ? "expert" : "0";
    bool all = s->k->scan == PG_SCAN_UPDATE;
    if (all) {
        cg_cu(c, "for (u32 expert = 0; expert < E; expert++) {\n");
        cg_scan_slot(s, "expert");
    } else {
        cg_cu(c, "for (u32 slot = 0; slot < k; slot++) {\nconst u64 expert = expert_indices[row * k + slot];\n");
    }
    print_place(s);
    if (s->own_delta) print_delta(s, "expert", plane);
    print_move(s, "expert", plane);
    cg_cu(c, "%stotal = fmaf(combine_weights[row * k + slot], moved, total);\n}\n", all ? "if (slot < k) " : "");
}

static void print_row(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    cg_cu(c, "const u64 at = (panel * ld + row) * 16 + channel;\nconst float input = x[at];\n");
    if (k->gate) cg_cu(c, "const float gate = z[at];\n");
    cg_scan_skip(s);
    if (!s->own_delta) {
        cg_cu(c, "const u64 place = row;\n");
        if (loads_first(s)) {
            print_states(s, "0", "0");
            cg_cu(c, "const u32 n0 = lane;\n");
            print_loads(s, "0");
        }
        print_delta(s, "0", "0");
    }
    if (s->experts) {
        cg_cu(c, "float total = 0;\n");
        print_experts(s);
    } else {
        print_move(s, "0", "0");
    }
    if (k->mode == PG_ROW) cg_cu(c, "if (lane > 0) continue;\n");
    cg_cu(c, "float v = fmaf(skip, input, %s);\n", s->experts ? "total" : "moved");
    if (k->gate) cg_cu(c, "v *= %s(gate);\n", cg_scan_act(k));
    cg_cuda_put(c, "", "ld", "at", "row", "panel * 16 + channel", "v");
}

void cg_scan_decode(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    bool alone = k->mode == PG_ROW;
    int64_t lanes = alone ? PG_LANES : 1;
    cg_cu(c, "enum { LANES = %lld, AT_ONCE = %lld, SIDE = THREADS / 16 / LANES };\n", (long long)lanes,
          (long long)smaller((k->N + lanes - 1) / lanes, MOST_AT_ONCE));
    if (alone) cg_cuda_shared(c, "float", "lane_parts", (uint64_t)c->target->threads * sizeof(float));
    cg_cu(c,
          "const u32 channel = threadIdx.x %% 16, lane = threadIdx.x / 16 %% LANES;\n"
          "const u32 tiles = (step->n_segments + SIDE - 1) / SIDE * PANELS;\n"
          "for (u32 tile = first; tile < tiles; tile += gridDim.x) {\n"
          "const u64 panel = tile %% PANELS;\n"
          "const u32 sequence = tile / PANELS * SIDE + threadIdx.x / (16 * LANES);\n"
          "if (sequence >= step->n_segments) continue;\n"
          "const Segment *segment = step->segments + sequence;\n"
          "float *states = state_floats(segment, phase, %d) + panel * (N * 16) + channel;\n",
          PG_SCAN_STATE);
    if (alone)
        cg_cu(c, "const u64 row = 0;\n{\n");
    else
        cg_cu(c, "for (u64 row = segment->first_row; row < segment->first_row + segment->count; row++) {\n");
    print_row(s);
    cg_cu(c, "}\n}\nreturn tiles;\n");
}
