/* ssm blocks of kind mamba3 (docs/language.md, "mamba3"): heads as in mamba2, whose keys and queries turn by an angle that the
 * token's time step moves, a state that takes in the previous token's product beside the present one's (the trapezoid), and, with
 * mimo_rank, several inputs and outputs a head. Head h is the channels h·P … h·P + P - 1. */
#include "frontend/kinds/ssm.h"

#include <float.h>
#include <math.h>

int64_t fe_ssm_pairs(const FeSsm *s) { return (int64_t)((double)s->d_state * s->rope_fraction) / 2; }

/* ---- building ---- */

static void check_angles(const FeBuild *b, FeMap *map, const FeSsm *s) {
    const FeValue *N = fe_value(map, KEY(ssm, d_state)), *fraction = fe_value(map, KEY(ssm, rope_fraction));
    if (fe_broken(map, KEY(ssm, d_state)) || fe_broken(map, KEY(ssm, rope_fraction))) return;
    if (s->rope_fraction != 0.5 && s->rope_fraction != 1.0)
        fe_refuse(b, fraction, "'ssm.rope_fraction': must be 0.5 or 1.0");
    else if (s->d_state % 2 != 0)
        fe_refuse(b, N, "'ssm.d_state': %lld is odd, and kind: mamba3 turns pairs of components", (long long)s->d_state);
    else if (fe_ssm_pairs(s) == 0)
        fe_refuse(b, N, "'ssm.d_state': %lld with rope_fraction 0.5 leaves no pair of components that turns",
                  (long long)s->d_state);
}

/* B and C have 2·R·G·N elements. */
static void check_rank(const FeBuild *b, FeMap *map, const FeSsm *s) {
    int64_t width;
    if (fe_broken(map, KEY(ssm, mimo_rank)) || s->n_groups <= 0 || s->d_state <= 0) return;
    if (__builtin_mul_overflow(fe_ssm_ranks(s) * 2 * s->d_state, s->n_groups, &width) || width > INT32_MAX)
        fe_refuse(b, fe_value(map, KEY(ssm, mimo_rank)),
                  "'ssm.mimo_rank': 2 * %lld * n_groups * d_state elements of B and C are not below 2^31",
                  (long long)fe_ssm_ranks(s));
}

void fe_build_mamba3(const FeBuild *b, FeMap *map) {
    if (!fe_given(map, KEY(ssm, inner_norm_eps))) fe_set_real(map, KEY(ssm, inner_norm_eps), 1e-5);
    const FeSsm s = fe_read_ssm(map);
    fe_ssm_check_heads(b, map, &s);
    check_angles(b, map, &s);
    check_rank(b, map, &s);
}

/* Angles, and the previous token's x and turned keys: less than 2^62 in a spec that was not refused. */
uint64_t fe_mamba3_held(const FeSsm *s) {
    const uint64_t H = s->head_dim > 0 ? (uint64_t)(s->d_inner / s->head_dim) : 0;
    return (uint64_t)s->d_inner + H * (uint64_t)(fe_ssm_pairs(s) + fe_ssm_ranks(s) * s->d_state);
}

/* ---- tensors ---- */

static void add_constant(FeTensorList *l, const char *name, const int64_t shape[3], double value) {
    FeTensor *t = fe_add_tensor(l, name, shape, 3);
    t->init = FE_INIT_ONES;
    t->init_scale = value;
}

void fe_mamba3_tensors(FeTensorList *l, const FeSsm *s) {
    const int64_t D = l->spec->d_model, I = s->d_inner, P = s->head_dim, H = I / P, N = s->d_state, R = fe_ssm_ranks(s);
    const int64_t biases[] = {H, R, N}, inputs[] = {H, R, P};
    fe_add_linear(l, "in_proj", false, I, D, false);
    fe_add_linear(l, "gate_proj", false, I, D, false);
    fe_add_linear(l, "bc_proj", false, 2 * R * s->n_groups * N, D, false);
    fe_add_linear(l, "dt_proj", false, H, D, true)[1].init = FE_INIT_DT_BIAS;
    fe_add_linear(l, "a_proj", false, H, D, false);
    fe_add_linear(l, "trap_proj", false, H, D, false);
    fe_add_linear(l, "angle_proj", false, fe_ssm_pairs(s), D, false);
    fe_add_norm(l, "b_norm", FE_NORM_RMS, N);
    fe_add_norm(l, "c_norm", FE_NORM_RMS, N);
    add_constant(l, "b_bias", biases, 1);
    add_constant(l, "c_bias", biases, 1);
    fe_add_part(l, "D", false, 0, H)->init = FE_INIT_ONES;
    if (s->mimo_rank > 0) {
        add_constant(l, "mimo_x", inputs, 1 / (double)R);
        add_constant(l, "mimo_z", inputs, 1);
        add_constant(l, "mimo_o", inputs, 1 / (double)R);
    }
    if (s->head_norm) fe_add_norm(l, "head_norm", FE_NORM_RMS, I);
    fe_add_linear(l, "out_proj", false, D, I, false)->init_scale = l->deep;
}

