/* The kernels of single operations give the bits of docs/bits.md, for rows, planes and positions. */
#include "tests/codegen/reference.h"

#include <float.h>

/* A place of the result: plane p and index in each layout that an operand may have. */
typedef struct Place {
    uint64_t row, position, expert;
} Place;

static uint64_t plane_of(PgLayout layout, const Place *at) { return layout == PG_PLANES ? at->expert : 0; }
static uint64_t index_of(PgLayout layout, const Place *at) { return layout == PG_POSITIONS ? at->position : at->row; }

static float get(const Rig *rig, unsigned slot, PgLayout layout, const Place *at, int64_t O, int64_t N, int64_t i, int64_t n) {
    return rig_get(rig, slot, layout, O, N, plane_of(layout, at), index_of(layout, at), i, n);
}

static void expect(Rig *rig, const Place *at, int64_t O, int64_t N, int64_t i, int64_t n, float v) {
    PgLayout layout = rig->kernel.y_layout;
    rig_expect(rig, PG_OP_Y, layout, O, N, plane_of(layout, at), index_of(layout, at), i, n, v);
}

/* Calls `body` for every place of the result. */
static void each_place(Rig *rig, void (*body)(Rig *rig, const Place *at)) {
    const PgKernel *k = &rig->kernel;
    uint64_t inner = k->y_layout == PG_PLANES ? (uint64_t)k->E : k->y_layout == PG_POSITIONS ? (uint64_t)k->k : 1;
    for (uint64_t row = 0; row < rig->rows; row++) {
        for (uint64_t j = 0; j < inner; j++) {
            Place at = {.row = row, .expert = j};
            if (k->y_layout == PG_POSITIONS) at = (Place){row, rig_position(rig, row, j), ref_expert(rig, row, j)};
            body(rig, &at);
        }
    }
}

static void run_all(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    rig->phase.count = k->mode == PG_ROW ? PG_ONCE : k->y_layout == PG_POSITIONS ? PG_PER_POSITION_BLOCK : PG_PER_ROW_BLOCK;
    rig_run(rig);
}

static PgKernel random_kernel(Rng *r, PgKind kind) {
    PgKernel k = {.kind = kind};
    k.mode = rng_next(r) % 3 ? PG_BLOCK : PG_ROW;
    k.O = rng_between(r, 1, 50);
    k.y_layout = (PgLayout)rng_between(r, PG_ROWS, PG_POSITIONS);
    k.x_layout = rng_next(r) % 2 ? k.y_layout : PG_ROWS;
    if (k.y_layout == PG_ROWS) return k;
    k.E = rng_between(r, 1, 6);
    k.k = rng_between(r, 1, k.E);
    return k;
}

/* Opens the rig with expert indices where the kernel has experts, and its X and Y. */
static void open_with(Rig *rig, const PgKernel *k, Rng random, int64_t x_N, int64_t y_N) {
    rig_open(rig, k, random);
    if (k->E > 0) rig_route(rig, PG_OP_EXPERTS, PG_OP_COMBINE_W, PG_OP_GROUPS);
    rig_place(rig, PG_OP_X, PG_ARENA, rig_value_bytes(rig, k->x_layout, k->O, x_N), -3, 3);
    rig_place(rig, PG_OP_Y, PG_ARENA, rig_value_bytes(rig, k->y_layout, k->O, y_N), -3, 3);
    rig_result(rig, PG_OP_Y);
}

/* ---------------------------------------------------------------------------------------------- elementwise, slice */

static float elementwise_of(const Rig *rig, const Place *at, int64_t i, int64_t n, float x) {
    const PgKernel *k = &rig->kernel;
    int64_t N = k->N ? k->N : 1, z_O = k->z_repeats ? 1 : k->O, z_i = k->z_repeats ? 0 : i;
    switch (k->ew) {
    case PG_EW_UNARY: return ref_act(k->act, x);
    case PG_EW_SCALE: return x * (float)k->scale;
    case PG_EW_CLAMP: return x < (float)k->low ? (float)k->low : (float)k->high < x ? (float)k->high : x;
    case PG_EW_ADD: return x + get(rig, PG_OP_Z, k->z_layout, at, z_O, N, z_i, n);
    case PG_EW_MUL: return x * get(rig, PG_OP_Z, k->z_layout, at, z_O, N, z_i, n);
    case PG_EW_ADD_PARAM: return x + rig_float(rig, PG_OP_W, 0, ref_channel(k->O, 1, k->per_expert ? at->expert : 0, i, 0));
    case PG_EW_MUL_PARAM: return x * rig_float(rig, PG_OP_W, 0, ref_channel(k->O, 1, k->per_expert ? at->expert : 0, i, 0));
    }
    return x;
}

