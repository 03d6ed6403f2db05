/* PG_NORM, PG_EMBED, PG_ROUTE, PG_GROUP and PG_COMBINE against docs/bits.md. */
#include "tests/codegen/reference.h"

static PgMode random_mode(Rng *r) { return rng_next(r) % 2 ? PG_BLOCK : PG_ROW; }
static uint32_t random_rows(Rng *r, PgMode mode) { return mode == PG_ROW ? 1 : (uint32_t)rng_between(r, 1, 50); }
static void set_tiles(Rig *rig, PgCount count) { rig->phase.count = rig->kernel.mode == PG_ROW ? PG_ONCE : count; }

/* A vector of n parameters that lie in planes of `run` each; one plane serves all where `one`. */
static float *parameters(const Rig *rig, unsigned slot, int64_t n, int64_t run, bool one) {
    float *out = malloc((size_t)n * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++)
        out[i] = rig_float(rig, slot, 0, ref_channel(run, 1, one ? 0 : (uint64_t)(i / run), i % run, 0));
    return out;
}

/* ---------------------------------------------------------------------------------------------- norm */

static void expect_norm(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    int64_t run = k->runs > 1 ? k->K / k->runs : k->K;
    float *w = parameters(rig, PG_NORM_W, k->K, run, k->one_run_w), *b = parameters(rig, PG_NORM_B, k->K, k->K, false);
    float *x = malloc((size_t)k->K * sizeof *x);
    assert_non_null(x);
    for (uint64_t p = 0; p < rig_parts(rig, k->x_layout); p++) {
        for (uint64_t i = 0; i < (k->gather_out_rows ? rig->args.n_out_rows : rig->rows); i++) {
            rig_get_all(rig, PG_NORM_X, k->x_layout, k->K, p, k->gather_out_rows ? (uint64_t)rig->out_rows[i] : i, x);
            for (int64_t at = 0; at < k->K; at += run) ref_norm(k->norm, x + at, w + at, b + at, run, k->eps, x + at);
            for (int64_t j = 0; j < k->K; j++) rig_expect(rig, PG_NORM_Y, k->y_layout, k->K, 1, p, i, j, 0, x[j]);
        }
    }
    free(w), free(b), free(x);
}

