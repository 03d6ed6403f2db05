/* Phases of regions: a linear layer with what grew around it, a router, a convolution, a scan, attention. */
#include "schedule/phases.h"

#include "support/size.h"

/* ---------------------------------------------------------------------------------------------- linear layers */

/* The parts of a linear region, found by walking its nodes in order. */
typedef struct LinearParts {
    const IrNode *linear, *linear2, *bias, *bias2, *sum, *last;
    PgActivation act;
    bool dual;
    double scale; /* 1 without scaling */
    IrValueId adds[2];
    int n_adds;
} LinearParts;

static bool made_inside(const ScBuilder *b, const PsGroup *nodes, IrValueId value) {
    const IrNode *maker = ps_maker(b->g, value);
    return maker != NULL && ps_group_has(nodes, (IrNodeId)(maker - b->g->nodes));
}

static void take_part(const ScBuilder *b, const PsGroup *nodes, const IrNode *node, LinearParts *m) {
    m->last = node;
    switch ((int)node->op) {
    case IR_OP_linear:
    case IR_OP_linear_all:
    case IR_OP_linear_routed:
        if (m->linear == NULL)
            m->linear = node;
        else
            m->linear2 = node;
        return;
    case IR_OP_add_bias:
    case IR_OP_add_bias_routed:
        if (node->operands[0] == m->linear->results[0])
            m->bias = node;
        else
            m->bias2 = node;
        return;
    case IR_OP_mul: m->dual = true; return;
    case IR_OP_expert_sum_routed:
    case IR_OP_plane_sum: m->sum = node; return;
    case IR_OP_add: m->adds[m->n_adds++] = made_inside(b, nodes, node->operands[0]) ? node->operands[1] : node->operands[0]; return;
    case IR_OP_scale: m->scale = node->attrs[IR_SCALE_factor].f; return;
    default: m->act = ps_activation(node->op); return;
    }
}

static LinearParts find_parts(const ScBuilder *b, const PsGroup *nodes) {
    LinearParts m = {.scale = 1.0};
    for (int i = 0; i < nodes->n; i++) take_part(b, nodes, &b->g->nodes[nodes->nodes[i]], &m);
    return m;
}

bool sc_is_head(const ScBuilder *b, const IrNode *node) {
    const IrNode *last = ps_maker(b->g, b->g->logits);
    if (last->op == IR_OP_scale) last = ps_maker(b->g, last->operands[0]);
    return node == last;
}

/* The norm before a linear layer that a one-row step recomputes in it, or NULL. */
static const IrNode *inlined_norm(const ScBuilder *b, IrValueId x) {
    const IrNode *maker = ps_maker(b->g, x);
    return maker != NULL && b->inlined[maker - b->g->nodes] ? maker : NULL;
}

static double linear_fraction(const ScBuilder *b, const IrNode *linear) {
    return linear->op == IR_OP_linear_routed ? sc_chosen_fraction(b, linear->operands[2]) : 1.0;
}

/* W x with bias, activation and product: everything that happens before a sum over experts. */
static void fill_linear(ScBuilder *b, ScPhaseId p, const LinearParts *m) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    const IrType *w = &b->g->values[m->linear->operands[1]].type;
    IrValueId x = m->linear->operands[0];
    const ScLayout *x_layout = &b->layouts[x], *y_layout = &b->layouts[m->linear->results[0]];
    double active = linear_fraction(b, m->linear);
    k->K = w->dim[w->rank - 1];
    k->O = w->dim[w->rank - 2];
    k->select = m->linear->op == IR_OP_linear ? PG_SINGLE : m->linear->op == IR_OP_linear_all ? PG_ALL : PG_CHOSEN;
    k->x_layout = x_layout->planes;
    k->y_layout = y_layout->planes;
    sc_set_experts(k, x_layout);
    sc_set_experts(k, y_layout);
    const IrNode *norm = inlined_norm(b, x);
    if (norm != NULL) {
        sc_set_norm(b, p, norm, PG_LINEAR_NORM_W, PG_LINEAR_NORM_B);
        x = norm->operands[0];
    }
    sc_read(b, p, PG_LINEAR_X, x);
    sc_read_weight(b, p, PG_LINEAR_W, m->linear->operands[1], PG_PANELS, active);
    if (m->linear2 != NULL) sc_read_weight(b, p, PG_LINEAR_W2, m->linear2->operands[1], PG_PANELS, active);
    if (m->bias != NULL) sc_read_weight(b, p, PG_LINEAR_BIAS, m->bias->operands[1], PG_VECTOR, active);
    if (m->bias2 != NULL) sc_read_weight(b, p, PG_LINEAR_BIAS2, m->bias2->operands[1], PG_VECTOR, active);
    sc_read_experts(b, p, y_layout, PG_LINEAR_EXPERTS, PG_LINEAR_GROUPS);
}

