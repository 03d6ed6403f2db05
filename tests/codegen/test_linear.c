/* PG_LINEAR in all its forms against the scalar order of docs/bits.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/codegen/harness.h"
// clang-format off
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

/* Everything a linear layer reads, row-major, and what it should give. P: planes of x or y, k positions of a row. */
typedef struct Case {
    PgKernel k;
    uint32_t rows, n_out_rows;
    float *x;                        /* [rows][Px][K], Px = 1, E or k */
    float *w, *w2;                   /* [E or 1][O][K] */
    float *bias, *bias2;             /* [E or 1][O] */
    float *norm_w, *norm_b;          /* [K] */
    float *addend, *residual;        /* [rows][O] */
    int32_t *expert_indices;                 /* [rows][k] */
    float *combine_weights;                    /* [rows][k] */
    float *conv_w, *conv_b, *history;/* [O][W], [O], [W-1][O] oldest first */
} Case;

static uint64_t planes_of(const PgKernel *k, PgLayout layout) {
    return layout == PG_ROWS ? 1 : layout == PG_PLANES ? (uint64_t)k->E : (uint64_t)k->k;
}

static uint64_t matrices(const PgKernel *k) { return k->select == PG_SINGLE ? 1 : (uint64_t)k->E; }

static Case make_case(Harness *h, const PgKernel *kernel, uint32_t rows, uint32_t n_out_rows) {
    const PgKernel *k = kernel;
    Case c = {.k = *k, .rows = rows, .n_out_rows = n_out_rows};
    uint64_t K = (uint64_t)k->K, O = (uint64_t)k->O, m = matrices(k);
    c.x = harness_floats(h, rows * planes_of(k, k->x_layout) * K);
    c.w = harness_weights(h, k->dtype, m * O * K);
    c.w2 = harness_weights(h, k->dtype, m * O * K);
    c.bias = harness_floats(h, m * O);
    c.bias2 = harness_floats(h, m * O);
    c.norm_w = harness_floats(h, K);
    c.norm_b = harness_floats(h, K);
    c.addend = harness_floats(h, rows * O);
    c.residual = harness_floats(h, rows * O);
    c.expert_indices = calloc(rows * (uint64_t)(k->k + 1), sizeof *c.expert_indices);
    c.combine_weights = harness_floats(h, rows * (uint64_t)(k->k + 1));
    for (uint32_t r = 0; k->k > 0 && r < rows; r++) harness_experts(h, c.expert_indices + (int64_t)r * k->k, k->E, k->k);
    c.conv_w = harness_floats(h, O * (uint64_t)(k->taps + 1));
    c.conv_b = harness_floats(h, O);
    c.history = harness_floats(h, O * (uint64_t)(k->taps + 1));
    return c;
}

static void free_case(Case *c) {
    float *all[] = {c->x,      c->w,      c->w2,     c->bias,     c->bias2,
                    c->norm_w, c->norm_b, c->addend, c->residual, c->combine_weights,
                    c->conv_w, c->conv_b, c->history};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(c->expert_indices);
}

/* v of output o with matrix m and input x, up to the second linear layer. */
static float reference_value(Case *c, uint64_t m, const float *x, int64_t o) {
    const PgKernel *k = &c->k;
    uint64_t at = m * (uint64_t)k->O + (uint64_t)o;
    float v = reference_dot(c->w + at * (uint64_t)k->K, x, k->K);
    const PgEpilogueStep *act = pg_epilogue_find(&k->epilogue, PG_STEP_ACT);
    v = pg_does(k, PG_STEP_BIAS) ? v + c->bias[at] : v;
    if (pg_does(k, PG_STEP_CONV)) {
        const float *w = c->conv_w + o * k->taps;
        float acc = 0;
        for (int64_t t = 0; t < k->taps - 1; t++) acc = fmaf(w[t], c->history[t * k->O + o], acc);
        acc = fmaf(w[k->taps - 1], v, acc);
        for (int64_t t = 0; t < k->taps - 1; t++) c->history[t * k->O + o] = t == k->taps - 2 ? v : c->history[(t + 1) * k->O + o];
        v = pg_does(k, PG_STEP_CONV_BIAS) ? acc + c->conv_b[o] : acc;
    }
    v = reference_act(act == NULL ? PG_NO_ACT : (PgActivation)act->act, v);
    if (pg_does(k, PG_STEP_DUAL)) {
        float up = reference_dot(c->w2 + at * (uint64_t)k->K, x, k->K);
        v = v * (pg_does(k, PG_STEP_BIAS) ? up + c->bias2[at] : up);
    }
    return v;
}

