/* Phases of regions: a router, a convolution, a scan, heads, attention. Linear layers: phases_linear.c. */
#include "schedule/phases.h"

#include "support/size.h"

/* ---------------------------------------------------------------------------------------------- roles */

IrValueId sc_role(const IrRegion *region, IrRole role) { return region->roles.of[role]; }

const IrNode *sc_role_node(const ScBuilder *b, const IrRegion *region, IrRole role) {
    return ps_maker(b->g, sc_role(region, role));
}

PgActivation sc_role_activation(const ScBuilder *b, const IrRegion *region) {
    const IrNode *act = sc_role_node(b, region, IR_ROLE_act);
    return act != NULL ? ps_activation(act->op) : PG_NO_ACT;
}

/* The name of a phase, with the branch of the weight or state that plays `which`. */
static const char *part_name(ScBuilder *b, const IrRegion *region, const IrNode *node, IrRole which, const char *what) {
    return sc_phase_name(b, node, ps_part_name(b->g, sc_role(region, which), what));
}

/* ---------------------------------------------------------------------------------------------- router */

void sc_phase_route(ScBuilder *b, const IrRegion *region) {
    const IrNode *select = sc_role_node(b, region, IR_ROLE_experts), *gates = sc_role_node(b, region, IR_ROLE_gates);
    const IrNode *norm = sc_is_folded(b, sc_role(region, IR_ROLE_norm)) ? sc_role_node(b, region, IR_ROLE_norm) : NULL;
    const IrType *w = &b->g->values[sc_role(region, IR_ROLE_w)].type;
    ScPhaseId p = sc_new_phase(b, PG_ROUTE, select, part_name(b, region, select, IR_ROLE_w, "router"));
    PgKernel *k = &sc_phase(b, p)->kernel;
    k->K = ir_dim(w, IR_DIM_INPUT);
    k->O = k->E = ir_dim(w, IR_DIM_CHANNEL);
    k->k = select->attrs[IR_SELECT_k].i;
    k->bias = sc_role(region, IR_ROLE_bias) != IR_NONE;
    k->sigmoid = sc_role_node(b, region, IR_ROLE_score)->op == IR_OP_sigmoid;
    k->select_bias = sc_role(region, IR_ROLE_select_bias) != IR_NONE;
    sc_set_groups(k, select);
    k->normalize = gates->attrs[IR_GATES_normalize].i != 0;
    k->scaled = gates->attrs[IR_GATES_scale].f != 1.0;
    k->scale = gates->attrs[IR_GATES_scale].f;
    if (norm != NULL) sc_set_norm(b, p, norm, PG_ROUTE_NORM_W, PG_ROUTE_NORM_B);
    sc_read(b, p, PG_ROUTE_X, norm != NULL ? norm->operands[0] : sc_role(region, IR_ROLE_x));
    sc_read_weight(b, p, PG_ROUTE_W, sc_role(region, IR_ROLE_w), PG_PANELS, 1.0);
    sc_read_weight(b, p, PG_ROUTE_BIAS, sc_role(region, IR_ROLE_bias), PG_VECTOR, 1.0);
    sc_read_weight(b, p, PG_ROUTE_SELECT_BIAS, sc_role(region, IR_ROLE_select_bias), PG_VECTOR, 1.0);
    sc_phase(b, p)->pg.count = PG_PER_ROW;
    sc_write(b, p, PG_ROUTE_EXPERTS, sc_role(region, IR_ROLE_experts));
    sc_write(b, p, PG_ROUTE_COMBINE_W, sc_role(region, IR_ROLE_gates));
}

/* ---------------------------------------------------------------------------------------------- convolution and scan */

