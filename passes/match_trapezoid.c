/* The two shapes of a mamba3 block that fuse (docs/language.md, "mamba3"): from the decay to the gated output, and what turns B and C:
 * what match.h says of ps_match_trapezoid and ps_match_turn. Nodes are found from the recurrence on, backwards and forwards; that nobody else reads what they make is asked
 * once, of all of them. */
#include <float.h>

#include "passes/match.h"

enum { MOST_RANKS = 16 }; /* kernels keep what sixteen rows of every rank put in on their stacks */

typedef struct Shape {
    const IrGraph *g;
    const PsUses *uses;
    PsMatch *m;
    bool ok;
} Shape;

static void set(Shape *s, IrRole role, IrValueId value) { s->m->roles.of[role] = value; }
static IrValueId get(const Shape *s, IrRole role) { return s->m->roles.of[role]; }

/* The maker of a value, which must be an `op` and joins the group; NULL, and the shape is another one, if it is not. */
static const IrNode *take(Shape *s, IrValueId value, IrOp op) {
    const IrNode *node = s->ok ? ps_maker(s->g, value) : NULL;
    s->ok = node != NULL && node->op == op && node->region == IR_NONE;
    if (!s->ok) return NULL;
    ps_group_add(&s->m->group, (IrNodeId)(node - s->g->nodes));
    return node;
}

/* Whether a value is the expected one, the first time any. */
static void expect(Shape *s, IrRole role, IrValueId value) {
    if (get(s, role) == IR_NONE) set(s, role, value);
    s->ok = s->ok && get(s, role) == value;
}

/* What stands for each channel of a head. */
static IrValueId take_repeat(Shape *s, IrValueId value) {
    const IrNode *repeat = take(s, value, IR_OP_repeat);
    s->ok = s->ok && repeat->attrs[IR_REPEAT_run].i == 1;
    return s->ok ? repeat->operands[0] : IR_NONE;
}

/* x of each rank: x ∘ mimo_x, or x itself where `from` is not such a product. */
static IrValueId take_spread(Shape *s, IrValueId value, IrRole weight) {
    const IrNode *product = s->ok ? ps_maker(s->g, value) : NULL;
    if (product == NULL || product->op != IR_OP_mul_param || ps_weight(s->g, product->operands[1]) == NULL) return value;
    take(s, value, IR_OP_mul_param);
    expect(s, weight, product->operands[1]);
    return product->operands[0];
}

/* α = exp(A·Δ), A = -max(f(a), floor) */
static void take_decay(Shape *s, IrValueId alpha) {
    const IrNode *exponential = take(s, alpha, IR_OP_exp), *product = s->ok ? take(s, exponential->operands[0], IR_OP_mul) : NULL;
    const IrNode *minus = s->ok ? take(s, product->operands[0], IR_OP_scale) : NULL;
    const IrNode *floor = s->ok ? take(s, minus->operands[0], IR_OP_clamp) : NULL;
    const IrNode *f = s->ok ? ps_maker(s->g, floor->operands[0]) : NULL;
    s->ok = f != NULL && (f->op == IR_OP_heavy_tail || f->op == IR_OP_softplus) && minus->attrs[IR_SCALE_factor].f == -1 &&
            floor->attrs[IR_CLAMP_high].f == DBL_MAX && take(s, floor->operands[0], f->op) != NULL;
    if (!s->ok) return;
    set(s, IR_ROLE_act, f->results[0]);
    set(s, IR_ROLE_a, f->operands[0]);
    set(s, IR_ROLE_delta, product->operands[1]);
}

/* γ = σ(λ')·Δ */
static void take_gamma(Shape *s, IrValueId gamma) {
    const IrNode *product = take(s, gamma, IR_OP_mul), *share = s->ok ? take(s, product->operands[0], IR_OP_sigmoid) : NULL;
    if (!s->ok) return;
    expect(s, IR_ROLE_trap, share->operands[0]);
    expect(s, IR_ROLE_delta, product->operands[1]);
}

/* β = σ(-λ')·Δ·α */
static void take_beta(Shape *s, IrValueId beta, IrValueId alpha) {
    const IrNode *whole = take(s, beta, IR_OP_mul), *part = s->ok ? take(s, whole->operands[0], IR_OP_mul) : NULL;
    const IrNode *share = s->ok ? take(s, part->operands[0], IR_OP_sigmoid) : NULL;
    const IrNode *minus = s->ok ? take(s, share->operands[0], IR_OP_scale) : NULL;
    s->ok = s->ok && minus->attrs[IR_SCALE_factor].f == -1 && whole->operands[1] == alpha;
    if (!s->ok) return;
    expect(s, IR_ROLE_trap, minus->operands[0]);
    expect(s, IR_ROLE_delta, part->operands[1]);
}

