/* PG_LINEAR in all its forms against the scalar order of docs/bits.md. */
#include "codegen/tuning.h"
#include "tests/codegen/reference.h"

#define ORDER_TOLERANCE 1e-4f

static uint64_t matrices(const PgKernel *k) { return k->select == PG_SINGLE ? 1 : (uint64_t)k->E; }

/* ---------------------------------------------------------------------------------------------- operands */

static void place_convolution(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    rig_place_channels(rig, PG_LINEAR_CONV_W, 1, k->O, k->taps, -1, 1);
    rig_place_channels(rig, PG_LINEAR_CONV_B, 1, k->O, 1, -1, 1);
    rig_place(rig, PG_LINEAR_HISTORY, PG_STATE, pg_panels(k->O) * (uint64_t)(k->taps - 1) * PG_LANES * 4, -1, 1);
    rig_result(rig, PG_LINEAR_HISTORY);
}

static void place_all(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    uint64_t m = matrices(k);
    if (k->k > 0) rig_route(rig, PG_LINEAR_EXPERTS, PG_LINEAR_COMBINE_W, PG_LINEAR_GROUPS);
    if (k->rounds && k->mode == PG_BLOCK)
        rig_place_rounded(rig, PG_LINEAR_X, k->x_layout, k->K, -1, 1);
    else if (k->bf16_x)
        rig_place_bf16(rig, PG_LINEAR_X, k->x_layout, k->K, -1, 1);
    else
        rig_place_values(rig, PG_LINEAR_X, k->x_layout, k->K, -1, 1);
    rig_place_weights(rig, PG_LINEAR_W, k->dtype, m, k->O, k->K, 1);
    rig_place_weights(rig, PG_LINEAR_W2, k->dtype, m, k->O, k->K, 1);
    rig_place_channels(rig, PG_LINEAR_BIAS, m, k->O, 1, -1, 1);
    rig_place_channels(rig, PG_LINEAR_BIAS2, m, k->O, 1, -1, 1);
    rig_place_channels(rig, PG_LINEAR_NORM_W, 1, k->K, 1, -1, 1);
    rig_place_channels(rig, PG_LINEAR_NORM_B, 1, k->K, 1, -1, 1);
    rig_place_values(rig, PG_LINEAR_ADDEND, PG_ROWS, k->O, -1, 1);
    rig_place_values(rig, PG_LINEAR_RESIDUAL, PG_ROWS, k->O, -1, 1);
    if (pg_does(k, PG_STEP_CONV)) place_convolution(rig);
    if (pg_does(k, PG_STEP_LOGITS)) {
        rig_place_logits(rig, k->O);
        return;
    }
    if (pg_does(k, PG_STEP_RESIDUAL) && rng_next(&rig->random) % 2) /* the plan may let a linear layer write over its residual */
        rig_alias(rig, PG_LINEAR_Y, PG_LINEAR_RESIDUAL);
    else
        rig_reserve(rig, PG_LINEAR_Y, PG_ARENA, rig_value_bytes(rig, k->y_layout, k->O, 1));
    rig_result(rig, PG_LINEAR_Y);
}

static void set_count(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    bool parts = pg_sum(k) == PG_NO_SUM && (k->y_layout == PG_PLANES || k->mode == PG_ROW);
    rig->phase.fixed = parts ? (uint32_t)rig_parts(rig, k->y_layout) : 1;
    rig->phase.count = pg_does(k, PG_STEP_LOGITS)    ? PG_PER_OUT_ROW_BLOCK
                       : k->mode == PG_ROW           ? PG_ONCE
                       : k->y_layout == PG_POSITIONS ? PG_PER_POSITION_BLOCK
                                                     : PG_PER_ROW_BLOCK;
}

/* ---------------------------------------------------------------------------------------------- the reference */

static float parameter(const Rig *rig, unsigned slot, uint64_t m, int64_t o) {
    return rig_float(rig, slot, 0, ref_channel(rig->kernel.O, 1, m, o, 0));
}

