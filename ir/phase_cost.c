#include "ir/phase_cost.h"

#include <math.h>

#include "ir/program_operands.h"
#include "ir/work.h"

enum { F32_BYTES = 4 };

typedef struct Counter {
    const PgProgram *program;
    const PgPhase *phase;
    const PgKernel *k;
    double rows; /* wanted ones where only those are made */
    const PgWork *work;
    PgCost cost;
} Counter;

double pg_distinct(int64_t n, int64_t k, double rows) { return (double)n * (1 - pow(1 - (double)k / (double)n, rows)); }

/* Of each expert the mean of blocks of 8 over the binomial distribution of its rows, whose terms follow from each other. */
double pg_padded_positions(int64_t n, int64_t k, int64_t rows) {
    double p = (double)k / (double)n, blocks = 0;
    if (k >= n) return (double)n * (double)((rows + PG_ROW_BLOCK - 1) / PG_ROW_BLOCK * PG_ROW_BLOCK);
    double log_term = (double)rows * log1p(-p), step = log(p) - log1p(-p); /* of no row; p^i (1 − p)^(rows − i) · rows over i */
    for (int64_t i = 1; i <= rows; i++) {
        log_term += step + log((double)(rows - i + 1) / (double)i);
        blocks += exp(log_term) * (double)((i + PG_ROW_BLOCK - 1) / PG_ROW_BLOCK);
    }
    return PG_ROW_BLOCK * blocks * (double)n;
}

void pg_cost_add(PgCost *to, const PgCost *cost) {
    to->flops += cost->flops;
    to->exps += cost->exps;
    to->weight_bytes += cost->weight_bytes;
    to->state_bytes += cost->state_bytes;
    to->activation_bytes += cost->activation_bytes;
    to->padded_flops += cost->padded_flops;
    to->chosen_bytes += cost->chosen_bytes;
    to->kept_bytes += cost->kept_bytes;
    to->all_bytes += cost->all_bytes;
}

/* ---------------------------------------------------------------------------------------------- words of the rules */

/* Places of a value: rows, times planes or positions of each. */
static double places(const Counter *c, PgLayout layout) {
    switch (layout) {
    case PG_ROWS: return c->rows;
    case PG_PLANES: return c->rows * (double)c->k->E;
    case PG_POSITIONS: return c->rows * (double)c->k->k;
    }
    return 0;
}

/* An operation of the graph on so many elements, each over `inner`; 0 where it goes over nothing. */
static void work(Counter *c, IrOp op, double elements, double inner) {
    IrWork done = ir_work(op, elements, inner);
    c->cost.flops += done.flops;
    c->cost.exps += done.exps;
}

/* `elements` floats go from or to the arena. */
static void move(Counter *c, double elements) { c->cost.activation_bytes += F32_BYTES * elements; }

static void activate(Counter *c, PgActivation act, double elements) {
    static const IrOp ops[PG_ACTIVATIONS] = {
        [PG_NO_ACT] = IR_OP_slice, /* no work */
#define IR_ACTIVATION(name, NAME, flops, exps, exact) [PG_##NAME] = IR_OP_##name,
#include "ir/activation.def"
    };
    work(c, ops[act], elements, 0);
}

static void normalise(Counter *c, double elements) {
    switch (c->k->norm) {
    case PG_NO_NORM: return;
    case PG_RMS: work(c, IR_OP_rms_norm, elements, 0); return;
    case PG_LAYER: work(c, IR_OP_layer_norm, elements, 0); return;
    }
}

/* Bytes of a state of `planes` × O channels × `elements` of every sequence, read and written; of the experts' those that rows of
 * one sequence choose, if `chosen`. */
static void move_state(Counter *c, double planes, int64_t elements, bool chosen) {
    double sequences = (double)c->work->segments, all = planes * (double)(pg_panels(c->k->O) * PG_LANES) * (double)elements;
    double share = chosen ? pg_distinct(c->k->E, c->k->k, (double)c->work->rows / sequences) / (double)c->k->E : 1;
    double bytes = F32_BYTES * sequences * all * share;
    c->cost.state_bytes += 2 * bytes;
    if (chosen) c->cost.chosen_bytes += 2 * bytes;
    c->cost.kept_bytes += bytes;
    c->cost.all_bytes += F32_BYTES * sequences * all;
}