/* Σ_r (w ∘ v_r) ⊗ k_r; gives the repeated w's source and v. */
static IrValueId take_inject(Shape *s, const IrNode *inject, IrRole k, IrValueId *out_w) {
    const IrNode *product = s->ok ? take(s, inject->operands[0], IR_OP_mul) : NULL;
    if (!s->ok) return IR_NONE;
    set(s, k, inject->operands[1]);
    *out_w = take_repeat(s, product->operands[1]);
    return product->operands[0];
}

/* Both products: γ's is added to β's, of the token before. */
static void take_input(Shape *s, IrValueId b, IrValueId alpha) {
    IrValueId gamma = IR_NONE, beta = IR_NONE;
    const IrNode *now = take(s, b, IR_OP_inject_sum);
    s->ok = s->ok && now->n_operands == 3;
    const IrNode *before = s->ok ? take(s, now->operands[2], IR_OP_inject_sum) : NULL;
    s->ok = s->ok && before->n_operands == 2 && now->attrs[IR_INJECT_SUM_groups].i == before->attrs[IR_INJECT_SUM_groups].i;
    IrValueId v = take_inject(s, now, IR_ROLE_B, &gamma), last = take_inject(s, before, IR_ROLE_B_last, &beta);
    if (s->ok) take_gamma(s, gamma);
    if (s->ok) take_beta(s, beta, alpha);
    if (!s->ok) return;
    set(s, IR_ROLE_x, take_spread(s, v, IR_ROLE_mimo_x));
    const IrNode *delay = take(s, take_spread(s, last, IR_ROLE_mimo_x), IR_OP_delay);
    s->ok = s->ok && delay->operands[0] == get(s, IR_ROLE_x);
    if (s->ok) set(s, IR_ROLE_history, delay->operands[1]);
}

static const IrNode *only_user(const Shape *s, IrValueId value, IrOp op) {
    IrNodeId user = ps_only_user(s->uses, value);
    return user != IR_NONE && s->g->nodes[user].op == op ? &s->g->nodes[user] : NULL;
}

/* y_r = s q_r + D ∘ v_r */
static void take_output(Shape *s, const IrNode *recur) {
    const IrNode *contract = only_user(s, recur->results[0], IR_OP_contract);
    const IrNode *add = contract != NULL ? only_user(s, contract->results[0], IR_OP_add) : NULL;
    s->ok = add != NULL && add->operands[0] == contract->results[0] && take(s, add->results[0], IR_OP_add) != NULL;
    const IrNode *skip = s->ok ? take(s, add->operands[1], IR_OP_mul_param) : NULL;
    s->ok = s->ok && take(s, add->operands[0], IR_OP_contract) != NULL && ps_weight(s->g, skip->operands[1]) != NULL;
    if (!s->ok) return;
    set(s, IR_ROLE_C, contract->operands[1]);
    set(s, IR_ROLE_D, skip->operands[1]);
    s->ok = take_spread(s, skip->operands[0], IR_ROLE_mimo_x) == get(s, IR_ROLE_x);
    set(s, IR_ROLE_y, add->results[0]);
}

/* Σ_r y_r ∘ silu(z ∘ mimo_z) ∘ mimo_o, all of it or nothing: what else may stand here is a norm of the heads. */
static void take_gate(Shape *s) {
    bool mimo = get(s, IR_ROLE_mimo_x) != IR_NONE, ranks = ir_dim(&s->g->values[get(s, IR_ROLE_C)].type, IR_DIM_EXPERT) > 0;
    Shape tried = *s;
    PsMatch with = *s->m;
    tried.m = &with;
    const IrNode *product = only_user(s, get(s, IR_ROLE_y), IR_OP_mul), *out = product;
    if (product == NULL || product->operands[0] != get(s, IR_ROLE_y)) return;
    take(&tried, product->results[0], IR_OP_mul);
    const IrNode *silu = take(&tried, product->operands[1], IR_OP_silu);
    if (!tried.ok) return;
    set(&tried, IR_ROLE_z, take_spread(&tried, silu->operands[0], IR_ROLE_mimo_z));
    if (mimo) {
        const IrNode *scaled = only_user(s, product->results[0], IR_OP_mul_param);
        if (scaled == NULL || get(&tried, IR_ROLE_mimo_z) == IR_NONE) return;
        out = take(&tried, scaled->results[0], IR_OP_mul_param);
        set(&tried, IR_ROLE_mimo_o, scaled->operands[1]);
    }
    if (ranks) {
        const IrNode *sum = out != NULL ? only_user(s, out->results[0], IR_OP_plane_sum) : NULL;
        if (sum == NULL) return;
        out = take(&tried, sum->results[0], IR_OP_plane_sum);
    }
    if (!tried.ok || out == NULL) return;
    set(&tried, IR_ROLE_y, out->results[0]);
    *s->m = with;
}