/* Takes v into the history of channel o; returns the convolution. */
static float convolved(Rig *rig, int64_t o, float v) {
    const PgKernel *k = &rig->kernel;
    int64_t past = k->taps - 1;
    float acc = 0;
    for (int64_t t = 0; t < past; t++) {
        float w = rig_float(rig, PG_LINEAR_CONV_W, 0, ref_channel(k->O, k->taps, 0, o, t));
        acc = fmaf(w, rig_float(rig, PG_LINEAR_HISTORY, 0, ref_channel(k->O, past, 0, o, t)), acc);
    }
    acc = fmaf(rig_float(rig, PG_LINEAR_CONV_W, 0, ref_channel(k->O, k->taps, 0, o, past)), v, acc);
    for (int64_t t = 0; t < past; t++) {
        float next = t == past - 1 ? v : rig_float(rig, PG_LINEAR_HISTORY, 0, ref_channel(k->O, past, 0, o, t + 1));
        rig_expect_float(rig, PG_LINEAR_HISTORY, 0, ref_channel(k->O, past, 0, o, t), next);
    }
    return pg_does(k, PG_STEP_CONV_BIAS) ? acc + parameter(rig, PG_LINEAR_CONV_B, 0, o) : acc;
}

static float dot(const Rig *rig, unsigned slot, uint64_t m, int64_t o, const float *x) {
    if (rig->kernel.rounds) return ref_rounded_dot(rig, slot, m, o, x);
    return (rig->kernel.bf16_x ? ref_bf16_dot : ref_dot)(rig_weights(rig, slot, m, o), x, rig->kernel.K);
}

/* v of output o with matrix m and input x, up to the second linear layer. */
static float value(Rig *rig, uint64_t m, const float *x, int64_t o) {
    const PgKernel *k = &rig->kernel;
    const PgEpilogueStep *act = pg_epilogue_find(&k->epilogue, PG_STEP_ACT);
    float v = dot(rig, PG_LINEAR_W, m, o, x);
    v = pg_does(k, PG_STEP_BIAS) ? v + parameter(rig, PG_LINEAR_BIAS, m, o) : v;
    v = pg_does(k, PG_STEP_CONV) ? convolved(rig, o, v) : v;
    v = ref_act(act == NULL ? PG_NO_ACT : (PgActivation)act->act, v);
    if (!pg_does(k, PG_STEP_DUAL)) return v;
    float up = dot(rig, PG_LINEAR_W2, m, o, x);
    return v * (pg_does(k, PG_STEP_BIAS) ? up + parameter(rig, PG_LINEAR_BIAS2, m, o) : up);
}

/* Input of part j (slot or plane) of a row, normed, into out[K]; `norm` holds the norm's parameters w[K], b[K]. */
static void input(const Rig *rig, uint64_t row, uint64_t j, const float *norm, float *out) {
    const PgKernel *k = &rig->kernel;
    uint64_t plane = k->x_layout == PG_PLANES && pg_sum(k) == PG_WEIGHTED_SUM ? ref_expert(rig, row, j) : j;
    unsigned slot = pg_reads_rounded(k) ? RIG_FLOATS : PG_LINEAR_X;
    rig_get_all(rig, slot, k->x_layout, k->K, rig_plane(k->x_layout, plane), rig_index(rig, k->x_layout, row, j), out);
    if (k->norm != PG_NO_NORM) ref_norm(k->norm, out, norm, norm + k->K, k->K, k->eps, out);
}

/* Writes output o of part j of a row, after all sums. */
static void finish(Rig *rig, uint64_t row, uint64_t j, int64_t o, float v) {
    const PgKernel *k = &rig->kernel;
    v = pg_does(k, PG_STEP_ADDEND) ? v + rig_get(rig, PG_LINEAR_ADDEND, PG_ROWS, k->O, 1, 0, row, o, 0) : v;
    v = pg_does(k, PG_STEP_RESIDUAL) ? v + rig_get(rig, PG_LINEAR_RESIDUAL, PG_ROWS, k->O, 1, 0, row, o, 0) : v;
    v = pg_does(k, PG_STEP_SCALE) ? v * (float)pg_epilogue_find(&k->epilogue, PG_STEP_SCALE)->scale : v;
    if (pg_does(k, PG_STEP_LOGITS))
        rig_expect_float(rig, RIG_LOGITS, 0, row * rig->args.out_stride + (uint64_t)o, v);
    else
        rig_expect(rig, PG_LINEAR_Y, k->y_layout, k->O, 1, rig_plane(k->y_layout, j), rig_index(rig, k->y_layout, row, j), o, 0, v);
}