static void expect_elementwise(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    int64_t N = k->N ? k->N : 1;
    for (int64_t i = 0; i < k->O; i++) {
        for (int64_t n = 0; n < N; n++) {
            float x = get(rig, PG_OP_X, k->x_layout, at, k->O, N, i, n);
            expect(rig, at, k->O, N, i, n, elementwise_of(rig, at, i, n, x));
        }
    }
}

static void elementwise_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_ELEMENTWISE);
    Rig rig;
    k.ew = (PgElementwise)rng_between(&random, PG_EW_UNARY, PG_EW_MUL_PARAM);
    if (k.ew == PG_EW_UNARY) k.act = (PgActivation)rng_between(&random, PG_NO_ACT + 1, PG_ACTIVATIONS - 1);
    if (k.ew == PG_EW_SCALE) k.scale = 0.3;
    if (k.ew == PG_EW_CLAMP) {
        k.low = rng_next(&random) % 2 ? 0 : -1.5;
        k.high = rng_next(&random) % 2 ? DBL_MAX : 1.25;
    }
    if (pg_ew_is_binary(k.ew)) k.z_layout = rng_next(&random) % 2 ? k.y_layout : PG_ROWS;
    bool parameter = pg_ew_has_parameter(k.ew);
    if (parameter && k.E) k.per_expert = rng_next(&random) % 2;
    if (pg_ew_is_binary(k.ew) && k.y_layout == PG_ROWS && k.O > 1) k.z_repeats = rng_next(&random) % 3 == 0;
    if (!parameter && !k.z_repeats && rng_next(&random) % 2) k.N = rng_between(&random, 1, 20);
    int64_t N = k.N ? k.N : 1;
    open_with(&rig, &k, random, N, N);
    rig_place(&rig, PG_OP_Z, PG_ARENA, rig_value_bytes(&rig, k.z_layout, k.z_repeats ? 1 : k.O, N), -3, 3);
    rig_place(&rig, PG_OP_W, PG_WEIGHTS, (k.per_expert ? (uint64_t)k.E : 1) * pg_panels(k.O) * PG_LANES * 4, -3, 3);
    run_all(&rig);
    each_place(&rig, expect_elementwise);
    rig_check(&rig, "elementwise");
    rig_close(&rig);
}

static void expect_slice(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++) expect(rig, at, k->O, 1, i, 0, get(rig, PG_OP_X, k->x_layout, at, k->K, 1, k->start + i, 0));
}

static void slice_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_SLICE);
    Rig rig;
    k.x_layout = k.y_layout;
    k.start = rng_between(&random, 0, 40);
    k.K = k.start + k.O + rng_between(&random, 0, 20);
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_X, PG_ARENA, rig_value_bytes(&rig, k.x_layout, k.K, 1), -3, 3);
    run_all(&rig);
    each_place(&rig, expect_slice);
    rig_check(&rig, "slice");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- router */

static void expect_softmax(Rig *rig, const Place *at) {
    int64_t E = rig->kernel.E;
    float scores[64];
    rig_get_all(rig, PG_OP_X, PG_ROWS, E, 0, at->row, scores);
    ref_softmax(scores, E);
    for (int64_t e = 0; e < E; e++) expect(rig, at, E, 1, e, 0, scores[e]);
}

static void expect_select(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    float keys[64];
    int32_t chosen[64];
    rig_get_all(rig, PG_OP_X, PG_ROWS, k->E, 0, at->row, keys);
    for (int64_t e = 0; k->select_bias && e < k->E; e++) keys[e] = keys[e] + rig_float(rig, PG_OP_W, 0, (uint64_t)e);
    ref_select(k, keys, k->E, k->k, chosen);
    for (int64_t j = 0; j < k->k; j++) rig_expect_int(rig, PG_OP_EXPERTS, at->row * (uint64_t)k->k + (uint64_t)j, chosen[j]);
}