void sc_phase_conv(ScBuilder *b, const IrRegion *region) {
    IrValueId y = sc_role(region, IR_ROLE_y), experts = sc_role(region, IR_ROLE_experts);
    const IrNode *node = ps_maker(b->g, y);
    ScPhaseId p = sc_new_phase(b, PG_CONV, node, part_name(b, region, node, IR_ROLE_w, "conv"));
    PgKernel *k = &sc_phase(b, p)->kernel;
    const IrType *w = &b->g->values[sc_role(region, IR_ROLE_w)].type;
    k->O = b->layouts[y].width;
    k->taps = ir_dim(w, IR_DIM_TAP);
    k->act = sc_role_activation(b, region);
    k->bias = sc_role(region, IR_ROLE_bias) != IR_NONE;
    k->per_expert = experts != IR_NONE;
    double active = 1.0;
    if (experts != IR_NONE) {
        k->E = ir_dim(w, IR_DIM_EXPERT);
        k->k = ir_dim(&b->g->values[experts].type, IR_DIM_SLOT);
        active = sc_chosen_fraction(b, experts);
    }
    sc_read(b, p, PG_CONV_X, sc_role(region, IR_ROLE_x));
    sc_read_weight(b, p, PG_CONV_W, sc_role(region, IR_ROLE_w), PG_CHANNELS, active);
    sc_read_weight(b, p, PG_CONV_BIAS, sc_role(region, IR_ROLE_bias), PG_VECTOR, active);
    sc_use_state(b, p, PG_CONV_HISTORY, sc_role(region, IR_ROLE_history));
    sc_read(b, p, PG_CONV_EXPERTS, experts);
    sc_read(b, p, PG_CONV_COMBINE_W, sc_role(region, IR_ROLE_gates));
    sc_tile_segments(b, p);
    sc_write(b, p, PG_CONV_Y, y);
}

/* A part of a value's rows: what a slice of the region reads, or all of it. */
typedef struct View {
    IrValueId value;
    int64_t start;
} View;

static View role_view(const ScBuilder *b, const IrRegion *region, IrRole which) {
    const IrNode *slice = sc_role_node(b, region, which);
    bool is = slice != NULL && slice->op == IR_OP_slice && slice->region != IR_NONE && &b->g->regions[slice->region] == region;
    return is ? (View){slice->operands[0], slice->attrs[IR_SLICE_start].i} : (View){sc_role(region, which), 0};
}

/* A scan region's roles, with what its nodes and weights say. */
typedef struct ScanParts {
    const IrRegion *region;
    PgScanExperts experts;
    View delta, B, C;
    bool own_dt, own_A, own_D;
} ScanParts;

static bool per_expert(const ScBuilder *b, const IrRegion *region, IrRole which) {
    return ir_dim(&b->g->values[sc_role(region, which)].type, IR_DIM_EXPERT) > 0;
}

/* How the experts enter the recurrence of a region. */
static PgScanExperts scan_experts(const ScBuilder *b, const IrRegion *region) {
    if (sc_role_node(b, region, IR_ROLE_recur)->op == IR_OP_recur_routed) return PG_SCAN_HOLD;
    if (per_expert(b, region, IR_ROLE_state)) return PG_SCAN_UPDATE;
    return sc_role(region, IR_ROLE_gates) != IR_NONE ? PG_SCAN_PARAMS : PG_SCAN_PLAIN;
}

/* What no role says: a node of the region with this operation, or NULL. */
static const IrNode *node_of(const ScBuilder *b, const IrRegion *region, IrOp op) {
    const IrNode *first = sc_role_node(b, region, IR_ROLE_recur), *end = &b->g->nodes[b->g->n_nodes], *found = NULL;
    const int32_t own = first->region;
    while (first > b->g->nodes && first[-1].region == own) first--;
    for (const IrNode *node = first; node < end && node->region == own; node++)
        if (node->op == op) found = node;
    return found;
}

/* E and k of the experts that a region reads, where it reads any. */
static void set_choice(const ScBuilder *b, PgKernel *k, const IrRegion *region) {
    if (sc_role(region, IR_ROLE_experts) == IR_NONE) return;
    PsChoice choice = ps_choice(b->g, sc_role(region, IR_ROLE_experts));
    k->E = choice.E;
    k->k = choice.k;
}