/* Other bytes of the states, which are read or written once. */
static void touch_state(Counter *c, double bytes) {
    c->cost.state_bytes += bytes;
    c->cost.kept_bytes += bytes;
    c->cost.all_bytes += bytes;
}

static void move_history(Counter *c) {
    if (c->k->taps > 1) move_state(c, 1, c->k->taps - 1, false);
}

/* What a step of the epilogue goes over for each of its outputs. */
static double inner_of(const PgKernel *k, PgStepKind kind) {
    return kind == PG_STEP_CONV ? (double)k->taps : kind == PG_STEP_WEIGHTED_SUM ? (double)k->k : 0;
}

/* The epilogue, step by step, of `n` places of O outputs each; behind a sum over experts a row is one place. The result is stored. */
static void finish(Counter *c, double n) {
    const PgKernel *k = c->k;
    double O = (double)k->O;
    for (const PgEpilogueStep *s = k->epilogue.steps; s->kind != PG_NO_STEP; s++) {
        const PgStepInfo *info = pg_step((PgStepKind)s->kind);
        if (pg_step_sums(s)) n = c->rows;
        double terms = s->kind == PG_STEP_PLANE_SUM ? (double)k->E : 1; /* counted by what it reads */
        if (s->kind == PG_STEP_ACT) activate(c, (PgActivation)s->act, n * O);
        if (s->kind == PG_STEP_CONV) move_history(c);
        if (info->op != IR_OP_COUNT) work(c, (IrOp)info->op, n * O * terms, inner_of(k, (PgStepKind)s->kind));
        move(c, n * O * info->moved);
    }
    move(c, n * O);
}

/* ---------------------------------------------------------------------------------------------- kinds, one rule each */

static void cost_embed(Counter *c) {
    work(c, IR_OP_embed, c->rows * (double)c->k->O, 0);
    move(c, c->rows * (double)c->k->O);
}

static void cost_norm(Counter *c) {
    double elements = places(c, c->k->x_layout) * (double)c->k->O;
    normalise(c, elements);
    move(c, 2 * elements);
}

/* How much more a linear layer multiplies than its `y` places need: blocks of 8 rows, or of 8 positions of an expert, and whole panels. */
static double padding(const Counter *c, PgLayout layout, double y) {
    const PgKernel *k = c->k;
    double lanes = (double)(pg_panels(k->O) * PG_LANES) / (double)k->O, rows = ceil(c->rows / PG_ROW_BLOCK) * PG_ROW_BLOCK;
    if (k->mode == PG_ROW) return lanes;
    if (layout == PG_POSITIONS) return lanes * pg_padded_positions(k->E, k->k, c->work->rows) / y;
    return lanes * rows / c->rows;
}

/* What rounding takes counts for nothing. */
static void cost_round(Counter *c) {
    double x = places(c, c->k->x_layout);
    move(c, x * (double)c->k->K + x * (double)pg_rounded_row_bytes(c->k) / F32_BYTES);
}

static void cost_linear(Counter *c) {
    const PgKernel *k = c->k;
    PgLayout layout = k->select == PG_SINGLE ? k->x_layout : k->select == PG_ALL ? PG_PLANES : PG_POSITIONS;
    double x = places(c, k->x_layout), y = places(c, layout);
    normalise(c, x * (double)k->K);
    move(c, pg_reads_rounded(k) ? x * (double)pg_rounded_row_bytes(k) / F32_BYTES : x * (double)k->K);
    work(c, IR_OP_linear, y * (double)k->O * (pg_does(k, PG_STEP_DUAL) ? 2 : 1), (double)k->K);
    finish(c, y);
    c->cost.padded_flops = c->cost.flops * padding(c, layout, y);
}

