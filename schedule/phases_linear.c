/* Phases of linear regions: a linear layer with what grew around it, and the sum over experts behind it. */
#include "schedule/few.h"
#include "schedule/phases.h"

/* A linear region's roles, with what its nodes say. */
typedef struct LinearParts {
    const IrNode *linear, *sum, *norm; /* NULL where absent; norm: computed here, with one row or few */
    IrValueId x, w, w2, bias, bias2, gates, y;
    PgActivation act;
    bool dual;
    double out_scale, scale; /* in front of the residual, and behind all; 1 without scaling */
    IrValueId adds[2];
    int n_adds;
    const IrRegion *conv; /* of a convolution computed here, with one row or few; or NULL */
} LinearParts;

static LinearParts find_parts(const ScBuilder *b, const IrRegion *region) {
    const IrNode *out_scale = sc_role_node(b, region, IR_ROLE_out_scale), *scale = sc_role_node(b, region, IR_ROLE_scale),
                 *conv = sc_role_node(b, region, IR_ROLE_conv);
    LinearParts m = {
        .linear = sc_role_node(b, region, IR_ROLE_linear),
        .sum = sc_role_node(b, region, IR_ROLE_sum),
        .x = sc_role(region, IR_ROLE_x),
        .w = sc_role(region, IR_ROLE_w),
        .w2 = sc_role(region, IR_ROLE_w2),
        .bias = sc_role(region, IR_ROLE_bias),
        .bias2 = sc_role(region, IR_ROLE_bias2),
        .gates = sc_role(region, IR_ROLE_gates),
        .y = sc_role(region, IR_ROLE_y),
        .act = sc_role_activation(b, region),
        .dual = sc_role(region, IR_ROLE_w2) != IR_NONE,
        .out_scale = out_scale != NULL ? out_scale->attrs[IR_SCALE_factor].f : 1.0,
        .scale = scale != NULL ? scale->attrs[IR_SCALE_factor].f : 1.0,
    };
    if (sc_role(region, IR_ROLE_addend) != IR_NONE) m.adds[m.n_adds++] = sc_role(region, IR_ROLE_addend);
    if (sc_role(region, IR_ROLE_residual) != IR_NONE) m.adds[m.n_adds++] = sc_role(region, IR_ROLE_residual);
    if (sc_is_folded(b, sc_role(region, IR_ROLE_norm))) m.norm = sc_role_node(b, region, IR_ROLE_norm);
    if (conv != NULL && sc_is_folded(b, sc_role(region, IR_ROLE_conv))) m.conv = &b->g->regions[conv->region];
    return m;
}

static double linear_fraction(const ScBuilder *b, const IrNode *linear) {
    return linear->op == IR_OP_linear_routed ? sc_chosen_fraction(b, linear->operands[2]) : 1.0;
}

static bool rounds(const LinearParts *m) { return m->linear->attrs[IR_LINEAR_rounds].i != 0; }

/* Whether the layer's input is rounded to bf16. */
static bool takes_bf16(const ScBuilder *b, const LinearParts *m) {
    bool stored_so = !b->options->off[PS_WEIGHTS] && b->g->values[m->w].type.dtype == IR_BF16;
    return b->options->bf16_inputs && b->mode == PG_BLOCK && stored_so;
}

