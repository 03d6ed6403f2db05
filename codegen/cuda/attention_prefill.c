/* PG_ATTEND for many rows of a sequence: a tile is QUERIES rows of one head, and keys pass by KEYS at a time through shared memory,
 * where all of the tile's rows use them. With p_j = exp(s_j - M) of the scores so far, O and L are kept as for one row (attention.c).
 *
 * The tile's 256 threads lie in three ways: over QUERIES x KEYS scores, four keys a thread; a few threads a row for its maximum and
 * sum; over QUERIES x head_dim of O, four components of several rows a thread, O in registers. Keys come as they lie in the cache,
 * 16 positions of a component side by side. A tile whose rows are of several sequences takes one after the other. */
#include "codegen/cuda/kernels.h"

enum { SHARED_BYTES = 48 * 1024, MOST_DIM = 256 };

typedef struct Attend {
    CgCuda *c;
    const PgKernel *k;
    uint64_t queries, keys, dim16;
} Attend;

static uint64_t shared_bytes(const Attend *a) {
    uint64_t staged = a->dim16 * a->keys, scores = a->queries * (a->keys + 4);
    return (a->dim16 * (a->queries + 4) + staged + scores + 2 * a->queries) * sizeof(float);
}

bool cg_cuda_attends_rows(const PgKernel *k) { return k->O <= MOST_DIM; }

static void print_memory(const Attend *a) {
    CgCuda *c = a->c;
    cg_cu(c,
          "enum { QUERIES = %llu, KEYS = %llu, Q_ROW = QUERIES + 4, P_ROW = KEYS + 4, QUADS = %llu, APART = THREADS / QUADS,\n"
          "       OWN = (QUERIES + APART - 1) / APART, SIDE = THREADS / (KEYS / 4), TALL = (QUERIES + SIDE - 1) / SIDE,\n"
          "       SHARE = THREADS / QUERIES };\n",
          (unsigned long long)a->queries, (unsigned long long)a->keys, (unsigned long long)a->dim16 / 4);
    cg_cuda_shared(c, "float", "qs", a->dim16 * (a->queries + 4) * sizeof(float)); /* [DIM][Q_ROW] */
    cg_cuda_shared(c, "float", "staged", a->dim16 * a->keys * sizeof(float)); /* keys [DIM][KEYS], values [KEYS][DIM16] */
    cg_cuda_shared(c, "float", "powers", a->queries * (a->keys + 4) * sizeof(float)); /* [QUERIES][P_ROW]; scores first */
    cg_cuda_shared(c, "float", "olds", a->queries * sizeof(float)); /* what O of a row is scaled by */
    cg_cuda_shared(c, "float", "wholes", a->queries * sizeof(float)); /* L of a row */
}

/* The rows of the tile that belong to one sequence, and the first key that one of them sees, down to a multiple of 16. */
static void open_run(const Attend *a) {
    CgCuda *c = a->c;
    cg_cu(c, "for (u32 row0 = tile_row; row0 < tile_end;) {\n"
             "const Segment *segment = step->segments + step->row_segment[row0];\n"
             "const u32 segment_end = segment->first_row + segment->count;\n"
             "const u32 rows = (segment_end < tile_end ? segment_end : tile_end) - row0;\n"
             "const i64 position = step->row_position[row0], last = position + rows - 1;\n");
    if (a->k->window > 0) {
        cg_cu(c, "const i64 least = position < %lld ? 0 : (position - %lld) / 16 * 16;\n", (long long)a->k->window,
              (long long)a->k->window - 1);
    } else {
        cg_cu(c, "const i64 least = 0;\n");
    }
    cg_cu(c,
          "const float *keys = state_floats(segment, phase, %d) + (u64)kv_head * CAP * DIM;\n"
          "const float *values = state_floats(segment, phase, %d) + (u64)kv_head * CAP * DIM16;\n"
          "__syncthreads();\n"
          "for (u32 i = threadIdx.x; i < QUERIES * DIM16; i += THREADS) {\n"
          "const u32 e = i %% 16 + i / (16 * QUERIES) * 16, r = i / 16 %% QUERIES;\n"
          "if (e < DIM) qs[e * Q_ROW + r] = r < rows ? q[element(ld, row0 + r, head * DIM + e)] : 0;\n"
          "}\n"
          "float M = minus_infinity(), L = 0; /* of row threadIdx.x / SHARE */\n"
          "float4 O[OWN] = {};\n",
          PG_ATTEND_K_CACHE, PG_ATTEND_V_CACHE);
}