/* The epilogue up to the sum over experts, with the convolution if there is one. */
static void add_own_steps(ScBuilder *b, ScPhaseId p, const LinearParts *m, const PsConv *conv) {
    PgActivation act = conv != NULL ? conv->act : m->act;
    if (m->bias != NULL) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_BIAS});
    if (conv != NULL) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_CONV});
    if (conv != NULL && conv->bias != IR_NONE) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_CONV_BIAS});
    if (act != PG_NO_ACT) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_ACT, .act = act});
    if (m->bias2 != NULL) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_BIAS2});
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
    ps_linear_name(b->g, m->linear->operands[1], what, sizeof what);
    ScPhaseId p = sc_new_phase(b, PG_COMBINE, m->sum, sc_phase_name(b, m->sum, su_printf(b->arena, "%s.sum", what)));
    sc_phase(b, p)->kernel.O = x->width;
    sc_phase(b, p)->kernel.x_layout = x->planes;
    sc_set_experts(&sc_phase(b, p)->kernel, x);
    add_sum(b, p, m->sum);
    sc_read_buffer(b, p, PG_COMBINE_X, parts);
    sc_read_experts(b, p, x, PG_COMBINE_EXPERTS, PG_COMBINE_GROUPS);
    if (pg_sum(&sc_phase(b, p)->kernel) == PG_WEIGHTED_SUM) sc_read(b, p, PG_COMBINE_COMBINE_W, m->sum->operands[1]);
    fill_tail(b, p, m, PG_COMBINE_ADDEND, PG_COMBINE_RESIDUAL);
    sc_tile_rows(b, p, &b->layouts[m->last->results[0]]);
    sc_write(b, p, PG_COMBINE_Y, m->last->results[0]);
}

/* The convolution region that a linear layer of a one-row step can carry behind it: its only reader, unmixed. */
static bool conv_behind(const ScBuilder *b, const LinearParts *m, PsConv *out) {
    if (b->mode != PG_ROW || b->options->off[PS_ELEMENTWISE_FUSION] || m->sum != NULL || m->n_adds > 0) return false;
    if (m->act != PG_NO_ACT || m->scale != 1.0 || m->linear->op != IR_OP_linear) return false;
    IrNodeId user = ps_only_user(&b->uses, m->last->results[0]);
    if (user == IR_NONE || b->g->nodes[user].op != IR_OP_conv || b->g->nodes[user].region == IR_NONE) return false;
    return ps_match_conv(b->g, &b->uses, user, out) && !out->mixed;
}

static void fill_conv(ScBuilder *b, ScPhaseId p, const PsConv *conv) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    k->taps = b->g->values[conv->w].type.dim[1];
    sc_read_weight(b, p, PG_LINEAR_CONV_W, conv->w, PG_CHANNELS, 1.0);
    sc_read_weight(b, p, PG_LINEAR_CONV_B, conv->bias, PG_VECTOR, 1.0);
    if (conv->history != IR_NONE) sc_use_state(b, p, PG_LINEAR_HISTORY, conv->history);
}

