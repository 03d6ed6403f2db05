/* The scan kernel gives the bits of docs/bits.md, with and without experts. */
#include "tests/codegen/reference.h"

enum { MAX_R = 530 };

/* δ, B or C element of a row for the expert in slot j, or for expert e in planes. */
static float dbc(const Rig *rig, unsigned slot, int64_t width, uint64_t row, uint64_t j, uint64_t e, int64_t at) {
    PgLayout layout = rig->kernel.dbc_layout;
    uint64_t index = layout == PG_POSITIONS ? rig_position(rig, row, j) : row;
    return rig_get(rig, slot, layout, width, 1, layout == PG_PLANES ? e : 0, index, at, 0);
}

static float delta_sum(const Rig *rig, uint64_t row, uint64_t j, uint64_t e, int64_t i) {
    const PgKernel *k = &rig->kernel;
    uint64_t own = k->own_dt ? e : 0;
    float x[MAX_R];
    for (int64_t r = 0; r < k->R; r++) x[r] = dbc(rig, PG_SCAN_DELTA, k->delta_width, row, j, e, k->delta_start + r);
    float sum = ref_dot(rig_weights(rig, PG_SCAN_DT_W, own, i), x, k->R);
    return sum + rig_float(rig, PG_SCAN_DT_B, 0, ref_channel(k->O, 1, own, i, 0));
}

static float parameter(const Rig *rig, unsigned slot, bool own, uint64_t row, uint64_t e, int64_t N, int64_t i, int64_t n) {
    if (own && rig->kernel.scan == PG_SCAN_PARAMS) return ref_mix(rig, slot, row, rig->kernel.O, N, i, n);
    return rig_float(rig, slot, 0, ref_channel(rig->kernel.O, N, own ? e : 0, i, n));
}

/* Moves one expert's state of channel i; returns y with D. */
static float expert_row(Rig *rig, uint64_t s, uint64_t row, uint64_t j, uint64_t e, int64_t i, float sum, float c) {
    const PgKernel *k = &rig->kernel;
    uint64_t state_of = k->scan == PG_SCAN_PARAMS ? 0 : e;
    float delta = vm_softplus(sum), delta_c = delta * c, y = 0;
    for (int64_t n = 0; n < k->N; n++) {
        uint64_t at = ref_channel(k->O, k->N, state_of, i, n);
        float v = delta * parameter(rig, PG_SCAN_A, k->own_A, row, e, k->N, i, n);
        float b = delta_c * dbc(rig, PG_SCAN_B, k->b_width, row, j, e, k->b_start + n);
        if (k->zoh) b = b * vm_zoh(v);
        float state = vm_cut(fmaf(vm_exp(v), rig_float(rig, PG_SCAN_STATE, s, at), b));
        rig_expect_float(rig, PG_SCAN_STATE, s, at, state);
        y = fmaf(state, dbc(rig, PG_SCAN_C, k->c_width, row, j, e, k->c_start + n), y);
    }
    return y + parameter(rig, PG_SCAN_D, k->own_D, row, e, 1, i, 0) * c;
}

static float params_sum(const Rig *rig, uint64_t row, int64_t i) {
    if (!rig->kernel.own_dt) return delta_sum(rig, row, 0, 0, i);
    float sum = 0;
    for (uint64_t j = 0; j < (uint64_t)rig->kernel.k; j++)
        sum = fmaf(ref_combine_weight(rig, row, j), delta_sum(rig, row, j, ref_expert(rig, row, j), i), sum);
    return sum;
}

static float all_experts(Rig *rig, uint64_t s, uint64_t row, int64_t i, float c) {
    const PgKernel *k = &rig->kernel;
    uint64_t taken = 0, chosen = (uint64_t)k->k;
    float y = 0;
    for (uint64_t e = 0; e < (uint64_t)k->E; e++) {
        bool is_chosen = taken < chosen && ref_expert(rig, row, taken) == e;
        if (!is_chosen && k->scan == PG_SCAN_HOLD) continue;
        float one = expert_row(rig, s, row, taken, e, i, delta_sum(rig, row, taken, e, i), c);
        if (is_chosen) y = fmaf(ref_combine_weight(rig, row, taken++), one, y);
    }
    return y;
}

