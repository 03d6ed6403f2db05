/* PG_SCAN: delta, the recurrence, the output, the experts' sum and the gate of one panel of 16 channels over the rows of a segment.
 *
 * Rows are taken in blocks of 16. A block of threads sees them in two ways, with i = threadIdx.x / 16 and lane = threadIdx.x % 16:
 *
 *   row i, channel `lane`        delta and the input before the states move, the gate after; delta, input and output lie in shared
 *                                memory as [row][channel], so what crosses between the two ways crosses there
 *   channel i, states `lane`,    while the states move, row by row; the sum over states is one across 16 lanes
 *   lane + 16, …
 *
 * A state stays in registers over a block of rows, over the whole segment where there is but one. With experts each in turn moves
 * its state over the rows of the block. */
#include "codegen/cuda/kernels.h"

enum { SCAN_ROWS = 16 };

typedef struct Scan {
    CgCuda *c;
    const PgKernel *k;
    bool experts; /* a state each: PG_SCAN_HOLD, PG_SCAN_UPDATE */
    bool shared_delta; /* delta does not depend on the expert */
    bool routed; /* the text knows routes and gates */
} Scan;

/* ---------------------------------------------------------------------------------------------- operands */

static void print_constants(const Scan *s) {
    const PgKernel *k = s->k;
    cg_cu(s->c, "enum { N = %lld, STATES = %lld, R = %lld, PANELS = %llu, E = %lld, k = %lld };\n", (long long)k->N,
          (long long)(k->N + 15) / 16, (long long)k->R, (unsigned long long)pg_panels(k->O), (long long)k->E, (long long)k->k);
    cg_cuda_strides(s->c);
}

static void print_pointers(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    cg_cu(c, "const float *d = floats(step, phase, %d), *b = floats(step, phase, %d), *c = floats(step, phase, %d);\n",
          PG_SCAN_DELTA, PG_SCAN_B, PG_SCAN_C);
    cg_cu(c, "const float *x = floats(step, phase, %d);\n", PG_SCAN_X);
    if (k->gate) { cg_cu(c, "const float *z = floats(step, phase, %d);\n", PG_SCAN_Z); }
    cg_cu(c, "const u8 *dt_w = operand(step, phase, %d);\nconst float *dt_b = floats(step, phase, %d);\n", PG_SCAN_DT_W,
          PG_SCAN_DT_B);
    cg_cu(c, "const float *A = floats(step, phase, %d), *D = floats(step, phase, %d);\n", PG_SCAN_A, PG_SCAN_D);
    if (s->routed) {
        cg_cu(c, "const i32 *routes = ints(step, phase, %d);\nconst float *gates = floats(step, phase, %d);\n", PG_SCAN_ROUTES,
              PG_SCAN_GATES);
    }
    if (k->dbc_layout == PG_POSITIONS && k->mode == PG_BLOCK) { cg_cuda_groups(c, PG_SCAN_GROUPS); }
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_SCAN_Y);
    cg_cuda_shared(c, "float", "deltas", SCAN_ROWS * PG_LANES * sizeof(float));
    cg_cuda_shared(c, "float", "inputs", SCAN_ROWS * PG_LANES * sizeof(float));
    cg_cuda_shared(c, "float", "outputs", SCAN_ROWS * PG_LANES * sizeof(float));
    if (s->experts) {
        cg_cuda_shared(c, "u32", "slots", SCAN_ROWS * sizeof(uint32_t));
        cg_cuda_shared(c, "float", "shares", SCAN_ROWS * sizeof(float));
        cg_cuda_shared(c, "u32", "places", SCAN_ROWS * sizeof(uint32_t));
    }
    cg_cu(c, "const u32 i = threadIdx.x / 16, lane = threadIdx.x %% 16;\n");
}

/* ---------------------------------------------------------------------------------------------- delta. In each piece of text the
 * row (or position) is `place`. */

/* float sum = W_dt · delta + b_dt of an expert (or "0"), without softplus. */
static void print_sum(const Scan *s, const char *expert, const char *plane) {
    const PgKernel *k = s->k;
    const char *matrix = k->own_dt ? expert : "0";
    cg_cu(s->c,
          "float sum = 0;\n"
          "{\n"
          "const u64 own = (u64)%s * PANELS + panel;\n"
          "const float *from = d + %s * (%llu * ld);\n"
          "for (u32 r = 0; r < R; r++) {\n"
          "sum = fmaf(weight_%s(dt_w + own * %lluull, r, lane), from[element(%s, place, %lld + r)], sum);\n"
          "}\n"
          "sum += dt_b[own * 16 + lane];\n"
          "}\n",
          matrix, plane, (unsigned long long)pg_panels(k->delta_width) * PG_LANES, cg_cuda_dtype(k->dtype),
          (unsigned long long)cg_cuda_panel_bytes(k->dtype, k->R), cg_cuda_stride(k->dbc_layout), (long long)k->delta_start);
}