static ScanParts find_scan(const ScBuilder *b, const IrRegion *region) {
    ScanParts s = {.region = region,
                   .delta = role_view(b, region, IR_ROLE_delta),
                   .B = role_view(b, region, IR_ROLE_B),
                   .C = role_view(b, region, IR_ROLE_C),
                   .own_dt = per_expert(b, region, IR_ROLE_dt_w),
                   .own_A = per_expert(b, region, IR_ROLE_A),
                   .own_D = per_expert(b, region, IR_ROLE_D)};
    s.experts = scan_experts(b, region);
    return s;
}

/* Fraction of a scan's own parameters that a decoded token reads. */
static double scan_fraction(const ScBuilder *b, const ScanParts *s, bool own) {
    if (!own || s->experts == PG_SCAN_UPDATE) return 1.0;
    return sc_chosen_fraction(b, sc_role(s->region, IR_ROLE_experts));
}

static void fill_scan(ScBuilder *b, PgKernel *k, const ScanParts *s) {
    const IrType *A = &b->g->values[sc_role(s->region, IR_ROLE_A)].type, *dt = &b->g->values[sc_role(s->region, IR_ROLE_dt_w)].type;
    const ScLayout *delta = &b->layouts[s->delta.value];
    k->O = ir_dim(A, IR_DIM_CHANNEL);
    k->N = ir_dim(A, IR_DIM_STATE);
    k->R = ir_dim(dt, IR_DIM_INPUT);
    k->scan = s->experts;
    k->own_dt = s->own_dt;
    k->own_A = s->own_A;
    k->own_D = s->own_D;
    k->dbc_layout = delta->planes;
    k->delta_start = s->delta.start;
    k->b_start = s->B.start;
    k->c_start = s->C.start;
    k->delta_width = delta->width;
    k->b_width = b->layouts[s->B.value].width;
    k->c_width = b->layouts[s->C.value].width;
    k->gate = sc_role(s->region, IR_ROLE_z) != IR_NONE;
    k->act = sc_role_activation(b, s->region);
    k->zoh = node_of(b, s->region, IR_OP_zoh) != NULL;
    sc_set_experts(k, delta);
    set_choice(b, k, s->region);
}

void sc_phase_scan(ScBuilder *b, const IrRegion *region) {
    const ScanParts s = find_scan(b, region);
    const IrNode *node = sc_role_node(b, region, IR_ROLE_y);
    const ScLayout *delta = &b->layouts[s.delta.value];
    sc_prepare_groups(b, delta);
    ScPhaseId p = sc_new_phase(b, PG_SCAN, node, part_name(b, region, node, IR_ROLE_state, "scan"));
    fill_scan(b, &sc_phase(b, p)->kernel, &s);
    sc_read(b, p, PG_SCAN_DELTA, s.delta.value);
    sc_read(b, p, PG_SCAN_B, s.B.value);
    sc_read(b, p, PG_SCAN_C, s.C.value);
    sc_read(b, p, PG_SCAN_X, sc_role(region, IR_ROLE_x));
    sc_read(b, p, PG_SCAN_Z, sc_role(region, IR_ROLE_z));
    sc_read_weight(b, p, PG_SCAN_DT_W, sc_role(region, IR_ROLE_dt_w), PG_PANELS, scan_fraction(b, &s, s.own_dt));
    sc_read_weight(b, p, PG_SCAN_DT_B, sc_role(region, IR_ROLE_dt_b), PG_VECTOR, scan_fraction(b, &s, s.own_dt));
    sc_read_weight(b, p, PG_SCAN_A, sc_role(region, IR_ROLE_A), PG_CHANNELS, scan_fraction(b, &s, s.own_A));
    sc_read_weight(b, p, PG_SCAN_D, sc_role(region, IR_ROLE_D), PG_VECTOR, scan_fraction(b, &s, s.own_D));
    sc_use_state(b, p, PG_SCAN_STATE, sc_role(region, IR_ROLE_state));
    sc_read(b, p, PG_SCAN_EXPERTS, sc_role(region, IR_ROLE_experts));
    sc_read(b, p, PG_SCAN_COMBINE_W, sc_role(region, IR_ROLE_gates));
    sc_read_experts(b, p, delta, PG_SCAN_EXPERTS, PG_SCAN_GROUPS);
    sc_tile_segments(b, p);
    sc_write(b, p, PG_SCAN_Y, sc_role(region, IR_ROLE_y));
}

