/* What the helpers of a walk do (scan_prefill.c): fetch the rows' inputs, make deltas, finish outputs.
 *
 * Inputs come in pieces of 16 bytes, or of one float where they do not lie so. A row has PIECES of them; a helper has the same piece of
 * every STEP-th row, so that where it comes from and goes to is worked out once a walk. Loads go to registers at the beginning of
 * a turn and from there to shared memory at its end. (cp.async is no better: ptxas puts three more instructions beside each.)
 *
 * W_dt · δ is a product of 16 channels, R and eight rows for each warp of makers where there are tensor cores for the weights' type:
 * W_dt stays in their registers as it lies packed (a pair of k is what a fragment holds), and δ is the sum of two numbers of
 * that type unless the target is `fast`. Else a helper has a channel of some rows and both factors come from shared memory. */
#include "codegen/cuda/scan.h"

/* An operand whose rows are fetched. */
typedef struct Input {
    const char *from, *to, *row; /* pointers, and floats of a row in shared memory */
    int64_t start, width;        /* elements of the operand's rows */
    int size;                    /* floats of a piece */
    int ring;                    /* blocks that are kept */
    bool channels;               /* x and z: the panel's own 16, of the row itself */
} Input;

enum { MOST_INPUTS = 5 };

static Input input_of(const char *from, const char *to, const char *row, int64_t start, int64_t width) {
    bool fours = start % 4 == 0 && width % 4 == 0;
    return (Input){.from = from, .to = to, .row = row, .start = start, .width = width, .size = fours ? 4 : 1, .ring = 4};
}

static int inputs_of(const Walk *w, Input *inputs) {
    const PgKernel *k = w->k;
    bool planes = k->dbc_layout == PG_PLANES && w->s->experts;
    int n = 0;
    if (w->staged) {
        inputs[n] = input_of(planes ? "d_plane" : "d", "d_in", "R_ROW", k->delta_start, k->R);
        inputs[n++].ring = 2;
    }
    inputs[n++] = input_of(planes ? "b_plane" : "b", "b_in", "N_ROW", k->b_start, k->N);
    inputs[n++] = input_of(planes ? "c_plane" : "c", "c_in", "N_ROW", k->c_start, k->N);
    inputs[n] = input_of("x", "x_in", "16", 0, 16);
    inputs[n++].channels = true;
    if (k->gate && !w->s->experts) {
        inputs[n] = input_of("z", "z_in", "16", 0, 16);
        inputs[n++].channels = true;
    }
    return n;
}

static int64_t pieces_of(const Input *inputs, int n) {
    int64_t pieces = 0;
    for (int i = 0; i < n; i++) pieces += inputs[i].width / inputs[i].size;
    return pieces;
}

static bool has_size(const Input *inputs, int n, int size) {
    for (int i = 0; i < n; i++)
        if (inputs[i].size == size) return true;
    return false;
}

/* ---------------------------------------------------------------------------------------------- fetching */

/* Where `piece` comes from (of row `from`, or row 0 where rows are looked up) and goes to. */
static void print_piece(const Walk *w, const Input *inputs, int n, bool mixed) {
    CgCuda *c = w->c;
    int64_t past = 0;
    cg_cu(c, "const float *piece_from = nullptr;\nfloat *piece_to = nullptr;\nu32 piece_row = 0, piece_ring = 0;\n");
    if (mixed) cg_cu(c, "bool piece_of_four = true;\n");
    if (w->s->runs) cg_cu(c, "bool piece_of_row = false; /* else of the position */\n");
    for (int i = 0; i < n; i++) {
        const Input *in = &inputs[i];
        int64_t first = past;
        past += in->width / in->size;
        cg_cu(c, "%sif (piece < %lld) {\nconst u32 e = (piece - %lld) * %d;\n", i > 0 ? "else " : "", (long long)past,
              (long long)first, in->size);
        if (in->channels) {
            cg_cu(c, "piece_from = %s + (panel * ld + %s) * 16 + e;\n", in->from, w->s->runs ? "0" : "from");
            if (w->s->runs) cg_cu(c, "piece_of_row = true;\n");
        } else {
            cg_cu(c, "piece_from = %s + element(%s, from, %lld + e);\n", in->from, cg_cuda_stride(w->k->dbc_layout),
                  (long long)in->start);
        }
        cg_cu(c, "piece_to = %s + e;\npiece_row = %s;\npiece_ring = %d - 1;\n", in->to, in->row, in->ring);
        if (mixed && in->size == 1) cg_cu(c, "piece_of_four = false;\n");
        cg_cu(c, "}\n");
    }
}