static void expect_gates(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    float sum = 0;
    for (uint64_t j = 0; j < (uint64_t)k->k; j++)
        sum = sum + get(rig, PG_OP_X, PG_ROWS, at, k->E, 1, (int64_t)ref_expert(rig, at->row, j), 0);
    for (uint64_t j = 0; j < (uint64_t)k->k; j++) {
        float g = get(rig, PG_OP_X, PG_ROWS, at, k->E, 1, (int64_t)ref_expert(rig, at->row, j), 0);
        if (k->normalize) g = g / (sum + 1e-20f);
        if (k->scaled) g = (float)k->scale * g;
        rig_expect_float(rig, PG_OP_COMBINE_W, 0, at->row * (uint64_t)k->k + j, g);
    }
}

static void router_case(Rng random, PgKind kind) {
    Rig rig;
    PgKernel k = {.kind = kind, .mode = rng_next(&random) % 3 ? PG_BLOCK : PG_ROW};
    k.O = k.E = rng_between(&random, 1, 40);
    k.k = rng_between(&random, 1, k.E < 10 ? k.E : 10);
    if (kind == PG_SELECT && k.E % 3 == 0 && rng_next(&random) % 2) {
        k.expert_groups = 3;
        k.top_groups = k.k > k.E / 3 ? 2 : rng_between(&random, 1, 2);
        if (k.k > k.E / 3 * 2) k.k = k.E / 3 * 2;
    }
    k.normalize = rng_next(&random) % 2;
    k.scaled = rng_next(&random) % 2;
    k.scale = k.scaled ? 2.5 : 0;
    k.select_bias = kind == PG_SELECT && rng_next(&random) % 2;
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_W, PG_WEIGHTS, pg_panels(k.E) * PG_LANES * 4, -1, 1);
    if (kind == PG_SELECT) rig_result(&rig, PG_OP_EXPERTS);
    if (kind == PG_GATES) rig_result(&rig, PG_OP_COMBINE_W);
    if (kind == PG_SELECT && k.E > 2)  /* a tie */
        for (uint64_t at = 0; at < rig.slot_bytes[PG_OP_X] / 4; at += 16)
            rig_set(&rig, PG_OP_X, 0, at + 2, rig_float(&rig, PG_OP_X, 0, at));
    run_all(&rig);
    each_place(&rig, kind == PG_SOFTMAX ? expect_softmax : kind == PG_SELECT ? expect_select : expect_gates);
    rig_check(&rig, "router");
    for (uint64_t row = 0; row < rig.rows; row++) assert_int_equal(rig.nonfinite[row], 0);
    rig_close(&rig);
}

static void softmax_case(Rng random) { router_case(random, PG_SOFTMAX); }
static void select_case(Rng random) { router_case(random, PG_SELECT); }
static void gates_case(Rng random) { router_case(random, PG_GATES); }

static void nonfinite_case(Rng random) {
    Rig rig;
    PgKernel k = {.kind = PG_SOFTMAX, .mode = PG_BLOCK, .O = 3, .E = 3, .k = 1};
    open_with(&rig, &k, random, 1, 1);
    rig_set(&rig, PG_OP_X, 0, 16 * (rig.rows - 1) + 1, -INFINITY); /* the last row's second expert */
    run_all(&rig);
    for (uint64_t row = 0; row < rig.rows; row++)
        assert_int_equal(rig.nonfinite[row], row == rig.rows - 1 ? rig.phase.block + 1 : 0);
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- mixed parameters */

static void expect_mix(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++)
        for (int64_t n = 0; n < k->N; n++) expect(rig, at, k->O, k->N, i, n, ref_mix(rig, PG_OP_W, at->row, k->O, k->N, i, n));
}

static void mix_case(Rng random) {
    Rig rig;
    PgKernel k = {.kind = PG_MIX, .mode = rng_next(&random) % 3 ? PG_BLOCK : PG_ROW, .O = rng_between(&random, 1, 40)};
    k.N = rng_between(&random, 1, 20);
    k.E = rng_between(&random, 1, 8);
    k.k = rng_between(&random, 1, k.E);
    open_with(&rig, &k, random, 1, k.N);
    rig_place(&rig, PG_OP_W, PG_WEIGHTS, (uint64_t)(k.E * k.N) * pg_panels(k.O) * PG_LANES * 4, -2, 2);
    run_all(&rig);
    each_place(&rig, expect_mix);
    rig_check(&rig, "mix");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- scan in parts */

static void expect_outer(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++) {
        float d = get(rig, PG_OP_X, k->x_layout, at, k->O, 1, i, 0);
        for (int64_t n = 0; n < k->N; n++) {
            float A = k->mixed ? rig_get(rig, PG_OP_W, PG_ROWS, k->O, k->N, 0, at->row, i, n)
                               : rig_float(rig, PG_OP_W, 0, ref_channel(k->O, k->N, k->per_expert ? at->expert : 0, i, n));
            expect(rig, at, k->O, k->N, i, n, d * A);
        }
    }
}