/* In PG_BLOCK the layer's input is rounded by a phase of its own, once however many layers read it so. */
static void prepare_rounded(ScBuilder *b, const LinearParts *m) {
    bool bf16 = takes_bf16(b, m);
    if (!(rounds(m) || bf16) || b->mode != PG_BLOCK || b->rounded_of[bf16][m->x] >= 0) return;
    const ScLayout *x = &b->layouts[m->x];
    char what[96];
    ps_linear_name(b->g, m->w, what, sizeof what);
    ScPhaseId p = sc_new_phase(b, PG_ROUND, m->linear, sc_phase_name(b, m->linear, su_printf(b->arena, "%s.round", what)));
    PgKernel *k = &sc_phase(b, p)->kernel;
    k->bf16_x = bf16;
    k->K = k->O = x->width;
    k->x_layout = k->y_layout = x->planes;
    sc_set_experts(k, x);
    sc_read(b, p, PG_ROUND_X, m->x);
    sc_tile_rows(b, p, x);
    if (b->fused[m->x] & SC_OUTPUT_ROWS) {
        k->gather_out_rows = true;
        sc_phase(b, p)->pg.count = PG_PER_OUT_ROW_BLOCK;
    }
    b->rounded_of[bf16][m->x] = sc_write_buffer(b, p, PG_ROUND_Y, sc_rounded_bytes(x, pg_rounded_row_bytes(k)), "rounded");
}

static void read_input(ScBuilder *b, ScPhaseId p, const LinearParts *m) {
    bool bf16 = takes_bf16(b, m);
    if (b->rounded_of[bf16][m->x] >= 0 && (rounds(m) || bf16))
        sc_read_buffer(b, p, PG_LINEAR_X, b->rounded_of[bf16][m->x]);
    else
        sc_read(b, p, PG_LINEAR_X, m->norm != NULL ? m->norm->operands[0] : m->x);
}

/* W x with bias, activation and product: everything that happens before a sum over experts. */
static void fill_linear(ScBuilder *b, ScPhaseId p, const LinearParts *m) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    const IrType *w = &b->g->values[m->w].type;
    const ScLayout *x_layout = &b->layouts[m->x], *y_layout = &b->layouts[m->linear->results[0]];
    double active = linear_fraction(b, m->linear);
    k->K = ir_dim(w, IR_DIM_INPUT);
    k->O = ir_dim(w, IR_DIM_CHANNEL);
    k->rounds = rounds(m);
    k->bf16_x = takes_bf16(b, m);
    k->select = m->linear->op == IR_OP_linear ? PG_SINGLE : m->linear->op == IR_OP_linear_all ? PG_ALL : PG_CHOSEN;
    k->x_layout = x_layout->planes;
    k->y_layout = y_layout->planes;
    sc_set_experts(k, x_layout);
    sc_set_experts(k, y_layout);
    if (m->norm != NULL && b->few) {
        sc_take_factor(b, p, m->norm);
    } else {
        if (m->norm != NULL) sc_set_norm(b, p, m->norm, PG_LINEAR_NORM_W, PG_LINEAR_NORM_B);
        read_input(b, p, m);
    }
    sc_read_weight(b, p, PG_LINEAR_W, m->w, PG_PANELS, active);
    sc_read_weight(b, p, PG_LINEAR_W2, m->w2, PG_PANELS, active);
    sc_read_weight(b, p, PG_LINEAR_BIAS, m->bias, PG_VECTOR, active);
    sc_read_weight(b, p, PG_LINEAR_BIAS2, m->bias2, PG_VECTOR, active);
    sc_read_experts(b, p, y_layout, PG_LINEAR_EXPERTS, PG_LINEAR_GROUPS);
}

/* The epilogue up to the sum over experts, with the convolution if there is one. */
static void add_own_steps(ScBuilder *b, ScPhaseId p, const LinearParts *m) {
    PgActivation act = m->conv != NULL ? sc_role_activation(b, m->conv) : m->act;
    if (m->bias != IR_NONE) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_BIAS});
    if (m->conv != NULL) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_CONV});
    if (m->conv != NULL && sc_role(m->conv, IR_ROLE_bias) != IR_NONE)
        sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_CONV_BIAS});
    if (act != PG_NO_ACT) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_ACT, .act = act});
    if (m->bias2 != IR_NONE) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_BIAS2});
    if (m->dual) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_DUAL});
}

static void add_sum(ScBuilder *b, ScPhaseId p, const IrNode *sum) {
    sc_add_step(b, p, (PgEpilogueStep){.kind = sum->op == IR_OP_plane_sum ? PG_STEP_PLANE_SUM : PG_STEP_WEIGHTED_SUM});
    sc_phase(b, p)->kernel.y_layout = PG_ROWS;
}