/* sums[O]: room for the sums of a row, x[K]: for its input. */
static void expect_row(Rig *rig, uint64_t row, const float *norm, float *x, float *sums) {
    const PgKernel *k = &rig->kernel;
    PgSum sum = pg_sum(k);
    bool routed = k->select == PG_CHOSEN || (k->select == PG_ALL && sum == PG_WEIGHTED_SUM);
    uint64_t parts = sum == PG_WEIGHTED_SUM ? (uint64_t)k->k : sum == PG_PLANE_SUM ? (uint64_t)k->E : rig_parts(rig, k->y_layout);
    memset(sums, 0, (size_t)k->O * sizeof *sums);
    for (uint64_t j = 0; j < parts; j++) {
        uint64_t m = k->select == PG_SINGLE ? 0 : routed ? ref_expert(rig, row, j) : j;
        input(rig, row, j, norm, x);
        for (int64_t o = 0; o < k->O; o++) {
            float v = value(rig, m, x, o);
            if (sum == PG_WEIGHTED_SUM)
                sums[o] = fmaf(ref_combine_weight(rig, row, j), v, sums[o]);
            else
                sums[o] = sum == PG_PLANE_SUM && j > 0 ? sums[o] + v : v;
            if (j + 1 == parts || sum == PG_NO_SUM) finish(rig, row, j, o, sums[o]);
        }
    }
}

static void expect_rows(Rig *rig) {
    const PgKernel *k = &rig->kernel;
    float *norm = malloc((size_t)k->K * 2 * sizeof *norm), *x = malloc((size_t)k->K * sizeof *x);
    float *sums = malloc((size_t)k->O * sizeof *sums);
    for (int64_t i = 0; i < k->K; i++) {
        norm[i] = rig_float(rig, PG_LINEAR_NORM_W, 0, (uint64_t)i);
        norm[k->K + i] = rig_float(rig, PG_LINEAR_NORM_B, 0, (uint64_t)i);
    }
    uint64_t rows = pg_does(k, PG_STEP_LOGITS) ? rig->args.n_out_rows : rig->rows;
    for (uint64_t row = 0; row < rows; row++) expect_row(rig, row, norm, x, sums);
    free(norm), free(x), free(sums);
}

/* ---------------------------------------------------------------------------------------------- cases */

static void run_scheduled(Rng random, const PgKernel *k, uint32_t rows, const CgSchedule *schedule) {
    Rig rig;
    rig_open_rows(&rig, k, random, rows, pg_does(k, PG_STEP_LOGITS) ? (uint32_t)rng_between(&random, 0, rows) : 0);
    rig.schedule = schedule;
    if (k->bf16_x && (!rig_target()->bf16_in_ir || rig_target()->amx_in_ir)) rig.tolerance = ORDER_TOLERANCE;
    place_all(&rig);
    set_count(&rig);
    rig_run(&rig);
    expect_rows(&rig);
    rig_check(&rig, "linear");
    rig_close(&rig);
    rig_count_case();
}

static void run_case(Rng random, const PgKernel *k, uint32_t rows) { run_scheduled(random, k, rows, NULL); }