/* A key that no row sees is as good as any other: its power becomes 0. */
static void print_keys(const Attend *a) {
    cg_cu(a->c, "__syncthreads();\n"
                "for (u32 i = threadIdx.x; i < KEYS / 16 * DIM * 4; i += THREADS) {\n"
                "const u32 b = i / (DIM * 4), e = i / 4 %% DIM, four = i %% 4;\n"
                "const u64 slot = (u64)((from + b * 16) %% CAP);\n"
                "float4 v = splat4(0);\n"
                "if (from + b * 16 <= last) v = quad(keys + (slot / 16 * DIM + e) * 16)[four];\n"
                "*quad(staged + e * KEYS + b * 16 + four * 4) = v;\n"
                "}\n"
                "__syncthreads();\n");
}

static void print_scores(const Attend *a) {
    CgCuda *c = a->c;
    char scale[48];
    cg_cu(c, "const u32 key4 = threadIdx.x %% (KEYS / 4), r0 = threadIdx.x / (KEYS / 4) * TALL;\n"
             "float4 scores[TALL] = {};\n"
             "#pragma unroll 4\n"
             "for (u32 e = 0; r0 < QUERIES && e < DIM; e++) {\n"
             "const float4 key = quad(staged + e * KEYS)[key4];\n"
             "#pragma unroll\n"
             "for (u32 j = 0; j < TALL; j++) scores[j] = fma4(qs[e * Q_ROW + r0 + j], key, scores[j]);\n"
             "}\n"
             "#pragma unroll\n"
             "for (u32 j = 0; j < TALL && r0 + j < QUERIES; j++) {\n"
             "const i64 here = position + r0 + j, at = from + key4 * 4;\n"
             "const float four[4] = {scores[j].x, scores[j].y, scores[j].z, scores[j].w};\n"
             "#pragma unroll\n"
             "for (u32 i = 0; i < 4; i++) {\n");
    cg_cu(c, "const bool seen = at + i <= here");
    if (a->k->window > 0) cg_cu(c, " && at + i > here - %lld", (long long)a->k->window);
    cg_cu(c,
          ";\n"
          "powers[(r0 + j) * P_ROW + key4 * 4 + i] = seen ? four[i] * %s : minus_infinity();\n"
          "}\n}\n"
          "__syncthreads();\n",
          cg_cuda_float(1.4426950408889634 * a->k->scale, scale));
}

/* Scores, in units of ln 2, become powers; SHARE threads a row. A row that has seen no key yet keeps M = -inf. */
static void print_powers(const Attend *a) {
    cg_cu(a->c, "{\n"
                "float *row = powers + threadIdx.x / SHARE * P_ROW;\n"
                "float most = M, sum = 0;\n"
                "for (u32 i = threadIdx.x %% SHARE; i < KEYS; i += SHARE) most = vm_max(most, row[i]);\n"
                "for (u32 distance = SHARE / 2; distance > 0; distance /= 2) {\n"
                "most = vm_max(most, __shfl_xor_sync(ALL_LANES, most, distance));\n"
                "}\n"
                "const float base = most == minus_infinity() ? 0 : most, old = FAST_EXP2(M - base);\n"
                "for (u32 i = threadIdx.x %% SHARE; i < KEYS; i += SHARE) {\n"
                "row[i] = FAST_EXP2(row[i] - base);\n"
                "sum += row[i];\n"
                "}\n"
                "for (u32 distance = SHARE / 2; distance > 0; distance /= 2) {\n"
                "sum += __shfl_xor_sync(ALL_LANES, sum, distance);\n"
                "}\n"
                "L = fmaf(L, old, sum);\n"
                "M = most;\n"
                "if (threadIdx.x %% SHARE == 0) olds[threadIdx.x / SHARE] = old;\n"
                "}\n");
}