/* Nobody outside the group reads what its nodes make, but what plays one of these roles. */
static bool is_closed(const Shape *s, const IrRole *out, int n_out) {
    const PsGroup *group = &s->m->group;
    for (int i = 0; i < group->n; i++) {
        IrValueId value = s->g->nodes[group->nodes[i]].results[0];
        int32_t inside = 0;
        bool comes_out = false;
        for (int j = 0; j < n_out; j++) comes_out = comes_out || value == get(s, out[j]);
        for (int j = 0; j < group->n; j++)
            for (int o = 0; o < s->g->nodes[group->nodes[j]].n_operands; o++)
                inside += s->g->nodes[group->nodes[j]].operands[o] == value;
        if (!comes_out && inside != s->uses->count[value]) return false;
    }
    return true;
}

/* Panels of channels belong to one head each, and panels of B and C too; there are not too many ranks. */
static bool has_whole_panels(const Shape *s, const IrNode *recur) {
    const IrType *state = &s->g->values[recur->operands[2]].type;
    int64_t heads = ir_dim(&s->g->values[get(s, IR_ROLE_delta)].type, IR_DIM_CHANNEL), I = ir_dim(state, IR_DIM_CHANNEL);
    const IrNode *contract = only_user(s, recur->results[0], IR_OP_contract);
    const IrNode *inject = ps_maker(s->g, recur->operands[1]);
    if (ir_dim(&s->g->values[get(s, IR_ROLE_C)].type, IR_DIM_EXPERT) > MOST_RANKS) return false;
    return I % heads == 0 && I / heads % PG_LANES == 0 && ir_dim(state, IR_DIM_STATE) % PG_LANES == 0 &&
           inject->attrs[IR_INJECT_SUM_groups].i == heads && contract->attrs[IR_CONTRACT_groups].i == heads;
}

bool ps_match_trapezoid(const IrGraph *g, const PsUses *uses, IrNodeId id, PsMatch *out) {
    const IrNode *recur = &g->nodes[id];
    *out = (PsMatch){.roles = ir_no_roles()};
    Shape shape = {.g = g, .uses = uses, .m = out, .ok = recur->n_operands == 3}, *s = &shape;
    if (ir_dim(&g->values[recur->operands[2]].type, IR_DIM_EXPERT) > 0) return false;
    take(s, recur->results[0], IR_OP_recur);
    set(s, IR_ROLE_state, recur->operands[2]);
    set(s, IR_ROLE_recur, recur->results[0]);
    IrValueId alpha = take_repeat(s, recur->operands[0]);
    if (s->ok) take_decay(s, alpha);
    if (s->ok) take_input(s, recur->operands[1], alpha);
    if (s->ok) take_output(s, recur);
    if (!s->ok || !has_whole_panels(s, recur)) return false;
    take_gate(s);
    return is_closed(s, (const IrRole[]){IR_ROLE_y}, 1);
}

/* ---------------------------------------------------------------------------------------------- turn */

/* B or C of all groups and ranks: elements `start` … of the values that both come from. */
static bool take_part(Shape *s, IrValueId value, int64_t start) {
    const IrNode *part = s->ok ? ps_maker(s->g, value) : NULL;
    s->ok = part != NULL && (part->op == IR_OP_slice || part->op == IR_OP_split) && take(s, value, part->op) != NULL;
    s->ok = s->ok && part->attrs[part->op == IR_OP_slice ? IR_SLICE_start : IR_SPLIT_start].i == start;
    if (s->ok) expect(s, IR_ROLE_x, part->operands[0]);
    return s->ok;
}