/* ---- lowering. With several ranks, values of theirs have a plane for each. ---- */

typedef struct Making {
    FeLower *l;
    const FeSsmMaking *s;
    const FeSsm *d;
    int64_t H, R;
    IrValueId u, dt;  /* dt: [R,H] */
    IrValueId mimo_x; /* [(R),I]; IR_NONE without MIMO */
} Making;

static IrValueId linear(const Making *m, const char *name) { return fe_linear(m->l, name, false, m->u); }

/* A weight [H,R,J] as what an element of each channel of each rank is multiplied or added with. */
static IrValueId by_ranks(const Making *m, const char *name) { return fe_op1(m->l, IR_OP_transpose, fe_weight(m->l, name)); }

/* x ∘ w of each rank: planes where there are several; x itself without MIMO, where there is no w. */
static IrValueId spread(const Making *m, IrValueId w, IrValueId x) {
    return w != IR_NONE ? fe_op2(m->l, IR_OP_mul_param, x, w) : x;
}

static IrValueId of_mimo(const Making *m, const char *name) { return m->d->mimo_rank > 0 ? by_ranks(m, name) : IR_NONE; }

/* What x was at the previous token. */
static IrValueId previous(const Making *m, const char *what, IrValueId x) {
    IrType type = m->l->b.graph->values[x].type;
    bool planes = type.rank == 3;
    IrValueId held = fe_state(m->l, what, planes ? ir_type(IR_F32, 2, type.dim[1], type.dim[2]) : ir_type(IR_F32, 1, type.dim[1]));
    IrValueId operands[] = {x, held};
    IrNode *node = ir_node(&m->l->b, IR_OP_delay, operands, 2, NULL);
    m->l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

/* Θ_h ← Θ_h + π·tanh(θ)·Δ_h of every row: [R,H·S] */
static IrValueId lower_angles(const Making *m) {
    IrValueId theta = fe_scale(m->l, fe_op1(m->l, IR_OP_tanh, linear(m, "angle_proj")), M_PI);
    IrValueId held = fe_state(m->l, "angle", ir_type(IR_F32, 1, m->H * fe_ssm_pairs(m->d)));
    IrValueId operands[] = {theta, m->dt, held};
    IrNode *node = ir_node(&m->l->b, IR_OP_angle, operands, 3, NULL);
    m->l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

/* The half of B or C that begins at `start`: normed over N, of each head's group, with its bias, turned: [R,(R),H·N] */
static IrValueId lower_turned(const Making *m, IrValueId bc, int64_t start, const char *norm, const char *bias, IrValueId cosine,
                              IrValueId sine) {
    const FeSsm *d = m->d;
    const int64_t N = d->d_state, width = d->n_groups * N;
    IrValueId x;
    if (m->R > 1)
        x = ir_op1_attrs(
            &m->l->b, IR_OP_split, bc, IR_NONE, IR_NONE,
            (IrAttr[]){[IR_SPLIT_start] = {.i = start}, [IR_SPLIT_count] = {.i = width}, [IR_SPLIT_planes] = {.i = m->R}});
    else
        x = fe_slice(m->l, bc, start, width);
    x = fe_rms_norm(m->l, d->inner_norm_eps, d->n_groups, fe_weight(m->l, norm), x);
    x = fe_repeat_runs(m->l, x, N, m->H / d->n_groups);
    x = fe_op2(m->l, IR_OP_add_bias, x, by_ranks(m, bias));
    return ir_op1_attrs(&m->l->b, IR_OP_rotate, x, cosine, sine, (IrAttr[]){[IR_ROTATE_heads] = {.i = m->H}});
}

/* addend (or nothing) + w Σ_r v_r ⊗ k_r, w [R,H] */
static IrValueId inject(const Making *m, IrValueId w, IrValueId v, IrValueId k, IrValueId addend) {
    IrValueId scaled = fe_op2(m->l, IR_OP_mul, v, fe_repeat(m->l, w, m->d->head_dim));
    return ir_op1_attrs(&m->l->b, IR_OP_inject_sum, scaled, k, addend, (IrAttr[]){[IR_INJECT_SUM_groups] = {.i = m->H}});
}

/* s_h ← α s_h + β Σ_r v⁻_{r,h} ⊗ k⁻_{r,h} + γ Σ_r v_{r,h} ⊗ k_{r,h}; returns every row's s */
static IrValueId lower_states(const Making *m, IrValueId x, IrValueId v, IrValueId k) {
    FeLower *l = m->l;
    const FeSsm *d = m->d;
    IrValueId a = fe_op1(l, d->a_softplus ? IR_OP_softplus : IR_OP_heavy_tail, linear(m, "a_proj"));
    IrValueId A = fe_scale(l, fe_clamp(l, d->a_floor, DBL_MAX, a), -1); /* min(-f(a), -floor) */
    IrValueId alpha = fe_op1(l, IR_OP_exp, fe_op2(l, IR_OP_mul, A, m->dt));
    IrValueId trap = linear(m, "trap_proj");
    IrValueId gamma = fe_op2(l, IR_OP_mul, fe_op1(l, IR_OP_sigmoid, trap), m->dt);
    IrValueId rest = fe_op1(l, IR_OP_sigmoid, fe_scale(l, trap, -1)); /* 1 - λ */
    IrValueId beta = fe_op2(l, IR_OP_mul, fe_op2(l, IR_OP_mul, rest, m->dt), alpha);
    IrValueId before = spread(m, m->mimo_x, previous(m, "x_last", x));
    IrValueId b = inject(m, beta, before, previous(m, "k_last", k), IR_NONE);
    b = inject(m, gamma, v, k, b);
    return fe_ssm_recur(l, m->s, fe_repeat(l, alpha, d->head_dim), b);
}

/* Σ_r mimo_o[r] ∘ y_r ∘ silu(z ∘ mimo_z[r]); without MIMO y ∘ silu(z) */
static IrValueId lower_gate(const Making *m, IrValueId y, IrValueId z) {
    IrValueId gate = fe_op1(m->l, IR_OP_silu, spread(m, of_mimo(m, "mimo_z"), z));
    y = spread(m, of_mimo(m, "mimo_o"), fe_op2(m->l, IR_OP_mul, y, gate));
    return m->R > 1 ? fe_op1(m->l, IR_OP_plane_sum, y) : y;
}

IrValueId fe_lower_mamba3(FeLower *l, const FeSsmMaking *s, IrValueId u) {
    const FeSsm *d = &s->d;
    Making m = {.l = l, .s = s, .d = d, .H = d->d_inner / d->head_dim, .R = fe_ssm_ranks(d), .u = u};
    IrValueId x = linear(&m, "in_proj"), z = linear(&m, "gate_proj"), bc = linear(&m, "bc_proj");
    m.dt = fe_op1(l, IR_OP_softplus, fe_linear(l, "dt_proj", true, u));
    IrValueId angles = lower_angles(&m), cosine = fe_op1(l, IR_OP_cos, angles), sine = fe_op1(l, IR_OP_sin, angles);
    IrValueId k = lower_turned(&m, bc, 0, "b_norm.weight", "b_bias", cosine, sine);
    IrValueId q = lower_turned(&m, bc, m.R * d->n_groups * d->d_state, "c_norm.weight", "c_bias", cosine, sine);
    m.mimo_x = of_mimo(&m, "mimo_x");
    IrValueId v = spread(&m, m.mimo_x, x);
    IrValueId y = fe_contract(l, lower_states(&m, x, v, k), q, m.H);
    y = fe_op2(l, IR_OP_add, y, fe_op2(l, IR_OP_mul_param, v, fe_weight(l, "D")));
    if (d->head_norm) y = fe_rms_norm(l, d->inner_norm_eps, m.H, fe_weight(l, "head_norm.weight"), y);
    return fe_linear(l, "out_proj", false, lower_gate(&m, y, z));
}