/* Addend, residual and scale, for a linear layer or for the combining phase behind it. */
static void fill_tail(ScBuilder *b, ScPhaseId p, const LinearParts *m, int addend_slot, int residual_slot) {
    if (m->n_adds > 1) {
        sc_read(b, p, addend_slot, m->adds[0]);
        sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_ADDEND});
    }
    if (m->out_scale != 1.0) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_OUT_SCALE, .scale = m->out_scale});
    if (m->n_adds > 0) {
        sc_read(b, p, residual_slot, m->adds[m->n_adds - 1]);
        sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_RESIDUAL});
    }
    if (m->scale != 1.0) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_SCALE, .scale = m->scale});
}

/* Tiles of a linear layer: its planes (positions in PG_ROW) beside row blocks. */
static void linear_tiles(ScBuilder *b, ScPhaseId p, const ScLayout *y) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    sc_tile_rows(b, p, y);
    if (k->y_layout == PG_PLANES) sc_phase(b, p)->pg.fixed = (uint32_t)k->E;
    if (k->y_layout == PG_POSITIONS && b->mode == PG_ROW) sc_phase(b, p)->pg.fixed = (uint32_t)k->k;
    if (pg_does(k, PG_STEP_LOGITS)) sc_phase(b, p)->pg.count = PG_PER_OUT_ROW_BLOCK;
}

/* The combining phase of a linear layer whose experts were computed apart (PG_BLOCK). `parts` is the buffer of their results. */
static void combine_phase(ScBuilder *b, const LinearParts *m, int32_t parts) {
    const ScLayout *x = &b->layouts[m->sum->operands[0]];
    char what[96];
    ps_linear_name(b->g, m->w, what, sizeof what);
    ScPhaseId p = sc_new_phase(b, PG_COMBINE, m->sum, sc_phase_name(b, m->sum, su_printf(b->arena, "%s.sum", what)));
    sc_phase(b, p)->kernel.O = x->width;
    sc_phase(b, p)->kernel.x_layout = x->planes;
    sc_set_experts(&sc_phase(b, p)->kernel, x);
    add_sum(b, p, m->sum);
    sc_read_buffer(b, p, PG_COMBINE_X, parts);
    sc_read_experts(b, p, x, PG_COMBINE_EXPERTS, PG_COMBINE_GROUPS);
    if (pg_sum(&sc_phase(b, p)->kernel) == PG_WEIGHTED_SUM) sc_read(b, p, PG_COMBINE_COMBINE_W, m->gates);
    fill_tail(b, p, m, PG_COMBINE_ADDEND, PG_COMBINE_RESIDUAL);
    sc_tile_rows(b, p, &b->layouts[m->y]);
    sc_write(b, p, PG_COMBINE_Y, m->y);
    sc_leave_norm(b, p, m->y);
}

static void fill_conv(ScBuilder *b, ScPhaseId p, const IrRegion *conv) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    k->taps = ir_dim(&b->g->values[sc_role(conv, IR_ROLE_w)].type, IR_DIM_TAP);
    sc_read_weight(b, p, PG_LINEAR_CONV_W, sc_role(conv, IR_ROLE_w), PG_CHANNELS, 1.0);
    sc_read_weight(b, p, PG_LINEAR_CONV_B, sc_role(conv, IR_ROLE_bias), PG_VECTOR, 1.0);
    sc_use_state(b, p, PG_LINEAR_HISTORY, sc_role(conv, IR_ROLE_history));
}

static IrValueId result_of(const LinearParts *m) { return m->conv != NULL ? sc_role(m->conv, IR_ROLE_y) : m->y; }