static void cost_route(Counter *c) {
    const PgKernel *k = c->k;
    double scores = c->rows * (double)k->E;
    normalise(c, c->rows * (double)k->K);
    move(c, c->rows * (double)(k->K + 2 * k->k));
    work(c, IR_OP_linear, scores, (double)k->K);
    if (k->bias) work(c, IR_OP_add_bias, scores, 0);
    work(c, k->sigmoid ? IR_OP_sigmoid : IR_OP_softmax, scores, 0);
    work(c, IR_OP_select, scores, (double)(k->k + (k->expert_groups > 0)));
    work(c, IR_OP_gates, c->rows * (double)k->k, 0);
}

static void cost_group(Counter *c) { move(c, 4 * c->rows * (double)c->k->k); }

static void cost_combine(Counter *c) {
    move(c, places(c, c->k->x_layout) * (double)c->k->O);
    finish(c, c->rows);
}

static void cost_conv(Counter *c) {
    const PgKernel *k = c->k;
    double elements = c->rows * (double)k->O;
    work(c, IR_OP_conv, elements, (double)k->taps);
    move_history(c);
    if (k->per_expert) work(c, IR_OP_mix, elements * (double)(k->taps + k->bias), (double)k->k); /* for every row */
    if (k->bias) work(c, IR_OP_add_bias, elements, 0);
    activate(c, k->act, elements);
    move(c, 2 * elements);
    if (k->mixed) move(c, elements * (double)k->taps);
}

/* How often each part of a scan is needed for a row: once, or for each expert that moves. */
static void cost_scan(Counter *c) {
    const PgKernel *k = c->k;
    bool own_dbc = k->dbc_layout != PG_ROWS, mixed = k->scan == PG_SCAN_PARAMS;
    double moving = k->scan == PG_SCAN_HOLD ? (double)k->k : k->scan == PG_SCAN_UPDATE ? (double)k->E : 1;
    double summed = !k->own_dt && !own_dbc ? 1 : mixed ? (double)k->k : moving; /* of W_dt δ */
    double delta = k->own_dt || own_dbc ? moving : 1, a = delta > 1 || (k->own_A && !mixed) ? moving : 1;
    double I = c->rows * (double)k->O, N = (double)k->N, chosen = (double)k->k;
    work(c, IR_OP_linear, I * summed, (double)k->R);
    work(c, IR_OP_add_bias, I * summed, 0);
    work(c, IR_OP_softplus, I * delta, 0);
    work(c, IR_OP_outer, I * N * a, 0); /* Δ·A */
    work(c, IR_OP_exp, I * N * a, 0);
    if (k->zoh) work(c, IR_OP_zoh, I * N * a, 0);
    if (k->zoh) work(c, IR_OP_mul, I * N * (a > delta ? a : delta), 0);
    work(c, IR_OP_mul, I * delta, 0); /* Δ·c */
    work(c, IR_OP_inject, I * N * delta, 0);
    work(c, IR_OP_recur, I * N * moving, 0);
    work(c, IR_OP_contract, I * moving, N);
    work(c, IR_OP_mul_param, I * (k->own_D ? moving : 1), 0);
    work(c, IR_OP_add, I * moving, 0);
    if (mixed) work(c, IR_OP_mix, I * ((k->own_dt ? 1 : 0) + (k->own_A ? N : 0) + (k->own_D ? 1 : 0)), chosen);
    if (pg_experts_have_states(k)) work(c, IR_OP_expert_sum, I, chosen);
    if (k->gate) {
        activate(c, k->act, I);
        work(c, IR_OP_mul, I, 0);
    }
    move_state(c, pg_experts_have_states(k) ? (double)k->E : 1, k->N, k->scan == PG_SCAN_HOLD);
    move(c, I * (2 + k->gate) + places(c, k->dbc_layout) * (double)(k->R + 2 * k->N));
}

/* Elements of a vector before they are repeated: one a channel, or one a head. */
static double vector_elements(const Counter *c, unsigned slot) {
    const PgWeight *weight = pg_operand_weight(c->program, &c->phase->operands[slot]);
    return (double)(weight && weight->times > 0 ? c->k->O / weight->times : c->k->O);
}

