/* PG_KV_STORE and PG_ATTEND. The k cache holds 16 positions side by side, [Hkv][cap / 16][head_dim][16], the v cache components,
 * [Hkv][cap][head_dim up to 16]; position p lies at p % cap. */
#include "codegen/cuda/kernels.h"

enum {
    SHARED_ROWS = 4, /* rows a sequence, on average, from which on they are taken together */
    MOST_RUNS = 16   /* of a row's keys, which blocks take together */
};

/* Position of `row` in its sequence, and the sequence's segment. */
static void print_position(CgCuda *c) {
    if (c->kernel->mode == PG_ROW) {
        cg_cu(c, "const u64 row = 0;\nconst Segment *segment = step->segments;\nconst i64 position = segment->position;\n");
    } else {
        cg_cu(c, "const Segment *segment = step->segments + step->row_segment[row];\n"
                 "const i64 position = step->row_position[row];\n");
    }
}

static void print_sizes(CgCuda *c) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "enum { HEADS = %lld, KV_HEADS = %lld, DIM = %lld, DIM16 = %llu, CAP = %lld };\n", (long long)k->heads,
          (long long)k->kv_heads, (long long)k->O, (unsigned long long)pg_panels(k->O) * 16, (long long)k->cap);
    cg_cuda_strides(c);
}

/* ---------------------------------------------------------------------------------------------- PG_KV_STORE */

/* float v: component i of head h of `from`, turned by the row's angles where the program has rope. */
static void print_component(CgCuda *c, const char *from, bool turned) {
    const PgKernel *k = c->kernel;
    cg_cu(c, "const u32 h = at / DIM, i = at %% DIM;\nfloat v = %s[element(ld, row, at)];\n", from);
    if (!turned) return;
    if (k->interleaved) {
        cg_cu(c,
              "if (i < %lld) { /* a pair is 2 j and 2 j + 1 */\n"
              "const float *turn = table + i / 2 * 2;\n"
              "const float other = %s[element(ld, row, i %% 2 ? at - 1 : at + 1)];\n"
              "v = i %% 2 ? v * turn[0] + other * turn[1] : v * turn[0] - other * turn[1];\n"
              "}\n",
              (long long)k->rope_dim, from);
        return;
    }
    cg_cu(c,
          "if (i < %lld) { /* a pair is i and i + dim / 2 */\n"
          "const u32 half = %lld;\n"
          "const float *turn = table + 2 * (i %% half);\n"
          "const float other = %s[element(ld, row, i < half ? at + half : at - half)];\n"
          "v = i < half ? v * turn[0] - other * turn[1] : v * turn[0] + other * turn[1];\n"
          "}\n",
          (long long)k->rope_dim, (long long)k->rope_dim / 2, from);
}

void cg_cuda_kv_store(CgCuda *c) {
    const PgKernel *k = c->kernel;
    print_sizes(c);
    cg_cu(c, "const float *key = floats(step, phase, %d), *value = floats(step, phase, %d);\n", PG_KV_K, PG_KV_V);
    if (k->rope) cg_cu(c, "const float *q = floats(step, phase, %d);\nfloat *y = floats(step, phase, %d);\n", PG_KV_Q, PG_KV_Y);
    cg_cuda_tiles(c, 1);
    if (k->mode == PG_ROW)
        cg_cu(c, "for (u32 h = threadIdx.x; h < KV_HEADS; h += THREADS) ints(step, phase, %d)[h] = 0;\n", PG_KV_DONE);
    else
        cg_cu(c, "const u64 row = tile;\n");
    print_position(c);
    cg_cu(c,
          "const u32 slot = (u32)(position %% CAP);\n"
          "float *keys = state_floats(segment, phase, %d), *values = state_floats(segment, phase, %d);\n",
          PG_KV_K_CACHE, PG_KV_V_CACHE);
    if (k->rope) {
        cg_cu(c, "const float *table = floats(step, phase, %d) + row * %lld; /* cos and sin of pairs */\n", PG_KV_TABLE,
              (long long)k->rope_dim);
        cg_cu(c, "for (u32 at = threadIdx.x; at < HEADS * DIM; at += THREADS) {\n");
        print_component(c, "q", true);
        cg_cu(c, "y[element(ld, row, h * DIM + i)] = v;\n}\n");
    }
    cg_cu(c, "for (u32 at = threadIdx.x; at < KV_HEADS * DIM; at += THREADS) {\n");
    print_component(c, "key", k->rope);
    cg_cu(c, "keys[(((u64)h * (CAP / 16) + slot / 16) * DIM + i) * 16 + slot %% 16] = v;\n}\n"
             "for (u32 at = threadIdx.x; at < KV_HEADS * DIM; at += THREADS) {\n");
    print_component(c, "value", false);
    cg_cu(c, "values[((u64)h * CAP + slot) * DIM16 + i] = v;\n}\n");
    cg_cuda_end_tiles(c);
}