static void expect_row(Rig *rig, uint64_t s, uint64_t row, int64_t i) {
    const PgKernel *k = &rig->kernel;
    float c = rig_get(rig, PG_SCAN_X, PG_ROWS, k->O, 1, 0, row, i, 0), y = 0;
    switch (k->scan) {
    case PG_SCAN_PLAIN: y = expert_row(rig, s, row, 0, 0, i, delta_sum(rig, row, 0, 0, i), c); break;
    case PG_SCAN_PARAMS: y = expert_row(rig, s, row, 0, 0, i, params_sum(rig, row, i), c); break;
    case PG_SCAN_HOLD:
    case PG_SCAN_UPDATE: y = all_experts(rig, s, row, i, c); break;
    }
    if (k->gate) y = y * ref_act(k->act, rig_get(rig, PG_SCAN_Z, PG_ROWS, k->O, 1, 0, row, i, 0));
    rig_expect(rig, PG_SCAN_Y, PG_ROWS, k->O, 1, 0, row, i, 0, y);
}

static PgKernel random_kernel(Rng *r, PgScanExperts scan) {
    PgKernel k = {.kind = PG_SCAN, .scan = scan};
    k.mode = rng_next(r) % 3 ? PG_BLOCK : PG_ROW;
    k.dtype = (IrDtype)rng_between(r, IR_F32, IR_F16);
    k.O = rng_between(r, 1, 40);
    k.N = rng_next(r) % 2 ? 16 : rng_between(r, 1, 40);
    int size = (int)rng_between(r, 0, 9);
    k.R = size == 0 ? rng_between(r, 250, MAX_R) : size < 4 ? rng_between(r, 30, 70) : rng_between(r, 1, 20);
    k.gate = rng_next(r) % 2;
    k.act = k.gate ? (PgActivation)rng_between(r, PG_NO_ACT + 1, PG_ACTIVATIONS - 1) : PG_NO_ACT;
    k.zoh = rng_next(r) % 3 == 0;
    bool together = rng_next(r) % 2;
    k.b_start = together ? k.R : 0;
    k.c_start = together ? k.R + k.N : 0;
    k.delta_width = together ? k.R + 2 * k.N : k.R;
    k.b_width = k.c_width = together ? k.R + 2 * k.N : k.N;
    if (scan == PG_SCAN_PLAIN) return k;
    k.E = rng_between(r, 1, 7);
    k.k = rng_between(r, 1, k.E);
    k.own_dt = rng_next(r) % 2;
    k.own_A = rng_next(r) % 2;
    k.own_D = rng_next(r) % 2;
    if (scan == PG_SCAN_HOLD && rng_next(r) % 2) k.dbc_layout = PG_POSITIONS;
    if (scan == PG_SCAN_UPDATE && rng_next(r) % 2) k.dbc_layout = PG_PLANES;
    return k;
}

static void place_dbc(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    rig_place(rig, PG_SCAN_DELTA, PG_ARENA, rig_value_bytes(rig, k->dbc_layout, k->delta_width, 1), -2, 2);
    if (k->b_start == 0) {
        rig_place(rig, PG_SCAN_B, PG_ARENA, rig_value_bytes(rig, k->dbc_layout, k->b_width, 1), -2, 2);
        rig_place(rig, PG_SCAN_C, PG_ARENA, rig_value_bytes(rig, k->dbc_layout, k->c_width, 1), -2, 2);
        return;
    }
    rig_alias(rig, PG_SCAN_B, PG_SCAN_DELTA);
    rig_alias(rig, PG_SCAN_C, PG_SCAN_DELTA);
}