/* The input of row i and, where no expert has a say, its delta. Rows past the segment's end stand still. */
static void print_inputs(const Scan *s) {
    CgCuda *c = s->c;
    cg_cu(c, "__syncthreads();\n"
             "const u32 rows = end - row0 < 16 ? end - row0 : 16;\n"
             "const u64 row = row0 + i;\n"
             "inputs[threadIdx.x] = i < rows ? x[(panel * ld + row) * 16 + lane] : 0;\n"
             "outputs[threadIdx.x] = 0;\n");
    if (s->experts && !s->shared_delta) { return; }
    cg_cu(c, "if (i < rows) {\nconst u64 place = row;\n");
    if (s->shared_delta) {
        print_sum(s, "0", "0");
        cg_cu(c, "deltas[threadIdx.x] = vm_softplus(sum);\n");
    } else {
        cg_cu(c, "float mixed = 0;\nfor (u32 j = 0; j < k; j++) {\n");
        print_sum(s, "routes[row * k + j]", "0");
        cg_cu(c, "mixed = fmaf(gates[row * k + j], sum, mixed);\n}\ndeltas[threadIdx.x] = vm_softplus(mixed);\n");
    }
    cg_cu(c, "}\n");
}

/* ---------------------------------------------------------------------------------------------- states */

/* s[] and A of `expert`, from memory to registers. */
static void print_load(const Scan *s, const char *expert) {
    const char *own_A = s->k->own_A && s->experts ? expert : "0";
    cg_cu(s->c,
          "float *state = states + %s * (u64)(PANELS * N * 16);\n"
          "const float *decay = A + (%s * (u64)PANELS + panel) * (N * 16) + i;\n"
          "float s[STATES], a[STATES];\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < STATES; m++) {\n"
          "const u32 n = lane + 16 * m;\n"
          "s[m] = n < N ? state[n * 16] : 0;\n"
          "a[m] = n < N ? decay[n * 16] : 0;\n"
          "}\n",
          expert, own_A);
}

static void print_save(const Scan *s) {
    cg_cu(s->c, "#pragma unroll\n"
                "for (u32 m = 0; m < STATES; m++) {\n"
                "if (lane + 16 * m < N) state[(lane + 16 * m) * 16] = s[m];\n"
                "}\n");
}

/* A of a row mixed by its gates, element n. */
static void print_mixed_decay(const Scan *s) {
    cg_cu(s->c, "float own = 0;\n"
                "for (u32 j = 0; j < k; j++) {\n"
                "const u64 expert = (u64)routes[(row0 + r) * k + j];\n"
                "own = fmaf(gates[(row0 + r) * k + j], A[((expert * PANELS + panel) * N + n) * 16 + i], own);\n"
                "}\n");
}

/* The states of `expert` (or of all) move over the rows of the block; what they give is added to outputs. */
static void print_moves(const Scan *s, const char *plane) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    const char *stride = cg_cuda_stride(k->dbc_layout);
    bool mixed = k->scan == PG_SCAN_PARAMS && k->own_A;
    cg_cu(c, "const float *b_plane = b + %s * (%llu * ld), *c_plane = c + %s * (%llu * ld);\n", plane,
          (unsigned long long)pg_panels(k->b_width) * PG_LANES, plane, (unsigned long long)pg_panels(k->c_width) * PG_LANES);
    cg_cu(c, "for (u32 r = 0; r < rows; r++) {\n");
    if (k->scan == PG_SCAN_HOLD) { cg_cu(c, "if (slots[r] == k) continue; /* not chosen: it stays */\n"); }
    cg_cu(c,
          "const u64 place = %s;\n"
          "const float delta = deltas[r * 16 + i], input = delta * inputs[r * 16 + i];\n"
          "float sum = 0;\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < STATES; m++) {\n"
          "const u32 n = lane + 16 * m;\n"
          "if (n < N) {\n",
          s->experts ? "places[r]" : "row0 + r");
    if (mixed) { print_mixed_decay(s); }
    cg_cu(c,
          "const float kept = vm_exp_down(delta * %s);\n"
          "s[m] = vm_cut(fmaf(kept, s[m], input * b_plane[element(%s, place, %lld + n)]));\n"
          "sum = fmaf(s[m], c_plane[element(%s, place, %lld + n)], sum);\n"
          "}\n}\n"
          "for (u32 distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);\n",
          mixed ? "own" : "a[m]", stride, (long long)k->b_start, stride, (long long)k->c_start);
    if (s->experts) {
        cg_cu(c, "if (lane == 0 && slots[r] < k) outputs[r * 16 + i] = fmaf(shares[r], sum, outputs[r * 16 + i]);\n}\n");
    } else {
        cg_cu(c, "if (lane == 0) outputs[r * 16 + i] = sum;\n}\n");
    }
}