void sc_phase_linear(ScBuilder *b, const PsGroup *nodes) {
    LinearParts m = find_parts(b, nodes);
    const ScLayout *y = &b->layouts[m.linear->results[0]];
    char what[96];
    ps_linear_name(b->g, m.linear->operands[1], what, sizeof what);
    bool head = sc_is_head(b, m.linear);
    const IrNode *last = ps_maker(b->g, b->g->logits);
    if (head && last->op == IR_OP_scale) m.scale = last->attrs[IR_SCALE_factor].f;
    sc_prepare_groups(b, y);
    ScPhaseId p = sc_new_phase(b, PG_LINEAR, m.linear, head ? "head" : sc_phase_name(b, m.linear, what));
    fill_linear(b, p, &m);
    bool apart = m.sum != NULL && b->mode == PG_BLOCK;
    PsConv conv;
    bool carries = conv_behind(b, &m, &conv);
    IrValueId result = m.last->results[0];
    add_own_steps(b, p, &m, carries ? &conv : NULL);
    if (carries) {
        fill_conv(b, p, &conv);
        b->skip_conv[b->g->values[conv.y].node] = true;
        result = conv.y;
    }
    if (m.sum != NULL && !apart) {
        add_sum(b, p, m.sum);
        if (m.sum->op != IR_OP_plane_sum) sc_read(b, p, PG_LINEAR_COMBINE_W, m.sum->operands[1]);
    }
    if (!apart) fill_tail(b, p, &m, PG_LINEAR_ADDEND, PG_LINEAR_RESIDUAL);
    if (head) sc_add_step(b, p, (PgEpilogueStep){.kind = PG_STEP_LOGITS});
    linear_tiles(b, p, y);
    if (head) return;
    if (!apart) {
        sc_write(b, p, PG_LINEAR_Y, result);
        return;
    }
    int32_t parts = sc_write_buffer(b, p, PG_LINEAR_Y, sc_buffer_bytes(y, b->mode), what);
    combine_phase(b, &m, parts);
}

/* ---------------------------------------------------------------------------------------------- router */

void sc_phase_route(ScBuilder *b, const PsGroup *nodes) {
    const IrNode *linear = NULL, *bias = NULL, *select = NULL, *gates = NULL, *score = NULL;
    for (int i = 0; i < nodes->n; i++) {
        const IrNode *node = &b->g->nodes[nodes->nodes[i]];
        if (node->op == IR_OP_linear)
            linear = node;
        else if (node->op == IR_OP_add_bias)
            bias = node;
        else if (node->op == IR_OP_select)
            select = node;
        else if (node->op == IR_OP_gates)
            gates = node;
        else
            score = node;
    }
    const IrType *w = &b->g->values[linear->operands[1]].type;
    ScPhaseId p = sc_new_phase(b, PG_ROUTE, linear, sc_phase_name(b, linear, "router"));
    PgKernel *k = &sc_phase(b, p)->kernel;
    k->K = w->dim[1];
    k->O = k->E = w->dim[0];
    k->k = select->attrs[IR_SELECT_k].i;
    k->bias = bias != NULL;
    k->sigmoid = score->op == IR_OP_sigmoid;
    k->select_bias = select->n_operands > 1;
    k->normalize = gates->attrs[IR_GATES_normalize].i != 0;
    k->scaled = gates->attrs[IR_GATES_scale].f != 1.0;
    k->scale = gates->attrs[IR_GATES_scale].f;
    IrValueId x = linear->operands[0];
    const IrNode *norm = inlined_norm(b, x);
    if (norm != NULL) {
        sc_set_norm(b, p, norm, PG_ROUTE_NORM_W, PG_ROUTE_NORM_B);
        x = norm->operands[0];
    }
    sc_read(b, p, PG_ROUTE_X, x);
    sc_read_weight(b, p, PG_ROUTE_W, linear->operands[1], PG_PANELS, 1.0);
    if (bias != NULL) sc_read_weight(b, p, PG_ROUTE_BIAS, bias->operands[1], PG_VECTOR, 1.0);
    if (k->select_bias) sc_read_weight(b, p, PG_ROUTE_SELECT_BIAS, select->operands[1], PG_VECTOR, 1.0);
    sc_phase(b, p)->pg.count = PG_PER_ROW;
    sc_write(b, p, PG_ROUTE_EXPERTS, select->results[0]);
    sc_write(b, p, PG_ROUTE_COMBINE_W, gates->results[0]);
}

/* ---------------------------------------------------------------------------------------------- convolution and scan */