/* The decay is one for all of a head, and so it is made once for each of its channels. */
static void cost_heads(Counter *c) {
    const PgKernel *k = c->k;
    bool experts = pg_experts_have_states(k), held = k->scan == PG_SCAN_HOLD, mixed = k->scan == PG_SCAN_PARAMS;
    double moving = held ? (double)k->k : experts ? (double)k->E : 1, steps = k->x_layout != PG_ROWS ? moving : 1;
    double decays = steps > 1 || (k->own_A && !mixed) ? moving : 1, inputs = decays > 1 || k->dbc_layout != PG_ROWS ? moving : 1;
    double I = c->rows * (double)k->O, N = (double)k->N, H = I / (double)k->times;
    if (k->limited) work(c, IR_OP_clamp, H * steps, 0);
    work(c, IR_OP_mul_param, H * decays, 0); /* Δ·A */
    work(c, IR_OP_exp, H * decays, 0);
    if (k->zoh) work(c, IR_OP_zoh, H * decays, 0);
    work(c, IR_OP_mul, I * (k->zoh ? decays : steps) + (k->zoh ? H * decays : 0), 0); /* Δ·x */
    work(c, IR_OP_inject, I * N * (k->zoh || k->dbc_layout != PG_ROWS ? inputs : steps), 0);
    work(c, IR_OP_recur, I * N * moving, 0);
    work(c, IR_OP_contract, I * moving, N);
    work(c, IR_OP_mul_param, I * (k->own_D ? moving : 1), 0);
    work(c, IR_OP_add, I * moving, 0);
    if (experts) work(c, IR_OP_expert_sum, I, (double)k->k);
    if (mixed && k->own_A) work(c, IR_OP_mix, H, (double)k->k);
    if (mixed && k->own_D) work(c, IR_OP_mix, c->rows * vector_elements(c, PG_HEADS_D), (double)k->k);
    if (k->gate) {
        activate(c, k->act, I);
        work(c, IR_OP_mul, I, 0);
    }
    move_state(c, experts ? (double)k->E : 1, k->N, held);
    move(c, I * (2 + k->gate) + places(c, k->x_layout) * (double)k->O / (double)k->times);
    move(c, places(c, k->dbc_layout) * 2 * (double)(k->groups * k->N));
}

/* What each head's scalars take, then the products of both rows and the outputs of all ranks. */
static void cost_trapezoid(Counter *c) {
    const PgKernel *k = c->k;
    double I = c->rows * (double)k->O, N = (double)k->N, H = I / (double)k->times, R = (double)pg_ranks(k), gated = I * R * k->gate;
    activate(c, k->act, H);
    work(c, IR_OP_clamp, H, 0);
    work(c, IR_OP_scale, 2 * H, 0);
    work(c, IR_OP_exp, H, 0);
    work(c, IR_OP_sigmoid, 2 * H, 0);
    work(c, IR_OP_mul, 4 * H + 2 * I * R + gated, 0);
    work(c, IR_OP_mul_param, I * R * (k->mimo ? 3 : 1) + (k->mimo ? 2 * gated : 0), 0);
    work(c, IR_OP_inject_sum, 2 * I * N, R);
    work(c, IR_OP_recur, I * N, 0);
    work(c, IR_OP_contract, I * R, N);
    work(c, IR_OP_add, I * R, 0);
    if (k->gate) activate(c, PG_SILU, k->mimo ? gated : I);
    if (k->gate && R > 1) work(c, IR_OP_plane_sum, gated, 0);
    move_state(c, 1, k->N + 1, false);
    move(c, I * (1 + k->gate) + 3 * H + places(c, k->dbc_layout) * 3 * (double)k->O / (double)k->times * N +
                places(c, k->y_layout) * (double)k->O);
}

