/* The scan as a walk: a block of threads takes a panel of a sequence (of one expert, or of a chunk of its rows) through its rows, in
 * blocks of ROWS. Some warps move the states, the others, the helpers, prepare and finish. In turn t, between two barriers,
 *
 *   helpers   fetch what rows of block t need: δ, B, C, x, z, to shared memory
 *             make delta and delta · x of block t - 1
 *             sum and gate the outputs of block t - 3
 *   movers    move the states over the rows of block t - 2
 *
 * so that nobody waits for memory and the special-function unit, which bounds a scan, is never left alone. Buffers are rings, as deep
 * as what lies in them lives. A mover has a channel (threadIdx.x % 16, so states are read in whole sectors) and S elements of its
 * state in registers; LANES of them make a channel, and leave a sum each for the helpers to add.
 *
 * Time is split (CG_MANY) where panels are too few to fill the GPU: rows are cut into chunks. The first launch does the first chunk
 * wholly, and lets the middle ones run from zero only to see where they end; since A does not change, what they would have made of
 * another start is exp(A · Σ delta) of it, so the sum of delta is all they leave beside it. The second launch puts the ends together up
 * to its chunk and does it wholly. Middle chunks are moved twice: with C chunks of T rows in all, two launches last 2 T / C rows. */
#include "codegen/cuda/scan.h"

enum {
    MOST_LANES = 8, /* of a channel: 128 movers, one warp for each scheduler; two would leave two schedulers without states */
    MOST_STATES = 16, /* of a mover; beyond, registers run out, and channels have more movers: */
    LARGE_LANES = 12, /* 192 */
    MOST_CHUNKS = 16, /* of a sequence */
    LEAST_CHUNK = 128, /* rows */
    STAGED_R = 192, /* most elements of δ that go through shared memory */
    TENSOR_R = 128, /* most that tensor cores take: W_dt lies in registers */
    RING = 4
};

static uint64_t up_to(uint64_t n, uint64_t step) { return (n + step - 1) / step * step; }

static bool splits(const Scan *s) {
    const CgCudaTarget *t = s->c->target;
    if (s->c->form != CG_MANY || s->experts || s->mixed_A) return false;
    return t->scan_chunk > 0 || 2 * pg_panels(s->k->O) <= (uint64_t)t->multiprocessors;
}

static Walk walk_of(const Scan *s) {
    const PgKernel *k = s->k;
    uint64_t N = (uint64_t)k->N;
    Walk w = {.s = s, .c = s->c, .k = k, .S = 1, .split = splits(s)};
    while (w.S * MOST_LANES < N) w.S *= 2;
    if (w.S > MOST_STATES) w.S = up_to((N + LARGE_LANES - 1) / LARGE_LANES, 4);
    w.lanes = (N + w.S - 1) / w.S;
    w.n_row = up_to(w.lanes * w.S, 4);
    w.rows = N <= 32 ? 16 : N <= 64 ? 8 : 4;
    w.movers = up_to(w.lanes * PG_LANES, 32);
    w.staged = k->R <= STAGED_R;
    w.tensor = s->c->target->tensor_cores && ir_dtype(k->dtype)->mma == IR_MMA_16 && !s->mixed_delta && k->R <= TENSOR_R;
    w.makers = w.tensor ? up_to(w.rows, 8) / 8 * 32 : 0;
    /* Rows of δ that are read together begin in different banks: by fours of eight rows, or pairs of four. */
    w.r_row = w.tensor ? up_to((uint64_t)k->R, 16) + 8 : (up_to((uint64_t)k->R, 4) / 4 | 1) * 4;
    return w;
}

/* ---------------------------------------------------------------------------------------------- memory */

