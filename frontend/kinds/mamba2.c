/* ssm blocks of kind mamba2: heads of channels that share a decay, and groups of heads that share B and C (docs/language.md,
 * "mamba2"). Head h is the channels h·P … h·P + P - 1. */
#include "frontend/kinds/ssm.h"

/* ---- building ---- */

static void check_divides(const FeBuild *b, FeMap *map, FeKey key, int64_t whole, const char *of) {
    int64_t part = fe_integer(map, key);
    if (fe_broken(map, key) || whole <= 0 || part <= 0 || whole % part == 0) return;
    fe_refuse(b, fe_value(map, key), "'ssm.%s': %lld does not divide %s %lld", fe_key_row(key)->name, (long long)part, of,
              (long long)whole);
}

void fe_build_mamba2(const FeBuild *b, FeMap *map) {
    if (!fe_given(map, KEY(ssm, norm_groups))) fe_set_integer(map, KEY(ssm, norm_groups), fe_integer(map, KEY(ssm, n_groups)));
    const FeSsm s = fe_read_ssm(map);
    check_divides(b, map, KEY(ssm, head_dim), s.d_inner, "d_inner");
    if (s.head_dim > 0 && s.d_inner % s.head_dim == 0)
        check_divides(b, map, KEY(ssm, n_groups), s.d_inner / s.head_dim, "the number of heads");
    check_divides(b, map, KEY(ssm, norm_groups), s.d_inner, "d_inner");
    if (s.experts)
        fe_refuse(b, fe_value(map, KEY(ssm, experts)), "'ssm.experts' with kind: mamba2 is not supported in this version");
}

/* ---- tensors ---- */

void fe_mamba2_tensors(FeTensorList *l, const FeSsm *s) {
    const int64_t D = l->spec->d_model, I = s->d_inner, H = I / s->head_dim, GN = s->n_groups * s->d_state;
    fe_add_linear(l, "in_proj", false, I, D, s->bias);
    fe_add_linear(l, "gate_proj", false, I, D, s->bias);
    fe_add_linear(l, "bc_proj", false, 2 * GN, D, s->bias);
    FeTensor *dt = fe_add_linear(l, "dt_proj", false, H, D, true);
    dt[1].init = FE_INIT_DT_BIAS;
    fe_ssm_conv_tensors(l, s, I + 2 * GN);
    FeTensor *A = fe_add_part(l, "A_log", false, 0, H);
    A->init = FE_INIT_LOG_UNIFORM;
    A->neg_exp = true;
    fe_add_part(l, "D", false, 0, s->d_per_channel ? I : H)->init = FE_INIT_ONES;
    if (s->gated_norm) fe_add_norm(l, "gated_norm", FE_NORM_RMS, I);
    fe_add_linear(l, "out_proj", false, D, I, s->bias)->init_scale = l->deep;
}

/* ---- lowering ---- */

/* Δ = clamp(softplus(W_dt u + b_dt)): [R,H] */
static IrValueId lower_delta(FeLower *l, const FeSsm *d, IrValueId u) {
    IrValueId dt = fe_op1(l, IR_OP_softplus, fe_linear(l, "dt_proj", true, u));
    return d->limits_dt ? fe_clamp(l, d->dt_low, d->dt_high, dt) : dt;
}

/* s_h ← exp(Δ_h A_h)·s_h + Δ_h·x_h ⊗ B_g(h); returns every row's s */
static IrValueId lower_recurrence(FeLower *l, const FeSsm *d, IrValueId dt, IrValueId x, IrValueId B) {
    IrValueId v = fe_op2(l, IR_OP_mul_param, dt, fe_weight(l, "A_log")), a = fe_op1(l, IR_OP_exp, v);
    if (d->zoh) dt = fe_op2(l, IR_OP_mul, dt, fe_op1(l, IR_OP_zoh, v));
    IrValueId b = fe_inject(l, fe_op2(l, IR_OP_mul, fe_repeat(l, dt, d->head_dim), x), B, d->n_groups);
    IrValueId held = fe_state(l, "ssm", ir_type(IR_F32, 2, d->d_inner, d->d_state));
    IrValueId operands[] = {fe_repeat(l, a, d->head_dim), b, held};
    IrNode *node = ir_node(&l->b, IR_OP_recur, operands, 3, NULL);
    l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

static IrValueId lower_norm(FeLower *l, const FeSsm *d, IrValueId y) {
    return fe_rms_norm(l, d->inner_norm_eps, d->norm_groups, fe_weight(l, "gated_norm.weight"), y);
}

IrValueId fe_lower_mamba2(FeLower *l, const FeSsmMaking *s, IrValueId u) {
    const FeSsm *d = &s->d;
    const int64_t I = d->d_inner, GN = d->n_groups * d->d_state, channels = I + 2 * GN;
    IrValueId x = fe_linear(l, "in_proj", d->bias, u), z = fe_linear(l, "gate_proj", d->bias, u);
    IrValueId bc = fe_linear(l, "bc_proj", d->bias, u), dt = lower_delta(l, d, u);
    x = fe_ssm_conv(l, s, (FeSsmChannels){0, I, channels}, "conv", x);
    bc = fe_ssm_conv(l, s, (FeSsmChannels){I, 2 * GN, channels}, "conv_bc", bc);
    IrValueId states = lower_recurrence(l, d, dt, x, fe_slice(l, bc, 0, GN));
    IrValueId y = fe_contract(l, states, fe_slice(l, bc, GN, GN), d->n_groups);
    y = fe_op2(l, IR_OP_add, y, fe_op2(l, IR_OP_mul_param, x, fe_weight(l, "D")));
    IrValueId gate = fe_activation(l, d->activation, z);
    if (d->gated_norm && d->norm_before_gate) y = lower_norm(l, d, y);
    y = fe_op2(l, IR_OP_mul, y, gate);
    if (d->gated_norm && !d->norm_before_gate) y = lower_norm(l, d, y);
    return fe_linear(l, "out_proj", d->bias, y);
}