static void outer_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_OUTER);
    Rig rig;
    k.N = rng_between(&random, 1, 40);
    k.mixed = k.y_layout == PG_ROWS && rng_next(&random) % 2;
    k.per_expert = k.y_layout != PG_ROWS && rng_next(&random) % 2;
    open_with(&rig, &k, random, 1, k.N);
    uint64_t parameters = (k.per_expert ? (uint64_t)k.E : 1) * pg_panels(k.O) * (uint64_t)k.N * PG_LANES * 4;
    if (k.mixed)
        rig_place(&rig, PG_OP_W, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O, k.N), -2, 2);
    else
        rig_place(&rig, PG_OP_W, PG_WEIGHTS, parameters, -2, 2);
    run_all(&rig);
    each_place(&rig, expect_outer);
    rig_check(&rig, "outer");
    rig_close(&rig);
}

/* Element n of what channel i's group has in Z. */
static float z_of(const Rig *rig, const Place *at, int64_t i, int64_t n) {
    const PgKernel *k = &rig->kernel;
    return get(rig, PG_OP_Z, k->z_layout, at, k->groups * k->N, 1, i / (k->O / k->groups) * k->N + n, 0);
}

static void expect_inject(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++) {
        float v = get(rig, PG_OP_X, k->x_layout, at, k->O, 1, i, 0);
        for (int64_t n = 0; n < k->N; n++) expect(rig, at, k->O, k->N, i, n, v * z_of(rig, at, i, n));
    }
}

static void expect_contract(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++) {
        float sum = 0;
        for (int64_t n = 0; n < k->N; n++)
            sum = fmaf(get(rig, PG_OP_X, k->x_layout, at, k->O, k->N, i, n), z_of(rig, at, i, n), sum);
        expect(rig, at, k->O, 1, i, 0, sum);
    }
}

static void element_case(Rng random, PgKind kind) {
    PgKernel k = random_kernel(&random, kind);
    Rig rig;
    bool inject = kind == PG_INJECT;
    k.N = rng_between(&random, 1, 40);
    k.z_layout = rng_next(&random) % 2 ? k.y_layout : PG_ROWS;
    k.groups = rng_next(&random) % 2 ? 1 : rng_between(&random, 2, 3);
    k.O *= k.groups; /* equal ones */
    open_with(&rig, &k, random, inject ? 1 : k.N, inject ? k.N : 1);
    rig_place(&rig, PG_OP_Z, PG_ARENA, rig_value_bytes(&rig, k.z_layout, k.groups * k.N, 1), -2, 2);
    run_all(&rig);
    each_place(&rig, inject ? expect_inject : expect_contract);
    rig_check(&rig, inject ? "inject" : "contract");
    rig_close(&rig);
}

static void inject_case(Rng random) { element_case(random, PG_INJECT); }
static void contract_case(Rng random) { element_case(random, PG_CONTRACT); }

static void expect_recur(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    uint64_t s = (uint64_t)rig->row_segment[at->row], e = k->y_layout == PG_ROWS ? 0 : at->expert;
    bool moves = !k->held;
    for (uint64_t j = 0; k->held && j < (uint64_t)k->k; j++) moves = moves || ref_expert(rig, at->row, j) == e;
    for (int64_t i = 0; i < k->O; i++) {
        for (int64_t n = 0; n < k->N; n++) {
            uint64_t where = ref_channel(k->O, k->N, e, i, n);
            float a = get(rig, PG_OP_X, k->x_layout, at, k->O, k->one_a ? 1 : k->N, i, k->one_a ? 0 : n),
                  b = get(rig, PG_OP_Z, k->z_layout, at, k->O, k->N, i, n);
            float state = rig_float(rig, PG_OP_STATE, s, where);
            if (moves) state = vm_cut(fmaf(a, state, b));
            rig_expect_float(rig, PG_OP_STATE, s, where, state);
            expect(rig, at, k->O, k->N, i, n, state);
        }
    }
}