static void print_sizes(const Walk *w) {
    uint64_t unrolled = 16 / w->S;
    cg_cu(w->c,
          "enum { S = %llu, LANES = %llu, N_ROW = %llu, R_ROW = %llu, ROWS = %llu, MOVERS = %llu,\n"
          "HELPERS = THREADS - MOVERS, MAKERS = %llu, RING = %d, UNROLLED = %llu };\n",
          (unsigned long long)w->S, (unsigned long long)w->lanes, (unsigned long long)w->n_row, (unsigned long long)w->r_row,
          (unsigned long long)w->rows, (unsigned long long)w->movers, (unsigned long long)w->makers, RING,
          (unsigned long long)(unrolled > 8   ? 8
                               : unrolled < 1 ? 1
                                              : unrolled));
}

static void print_memory(const Walk *w) {
    CgCuda *c = w->c;
    uint64_t channels = w->rows * PG_LANES * sizeof(float);
    if (w->staged) {
        cg_cuda_shared(c, "float", "d_in", 2 * w->rows * w->r_row * sizeof(float)); /* [2][ROWS][R_ROW] */
        if (!w->s->mixed_delta && !w->tensor) {
            cg_cuda_shared(c, "float4", "dt", up_to((uint64_t)w->k->R, 4) * 64);
        } /* [R / 4][16] of four k */
    }
    cg_cuda_shared(c, "float", "b_in", RING * w->rows * w->n_row * sizeof(float)); /* [RING][ROWS][N_ROW] */
    cg_cuda_shared(c, "float", "c_in", RING * w->rows * w->n_row * sizeof(float));
    cg_cuda_shared(c, "float", "x_in", RING * channels); /* [RING][ROWS][16] */
    if (w->k->gate && !w->s->experts) cg_cuda_shared(c, "float", "z_in", RING * channels);
    cg_cuda_shared(c, "float2", "pairs", 2 * 2 * channels); /* [2][ROWS][16] */
    cg_cuda_shared(c, "float", "sums", 2 * w->lanes * channels); /* [2][LANES][ROWS][16] */
    if (w->s->experts && !w->s->runs) cg_cuda_shared(c, "u32", "slots", RING * w->rows * sizeof(uint32_t));
}

/* ---------------------------------------------------------------------------------------------- tiles */

/* The rows of an expert in a sequence are a run of its positions, in order; what pads an expert's run holds row 0. */
static void print_run(const Walk *w) {
    cg_cu(w->c, "const i32 *row_of = groups.row_of;\n"
                "i32 past = groups.start[expert + 1];\n"
                "while (past > groups.start[expert] + 1 && row_of[past - 1] == 0) past--; /* padding */\n"
                "const u32 from = first_at_least(row_of, groups.start[expert], past, segment->first_row);\n"
                "const u32 count = first_at_least(row_of, from, past, segment->first_row + segment->count) - from;\n"
                "if (count == 0) continue; /* nobody chose it */\n");
}

static void print_chunk(const Walk *w) {
    cg_cu(w->c,
          "const u32 chunks = (segment->count + chunk_rows - 1) / chunk_rows, chunk = tile %% CHUNKS;\n"
          "if (%s) continue;\n"
          "const u32 from = segment->first_row + chunk * chunk_rows;\n"
          "const u32 count = chunk + 1 < chunks ? chunk_rows : segment->count - chunk * chunk_rows;\n"
          "float *ends = (float *)step->scratch + ((u64)(segment->first_row / chunk_rows + sequence) * PANELS + panel) * END + "
          "channel;\n",
          w->c->part == 0 ? "chunk >= chunks || (chunk > 0 && chunk + 1 == chunks)" : "chunk == 0 || chunk >= chunks");
    if (w->c->part == 0) cg_cu(w->c, "const bool whole = chunk == 0; /* else only its end is asked for */\n");
}