static void lone_phase(ScBuilder *b, const LinearParts *m) {
    const ScLayout *y = &b->layouts[m->linear->results[0]];
    char what[96];
    ps_linear_name(b->g, m->w, what, sizeof what);
    bool head = m->y == b->g->logits;
    sc_prepare_groups(b, y);
    prepare_rounded(b, m);
    ScPhaseId p = sc_new_phase(b, PG_LINEAR, m->linear, head ? "head" : sc_phase_name(b, m->linear, what));
    fill_linear(b, p, m);
    bool apart = m->sum != NULL && b->mode == PG_BLOCK;
    add_own_steps(b, p, m);
    if (m->conv != NULL) fill_conv(b, p, m->conv);
    if (m->sum != NULL && !apart) {
        add_sum(b, p, m->sum);
        if (m->sum->op != IR_OP_plane_sum) sc_read(b, p, PG_LINEAR_COMBINE_W, m->gates);
    }
    if (!apart) fill_tail(b, p, m, PG_LINEAR_ADDEND, PG_LINEAR_RESIDUAL);
    if (head) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_LOGITS});
    linear_tiles(b, p, y);
    if (head) return;
    if (!apart) {
        sc_write(b, p, PG_LINEAR_Y, result_of(m));
        sc_leave_norm(b, p, result_of(m));
        return;
    }
    int32_t parts = sc_write_buffer(b, p, PG_LINEAR_Y, sc_buffer_bytes(y, b->mode), what);
    combine_phase(b, m, parts);
}

/* ---------------------------------------------------------------------------------------------- layers of one input */

/* Linear layers of the same input which a step of one row or few makes in one phase: their weights, biases, taps and histories lie one
 * behind the other, so that to the kernel they are one layer, and each result is a part of its output. Nothing but the place of what it
 * reads differs between them, so a kernel knows nothing of it. With few rows those that nothing happens to join those with a
 * convolution: as W2 of their phase (PgKernel.first_O). */
typedef struct Joint {
    LinearParts of[SC_MOST_JOINED];
    int n;
} Joint;

static bool has(IrValueId value) { return value != IR_NONE; }

/* Whether nothing but a bias and a convolution with its activation happens to the layer's sums. */
static bool is_plain(const ScBuilder *b, const LinearParts *m) {
    if (b->few && b->norm_behind[m->y] != IR_NONE) return false; /* it leaves more than its result */
    return m->linear->op == IR_OP_linear && m->sum == NULL && !m->dual && m->n_adds == 0 && m->out_scale == 1.0 &&
           m->scale == 1.0 && m->y != b->g->logits;
}

static int64_t taps_of(const ScBuilder *b, const IrRegion *conv) {
    return ir_dim(&b->g->values[sc_role(conv, IR_ROLE_w)].type, IR_DIM_TAP);
}

static bool same_conv(const ScBuilder *b, const IrRegion *one, const IrRegion *other) {
    if (one == NULL || other == NULL) return one == other;
    return taps_of(b, one) == taps_of(b, other) && has(sc_role(one, IR_ROLE_bias)) == has(sc_role(other, IR_ROLE_bias)) &&
           sc_role_activation(b, one) == sc_role_activation(b, other);
}

/* Whether the same happens to the sums of both, of the same x. */
static bool is_alike(const ScBuilder *b, const LinearParts *one, const LinearParts *other) {
    return one->x == other->x && one->norm == other->norm && one->act == other->act && has(one->bias) == has(other->bias) &&
           b->g->values[one->w].type.dtype == b->g->values[other->w].type.dtype && rounds(one) == rounds(other) &&
           same_conv(b, one->conv, other->conv);
}

static int64_t outputs(const ScBuilder *b, const LinearParts *m) { return ir_dim(&b->g->values[m->w].type, IR_DIM_CHANNEL); }