/* Random steps around those of a form: convolution, sum and logits are the form's. */
static PgEpilogue random_epilogue(Rng *r, const PgKernel *form) {
    PgEpilogue out = {0};
    bool bias = rng_next(r) % 2, second = !pg_does(form, PG_STEP_CONV) && rng_next(r) % 3 == 0;
    bool beside = form->y_layout == PG_ROWS && !pg_does(form, PG_STEP_LOGITS);
    PgActivation act = (PgActivation)rng_between(r, PG_NO_ACT, PG_ACTIVATIONS - 1);
    const bool drawn[PG_STEP_KINDS] = {[PG_STEP_BIAS] = bias,
                                       [PG_STEP_ACT] = act != PG_NO_ACT,
                                       [PG_STEP_BIAS2] = bias && second,
                                       [PG_STEP_DUAL] = second,
                                       [PG_STEP_ADDEND] = beside && rng_next(r) % 2,
                                       [PG_STEP_RESIDUAL] = beside && rng_next(r) % 2,
                                       [PG_STEP_SCALE] = rng_next(r) % 4 == 0};
    for (uint32_t kind = 1; kind < PG_STEP_KINDS; kind++) {
        if (!drawn[kind] && !pg_does(form, (PgStepKind)kind)) continue;
        pg_epilogue_add(&out, (PgEpilogueStep){.kind = kind,
                                               .act = kind == PG_STEP_ACT ? (uint32_t)act : 0,
                                               .scale = kind == PG_STEP_SCALE ? 0.7 : 0});
    }
    return out;
}

/* Random sizes and extras around a given form. */
/* The instruction set is another way to multiply bytes, or bf16: other inner products are tested without it. */
static bool blocks_alone, bf16_alone, tiles_alone;

/* The processor's own products of bf16, and its tiles, run only where the instruction set is named after them. */
static bool may_take_bf16(const PgKernel *k) {
    bool wanted = bf16_alone || tiles_alone || rig_target()->bf16_in_ir;
    return wanted && k->mode == PG_BLOCK && k->dtype == IR_BF16 && rig_target()->bf16 != CG_BF16_NONE;
}

static void try_form(const PgKernel *form, int times) {
    uint64_t seed = 7 + (uint64_t)form->select * 100 + (uint64_t)pg_sum(form) * 10 + (uint64_t)form->x_layout;
    if ((bf16_alone || tiles_alone) && form->mode == PG_ROW) return;
    for (int t = 0; t < (blocks_alone ? 2 : times); t++) {
        Rng random = {seed * 1000 + (uint64_t)t}, *r = &random;
        PgKernel k = *form;
        k.dtype = (IrDtype)rng_between(r, 0, IR_STORED_DTYPES - 1);
        k.rounds = ir_is_blocks(k.dtype) && rng_next(r) % 3 != 0;
        if (blocks_alone) k.dtype = t % 2 ? IR_Q4 : IR_Q8, k.rounds = true;
        if (bf16_alone || (tiles_alone && t % 3 == 2)) k.dtype = IR_BF16, k.rounds = false;
        if (tiles_alone && t % 3 < 2) k.dtype = t % 3 ? IR_Q4 : IR_Q8, k.rounds = true;
        k.bf16_x = may_take_bf16(&k) && (bf16_alone || tiles_alone || rng_next(r) % 2);
        k.K = rng_between(r, 1, rng_next(r) % 3 == 0 ? 700 : 90);
        k.O = rng_between(r, 1, 300);
        if (k.mode == PG_ROW && rng_next(r) % 2) {
            k.norm = rng_next(r) % 2 ? PG_RMS : PG_LAYER;
            k.eps = 1e-5;
        }
        k.epilogue = random_epilogue(r, form);
        run_case(random, &k, k.mode == PG_ROW ? 1 : (uint32_t)rng_between(r, 1, 37));
    }
}

static void row_by_single_matrix(void **unused) {
    (void)unused;
    try_form(&(PgKernel){.kind = PG_LINEAR, .mode = PG_ROW}, 12);
}

static void row_with_convolution(void **unused) {
    (void)unused;
    for (int64_t taps = 1; taps <= 4; taps += 3)
        try_form(&(PgKernel){.kind = PG_LINEAR,
                             .mode = PG_ROW,
                             .taps = taps,
                             .epilogue = {{{.kind = PG_STEP_CONV}, {.kind = taps == 4 ? PG_STEP_CONV_BIAS : PG_NO_STEP}}}},
                 3);
}

