/* ssm blocks of kind mamba2: heads of channels that share a decay, and groups of heads that share B and C (docs/language.md,
 * "mamba2"). Head h is the channels h·P … h·P + P - 1. */
#include "frontend/kinds/ssm.h"

/* ---- building ---- */

void fe_build_mamba2(const FeBuild *b, FeMap *map) {
    if (!fe_given(map, KEY(ssm, norm_groups))) fe_set_integer(map, KEY(ssm, norm_groups), fe_integer(map, KEY(ssm, n_groups)));
    const FeSsm s = fe_read_ssm(map);
    fe_ssm_check_heads(b, map, &s);
    fe_ssm_check_divides(b, map, KEY(ssm, norm_groups), s.d_inner, "d_inner");
}

/* ---- tensors ---- */

void fe_mamba2_tensors(FeTensorList *l, const FeSsm *s) {
    const int64_t D = l->spec->d_model, I = s->d_inner, H = I / s->head_dim, GN = s->n_groups * s->d_state;
    fe_add_linear(l, "in_proj", fe_ssm_owns(s, "in_proj"), I, D, s->bias);
    fe_add_linear(l, "gate_proj", fe_ssm_owns(s, "gate_proj"), I, D, s->bias);
    fe_add_linear(l, "bc_proj", fe_ssm_owns(s, "bc_proj"), 2 * GN, D, s->bias);
    fe_add_linear(l, "dt_proj", fe_ssm_owns(s, "dt_proj"), H, D, true)[1].init = FE_INIT_DT_BIAS;
    fe_ssm_conv_tensors(l, s, I + 2 * GN);
    FeTensor *A = fe_add_part(l, "A_log", fe_ssm_owns(s, "A"), 0, H);
    A->init = FE_INIT_LOG_UNIFORM;
    A->neg_exp = true;
    fe_add_part(l, "D", fe_ssm_owns(s, "D"), 0, s->d_per_channel ? I : H)->init = FE_INIT_ONES;
    if (s->gated_norm) fe_add_norm(l, "gated_norm", FE_NORM_RMS, I);
    fe_add_linear(l, "out_proj", fe_ssm_owns(s, "out_proj"), D, I, s->bias)->init_scale = l->deep;
}

/* ---- lowering ---- */

static IrValueId mix(FeLower *l, const FeSsmMaking *s, const char *tensor) {
    return fe_op3(l, IR_OP_mix, fe_weight(l, tensor), s->chosen.experts, s->chosen.gates);
}

/* Δ = clamp(softplus(W_dt u + b_dt)): [R,H] or [R,E,H] */
static IrValueId lower_delta(FeLower *l, const FeSsmMaking *s, IrValueId u) {
    IrValueId dt = fe_op1(l, IR_OP_softplus, fe_ssm_linear(l, s, "dt_proj", true, u));
    return s->d.limits_dt ? fe_clamp(l, s->d.dt_low, s->d.dt_high, dt) : dt;
}

/* Δ·A */
static IrValueId lower_decay(FeLower *l, const FeSsmMaking *s, IrValueId dt) {
    if (fe_ssm_mixes(s, "A")) return fe_op2(l, IR_OP_mul, dt, mix(l, s, "A_log"));
    return fe_op2(l, IR_OP_mul_param, dt, fe_weight(l, "A_log"));
}

/* D∘x */
static IrValueId lower_skip(FeLower *l, const FeSsmMaking *s, IrValueId x) {
    if (!fe_ssm_mixes(s, "D")) return fe_op2(l, IR_OP_mul_param, x, fe_weight(l, "D"));
    return fe_op2(l, IR_OP_mul, x, fe_repeat(l, mix(l, s, "D"), s->d.d_per_channel ? 1 : s->d.head_dim));
}

/* s_h ← exp(Δ_h A_h)·s_h + Δ_h·x_h ⊗ B_g(h); returns every row's s */
static IrValueId lower_recurrence(FeLower *l, const FeSsmMaking *s, IrValueId dt, IrValueId x, IrValueId B) {
    const FeSsm *d = &s->d;
    IrValueId v = lower_decay(l, s, dt), a = fe_op1(l, IR_OP_exp, v);
    if (d->zoh) dt = fe_op2(l, IR_OP_mul, dt, fe_op1(l, IR_OP_zoh, v));
    IrValueId b = fe_inject(l, fe_op2(l, IR_OP_mul, fe_repeat(l, dt, d->head_dim), x), B, d->n_groups);
    return fe_ssm_recur(l, s, fe_repeat(l, a, d->head_dim), b);
}

static IrValueId lower_norm(FeLower *l, const FeSsm *d, IrValueId y) {
    return fe_rms_norm(l, d->inner_norm_eps, d->norm_groups, fe_weight(l, "gated_norm.weight"), y);
}

/* y = s·C + D∘x, summed over the chosen experts where each has a state */
static IrValueId lower_heads(FeLower *l, const FeSsmMaking *s, IrValueId dt, IrValueId x, IrValueId bc) {
    const int64_t GN = s->d.n_groups * s->d.d_state;
    IrValueId states = lower_recurrence(l, s, dt, x, fe_slice(l, bc, 0, GN));
    IrValueId y = fe_contract(l, states, fe_slice(l, bc, GN, GN), s->d.n_groups);
    y = fe_op2(l, IR_OP_add, y, lower_skip(l, s, x));
    return fe_ssm_keeps_states(&s->d) ? fe_op3(l, IR_OP_expert_sum, y, s->chosen.experts, s->chosen.gates) : y;
}

IrValueId fe_lower_mamba2(FeLower *l, FeSsmMaking *s, IrValueId u) {
    const FeSsm *d = &s->d;
    const int64_t I = d->d_inner, GN = d->n_groups * d->d_state, channels = I + 2 * GN;
    IrValueId x = fe_ssm_linear(l, s, "in_proj", d->bias, u);
    x = fe_ssm_conv(l, s, (FeSsmChannels){0, I, channels}, "conv", false, x);
    if (d->experts && s->chosen.experts == IR_NONE) s->chosen = fe_router(l, &s->block->router, x); /* input: inner */
    IrValueId z = fe_ssm_linear(l, s, "gate_proj", d->bias, u), bc = fe_ssm_linear(l, s, "bc_proj", d->bias, u),
              dt = lower_delta(l, s, u);
    bc =
        fe_ssm_conv(l, s, (FeSsmChannels){I, 2 * GN, channels}, "conv_bc", fe_ssm_keeps_states(d) && fe_ssm_owns(d, "bc_proj"), bc);
    IrValueId y = lower_heads(l, s, dt, x, bc), gate = fe_activation(l, d->activation, z);
    if (d->gated_norm && d->norm_before_gate) y = lower_norm(l, d, y);
    y = fe_op2(l, IR_OP_mul, y, gate);
    if (d->gated_norm && !d->norm_before_gate) y = lower_norm(l, d, y);
    return fe_ssm_linear(l, s, "out_proj", d->bias, y);
}