/* Loads (to held[], before the turn's other work) or stores (from it, after it) what a piece is in the rows of block t. Of rows past
 * the end anything is stored. */
static void print_rows_of_piece(const Walk *w, bool fours, bool ones, bool load) {
    CgCuda *c = w->c;
    if (!load) cg_cu(c, "float *to = piece_to + ((t & piece_ring) * ROWS + piece_first) * piece_row;\n");
    cg_cu(c,
          "#pragma unroll\n"
          "for (u32 i = 0; i < FETCHES; i++) {\n"
          "const u32 r = piece_first + i * STEP;\n"
          "if (r >= %s) break;\n",
          load ? "rows" : "ROWS");
    if (load) {
        cg_cu(c, "const float *at = piece_from + (u64)%s * 16;\n",
              w->s->runs ? "(piece_of_row ? row_of[from + t * ROWS + r] : t * ROWS + r)" : "(t * ROWS + r)");
        cg_cu(c, "ASSUME_GLOBAL(at);\n");
    }
    if (fours) cg_cu(c, "%s%s;\n", ones ? "if (piece_of_four) " : "", load ? "held[i] = *quad(at)" : "*quad(to) = held[i]");
    if (ones) cg_cu(c, "%s%s;\n", fours ? "else " : "", load ? "held[i].x = *at" : "*to = held[i].x");
    cg_cu(c, "%s}\n", load ? "" : "to += STEP * piece_row;\n");
}

/* Helpers have a piece each; where there are more pieces, they load and store one after the other. */
static bool one_each(const Walk *w, const Input *inputs, int n) {
    return pieces_of(inputs, n) <= (int64_t)((uint64_t)w->c->target->threads - w->movers);
}

void cg_walk_fetch(const Walk *w) {
    CgCuda *c = w->c;
    Input inputs[MOST_INPUTS];
    int n = inputs_of(w, inputs);
    bool fours = has_size(inputs, n, 4), ones = has_size(inputs, n, 1), each = one_each(w, inputs, n);
    if (each) cg_cu(c, "float4 held[FETCHES] = {};\n");
    cg_cu(c, "if (t < blocks) { /* fetch */\nconst u32 rows = rows_from(count, t, ROWS);\n");
    if (each) {
        cg_cu(c, "if (piece < PIECES) {\n");
        print_rows_of_piece(w, fours, ones, true);
    } else {
        cg_cu(c, "const u32 piece_first = 0;\nfloat4 held[FETCHES] = {};\nfor (u32 piece = helper; piece < PIECES; piece += "
                 "HELPERS) {\n");
        print_piece(w, inputs, n, fours && ones);
        print_rows_of_piece(w, fours, ones, true);
        print_rows_of_piece(w, fours, ones, false);
    }
    cg_cu(c, "}\n");
    if (w->s->experts && !w->s->runs) {
        cg_cu(c, "for (u32 r = helper; r < rows; r += HELPERS) {\nconst u64 row = from + t * ROWS + r;\n");
        cg_scan_slot(w->s, "expert");
        cg_cu(c, "slots[t %% RING * ROWS + r] = slot;\n}\n");
    }
    cg_cu(c, "}\n");
}

void cg_walk_put(const Walk *w) {
    Input inputs[MOST_INPUTS];
    int n = inputs_of(w, inputs);
    if (!one_each(w, inputs, n)) return;
    cg_cu(w->c, "if (t < blocks && piece < PIECES) { /* what was fetched is there by now */\n");
    print_rows_of_piece(w, has_size(inputs, n, 4), has_size(inputs, n, 1), false);
    cg_cu(w->c, "}\n");
}

