/* Phases: what each region, and each node outside one, becomes in the mode at hand. Everything a back end needs is written into
 * the kernel description here; nothing later matches patterns. Regions of more than one kind of work (linear layer, scan, attention) are
 * in phases_linear.c and phases_fused.c, single operations here. */
#include "schedule/phases.h"
#include "schedule/few.h"

#include <string.h>

ScPhaseId sc_new_phase(ScBuilder *b, PgKind kind, const IrNode *node, const char *name) {
    b->phases = su_grow(&b->scratch, b->phases, &b->phases_capacity, b->n_phases + 1, sizeof *b->phases);
    ScPhase *p = &b->phases[b->n_phases];
    *p = (ScPhase){.kernel = {.kind = kind, .mode = b->mode}};
    p->pg = (PgPhase){.count = PG_ONCE, .fixed = 1, .block = node->block, .line = node->span.line, .name = name};
    return (ScPhaseId)b->n_phases++;
}

const char *sc_phase_name(ScBuilder *b, const IrNode *node, const char *what) {
    if (node->block < 0) return su_strdup(b->arena, what);
    return su_printf(b->arena, "blocks.%d.%s", node->block, what);
}

/* ---------------------------------------------------------------------------------------------- operands */

int32_t sc_new_buffer(ScBuilder *b, ScBytes bytes, const char *name) {
    b->buffers = su_grow(&b->scratch, b->buffers, &b->buffers_capacity, b->n_buffers + 1, sizeof *b->buffers);
    b->buffers[b->n_buffers] = (ScBuffer){.bytes = bytes, .name = name, .writer = -1};
    return (int32_t)b->n_buffers++;
}

static void touch(ScPhase *p, int32_t buffer) {
    for (int i = 0; i < p->n_reads; i++)
        if (p->reads[i] == buffer) return;
    if (p->n_reads == SC_MAX_TOUCHED) SU_BUG("phase %s reads too many buffers", p->pg.name);
    p->reads[p->n_reads++] = buffer;
}

void sc_read_buffer(ScBuilder *b, ScPhaseId p, int slot, int32_t buffer) {
    sc_phase(b, p)->operands[slot] = (ScOperand){.space = PG_ARENA, .buffer = buffer};
    touch(sc_phase(b, p), buffer);
}

void sc_read(ScBuilder *b, ScPhaseId p, int slot, IrValueId value) {
    if (value == IR_NONE) return;
    if (b->buffer_of[value] < 0)
        SU_BUG("phase %s reads %%%s, which no phase writes", sc_phase(b, p)->pg.name, b->g->values[value].name);
    sc_read_buffer(b, p, slot, b->buffer_of[value]);
    sc_phase(b, p)->operands[slot].offset = b->buffer_start[value].fixed;
    sc_phase(b, p)->operands[slot].per_row = b->buffer_start[value].per_row;
}

int32_t sc_write_buffer(ScBuilder *b, ScPhaseId p, int slot, ScBytes bytes, const char *name) {
    int32_t buffer = sc_new_buffer(b, bytes, name);
    b->buffers[buffer].writer = (int32_t)p;
    sc_phase(b, p)->operands[slot] = (ScOperand){.space = PG_ARENA, .buffer = buffer};
    return buffer;
}

void sc_write(ScBuilder *b, ScPhaseId p, int slot, IrValueId value) {
    ScBytes bytes = sc_buffer_bytes(&b->layouts[value], b->mode);
    b->buffer_of[value] = sc_write_buffer(b, p, slot, bytes, b->g->values[value].name);
    sc_phase(b, p)->pg.hidden = b->hidden[value];
    sc_phase(b, p)->pg.hidden_slot = b->hidden[value] > 0 ? (uint32_t)slot : 0;
}

void sc_write_parts(ScBuilder *b, ScPhaseId p, int slot, const IrValueId *values, int n) {
    ScBytes bytes = {0};
    for (int i = 0; i < n; i++) {
        ScBytes part = sc_buffer_bytes(&b->layouts[values[i]], b->mode);
        b->buffer_start[values[i]] = bytes;
        bytes = (ScBytes){bytes.per_row + part.per_row, bytes.fixed + part.fixed};
    }
    int32_t buffer = sc_write_buffer(b, p, slot, bytes, b->g->values[values[0]].name);
    for (int i = 0; i < n; i++) b->buffer_of[values[i]] = buffer;
}