static void open_tiles(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    if (w->split) {
        uint64_t end = ((uint64_t)k->N + 1) * 64, least = c->target->scan_chunk > 0 ? (uint64_t)c->target->scan_chunk : LEAST_CHUNK;
        cg_cu(
            c,
            "enum { CHUNKS = %d, END = (N + 1) * 16 };\nconst u32 chunk_rows = scan_chunk_rows(step, PANELS, CHUNKS, %llu, %d);\n",
            MOST_CHUNKS, (unsigned long long)least, 2 * c->target->multiprocessors);
        c->parts = 2;
        c->scratch_per_row = (pg_panels(k->O) * end + least - 1) / least;
        c->scratch_per_segment = pg_panels(k->O) * end;
        c->scratch_fixed = pg_panels(k->O) * end;
    }
    cg_cuda_tiles(c, w->split ? MOST_CHUNKS : w->s->experts ? (uint64_t)k->E : 1);
    cg_cu(c,
          "const u32 sequence = tile / (PANELS%s), channel = threadIdx.x %% 16;\n"
          "const Segment *segment = step->segments + sequence;\n"
          "const u64 panel = tile%s %% PANELS;\n",
          w->split        ? " * CHUNKS"
          : w->s->experts ? " * E"
                          : "",
          w->split        ? " / CHUNKS"
          : w->s->experts ? " / E"
                          : "");
    if (w->s->experts) cg_cu(c, "const u32 expert = tile %% E;\n");
    if (w->split)
        print_chunk(w);
    else if (w->s->runs)
        print_run(w);
    else
        cg_cu(c, "const u32 from = segment->first_row, count = segment->count;\n");
    cg_cu(c, "const u32 blocks = (count + ROWS - 1) / ROWS;\n");
}

/* ---------------------------------------------------------------------------------------------- states */

const char *cg_walk_own(const Walk *w, bool own) { return w->s->experts && own ? "((u64)expert * PANELS + panel)" : "panel"; }

/* s[] at the beginning. */
static void print_start(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c,
          "float *state = state_floats(segment, phase, %d) + %s * (N * 16) + channel;\n"
          "const float *decays = A + %s * (N * 16) + channel;\n"
          "float s[S], a[S]%s;\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < S; m++) {\n"
          "const u32 n = lane * S + m;\n"
          "a[m] = n < N ? decays[n * 16] * LOG2_E : 0;\n",
          PG_SCAN_STATE, cg_walk_own(w, true), cg_walk_own(w, w->k->own_A), w->split && c->part == 0 ? ", total = 0" : "");
    if (!w->split) {
        cg_cu(c, "s[m] = n < N ? state[n * 16] : 0;\n}\n");
    } else if (c->part == 0) {
        cg_cu(c, "s[m] = n < N && whole ? state[n * 16] : 0;\n}\n");
    } else {
        cg_cu(c, "s[m] = n < N ? ends[n * 16] : 0;\n"
                 "for (u32 i = 1; i < chunk; i++) {\n"
                 "const float *end = ends + (u64)i * PANELS * END;\n"
                 "if (n < N) s[m] = fmaf(FAST_EXP2(end[N * 16] * a[m]), s[m], end[n * 16]);\n"
                 "}\n}\n");
    }
}

static void print_end(const Walk *w) {
    CgCuda *c = w->c;
    if (!w->split) {
        cg_cu(c, "float *to = state;\n");
    } else if (c->part == 0) {
        cg_cu(c, "float *to = chunks == 1 ? state : ends + (u64)chunk * PANELS * END;\n"
                 "ASSUME_GLOBAL(to);\n"
                 "if (chunks > 1 && lane == 0) to[N * 16] = total;\n");
    } else {
        cg_cu(c, "float *to = state;\nif (chunk + 1 == chunks)\n");
    }
    cg_cu(c, "for (u32 m = 0; m < S; m++) {\n"
             "if (lane * S + m < N) to[(lane * S + m) * 16] = vm_cut(s[m]);\n"
             "}\n");
}

