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
    MOST_LANES = 8, /* of a channel: 128 movers, a warp for each scheduler */
    FEW_LANES = 4, /* where there are blocks enough: fewer instructions that are not about states */
    MOST_CHUNKS = 16, /* of a sequence */
    LEAST_CHUNK = 128, /* rows */
    STAGED_R = 192, /* most elements of δ that go through shared memory */
    RING = 4
};

/* Sizes of a walk, in threads, rows and floats. */
typedef struct Walk {
    const Scan *s;
    CgCuda *c;
    const PgKernel *k;
    uint64_t S, lanes, spread; /* elements of a mover's state, movers of a channel, floats between two of them in B and C */
    uint64_t n_row, r_row; /* floats of a row of B, of δ in shared memory */
    uint64_t rows, movers;
    bool staged; /* δ (and where it is one, W_dt) lie in shared memory */
    bool split;
} Walk;

static uint64_t up_to(uint64_t n, uint64_t step) { return (n + step - 1) / step * step; }

static bool splits(const Scan *s) {
    const CgCudaTarget *t = s->c->target;
    if (s->c->form != CG_MANY || s->experts || s->mixed_A) { return false; }
    return t->scan_chunk > 0 || 2 * pg_panels(s->k->O) <= (uint64_t)t->multiprocessors;
}

static Walk walk_of(const Scan *s) {
    const PgKernel *k = s->k;
    uint64_t N = (uint64_t)k->N, sms = (uint64_t)s->c->target->multiprocessors;
    uint64_t lanes = pg_panels(k->O) >= 2 * sms ? FEW_LANES : MOST_LANES;
    Walk w = {.s = s, .c = s->c, .k = k, .S = 1, .split = splits(s)};
    while (w.S * lanes < N) { w.S *= 2; }
    w.lanes = (N + w.S - 1) / w.S;
    w.spread = w.S % 32 == 0 ? w.S + 4 : w.S; /* two movers of a warp read from different banks */
    w.n_row = up_to(w.lanes * w.spread, 4);
    w.r_row = (up_to((uint64_t)k->R, 4) / 4 | 1) * 4;
    w.rows = N <= 32 ? 16 : N <= 64 ? 8 : 4;
    w.movers = up_to(w.lanes * PG_LANES, 32);
    w.staged = k->R <= STAGED_R;
    return w;
}

/* ---------------------------------------------------------------------------------------------- memory */

static void print_sizes(const Walk *w) {
    uint64_t helpers = (uint64_t)w->c->target->threads - w->movers;
    uint64_t at_once = (w->rows * PG_LANES + helpers - 1) / helpers, unrolled = 16 / w->S;
    cg_cu(w->c,
          "enum { S = %llu, LANES = %llu, SPREAD = %llu, N_ROW = %llu, R_ROW = %llu, ROWS = %llu, MOVERS = %llu,\n"
          "       HELPERS = THREADS - MOVERS, DELTAS = %llu, RING = %d, UNROLLED = %llu };\n",
          (unsigned long long)w->S, (unsigned long long)w->lanes, (unsigned long long)w->spread, (unsigned long long)w->n_row,
          (unsigned long long)w->r_row, (unsigned long long)w->rows, (unsigned long long)w->movers, (unsigned long long)at_once,
          RING,
          (unsigned long long)(unrolled > 8   ? 8
                               : unrolled < 1 ? 1
                                              : unrolled));
}