/* Input of part j (slot or plane) of a row, normed into `out`. */
static const float *reference_input(Case *c, uint32_t row, uint64_t j, float *out) {
    const PgKernel *k = &c->k;
    uint64_t P = planes_of(k, k->x_layout), plane = P == 1 ? 0 : j;
    if (k->x_layout == PG_PLANES && pg_sum(k) == PG_WEIGHTED_SUM)
        plane = (uint64_t)c->expert_indices[(int64_t)row * k->k + (int64_t)j];
    const float *x = c->x + (row * P + plane) * (uint64_t)k->K;
    if (k->norm == PG_NO_NORM) return x;
    reference_norm(k->norm, x, c->norm_w, c->norm_b, k->K, k->eps, out);
    return out;
}

static float finished(const Case *c, float v, uint32_t row, int64_t o) {
    uint64_t at = (uint64_t)row * (uint64_t)c->k.O + (uint64_t)o;
    v = pg_does(&c->k, PG_STEP_ADDEND) ? v + c->addend[at] : v;
    v = pg_does(&c->k, PG_STEP_RESIDUAL) ? v + c->residual[at] : v;
    return pg_does(&c->k, PG_STEP_SCALE) ? v * (float)pg_epilogue_find(&c->k.epilogue, PG_STEP_SCALE)->scale : v;
}

/* expected: [rows][Py][O], Py = 1 after a sum. */
static float *reference_linear(Case *c) {
    const PgKernel *k = &c->k;
    bool routed = k->select == PG_CHOSEN || (k->select == PG_ALL && pg_sum(k) == PG_WEIGHTED_SUM);
    uint64_t parts = pg_sum(k) == PG_WEIGHTED_SUM ? (uint64_t)k->k
                     : pg_sum(k) == PG_PLANE_SUM  ? (uint64_t)k->E
                                                  : planes_of(k, k->y_layout);
    uint64_t Py = pg_sum(k) == PG_NO_SUM ? parts : 1;
    float *out = calloc(c->rows * Py * (uint64_t)k->O, sizeof *out), *normed = malloc((uint64_t)k->K * sizeof *normed);
    for (uint32_t row = 0; row < c->rows; row++) {
        for (uint64_t j = 0; j < parts; j++) {
            uint64_t m = k->select == PG_SINGLE ? 0 : routed ? (uint64_t)c->expert_indices[(int64_t)row * k->k + (int64_t)j] : j;
            const float *x = reference_input(c, row, j, normed);
            for (int64_t o = 0; o < k->O; o++) {
                float v = reference_value(c, m, x, o), *y = &out[(row * Py + (Py == 1 ? 0 : j)) * (uint64_t)k->O + (uint64_t)o];
                if (pg_sum(k) == PG_WEIGHTED_SUM)
                    *y = fmaf(c->combine_weights[(int64_t)row * k->k + (int64_t)j], v, *y);
                else
                    *y = pg_sum(k) == PG_PLANE_SUM && j > 0 ? *y + v : v;
                if (j + 1 == parts || pg_sum(k) == PG_NO_SUM) *y = finished(c, *y, row, o);
            }
        }
    }
    free(normed);
    return out;
}

/* Position of (row, slot): the slot itself in PG_ROW, through the table's pos_of in PG_BLOCK. */
static uint64_t position_of(Harness *h, const PgKernel *k, uint32_t row, uint64_t slot) {
    if (k->mode == PG_ROW) return slot;
    const PgRef *ref = &h->phase.operands[PG_LINEAR_GROUPS];
    const int32_t *table = (const int32_t *)(h->arena + ref->fixed + ref->per_row * h->args.ld);
    uint64_t ldp = (uint64_t)k->k * h->args.ld + pg_position_pad(k->E, k->k);
    const int32_t *pos_of = table + k->E + 1 + ldp / 8 + ldp;
    return (uint64_t)pos_of[row * (uint64_t)k->k + slot];
}

/* Where (row, part) of a value lies: its plane's base and index, with `stride`. */
static uint64_t stride_of(Harness *h, const PgKernel *k, PgLayout layout) {
    if (layout != PG_POSITIONS) return h->args.ld;
    return k->mode == PG_ROW ? (uint64_t)k->k : (uint64_t)k->k * h->args.ld + pg_position_pad(k->E, k->k);
}

static void put_x(Harness *h, Case *c) {
    const PgKernel *k = &c->k;
    uint64_t P = planes_of(k, k->x_layout), stride = stride_of(h, k, k->x_layout), panels = pg_panels(k->K);
    uint64_t plane = k->x_layout == PG_PLANES ? panels * stride * 16 : 0;
    float *x = harness_arena(h, PG_LINEAR_X, panels * stride * 64 * (k->x_layout == PG_PLANES ? P : 1));
    for (uint32_t row = 0; row < c->rows; row++) {
        for (uint64_t j = 0; j < P; j++) {
            uint64_t at = k->x_layout == PG_POSITIONS ? position_of(h, k, row, j) : row;
            harness_put(x + j * plane + at * 16, c->x + (row * P + j) * (uint64_t)k->K, 1, k->K, stride);
        }
    }
}