/* ---------------------------------------------------------------------------------------------- PG_ATTEND */

/* Scores of THREADS keys before `past`, one a thread: `power` of this one, its sum over all added to L, and what O is scaled by. */
static void print_scores(CgCuda *c) {
    char scale[48];
    cg_cu(c,
          "const i64 at = from + threadIdx.x;\n"
          "float score = minus_infinity();\n"
          "if (at < past) {\n"
          "const u32 slot = (u32)(at %% CAP);\n"
          "const float *k_at = keys + (u64)(slot / 16) * (DIM * 16) + slot %% 16;\n"
          "score = 0;\n"
          "for (u32 i = 0; i < DIM; i++) score = fmaf(qs[i], k_at[i * 16], score);\n"
          "score *= %s;\n"
          "}\n"
          "const float most = vm_max(M, block_max(score, sums)), power = at < past ? vm_exp(score - most) : 0;\n"
          "const float old = vm_exp(M - most);\n"
          "powers[threadIdx.x] = power;\n"
          "L = fmaf(L, old, block_sum(power, sums)); /* a barrier: powers are there */\n"
          "M = most;\n",
          cg_cuda_float(c->kernel->scale, scale));
}

/* O := O · old + Σ power · v. Threads stand over components, those left over share the keys. */
static void print_values(CgCuda *c) {
    cg_cu(c, "const u32 n = past - from < THREADS ? (u32)(past - from) : THREADS;\n"
             "for (u32 i0 = 0; i0 < DIM16; i0 += WIDTH) {\n"
             "const u32 i = i0 + threadIdx.x %% WIDTH;\n"
             "float sum = 0;\n"
             "for (u32 t = threadIdx.x / WIDTH; i < DIM && t < n; t += PARTS) {\n"
             "sum = fmaf(powers[t], values[(u64)((from + t) %% CAP) * DIM16 + i], sum);\n"
             "}\n"
             "if (threadIdx.x < WIDTH * PARTS) shares[threadIdx.x] = sum;\n"
             "__syncthreads();\n"
             "if (threadIdx.x < WIDTH && i < DIM) {\n"
             "for (u32 p = 1; p < PARTS; p++) sum += shares[p * WIDTH + threadIdx.x];\n"
             "O[i] = fmaf(O[i], old, sum);\n"
             "}\n"
             "__syncthreads();\n"
             "}\n");
}

/* Runs of keys that a step of one row is cut into at most, so that there is work for all blocks however few heads there are. PARTS has
 * room for one of every PG_KEY_BLOCK keys. */
static uint64_t runs_of(const CgCuda *c) {
    const PgKernel *k = c->kernel;
    uint64_t blocks = pg_key_blocks(k), runs = 1;
    if (k->mode != PG_ROW || c->target->threads < PG_KEY_BLOCK) return 1;
    while (runs < MOST_RUNS && runs < blocks && runs * (uint64_t)k->heads < 2 * (uint64_t)c->target->multiprocessors) runs++;
    return runs;
}

/* The keys of this tile: from `begin` to `past`, of all that the row sees or of a run of them. Runs are as long as each other, in steps
 * of THREADS; those behind the last key have nothing to do. */
static void print_keys(CgCuda *c, uint64_t runs) {
    long long window = (long long)c->kernel->window;
    if (window > 0)
        cg_cu(c, "i64 begin = position < %lld ? 0 : position - %lld, past = position + 1;\n", window, window - 1);
    else
        cg_cu(c, "i64 begin = 0, past = position + 1;\n");
    if (runs == 1) return;
    cg_cu(c, "const u32 blocks = (u32)((past - begin + THREADS - 1) / THREADS), of_run = (blocks + RUNS - 1) / RUNS * THREADS;\n"
             "const u32 run = tile / HEADS, runs = (blocks * THREADS + of_run - 1) / of_run;\n"
             "if (run >= runs) continue;\n"
             "begin += (i64)run * of_run;\n"
             "if (past > begin + of_run) past = begin + of_run;\n");
}