/* ---------------------------------------------------------------------------------------------- heads */

/* A or D, of every expert where each has its own, with an element for each channel. */
static void read_head_vector(ScBuilder *b, ScPhaseId p, int slot, IrValueId value, double chosen) {
    const IrType *type = &b->g->values[value].type;
    int64_t I = sc_phase(b, p)->kernel.O, J = ir_dim(type, IR_DIM_CHANNEL), E = ir_dim(type, IR_DIM_EXPERT);
    PgWeight shape = {.pack = PG_VECTOR, .planes = E > 0 ? E : 1, .O = I, .K = 1, .rows = J, .times = I / J};
    sc_read_weight_as(b, p, slot, value, &shape, E > 0 ? chosen : 1.0);
}

static void fill_heads(ScBuilder *b, PgKernel *k, const IrRegion *region, const View *B, const View *C) {
    const IrType *state = &b->g->values[sc_role(region, IR_ROLE_state)].type;
    k->O = ir_dim(state, IR_DIM_CHANNEL);
    k->N = ir_dim(state, IR_DIM_STATE);
    k->times = k->O / b->layouts[sc_role(region, IR_ROLE_delta)].width;
    k->b_start = B->start;
    k->c_start = C->start;
    k->b_width = b->layouts[B->value].width;
    k->c_width = b->layouts[C->value].width;
    k->gate = sc_role(region, IR_ROLE_z) != IR_NONE;
    k->act = sc_role_activation(b, region);
    k->x_layout = b->layouts[sc_role(region, IR_ROLE_delta)].planes;
    k->dbc_layout = b->layouts[B->value].planes;
    k->own_A = per_expert(b, region, IR_ROLE_A);
    k->own_D = per_expert(b, region, IR_ROLE_D);
    k->scan = scan_experts(b, region);
    set_choice(b, k, region);
    const IrNode *inject = node_of(b, region, IR_OP_inject), *clamp = node_of(b, region, IR_OP_clamp);
    k->groups = inject->attrs[IR_INJECT_groups].i;
    k->zoh = node_of(b, region, IR_OP_zoh) != NULL;
    k->limited = clamp != NULL;
    if (clamp != NULL) {
        k->low = clamp->attrs[IR_CLAMP_low].f;
        k->high = clamp->attrs[IR_CLAMP_high].f;
    }
}

void sc_phase_heads(ScBuilder *b, const IrRegion *region) {
    const IrNode *node = sc_role_node(b, region, IR_ROLE_y);
    const View B = role_view(b, region, IR_ROLE_B), C = role_view(b, region, IR_ROLE_C);
    const ScLayout *both[] = {&b->layouts[sc_role(region, IR_ROLE_delta)], &b->layouts[B.value]};
    for (int i = 0; i < 2; i++) sc_prepare_groups(b, both[i]);
    ScPhaseId p = sc_new_phase(b, PG_HEADS, node, part_name(b, region, node, IR_ROLE_state, "scan"));
    fill_heads(b, &sc_phase(b, p)->kernel, region, &B, &C);
    PgScanExperts experts = sc_phase(b, p)->kernel.scan;
    double chosen =
        experts == PG_SCAN_HOLD || experts == PG_SCAN_PARAMS ? sc_chosen_fraction(b, sc_role(region, IR_ROLE_experts)) : 1.0;
    sc_read(b, p, PG_HEADS_DELTA, sc_role(region, IR_ROLE_delta));
    sc_read(b, p, PG_HEADS_B, B.value);
    sc_read(b, p, PG_HEADS_C, C.value);
    sc_read(b, p, PG_HEADS_X, sc_role(region, IR_ROLE_x));
    sc_read(b, p, PG_HEADS_Z, sc_role(region, IR_ROLE_z));
    read_head_vector(b, p, PG_HEADS_A, sc_role(region, IR_ROLE_A), chosen);
    read_head_vector(b, p, PG_HEADS_D, sc_role(region, IR_ROLE_D), chosen);
    sc_use_state(b, p, PG_HEADS_STATE, sc_role(region, IR_ROLE_state));
    sc_read(b, p, PG_HEADS_EXPERTS, sc_role(region, IR_ROLE_experts));
    sc_read(b, p, PG_HEADS_COMBINE_W, sc_role(region, IR_ROLE_gates));
    for (int i = 0; i < 2; i++) sc_read_experts(b, p, both[i], PG_HEADS_EXPERTS, PG_HEADS_GROUPS);
    sc_tile_segments(b, p);
    sc_write(b, p, PG_HEADS_Y, sc_role(region, IR_ROLE_y));
}

