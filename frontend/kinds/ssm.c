/* ssm: state-space blocks (docs/language.md, "ssm"). */
#include <string.h>

#include "frontend/kinds.h"
#include "support/size.h"

/* The values of a block that is complete. */
typedef struct Ssm {
    int64_t d_inner, d_state, d_conv, dt_rank; /* I, N, W, R */
    bool conv_bias, bias;
    FeActivation activation;
    bool dt_norm, b_norm, c_norm;
    double inner_norm_eps;
    const FeMap *experts; /* or NULL */
    bool params;          /* with experts: parameters are mixed; else their outputs are summed, and each has a state */
    FeIdle idle;
} Ssm;

static Ssm read(const FeMap *map) {
    const FeMap *experts = fe_child(map, KEY(ssm, experts));
    return (Ssm){
        .d_inner = fe_integer(map, KEY(ssm, d_inner)),
        .d_state = fe_integer(map, KEY(ssm, d_state)),
        .d_conv = fe_integer(map, KEY(ssm, d_conv)),
        .dt_rank = fe_integer(map, KEY(ssm, dt_rank)),
        .conv_bias = fe_truth(map, KEY(ssm, conv_bias)),
        .bias = fe_truth(map, KEY(ssm, bias)),
        .activation = (FeActivation)fe_integer(map, KEY(ssm, activation)),
        .dt_norm = fe_truth(map, KEY(ssm, dt_norm)),
        .b_norm = fe_truth(map, KEY(ssm, b_norm)),
        .c_norm = fe_truth(map, KEY(ssm, c_norm)),
        .inner_norm_eps = fe_real(map, KEY(ssm, inner_norm_eps)),
        .experts = experts,
        .params = experts && fe_integer(experts, KEY(ssm_experts, combine)) == FE_PARAMS,
        .idle = experts ? (FeIdle)fe_integer(experts, KEY(ssm_experts, idle)) : FE_HOLD,
    };
}

/* Whether each expert has its own of what per_expert calls `part`. */
static bool owns(const Ssm *s, const char *part) {
    return s->experts && fe_has_word(s->experts, KEY(ssm_experts, per_expert), part);
}

static bool keeps_states(const Ssm *s) { return s->experts && !s->params; }

/* ---- building ---- */

static void check_per_expert(const FeBuild *b, const FeMap *experts) {
    static const char *const allowed[] = {"x_proj", "dt_proj", "A", "D"};
    const FeValue *names = fe_value(experts, KEY(ssm_experts, per_expert));
    const FeValue *combine = fe_value(experts, KEY(ssm_experts, combine));
    if (names->state != FE_GIVEN || combine->state != FE_GIVEN || combine->integer != FE_OUTPUTS) return;
    for (size_t i = 0; i < names->node->count; i++) {
        const FeNode *item = names->node->items[i];
        bool good = false;
        for (size_t j = 0; j < sizeof allowed / sizeof *allowed; j++) good |= strcmp(item->text, allowed[j]) == 0;
        FeValue at = *names;
        at.span = item->span;
        if (!good)
            fe_refuse(b, &at, "'ssm.experts.per_expert': %s needs combine: params; outputs allows x_proj, dt_proj, A and D",
                      item->text);
    }
}

/* `inner` routes by c, so everything that c is made of must be the same for all experts. */
static void check_inner(const FeBuild *b, const Ssm *s, const FeMap *router) {
    bool own_x = owns(s, "in_proj"), own_conv = owns(s, "conv");
    if (b->out->router.input != FE_ROUTER_INNER || !s->params || !(own_x || own_conv)) return;
    fe_refuse(b, fe_value(router, KEY(router, input)),
              "'router.input': inner needs one %s for all experts, but per_expert names it", own_x ? "in_proj" : "conv");
}

static void warn_gates(const FeBuild *b, const Ssm *s, const FeMap *router) {
    const FeRouter *r = &b->out->router;
    bool sum_to_one = r->scale == 1.0 && (r->normalize || (r->score == FE_SOFTMAX && r->top_k == b->out->experts.count));
    if (!s->params || sum_to_one) return;
    const FeValue *cause = fe_value(router, r->scale != 1.0 ? KEY(router, scale) : KEY(router, normalize));
    fe_report_once(&b->load->reader, SU_CODE_gates_do_not_sum, cause->span, fe_used_by(b, cause),
                   "combine weights do not sum to 1, and combine: params scales every mixed parameter with them, including A");
}

/* Beside params there is one state: idle means nothing. */
static void settle_idle(const FeBuild *b, FeMap *experts) {
    FeValue *idle = fe_value(experts, KEY(ssm_experts, idle));
    const FeValue *combine = fe_value(experts, KEY(ssm_experts, combine));
    if (combine->state != FE_GIVEN || combine->integer != FE_PARAMS) return;
    if (idle->written && idle->node)
        fe_misplaced(b, idle, "'ssm.experts.idle' has no meaning with combine: params: there is one state");
    fe_set_integer(experts, KEY(ssm_experts, idle), FE_HOLD);
    idle->moot = true;
}