void sc_read_weight(ScBuilder *b, ScPhaseId p, int slot, IrValueId value, PgPack pack, double active) {
    if (value == IR_NONE) return;
    const ScWeight *w = sc_packed(b, value, pack, active);
    sc_phase(b, p)->operands[slot] = (ScOperand){.space = PG_WEIGHTS, .offset = w->pg.offset};
    if (pack == PG_PANELS) sc_phase(b, p)->kernel.dtype = (IrDtype)w->pg.dtype;
}

void sc_read_weight_as(ScBuilder *b, ScPhaseId p, int slot, IrValueId value, const PgWeight *shape, double active) {
    const ScWeight *w = sc_packed_as(b, value, shape, active);
    sc_phase(b, p)->operands[slot] = (ScOperand){.space = PG_WEIGHTS, .offset = w->pg.offset};
}

void sc_touch_state(ScBuilder *b, ScPhaseId p, IrValueId value) {
    if (value != IR_NONE) sc_phase(b, p)->states[sc_phase(b, p)->n_states++] = value;
}

void sc_use_state(ScBuilder *b, ScPhaseId p, int slot, IrValueId value) {
    if (value == IR_NONE) return;
    sc_phase(b, p)->operands[slot] = (ScOperand){.space = PG_STATE, .offset = b->state_offset[value]};
    sc_touch_state(b, p, value);
}

/* The group table of some expert indices; the phase that makes it comes first where it is needed first. */
static int32_t group_table(ScBuilder *b, IrValueId expert_indices) {
    if (b->groups_of[expert_indices] >= 0) return b->groups_of[expert_indices];
    const IrNode *select = ps_maker(b->g, expert_indices);
    PsChoice choice = ps_choice(b->g, expert_indices);
    ScPhaseId p = sc_new_phase(b, PG_GROUP, select, sc_phase_name(b, select, "group"));
    sc_phase(b, p)->kernel.E = choice.E;
    sc_phase(b, p)->kernel.k = choice.k;
    sc_read(b, p, PG_GROUP_EXPERTS, expert_indices);
    b->groups_of[expert_indices] = sc_write_buffer(b, p, PG_GROUP_GROUPS, sc_group_bytes(choice.E, choice.k), "groups");
    return b->groups_of[expert_indices];
}

void sc_prepare_groups(ScBuilder *b, const ScLayout *layout) {
    if (b->mode == PG_BLOCK && layout->planes == PG_POSITIONS) group_table(b, layout->expert_indices);
}

void sc_read_experts(ScBuilder *b, ScPhaseId p, const ScLayout *layout, int experts_slot, int groups_slot) {
    if (layout->planes != PG_POSITIONS) return;
    sc_read(b, p, experts_slot, layout->expert_indices);
    if (b->mode == PG_BLOCK) sc_read_buffer(b, p, groups_slot, group_table(b, layout->expert_indices));
}

double sc_chosen_fraction(const ScBuilder *b, IrValueId expert_indices) {
    PsChoice choice = ps_choice(b->g, expert_indices);
    return (double)choice.k / (double)choice.E;
}

void sc_tile_rows(const ScBuilder *b, ScPhaseId p, const ScLayout *y) {
    if (b->mode == PG_ROW) return;
    sc_phase(b, p)->pg.count = PG_PER_ROW_BLOCK;
    if (y->planes != PG_POSITIONS) return;
    sc_phase(b, p)->pg.count = PG_PER_POSITION_BLOCK;
    sc_phase(b, p)->pg.E = (uint32_t)y->E;
    sc_phase(b, p)->pg.k = (uint32_t)y->k;
}

void sc_add_step(ScBuilder *b, ScPhaseId p, PgEpilogueStep step) { pg_epilogue_add(&sc_phase(b, p)->kernel.epilogue, step); }

void sc_set_experts(PgKernel *k, const ScLayout *layout) {
    if (layout->E > k->E) k->E = layout->E;
    if (layout->k > k->k) k->k = layout->k;
}