/* ---------------------------------------------------------------------------------------------- trapezoid */

static void fill_trapezoid(ScBuilder *b, PgKernel *k, const IrRegion *region) {
    const IrType *state = &b->g->values[sc_role(region, IR_ROLE_state)].type;
    const ScLayout *turned = &b->layouts[sc_role(region, IR_ROLE_B)], *y = &b->layouts[sc_role(region, IR_ROLE_y)];
    const IrNode *f = sc_role_node(b, region, IR_ROLE_act);
    k->O = ir_dim(state, IR_DIM_CHANNEL);
    k->N = ir_dim(state, IR_DIM_STATE);
    k->times = k->O / b->layouts[sc_role(region, IR_ROLE_delta)].width;
    k->dbc_layout = turned->planes;
    k->y_layout = y->planes;
    sc_set_experts(k, turned);
    k->mimo = sc_role(region, IR_ROLE_mimo_x) != IR_NONE;
    k->gate = sc_role(region, IR_ROLE_z) != IR_NONE;
    k->act = ps_activation(f->op);
    const IrNode *end = &b->g->nodes[b->g->n_nodes];
    for (const IrNode *node = f; node < end && node->region == f->region; node++) /* what no role says */
        if (node->op == IR_OP_clamp) k->low = node->attrs[IR_CLAMP_low].f;
}

void sc_phase_trapezoid(ScBuilder *b, const IrRegion *region) {
    static const struct {
        int slot;
        IrRole role;
    } values[] = {{PG_TRAPEZOID_DELTA, IR_ROLE_delta},   {PG_TRAPEZOID_A, IR_ROLE_a},
                  {PG_TRAPEZOID_TRAP, IR_ROLE_trap},     {PG_TRAPEZOID_B, IR_ROLE_B},
                  {PG_TRAPEZOID_B_LAST, IR_ROLE_B_last}, {PG_TRAPEZOID_C, IR_ROLE_C},
                  {PG_TRAPEZOID_X, IR_ROLE_x},           {PG_TRAPEZOID_Z, IR_ROLE_z}},
      weights[] = {
          {PG_TRAPEZOID_MIMO_X, IR_ROLE_mimo_x}, {PG_TRAPEZOID_MIMO_Z, IR_ROLE_mimo_z}, {PG_TRAPEZOID_MIMO_O, IR_ROLE_mimo_o}};
    const IrNode *node = sc_role_node(b, region, IR_ROLE_y);
    ScPhaseId p = sc_new_phase(b, PG_TRAPEZOID, node, part_name(b, region, node, IR_ROLE_state, "scan"));
    fill_trapezoid(b, &sc_phase(b, p)->kernel, region);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) sc_read(b, p, values[i].slot, sc_role(region, values[i].role));
    read_head_vector(b, p, PG_TRAPEZOID_D, sc_role(region, IR_ROLE_D), 1.0);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        sc_read_weight(b, p, weights[i].slot, sc_role(region, weights[i].role), PG_VECTOR, 1.0);
    sc_use_state(b, p, PG_TRAPEZOID_HISTORY, sc_role(region, IR_ROLE_history));
    sc_use_state(b, p, PG_TRAPEZOID_STATE, sc_role(region, IR_ROLE_state));
    sc_tile_segments(b, p);
    sc_write(b, p, PG_TRAPEZOID_Y, sc_role(region, IR_ROLE_y));
}

/* ---------------------------------------------------------------------------------------------- turn */