static float *setup(Harness *h, Case *c) {
    const PgKernel *k = &c->k;
    int64_t m = (int64_t)matrices(k);
    uint64_t LD = h->args.ld, row_bytes = pg_panels(k->O) * LD * 64;
    if (k->k > 0 && k->mode == PG_BLOCK) harness_groups(h, PG_LINEAR_GROUPS, c->expert_indices, c->rows, k->E, k->k);
    put_x(h, c);
    harness_pack_panels(h, PG_LINEAR_W, k->dtype, c->w, m, k->O, k->K);
    harness_pack_panels(h, PG_LINEAR_W2, k->dtype, c->w2, m, k->O, k->K);
    harness_pack_vector(h, PG_LINEAR_BIAS, c->bias, m, k->O);
    harness_pack_vector(h, PG_LINEAR_BIAS2, c->bias2, m, k->O);
    harness_pack_vector(h, PG_LINEAR_NORM_W, c->norm_w, 1, k->K);
    harness_pack_vector(h, PG_LINEAR_NORM_B, c->norm_b, 1, k->K);
    harness_put(harness_arena(h, PG_LINEAR_ADDEND, row_bytes), c->addend, c->rows, k->O, LD);
    float *residual = harness_arena(h, PG_LINEAR_RESIDUAL, row_bytes);
    harness_put(residual, c->residual, c->rows, k->O, LD);
    int32_t *expert_indices = (int32_t *)harness_arena(h, PG_LINEAR_EXPERTS, LD * (uint64_t)k->k * 4);
    float *combine_weights = harness_arena(h, PG_LINEAR_COMBINE_W, LD * (uint64_t)k->k * 4);
    memcpy(expert_indices, c->expert_indices, c->rows * (uint64_t)k->k * 4);
    memcpy(combine_weights, c->combine_weights, c->rows * (uint64_t)k->k * 4);
    if (pg_does(k, PG_STEP_CONV)) {
        harness_pack_channels(h, PG_LINEAR_CONV_W, c->conv_w, 1, k->O, k->taps);
        harness_pack_vector(h, PG_LINEAR_CONV_B, c->conv_b, 1, k->O);
        float *history = harness_state(h, PG_LINEAR_HISTORY, pg_panels(k->O) * (uint64_t)(k->taps - 1) * 64);
        for (int64_t o = 0; o < (int64_t)pg_panels(k->O) * 16; o++)
            for (int64_t t = 0; t < k->taps - 1; t++)
                history[(o / 16 * (k->taps - 1) + t) * 16 + o % 16] = o < k->O ? c->history[t * k->O + o] : 0;
    }
    uint64_t planes = k->y_layout == PG_PLANES ? (uint64_t)k->E : 1;
    float *y = harness_arena(h, PG_LINEAR_Y, planes * pg_panels(k->O) * stride_of(h, k, k->y_layout) * 64);
    if (pg_does(k, PG_STEP_RESIDUAL) && harness_below(h, 2) == 0) { /* the plan may let a linear layer write over its residual */
        h->phase.operands[PG_LINEAR_Y] = h->phase.operands[PG_LINEAR_RESIDUAL];
        y = residual;
    }
    return y;
}

static void set_count(Harness *h, const PgKernel *k) {
    PgPhase *p = &h->phase;
    p->E = (uint32_t)k->E;
    p->k = (uint32_t)k->k;
    p->fixed = pg_sum(k) == PG_NO_SUM && (k->y_layout == PG_PLANES || k->mode == PG_ROW) ? (uint32_t)planes_of(k, k->y_layout) : 1;
    p->count = pg_does(k, PG_STEP_LOGITS)    ? PG_PER_OUT_ROW_BLOCK
               : k->mode == PG_ROW           ? PG_ONCE
               : k->y_layout == PG_POSITIONS ? PG_PER_POSITION_BLOCK
                                             : PG_PER_ROW_BLOCK;
}

static void check_history(const Case *c, const uint8_t *state, uint64_t offset) {
    const float *history = (const float *)(state + offset);
    int64_t past = c->k.taps - 1;
    for (int64_t t = 0; t < past; t++)
        for (int64_t o = 0; o < c->k.O; o++)
            check_bits("history", (uint64_t)t, (uint64_t)o, history[(o / 16 * past + t) * 16 + o % 16], c->history[t * c->k.O + o]);
}

