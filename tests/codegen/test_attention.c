/* The attention kernels give the bits of docs/bits.md: caches, rope, windows, blocks of keys. */
#include "tests/codegen/reference.h"

static uint64_t head_bytes(const PgKernel *k) { return pg_panels(k->O) * PG_LANES * 4; }

/* Numbers of component i of position p in the caches. */
static uint64_t k_at(const PgKernel *k, int64_t head, int64_t p, int64_t i) {
    int64_t slot = p % k->cap;
    return (uint64_t)(((head * (k->cap / PG_LANES) + slot / PG_LANES) * k->O + i) * PG_LANES + slot % PG_LANES);
}

static uint64_t v_at(const PgKernel *k, int64_t head, int64_t p, int64_t i) {
    return (uint64_t)(head * k->cap + p % k->cap) * head_bytes(k) / 4 + (uint64_t)i;
}

static PgKernel random_kernel(Rng *r, PgKind kind) {
    PgKernel k = {.kind = kind};
    k.mode = rng_next(r) % 3 ? PG_BLOCK : PG_ROW;
    k.kv_heads = rng_between(r, 1, 2);
    k.heads = k.kv_heads * (rng_next(r) % 4 ? rng_between(r, 1, 3) : rng_between(r, 4, 9)); /* or more than stand side by side */
    k.O = rng_next(r) % 2 ? 16 * rng_between(r, 1, 2) : rng_between(r, 1, 32);
    if (kind == PG_ATTEND && rng_next(r) % 8 == 0) {
        k.kv_heads = k.heads = 1;
        k.O = rng_between(r, 129, 160); /* more panels than are summed side by side */
    }
    k.window = rng_next(r) % 2 ? rng_between(r, 1, 300) : 0;
    return k;
}

/* Gives the segments positions up to `most`, and the caches just enough room for them. */
static void place_segments(Rig *rig, int64_t most) {
    PgKernel *k = &rig->kernel;
    int64_t longest = 0, rows = 0;
    for (uint32_t s = 0; s < rig->args.n_segments; s++) {
        RtSegment *segment = &rig->segments[s];
        segment->position = rng_between(&rig->random, 0, most);
        if (rng_next(&rig->random) % 2)  /* the first or the last key soon passes into another block */
            segment->position = PG_KEY_BLOCK + (rng_next(&rig->random) % 2 ? k->window : 0) - rng_between(&rig->random, 0, 6);
        for (uint32_t i = 0; i < segment->count; i++) rig->row_position[segment->first_row + i] = segment->position + i;
        if (segment->position + segment->count > longest) longest = segment->position + segment->count;
        if (segment->count > rows) rows = segment->count;
    }
    int64_t need = k->window ? k->window + rows : longest;
    k->cap = (need + PG_LANES - 1) / PG_LANES * PG_LANES;
}

static void place_caches(Rig *rig, unsigned k_slot, unsigned v_slot) {
    const PgKernel *k = &rig->kernel;
    rig_place(rig, k_slot, PG_STATE, (uint64_t)(k->kv_heads * k->cap * k->O) * 4, -1, 1);
    rig_place(rig, v_slot, PG_STATE, (uint64_t)(k->kv_heads * k->cap) * head_bytes(k), -1, 1);
}

/* ---------------------------------------------------------------------------------------------- PG_KV_STORE */

/* Component i of a head after rope. */
static float rotated(const Rig *rig, unsigned slot, int64_t heads, uint64_t row, int64_t head, int64_t i) {
    const PgKernel *k = &rig->kernel;
    int64_t half = k->rope_dim / 2, O = heads * k->O, first = head * k->O, apart = k->interleaved ? 1 : half;
    float x = rig_get(rig, slot, PG_ROWS, O, 1, 0, row, first + i, 0);
    if (!k->rope || i >= k->rope_dim) return x;
    bool near = k->interleaved ? i % 2 == 0 : i < half;
    uint64_t pair = row * (uint64_t)half + (uint64_t)(k->interleaved ? i / 2 : i % half);
    float c = rig_float(rig, PG_KV_TABLE, 0, 2 * pair), s = rig_float(rig, PG_KV_TABLE, 0, 2 * pair + 1);
    float other = rig_get(rig, slot, PG_ROWS, O, 1, 0, row, first + (near ? i + apart : i - apart), 0);
    float xc = x * c, os = other * s;
    return near ? xc - os : xc + os;
}