static void build_experts(const FeBuild *b, FeMap *map, FeMap *experts) {
    settle_idle(b, experts);
    check_per_expert(b, experts);
    b->out->experts.count = fe_integer(experts, KEY(ssm_experts, count));
    size_t errors = b->load->reader.diags->errors;
    const FeMap *router = fe_build_router(b, map, KEY(ssm, router), experts, KEY(ssm_experts, count), true);
    const Ssm s = read(map);
    check_inner(b, &s, router);
    if (errors == b->load->reader.diags->errors) warn_gates(b, &s, router);
    b->out->experts.busy = s.idle == FE_UPDATE ? b->out->experts.count : b->out->router.top_k;
}

static void build(const FeBuild *b, FeMap *map) {
    const FeSpec *spec = b->load->spec;
    fe_width(b, map, KEY(ssm, d_inner), KEY(ssm, expand));
    if (fe_value(map, KEY(ssm, dt_rank))->word)
        fe_set_integer(map, KEY(ssm, dt_rank), (int64_t)su_ceil_div((uint64_t)spec->d_model, 16));
    if (!fe_given(map, KEY(ssm, inner_norm_eps))) fe_set_real(map, KEY(ssm, inner_norm_eps), spec->norm.eps);
    FeMap *experts = fe_block_experts(b, map, KEY(ssm, experts), KEY(ssm, router));
    if (experts) build_experts(b, map, experts);
    const Ssm s = read(map);
    uint64_t states = keeps_states(&s) ? (uint64_t)b->out->experts.count : 1;
    uint64_t one = (uint64_t)s.d_inner * (uint64_t)s.d_state; /* d_inner < 2^31, d_state <= 256 */
    if (!su_mul(one, states, &b->out->state_elements)) b->out->state_elements = UINT64_MAX;
    b->out->knows_order = true;
}

/* ---- tensors ---- */

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const Ssm values = read(block->map), *s = &values;
    const int64_t D = l->spec->d_model, I = s->d_inner, N = s->d_state, R = s->dt_rank, W = s->d_conv;
    fe_add_router(l, block->router.input == FE_ROUTER_INNER ? I : D);
    fe_add_linear(l, "in_proj", owns(s, "in_proj"), I, D, s->bias);
    fe_add_linear(l, "gate_proj", owns(s, "gate_proj"), I, D, s->bias);
    fe_draw_uniform(fe_add_part(l, "conv.weight", owns(s, "conv"), I, W), W);
    if (s->conv_bias) fe_draw_uniform(fe_add_part(l, "conv.bias", owns(s, "conv"), 0, I), W);
    fe_add_linear(l, "x_proj", owns(s, "x_proj"), R + 2 * N, I, false);
    fe_add_linear(l, "dt_proj", owns(s, "dt_proj"), I, R, true)[1].init = FE_INIT_DT_BIAS;
    if (s->dt_norm) fe_add_norm(l, "dt_norm", FE_NORM_RMS, R);
    if (s->b_norm) fe_add_norm(l, "b_norm", FE_NORM_RMS, N);
    if (s->c_norm) fe_add_norm(l, "c_norm", FE_NORM_RMS, N);
    FeTensor *A = fe_add_part(l, "A_log", owns(s, "A"), I, N);
    A->init = FE_INIT_A_LOG;
    A->neg_exp = true;
    fe_add_part(l, "D", owns(s, "D"), 0, I)->init = FE_INIT_ONES;
    fe_add_linear(l, "out_proj", owns(s, "out_proj"), D, I, s->bias)->init_scale = l->deep;
}

/* ---- lowering ---- */

/* One ssm block in the making. */
typedef struct Making {
    const FeBlock *block;
    Ssm d;
    FeChosen chosen;
} Making;

static bool mixes(const Making *s, const char *part) { return s->d.params && owns(&s->d, part); }

/* c = act(conv(x)) */
static IrValueId lower_conv(FeLower *l, const Making *s, IrValueId x) {
    const Ssm *d = &s->d;
    bool mixed = mixes(s, "conv");
    IrValueId w = fe_weight(l, "conv.weight");
    if (mixed) w = fe_op3(l, IR_OP_mix, w, s->chosen.experts, s->chosen.gates);
    IrValueId y = fe_conv(l, "conv", d->d_inner, d->d_conv, w, x);
    if (d->conv_bias) {
        IrValueId bias = fe_weight(l, "conv.bias");
        if (mixed)
            y = fe_op2(l, IR_OP_add, y, fe_op3(l, IR_OP_mix, bias, s->chosen.experts, s->chosen.gates));
        else
            y = fe_op2(l, IR_OP_add_bias, y, bias);
    }
    return fe_activation(l, d->activation, y);
}

static IrValueId inner_norm(FeLower *l, const Making *s, bool wanted, const char *name, IrValueId x) {
    if (!wanted) return x;
    return fe_norm(l, (FeNorm){FE_NORM_RMS, s->d.inner_norm_eps}, name, x);
}

