/* PG_ROUND in its layouts, with inputs that round in every way; linear layers that read its rows are in test_linear.c. */
#include "tests/codegen/reference.h"

/* Inputs that are zero, tiny, not finite, halves of a step, or as large as floats get. */
static float special(Rng *random, int64_t group) {
    switch (group % 8) {
    case 0: return 0;
    case 1: return ldexpf(rig_uniform(random, -1, 1), -101);
    case 2: return rng_next(random) % 16 == 0 ? INFINITY : 1;
    case 3: return rng_next(random) % 16 == 0 ? NAN : -1;
    case 4: return (float)rng_between(random, -127, 127) + 0.5f;
    case 5: return rng_next(random) % 2 ? 3.4028235e38f : -1e37f;
    case 6: return rng_next(random) % 2 ? 0x1p-100f : -0x1p-101f;
    default: return rig_uniform(random, -1, 1);
    }
}

static uint64_t number(const Rig *rig, uint64_t ld, uint64_t plane, uint64_t index, int64_t i) {
    return ((plane * pg_panels(rig->kernel.K) + (uint64_t)i / PG_LANES) * ld + index) * PG_LANES + (uint64_t)i % PG_LANES;
}

static void expect_bf16_row(Rig *rig, uint64_t ld, uint64_t plane, uint64_t index) {
    const PgKernel *k = &rig->kernel;
    uint64_t base = plane * ld * pg_bf16_bytes(k->K);
    float *x = malloc((size_t)k->K * sizeof *x);
    rig_get_all(rig, PG_ROUND_X, k->x_layout, k->K, plane, index, x);
    for (uint64_t g = 0; g < pg_round_groups(k->K); g++) {
        uint16_t halves[IR_GROUP] = {0};
        for (uint64_t i = 0; i < IR_GROUP && g * IR_GROUP + i < (uint64_t)k->K; i++) halves[i] = ref_bf16(x[g * IR_GROUP + i]);
        rig_expect_bytes(rig, PG_ROUND_Y, base + (g * ld + index) * sizeof halves, halves, sizeof halves);
    }
    free(x);
}

static void expect_row(Rig *rig, uint64_t ld, uint64_t plane, uint64_t index) {
    const PgKernel *k = &rig->kernel;
    uint64_t base = plane * ld * pg_rounded_bytes(k->K);
    float *x = malloc((size_t)k->K * sizeof *x);
    rig_get_all(rig, PG_ROUND_X, k->x_layout, k->K, plane, index, x);
    for (uint64_t g = 0; g < pg_round_groups(k->K); g++) {
        int8_t p[IR_GROUP];
        float scale, sum;
        int64_t first = (int64_t)g * 32, n = k->K - first < 32 ? k->K - first : 32;
        RefRounded at = ref_rounded_at(k->K, ld, index, g);
        ref_round(x + first, n, p, &scale, &sum);
        rig_expect_float(rig, PG_ROUND_Y, 0, (base + at.scale) / 4, scale);
        if (isnan(scale)) continue; /* nothing else shows */
        rig_expect_bytes(rig, PG_ROUND_Y, base + at.p, p, sizeof p);
        rig_expect_float(rig, PG_ROUND_Y, 0, (base + at.sum) / 4, sum);
    }
    free(x);
}

static void rows_are_rounded(Rng random, PgLayout layout, bool wanted) {
    bool bf16 = rng_next(&random) % 2;
    PgKernel k = {
        .bf16_x = bf16, .kind = PG_ROUND, .mode = PG_BLOCK, .x_layout = layout, .y_layout = layout, .gather_out_rows = wanted};
    k.K = k.O = rng_between(&random, 1, 300);
    if (layout != PG_ROWS) k.E = rng_between(&random, 1, 6);
    if (layout == PG_POSITIONS) k.k = rng_between(&random, 1, k.E);
    Rig rig;
    uint32_t rows = (uint32_t)rng_between(&random, 1, 37);
    rig_open_rows(&rig, &k, random, rows, wanted ? (uint32_t)rng_between(&random, 0, rows) : 0);
    uint64_t ld = layout == PG_POSITIONS ? rig.ldp : rig.ld, planes = layout == PG_PLANES ? (uint64_t)k.E : 1;
    enum { EXPERTS = 3, GROUPS = 5, WEIGHTS = 7 }; /* not the kernel's: they place positions */
    if (layout == PG_POSITIONS) rig_route(&rig, EXPERTS, WEIGHTS, GROUPS);
    rig_place_values(&rig, PG_ROUND_X, layout, k.K, -1, 1);
    rig_reserve(&rig, PG_ROUND_Y, PG_ARENA, planes * ld * pg_rounded_row_bytes(&k));
    rig_result(&rig, PG_ROUND_Y);
    uint64_t of_step = wanted ? rig.args.n_out_rows : rig.rows;
    for (uint64_t row = 0; row < of_step; row++)
        for (uint64_t j = 0; j < rig_parts(&rig, layout); j++)
            for (int64_t i = 0; i < k.K; i++)
                rig_set(&rig, PG_ROUND_X, 0, number(&rig, ld, rig_plane(layout, j), rig_index(&rig, layout, row, j), i),
                        special(&rig.random, i / 32 + (int64_t)row));
    rig.phase.count = wanted ? PG_PER_OUT_ROW_BLOCK : layout == PG_POSITIONS ? PG_PER_POSITION_BLOCK : PG_PER_ROW_BLOCK;
    rig_run(&rig);
    for (uint64_t row = 0; row < of_step; row++)
        for (uint64_t j = 0; j < rig_parts(&rig, layout); j++)
            (bf16 ? expect_bf16_row : expect_row)(&rig, ld, rig_plane(layout, j), rig_index(&rig, layout, row, j));
    rig_check(&rig, "rounded");
    rig_close(&rig);
}

static void round_rows(Rng random) { rows_are_rounded(random, PG_ROWS, false); }
static void round_output_rows(Rng random) { rows_are_rounded(random, PG_ROWS, true); }
static void round_planes(Rng random) { rows_are_rounded(random, PG_PLANES, false); }
static void round_positions(Rng random) { rows_are_rounded(random, PG_POSITIONS, false); }

static void rows(void **unused) {
    (void)unused;
    rig_each(20, 1, round_rows);
}
static void output_rows(void **unused) {
    (void)unused;
    rig_each(8, 2, round_output_rows);
}
static void planes(void **unused) {
    (void)unused;
    rig_each(8, 3, round_planes);
}
static void positions(void **unused) {
    (void)unused;
    rig_each(8, 4, round_positions);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(output_rows),
        cmocka_unit_test(planes),
        cmocka_unit_test(positions),
    };
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