void sc_set_groups(PgKernel *k, const IrNode *select) {
    if (select->attrs[IR_SELECT_top].i == select->attrs[IR_SELECT_groups].i) return; /* all experts may be chosen */
    k->expert_groups = select->attrs[IR_SELECT_groups].i;
    k->top_groups = select->attrs[IR_SELECT_top].i;
}

/* ---------------------------------------------------------------------------------------------- single operations */

void sc_phase_embed(ScBuilder *b, const IrNode *node) {
    IrValueId w = node->operands[1];
    const IrType *type = &b->g->values[w].type;
    ScPhaseId p = sc_new_phase(b, PG_EMBED, node, "embed");
    sc_phase(b, p)->kernel.K = type->dim[0];
    sc_phase(b, p)->kernel.O = type->dim[1];
    sc_phase(b, p)->kernel.scaled = node->attrs[IR_EMBED_scale].f != 1.0;
    sc_phase(b, p)->kernel.scale = sc_phase(b, p)->kernel.scaled ? node->attrs[IR_EMBED_scale].f : 0.0;
    sc_read_weight(b, p, PG_EMBED_W, w, PG_PANELS, 1.0 / (double)type->dim[0]);
    sc_tile_rows(b, p, &b->layouts[node->results[0]]);
    sc_write(b, p, PG_EMBED_Y, node->results[0]);
    sc_leave_norm(b, p, node->results[0]);
}

/* Runs have panels of their own, so that each begins at a lane 0. */
static void set_runs(ScBuilder *b, ScPhaseId p, const IrNode *norm, int64_t runs, int w_slot) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    int64_t weights = ir_dim(&b->g->values[norm->operands[1]].type, IR_DIM_CHANNEL), run = k->O / runs;
    k->runs = runs;
    k->one_run_w = weights == run;
    PgWeight shape = {.pack = PG_VECTOR, .planes = weights / run, .O = run, .K = 1};
    sc_read_weight_as(b, p, w_slot, norm->operands[1], &shape, 1.0);
}

void sc_set_norm(ScBuilder *b, ScPhaseId p, const IrNode *norm, int w_slot, int b_slot) {
    sc_phase(b, p)->kernel.norm = norm->op == IR_OP_rms_norm ? PG_RMS : PG_LAYER;
    sc_phase(b, p)->kernel.eps = norm->attrs[norm->op == IR_OP_rms_norm ? IR_RMS_NORM_eps : IR_LAYER_NORM_eps].f;
    int64_t runs = norm->op == IR_OP_rms_norm ? norm->attrs[IR_RMS_NORM_runs].i : 1;
    if (runs > 1)
        set_runs(b, p, norm, runs, w_slot);
    else
        sc_read_weight(b, p, w_slot, norm->operands[1], PG_VECTOR, 1.0);
    if (norm->op == IR_OP_layer_norm) sc_read_weight(b, p, b_slot, norm->operands[2], PG_VECTOR, 1.0);
}

void sc_phase_norm(ScBuilder *b, const IrNode *node) {
    const ScLayout *layout = &b->layouts[node->results[0]];
    char what[96];
    ps_linear_name(b->g, node->operands[1], what, sizeof what);
    sc_prepare_groups(b, layout);
    ScPhaseId p = sc_new_phase(b, PG_NORM, node, sc_phase_name(b, node, what));
    sc_phase(b, p)->kernel.K = sc_phase(b, p)->kernel.O = layout->width;
    sc_phase(b, p)->kernel.x_layout = sc_phase(b, p)->kernel.y_layout = layout->planes;
    sc_set_experts(&sc_phase(b, p)->kernel, layout);
    sc_read(b, p, PG_NORM_X, node->operands[0]);
    sc_set_norm(b, p, node, PG_NORM_W, PG_NORM_B);
    sc_tile_rows(b, p, layout);
    if (b->fused[node->results[0]] & SC_OUTPUT_ROWS) {
        sc_phase(b, p)->kernel.gather_out_rows = true;
        sc_phase(b, p)->pg.count = PG_PER_OUT_ROW_BLOCK;
    }
    sc_write(b, p, PG_NORM_Y, node->results[0]);
}

