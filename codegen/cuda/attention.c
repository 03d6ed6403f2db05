/* PG_KV_STORE and PG_ATTEND. The k cache holds 16 positions side by side, [Hkv][cap / 16][head_dim][16], the v cache components,
 * [Hkv][cap][head_dim up to 16]; position p lies at p % cap. */
#include "codegen/cuda/kernels.h"

enum { SHARED_ROWS = 4 /* rows a sequence, on average, from which on they are taken together */ };

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
    if (k->mode == PG_BLOCK) cg_cu(c, "const u64 row = tile;\n");
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

/* Scores of THREADS keys, one a thread: `power` of this one, its sum over all added to L, and what O is scaled by. */
static void print_scores(CgCuda *c) {
    char scale[48];
    cg_cu(c,
          "const i64 at = from + threadIdx.x;\n"
          "float score = minus_infinity();\n"
          "if (at <= position) {\n"
          "const u32 slot = (u32)(at %% CAP);\n"
          "const float *k_at = keys + (u64)(slot / 16) * (DIM * 16) + slot %% 16;\n"
          "score = 0;\n"
          "for (u32 i = 0; i < DIM; i++) score = fmaf(qs[i], k_at[i * 16], score);\n"
          "score *= %s;\n"
          "}\n"
          "const float most = vm_max(M, block_max(score, sums)), power = at <= position ? vm_exp(score - most) : 0;\n"
          "const float old = vm_exp(M - most);\n"
          "powers[threadIdx.x] = power;\n"
          "L = fmaf(L, old, block_sum(power, sums)); /* a barrier: powers are there */\n"
          "M = most;\n",
          cg_cuda_float(c->kernel->scale, scale));
}

/* O := O · old + Σ power · v. Threads stand over components, those left over share the keys. */
static void print_values(CgCuda *c) {
    cg_cu(c, "const u32 n = position - from + 1 < THREADS ? (u32)(position - from + 1) : THREADS;\n"
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

/* A block of threads takes a head of a row, its keys THREADS at a time; M, L and O as in docs/bits.md. */
static void print_single_rows(CgCuda *c) {
    const PgKernel *k = c->kernel;
    uint64_t threads = (uint64_t)c->target->threads, padded = pg_panels(k->O) * PG_LANES;
    uint64_t width = padded < threads ? padded : threads;
    cg_cu(c, "enum { WIDTH = %llu, PARTS = %llu };\n", (unsigned long long)width, (unsigned long long)(threads / width));
    cg_cuda_shared(c, "float", "qs", padded * sizeof(float));
    cg_cuda_shared(c, "float", "O", padded * sizeof(float));
    cg_cuda_shared(c, "float", "powers", threads * sizeof(float));
    cg_cuda_shared(c, "float", "shares", threads * sizeof(float));
    cg_cuda_shared(c, "float", "sums", threads / 32 * sizeof(float));
    cg_cuda_tiles(c, (uint64_t)(k->heads / k->kv_heads));
    cg_cu(c, "const u32 head = tile %% HEADS, kv_head = head * KV_HEADS / HEADS;\n");
    if (k->mode == PG_BLOCK) cg_cu(c, "const u64 row = tile / HEADS;\n");
    print_position(c);
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
    if (k->window > 0) {
        cg_cu(c, "for (i64 from = position < %lld ? 0 : position - %lld; from <= position; from += THREADS) {\n",
              (long long)k->window, (long long)k->window - 1);
    } else {
        cg_cu(c, "for (i64 from = 0; from <= position; from += THREADS) {\n");
    }
    print_scores(c);
    print_values(c);
    cg_cu(c, "}\n"
             "for (u32 i = threadIdx.x; i < DIM; i += THREADS) {\n"
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