/* rotate(repeat(rms(part)) + bias) */
static void take_turned(Shape *s, const IrNode *rotate, IrRole norm, IrRole bias, int64_t start) {
    const IrNode *sum = take(s, rotate->operands[0], IR_OP_add_bias);
    if (!s->ok) return;
    IrValueId value = sum->operands[0];
    set(s, bias, sum->operands[1]);
    const IrNode *repeat = ps_maker(s->g, value);
    if (repeat != NULL && repeat->op == IR_OP_repeat && take(s, value, IR_OP_repeat) != NULL) value = repeat->operands[0];
    const IrNode *rms = take(s, value, IR_OP_rms_norm);
    if (!s->ok || !take_part(s, rms->operands[0], start)) return;
    set(s, norm, rms->operands[1]);
}

/* The rotation beside this one, by the same angles: it stands in the same block. */
static const IrNode *other_rotation(const IrGraph *g, const IrNode *rotate) {
    const IrNode *end = g->nodes + g->n_nodes;
    for (const IrNode *node = rotate + 1; node < end && node->block == rotate->block; node++)
        if (node->op == IR_OP_rotate && node->operands[1] == rotate->operands[1] && node->operands[2] == rotate->operands[2])
            return node;
    return NULL;
}

static void take_angles(Shape *s, const IrNode *rotate) {
    const IrNode *cosine = take(s, rotate->operands[1], IR_OP_cos), *sine = s->ok ? take(s, rotate->operands[2], IR_OP_sin) : NULL;
    s->ok = s->ok && cosine->operands[0] == sine->operands[0];
    const IrNode *angle = s->ok ? take(s, cosine->operands[0], IR_OP_angle) : NULL;
    if (!s->ok) return;
    set(s, IR_ROLE_theta, angle->operands[0]);
    set(s, IR_ROLE_delta, angle->operands[1]);
    set(s, IR_ROLE_state, angle->operands[2]);
}

/* Runs of N with a weight of N, and whole panels of components and of those that turn. */
static bool turns_whole_panels(const Shape *s, const IrNode *rotate) {
    const IrGraph *g = s->g;
    int64_t heads = rotate->attrs[IR_ROTATE_heads].i, width = ir_dim(&g->values[rotate->operands[0]].type, IR_DIM_CHANNEL);
    int64_t N = width / heads, S = ir_dim(&g->values[rotate->operands[1]].type, IR_DIM_CHANNEL) / heads;
    const IrRole norms[] = {IR_ROLE_norm_b, IR_ROLE_norm_c};
    for (int i = 0; i < 2; i++)
        if (ir_dim(&g->values[get(s, norms[i])].type, IR_DIM_CHANNEL) != N) return false;
    return N % PG_LANES == 0 && 2 * S % PG_LANES == 0;
}

bool ps_match_turn(const IrGraph *g, const PsUses *uses, IrNodeId id, PsMatch *out) {
    static const IrRole outputs[] = {IR_ROLE_B, IR_ROLE_B_last, IR_ROLE_C};
    const IrNode *delay = &g->nodes[id], *k = ps_maker(g, delay->operands[0]);
    *out = (PsMatch){.roles = ir_no_roles()};
    Shape shape = {.g = g, .uses = uses, .m = out, .ok = true}, *s = &shape;
    const IrNode *q = k != NULL && k->op == IR_OP_rotate ? other_rotation(g, k) : NULL;
    if (q == NULL || k->attrs[IR_ROTATE_heads].i != q->attrs[IR_ROTATE_heads].i) return false;
    take(s, delay->results[0], IR_OP_delay);
    take(s, k->results[0], IR_OP_rotate);
    take(s, q->results[0], IR_OP_rotate);
    set(s, IR_ROLE_history, delay->operands[1]);
    set(s, IR_ROLE_B_last, delay->results[0]);
    set(s, IR_ROLE_B, k->results[0]);
    set(s, IR_ROLE_C, q->results[0]);
    if (s->ok) take_angles(s, k);
    if (s->ok) take_turned(s, k, IR_ROLE_norm_b, IR_ROLE_bias, 0);
    if (!s->ok) return false;
    int64_t half = ir_dim(&g->values[get(s, IR_ROLE_x)].type, IR_DIM_CHANNEL) / 2;
    take_turned(s, q, IR_ROLE_norm_c, IR_ROLE_bias2, half);
    return s->ok && turns_whole_panels(s, k) && is_closed(s, outputs, 3);
}