void sc_phase_conv(ScBuilder *b, const PsConv *conv) {
    const IrNode *node = ps_maker(b->g, conv->y);
    ScPhaseId p = sc_new_phase(b, PG_CONV, node, sc_phase_name(b, node, "conv"));
    PgKernel *k = &sc_phase(b, p)->kernel;
    const IrType *w = &b->g->values[conv->w].type;
    k->O = b->layouts[conv->y].width;
    k->taps = w->dim[w->rank - 1];
    k->act = conv->act;
    k->bias = conv->bias != IR_NONE;
    k->per_expert = conv->mixed;
    double active = 1.0;
    if (conv->mixed) {
        k->E = w->dim[0];
        k->k = b->g->values[conv->expert_indices].type.dim[1];
        active = sc_chosen_fraction(b, conv->expert_indices);
    }
    sc_read(b, p, PG_CONV_X, conv->x);
    sc_read_weight(b, p, PG_CONV_W, conv->w, PG_CHANNELS, active);
    sc_read_weight(b, p, PG_CONV_BIAS, conv->bias, PG_VECTOR, active);
    if (conv->history != IR_NONE) sc_use_state(b, p, PG_CONV_HISTORY, conv->history);
    sc_read(b, p, PG_CONV_EXPERTS, conv->expert_indices);
    sc_read(b, p, PG_CONV_COMBINE_W, conv->combine_weights);
    sc_tile_segments(b, p);
    sc_write(b, p, PG_CONV_Y, conv->y);
}

/* Fraction of a scan's own parameters that a decoded token reads. */
static double scan_fraction(const ScBuilder *b, const PsScan *s, bool own) {
    if (!own || s->experts == PG_SCAN_UPDATE) return 1.0;
    return sc_chosen_fraction(b, s->expert_indices);
}

static void fill_scan(ScBuilder *b, PgKernel *k, const PsScan *s) {
    const IrType *A = &b->g->values[s->A].type, *dt = &b->g->values[s->dt_w].type;
    const ScLayout *delta = &b->layouts[s->delta.value];
    k->O = A->dim[A->rank - 2];
    k->N = A->dim[A->rank - 1];
    k->R = dt->dim[dt->rank - 1];
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
    k->gate = s->z != IR_NONE;
    k->act = s->act;
    sc_set_experts(k, delta);
    if (s->expert_indices == IR_NONE) return;
    PsChoice choice = ps_choice(b->g, s->expert_indices);
    k->E = choice.E;
    k->k = choice.k;
}

void sc_phase_scan(ScBuilder *b, const PsScan *s) {
    const IrNode *node = ps_maker(b->g, s->y);
    const ScLayout *delta = &b->layouts[s->delta.value];
    sc_prepare_groups(b, delta);
    ScPhaseId p = sc_new_phase(b, PG_SCAN, node, sc_phase_name(b, node, "scan"));
    fill_scan(b, &sc_phase(b, p)->kernel, s);
    sc_read(b, p, PG_SCAN_DELTA, s->delta.value);
    sc_read(b, p, PG_SCAN_B, s->B.value);
    sc_read(b, p, PG_SCAN_C, s->C.value);
    sc_read(b, p, PG_SCAN_X, s->c);
    sc_read(b, p, PG_SCAN_Z, s->z);
    sc_read_weight(b, p, PG_SCAN_DT_W, s->dt_w, PG_PANELS, scan_fraction(b, s, s->own_dt));
    sc_read_weight(b, p, PG_SCAN_DT_B, s->dt_b, PG_VECTOR, scan_fraction(b, s, s->own_dt));
    sc_read_weight(b, p, PG_SCAN_A, s->A, PG_CHANNELS, scan_fraction(b, s, s->own_A));
    sc_read_weight(b, p, PG_SCAN_D, s->D, PG_VECTOR, scan_fraction(b, s, s->own_D));
    sc_use_state(b, p, PG_SCAN_STATE, s->state);
    sc_read(b, p, PG_SCAN_EXPERTS, s->expert_indices);
    sc_read(b, p, PG_SCAN_COMBINE_W, s->combine_weights);
    sc_read_experts(b, p, delta, PG_SCAN_EXPERTS, PG_SCAN_GROUPS);
    sc_tile_segments(b, p);
    sc_write(b, p, PG_SCAN_Y, s->y);
}

/* ---------------------------------------------------------------------------------------------- attention */