/* Δ = softplus(W_dt δ + b_dt): [R,I] or [R,E,I] */
static IrValueId lower_delta(FeLower *l, const Making *s, IrValueId delta) {
    bool per_expert = keeps_states(&s->d) && (owns(&s->d, "dt_proj"));
    IrValueId dt = per_expert ? fe_linear_all(l, "dt_proj", true, delta)
                              : fe_linear_mixed(l, "dt_proj", true, mixes(s, "dt_proj"), s->chosen, delta);
    return fe_op1(l, IR_OP_softplus, dt);
}

/* s ← exp(Δ ⊗ A) ∘ s + (Δ ∘ c) ⊗ B; returns every row's s */
static IrValueId lower_recurrence(FeLower *l, const Making *s, IrValueId dt, IrValueId c, IrValueId B) {
    const Ssm *d = &s->d;
    IrValueId A = fe_weight(l, "A_log");
    if (mixes(s, "A")) A = fe_op3(l, IR_OP_mix, A, s->chosen.experts, s->chosen.gates);
    IrValueId a = fe_op1(l, IR_OP_exp, fe_op2(l, IR_OP_outer, dt, A));
    IrValueId b = fe_op2(l, IR_OP_inject, fe_op2(l, IR_OP_mul, dt, c), B);
    bool heads = keeps_states(&s->d);
    IrType type =
        heads ? ir_type(IR_F32, 3, s->block->experts.count, d->d_inner, d->d_state) : ir_type(IR_F32, 2, d->d_inner, d->d_state);
    IrValueId held = fe_state(l, "ssm", type);
    IrValueId operands[] = {a, b, held, s->chosen.experts};
    int n = heads && s->d.idle == FE_HOLD ? 4 : 3;
    IrNode *node = ir_node(&l->b, IR_OP_recur, operands, n, NULL);
    l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

/* D ∘ c */
static IrValueId lower_skip(FeLower *l, const Making *s, IrValueId c) {
    IrValueId D = fe_weight(l, "D");
    if (mixes(s, "D")) return fe_op2(l, IR_OP_mul, c, fe_op3(l, IR_OP_mix, D, s->chosen.experts, s->chosen.gates));
    return fe_op2(l, IR_OP_mul_param, c, D);
}

/* y = s·C + D ∘ c, summed over the chosen experts where each has a state */
static IrValueId lower_scan(FeLower *l, const Making *s, IrValueId c) {
    const Ssm *d = &s->d;
    bool heads = keeps_states(&s->d);
    IrValueId dbc = heads && (owns(&s->d, "x_proj")) ? fe_linear_all(l, "x_proj", false, c)
                                                     : fe_linear_mixed(l, "x_proj", false, mixes(s, "x_proj"), s->chosen, c);
    IrValueId delta = inner_norm(l, s, d->dt_norm, "dt_norm", fe_slice(l, dbc, 0, d->dt_rank));
    IrValueId B = inner_norm(l, s, d->b_norm, "b_norm", fe_slice(l, dbc, d->dt_rank, d->d_state));
    IrValueId C = inner_norm(l, s, d->c_norm, "c_norm", fe_slice(l, dbc, d->dt_rank + d->d_state, d->d_state));
    IrValueId dt = lower_delta(l, s, delta);
    IrValueId states = lower_recurrence(l, s, dt, c, B);
    IrValueId y = fe_op2(l, IR_OP_contract, states, C);
    y = fe_op2(l, IR_OP_add, y, lower_skip(l, s, c));
    return heads ? fe_op3(l, IR_OP_expert_sum, y, s->chosen.experts, s->chosen.gates) : y;
}

static IrValueId lower(FeLower *l, const FeBlock *block, IrValueId u) {
    Making s = {.block = block, .d = read(block->map), .chosen = {IR_NONE, IR_NONE}};
    const Ssm *d = &s.d;
    bool inner = d->experts && block->router.input == FE_ROUTER_INNER;
    if (d->experts && !inner) s.chosen = fe_router(l, &block->router, u);
    IrValueId x = fe_linear_mixed(l, "in_proj", d->bias, mixes(&s, "in_proj"), s.chosen, u);
    IrValueId c = lower_conv(l, &s, x);
    if (inner) s.chosen = fe_router(l, &block->router, c);
    IrValueId z = fe_linear_mixed(l, "gate_proj", d->bias, mixes(&s, "gate_proj"), s.chosen, u);
    IrValueId y = lower_scan(l, &s, c);
    y = fe_op2(l, IR_OP_mul, y, fe_activation(l, d->activation, z));
    return fe_linear_mixed(l, "out_proj", d->bias, mixes(&s, "out_proj"), s.chosen, y);
}

/* ---- describing ---- */

static void describe(const FeBlock *block, SuText *out) {
    if (!block->experts.count) return;
    const char *combine = read(block->map).params ? "params" : "outputs";
    su_text_add(out, "%lld experts, top %lld, %s", (long long)block->experts.count, (long long)block->router.top_k, combine);
}

const FeKind fe_kind_ssm = {build, add_tensors, lower, describe};