static void prepare_fetch(const Walk *w) {
    CgCuda *c = w->c;
    Input inputs[MOST_INPUTS];
    int n = inputs_of(w, inputs);
    int64_t pieces = pieces_of(inputs, n), helpers = (int64_t)((uint64_t)c->target->threads - w->movers);
    int64_t step = pieces <= helpers ? helpers / pieces : 1;
    cg_cu(c, "enum { PIECES = %lld, STEP = %lld, FETCHES = (ROWS + STEP - 1) / STEP };\n", (long long)pieces, (long long)step);
    if (!one_each(w, inputs, n)) return;
    cg_cu(c, "const u32 piece_first = helper / PIECES, piece = piece_first < STEP ? helper %% PIECES : PIECES;\n");
    print_piece(w, inputs, n, has_size(inputs, n, 4) && has_size(inputs, n, 1));
}

/* ---------------------------------------------------------------------------------------------- before the first turn */

/* W_dt in shared memory, four k of a channel side by side. */
static void stage_matrix(const Walk *w) {
    const PgKernel *k = w->k;
    cg_cu(w->c,
          "for (u32 i = threadIdx.x; i < (R + 3) / 4 * 64; i += THREADS) {\n"
          "const u32 r = i / 64 * 4 + i %% 4;\n"
          "((float *)dt)[i] = r < R ? %s::weight(matrix, R, r, i / 4 %% 16) : 0;\n"
          "}\n",
          cg_cuda_type(k->dtype));
}

/* W_dt in the registers of every maker's warp, as fragments: lane l has channels l / 4 and l / 4 + 8. */
static void keep_matrix(const Walk *w) {
    const char *type = cg_cuda_type(w->k->dtype);
    cg_cu(w->c,
          "enum { STEPS = (R + 15) / 16 };\n"
          "uint4 fragments[STEPS] = {};\n"
          "const u32 low = helper %% 32 / 4, two = helper %% 4 * 2;\n"
          "const auto pair_of = [&](u32 r, u32 lane) { return r < R ? %s::pair(matrix, R, r, lane) : 0; };\n"
          "for (u32 i = 0; helper < MAKERS && i < STEPS; i++) {\n"
          "const u32 r = i * 16 + two;\n"
          "fragments[i] = uint4{pair_of(r, low), pair_of(r, low + 8), pair_of(r + 8, low), pair_of(r + 8, low + 8)};\n"
          "}\n"
          "const float low_bias = dt_b[own * 16 + low], high_bias = dt_b[own * 16 + low + 8];\n",
          type);
}

/* What no fetch writes of δ, B and C becomes 0. */
static void clear_pads(const Walk *w) {
    CgCuda *c = w->c;
    bool d = w->staged && w->k->R % (w->tensor ? 16 : 4) != 0, bc = (uint64_t)w->k->N != w->n_row;
    if (d) cg_cu(c, "for (u32 i = threadIdx.x; i < 2 * ROWS * R_ROW; i += THREADS) d_in[i] = 0;\n");
    if (bc) cg_cu(c, "for (u32 i = threadIdx.x; i < RING * ROWS * N_ROW; i += THREADS) b_in[i] = c_in[i] = 0;\n");
    if (d || bc) cg_cu(c, "__syncthreads();\n");
}

void cg_walk_prepare(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    clear_pads(w);
    prepare_fetch(w);
    if (w->s->mixed_delta) return;
    cg_cu(c, "const u64 own = %s;\nconst u8 *matrix = dt_w + own * %lluull;\n", cg_walk_own(w, k->own_dt),
          (unsigned long long)ir_panel_bytes(k->dtype, k->R));
    if (w->tensor) {
        keep_matrix(w);
        return;
    }
    cg_cu(c, "const float dt_bias = dt_b[own * 16 + channel];\n");
    if (w->staged) stage_matrix(w);
}

/* ---------------------------------------------------------------------------------------------- delta */

/* `at`: of the row and channel in a block. */
static void print_pair(const Walk *w, const char *sum, const char *at) {
    cg_cu(w->c,
          "const float delta = fast_softplus(%s);\n"
          "pair[%s] = make_float2(delta, delta * x_of[%s]);\n",
          sum, at, at);
}