/* Each head norms its group's B and C again, which is counted once. */
static void cost_turn(Counter *c) {
    const PgKernel *k = c->k;
    double turned = places(c, k->dbc_layout) * (double)k->O, angles = c->rows * (double)(k->heads * (k->rope_dim / 2));
    work(c, IR_OP_rms_norm, turned * 2 * (double)k->groups / (double)k->heads, 0);
    work(c, IR_OP_add_bias, 2 * turned, 0);
    work(c, IR_OP_angle, angles, 0);
    work(c, IR_OP_cos, angles, 0);
    work(c, IR_OP_sin, angles, 0);
    work(c, IR_OP_rotate, 4 * angles * (double)pg_ranks(k), 0);
    move_state(c, (double)pg_ranks(k), 1, false);
    touch_state(c, 2 * F32_BYTES * (double)c->work->segments * (double)(k->heads * (k->rope_dim / 2)));
    move(c, 3 * turned + c->rows * (double)(2 * pg_ranks(k) * k->groups * k->N + k->heads + k->rope_dim / 2));
}

/* rope turns q and k; k and v go to the caches. */
static void cost_kv_store(Counter *c) {
    const PgKernel *k = c->k;
    double all = (double)(k->heads + k->kv_heads), v = (double)(pg_panels(k->O) * PG_LANES);
    if (k->rope) work(c, IR_OP_rope, c->rows * all * (double)k->rope_dim, 0);
    move(c, c->rows * (double)k->O * (2 * (double)k->kv_heads + (k->rope ? 2 * (double)k->heads : 0)));
    touch_state(c, F32_BYTES * c->rows * (double)k->kv_heads * ((double)k->O + v));
}

static void cost_attend(Counter *c) {
    const PgKernel *k = c->k;
    double sequences = (double)c->work->segments, rows = c->rows / sequences, position = (double)c->work->position;
    double window = (double)k->window, keys = ir_keys_seen(rows, position, window) * sequences;
    double seen = window > 0 ? fmin(position + rows, window + rows - 1) : position + rows; /* by one row at least */
    work(c, IR_OP_attend, keys * (double)k->heads, (double)k->O);
    double v = (double)(pg_panels(k->O) * PG_LANES);
    touch_state(c, F32_BYTES * sequences * seen * (double)k->kv_heads * ((double)k->O + v));
    move(c, 2 * c->rows * (double)(k->heads * k->O));
}

/* ---- operations as they are when fusion is off */

static double elements_of(const Counter *c, PgLayout layout, int64_t width) {
    return places(c, layout) * (double)width * (double)(c->k->N > 1 ? c->k->N : 1);
}

static void cost_elementwise(Counter *c) {
    const PgKernel *k = c->k;
    double elements = elements_of(c, k->y_layout, k->O);
    switch (k->ew) {
    case PG_EW_UNARY: activate(c, k->act, elements); break;
    case PG_EW_SCALE: work(c, IR_OP_scale, elements, 0); break;
    case PG_EW_CLAMP: work(c, IR_OP_clamp, elements, 0); break;
#define IR_BINARY(name, NAME, flops, value)                                                                                        \
    case PG_EW_##NAME: work(c, IR_OP_##name, elements, 0); break;
#include "ir/binary.def"
    case PG_EW_ADD_PARAM: work(c, IR_OP_add_bias, elements, 0); break;
    case PG_EW_MUL_PARAM: work(c, IR_OP_mul_param, elements, 0); break;
    }
    move(c, (pg_ew_is_binary(k->ew) && !k->z_repeats ? 3 : 2) * elements + (k->z_repeats ? c->rows : 0));
}

static void cost_slice(Counter *c) { move(c, 2 * places(c, c->k->y_layout) * (double)c->k->O); }

static void cost_repeat(Counter *c) { move(c, places(c, c->k->y_layout) * (double)(c->k->K + c->k->O)); }

static void cost_softmax(Counter *c) {
    double scores = c->rows * (double)c->k->E;
    work(c, IR_OP_softmax, scores, 0);
    move(c, 2 * scores);
}

static void cost_select(Counter *c) {
    work(c, IR_OP_select, c->rows * (double)c->k->E, (double)(c->k->k + (c->k->expert_groups > 0)));
    move(c, c->rows * (double)(c->k->E + c->k->k));
}