/* The layers of its block behind `first` that are like it. Only the last one may end within a panel. */
static Joint find_alike(const ScBuilder *b, const LinearParts *first) {
    Joint j = {.of = {*first}, .n = 1};
    const IrNode *end = &b->g->nodes[b->g->n_nodes];
    if ((b->mode != PG_ROW && !b->few) || b->options->off[PS_SCHEDULE] || !is_plain(b, first)) return j;
    for (const IrNode *node = first->linear + 1; node < end && node->block == first->linear->block; node++) {
        if (node->op != IR_OP_linear || node->region == IR_NONE || outputs(b, &j.of[j.n - 1]) % PG_LANES != 0) continue;
        LinearParts other = find_parts(b, &b->g->regions[node->region]);
        if (j.n < SC_MOST_JOINED && other.linear == node && is_plain(b, &other) && is_alike(b, first, &other)) j.of[j.n++] = other;
    }
    return j;
}

/* Where the packed forms of a weight of each layer end and begin: as many as lie one behind the other. Those that are not packed
 * yet come to lie so here. */
static int packed_in_line(ScBuilder *b, const IrValueId *weights, int n, PgPack pack) {
    int in_line = 1;
    uint64_t end = 0;
    for (int i = 0; i < n && has(weights[i]); i++) {
        size_t packed = b->n_weights;
        const PgWeight w = sc_packed(b, weights[i], pack, 1.0)->pg;
        if (i > 0 && i == in_line && w.offset == end) in_line++;
        end = w.offset + w.bytes;
        b->packing_in_line = packed < b->n_weights && end % 64 == 0; /* blocks may end between multiples */
    }
    b->packing_in_line = false;
    return has(weights[0]) ? in_line : n;
}

static int states_in_line(const ScBuilder *b, const IrValueId *states, const Joint *j, int64_t elements) {
    int in_line = 1;
    if (!has(states[0])) return j->n;
    while (in_line < j->n && b->state_offset[states[in_line]] ==
                                 b->state_offset[states[in_line - 1]] +
                                     pg_panels(outputs(b, &j->of[in_line - 1])) * PG_LANES * sizeof(float) * (uint64_t)elements)
        in_line++;
    return in_line;
}

static void limit(Joint *j, int n) {
    if (n < j->n) j->n = n;
}

/* Leaves the layers of which everything lies one behind the other. */
static void keep_those_in_line(ScBuilder *b, Joint *j) {
    IrValueId w[SC_MOST_JOINED], bias[SC_MOST_JOINED], conv_w[SC_MOST_JOINED], conv_bias[SC_MOST_JOINED], history[SC_MOST_JOINED];
    const IrRegion *conv = j->of[0].conv;
    for (int i = 0; i < j->n; i++) {
        const LinearParts *m = &j->of[i];
        w[i] = m->w;
        bias[i] = m->bias;
        conv_w[i] = conv != NULL ? sc_role(m->conv, IR_ROLE_w) : IR_NONE;
        conv_bias[i] = conv != NULL ? sc_role(m->conv, IR_ROLE_bias) : IR_NONE;
        history[i] = conv != NULL ? sc_role(m->conv, IR_ROLE_history) : IR_NONE;
    }
    limit(j, packed_in_line(b, w, j->n, PG_PANELS));
    limit(j, packed_in_line(b, bias, j->n, PG_VECTOR));
    limit(j, packed_in_line(b, conv_w, j->n, PG_CHANNELS));
    limit(j, packed_in_line(b, conv_bias, j->n, PG_VECTOR));
    if (conv != NULL) limit(j, states_in_line(b, history, j, taps_of(b, conv) - 1));
}

static Joint find_joint(ScBuilder *b, const LinearParts *first) {
    Joint j = find_alike(b, first);
    if (j.n > 1) keep_those_in_line(b, &j);
    return j;
}

static bool has_outputs_of_panels(const ScBuilder *b, const Joint *j) {
    for (int i = 0; i < j->n; i++)
        if (outputs(b, &j->of[i]) % PG_LANES != 0) return false;
    return true;
}

