/* Weights: the checkpoint's tensors, and the packed form each use needs. A tensor used twice in one form (tied embeddings) is
 * packed once. With the pass off, everything but q8 and q4 is packed as f32: the same values in more bytes. */
#include <string.h>

#include "ir/names.h"
#include "schedule/builder.h"
#include "support/size.h"

/* The place of a weight's tensor: a second form of one (neg_exp) stands for the same. */
static void collect_tensor(ScBuilder *b, IrNames *names, IrValueId value) {
    const IrValue *v = &b->g->values[value];
    IrNameSlot *slot = ir_names_at(names, v->name);
    if (slot->number < 0) {
        slot->number = (int32_t)b->n_tensors;
        PgTensor *t = &b->tensors[b->n_tensors++];
        *t = (PgTensor){.name = su_strdup(b->arena, v->name), .rank = v->type.rank, .dtype = v->type.dtype};
        memcpy(t->shape, v->type.dim, sizeof t->shape);
    }
    b->tensor_of[value] = (uint32_t)slot->number;
}

void sc_collect_tensors(ScBuilder *b) {
    IrNames names = {.arena = &b->scratch};
    size_t count = 0;
    for (size_t v = 0; v < b->g->n_values; v++) count += b->g->values[v].kind == IR_WEIGHT;
    b->tensors = SU_NEW_ARRAY(b->arena, PgTensor, count);
    b->tensor_of = SU_NEW_ARRAY(&b->scratch, uint32_t, b->g->n_values);
    for (size_t v = 0; v < b->g->n_values; v++)
        if (b->g->values[v].kind == IR_WEIGHT) collect_tensor(b, &names, (IrValueId)v);
    for (int pack = 0; pack < 3; pack++) {
        b->weight_of[pack] = SU_NEW_ARRAY(&b->scratch, int32_t, b->g->n_values);
        for (size_t v = 0; v < b->g->n_values; v++) b->weight_of[pack][v] = -1;
    }
}

static int64_t dim_or_one(const IrType *type, IrDim role) {
    int64_t dim = ir_dim(type, role);
    return dim > 0 ? dim : 1;
}

/* planes, O, K of a type as the pack sees it: K inputs, states or taps, of which a weight has one kind. */
static void set_shape(PgWeight *w, const IrType *type) {
    w->planes = dim_or_one(type, IR_DIM_EXPERT);
    w->O = ir_dim(type, IR_DIM_CHANNEL);
    w->K = dim_or_one(type, IR_DIM_INPUT) * dim_or_one(type, IR_DIM_STATE) * dim_or_one(type, IR_DIM_TAP);
}

/* Where the elements of `part` lie in the weight behind it. */
static void set_part(const ScBuilder *b, PgWeight *w, IrValueId part, int64_t first, const IrType *whole) {
    const IrNode *made = ps_maker(b->g, part);
    if (made->op == IR_OP_transpose) {
        w->run = whole->dim[2];
        return;
    }
    w->first = first;
    w->rows = whole->dim[made->attrs[IR_TAKE_dim].i];
}

const ScWeight *sc_packed(ScBuilder *b, IrValueId value, PgPack pack, double active) {
    PgWeight shape = {.pack = pack};
    set_shape(&shape, &b->g->values[value].type);
    return sc_packed_as(b, value, &shape, active);
}

const ScWeight *sc_packed_as(ScBuilder *b, IrValueId value, const PgWeight *shape, double active) {
    const PgPack pack = (PgPack)shape->pack;
    int32_t *known = &b->weight_of[pack][value];
    if (*known >= 0) {
        ScWeight *w = &b->weights[*known];
        if (active > w->active) w->active = active;
        return w;
    }
    int64_t first;
    IrValueId whole = ir_weight_behind(b->g, value, &first);
    const IrValue *v = &b->g->values[whole];
    PgWeight pg = *shape;
    pg.tensor = b->tensor_of[whole];
    if (whole != value) set_part(b, &pg, value, first, &v->type);
    pg.negexp = v->transform == IR_NEG_EXP;
    bool as_it_is = !b->options->off[PS_WEIGHTS] || ir_is_blocks(v->type.dtype); /* of which sums may be other than floats' */
    pg.dtype = pack == PG_PANELS && as_it_is ? v->type.dtype : IR_F32;
    pg.bytes = pg_weight_bytes(&pg);
    uint64_t end = b->n_weights > 0 ? b->weights[b->n_weights - 1].pg.offset + b->weights[b->n_weights - 1].pg.bytes : 0;
    pg.offset = su_round_up(end, pack == PG_PANELS && !b->packing_in_line ? 4096 : 64);
    *known = (int32_t)b->n_weights;
    b->weights = su_grow(&b->scratch, b->weights, &b->weights_capacity, b->n_weights + 1, sizeof *b->weights);
    b->weights[b->n_weights] = (ScWeight){pg, value, active};
    return &b->weights[b->n_weights++];
}

/* ---- states */

/* Floats of a state in its kernel's layout (ir/program.h); false when they overflow. */
static bool state_floats(const IrGraph *g, const IrNode *node, int operand, uint64_t *out) {
    const IrType *type = &g->values[node->operands[operand]].type;
    uint64_t count =
        (uint64_t)(dim_or_one(type, IR_DIM_STATE) * dim_or_one(type, IR_DIM_TAP)) * PG_LANES; /* of a panel of channels */
    if (ir_dim(type, IR_DIM_POSITION) == 0) {
        uint64_t planes = (uint64_t)dim_or_one(type, IR_DIM_EXPERT);
        int64_t channels = ir_dim(type, IR_DIM_CHANNEL);
        return su_mul(count, pg_panels(channels), &count) && su_mul(count, planes, out);
    }
    uint64_t head_dim = (uint64_t)node->attrs[IR_ATTEND_head_dim].i, kv_heads = (uint64_t)node->attrs[IR_ATTEND_kv_heads].i;
    if (operand == 5) head_dim = su_round_up(head_dim, PG_LANES);
    return su_mul(head_dim, kv_heads, &count) && su_mul(count, (uint64_t)sc_cache_positions(g, node), out);
}

static bool add_state(ScBuilder *b, const IrNode *node, int operand, SuDiags *diags) {
    IrValueId value = node->operands[operand];
    uint64_t floats = 0, end;
    if (!state_floats(b->g, node, operand, &floats) || floats > UINT64_MAX / 8 ||
        !su_add(b->state_bytes, su_round_up(floats * 4, 64), &end) || end > (uint64_t)1 << 48)
        return su_error(diags, node->span, "a smaller window or max_positions needs less", "state of a sequence is too large");
    b->state_offset[value] = b->state_bytes;
    b->states[b->n_states++] = (PgState){su_strdup(b->arena, b->g->values[value].name), b->state_bytes, end - b->state_bytes};
    b->state_bytes = end;
    return true;
}

bool sc_collect_states(ScBuilder *b, SuDiags *diags) {
    const IrGraph *g = b->g;
    b->state_offset = SU_NEW_ARRAY(&b->scratch, uint64_t, g->n_values);
    size_t count = 0;
    for (size_t v = 0; v < g->n_values; v++) count += g->values[v].kind == IR_STATE;
    b->states = SU_NEW_ARRAY(b->arena, PgState, count);
    for (size_t n = 0; n < g->n_nodes; n++)
        for (int i = 0; i < g->nodes[n].n_operands; i++)
            if (g->values[g->nodes[n].operands[i]].kind == IR_STATE && !add_state(b, &g->nodes[n], i, diags)) return false;
    return true;
}