static void cost_gates(Counter *c) {
    work(c, IR_OP_gates, c->rows * (double)c->k->k, 0);
    move(c, c->rows * (double)(c->k->E + 2 * c->k->k));
}

static void cost_mix(Counter *c) {
    double elements = elements_of(c, PG_ROWS, c->k->O);
    work(c, IR_OP_mix, elements, (double)c->k->k);
    move(c, elements);
}

static void cost_outer(Counter *c) {
    double elements = elements_of(c, c->k->y_layout, c->k->O);
    work(c, c->k->kind == PG_OUTER ? IR_OP_outer : IR_OP_inject, elements, 0);
    move(c, elements + places(c, c->k->x_layout) * (double)c->k->O);
}

static void cost_inject(Counter *c) { cost_outer(c); }

static void cost_recur(Counter *c) {
    const PgKernel *k = c->k;
    double elements = elements_of(c, k->y_layout, k->O);
    bool chosen = k->held || k->y_layout == PG_POSITIONS;
    work(c, IR_OP_recur, elements * (k->held && k->y_layout == PG_PLANES ? (double)k->k / (double)k->E : 1), 0);
    move(c, (k->one_a ? 2 + 1 / (double)k->N : 3) * elements);
    move_state(c, k->y_layout == PG_ROWS ? 1 : (double)k->E, k->N, chosen);
}

static void cost_contract(Counter *c) {
    double outputs = places(c, c->k->y_layout) * (double)c->k->O;
    work(c, IR_OP_contract, outputs, (double)c->k->N);
    move(c, elements_of(c, c->k->x_layout, c->k->O) + outputs);
}

static void cost_inject_sum(Counter *c) {
    const PgKernel *k = c->k;
    double elements = elements_of(c, PG_ROWS, k->O), planes = k->x_layout == PG_PLANES ? (double)k->E : 1;
    work(c, IR_OP_inject_sum, elements, planes);
    move(c, elements * (1 + k->addend) + c->rows * planes * (double)(k->O + k->groups * k->N));
}

static void cost_delay(Counter *c) {
    move(c, 2 * places(c, c->k->y_layout) * (double)c->k->O);
    move_state(c, c->k->y_layout == PG_PLANES ? (double)c->k->E : 1, 1, false);
}

static void cost_angle(Counter *c) {
    const PgKernel *k = c->k;
    work(c, IR_OP_angle, c->rows * (double)k->O, 0);
    move(c, c->rows * ((double)k->O + (double)k->heads + (double)k->O / (double)k->heads));
    move_state(c, 1, 1, false);
}

static void cost_rotate(Counter *c) {
    const PgKernel *k = c->k;
    double turned = (double)(k->heads * k->rope_dim);
    work(c, IR_OP_rotate, places(c, k->y_layout) * turned, 0);
    move(c, 2 * places(c, k->y_layout) * (double)k->O + c->rows * turned);
}

static void cost_conv_each(Counter *c) {
    const PgKernel *k = c->k;
    double elements = places(c, k->y_layout) * (double)k->O;
    work(c, IR_OP_conv_each, elements, (double)k->taps);
    move(c, 2 * elements);
    if (k->taps > 1) move_state(c, (double)k->E, k->taps - 1, k->held || k->y_layout == PG_POSITIONS);
}

static void (*const rules[PG_KIND_COUNT])(Counter *) = {
#define PG_KERNEL(NAME, name) [PG_##NAME] = cost_##name,
#include "ir/kernel_kinds.def"
};

/* ---------------------------------------------------------------------------------------------- weights */

const PgWeight *pg_operand_weight(const PgProgram *program, const PgRef *operand) {
    if (operand->space != PG_WEIGHTS) return NULL;
    size_t low = 0, high = program->n_weights; /* offsets rise */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (program->weights[middle].offset < operand->fixed)
            low = middle + 1;
        else
            high = middle;
    }
    return low < program->n_weights && program->weights[low].offset == operand->fixed ? &program->weights[low] : NULL;
}