/* A warp of makers makes those of eight rows: lane l holds rows 2 (l % 4) and the next of its two channels. */
static void print_tensor_deltas(const Walk *w) {
    CgCuda *c = w->c;
    const char *type = cg_cuda_type(w->k->dtype);
    cg_cu(c,
          "const float2 *d_at = (const float2 *)(d_in + (block %% 2 * ROWS + (helper / 32 * 8 + low) %% ROWS) * R_ROW + two);\n"
          "float4 sum = splat4(0);\n"
          "#pragma unroll\n"
          "for (u32 i = 0; i < STEPS; i++) {\n"
          "u32 inputs[2];\n"
          "#pragma unroll\n"
          "for (u32 j = 0; j < 2; j++) inputs[j] = %s::%s(d_at[i * 8 + j * 4].x, d_at[i * 8 + j * 4].y);\n"
          "%s::mma(sum, fragments[i], inputs[0], inputs[1]);\n",
          type, c->target->fast ? "pack" : "pack_high", type);
    if (!c->target->fast) {
        cg_cu(c,
              "u32 rests[2];\n"
              "#pragma unroll\n"
              "for (u32 j = 0; j < 2; j++) {\n"
              "rests[j] = %s::pack(d_at[i * 8 + j * 4].x - %s::low(inputs[j]), d_at[i * 8 + j * 4].y - %s::high(inputs[j]));\n"
              "}\n"
              "%s::mma(sum, fragments[i], rests[0], rests[1]);\n",
              type, type, type, type);
    }
    cg_cu(c, "}\n"
             "MMA_DONE();\n"
             "const float sums_of[4] = {sum.x + low_bias, sum.y + low_bias, sum.z + high_bias, sum.w + high_bias};\n"
             "#pragma unroll\n"
             "for (u32 j = 0; j < 4; j++) {\n"
             "const u32 r = helper / 32 * 8 + two + j %% 2; /* one past the end harms nobody */\n");
    if (w->rows % 8 != 0) cg_cu(c, "if (r >= ROWS) continue;\n");
    print_pair(w, "sums_of[j]", "r * 16 + low + j / 2 * 8");
    cg_cu(c, "}\n");
}

/* A helper has its channel of DELTAS rows. */
static void print_staged_deltas(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c, "enum { APART = HELPERS / 16, DELTAS = (ROWS + APART - 1) / APART };\n"
             "const float *d_at[DELTAS];\n"
             "float sum[DELTAS] = {};\n"
             "#pragma unroll\n"
             "for (u32 i = 0; i < DELTAS; i++) {\n"
             "const u32 r = helper / 16 + i * APART;\n"
             "d_at[i] = d_in + (block %% 2 * ROWS + (r < ROWS ? r : 0)) * R_ROW;\n"
             "}\n"
             "#pragma unroll 4\n"
             "for (u32 r4 = 0; r4 < (R + 3) / 4; r4++) {\n"
             "const float4 weights = dt[r4 * 16 + channel];\n"
             "#pragma unroll\n"
             "for (u32 i = 0; i < DELTAS; i++) sum[i] = dot4(weights, quad(d_at[i])[r4], sum[i]);\n"
             "}\n"
             "#pragma unroll\n"
             "for (u32 i = 0; i < DELTAS; i++) {\n"
             "const u32 r = helper / 16 + i * APART;\n"
             "if (r >= rows) break;\n");
    print_pair(w, "sum[i] + dt_bias", "r * 16 + channel");
    cg_cu(c, "}\n");
}

/* Σ_r W_dt[r] δ[r] of the row or position `place`, from where they lie: part. */
static void print_part(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    cg_cu(c, "for (u32 e = 0; e < R; e++) part = fmaf(%s::weight(matrix, R, e, channel), ", cg_cuda_type(k->dtype));
    if (w->staged) {
        cg_cu(c, "d_in[(block %% 2 * ROWS + r) * R_ROW + e], part);\n");
    } else {
        cg_cu(c, "d%s[element(%s, place, %lld + e)], part);\n", k->dbc_layout == PG_PLANES && w->s->experts ? "_plane" : "",
              cg_cuda_stride(k->dbc_layout), (long long)k->delta_start);
    }
}