static void print_memory(const Walk *w) {
    CgCuda *c = w->c;
    uint64_t channels = w->rows * PG_LANES * sizeof(float);
    if (w->staged) {
        cg_cuda_shared(c, "float", "d_in", 2 * w->rows * w->r_row * sizeof(float)); /* [2][ROWS][R_ROW] */
        if (!w->s->mixed_delta) { cg_cuda_shared(c, "float4", "dt", up_to((uint64_t)w->k->R, 4) * 64); } /* [R / 4][16] of four k */
    }
    cg_cuda_shared(c, "float", "b_in", RING * w->rows * w->n_row * sizeof(float)); /* [RING][ROWS][N_ROW] */
    cg_cuda_shared(c, "float", "c_in", RING * w->rows * w->n_row * sizeof(float));
    cg_cuda_shared(c, "float", "x_in", RING * channels); /* [RING][ROWS][16] */
    if (w->k->gate) { cg_cuda_shared(c, "float", "z_in", RING * channels); }
    cg_cuda_shared(c, "float2", "pairs", 2 * 2 * channels); /* [2][ROWS][16] */
    cg_cuda_shared(c, "float", "sums", 2 * w->lanes * channels); /* [2][LANES][ROWS][16] */
    if (w->s->experts && !w->s->runs) { cg_cuda_shared(c, "u32", "slots", RING * w->rows * sizeof(uint32_t)); }
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
    if (w->c->part == 0) { cg_cu(w->c, "const bool whole = chunk == 0; /* else only its end is asked for */\n"); }
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
          "const u32 sequence = tile / (PANELS * %s), channel = threadIdx.x %% 16;\n"
          "const Segment *segment = step->segments + sequence;\n"
          "const u64 panel = tile / %s %% PANELS;\n",
          w->split        ? "CHUNKS"
          : w->s->experts ? "E"
                          : "1",
          w->split        ? "CHUNKS"
          : w->s->experts ? "E"
                          : "1");
    if (w->s->experts) { cg_cu(c, "const u32 expert = tile %% E;\n"); }
    if (w->split) {
        print_chunk(w);
    } else if (w->s->runs) {
        print_run(w);
    } else {
        cg_cu(c, "const u32 from = segment->first_row, count = segment->count;\n");
    }
    cg_cu(c, "const u32 blocks = (count + ROWS - 1) / ROWS;\n");
}

/* The matrix of delta goes to shared memory; what no copy writes of δ, B and C becomes 0. */
static void print_prepare(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    if (w->staged && !w->s->mixed_delta) {
        cg_cu(c,
              "const u64 own = %s;\n"
              "for (u32 i = threadIdx.x; i < (R + 3) / 4 * 64; i += THREADS) {\n"
              "const u32 r = i / 64 * 4 + i %% 4;\n"
              "((float *)dt)[i] = r < R ? weight_%s(dt_w + own * %lluull, r, i / 4 %% 16) : 0;\n"
              "}\n",
              k->own_dt && w->s->experts ? "(u64)expert * PANELS + panel" : "panel", cg_cuda_dtype(k->dtype),
              (unsigned long long)cg_cuda_panel_bytes(k->dtype, k->R));
    }
    if (w->staged && k->R % 4 != 0) { cg_cu(c, "for (u32 i = threadIdx.x; i < 2 * ROWS * R_ROW; i += THREADS) d_in[i] = 0;\n"); }
    if ((uint64_t)k->N != w->n_row) {
        cg_cu(c, "for (u32 i = threadIdx.x; i < RING * ROWS * N_ROW; i += THREADS) b_in[i] = c_in[i] = 0;\n");
    }
    if ((w->staged && k->R % 4 != 0) || (uint64_t)k->N != w->n_row) { cg_cu(c, "__syncthreads();\n"); }
}

/* ---------------------------------------------------------------------------------------------- states */

/* s[] at the beginning. */
static void print_start(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c,
          "float *state = state_floats(segment, phase, %d) + (%s + panel) * (N * 16) + channel;\n"
          "const float *decays = A + (%s + panel) * (N * 16) + channel;\n"
          "float s[S], a[S]%s;\n"
          "#pragma unroll\n"
          "for (u32 m = 0; m < S; m++) {\n"
          "const u32 n = lane * S + m;\n"
          "a[m] = n < N ? decays[n * 16] * LOG2_E : 0;\n",
          PG_SCAN_STATE, w->s->experts ? "(u64)expert * PANELS" : "0", w->s->experts && w->k->own_A ? "(u64)expert * PANELS" : "0",
          w->split && c->part == 0 ? ", total = 0" : "");
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
                "const u64 own = (u64)routes[row * k + j] * PANELS + panel;\n"
                "decay = fmaf(gates[row * k + j], A[(own * N + lane * S + m) * 16 + channel], decay);\n"
                "}\n"
                "decay *= LOG2_E;\n");
}