/* float decay of element m in row r. */
static void print_decay(const Walk *w) {
    if (!w->s->mixed_A) {
        cg_cu(w->c, "const float decay = a[m];\n");
        return;
    }
    cg_cu(w->c, "float decay = 0;\n"
                "for (u32 j = 0; lane * S + m < N && j < k; j++) {\n"
                "const u64 own = (u64)expert_indices[row * k + j] * PANELS + panel;\n"
                "decay = fmaf(combine_weights[row * k + j], A[(own * N + lane * S + m) * 16 + channel], decay);\n"
                "}\n"
                "decay *= LOG2_E;\n");
}

/* The movers' part of a turn. */
static void print_moves(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c, "const u32 block = t - 2, rows = rows_from(count, block, ROWS);\n"
             "const float *b_at = b_in + block %% RING * ROWS * N_ROW + lane * S;\n"
             "const float *c_at = c_in + block %% RING * ROWS * N_ROW + lane * S;\n"
             "const float2 *pair = pairs + block %% 2 * ROWS * 16 + channel;\n"
             "float *sum_at = sums + (block %% 2 * LANES + lane) * ROWS * 16 + channel;\n"
             "#pragma unroll UNROLLED\n"
             "for (u32 r = 0; r < rows; r++) {\n");
    if (w->s->experts && !w->s->runs && w->k->scan == PG_SCAN_HOLD)
        cg_cu(c, "if (slots[block %% RING * ROWS + r] == k) continue; /* not chosen: it stays */\n");
    if (w->s->mixed_A) cg_cu(c, "const u64 row = from + block * ROWS + r;\n");
    cg_cu(c, "const float2 both = pair[r * 16]; /* delta, delta x */\n"
             "float sum = 0;\n"
             "#pragma unroll\n"
             "for (u32 m = 0; m < S; m++) {\n");
    print_decay(w);
    cg_cu(c,
          "s[m] = fmaf(FAST_EXP2(both.x * decay), s[m], both.y * b_at[r * N_ROW + m]%s);\n"
          "sum = fmaf(s[m], c_at[r * N_ROW + m], sum);\n"
          "}\n"
          "sum_at[r * 16] = sum;\n",
          w->k->zoh ? " * vm_zoh(both.x * decay * (1 / LOG2_E))" : "");
    if (w->split && c->part == 0) cg_cu(c, "total += both.x;\n");
    cg_cu(c, "}\n");
}

/* ---------------------------------------------------------------------------------------------- the walk */

static void print_planes(const Walk *w) {
    const PgKernel *k = w->k;
    if (k->dbc_layout != PG_PLANES || !w->s->experts) return;
    cg_cu(w->c,
          "const float *d_plane = d + expert * (%llu * ld), *b_plane = b + expert * (%llu * ld), *c_plane = c + expert * (%llu * "
          "ld);\n",
          (unsigned long long)cg_scan_plane(k->delta_width), (unsigned long long)cg_scan_plane(k->b_width),
          (unsigned long long)cg_scan_plane(k->c_width));
}

void cg_scan_prefill(const Scan *s) {
    Walk w = walk_of(s);
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    print_sizes(&w);
    print_memory(&w);
    if (s->experts) cg_cu(c, "float *terms = (float *)step->scratch;\n");
    open_tiles(&w);
    print_planes(&w);
    cg_cu(c, "const bool mover = threadIdx.x < MOVERS;\n"
             "const u32 lane = threadIdx.x / 16, helper = threadIdx.x - MOVERS;\n");
    cg_walk_prepare(&w);
    if (!s->experts && !k->own_D) cg_scan_skip(s);
    print_start(&w);
    cg_cu(c, "for (u32 t = 0; t < blocks + 3; t++) {\n"
             "if (mover) {\n"
             "if (t >= 2 && t - 2 < blocks && lane < LANES) {\n");
    print_moves(&w);
    cg_cu(c, "}\n} else {\n");
    cg_walk_fetch(&w);
    cg_walk_deltas(&w);
    cg_walk_finish(&w);
    cg_walk_put(&w);
    cg_cu(c, "}\n__syncthreads();\n}\n"
             "if (mover && lane < LANES) {\n");
    print_end(&w);
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}