static void row_to_logits(void **unused) {
    (void)unused;
    try_form(&(PgKernel){.kind = PG_LINEAR, .mode = PG_ROW, .epilogue = {{{.kind = PG_STEP_LOGITS}}}}, 3);
}

static void row_with_planes_and_positions(void **unused) {
    (void)unused;
    PgKernel base = {.kind = PG_LINEAR, .mode = PG_ROW, .E = 5, .k = 3};
    PgLayout layouts[] = {PG_PLANES, PG_POSITIONS};
    for (int i = 0; i < 2; i++) {
        base.x_layout = base.y_layout = layouts[i];
        try_form(&base, 3);
    }
    base.select = PG_ALL;
    base.y_layout = PG_PLANES;
    base.x_layout = PG_ROWS;
    try_form(&base, 3);
    base.x_layout = PG_PLANES;
    try_form(&base, 3);
    base.select = PG_CHOSEN;
    base.y_layout = PG_POSITIONS;
    base.x_layout = PG_ROWS;
    try_form(&base, 3);
    base.x_layout = PG_POSITIONS;
    try_form(&base, 3);
}

static void row_with_sum_over_experts(void **unused) {
    (void)unused;
    PgKernel base = {
        .kind = PG_LINEAR, .mode = PG_ROW, .E = 6, .k = 2, .epilogue = {{{.kind = PG_STEP_WEIGHTED_SUM}}}, .select = PG_CHOSEN};
    try_form(&base, 3);
    base.x_layout = PG_POSITIONS;
    try_form(&base, 3);
    base.select = PG_ALL;
    base.x_layout = PG_PLANES;
    try_form(&base, 3);
    base.epilogue.steps[0].kind = PG_STEP_PLANE_SUM;
    base.E = 3;
    try_form(&base, 3);
    base.x_layout = PG_ROWS;
    try_form(&base, 3);
}

static void block_by_single_matrix(void **unused) {
    (void)unused;
    try_form(&(PgKernel){.kind = PG_LINEAR, .mode = PG_BLOCK}, 10);
}

static void block_to_logits(void **unused) {
    (void)unused;
    try_form(&(PgKernel){.kind = PG_LINEAR, .mode = PG_BLOCK, .epilogue = {{{.kind = PG_STEP_LOGITS}}}}, 3);
}

static void block_with_planes_and_positions(void **unused) {
    (void)unused;
    PgKernel base = {.kind = PG_LINEAR, .mode = PG_BLOCK, .E = 5, .k = 2};
    PgLayout layouts[] = {PG_PLANES, PG_POSITIONS};
    for (int i = 0; i < 2; i++) {
        base.x_layout = base.y_layout = layouts[i];
        try_form(&base, 3);
    }
    base.select = PG_ALL;
    base.y_layout = PG_PLANES;
    base.x_layout = PG_ROWS;
    try_form(&base, 3);
    base.select = PG_CHOSEN;
    base.y_layout = PG_POSITIONS;
    try_form(&base, 3);
    base.x_layout = PG_POSITIONS;
    try_form(&base, 3);
}

/* So many rows and inputs that the tiles go through x in chunks. */
static void block_of_many_rows(void **unused) {
    (void)unused;
    PgKernel k = {.kind = PG_LINEAR, .mode = PG_BLOCK, .K = 4099, .O = 70, .dtype = IR_BF16};
    pg_epilogue_add(&k.epilogue, (PgEpilogueStep){.kind = PG_STEP_RESIDUAL});
    k.bf16_x = may_take_bf16(&k);
    for (uint32_t rows = 130; rows <= 199; rows += 69) run_case((Rng){3000 + rows}, &k, rows);
}

/* Schedules that mossc tune measures: of one row and of blocks of rows, of a float, pairs, and blocks with rounded inputs and
 * without; of one matrix and of experts. K has a tail and more than one segment, O a panel that is not full. By default every
 * fourth, of each form others; with the argument `schedules` all of them. */