/* Whether one has a convolution, nothing happens to the other, and all else is the same. */
static bool are_companions(const ScBuilder *b, const LinearParts *one, const LinearParts *other) {
    const LinearParts *plain = one->conv != NULL ? other : one;
    LinearParts like = *one;
    like.conv = other->conv;
    like.act = other->act;
    return (one->conv == NULL) != (other->conv == NULL) && plain->act == PG_NO_ACT && !has(one->bias) && is_alike(b, &like, other);
}

/* With few rows: the layers of `first`'s block that are to those of `j` as nothing is to a convolution. n is 0 where there are none. */
static Joint find_companions(ScBuilder *b, const Joint *j) {
    const LinearParts *first = &j->of[0];
    const IrNode *end = &b->g->nodes[b->g->n_nodes];
    Joint none = {.n = 0};
    if (!b->few || b->options->off[PS_SCHEDULE] || !is_plain(b, first)) return none;
    for (const IrNode *node = first->linear + 1; node < end && node->block == first->linear->block; node++) {
        if (node->op != IR_OP_linear || node->region == IR_NONE || b->joined[node->region]) continue;
        LinearParts other = find_parts(b, &b->g->regions[node->region]);
        if (other.linear != node || !is_plain(b, &other) || !are_companions(b, first, &other)) continue;
        Joint found = find_joint(b, &other);
        if (!has_outputs_of_panels(b, first->conv != NULL ? j : &found)) return none;
        limit(&found, SC_MOST_JOINED - j->n);
        return found;
    }
    return none;
}

/* "in_proj+bc_proj" */
static const char *joint_name(ScBuilder *b, const Joint *j) {
    char what[96];
    const char *name = "";
    for (int i = 0; i < j->n; i++) {
        ps_linear_name(b->g, j->of[i].w, what, sizeof what);
        name = su_printf(&b->scratch, "%s%s%s", name, i > 0 ? "+" : "", what);
    }
    return sc_phase_name(b, j->of[0].linear, name);
}

static int64_t all_outputs(const ScBuilder *b, const Joint *j) {
    int64_t n = 0;
    for (int i = 0; i < j->n; i++) n += outputs(b, &j->of[i]);
    return n;
}

/* Layers of W, and of W2 (none: n is 0). */
static void joint_phase(ScBuilder *b, const Joint *j, const Joint *second) {
    const LinearParts *first = &j->of[0];
    Joint all = *j;
    for (int i = 0; i < second->n; i++) all.of[all.n++] = second->of[i];
    prepare_rounded(b, first);
    ScPhaseId p = sc_new_phase(b, PG_LINEAR, first->linear, joint_name(b, &all));
    fill_linear(b, p, first);
    add_own_steps(b, p, first);
    if (first->conv != NULL) fill_conv(b, p, first->conv);
    sc_phase(b, p)->kernel.O = all_outputs(b, &all);
    if (second->n > 0) {
        sc_phase(b, p)->kernel.first_O = all_outputs(b, j);
        sc_read_weight(b, p, PG_LINEAR_W2, second->of[0].w, PG_PANELS, 1.0);
    }
    IrValueId results[SC_MOST_JOINED];
    for (int i = 0; i < all.n; i++) {
        const LinearParts *m = &all.of[i];
        results[i] = result_of(m);
        b->joined[m->linear->region] = true;
        if (i > 0 && m->conv != NULL) sc_touch_state(b, p, sc_role(m->conv, IR_ROLE_history));
    }
    linear_tiles(b, p, &b->layouts[first->linear->results[0]]);
    sc_write_parts(b, p, PG_LINEAR_Y, results, all.n);
}

void sc_phase_linear(ScBuilder *b, const IrRegion *region) {
    if (b->joined[region - b->g->regions]) return;
    LinearParts m = find_parts(b, region);
    Joint j = find_joint(b, &m), companions = find_companions(b, &j);
    bool turned = companions.n > 0 && m.conv == NULL; /* those with the convolution come first */
    if (j.n + companions.n > 1)
        joint_phase(b, turned ? &companions : &j, turned ? &j : &companions);
    else
        lone_phase(b, &m);
}