static void fill_turn(ScBuilder *b, PgKernel *k, const IrRegion *region) {
    const IrNode *rotate = sc_role_node(b, region, IR_ROLE_B);
    const ScLayout *turned = &b->layouts[rotate->results[0]];
    k->O = turned->width;
    k->heads = rotate->attrs[IR_ROTATE_heads].i;
    k->N = k->O / k->heads;
    k->rope_dim = 2 * b->layouts[rotate->operands[1]].width / k->heads;
    k->dbc_layout = turned->planes;
    sc_set_experts(k, turned);
    k->groups = b->layouts[sc_role(region, IR_ROLE_x)].width / (2 * pg_ranks(k) * k->N);
    k->norm = PG_RMS;
    const IrNode *first = rotate, *end = &b->g->nodes[b->g->n_nodes];
    while (first > b->g->nodes && first[-1].region == rotate->region) first--;
    for (const IrNode *node = first; node < end && node->region == rotate->region; node++) /* what no role says */
        if (node->op == IR_OP_rms_norm) k->eps = node->attrs[IR_RMS_NORM_eps].f;
}

void sc_phase_turn(ScBuilder *b, const IrRegion *region) {
    static const struct {
        int slot;
        IrRole role;
    } values[] = {{PG_TURN_X, IR_ROLE_x}, {PG_TURN_DELTA, IR_ROLE_delta}, {PG_TURN_THETA, IR_ROLE_theta}},
      weights[] = {{PG_TURN_NORM_B, IR_ROLE_norm_b},
                   {PG_TURN_NORM_C, IR_ROLE_norm_c},
                   {PG_TURN_BIAS_B, IR_ROLE_bias},
                   {PG_TURN_BIAS_C, IR_ROLE_bias2}},
      results[] = {{PG_TURN_B, IR_ROLE_B}, {PG_TURN_B_LAST, IR_ROLE_B_last}, {PG_TURN_C, IR_ROLE_C}};
    const IrNode *node = sc_role_node(b, region, IR_ROLE_B);
    ScPhaseId p = sc_new_phase(b, PG_TURN, node, part_name(b, region, node, IR_ROLE_state, "turn"));
    fill_turn(b, &sc_phase(b, p)->kernel, region);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) sc_read(b, p, values[i].slot, sc_role(region, values[i].role));
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        sc_read_weight(b, p, weights[i].slot, sc_role(region, weights[i].role), PG_VECTOR, 1.0);
    sc_use_state(b, p, PG_TURN_ANGLE, sc_role(region, IR_ROLE_state));
    sc_use_state(b, p, PG_TURN_HISTORY, sc_role(region, IR_ROLE_history));
    sc_phase(b, p)->pg.count = b->mode == PG_ROW ? PG_ONCE : PG_PER_SEGMENT;
    sc_phase(b, p)->pg.fixed = (uint32_t)sc_phase(b, p)->kernel.heads;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) sc_write(b, p, results[i].slot, sc_role(region, results[i].role));
}

/* ---------------------------------------------------------------------------------------------- attention */

/* The table of cosines and sines of these angles: one for all blocks that agree. */
static int32_t rope_table(ScBuilder *b, const PgRope *angles, int64_t *out_index) {
    size_t i = 0;
    while (i < b->n_ropes && !pg_same_angles(&b->ropes[i], angles)) i++;
    if (i == b->n_ropes) {
        b->ropes = su_grow(b->arena, b->ropes, &b->ropes_capacity, i + 1, sizeof *b->ropes);
        b->rope_buffers = su_grow(&b->scratch, b->rope_buffers, &b->rope_buffers_capacity, i + 1, sizeof *b->rope_buffers);
        b->ropes[b->n_ropes] = *angles;
        b->rope_buffers[b->n_ropes++] = -1;
    }
    *out_index = (int64_t)i;
    if (b->rope_buffers[i] < 0) {
        uint64_t row = pg_rope_bytes(angles);
        b->rope_buffers[i] = sc_new_buffer(b, b->mode == PG_ROW ? (ScBytes){0, row} : (ScBytes){row, 0}, "rope");
    }
    return b->rope_buffers[i];
}