/* All states count, moved or not; their lanes past O do not. */
static void count_states(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    rig_result(rig, PG_OP_STATE);
    for (uint64_t s = 0; s < rig->args.n_segments; s++) {
        for (uint64_t e = 0; e < (k->E ? (uint64_t)k->E : 1); e++) {
            for (int64_t at = 0; at < k->O * k->N; at++) {
                uint64_t where = ref_channel(k->O, k->N, e, at / k->N, at % k->N);
                rig_expect_float(rig, PG_OP_STATE, s, where, rig_float(rig, PG_OP_STATE, s, where));
            }
        }
    }
}

static void recur_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_RECUR);
    Rig rig;
    k.N = rng_between(&random, 1, 20);
    k.z_layout = rng_next(&random) % 2 ? k.y_layout : PG_ROWS;
    k.held = k.y_layout == PG_PLANES && rng_next(&random) % 2;
    k.one_a = rng_next(&random) % 2;
    open_with(&rig, &k, random, k.one_a ? 1 : k.N, k.N);
    rig_place(&rig, PG_OP_Z, PG_ARENA, rig_value_bytes(&rig, k.z_layout, k.O, k.N), -2, 2);
    rig_place(&rig, PG_OP_STATE, PG_STATE, (k.E ? (uint64_t)k.E : 1) * pg_panels(k.O) * (uint64_t)k.N * PG_LANES * 4, -2, 2);
    count_states(&rig);
    rig.phase.count = PG_PER_SEGMENT;
    rig.phase.fixed = (uint32_t)pg_panels(k.O);
    rig_run(&rig);
    each_place(&rig, expect_recur);
    rig_check(&rig, "recur");
    rig_close(&rig);
}

/* ---------------------------------------------------------------------------------------------- ranks, angles */

static void expect_split(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++)
        expect(rig, at, k->O, 1, i, 0, get(rig, PG_OP_X, PG_ROWS, at, k->K, 1, k->start + (int64_t)at->expert * k->O + i, 0));
}

static void split_case(Rng random) {
    PgKernel k = {.kind = PG_SLICE, .mode = rng_next(&random) % 3 ? PG_BLOCK : PG_ROW, .y_layout = PG_PLANES};
    Rig rig;
    k.E = rng_between(&random, 1, 4);
    k.k = rng_between(&random, 1, k.E);
    bool whole = rng_next(&random) % 3 == 0;
    k.O = whole ? 32 : rng_between(&random, 1, 40);
    k.start = whole ? 16 : rng_between(&random, 0, 20);
    k.K = k.start + k.E * k.O + rng_between(&random, 0, 20);
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_X, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.K, 1), -3, 3);
    run_all(&rig);
    each_place(&rig, expect_split);
    rig_check(&rig, "split");
    rig_close(&rig);
}

static void expect_repeat(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++)
        expect(rig, at, k->O, 1, i, 0,
               get(rig, PG_OP_X, k->x_layout, at, k->K, 1, i / (k->run * k->times) * k->run + i % k->run, 0));
}

static void repeat_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_REPEAT);
    Rig rig;
    k.x_layout = k.y_layout;
    k.run = rng_next(&random) % 3 == 0 ? 16 * rng_between(&random, 1, 2) : rng_between(&random, 1, 6);
    k.times = rng_between(&random, 2, 5);
    k.K = k.run * rng_between(&random, 1, 3);
    k.O = k.K * k.times;
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_X, PG_ARENA, rig_value_bytes(&rig, k.x_layout, k.K, 1), -3, 3);
    run_all(&rig);
    each_place(&rig, expect_repeat);
    rig_check(&rig, "repeat");
    rig_close(&rig);
}

static void expect_inject_sum(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    for (int64_t i = 0; i < k->O; i++) {
        for (int64_t n = 0; n < k->N; n++) {
            float sum = k->addend ? rig_get(rig, PG_OP_W, PG_ROWS, k->O, k->N, 0, at->row, i, n) : 0;
            for (uint64_t plane = 0; plane < (k->x_layout == PG_PLANES ? (uint64_t)k->E : 1); plane++) {
                const Place of = {.row = at->row, .expert = plane};
                sum = fmaf(get(rig, PG_OP_X, k->x_layout, &of, k->O, 1, i, 0), z_of(rig, &of, i, n), sum);
            }
            expect(rig, at, k->O, k->N, i, n, sum);
        }
    }
}