/* Fraction of an unfused operation's weight that a decoded token reads: the chosen experts' where it takes a route. */
static double op_fraction(const ScBuilder *b, const IrNode *node) {
    const char *expert_indices = strchr(ir_op_info(node->op)->operands, 'i');
    return expert_indices == NULL ? 1.0 : sc_chosen_fraction(b, node->operands[expert_indices - ir_op_info(node->op)->operands]);
}

/* Weight operand of an unfused operation, and whether it has a plane per expert. */
static void op_weight(ScBuilder *b, ScPhaseId p, const IrNode *node, IrValueId w) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    if (ps_weight(b->g, w) == NULL) { /* a mixed parameter */
        k->mixed = true;
        sc_read(b, p, PG_OP_W, w);
        return;
    }
    const IrType *type = &b->g->values[w].type;
    bool channels = ir_dim(type, IR_DIM_STATE) > 0 || ir_dim(type, IR_DIM_TAP) > 0;
    int64_t E = ir_dim(type, IR_DIM_EXPERT), J = ir_dim(type, IR_DIM_CHANNEL);
    k->per_expert = E > 0;
    if (!channels && J != k->O) { /* one for several channels: it is packed for each of them */
        PgWeight shape = {.pack = PG_VECTOR, .planes = E > 0 ? E : 1, .O = k->O, .K = 1, .rows = J, .times = k->O / J};
        sc_read_weight_as(b, p, PG_OP_W, w, &shape, E > 0 ? op_fraction(b, node) : 1.0);
        return;
    }
    sc_read_weight(b, p, PG_OP_W, w, channels ? PG_CHANNELS : PG_VECTOR, E > 0 ? op_fraction(b, node) : 1.0);
}

static void op_attributes(const IrNode *node, PgKernel *k) {
    if (node->op == IR_OP_slice) k->start = node->attrs[IR_SLICE_start].i;
    if (node->op == IR_OP_split) k->start = node->attrs[IR_SPLIT_start].i;
    if (node->op == IR_OP_repeat) {
        k->times = node->attrs[IR_REPEAT_times].i;
        k->run = node->attrs[IR_REPEAT_run].i;
    }
    if (node->op == IR_OP_inject_sum) {
        k->groups = node->attrs[IR_INJECT_SUM_groups].i;
        k->addend = node->n_operands > 2;
    }
    if (node->op == IR_OP_inject) k->groups = node->attrs[IR_INJECT_groups].i;
    if (node->op == IR_OP_contract) k->groups = node->attrs[IR_CONTRACT_groups].i;
    if (node->op == IR_OP_scale) k->scale = node->attrs[IR_SCALE_factor].f;
    if (node->op == IR_OP_select) sc_set_groups(k, node);
    if (node->op == IR_OP_clamp) {
        k->low = node->attrs[IR_CLAMP_low].f;
        k->high = node->attrs[IR_CLAMP_high].f;
    }
    if (node->op == IR_OP_gates) {
        k->normalize = node->attrs[IR_GATES_normalize].i != 0;
        k->scaled = node->attrs[IR_GATES_scale].f != 1.0;
        k->scale = node->attrs[IR_GATES_scale].f;
    }
}

/* Operands by their letter in ops.def. Combine weights are `x` to an expert sum and `g` elsewhere. */
static void op_operands(ScBuilder *b, ScPhaseId p, const IrNode *node) {
    const char *letters = ir_op_info(node->op)->operands;
    int slot = PG_OP_X;
    for (int i = 0; i < node->n_operands; i++) {
        IrValueId value = node->operands[i];
        if (letters[i] == 'w' || letters[i] == 'W') {
            op_weight(b, p, node, value);
            sc_phase(b, p)->kernel.select_bias = node->op == IR_OP_select;
        } else if (letters[i] == 'i' || letters[i] == 'I') {
            sc_read(b, p, PG_OP_EXPERTS, value);
        } else if (letters[i] == 'g') {
            sc_read(b, p, PG_OP_COMBINE_W, value);
        } else if (letters[i] == 's' || letters[i] == 'S') {
            sc_use_state(b, p, PG_OP_STATE, value);
        } else {
            if (slot == PG_OP_X) sc_phase(b, p)->kernel.x_layout = b->layouts[value].planes;
            if (slot == PG_OP_Z) sc_phase(b, p)->kernel.z_layout = b->layouts[value].planes;
            sc_set_experts(&sc_phase(b, p)->kernel, &b->layouts[value]);
            sc_read(b, p, slot++, value);
        }
    }
}