static void run_case(Harness *h, const PgKernel *k, uint32_t rows) {
    uint32_t n_out_rows = pg_does(k, PG_STEP_LOGITS) ? harness_below(h, rows + 1) : 0;
    harness_step(h, k->mode, rows, n_out_rows);
    Case c = make_case(h, k, rows, n_out_rows);
    float *y = setup(h, &c);
    h->args.out_stride = pg_panels(k->O) * 16;
    set_count(h, k);
    harness_run(h, k);
    float *expected = reference_linear(&c);
    uint64_t Py = pg_sum(k) == PG_NO_SUM ? planes_of(k, k->y_layout) : 1, stride = stride_of(h, k, k->y_layout);
    for (uint32_t row = 0; row < (pg_does(k, PG_STEP_LOGITS) ? n_out_rows : rows); row++) {
        for (uint64_t j = 0; j < Py; j++) {
            uint64_t at = k->y_layout == PG_POSITIONS ? position_of(h, k, row, j) : row;
            const float *base = k->y_layout == PG_PLANES ? y + j * pg_panels(k->O) * stride * 16 : y;
            for (int64_t o = 0; o < k->O; o++) {
                float got = pg_does(k, PG_STEP_LOGITS) ? h->args.logits[row * h->args.out_stride + (uint64_t)o]
                                                       : harness_at(base, at, o, stride);
                check_bits("y", row * Py + j, (uint64_t)o, got, expected[(row * Py + j) * (uint64_t)k->O + (uint64_t)o]);
            }
        }
    }
    if (pg_does(k, PG_STEP_CONV)) check_history(&c, h->state, h->phase.operands[PG_LINEAR_HISTORY].fixed);
    free(expected);
    free_case(&c);
}

/* Random steps around those of a form: convolution, sum and logits are the form's. */
static PgEpilogue random_epilogue(Harness *h, const PgKernel *form) {
    PgEpilogue out = {0};
    bool bias = harness_below(h, 2), second = !pg_does(form, PG_STEP_CONV) && harness_below(h, 3) == 0;
    bool beside = form->y_layout == PG_ROWS && !pg_does(form, PG_STEP_LOGITS);
    PgActivation act = (PgActivation)harness_below(h, PG_ACTIVATIONS);
    const bool drawn[PG_STEP_KINDS] = {[PG_STEP_BIAS] = bias,
                                       [PG_STEP_ACT] = act != PG_NO_ACT,
                                       [PG_STEP_BIAS2] = bias && second,
                                       [PG_STEP_DUAL] = second,
                                       [PG_STEP_ADDEND] = beside && harness_below(h, 2),
                                       [PG_STEP_RESIDUAL] = beside && harness_below(h, 2),
                                       [PG_STEP_SCALE] = harness_below(h, 4) == 0};
    for (uint32_t kind = 1; kind < PG_STEP_KINDS; kind++) {
        if (!drawn[kind] && !pg_does(form, (PgStepKind)kind)) continue;
        pg_epilogue_add(&out, (PgEpilogueStep){.kind = kind,
                                               .act = kind == PG_STEP_ACT ? (uint32_t)act : 0,
                                               .scale = kind == PG_STEP_SCALE ? 0.7 : 0});
    }
    return out;
}

/* Random sizes and extras around a given form, `times` times on each instruction set. */
static void try_form(const PgKernel *form, int times) {
    const char *isas[] = {"avx512", "avx2"};
    for (int i = 0; i < 2; i++) {
        Harness *h =
            harness_new(isas[i], 7 + (uint64_t)form->select * 100 + (uint64_t)pg_sum(form) * 10 + (uint64_t)form->x_layout);
        for (int t = 0; h->present && t < times; t++) {
            PgKernel k = *form;
            k.dtype = (IrDtype)harness_below(h, 3);
            k.K = 1 + harness_below(h, harness_below(h, 3) == 0 ? 700 : 90);
            k.O = 1 + harness_below(h, 300);
            if (k.mode == PG_ROW && harness_below(h, 2)) {
                k.norm = harness_below(h, 2) ? PG_RMS : PG_LAYER;
                k.eps = 1e-5;
            }
            k.epilogue = random_epilogue(h, form);
            run_case(h, &k, k.mode == PG_ROW ? 1 : 1 + harness_below(h, 37));
        }
        harness_free(h);
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
    const char *isas[] = {"avx512", "avx2"};
    for (int i = 0; i < 2; i++) {
        Harness *h = harness_new(isas[i], 3);
        for (uint32_t rows = 130; h->present && rows <= 199; rows += 69) run_case(h, &k, rows);
        harness_free(h);
    }
}

int main(void) {
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
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cg_llvm_shutdown();
    return failed;
}