/* The table of cosines and sines for (theta, dim): one for all blocks that agree. */
static int32_t rope_table(ScBuilder *b, double theta, int64_t dim, int64_t *out_index) {
    size_t i = 0;
    while (i < b->n_ropes && !(b->ropes[i].theta == theta && b->ropes[i].dim == dim)) i++;
    if (i == b->n_ropes) {
        b->ropes = su_grow(b->arena, b->ropes, &b->ropes_capacity, i + 1, sizeof *b->ropes);
        b->rope_buffers = su_grow(&b->scratch, b->rope_buffers, &b->rope_buffers_capacity, i + 1, sizeof *b->rope_buffers);
        b->ropes[b->n_ropes] = (PgRope){.theta = theta, .dim = dim};
        b->rope_buffers[b->n_ropes++] = -1;
    }
    *out_index = (int64_t)i;
    if (b->rope_buffers[i] < 0) {
        uint64_t row = su_round_up((uint64_t)dim * 4, 64); /* dim/2 pairs of f32 */
        b->rope_buffers[i] = sc_new_buffer(b, b->mode == PG_ROW ? (ScBytes){0, row} : (ScBytes){row, 0}, "rope");
    }
    return b->rope_buffers[i];
}

/* The value before rope, and the rope itself (NULL without). */
static IrValueId before_rope(const ScBuilder *b, IrValueId value, const IrNode **out_rope) {
    const IrNode *maker = ps_maker(b->g, value);
    *out_rope = maker != NULL && maker->op == IR_OP_rope ? maker : NULL;
    return *out_rope != NULL ? maker->operands[0] : value;
}

static void fill_attention(ScBuilder *b, PgKernel *k, const IrNode *attend) {
    k->heads = attend->attrs[IR_ATTEND_heads].i;
    k->kv_heads = attend->attrs[IR_ATTEND_kv_heads].i;
    k->O = attend->attrs[IR_ATTEND_head_dim].i;
    k->window = attend->attrs[IR_ATTEND_window].i;
    k->cap = sc_cache_positions(b->g, attend);
}

/* Two phases: rope and the caches, then the scores. Rope is always part of the first. */
void sc_phase_attention(ScBuilder *b, const IrNode *attend) {
    const IrNode *rope, *k_rope;
    IrValueId q = before_rope(b, attend->operands[0], &rope), k = before_rope(b, attend->operands[1], &k_rope);
    ScPhaseId store = sc_new_phase(b, PG_KV_STORE, attend, sc_phase_name(b, attend, "store"));
    fill_attention(b, &sc_phase(b, store)->kernel, attend);
    sc_phase(b, store)->kernel.window = 0;
    sc_read(b, store, PG_KV_Q, q);
    sc_read(b, store, PG_KV_K, k);
    sc_read(b, store, PG_KV_V, attend->operands[2]);
    sc_use_state(b, store, PG_KV_K_CACHE, attend->operands[4]);
    sc_use_state(b, store, PG_KV_V_CACHE, attend->operands[5]);
    sc_phase(b, store)->pg.count = PG_PER_ROW;
    if (rope != NULL) {
        sc_phase(b, store)->kernel.rope = true;
        sc_phase(b, store)->kernel.rope_dim = rope->attrs[IR_ROPE_dim].i;
        sc_read_buffer(
            b, store, PG_KV_TABLE,
            rope_table(b, rope->attrs[IR_ROPE_theta].f, rope->attrs[IR_ROPE_dim].i, &sc_phase(b, store)->kernel.rope_table));
        sc_write(b, store, PG_KV_Y, attend->operands[0]);
    }
    ScPhaseId p = sc_new_phase(b, PG_ATTEND, attend, sc_phase_name(b, attend, "attend"));
    fill_attention(b, &sc_phase(b, p)->kernel, attend);
    sc_read(b, p, PG_ATTEND_Q, attend->operands[0]);
    sc_use_state(b, p, PG_ATTEND_K_CACHE, attend->operands[4]);
    sc_use_state(b, p, PG_ATTEND_V_CACHE, attend->operands[5]);
    sc_phase(b, p)->pg.count = PG_PER_ROW;
    sc_phase(b, p)->pg.fixed = (uint32_t)sc_phase(b, p)->kernel.heads;
    sc_write(b, p, PG_ATTEND_Y, attend->results[0]);
}