/* State dimension of an operation's channels; 0 where it has none. */
static int64_t op_state_dim(const PgKernel *k, const ScLayout *x, const ScLayout *y) {
    if (k->kind == PG_CONTRACT) return x->N;
    if (k->kind == PG_ELEMENTWISE) return y->N > 1 ? y->N : 0;
    return k->kind == PG_MIX || k->kind == PG_OUTER || k->kind == PG_INJECT || k->kind == PG_INJECT_SUM || k->kind == PG_RECUR
               ? y->N
               : 0;
}

/* Sizes: O the width of the result, K that of the first operand; for routing both are the number of experts. */
static void op_sizes(ScBuilder *b, ScPhaseId p, const IrNode *node) {
    PgKernel *k = &sc_phase(b, p)->kernel;
    const ScLayout *y = &b->layouts[node->results[0]];
    const ScLayout *x = &b->layouts[node->operands[0]];
    k->x_layout = x->planes;
    k->y_layout = y->planes;
    sc_set_experts(k, x);
    sc_set_experts(k, y);
    k->K = x->width;
    k->O = y->width;
    k->N = op_state_dim(k, x, y);
    if (k->kind == PG_SOFTMAX || k->kind == PG_SELECT || k->kind == PG_GATES) k->E = k->K = k->O = x->width;
    if (k->kind == PG_MIX) {
        IrValueId expert_indices = node->operands[1];
        k->E = ir_dim(&b->g->values[node->operands[0]].type, IR_DIM_EXPERT);
        k->k = ir_dim(&b->g->values[expert_indices].type, IR_DIM_SLOT);
    }
}

static void op_tiles(ScBuilder *b, ScPhaseId p, const ScLayout *y) {
    const PgKind kind = sc_phase(b, p)->kernel.kind;
    if (kind == PG_RECUR || kind == PG_CONV_EACH || kind == PG_DELAY || kind == PG_ANGLE) {
        sc_phase(b, p)->pg.count = b->mode == PG_ROW ? PG_ONCE : PG_PER_SEGMENT;
        sc_phase(b, p)->pg.fixed = (uint32_t)pg_panels(sc_phase(b, p)->kernel.O);
        return;
    }
    sc_tile_rows(b, p, y);
}

static void set_rotation(const ScBuilder *b, PgKernel *k, const IrNode *rotate) {
    k->heads = rotate->attrs[IR_ROTATE_heads].i;
    k->rope_dim = 2 * b->layouts[rotate->operands[1]].width / k->heads;
}

static ScPhaseId op_phase(ScBuilder *b, const IrNode *node, PgKind kind) {
    const ScLayout *y = &b->layouts[node->results[0]];
    const ScLayout *x = &b->layouts[node->operands[0]];
    ScLayout routed = y->planes == PG_POSITIONS ? *y : *x;
    sc_prepare_groups(b, &routed);
    ScPhaseId p = sc_new_phase(b, kind, node, sc_phase_name(b, node, ir_op_info(node->op)->name));
    op_sizes(b, p, node);
    op_operands(b, p, node);
    op_attributes(node, &sc_phase(b, p)->kernel);
    if (kind == PG_RECUR) sc_phase(b, p)->kernel.one_a = x->N == 1 && y->N > 1;
    if (kind == PG_ANGLE) sc_phase(b, p)->kernel.heads = b->layouts[node->operands[1]].width;
    if (kind == PG_ROTATE) set_rotation(b, &sc_phase(b, p)->kernel, node);
    if (kind == PG_CONV_EACH) sc_phase(b, p)->kernel.taps = ir_dim(&b->g->values[node->operands[1]].type, IR_DIM_TAP);
    if ((node->op == IR_OP_recur || node->op == IR_OP_conv_each) && node->n_operands == 4) {
        sc_phase(b, p)->kernel.held = true;
        sc_phase(b, p)->kernel.k = ir_dim(&b->g->values[node->operands[3]].type, IR_DIM_SLOT);
    }
    sc_read_experts(b, p, &routed, PG_OP_EXPERTS, PG_OP_GROUPS);
    op_tiles(b, p, y);
    int y_slot = node->op == IR_OP_select ? PG_OP_EXPERTS : node->op == IR_OP_gates ? PG_OP_COMBINE_W : PG_OP_Y;
    sc_write(b, p, y_slot, node->results[0]);
    return p;
}