static void inject_sum_case(Rng random) {
    PgKernel k = {.kind = PG_INJECT_SUM, .mode = rng_next(&random) % 3 ? PG_BLOCK : PG_ROW};
    Rig rig;
    if (rng_next(&random) % 2) {
        k.x_layout = k.z_layout = PG_PLANES;
        k.E = rng_between(&random, 1, 4);
        k.k = rng_between(&random, 1, k.E);
    }
    k.N = rng_between(&random, 1, 20);
    k.groups = rng_between(&random, 1, 3);
    k.O = k.groups * rng_between(&random, 1, 20);
    k.addend = rng_next(&random) % 2;
    open_with(&rig, &k, random, 1, k.N);
    rig_place(&rig, PG_OP_Z, PG_ARENA, rig_value_bytes(&rig, k.z_layout, k.groups * k.N, 1), -2, 2);
    rig_place(&rig, PG_OP_W, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O, k.N), -2, 2);
    run_all(&rig);
    each_place(&rig, expect_inject_sum);
    rig_check(&rig, "inject_sum");
    rig_close(&rig);
}

static void expect_rotate(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    int64_t N = k->O / k->heads, S = k->rope_dim / 2;
    for (int64_t i = 0; i < k->O; i++) {
        int64_t angle = i / N * S + i % N / 2, partner = i % 2 == 0 ? i + 1 : i - 1;
        float own = get(rig, PG_OP_X, k->x_layout, at, k->O, 1, i, 0), turned = own;
        if (i % N < 2 * S) {
            float other = get(rig, PG_OP_X, k->x_layout, at, k->O, 1, partner, 0);
            float by_cosine = own * get(rig, PG_OP_Z, PG_ROWS, at, k->heads * S, 1, angle, 0);
            float by_sine = other * get(rig, PG_OP_W, PG_ROWS, at, k->heads * S, 1, angle, 0);
            turned = i % 2 == 0 ? by_cosine - by_sine : by_cosine + by_sine;
        }
        expect(rig, at, k->O, 1, i, 0, turned);
    }
}

static void rotate_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_ROTATE);
    Rig rig;
    if (k.y_layout == PG_POSITIONS) k.y_layout = PG_PLANES;
    k.x_layout = k.y_layout;
    k.heads = rng_between(&random, 1, 4);
    int64_t N = 2 * rng_between(&random, 1, 12);
    k.O = k.heads * N;
    k.rope_dim = 2 * rng_between(&random, 1, N / 2);
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_Z, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.heads * k.rope_dim / 2, 1), -1, 1);
    rig_place(&rig, PG_OP_W, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.heads * k.rope_dim / 2, 1), -1, 1);
    run_all(&rig);
    each_place(&rig, expect_rotate);
    rig_check(&rig, "rotate");
    rig_close(&rig);
}

static void run_segments(Rig *rig) {
    rig->phase.count = PG_PER_SEGMENT;
    rig->phase.fixed = (uint32_t)pg_panels(rig->kernel.O);
    rig_run(rig);
}

static void expect_delay(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    uint64_t s = (uint64_t)rig->row_segment[at->row], e = k->y_layout == PG_ROWS ? 0 : at->expert;
    for (int64_t i = 0; i < k->O; i++) {
        uint64_t where = ref_channel(k->O, 1, e, i, 0);
        expect(rig, at, k->O, 1, i, 0, rig_float(rig, PG_OP_STATE, s, where));
        rig_expect_float(rig, PG_OP_STATE, s, where, get(rig, PG_OP_X, k->x_layout, at, k->O, 1, i, 0));
    }
}

static void expect_angle(Rig *rig, const Place *at) {
    const PgKernel *k = &rig->kernel;
    int64_t S = k->O / k->heads;
    uint64_t s = (uint64_t)rig->row_segment[at->row];
    for (int64_t i = 0; i < k->O; i++) {
        uint64_t where = ref_channel(k->O, 1, 0, i, 0);
        float w = get(rig, PG_OP_X, PG_ROWS, at, S, 1, i % S, 0), d = get(rig, PG_OP_Z, PG_ROWS, at, k->heads, 1, i / S, 0);
        float moved = vm_wrap(fmaf(w, d, rig_float(rig, PG_OP_STATE, s, where)));
        expect(rig, at, k->O, 1, i, 0, moved);
        rig_expect_float(rig, PG_OP_STATE, s, where, moved);
    }
}

