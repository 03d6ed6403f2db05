/* PG_NORM, PG_EMBED, PG_ROUTE, PG_GROUP and PG_COMBINE against docs/bits.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/codegen/harness.h"
// clang-format off
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include "ir/vmath32.h"

typedef void (*Trial)(Harness *h, PgMode mode);

static void try_both(Trial trial, int times) {
    const char *isas[] = {"avx512", "avx2"};
    for (int i = 0; i < 2; i++) {
        Harness *h = harness_new(isas[i], 11);
        for (int t = 0; h->present && t < times; t++) trial(h, t % 2 ? PG_BLOCK : PG_ROW);
        harness_free(h);
    }
}

static uint32_t random_rows(Harness *h, PgMode mode) { return mode == PG_ROW ? 1 : 1 + harness_below(h, 50); }

static void set_tiles(Harness *h, PgMode mode, PgCount count) { h->phase.count = mode == PG_ROW ? PG_ONCE : count; }

/* ---------------------------------------------------------------------------------------------- norm */

static void norm_trial(Harness *h, PgMode mode) {
    int64_t n = 1 + harness_below(h, 200), E = 1 + harness_below(h, 3);
    bool gather = harness_below(h, 3) == 0;
    PgKernel k = {.kind = PG_NORM,
                  .mode = mode,
                  .O = n,
                  .K = n,
                  .norm = harness_below(h, 2) ? PG_RMS : PG_LAYER,
                  .eps = 1e-6,
                  .x_layout = !gather && E > 1 ? PG_PLANES : PG_ROWS,
                  .gather_out_rows = gather};
    k.y_layout = k.x_layout;
    uint64_t planes = k.x_layout == PG_PLANES ? (uint64_t)E : 1;
    k.E = k.x_layout == PG_PLANES ? E : 0;
    uint32_t rows = random_rows(h, mode), n_out_rows = gather ? harness_below(h, rows + 1) : 0;
    harness_step(h, mode, rows, n_out_rows);
    for (uint32_t i = 0; i < n_out_rows; i++) h->out_rows[i] = (int32_t)harness_below(h, rows);
    set_tiles(h, mode, PG_PER_ROW_BLOCK);
    h->phase.count = gather ? PG_PER_OUT_ROW_BLOCK : h->phase.count;
    uint64_t LD = h->args.ld, plane = pg_panels(n) * LD * 16;
    float *x = harness_floats(h, planes * rows * (uint64_t)n), *w = harness_floats(h, (uint64_t)n),
          *b = harness_floats(h, (uint64_t)n);
    float *at = harness_arena(h, PG_NORM_X, planes * plane * 4), *y = harness_arena(h, PG_NORM_Y, planes * plane * 4);
    for (uint64_t p = 0; p < planes; p++) harness_put(at + p * plane, x + p * rows * (uint64_t)n, rows, n, LD);
    harness_pack_vector(h, PG_NORM_W, w, 1, n);
    harness_pack_vector(h, PG_NORM_B, b, 1, n);
    harness_run(h, &k);
    float *expected = malloc((uint64_t)n * 4);
    for (uint64_t p = 0; p < planes; p++) {
        for (uint32_t i = 0; i < (gather ? n_out_rows : rows); i++) {
            uint64_t row = gather ? (uint64_t)h->out_rows[i] : i;
            reference_norm(k.norm, x + (p * rows + row) * (uint64_t)n, w, b, n, k.eps, expected);
            for (int64_t j = 0; j < n; j++) check_bits("norm", i, (uint64_t)j, harness_at(y + p * plane, i, j, LD), expected[j]);
        }
    }
    free(x), free(w), free(b), free(expected);
}

static void norm_of_rows_planes_and_output_rows(void **unused) {
    (void)unused;
    try_both(norm_trial, 16);
}

/* ---------------------------------------------------------------------------------------------- embedding */

static void embed_trial(Harness *h, PgMode mode) {
    int64_t V = 1 + harness_below(h, 100), D = 1 + harness_below(h, 130);
    PgKernel k = {
        .kind = PG_EMBED, .mode = mode, .dtype = (IrDtype)harness_below(h, 3), .K = V, .O = D, .scaled = harness_below(h, 2)};
    k.scale = k.scaled ? 1.7 : 0;
    uint32_t rows = random_rows(h, mode);
    harness_step(h, mode, rows, 0);
    set_tiles(h, mode, PG_PER_ROW_BLOCK);
    float *w = harness_weights(h, k.dtype, (uint64_t)(V * D));
    harness_pack_panels(h, PG_EMBED_W, k.dtype, w, 1, V, D);
    float *y = harness_arena(h, PG_EMBED_Y, pg_panels(D) * h->args.ld * 64);
    for (uint32_t i = 0; i < rows; i++) h->tokens[i] = (int32_t)harness_below(h, (uint32_t)V);
    harness_run(h, &k);
    for (uint32_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < D; j++) {
            float expected = w[h->tokens[i] * D + j];
            check_bits("embed", i, (uint64_t)j, harness_at(y, i, j, h->args.ld), k.scaled ? (float)k.scale * expected : expected);
        }
    }
    free(w);
}

