/* PG_SCAN: delta, the recurrence, the output, the experts' sum and the gate of one panel of 16 channels over the rows of a segment.
 *
 *   delta = softplus(W_dt δ + b_dt)        s_n = exp(delta · A_n) s_n + delta x B_n
 *   y = Σ_n s_n C_n, summed over experts by their combine weights;  out = (y + D x) · act(z)
 *
 * There are two ways to lie on the threads, and a kernel of several rows decides by the step which one it goes:
 *
 *   side by side (scan_decode.c) a thread has a channel of a sequence and loads what it needs: a row of each of many sequences
 *                                (decoding a batch), where reading states is all. One row alone is spread over all threads.
 *   walk (scan_prefill.c)        a block of threads goes through the rows of a sequence; states stay in registers, and what a row
 *                                needs is prepared in shared memory by other warps than those which move the states.
 *
 * exp(delta · A_n) is 2^(delta · (A_n log2 e)) by the special-function unit, with A_n log2 e rounded once: the relative error is
 * at most 2.4e-7 + 1.2e-7 |delta · A_n|. States are cut (vm_cut) when they are stored: the CPU's reason to do so after every row, slow
 * denormals, is none here, and the unit flushes them itself.
 *
 * Experts with states of their own are walked beside each other, in launches of their own (CG_MANY): each leaves what its rows give in
 * scratch memory, and a second launch sums it in the order of the experts. */
#include "codegen/cuda/scan.h"

#include "codegen/cuda/kernels.h"

enum {
    FINISH_GROUPS = 8, /* tiles that a segment's panel becomes when outputs of experts are summed */
    WALK_ROWS = 4 /* rows a sequence, on average, from which on they are walked */
};

/* ---------------------------------------------------------------------------------------------- operands */

static void print_constants(const Scan *s) {
    const PgKernel *k = s->k;
    cg_cu(s->c, "enum { N = %lld, R = %lld, PANELS = %llu, E = %lld, k = %lld };\n", (long long)k->N, (long long)k->R,
          (unsigned long long)pg_panels(k->O), (long long)k->E, (long long)k->k);
    cg_cuda_strides(s->c);
}

static void print_pointers(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    cg_cu(c, "const float *d = floats(step, phase, %d), *b = floats(step, phase, %d), *c = floats(step, phase, %d);\n",
          PG_SCAN_DELTA, PG_SCAN_B, PG_SCAN_C);
    cg_cu(c, "const float *x = floats(step, phase, %d);\n", PG_SCAN_X);
    if (k->gate) cg_cu(c, "const float *z = floats(step, phase, %d);\n", PG_SCAN_Z);
    cg_cu(c, "const u8 *dt_w = operand(step, phase, %d);\nconst float *dt_b = floats(step, phase, %d);\n", PG_SCAN_DT_W,
          PG_SCAN_DT_B);
    cg_cu(c, "const float *A = floats(step, phase, %d), *D = floats(step, phase, %d);\n", PG_SCAN_A, PG_SCAN_D);
    if (s->routed) {
        cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\nconst float *combine_weights = floats(step, phase, %d);\n",
              PG_SCAN_EXPERTS, PG_SCAN_COMBINE_W);
    }
    if (k->dbc_layout == PG_POSITIONS && k->mode == PG_BLOCK) cg_cuda_groups(c, PG_SCAN_GROUPS);
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_SCAN_Y);
    cg_cuda_words(c);
}

uint64_t cg_scan_plane(int64_t width) { return pg_panels(width) * PG_LANES; }

const char *cg_scan_act(const PgKernel *k) { return k->act == PG_SILU ? "fast_silu" : cg_cuda_act(k->act); }

/* ---------------------------------------------------------------------------------------------- what a row has */

void cg_scan_slot(const Scan *s, const char *expert) {
    cg_cu(s->c, "u32 slot = k;\nfor (u32 j = 0; j < k; j++) slot = expert_indices[row * k + j] == %s ? j : slot;\n", expert);
}

