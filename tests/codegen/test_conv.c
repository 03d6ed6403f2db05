/* The convolution kernel gives the bits of docs/bits.md in every form of its weights. */
#include "tests/codegen/reference.h"

static float weight(const Rig *rig, uint64_t row, int64_t i, int64_t w) {
    const PgKernel *k = &rig->kernel;
    if (k->mixed) return rig_get(rig, PG_CONV_W, PG_ROWS, k->O, k->taps, 0, row, i, w);
    if (k->per_expert) return ref_mix(rig, PG_CONV_W, row, k->O, k->taps, i, w);
    return rig_float(rig, PG_CONV_W, 0, ref_channel(k->O, k->taps, 0, i, w));
}

static void expect_row(Rig *rig, uint64_t s, uint64_t row, int64_t i) {
    const PgKernel *k = &rig->kernel;
    int64_t past = k->taps - 1;
    float x = rig_get(rig, PG_CONV_X, PG_ROWS, k->O, 1, 0, row, i, 0), y = 0;
    for (int64_t w = 0; w < past; w++)
        y = fmaf(weight(rig, row, i, w), rig_float(rig, PG_CONV_HISTORY, s, ref_channel(k->O, past, 0, i, w)), y);
    y = fmaf(weight(rig, row, i, past), x, y);
    if (k->bias && k->per_expert)
        y = y + ref_mix(rig, PG_CONV_BIAS, row, k->O, 1, i, 0);
    else if (k->bias)
        y = y + rig_float(rig, PG_CONV_BIAS, 0, (uint64_t)i);
    rig_expect(rig, PG_CONV_Y, PG_ROWS, k->O, 1, 0, row, i, 0, ref_act(k->act, y));
    for (int64_t w = 0; w < past; w++) {
        float next = w + 1 < past ? rig_float(rig, PG_CONV_HISTORY, s, ref_channel(k->O, past, 0, i, w + 1)) : x;
        rig_expect_float(rig, PG_CONV_HISTORY, s, ref_channel(k->O, past, 0, i, w), next);
    }
}

static PgKernel random_kernel(Rng *r) {
    PgKernel k = {.kind = PG_CONV};
    k.mode = rng_next(r) % 3 ? PG_BLOCK : PG_ROW;
    k.O = rng_between(r, 1, 70);
    k.taps = rng_between(r, 1, 8);
    int form = (int)rng_between(r, 0, 2);
    k.per_expert = form == 1;
    k.mixed = form == 2;
    k.bias = !k.mixed && rng_next(r) % 2;
    k.act = (PgActivation)rng_between(r, PG_NO_ACT, PG_ACTIVATIONS - 1);
    if (k.per_expert) {
        k.E = rng_between(r, 1, 8);
        k.k = rng_between(r, 1, k.E);
    }
    return k;
}

static void place_weights(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    uint64_t E = k->per_expert ? (uint64_t)k->E : 1, panels = pg_panels(k->O), vec = PG_LANES * 4;
    if (k->mixed)
        rig_place(rig, PG_CONV_W, PG_ARENA, rig_value_bytes(rig, PG_ROWS, k->O, k->taps), -1, 1);
    else
        rig_place(rig, PG_CONV_W, PG_WEIGHTS, E * panels * (uint64_t)k->taps * vec, -1, 1);
    if (k->bias) rig_place(rig, PG_CONV_BIAS, PG_WEIGHTS, E * panels * vec, -1, 1);
    if (k->per_expert) rig_route(rig, PG_CONV_EXPERTS, PG_CONV_COMBINE_W, PG_MAX_OPERANDS - 1);
}

static void one_case(Rng random) {
    PgKernel k = random_kernel(&random);
    Rig rig;
    rig_open(&rig, &k, random);
    rig_place(&rig, PG_CONV_X, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O, 1), -3, 3);
    rig_place(&rig, PG_CONV_Y, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O, 1), -3, 3);
    rig_place(&rig, PG_CONV_HISTORY, PG_STATE, pg_panels(k.O) * (uint64_t)(k.taps - 1) * PG_LANES * 4, -3, 3);
    place_weights(&rig);
    rig_result(&rig, PG_CONV_Y);
    rig_result(&rig, PG_CONV_HISTORY);
    rig.phase.count = PG_PER_SEGMENT;
    rig.phase.fixed = (uint32_t)pg_panels(k.O);
    rig_run(&rig);
    for (uint64_t row = 0; row < rig.rows; row++)
        for (int64_t i = 0; i < k.O; i++) expect_row(&rig, (uint64_t)rig.row_segment[row], row, i);
    rig_check(&rig, "conv");
    rig_close(&rig);
}

static void conv_gives_the_bits(void **state) {
    (void)state;
    rig_each(40, 1, one_case);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(conv_gives_the_bits)};
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