static void place_all(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    uint64_t vec = PG_LANES * 4, panels = pg_panels(k->O), E = k->E ? (uint64_t)k->E : 1, N = (uint64_t)k->N;
    place_dbc(rig);
    rig_place(rig, PG_SCAN_X, PG_ARENA, rig_value_bytes(rig, PG_ROWS, k->O, 1), -2, 2);
    if (k->gate) rig_place(rig, PG_SCAN_Z, PG_ARENA, rig_value_bytes(rig, PG_ROWS, k->O, 1), -2, 2);
    rig_place(rig, PG_SCAN_Y, PG_ARENA, rig_value_bytes(rig, PG_ROWS, k->O, 1), -2, 2);
    rig_place_weights(rig, PG_SCAN_DT_W, k->dtype, k->own_dt ? E : 1, k->O, k->R, 0.2f);
    rig_place(rig, PG_SCAN_DT_B, PG_WEIGHTS, (k->own_dt ? E : 1) * panels * vec, -1, 1);
    rig_place(rig, PG_SCAN_A, PG_WEIGHTS, (k->own_A ? E : 1) * panels * N * vec, -30, 0);
    rig_place(rig, PG_SCAN_D, PG_WEIGHTS, (k->own_D ? E : 1) * panels * vec, -1, 1);
    rig_place(rig, PG_SCAN_STATE, PG_STATE, (k->scan == PG_SCAN_PARAMS ? 1 : E) * panels * N * vec, -2, 2);
    if (k->scan != PG_SCAN_PLAIN) rig_route(rig, PG_SCAN_EXPERTS, PG_SCAN_COMBINE_W, PG_SCAN_GROUPS);
    rig_result(rig, PG_SCAN_Y);
}

/* The state's lanes past I are anything after the run; all others count, whether they moved or not. */
static void count_states(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    uint64_t experts = k->E && k->scan != PG_SCAN_PARAMS ? (uint64_t)k->E : 1;
    rig_result(rig, PG_SCAN_STATE);
    for (uint64_t s = 0; s < rig->args.n_segments; s++) {
        for (uint64_t e = 0; e < experts; e++) {
            for (int64_t at = 0; at < k->O * k->N; at++) {
                uint64_t where = ref_channel(k->O, k->N, e, at / k->N, at % k->N);
                rig_expect_float(rig, PG_SCAN_STATE, s, where, rig_float(rig, PG_SCAN_STATE, s, where));
            }
        }
    }
}

static void one_case(Rng random, PgScanExperts scan) {
    PgKernel k = random_kernel(&random, scan);
    Rig rig;
    rig_open(&rig, &k, random);
    place_all(&rig);
    count_states(&rig);
    rig.phase.count = PG_PER_SEGMENT;
    rig.phase.fixed = (uint32_t)pg_panels(k.O);
    rig_run(&rig);
    for (uint64_t row = 0; row < rig.rows; row++)
        for (int64_t i = 0; i < k.O; i++) expect_row(&rig, (uint64_t)rig.row_segment[row], row, i);
    rig_check(&rig, "scan");
    rig_close(&rig);
}

static void plain(Rng random) { one_case(random, PG_SCAN_PLAIN); }
static void hold(Rng random) { one_case(random, PG_SCAN_HOLD); }
static void update(Rng random) { one_case(random, PG_SCAN_UPDATE); }
static void params(Rng random) { one_case(random, PG_SCAN_PARAMS); }

static void plain_scan_gives_the_bits(void **state) { (void)state, rig_each(12, 1, plain); }
static void idle_states_hold(void **state) { (void)state, rig_each(12, 2, hold); }
static void idle_states_update(void **state) { (void)state, rig_each(12, 3, update); }
static void parameters_mix(void **state) { (void)state, rig_each(12, 4, params); }

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_scan_gives_the_bits), cmocka_unit_test(idle_states_hold),
                                       cmocka_unit_test(idle_states_update), cmocka_unit_test(parameters_mix)};
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