static void expect_store(Rig *rig, uint64_t row) {
    const PgKernel *k = &rig->kernel;
    uint64_t s = (uint64_t)rig->row_segment[row];
    int64_t p = rig->row_position[row];
    for (int64_t at = 0; k->rope && at < k->heads * k->O; at++) {
        float q = rotated(rig, PG_KV_Q, k->heads, row, at / k->O, at % k->O);
        rig_expect(rig, PG_KV_Y, PG_ROWS, k->heads * k->O, 1, 0, row, at, 0, q);
    }
    for (int64_t at = 0; at < k->kv_heads * k->O; at++) {
        int64_t head = at / k->O, i = at % k->O;
        rig_expect_float(rig, PG_KV_K_CACHE, s, k_at(k, head, p, i), rotated(rig, PG_KV_K, k->kv_heads, row, head, i));
        float v = rig_get(rig, PG_KV_V, PG_ROWS, k->kv_heads * k->O, 1, 0, row, at, 0);
        rig_expect_float(rig, PG_KV_V_CACHE, s, v_at(k, head, p, i), v);
    }
}

static void store_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_KV_STORE);
    Rig rig;
    k.rope = k.O > 1 && rng_next(&random) % 3;
    k.interleaved = k.rope && rng_next(&random) % 2;
    if (k.rope) k.rope_dim = k.O % 32 == 0 && rng_next(&random) % 2 ? k.O : 2 * rng_between(&random, 1, k.O / 2);
    rig_open(&rig, &k, random);
    place_segments(&rig, 100);
    for (unsigned slot = PG_KV_Q; slot <= PG_KV_V; slot++) {
        int64_t heads = slot == PG_KV_Q ? k.heads : k.kv_heads;
        rig_place(&rig, slot, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, heads * k.O, 1), -2, 2);
    }
    place_caches(&rig, PG_KV_K_CACHE, PG_KV_V_CACHE);
    if (k.rope) {
        rig_place(&rig, PG_KV_TABLE, PG_ARENA, rig.ld * (uint64_t)k.rope_dim * 4, -1, 1);
        rig_place(&rig, PG_KV_Y, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.heads * k.O, 1), -2, 2);
        rig_result(&rig, PG_KV_Y);
    }
    if (k.mode == PG_ROW) {
        rig_reserve(&rig, PG_KV_DONE, PG_ARENA, (uint64_t)k.kv_heads * 4);
        rig_result(&rig, PG_KV_DONE);
    }
    rig.phase.count = PG_PER_ROW;
    rig_run(&rig);
    for (uint64_t row = 0; row < rig.rows; row++) expect_store(&rig, row);
    for (int64_t head = 0; k.mode == PG_ROW && head < k.kv_heads; head++)
        rig_expect_float(&rig, PG_KV_DONE, 0, (uint64_t)head, 0.0f);
    rig_check(&rig, "kv_store");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- PG_ATTEND */

enum { MAX_HEAD = 160 };

typedef struct Soft {
    float m, l, o[MAX_HEAD];
} Soft;