void cg_scan_skip(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    if (!s->experts && !k->own_D) {
        cg_cu(c, "const float skip = D[panel * 16 + channel];\n");
        return;
    }
    cg_cu(c,
          "float skip = 0;\n"
          "for (u32 j = 0; j < k; j++) skip = fmaf(combine_weights[row * k + j], D[(%s * PANELS + panel) * 16 + channel], skip);\n",
          k->own_D ? "(u64)expert_indices[row * k + j]" : "0");
}

/* ---------------------------------------------------------------------------------------------- outputs of experts */

const char *cg_scan_place(const Scan *s) {
    return s->runs ? "(panel * ldp + groups.pos_of[row * k + slot])" : "(panel * (ld * k) + row * k + slot)";
}

static void take_scratch(const Scan *s) {
    uint64_t panels = pg_panels(s->k->O), place = PG_LANES * sizeof(float);
    s->c->scratch_per_row = panels * (uint64_t)s->k->k * place;
    if (s->runs) s->c->scratch_fixed = panels * pg_position_pad(s->k->E, s->k->k) * place;
}

/* The second launch: the chosen experts' outputs, in rising order, with all that comes after. */
static void print_sums(const Scan *s) {
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    cg_cu(c, "enum { GROUPS = %d };\nconst float *terms = (const float *)step->scratch;\n", FINISH_GROUPS);
    cg_cuda_tiles(c, FINISH_GROUPS);
    cg_cu(c,
          "const Segment *segment = step->segments + tile / (GROUPS * PANELS);\n"
          "const u64 panel = tile / GROUPS %% PANELS;\n"
          "const u32 channel = threadIdx.x %% 16;\n"
          "for (u32 i = tile %% GROUPS * 16 + threadIdx.x / 16; i < segment->count; i += GROUPS * 16) {\n"
          "const u64 row = segment->first_row + i, at = (panel * ld + row) * 16 + channel;\n"
          "float sum = 0;\n"
          "for (u32 slot = 0; slot < k; slot++) sum = fmaf(combine_weights[row * k + slot], terms[%s * 16 + channel], sum);\n",
          cg_scan_place(s));
    cg_scan_skip(s);
    cg_cu(c, "float v = fmaf(skip, x[at], sum);\n");
    if (k->gate) cg_cu(c, "v *= %s(z[at]);\n", cg_scan_act(k));
    cg_cuda_put(c, "", "ld", "at", "row", "panel * 16 + channel", "v");
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}

/* ---------------------------------------------------------------------------------------------- the kernel */

static Scan scan_of(CgCuda *c) {
    const PgKernel *k = c->kernel;
    Scan s = {.c = c, .k = k};
    s.experts = pg_experts_have_states(k);
    s.routed = k->scan != PG_SCAN_PLAIN;
    s.own_delta = s.experts && (k->own_dt || k->dbc_layout != PG_ROWS);
    s.mixed_delta = k->scan == PG_SCAN_PARAMS && k->own_dt;
    s.mixed_A = k->scan == PG_SCAN_PARAMS && k->own_A;
    s.runs = k->scan == PG_SCAN_HOLD && k->dbc_layout == PG_POSITIONS;
    return s;
}

void cg_cuda_scan(CgCuda *c) {
    Scan s = scan_of(c);
    bool walked = c->form == CG_MANY || (c->form == CG_FEW && !s.experts);
    bool sums = s.experts && c->part == 1;
    if (c->target->threads != 256) SU_BUG("a scan takes 256 threads");
    print_constants(&s);
    print_pointers(&s);
    if (s.experts && c->form == CG_MANY) {
        c->parts = 2;
        take_scratch(&s);
    }
    if (c->part > 0) {
        cg_cu(c, "if (step->rows < %d * step->n_segments) return 0; /* all is done */\n", WALK_ROWS);
    } else if (walked) {
        cg_cu(c, "if (step->rows < %d * step->n_segments) {\n", WALK_ROWS);
        cg_scan_decode(&s);
        cg_cu(c, "}\n");
    } else {
        cg_scan_decode(&s);
    }
    if (sums)
        print_sums(&s);
    else if (walked)
        cg_scan_prefill(&s);
}