static bool all_schedules;
static void every_schedule(void **unused) {
    (void)unused;
    static const IrDtype dtypes[] = {IR_F32, IR_BF16, IR_Q8, IR_Q4};
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        for (int form = 0; form < 8; form++) {
            bool block = form & 1, experts = form & 2, rounds = form & 4;
            PgKernel k = {.kind = PG_LINEAR, .mode = block ? PG_BLOCK : PG_ROW, .K = 597, .O = 203, .dtype = dtypes[d]};
            if (rounds && !ir_is_blocks(k.dtype) && !may_take_bf16(&k)) continue;
            k.rounds = rounds && ir_is_blocks(k.dtype);
            k.bf16_x = rounds && !k.rounds;
            if ((blocks_alone && !k.rounds) || (bf16_alone && !k.bf16_x) || (tiles_alone && !pg_reads_rounded(&k))) continue;
            if (experts) k.E = 5, k.k = 2, k.select = PG_CHOSEN, k.y_layout = PG_POSITIONS;
            CgSchedule space[CG_MOST_SCHEDULES];
            unsigned count = cg_schedule_space(rig_target(), &k, tiles_alone, space);
            assert_true(count > 1 && count < CG_MOST_SCHEDULES);
            unsigned step = all_schedules                               ? 1
                            : blocks_alone || bf16_alone || tiles_alone ? 8
                                                                        : 4,
                     first = (unsigned)d + (unsigned)form;
            for (unsigned i = 0; i < count; i++)
                if (i % step == first % step || (tiles_alone && space[i].tiles))
                    run_scheduled((Rng){5000 + d}, &k, block ? 21 : 1, &space[i]);
        }
    }
}

/* Panels of a tile that lie apart: 13 panels, of which groups side by side share 12, 6 and 8, so that the last ones begin early. */
static void row_of_panels_apart(void **unused) {
    (void)unused;
    static const struct {
        int32_t panels, span;
    } forms[] = {{1, 13}, {4, 3}, {2, 3}, {4, 2}};
    for (size_t i = 0; i < 2 * sizeof forms / sizeof *forms; i++) {
        PgKernel k = {.kind = PG_LINEAR, .K = 597, .O = 203, .dtype = i % 2 ? IR_Q4 : IR_Q8, .rounds = true};
        if (i % 3 == 1) k.E = 5, k.k = 2, k.select = PG_CHOSEN, k.y_layout = PG_POSITIONS;
        CgSchedule s = cg_schedule_default(rig_target(), &k);
        s.panels = forms[i / 2].panels;
        s.span = forms[i / 2].span;
        run_scheduled((Rng){5100 + i}, &k, 1, &s);
    }
}

/* "bf16" of "bf16-in-ir" and "avx512-bf16". */
static bool is_way(const char *isa, const char *way) { return strstr(isa, way) != NULL; }

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_by_single_matrix),
        cmocka_unit_test(row_with_convolution),
        cmocka_unit_test(row_to_logits),
        cmocka_unit_test(row_with_planes_and_positions),
        cmocka_unit_test(row_with_sum_over_experts),
        cmocka_unit_test(block_by_single_matrix),
        cmocka_unit_test(block_of_many_rows),
        cmocka_unit_test(block_to_logits),
        cmocka_unit_test(block_with_planes_and_positions),
        cmocka_unit_test(every_schedule),
        cmocka_unit_test(row_of_panels_apart),
    };
    const struct CMUnitTest schedules[] = {cmocka_unit_test(every_schedule)};
    bf16_alone = argc >= 2 && is_way(argv[1], "bf16");
    tiles_alone = argc >= 2 && is_way(argv[1], "amx");
    blocks_alone = argc >= 2 && strchr(argv[1], '-') != NULL && !bf16_alone && !tiles_alone;
    all_schedules = argc == 3 && strcmp(argv[2], "schedules") == 0;
    if (!rig_begin(all_schedules ? 2 : argc, argv)) return RIG_SKIPPED;
    return rig_end(all_schedules ? cmocka_run_group_tests(schedules, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL));
}