/* The movers' part of a turn. */
static void print_moves(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c, "const u32 block = t - 2, rows = rows_from(count, block, ROWS);\n"
             "const float *b_at = b_in + block %% RING * ROWS * N_ROW + lane * SPREAD;\n"
             "const float *c_at = c_in + block %% RING * ROWS * N_ROW + lane * SPREAD;\n"
             "const float2 *pair = pairs + block %% 2 * ROWS * 16 + channel;\n"
             "float *sum_at = sums + (block %% 2 * LANES + lane) * ROWS * 16 + channel;\n"
             "#pragma unroll UNROLLED\n"
             "for (u32 r = 0; r < rows; r++) {\n");
    if (w->s->experts && !w->s->runs && w->k->scan == PG_SCAN_HOLD) {
        cg_cu(c, "if (slots[block %% RING * ROWS + r] == k) continue; /* not chosen: it stays */\n");
    }
    if (w->s->mixed_A) { cg_cu(c, "const u64 row = from + block * ROWS + r;\n"); }
    cg_cu(c, "const float2 both = pair[r * 16]; /* delta, delta x */\n"
             "float sum = 0;\n"
             "#pragma unroll\n"
             "for (u32 m = 0; m < S; m++) {\n");
    print_decay(w);
    cg_cu(c, "s[m] = fmaf(FAST_EXP2(both.x * decay), s[m], both.y * b_at[r * N_ROW + m]);\n"
             "sum = fmaf(s[m], c_at[r * N_ROW + m], sum);\n"
             "}\n"
             "sum_at[r * 16] = sum;\n");
    if (w->split && c->part == 0) { cg_cu(c, "total += both.x;\n"); }
    cg_cu(c, "}\n");
}

/* ---------------------------------------------------------------------------------------------- helpers */

/* u64 row (and place) of entry `q` of the walk. */
static void print_entry(const Walk *w) {
    if (w->s->runs) {
        cg_cu(w->c, "const u64 place = from + q, row = row_of[place];\n");
    } else {
        cg_cu(w->c, "const u64 row = from + q, place = row;\n");
    }
}

/* Copies `width` floats of each row from element `start` of an operand, 16 bytes at a time where they lie so. `at`: where element e of
 * a row goes. */
static void print_copy(const Walk *w, const char *from, int64_t start, int64_t width, const char *to, const char *row_size,
                       const char *at) {
    bool fours = start % 4 == 0 && width % 4 == 0 && (w->spread == w->S || w->S % 4 == 0);
    int size = fours ? 4 : 1;
    cg_cu(w->c,
          "for (u32 i = helper; i < ROWS * %lld; i += HELPERS) {\nconst u32 r = i / %lld, e = i %% %lld * %d, q = block * ROWS + "
          "r;\n",
          (long long)width / size, (long long)width / size, (long long)width / size, size);
    cg_cu(w->c, "if (q >= count) continue;\n");
    print_entry(w);
    cg_cu(w->c, "COPY%d(%s + r * %s + %s, %s%s + element(%s, place, %lld + e));\n}\n", 4 * size, to, row_size, at, from,
          w->k->dbc_layout == PG_PLANES && w->s->experts ? "_plane" : "", cg_cuda_stride(w->k->dbc_layout), (long long)start);
}

static void print_copies(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    bool conditional = w->split && c->part == 0, z_here = k->gate && !w->s->experts;
    const char *at = w->spread == w->S ? "e" : "(e / S * SPREAD + e % S)";
    cg_cu(c, "if (t < blocks) { /* fetch */\nconst u32 block = t;\n");
    if (w->staged) { print_copy(w, "d", k->delta_start, k->R, "d_in + block % 2 * ROWS * R_ROW", "R_ROW", "e"); }
    print_copy(w, "b", k->b_start, k->N, "b_in + block % RING * ROWS * N_ROW", "N_ROW", at);
    print_copy(w, "c", k->c_start, k->N, "c_in + block % RING * ROWS * N_ROW", "N_ROW", at);
    cg_cu(c,
          "for (u32 i = helper; i < ROWS * 4; i += HELPERS) {\nconst u32 q = block * ROWS + i / 4;\nif (q >= count) continue;\n");
    print_entry(w);
    cg_cu(c, "const u64 at = (panel * ld + row) * 16 + i %% 4 * 4;\n"
             "COPY16(x_in + (block %% RING * ROWS * 4 + i) * 4, x + at);\n");
    if (z_here) { cg_cu(c, "%sCOPY16(z_in + (block %% RING * ROWS * 4 + i) * 4, z + at);\n", conditional ? "if (whole) " : ""); }
    cg_cu(c, "}\n");
    if (w->s->experts && !w->s->runs) {
        cg_cu(c, "for (u32 r = helper; r < ROWS && block * ROWS + r < count; r += HELPERS) {\nconst u64 row = from + block * ROWS "
                 "+ r;\n");
        cg_scan_slot(w->s, "expert");
        cg_cu(c, "slots[block %% RING * ROWS + r] = slot;\n}\n");
    }
    cg_cu(c, "}\n");
}