/* R is large, or each row mixes the matrices of its experts. */
static void print_plain_deltas(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    cg_cu(c, "for (u32 r = helper / 16; r < rows; r += HELPERS / 16) {\nconst u64 place = from + block * ROWS + r;\n");
    if (w->s->mixed_delta) {
        cg_cu(c,
              "float sum = 0;\n"
              "for (u32 j = 0; j < k; j++) {\n"
              "const u64 own = (u64)expert_indices[place * k + j] * PANELS + panel;\n"
              "const u8 *matrix = dt_w + own * %lluull;\n"
              "float part = 0;\n",
              (unsigned long long)ir_panel_bytes(k->dtype, k->R));
        print_part(w);
        cg_cu(c, "sum = fmaf(combine_weights[place * k + j], part + dt_b[own * 16 + channel], sum);\n}\n");
        print_pair(w, "sum", "r * 16 + channel");
    } else {
        cg_cu(c, "float part = 0;\n");
        print_part(w);
        print_pair(w, "part + dt_bias", "r * 16 + channel");
    }
    cg_cu(c, "}\n");
}

void cg_walk_deltas(const Walk *w) {
    CgCuda *c = w->c;
    cg_cu(c,
          "if (t >= 1 && t - 1 < blocks%s) { /* delta */\n"
          "const u32 block = t - 1, rows = rows_from(count, block, ROWS);\n"
          "float2 *pair = pairs + block %% 2 * ROWS * 16;\n"
          "const float *x_of = x_in + block %% RING * ROWS * 16;\n",
          w->makers > 0 ? " && helper < MAKERS" : "");
    if (w->tensor)
        print_tensor_deltas(w);
    else if (w->staged && !w->s->mixed_delta)
        print_staged_deltas(w);
    else
        print_plain_deltas(w);
    cg_cu(c, "}\n");
}

/* ---------------------------------------------------------------------------------------------- outputs */

/* What becomes of the sum of value i of the block; i % 16 is the thread's channel. */
static void print_result(const Walk *w) {
    CgCuda *c = w->c;
    const PgKernel *k = w->k;
    if (w->s->runs) {
        cg_cu(c, "terms[(panel * ldp + from + block * ROWS) * 16 + i] = sum;\n");
        return;
    }
    if (w->s->experts) {
        cg_cu(c,
              "const u64 row = from + block * ROWS + i / 16;\n"
              "const u32 slot = slots[block %% RING * ROWS + i / 16];\n"
              "if (slot < k) terms[%s * 16 + channel] = sum;\n",
              cg_scan_place(w->s));
        return;
    }
    if (k->own_D) {
        cg_cu(c, "const u64 row = from + block * ROWS + i / 16;\n");
        cg_scan_skip(w->s);
    }
    cg_cu(c, "const float v = fmaf(skip, x_in[in + i], sum)");
    if (k->gate) cg_cu(c, " * %s(z_in[in + i])", cg_scan_act(k));
    cg_cu(c, ";\nif (i < rows * 16) {\n");
    cg_cuda_put(c, "", "ld", "(panel * ld + from + block * ROWS) * 16 + i", "from + block * ROWS + i / 16", "panel * 16 + channel",
                "v");
    cg_cu(c, "}\n");
}

void cg_walk_finish(const Walk *w) {
    CgCuda *c = w->c;
    uint64_t finishers = (uint64_t)c->target->threads - w->movers - w->makers;
    bool looks_up = w->s->experts || w->k->own_D; /* what only rows that exist have; else all is computed and not all stored */
    cg_cu(c,
          "if (t >= 3%s%s) { /* finish */\n"
          "const u32 block = t - 3, rows = rows_from(count, block, ROWS);\n"
          "const float *sum_at = sums + block %% 2 * LANES * ROWS * 16;\n",
          w->makers > 0 ? " && helper >= MAKERS" : "", w->split && c->part == 0 ? " && whole" : "");
    if (!w->s->experts) cg_cu(c, "const u32 in = block %% RING * ROWS * 16;\n");
    cg_cu(c, "enum { FINISHERS = HELPERS - MAKERS };\n"
             "#pragma unroll\n"
             "for (u32 j = 0; j < (ROWS * 16 + FINISHERS - 1) / FINISHERS; j++) {\n"
             "const u32 i = helper - MAKERS + j * FINISHERS;\n");
    if (looks_up)
        cg_cu(c, "if (i >= rows * 16) break;\n");
    else if (w->rows * PG_LANES % finishers != 0)
        cg_cu(c, "if (i >= ROWS * 16) break;\n");
    cg_cu(c, "float sum = 0;\n"
             "#pragma unroll\n"
             "for (u32 l = 0; l < LANES; l++) sum += sum_at[l * ROWS * 16 + i];\n");
    print_result(w);
    cg_cu(c, "}\n}\n");
}