static void delay_case(Rng random) {
    PgKernel k = random_kernel(&random, PG_DELAY);
    Rig rig;
    if (k.y_layout == PG_POSITIONS) k.y_layout = PG_PLANES;
    k.x_layout = k.y_layout;
    k.N = 1;
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_STATE, PG_STATE, (k.E ? (uint64_t)k.E : 1) * pg_panels(k.O) * PG_LANES * 4, -2, 2);
    count_states(&rig);
    run_segments(&rig);
    each_place(&rig, expect_delay);
    rig_check(&rig, "delay");
    rig_close(&rig);
}

static void angle_case(Rng random) {
    PgKernel k = {.kind = PG_ANGLE, .mode = rng_next(&random) % 3 ? PG_BLOCK : PG_ROW, .N = 1};
    Rig rig;
    k.heads = rng_between(&random, 1, 5);
    k.O = k.heads * rng_between(&random, 1, 12);
    open_with(&rig, &k, random, 1, 1);
    rig_place(&rig, PG_OP_X, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.O / k.heads, 1), -4, 4);
    rig_place(&rig, PG_OP_Z, PG_ARENA, rig_value_bytes(&rig, PG_ROWS, k.heads, 1), 0, 3);
    rig_place(&rig, PG_OP_STATE, PG_STATE, pg_panels(k.O) * PG_LANES * 4, -3, 3);
    count_states(&rig);
    run_segments(&rig);
    each_place(&rig, expect_angle);
    rig_check(&rig, "angle");
    rig_close(&rig);
}

static void planes_split_and_runs_repeat(void **state) { (void)state, rig_each(12, 12, split_case), rig_each(16, 13, repeat_case); }
static void products_of_ranks_are_summed(void **state) { (void)state, rig_each(16, 14, inject_sum_case); }
static void pairs_turn(void **state) { (void)state, rig_each(16, 15, rotate_case); }
static void the_row_before_comes_out(void **state) { (void)state, rig_each(12, 16, delay_case); }
static void angles_move_row_by_row(void **state) { (void)state, rig_each(12, 17, angle_case); }
static void elementwise_gives_the_bits(void **state) { (void)state, rig_each(40, 1, elementwise_case); }
static void slice_copies(void **state) { (void)state, rig_each(20, 2, slice_case); }
static void softmax_gives_the_bits(void **state) { (void)state, rig_each(8, 3, softmax_case); }
static void selection_takes_the_largest(void **state) { (void)state, rig_each(16, 4, select_case); }
static void gates_are_normalised_and_scaled(void **state) { (void)state, rig_each(12, 5, gates_case); }
static void a_router_that_is_not_finite_is_told(void **state) { (void)state, rig_each(2, 6, nonfinite_case); }
static void parameters_mix_by_gates(void **state) { (void)state, rig_each(12, 7, mix_case); }
static void outer_gives_the_bits(void **state) { (void)state, rig_each(16, 8, outer_case); }
static void inject_gives_the_bits(void **state) { (void)state, rig_each(16, 9, inject_case); }
static void contract_gives_the_bits(void **state) { (void)state, rig_each(16, 10, contract_case); }
static void states_move_row_by_row(void **state) { (void)state, rig_each(24, 11, recur_case); }

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise_gives_the_bits),      cmocka_unit_test(slice_copies),
        cmocka_unit_test(softmax_gives_the_bits),          cmocka_unit_test(selection_takes_the_largest),
        cmocka_unit_test(gates_are_normalised_and_scaled), cmocka_unit_test(a_router_that_is_not_finite_is_told),
        cmocka_unit_test(parameters_mix_by_gates),         cmocka_unit_test(outer_gives_the_bits),
        cmocka_unit_test(inject_gives_the_bits),           cmocka_unit_test(contract_gives_the_bits),
        cmocka_unit_test(states_move_row_by_row),          cmocka_unit_test(planes_split_and_runs_repeat),
        cmocka_unit_test(products_of_ranks_are_summed),    cmocka_unit_test(pairs_turn),
        cmocka_unit_test(the_row_before_comes_out),        cmocka_unit_test(angles_move_row_by_row),
    };
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