/* sum[i] for DELTAS rows of a thread's channel: W_dt · δ from shared memory, k four at a time. */
static void print_staged_sums(const Walk *w) {
    cg_cu(w->c, "#pragma unroll 4\n"
                "for (u32 r4 = 0; r4 < (R + 3) / 4; r4++) {\n"
                "const float4 weights = dt[r4 * 16 + channel];\n"
                "#pragma unroll\n"
                "for (u32 i = 0; i < DELTAS; i++) sum[i] = dot4(weights, quad(d_at[i])[r4], sum[i]);\n"
                "}\n");
}

/* float sum of row r from where W_dt lies, for one matrix or the mixture of the chosen ones. */
static void print_plain_sum(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    const char *own = w->s->mixed_delta            ? "(u64)routes[row * k + j] * PANELS + panel"
                      : k->own_dt && w->s->experts ? "(u64)expert * PANELS + panel"
                                                   : "panel";
    print_entry(w);
    if (w->s->mixed_delta) { cg_cu(c, "for (u32 j = 0; j < k; j++) {\n"); }
    cg_cu(c,
          "const u64 own = %s;\n"
          "const u8 *w = dt_w + own * %lluull;\n"
          "float part = dt_b[own * 16 + channel];\n"
          "for (u32 e = 0; e < R; e++) part = fmaf(weight_%s(w, e, channel), ",
          own, (unsigned long long)cg_cuda_panel_bytes(k->dtype, k->R), cg_cuda_dtype(k->dtype));
    if (w->staged) {
        cg_cu(c, "d_in[(block %% 2 * ROWS + r) * R_ROW + e], part);\n");
    } else {
        cg_cu(c, "d%s[element(%s, place, %lld + e)], part);\n", k->dbc_layout == PG_PLANES && w->s->experts ? "_plane" : "",
              cg_cuda_stride(k->dbc_layout), (long long)k->delta_start);
    }
    cg_cu(c, w->s->mixed_delta ? "sum = fmaf(gates[row * k + j], part, sum);\n}\n" : "sum = part;\n");
}

static void print_deltas(const Walk *w) {
    CgCuda *c = w->c;
    bool tiled = w->staged && !w->s->mixed_delta;
    cg_cu(c, "if (t >= 1 && t - 1 < blocks) { /* delta */\n"
             "const u32 block = t - 1, rows = rows_from(count, block, ROWS);\n");
    if (tiled) {
        cg_cu(c, "enum { ROWS_APART = HELPERS / 16 };\n"
                 "const float *d_at[DELTAS];\n"
                 "float sum[DELTAS] = {};\n"
                 "#pragma unroll\n"
                 "for (u32 i = 0; i < DELTAS; i++) {\n"
                 "const u32 r = helper / 16 + i * ROWS_APART;\n"
                 "d_at[i] = d_in + (block %% 2 * ROWS + (r < ROWS ? r : 0)) * R_ROW;\n"
                 "}\n");
        print_staged_sums(w);
        cg_cu(c, "#pragma unroll\nfor (u32 i = 0; i < DELTAS; i++) {\nconst u32 r = helper / 16 + i * ROWS_APART;\nif (r >= rows) "
                 "break;\n"
                 "const float delta = fast_softplus(sum[i] + dt_bias);\n");
    } else {
        cg_cu(c, "for (u32 r = helper / 16; r < rows; r += HELPERS / 16) {\nconst u32 q = block * ROWS + r;\nfloat sum = 0;\n");
        print_plain_sum(w);
        cg_cu(c, "const float delta = fast_softplus(sum);\n");
    }
    cg_cu(c, "pairs[(block %% 2 * ROWS + r) * 16 + channel] = make_float2(delta, delta * x_in[(block %% RING * ROWS + r) * 16 + "
             "channel]);\n"
             "}\n}\n");
}