static void embedding_of_every_dtype(void **unused) {
    (void)unused;
    try_both(embed_trial, 16);
}

/* ---------------------------------------------------------------------------------------------- routing */

/* The k largest keys, ties to the lower index, in rising order. */
static void reference_select(const PgKernel *k, const float *keys, int32_t *expert_indices) {
    int64_t n = 0;
    for (int64_t i = 0; i < k->E; i++) {
        int64_t before = 0;
        for (int64_t j = 0; j < k->E; j++) before += keys[j] > keys[i] || (keys[j] == keys[i] && j < i);
        if (before < k->k) expert_indices[n++] = (int32_t)i;
    }
}

static void reference_scores(const PgKernel *k, float *r) {
    float m = -INFINITY, sum = 0;
    for (int64_t i = 0; i < k->E; i++) m = m < r[i] ? r[i] : m;
    for (int64_t i = 0; i < k->E; i++) {
        r[i] = k->sigmoid ? vm_sigmoid(r[i]) : vm_exp(r[i] - m);
        sum = sum + r[i];
    }
    for (int64_t i = 0; i < k->E && !k->sigmoid; i++) r[i] = r[i] / sum;
}

/* Expert indices and combine weights of one row from its r, which becomes p. Without a select bias experts are chosen by r. */
static void reference_route(const PgKernel *k, float *r, const float *select_bias, int32_t *expert_indices,
                            float *combine_weights) {
    if (!k->select_bias) reference_select(k, r, expert_indices);
    reference_scores(k, r);
    if (k->select_bias) {
        float *keys = malloc((size_t)k->E * sizeof *keys);
        for (int64_t i = 0; i < k->E; i++) keys[i] = r[i] + select_bias[i];
        reference_select(k, keys, expert_indices);
        free(keys);
    }
    float sum = 0;
    for (int64_t j = 0; j < k->k; j++) sum = sum + r[expert_indices[j]];
    for (int64_t j = 0; j < k->k; j++) {
        combine_weights[j] = k->normalize ? r[expert_indices[j]] / (sum + 1e-20f) : r[expert_indices[j]];
        combine_weights[j] = k->scaled ? (float)k->scale * combine_weights[j] : combine_weights[j];
    }
}

static PgKernel random_router(Harness *h, PgMode mode) {
    PgKernel k = {.kind = PG_ROUTE, .mode = mode, .dtype = (IrDtype)harness_below(h, 3)};
    k.K = 1 + harness_below(h, 300);
    k.O = k.E = 1 + harness_below(h, harness_below(h, 2) ? 20 : 90);
    k.k = 1 + harness_below(h, (uint32_t)(k.E < 8 ? k.E : 8));
    k.sigmoid = harness_below(h, 2);
    k.bias = harness_below(h, 2);
    k.select_bias = harness_below(h, 2);
    k.normalize = harness_below(h, 2);
    k.scaled = harness_below(h, 2);
    k.scale = k.scaled ? 2.5 : 0;
    k.norm = mode == PG_BLOCK ? PG_NO_NORM : (PgNormKind)harness_below(h, 3);
    k.eps = k.norm == PG_NO_NORM ? 0 : 1e-5;
    return k;
}