void sc_phase_op(ScBuilder *b, const IrNode *node, PgKind kind) { op_phase(b, node, kind); }

void sc_phase_elementwise(ScBuilder *b, const IrNode *node, PgElementwise ew, PgActivation act) {
    ScPhaseId p = op_phase(b, node, PG_ELEMENTWISE);
    sc_phase(b, p)->kernel.ew = ew;
    sc_phase(b, p)->kernel.act = act;
    if (pg_ew_is_binary(ew))
        sc_phase(b, p)->kernel.z_repeats = b->layouts[node->operands[1]].width < b->layouts[node->operands[0]].width;
}

/* Sums over experts that no linear layer has taken. */
void sc_phase_sum(ScBuilder *b, const IrNode *node) {
    const ScLayout *x = &b->layouts[node->operands[0]];
    sc_prepare_groups(b, x);
    ScPhaseId p = sc_new_phase(b, PG_COMBINE, node, sc_phase_name(b, node, ir_op_info(node->op)->name));
    sc_phase(b, p)->kernel.O = x->width;
    sc_phase(b, p)->kernel.x_layout = x->planes;
    sc_add_step(b, p, (PgEpilogueStep){.kind = node->op == IR_OP_plane_sum ? PG_STEP_PLANE_SUM : PG_STEP_WEIGHTED_SUM});
    sc_set_experts(&sc_phase(b, p)->kernel, x);
    sc_read(b, p, PG_COMBINE_X, node->operands[0]);
    sc_read_experts(b, p, x, PG_COMBINE_EXPERTS, PG_COMBINE_GROUPS);
    if (node->op == IR_OP_expert_sum) {
        sc_read(b, p, PG_COMBINE_EXPERTS, node->operands[1]);
        sc_phase(b, p)->kernel.k = ir_dim(&b->g->values[node->operands[1]].type, IR_DIM_SLOT);
    }
    if (node->op != IR_OP_plane_sum) sc_read(b, p, PG_COMBINE_COMBINE_W, node->operands[node->n_operands - 1]);
    sc_tile_rows(b, p, &b->layouts[node->results[0]]);
    sc_write(b, p, PG_COMBINE_Y, node->results[0]);
}

/* A convolution alone: no bias, no activation, perhaps a mixed weight. */
void sc_phase_lone_conv(ScBuilder *b, const IrNode *node) {
    ScPhaseId p = sc_new_phase(b, PG_CONV, node, sc_phase_name(b, node, "conv"));
    IrValueId w = node->operands[1];
    sc_phase(b, p)->kernel.O = b->layouts[node->results[0]].width;
    sc_phase(b, p)->kernel.taps = ir_dim(&b->g->values[w].type, IR_DIM_TAP);
    sc_phase(b, p)->kernel.mixed = ps_weight(b->g, w) == NULL;
    sc_read(b, p, PG_CONV_X, node->operands[0]);
    if (sc_phase(b, p)->kernel.mixed)
        sc_read(b, p, PG_CONV_W, w);
    else
        sc_read_weight(b, p, PG_CONV_W, w, PG_CHANNELS, 1.0);
    if (node->n_operands > 2) sc_use_state(b, p, PG_CONV_HISTORY, node->operands[2]);
    sc_tile_segments(b, p);
    sc_write(b, p, PG_CONV_Y, node->results[0]);
}

void sc_tile_segments(const ScBuilder *b, ScPhaseId p) {
    sc_phase(b, p)->pg.count = b->mode == PG_ROW ? PG_ONCE : PG_PER_SEGMENT;
    sc_phase(b, p)->pg.fixed = (uint32_t)pg_panels(sc_phase(b, p)->kernel.O);
}