/* What becomes of a row's sum. */
static void print_result(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    if (w->s->runs) {
        cg_cu(c, "terms[(panel * ldp + place) * 16 + channel] = sum;\n");
        return;
    }
    if (w->s->experts) {
        cg_cu(c,
              "const u32 slot = slots[block %% RING * ROWS + r];\n"
              "if (slot < k) terms[%s * 16 + channel] = sum;\n",
              cg_scan_place(w->s));
        return;
    }
    if (k->own_D) { cg_scan_skip(w->s); }
    cg_cu(c, "const u32 own = (block %% RING * ROWS + r) * 16 + channel;\n"
             "y[(panel * ld + row) * 16 + channel] = fmaf(skip, x_in[own], sum)");
    if (k->gate) { cg_cu(c, " * %s(z_in[own])", k->act == PG_SILU ? "fast_silu" : cg_cuda_act(k->act)); }
    cg_cu(c, ";\n");
}

static void print_finish(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c,
          "if (t >= 3%s) { /* finish */\n"
          "const u32 block = t - 3, rows = rows_from(count, block, ROWS);\n"
          "for (u32 r = helper / 16; r < rows; r += HELPERS / 16) {\n"
          "const u32 q = block * ROWS + r;\n"
          "float sum = 0;\n"
          "#pragma unroll\n"
          "for (u32 l = 0; l < LANES; l++) sum += sums[((block %% 2 * LANES + l) * ROWS + r) * 16 + channel];\n",
          w->split && c->part == 0 ? " && whole" : "");
    print_entry(w);
    print_result(w);
    cg_cu(c, "}\n}\n");
}

/* ---------------------------------------------------------------------------------------------- the walk */

static void print_planes(const Walk *w) {
    const PgKernel *k = w->k;
    if (k->dbc_layout != PG_PLANES || !w->s->experts) { return; }
    cg_cu(w->c,
          "const float *d_plane = d + expert * (%llu * ld), *b_plane = b + expert * (%llu * ld), *c_plane = c + expert * (%llu * "
          "ld);\n",
          (unsigned long long)cg_scan_plane(k->delta_width), (unsigned long long)cg_scan_plane(k->b_width),
          (unsigned long long)cg_scan_plane(k->c_width));
}

void cg_scan_walk(const Scan *s) {
    Walk w = walk_of(s);
    CgCuda *c = s->c;
    const PgKernel *k = s->k;
    print_sizes(&w);
    print_memory(&w);
    if (s->experts) { cg_cu(c, "float *terms = (float *)step->scratch;\n"); }
    open_tiles(&w);
    print_planes(&w);
    print_prepare(&w);
    cg_cu(c, "const bool mover = threadIdx.x < MOVERS;\n"
             "const u32 lane = threadIdx.x / 16, helper = threadIdx.x - MOVERS;\n");
    if (!s->mixed_delta && w.staged) {
        cg_cu(c, "const float dt_bias = dt_b[(%s) * 16 + channel];\n",
              k->own_dt && s->experts ? "(u64)expert * PANELS + panel" : "panel");
    }
    if (!s->experts && !k->own_D) { cg_scan_skip(s); }
    print_start(&w);
    cg_cu(c, "for (u32 t = 0; t < blocks + 3; t++) {\n"
             "if (mover) {\n"
             "if (t >= 2 && t - 2 < blocks && lane < LANES) {\n");
    print_moves(&w);
    cg_cu(c, "}\n} else {\n");
    print_copies(&w);
    print_deltas(&w);
    print_finish(&w);
    cg_cu(c, "COPY_WAIT();\n}\n__syncthreads();\n}\n"
             "if (mover && lane < LANES) {\n");
    print_end(&w);
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}