static bool continues(const PgWeight *w, const PgWeight *next) {
    return w->planes == 1 && next->planes == 1 && w->O % PG_LANES == 0 && next->K == w->K && next->pack == w->pack &&
           next->dtype == w->dtype && next->offset == w->offset + w->bytes;
}

uint32_t pg_operand_weights(const PgProgram *program, const PgWeight *first, int64_t O) {
    const PgWeight *end = program->weights + program->n_weights, *w = first;
    for (O -= w->O; O > 0 && w + 1 < end && continues(w, w + 1); w++) O -= w[1].O;
    return O == 0 ? (uint32_t)(w - first) + 1 : 0;
}

/* Whether the kernel reads only the chosen planes of a weight that has one for every expert. */
static bool reads_chosen(const PgKernel *k, const PgWeight *weight) {
    if (weight->planes == 1 || weight->planes != k->E || k->k == 0) return false;
    switch (k->kind) {
    case PG_LINEAR: return k->select == PG_CHOSEN;
    case PG_HEADS:
    case PG_SCAN: return k->scan == PG_SCAN_HOLD || k->scan == PG_SCAN_PARAMS;
    case PG_CONV: return k->per_expert;
    case PG_MIX: return true;
    case PG_ELEMENTWISE:
    case PG_OUTER: return k->y_layout == PG_POSITIONS;
    case PG_EMBED:
    case PG_TRAPEZOID:
    case PG_TURN:
    case PG_NORM:
    case PG_ROUND:
    case PG_ROUTE:
    case PG_GROUP:
    case PG_COMBINE:
    case PG_KV_STORE:
    case PG_ATTEND:
    case PG_SLICE:
    case PG_REPEAT:
    case PG_SOFTMAX:
    case PG_SELECT:
    case PG_GATES:
    case PG_INJECT:
    case PG_RECUR:
    case PG_CONTRACT:
    case PG_CONV_EACH:
    case PG_INJECT_SUM:
    case PG_DELAY:
    case PG_ANGLE:
    case PG_ROTATE:
    case PG_KIND_COUNT: return false;
    }
    return false;
}

/* The part of a weight that the rows need. */
static double share_read(const Counter *c, const PgWeight *weight) {
    if (c->k->kind == PG_EMBED) return pg_distinct(c->k->K, 1, c->rows) / (double)c->k->K;
    return reads_chosen(c->k, weight) ? pg_distinct(c->k->E, c->k->k, c->rows) / (double)c->k->E : 1;
}

/* The weight, and those behind it that belong to the same operand of O outputs. */
static void read_weights(Counter *c, const PgWeight *weight, int64_t O) {
    uint32_t n = weight->O < O ? pg_operand_weights(c->program, weight, O) : 1;
    for (uint32_t i = 0; i < n; i++) {
        double bytes = (double)weight[i].bytes, read = bytes * share_read(c, &weight[i]);
        bool chosen = reads_chosen(c->k, &weight[i]);
        c->cost.weight_bytes += read;
        if (chosen) c->cost.chosen_bytes += read;
        c->cost.kept_bytes += read;
        c->cost.all_bytes += chosen ? bytes : read;
    }
}

PgCost pg_phase_cost(const PgProgram *program, const PgPhase *phase, const PgWork *work) {
    const PgKernel *k = &program->kernels[phase->kernel];
    Counter c = {.program = program, .phase = phase, .k = k, .work = work};
    c.rows = (double)(pg_does(k, PG_STEP_LOGITS) || k->gather_out_rows ? work->n_out_rows : work->rows);
    if (c.rows == 0) return c.cost;
    rules[k->kind](&c);
    if (c.cost.padded_flops == 0) c.cost.padded_flops = c.cost.flops;
    PgOperand operands[PG_OPERAND_ROWS];
    int n = pg_operands(k, operands);
    for (int i = 0; i < n; i++) {
        const PgWeight *weight = pg_operand_weight(program, &phase->operands[operands[i].slot]);
        if (weight && operands[i].need != PG_MUST_NOT) read_weights(&c, weight, operands[i].O);
    }
    return c.cost;
}