static void norm_case(Rng random) {
    Rng *r = &random;
    PgKernel k = {.kind = PG_NORM, .mode = random_mode(r), .norm = rng_next(r) % 2 ? PG_RMS : PG_LAYER, .eps = 1e-6};
    int64_t E = rng_between(r, 1, 3);
    Rig rig;
    k.O = k.K = rng_between(r, 1, 200);
    k.gather_out_rows = rng_next(r) % 3 == 0;
    if (!k.gather_out_rows && E > 1) {
        k.E = E;
        k.x_layout = k.y_layout = PG_PLANES;
    }
    if (k.norm == PG_RMS && rng_next(r) % 2) { /* of whole panels, or not */
        k.runs = rng_between(r, 2, 6);
        k.one_run_w = rng_next(r) % 2;
        k.O = k.K = k.runs * (rng_next(r) % 2 ? PG_LANES * rng_between(r, 1, 3) : rng_between(r, 1, 40));
    }
    uint32_t rows = random_rows(r, k.mode), n_out_rows = k.gather_out_rows ? (uint32_t)rng_between(r, 0, rows) : 0;
    rig_open_rows(&rig, &k, random, rows, n_out_rows);
    rig_place_values(&rig, PG_NORM_X, k.x_layout, k.K, -1, 1);
    rig_reserve(&rig, PG_NORM_Y, PG_ARENA, rig_value_bytes(&rig, k.y_layout, k.K, 1));
    rig_place_channels(&rig, PG_NORM_W, k.runs > 1 && !k.one_run_w ? k.runs : 1, k.runs > 1 ? k.K / k.runs : k.K, 1, -1, 1);
    rig_place_channels(&rig, PG_NORM_B, 1, k.K, 1, -1, 1);
    rig_result(&rig, PG_NORM_Y);
    set_tiles(&rig, PG_PER_ROW_BLOCK);
    if (k.gather_out_rows) rig.phase.count = PG_PER_OUT_ROW_BLOCK;
    rig_run(&rig);
    expect_norm(&rig);
    rig_check(&rig, "norm");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- embedding */

static void embed_case(Rng random) {
    Rng *r = &random;
    PgKernel k = {.kind = PG_EMBED, .mode = random_mode(r), .dtype = (IrDtype)rng_between(r, 0, IR_STORED_DTYPES - 1)};
    Rig rig;
    k.K = rng_between(r, 1, 100);
    k.O = rng_between(r, 1, 130);
    k.scaled = rng_next(r) % 2;
    k.scale = k.scaled ? 1.7 : 0;
    rig_open_rows(&rig, &k, random, random_rows(r, k.mode), 0);
    rig_place_weights(&rig, PG_EMBED_W, k.dtype, 1, k.K, k.O, 1);
    rig_reserve(&rig, PG_EMBED_Y, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O, 1));
    rig_result(&rig, PG_EMBED_Y);
    set_tiles(&rig, PG_PER_ROW_BLOCK);
    for (uint64_t i = 0; i < rig.rows; i++) rig.tokens[i] = (int32_t)rng_between(&rig.random, 0, k.K - 1);
    rig_run(&rig);
    for (uint64_t i = 0; i < rig.rows; i++) {
        const float *w = rig_weights(&rig, PG_EMBED_W, 0, rig.tokens[i]);
        for (int64_t j = 0; j < k.O; j++)
            rig_expect(&rig, PG_EMBED_Y, PG_ROWS, k.O, 1, 0, i, j, 0, k.scaled ? (float)k.scale * w[j] : w[j]);
    }
    rig_check(&rig, "embed");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- routing */

static void scores_of(const PgKernel *k, float *r) {
    if (!k->sigmoid) {
        ref_softmax(r, k->E);
        return;
    }
    for (int64_t i = 0; i < k->E; i++) r[i] = vm_sigmoid(r[i]);
}

/* Expert indices and combine weights of one row from its r, which becomes p. Without a select bias experts are chosen by r. */
static void reference_route(const PgKernel *k, float *r, const float *select_bias, int32_t *expert_indices,
                            float *combine_weights) {
    if (!k->select_bias) ref_select(k, r, k->E, k->k, expert_indices);
    scores_of(k, r);
    if (k->select_bias) {
        float *keys = malloc((size_t)k->E * sizeof *keys);
        for (int64_t i = 0; i < k->E; i++) keys[i] = r[i] + select_bias[i];
        ref_select(k, keys, k->E, k->k, expert_indices);
        free(keys);
    }
    float sum = 0;
    for (int64_t j = 0; j < k->k; j++) sum = sum + r[expert_indices[j]];
    for (int64_t j = 0; j < k->k; j++) {
        combine_weights[j] = k->normalize ? r[expert_indices[j]] / (sum + 1e-20f) : r[expert_indices[j]];
        combine_weights[j] = k->scaled ? (float)k->scale * combine_weights[j] : combine_weights[j];
    }
}

static PgKernel random_router(Rng *r) {
    PgKernel k = {.kind = PG_ROUTE, .mode = random_mode(r), .dtype = (IrDtype)rng_between(r, 0, IR_F16)};
    k.K = rng_between(r, 1, 300);
    k.O = k.E = rng_between(r, 1, rng_next(r) % 2 ? 20 : 90);
    k.k = rng_between(r, 1, k.E < 8 ? k.E : 8);
    if (rng_next(r) % 2) { /* in runs of one size, some of which are enough for k */
        k.expert_groups = rng_between(r, 2, 6);
        k.top_groups = rng_between(r, 1, k.expert_groups - 1);
        k.O = k.E = k.expert_groups * rng_between(r, (k.k + k.top_groups - 1) / k.top_groups, 20);
    }
    k.sigmoid = rng_next(r) % 2;
    k.bias = rng_next(r) % 2;
    k.select_bias = rng_next(r) % 2;
    k.normalize = rng_next(r) % 2;
    k.scaled = rng_next(r) % 2;
    k.scale = k.scaled ? 2.5 : 0;
    k.norm = k.mode == PG_BLOCK ? PG_NO_NORM : (PgNormKind)rng_between(r, PG_NO_NORM, PG_LAYER);
    k.eps = k.norm == PG_NO_NORM ? 0 : 1e-5;
    return k;
}

static void place_router(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    Rng *r = &rig->random;
    float *w = rig_floats(r, (uint64_t)(k->E * k->K), -1, 1);
    bool ties = rng_next(r) % 4 == 0, large = rng_next(r) % 3 == 0;
    rig_place_values(rig, PG_ROUTE_X, PG_ROWS, k->K, -1, 1);
    rig_place_channels(rig, PG_ROUTE_BIAS, 1, k->E, 1, -1, 1);
    rig_place_channels(rig, PG_ROUTE_SELECT_BIAS, 1, k->E, 1, -1, 1);
    rig_place_channels(rig, PG_ROUTE_NORM_W, 1, k->K, 1, -1, 1);
    rig_place_channels(rig, PG_ROUTE_NORM_B, 1, k->K, 1, -1, 1);
    for (int64_t i = 0; ties && i < k->E; i++) { /* equal experts: the lower index wins */
        memcpy(w + i * k->K, w, (size_t)k->K * sizeof *w);
        rig_set(rig, PG_ROUTE_BIAS, 0, (uint64_t)i, rig_float(rig, PG_ROUTE_BIAS, 0, 0));
        rig_set(rig, PG_ROUTE_SELECT_BIAS, 0, (uint64_t)i, rig_float(rig, PG_ROUTE_SELECT_BIAS, 0, 0));
    }
    for (int64_t i = 0; large && i < k->E * k->K; i++) w[i] = w[i] * 64; /* so large that different r have one p */
    rig_place_panels(rig, PG_ROUTE_W, k->dtype, 1, k->E, k->K, w);
    rig_reserve(rig, PG_ROUTE_EXPERTS, PG_ARENA, rig->ld * (uint64_t)k->k * 4);
    rig_reserve(rig, PG_ROUTE_COMBINE_W, PG_ARENA, rig->ld * (uint64_t)k->k * 4);
    rig_result(rig, PG_ROUTE_EXPERTS);
    rig_result(rig, PG_ROUTE_COMBINE_W);
}

static void expect_row(Rig *rig, uint64_t row) {
    const PgKernel *k = &rig->kernel;
    float *x = malloc((size_t)k->K * sizeof *x), *r = malloc((size_t)k->E * sizeof *r), *g = malloc((size_t)k->k * sizeof *g);
    float *norm_w = parameters(rig, PG_ROUTE_NORM_W, k->K, k->K, false),
          *norm_b = parameters(rig, PG_ROUTE_NORM_B, k->K, k->K, false);
    float *bias = parameters(rig, PG_ROUTE_BIAS, k->E, k->E, false),
          *select_bias = parameters(rig, PG_ROUTE_SELECT_BIAS, k->E, k->E, false);
    int32_t *chosen = malloc((size_t)k->k * sizeof *chosen);
    rig_get_all(rig, PG_ROUTE_X, PG_ROWS, k->K, 0, row, x);
    if (k->norm != PG_NO_NORM) ref_norm(k->norm, x, norm_w, norm_b, k->K, k->eps, x);
    for (int64_t i = 0; i < k->E; i++) {
        r[i] = ref_dot(rig_weights(rig, PG_ROUTE_W, 0, i), x, k->K);
        r[i] = k->bias ? r[i] + bias[i] : r[i];
    }
    reference_route(k, r, select_bias, chosen, g);
    for (int64_t j = 0; j < k->k; j++) {
        rig_expect_int(rig, PG_ROUTE_EXPERTS, row * (uint64_t)k->k + (uint64_t)j, chosen[j]);
        rig_expect_float(rig, PG_ROUTE_COMBINE_W, 0, row * (uint64_t)k->k + (uint64_t)j, g[j]);
    }
    free(x), free(r), free(g), free(norm_w), free(norm_b), free(bias), free(select_bias), free(chosen);
}

/* Whatever they are, they are experts, each once. */
static void check_nonfinite_row(const Rig *rig, uint64_t row) {
    const PgKernel *k = &rig->kernel;
    assert_int_equal(rig->nonfinite[row], rig->phase.block + 1);
    for (int64_t j = 0, least = 0; j < k->k; j++) {
        int32_t e = rig_written_int(rig, PG_ROUTE_EXPERTS, row * (uint64_t)k->k + (uint64_t)j);
        assert_true(e >= least && e < k->E);
        least = e + 1;
    }
}

static void route_case(Rng random) {
    PgKernel k = random_router(&random);
    Rig rig;
    rig_open_rows(&rig, &k, random, random_rows(&random, k.mode), 0);
    place_router(&rig);
    rig.phase.count = PG_PER_ROW;
    uint64_t nonfinite = rng_next(&rig.random) % 3 == 0 ? rng_next(&rig.random) % rig.rows : rig.rows;
    if (nonfinite < rig.rows) rig_set(&rig, PG_ROUTE_X, 0, nonfinite * PG_LANES, NAN);
    rig_run(&rig);
    for (uint64_t row = 0; row < rig.rows; row++) {
        if (row == nonfinite) {
            check_nonfinite_row(&rig, row);
            continue;
        }
        assert_int_equal(rig.nonfinite[row], 0);
        expect_row(&rig, row);
    }
    rig_check(&rig, "route");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- groups */

static void group_case(Rng random) {
    PgKernel k = {.kind = PG_GROUP, .mode = PG_BLOCK, .E = rng_between(&random, 1, 12)};
    Rig rig;
    k.k = rng_between(&random, 1, k.E);
    rig_open_rows(&rig, &k, random, random_rows(&random, k.mode), 0);
    rig_choose(&rig, PG_GROUP_EXPERTS);
    rig_reserve(&rig, PG_GROUP_GROUPS, PG_ARENA, rig_group_bytes(&rig));
    rig_result(&rig, PG_GROUP_GROUPS);
    rig_run(&rig);
    rig_group(&rig, PG_GROUP_GROUPS, rig_expect_int);
    rig_check(&rig, "group");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- combining */

static PgKernel random_combine(Rng *r) {
    PgKernel k = {.kind = PG_COMBINE, .mode = random_mode(r), .O = rng_between(r, 1, 100), .E = rng_between(r, 2, 10)};
    k.k = rng_between(r, 1, k.E - 1);
    bool gated = rng_next(r) % 3 != 0;
    pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = gated ? PG_STEP_WEIGHTED_SUM : PG_STEP_PLANE_SUM});
    if (rng_next(r) % 2) pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_ADDEND});
    if (rng_next(r) % 2) pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_RESIDUAL});
    if (rng_next(r) % 2) pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_SCALE, .scale = 0.3});
    k.x_layout = gated && rng_next(r) % 2 ? PG_POSITIONS : PG_PLANES;
    return k;
}