static void route_trial(Harness *h, PgMode mode) {
    PgKernel k = random_router(h, mode);
    uint32_t rows = random_rows(h, mode);
    harness_step(h, mode, rows, 0);
    h->phase.count = PG_PER_ROW;
    h->phase.block = 4;
    uint64_t K = (uint64_t)k.K, E = (uint64_t)k.E, LD = h->args.ld;
    float *x = harness_floats(h, rows * K), *w = harness_weights(h, k.dtype, E * K), *bias = harness_floats(h, E);
    float *select_bias = harness_floats(h, E), *norm_w = harness_floats(h, K), *norm_b = harness_floats(h, K);
    bool ties = harness_below(h, 4) == 0, poison = harness_below(h, 3) == 0;
    uint32_t poisoned = harness_below(h, rows);
    if (ties) { /* equal experts: the lower index wins */
        for (uint64_t i = 0; i < E; i++) {
            memcpy(w + i * K, w, K * 4);
            bias[i] = bias[0];
            select_bias[i] = select_bias[0];
        }
    }
    if (harness_below(h, 3) == 0)  /* so large that different r have one p */
        for (uint64_t i = 0; i < E * K; i++) w[i] = w[i] * 64;
    if (poison) x[poisoned * K] = NAN;
    harness_put(harness_arena(h, PG_ROUTE_X, pg_panels(k.K) * LD * 64), x, rows, k.K, LD);
    harness_pack_panels(h, PG_ROUTE_W, k.dtype, w, 1, k.E, k.K);
    harness_pack_vector(h, PG_ROUTE_BIAS, bias, 1, k.E);
    harness_pack_vector(h, PG_ROUTE_SELECT_BIAS, select_bias, 1, k.E);
    harness_pack_vector(h, PG_ROUTE_NORM_W, norm_w, 1, k.K);
    harness_pack_vector(h, PG_ROUTE_NORM_B, norm_b, 1, k.K);
    int32_t *expert_indices = (int32_t *)harness_arena(h, PG_ROUTE_EXPERTS, LD * (uint64_t)k.k * 4);
    float *combine_weights = harness_arena(h, PG_ROUTE_COMBINE_W, LD * (uint64_t)k.k * 4);
    harness_run(h, &k);
    float *normed = malloc(K * 4), *r = malloc(E * 4), *g = malloc((uint64_t)k.k * 4);
    int32_t *chosen = malloc((uint64_t)k.k * 4);
    for (uint32_t row = 0; row < rows; row++) {
        if (poison && row == poisoned) {
            assert_int_equal(h->nonfinite[row], 5);
            for (int64_t j = 0; j < k.k; j++)  /* whatever they are, they are experts, each once */
                assert_in_range(expert_indices[row * k.k + j], j == 0 ? 0 : expert_indices[row * k.k + j - 1] + 1, k.E - 1);
            continue;
        }
        assert_int_equal(h->nonfinite[row], 0);
        const float *in = x + row * K;
        if (k.norm != PG_NO_NORM) {
            reference_norm(k.norm, in, norm_w, norm_b, k.K, k.eps, normed);
            in = normed;
        }
        for (uint64_t i = 0; i < E; i++) {
            r[i] = reference_dot(w + i * K, in, k.K);
            r[i] = k.bias ? r[i] + bias[i] : r[i];
        }
        reference_route(&k, r, select_bias, chosen, g);
        for (int64_t j = 0; j < k.k; j++) {
            assert_int_equal(expert_indices[row * k.k + j], chosen[j]);
            check_bits("gate", row, (uint64_t)j, combine_weights[row * k.k + j], g[j]);
        }
    }
    free(x), free(w), free(bias), free(select_bias), free(norm_w), free(norm_b), free(normed), free(r), free(g), free(chosen);
}

static void router_of_every_kind(void **unused) {
    (void)unused;
    try_both(route_trial, 24);
}

/* ---------------------------------------------------------------------------------------------- groups */

static void group_trial(Harness *h, PgMode mode) {
    int64_t E = 1 + harness_below(h, 12), k = 1 + harness_below(h, (uint32_t)E);
    uint32_t rows = random_rows(h, PG_BLOCK);
    (void)mode;
    harness_step(h, PG_BLOCK, rows, 0);
    PgKernel kernel = {.kind = PG_GROUP, .mode = PG_BLOCK, .E = E, .k = k};
    int32_t *expert_indices = (int32_t *)harness_arena(h, PG_GROUP_EXPERTS, h->args.ld * (uint64_t)k * 4);
    for (uint32_t i = 0; i < rows; i++) harness_experts(h, expert_indices + i * k, E, k);
    uint64_t ldp = (uint64_t)k * h->args.ld + pg_position_pad(E, k);
    harness_groups(h, PG_MAX_OPERANDS - 1, expert_indices, rows, E, k);
    const PgRef *ref = &h->phase.operands[PG_MAX_OPERANDS - 1];
    const int32_t *expected = (const int32_t *)(h->arena + ref->fixed + ref->per_row * h->args.ld);
    int32_t *table = (int32_t *)harness_arena(h, PG_GROUP_GROUPS, ((uint64_t)E + 1 + ldp / 8 + ldp + h->args.ld * (uint64_t)k) * 4);
    harness_run(h, &kernel);
    uint64_t used = (uint64_t)expected[E], expert_of = (uint64_t)E + 1, row_of = expert_of + ldp / 8, pos_of = row_of + ldp;
    assert_memory_equal(table, expected, ((uint64_t)E + 1) * 4);
    assert_memory_equal(table + expert_of, expected + expert_of, used / 8 * 4);
    assert_memory_equal(table + row_of, expected + row_of, used * 4);
    assert_memory_equal(table + pos_of, expected + pos_of, rows * (uint64_t)k * 4);
}