static void print_values(const Attend *a) {
    cg_cu(a->c, "for (u32 i = threadIdx.x; i < KEYS * QUADS; i += THREADS) {\n"
                "const i64 at = from + i / QUADS;\n"
                "*quad(staged + 4 * i) = at <= last ? quad(values + (u64)(at %% CAP) * DIM16)[i %% QUADS] : splat4(0);\n"
                "}\n"
                "__syncthreads();\n"
                "#pragma unroll\n"
                "for (u32 j = 0; j < OWN; j++) {\n"
                "const u32 r = own + APART * j;\n"
                "if (r < QUERIES) O[j] = mul4(O[j], splat4(olds[r]));\n"
                "}\n"
                "for (u32 t = 0; t < KEYS; t += 4) {\n"
                "const float4 *value = quad(staged + t * DIM16) + threadIdx.x %% QUADS;\n"
                "const float4 v0 = value[0], v1 = value[QUADS], v2 = value[2 * QUADS], v3 = value[3 * QUADS];\n"
                "#pragma unroll\n"
                "for (u32 j = 0; j < OWN; j++) {\n"
                "const u32 r = own + APART * j;\n"
                "if (r >= QUERIES) break;\n"
                "const float4 p = *quad(powers + r * P_ROW + t);\n"
                "O[j] = fma4(p.w, v3, fma4(p.z, v2, fma4(p.y, v1, fma4(p.x, v0, O[j]))));\n"
                "}\n}\n");
}

static void print_result(const Attend *a) {
    cg_cu(a->c, "if (threadIdx.x %% SHARE == 0) wholes[threadIdx.x / SHARE] = L;\n"
                "__syncthreads();\n"
                "#pragma unroll\n"
                "for (u32 j = 0; j < OWN; j++) {\n"
                "const u32 r = own + APART * j, e = threadIdx.x %% QUADS * 4;\n"
                "if (r >= rows) break;\n"
                "const float four[4] = {O[j].x, O[j].y, O[j].z, O[j].w};\n"
                "for (u32 i = 0; i < 4 && e + i < DIM; i++) {\n"
                "const u32 at = head * DIM + e + i;\n"
                "const float v = four[i] / wholes[r];\n");
    cg_cuda_put(a->c, "", "ld", "element(ld, row0 + r, at)", "row0 + r", "at", "v");
    cg_cu(a->c, "}\n}\n");
}

void cg_cuda_attend_rows(CgCuda *c) {
    Attend a = {.c = c, .k = c->kernel, .queries = 32, .keys = 64, .dim16 = pg_panels(c->kernel->O) * PG_LANES};
    if (shared_bytes(&a) > SHARED_BYTES) a.keys = 32;
    if (shared_bytes(&a) > SHARED_BYTES) a.queries = 16;
    print_memory(&a);
    cg_cuda_tiles_of(c, a.queries, (uint64_t)(a.k->heads / a.k->kv_heads), 0);
    cg_cu(c, "const u32 own = threadIdx.x < APART * QUADS ? threadIdx.x / QUADS : QUERIES; /* the first row of O that is this "
             "thread's */\n"
             "const u32 head = tile %% HEADS, kv_head = head * KV_HEADS / HEADS;\n"
             "const u32 tile_row = tile / HEADS * QUERIES;\n"
             "const u32 tile_end = tile_row + QUERIES < step->rows ? tile_row + QUERIES : step->rows;\n");
    open_run(&a);
    cg_cu(c, "for (i64 from = least; from <= last; from += KEYS) {\n");
    print_keys(&a);
    print_scores(&a);
    print_powers(&a);
    print_values(&a);
    cg_cu(c, "}\n");
    print_result(&a);
    cg_cu(c, "row0 += rows;\n}\n");
    cg_cuda_end_tiles(c);
}