static float combined(const Rig *rig, uint64_t row, int64_t o) {
    const PgKernel *k = &rig->kernel;
    bool gated = pg_sum(k) == PG_WEIGHTED_SUM;
    float v = 0;
    for (uint64_t j = 0; j < (uint64_t)(gated ? k->k : k->E); j++) {
        uint64_t plane = rig_plane(k->x_layout, gated ? ref_expert(rig, row, j) : j);
        float part = rig_get(rig, PG_COMBINE_X, k->x_layout, k->O, 1, plane, rig_index(rig, k->x_layout, row, j), o, 0);
        v = gated ? fmaf(ref_combine_weight(rig, row, j), part, v) : j == 0 ? part : v + part;
    }
    v = pg_does(k, PG_STEP_ADDEND) ? v + rig_get(rig, PG_COMBINE_ADDEND, PG_ROWS, k->O, 1, 0, row, o, 0) : v;
    v = pg_does(k, PG_STEP_RESIDUAL) ? v + rig_get(rig, PG_COMBINE_RESIDUAL, PG_ROWS, k->O, 1, 0, row, o, 0) : v;
    return pg_does(k, PG_STEP_SCALE) ? v * 0.3f : v;
}

static void combine_case(Rng random) {
    PgKernel k = random_combine(&random);
    Rig rig;
    rig_open_rows(&rig, &k, random, random_rows(&random, k.mode), 0);
    rig_route(&rig, PG_COMBINE_EXPERTS, PG_COMBINE_COMBINE_W, PG_COMBINE_GROUPS);
    rig_place_values(&rig, PG_COMBINE_X, k.x_layout, k.O, -1, 1);
    rig_place_values(&rig, PG_COMBINE_ADDEND, PG_ROWS, k.O, -1, 1);
    rig_place_values(&rig, PG_COMBINE_RESIDUAL, PG_ROWS, k.O, -1, 1);
    rig_reserve(&rig, PG_COMBINE_Y, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O, 1));
    rig_result(&rig, PG_COMBINE_Y);
    set_tiles(&rig, PG_PER_ROW_BLOCK);
    rig_run(&rig);
    for (uint64_t row = 0; row < rig.rows; row++)
        for (int64_t o = 0; o < k.O; o++) rig_expect(&rig, PG_COMBINE_Y, PG_ROWS, k.O, 1, 0, row, o, 0, combined(&rig, row, o));
    rig_check(&rig, "combine");
    rig_close(&rig);
}

static void norm_of_rows_planes_and_output_rows(void **state) { (void)state, rig_each(16, 1, norm_case); }
static void embedding_of_every_dtype(void **state) { (void)state, rig_each(16, 2, embed_case); }
static void router_of_every_kind(void **state) { (void)state, rig_each(24, 3, route_case); }
static void groups_sort_positions_by_expert(void **state) { (void)state, rig_each(8, 4, group_case); }
static void combination_of_positions_and_planes(void **state) { (void)state, rig_each(20, 5, combine_case); }

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_of_rows_planes_and_output_rows),
        cmocka_unit_test(embedding_of_every_dtype),
        cmocka_unit_test(router_of_every_kind),
        cmocka_unit_test(groups_sort_positions_by_expert),
        cmocka_unit_test(combination_of_positions_and_planes),
    };
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