static void groups_sort_positions_by_expert(void **unused) {
    (void)unused;
    try_both(group_trial, 8);
}

/* ---------------------------------------------------------------------------------------------- combining */

static void combine_trial(Harness *h, PgMode mode) {
    PgKernel k = {.kind = PG_COMBINE, .mode = mode, .O = 1 + harness_below(h, 100), .E = 2 + harness_below(h, 9)};
    k.k = 1 + harness_below(h, (uint32_t)(k.E - 1));
    bool gated = harness_below(h, 3) != 0, has_addend = harness_below(h, 2), has_residual = harness_below(h, 2);
    pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = gated ? PG_STEP_WEIGHTED_SUM : PG_STEP_PLANE_SUM});
    if (has_addend) pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_ADDEND});
    if (has_residual) pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_RESIDUAL});
    bool scaled = harness_below(h, 2);
    if (scaled) pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_SCALE, .scale = 0.3});
    k.x_layout = gated && harness_below(h, 2) ? PG_POSITIONS : PG_PLANES;
    uint32_t rows = random_rows(h, mode);
    harness_step(h, mode, rows, 0);
    set_tiles(h, mode, PG_PER_ROW_BLOCK);
    uint64_t LD = h->args.ld, O = (uint64_t)k.O, E = (uint64_t)k.E, kk = (uint64_t)k.k;
    bool positions = k.x_layout == PG_POSITIONS;
    uint64_t terms = positions ? kk : E, stride = !positions ? LD : mode == PG_ROW ? kk : kk * LD + pg_position_pad(k.E, k.k);
    float *x = harness_floats(h, rows * terms * O), *addend = harness_floats(h, rows * O), *residual = harness_floats(h, rows * O);
    int32_t *expert_indices = (int32_t *)harness_arena(h, PG_COMBINE_EXPERTS, LD * kk * 4);
    float *combine_weights = harness_arena(h, PG_COMBINE_COMBINE_W, LD * kk * 4);
    for (uint64_t i = 0; i < rows; i++) {
        harness_experts(h, expert_indices + i * kk, k.E, k.k);
        for (uint64_t j = 0; j < kk; j++) combine_weights[i * kk + j] = harness_float(h);
    }
    harness_groups(h, PG_COMBINE_GROUPS, expert_indices, rows, k.E, k.k);
    const PgRef *ref = &h->phase.operands[PG_COMBINE_GROUPS];
    const int32_t *pos_of = (const int32_t *)(h->arena + ref->fixed + ref->per_row * LD) + E + 1 + stride / 8 + stride;
    float *to = harness_arena(h, PG_COMBINE_X, pg_panels(k.O) * stride * 64 * (positions ? 1 : E));
    for (uint64_t i = 0; i < rows; i++) {
        for (uint64_t j = 0; j < terms; j++) {
            uint64_t at = !positions ? j * pg_panels(k.O) * stride + i : mode == PG_ROW ? j : (uint64_t)pos_of[i * kk + j];
            harness_put(to + at * 16, x + (i * terms + j) * O, 1, k.O, stride);
        }
    }
    harness_put(harness_arena(h, PG_COMBINE_ADDEND, pg_panels(k.O) * LD * 64), addend, rows, k.O, LD);
    harness_put(harness_arena(h, PG_COMBINE_RESIDUAL, pg_panels(k.O) * LD * 64), residual, rows, k.O, LD);
    float *y = harness_arena(h, PG_COMBINE_Y, pg_panels(k.O) * LD * 64);
    harness_run(h, &k);
    for (uint64_t i = 0; i < rows; i++) {
        for (uint64_t o = 0; o < O; o++) {
            float v = 0;
            for (uint64_t j = 0; j < (gated ? kk : E); j++) {
                uint64_t term = positions || !gated ? j : (uint64_t)expert_indices[i * kk + j];
                float part = x[(i * terms + term) * O + o];
                v = gated ? fmaf(combine_weights[i * kk + j], part, v) : j == 0 ? part : v + part;
            }
            v = has_addend ? v + addend[i * O + o] : v;
            v = has_residual ? v + residual[i * O + o] : v;
            check_bits("combine", i, o, harness_at(y, i, (int64_t)o, LD), scaled ? v * 0.3f : v);
        }
    }
    free(x), free(addend), free(residual);
}

static void combination_of_positions_and_planes(void **unused) {
    (void)unused;
    try_both(combine_trial, 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_of_rows_planes_and_output_rows),
        cmocka_unit_test(embedding_of_every_dtype),
        cmocka_unit_test(router_of_every_kind),
        cmocka_unit_test(groups_sort_positions_by_expert),
        cmocka_unit_test(combination_of_positions_and_planes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cg_llvm_shutdown();
    return failed;
}