/* ---------------------------------------------------------------------------------------------- experts */

/* Which slot of row i the expert has (k: none), its gate, where B and C lie, and its delta. */
static void print_expert_rows(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    cg_cu(c, "u32 slot = k;\n"
             "for (u32 j = 0; i < rows && j < k; j++) slot = routes[row * k + j] == e ? j : slot;\n");
    if (k->scan == PG_SCAN_HOLD) {
        cg_cu(c, "if (!__syncthreads_or(slot < k)) continue; /* nobody chose it */\n");
    } else {
        cg_cu(c, "__syncthreads();\n");
    }
    if (k->dbc_layout == PG_POSITIONS) {
        cg_cu(c, "const u64 place = slot == k ? 0 : %s;\n", k->mode == PG_ROW ? "slot" : "groups.pos_of[row * k + slot]");
    } else {
        cg_cu(c, "const u64 place = row;\n");
    }
    cg_cu(c, "if (lane == 0) {\n"
             "slots[i] = slot;\n"
             "shares[i] = slot < k ? gates[row * k + slot] : 0;\n"
             "places[i] = (u32)place;\n"
             "}\n");
    if (!s->shared_delta) {
        cg_cu(c, "if (%s) {\n", k->scan == PG_SCAN_HOLD ? "slot < k" : "i < rows");
        print_sum(s, "e", k->dbc_layout == PG_PLANES ? "e" : "0");
        cg_cu(c, "deltas[threadIdx.x] = vm_softplus(sum);\n}\n");
    }
}

static void print_experts(const Scan *s) {
    cg_cu(s->c, "for (u32 e = 0; e < E; e++) {\n");
    print_expert_rows(s);
    cg_cu(s->c, "__syncthreads();\n");
    print_load(s, "e");
    print_moves(s, s->k->dbc_layout == PG_PLANES ? "e" : "0");
    print_save(s);
    cg_cu(s->c, "}\n");
}

/* ---------------------------------------------------------------------------------------------- after */

/* D as row i sees it: of the experts, by their gates. */
static void print_skip(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    if (!s->experts && !k->own_D) {
        cg_cu(c, "const float skip = D[panel * 16 + lane];\n");
        return;
    }
    cg_cu(c,
          "float skip = 0;\n"
          "for (u32 j = 0; j < k; j++) skip = fmaf(gates[row * k + j], D[(%s * PANELS + panel) * 16 + lane], skip);\n",
          k->own_D ? "(u64)routes[row * k + j]" : "0");
}

static void print_finish(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    cg_cu(c, "__syncthreads();\nif (i < rows) {\n");
    print_skip(s);
    cg_cu(c, "float v = fmaf(skip, inputs[threadIdx.x], outputs[threadIdx.x]);\n");
    if (k->gate) { cg_cu(c, "v *= %s(z[(panel * ld + row) * 16 + lane]);\n", cg_cuda_act(k->act)); }
    cg_cu(c, "y[(panel * ld + row) * 16 + lane] = v;\n}\n");
}

void cg_cuda_scan(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Scan s = {.c = c, .k = k, .shared_delta = !k->own_dt && k->dbc_layout == PG_ROWS};
    s.experts = k->scan == PG_SCAN_HOLD || k->scan == PG_SCAN_UPDATE;
    s.routed = k->scan != PG_SCAN_PLAIN;
    if (c->target->threads != SCAN_ROWS * PG_LANES) { SU_BUG("a scan takes %d threads", SCAN_ROWS * PG_LANES); }
    print_constants(&s);
    print_pointers(&s);
    cg_cuda_tiles(c, 1);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / PANELS;\n"
          "const u64 panel = tile %% PANELS;\n"
          "const u32 end = segment->first_row + segment->count;\n"
          "float *states = state_floats(segment, phase, %d) + panel * (N * 16) + i;\n",
          PG_SCAN_STATE);
    if (!s.experts) { print_load(&s, "0"); }
    cg_cu(c, "for (u32 row0 = segment->first_row; row0 < end; row0 += 16) {\n");
    print_inputs(&s);
    if (s.experts) {
        print_experts(&s);
    } else {
        cg_cu(c, "__syncthreads();\n");
        print_moves(&s, "0");
    }
    print_finish(&s);
    cg_cu(c, "}\n");
    if (!s.experts) { print_save(&s); }
    cg_cuda_end_tiles(c);
}