/* M, L and O of a run go to PARTS; the last run of a key/value head's heads puts them together, in the order of keys. */
static void print_merge(CgCuda *c) {
    cg_cu(c,
          "if (runs > 1) {\n"
          "enum { GROUP = HEADS / KV_HEADS, PART = DIM16 + 32 };\n"
          "float *parts = floats(step, phase, %d), *part = parts + (u64)(run * HEADS + head) * PART;\n"
          "for (u32 i = threadIdx.x; i < DIM; i += THREADS) part[32 + i] = O[i];\n"
          "if (threadIdx.x == 0) part[0] = M, part[16] = L;\n"
          "__syncthreads();\n"
          "u32 *done = (u32 *)ints(step, phase, %d) + kv_head;\n"
          "const bool last = threadIdx.x == 0 && ADD_ACQUIRE_RELEASE(done, 1u) + 1 == runs * GROUP;\n"
          "if (!__syncthreads_or(last)) continue;\n"
          "for (u32 at = threadIdx.x; at < GROUP * DIM; at += THREADS) {\n"
          "const u32 h = kv_head * GROUP + at / DIM, i = at %% DIM;\n"
          "float most = minus_infinity(), below = 0, sum = 0;\n"
          "for (u32 r = 0; r < runs; r++) most = vm_max(most, parts[(u64)(r * HEADS + h) * PART]);\n"
          "for (u32 r = 0; r < runs; r++) {\n"
          "const float *of = parts + (u64)(r * HEADS + h) * PART;\n"
          "const float power = vm_exp(of[0] - most);\n"
          "below = fmaf(of[16], power, below);\n"
          "sum = fmaf(of[32 + i], power, sum);\n"
          "}\n"
          "y[element(ld, row, h * DIM + i)] = sum / below;\n"
          "}\n"
          "continue;\n"
          "}\n",
          PG_ATTEND_PARTS, PG_ATTEND_DONE);
}

/* A block of threads takes a head of a row, or a run of its keys; its keys THREADS at a time; M, L and O as in docs/bits.md. */
static void print_single_rows(CgCuda *c) {
    const PgKernel *k = c->kernel;
    uint64_t threads = (uint64_t)c->target->threads, padded = pg_panels(k->O) * PG_LANES;
    uint64_t width = padded < threads ? padded : threads;
    uint64_t runs = runs_of(c);
    cg_cu(c, "enum { WIDTH = %llu, PARTS = %llu, RUNS = %llu };\n", (unsigned long long)width,
          (unsigned long long)(threads / width), (unsigned long long)runs);
    cg_cuda_shared(c, "float", "qs", padded * sizeof(float));
    cg_cuda_shared(c, "float", "O", padded * sizeof(float));
    cg_cuda_shared(c, "float", "powers", threads * sizeof(float));
    cg_cuda_shared(c, "float", "shares", threads * sizeof(float));
    cg_cuda_shared(c, "float", "sums", threads / 32 * sizeof(float));
    cg_cuda_tiles(c, (uint64_t)(k->heads / k->kv_heads) * runs);
    cg_cu(c, "const u32 head = tile %% HEADS, kv_head = head * KV_HEADS / HEADS;\n");
    if (k->mode == PG_BLOCK) cg_cu(c, "const u64 row = tile / HEADS;\n");
    print_position(c);
    print_keys(c, runs);
    cg_cu(c,
          "const float *keys = state_floats(segment, phase, %d) + (u64)kv_head * CAP * DIM;\n"
          "const float *values = state_floats(segment, phase, %d) + (u64)kv_head * CAP * DIM16;\n"
          "for (u32 i = threadIdx.x; i < DIM16; i += THREADS) {\n"
          "qs[i] = i < DIM ? q[element(ld, row, head * DIM + i)] : 0;\n"
          "O[i] = 0;\n"
          "}\n"
          "__syncthreads();\n"
          "float M = minus_infinity(), L = 0;\n",
          PG_ATTEND_K_CACHE, PG_ATTEND_V_CACHE);
    cg_cu(c, "for (i64 from = begin; from < past; from += THREADS) {\n");
    print_scores(c);
    print_values(c);
    cg_cu(c, "}\n");
    if (runs > 1) print_merge(c);
    cg_cu(c, "for (u32 i = threadIdx.x; i < DIM; i += THREADS) {\n"
             "const float v = O[i] / L;\n");
    cg_cuda_put(c, "", "ld", "element(ld, row, head * DIM + i)", "row", "head * DIM + i", "v");
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}

/* Rows of one sequence share the keys that they see, if there are several. */
void cg_cuda_attend(CgCuda *c) {
    print_sizes(c);
    cg_cu(c, "const float *q = floats(step, phase, %d);\nfloat *y = floats(step, phase, %d);\n", PG_ATTEND_Q, PG_ATTEND_Y);
    cg_cuda_words(c);
    if (c->form != CG_MANY || !cg_cuda_attends_rows(c->kernel)) {
        print_single_rows(c);
        return;
    }
    cg_cu(c, "if (step->rows < %d * step->n_segments) {\n", SHARED_ROWS);
    print_single_rows(c);
    cg_cu(c, "}\n");
    uint64_t shared = c->shared;
    c->shared = 0;
    cg_cuda_attend_rows(c);
    if (c->shared < shared) c->shared = shared;
}