static void fill_attention(ScBuilder *b, PgKernel *k, const IrNode *attend) {
    k->heads = attend->attrs[IR_ATTEND_heads].i;
    k->kv_heads = attend->attrs[IR_ATTEND_kv_heads].i;
    k->O = attend->attrs[IR_ATTEND_head_dim].i;
    k->window = attend->attrs[IR_ATTEND_window].i;
    k->cap = sc_cache_positions(b->g, attend);
}

static void fill_rope(ScBuilder *b, ScPhaseId store, const IrNode *rope) {
    const IrAttr *attrs = rope->attrs;
    PgRope angles = {.theta = attrs[IR_ROPE_theta].f,
                     .dim = attrs[IR_ROPE_dim].i,
                     .factor = attrs[IR_ROPE_factor].f,
                     .low = attrs[IR_ROPE_low].f,
                     .high = attrs[IR_ROPE_high].f,
                     .original = attrs[IR_ROPE_original].i};
    PgKernel *k = &sc_phase(b, store)->kernel;
    k->rope = true;
    k->rope_dim = angles.dim;
    k->interleaved = attrs[IR_ROPE_interleaved].i != 0;
    sc_read_buffer(b, store, PG_KV_TABLE, rope_table(b, &angles, &k->rope_table));
}

/* Two phases: rope and the caches, then the scores. Rope is always part of the first. */
void sc_phase_attention(ScBuilder *b, const IrRegion *region) {
    const IrNode *attend = sc_role_node(b, region, IR_ROLE_y), *rope = sc_role_node(b, region, IR_ROLE_rope);
    ScPhaseId store = sc_new_phase(b, PG_KV_STORE, attend, part_name(b, region, attend, IR_ROLE_k_cache, "store"));
    fill_attention(b, &sc_phase(b, store)->kernel, attend);
    sc_phase(b, store)->kernel.window = 0;
    sc_read(b, store, PG_KV_Q, sc_role(region, IR_ROLE_q));
    sc_read(b, store, PG_KV_K, sc_role(region, IR_ROLE_k));
    sc_read(b, store, PG_KV_V, sc_role(region, IR_ROLE_v));
    sc_use_state(b, store, PG_KV_K_CACHE, sc_role(region, IR_ROLE_k_cache));
    sc_use_state(b, store, PG_KV_V_CACHE, sc_role(region, IR_ROLE_v_cache));
    sc_phase(b, store)->pg.count = PG_PER_ROW;
    ScBytes counters = {.fixed = su_round_up(4 * (uint64_t)sc_phase(b, store)->kernel.kv_heads, 64)};
    int32_t done = b->mode == PG_ROW ? sc_write_buffer(b, store, PG_KV_DONE, counters, "done") : -1;
    if (rope != NULL) {
        fill_rope(b, store, rope);
        sc_write(b, store, PG_KV_Y, sc_role(region, IR_ROLE_rope));
    }
    ScPhaseId p = sc_new_phase(b, PG_ATTEND, attend, part_name(b, region, attend, IR_ROLE_k_cache, "attend"));
    fill_attention(b, &sc_phase(b, p)->kernel, attend);
    sc_phase(b, p)->kernel.scale = attend->attrs[IR_ATTEND_scale].f;
    sc_read(b, p, PG_ATTEND_Q, sc_role(region, rope != NULL ? IR_ROLE_rope : IR_ROLE_q));
    sc_use_state(b, p, PG_ATTEND_K_CACHE, sc_role(region, IR_ROLE_k_cache));
    sc_use_state(b, p, PG_ATTEND_V_CACHE, sc_role(region, IR_ROLE_v_cache));
    sc_phase(b, p)->pg.count = PG_PER_ROW;
    sc_phase(b, p)->pg.fixed = (uint32_t)sc_phase(b, p)->kernel.kv_heads;
    sc_write(b, p, PG_ATTEND_Y, sc_role(region, IR_ROLE_y));
    if (b->mode != PG_ROW) return;
    sc_read_buffer(b, p, PG_ATTEND_DONE, done);
    ScBytes parts = {.fixed = pg_key_parts_bytes(&sc_phase(b, p)->kernel)};
    sc_write_buffer(b, p, PG_ATTEND_PARTS, parts, "parts");
}