static void attend_block(const Rig *rig, uint64_t row, int64_t head, int64_t low, int64_t high, Soft *soft) {
    const PgKernel *k = &rig->kernel;
    int64_t kv = head * k->kv_heads / k->heads;
    uint64_t s = (uint64_t)rig->row_segment[row];
    float p[PG_KEY_BLOCK], m = -INFINITY, l = 0, scale = (float)k->scale;
    for (int64_t t = low; t <= high; t++) {
        float acc = 0;
        for (int64_t i = 0; i < k->O; i++) {
            float q = rig_get(rig, PG_ATTEND_Q, PG_ROWS, k->heads * k->O, 1, 0, row, head * k->O + i, 0);
            acc = fmaf(q, rig_float(rig, PG_ATTEND_K_CACHE, s, k_at(k, kv, t, i)), acc);
        }
        p[t - low] = acc * scale;
        if (p[t - low] > m) m = p[t - low];
    }
    for (int64_t t = low; t <= high; t++) l = l + (p[t - low] = vm_exp(p[t - low] - m));
    float M = soft->m < m ? m : soft->m, a = vm_exp(soft->m - M), b = vm_exp(m - M);
    soft->m = M;
    soft->l = fmaf(l, b, soft->l * a);
    for (int64_t i = 0; i < k->O; i++) {
        float o = 0;
        for (int64_t t = low; t <= high; t++) o = fmaf(p[t - low], rig_float(rig, PG_ATTEND_V_CACHE, s, v_at(k, kv, t, i)), o);
        soft->o[i] = fmaf(o, b, soft->o[i] * a);
    }
}

static void expect_head(Rig *rig, uint64_t row, int64_t head) {
    const PgKernel *k = &rig->kernel;
    int64_t t = rig->row_position[row], first = k->window && t >= k->window ? t - k->window + 1 : 0;
    Soft soft = {.m = -INFINITY};
    for (int64_t block = first / PG_KEY_BLOCK; block <= t / PG_KEY_BLOCK; block++) {
        int64_t low = block * PG_KEY_BLOCK, high = low + PG_KEY_BLOCK - 1;
        attend_block(rig, row, head, low > first ? low : first, high < t ? high : t, &soft);
    }
    for (int64_t i = 0; i < k->O; i++)
        rig_expect(rig, PG_ATTEND_Y, PG_ROWS, k->heads * k->O, 1, 0, row, head * k->O + i, 0, soft.o[i] / soft.l);
}

static void attend_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_ATTEND);
    k.scale = rng_next(&random) % 2 ? 1 / sqrt((double)k.O) : 0.3;
    Rig rig;
    rig_open(&rig, &k, random);
    place_segments(&rig, k.O <= 32 ? 800 : 300);
    rig_place(&rig, PG_ATTEND_Q, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.heads * k.O, 1), -2, 2);
    rig_place(&rig, PG_ATTEND_Y, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.heads * k.O, 1), -2, 2);
    place_caches(&rig, PG_ATTEND_K_CACHE, PG_ATTEND_V_CACHE);
    rig_result(&rig, PG_ATTEND_Y);
    if (k.mode == PG_ROW) {
        rig_place(&rig, PG_ATTEND_DONE, PG_ARENA, (uint64_t)k.kv_heads * 4, 0, 0);
        rig_reserve(&rig, PG_ATTEND_PARTS, PG_ARENA, pg_key_parts_bytes(&rig.kernel));
        rig_result(&rig, PG_ATTEND_DONE);
        rig_result(&rig, PG_ATTEND_PARTS);
    }
    rig.phase.count = PG_PER_ROW;
    rig.phase.fixed = (uint32_t)k.kv_heads;
    rig_run(&rig);
    for (uint64_t row = 0; row < rig.rows; row++)
        for (int64_t head = 0; head < k.heads; head++) expect_head(&rig, row, head);
    rig_check(&rig, "attend");
    rig_close(&rig);
}

static void keys_and_values_go_to_their_slots(void **state) { (void)state, rig_each(30, 1, store_case); }
static void attention_gives_the_bits(void **state) { (void)state, rig_each(24, 2, attend_case); }

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_and_values_go_to_their_slots),
                                       cmocka_unit_test(attention_gives_the_bits)};
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
