/* ssm: state-space blocks (docs/language.md, "ssm"). */
#include <string.h>

#include "frontend/kinds.h"
#include "support/size.h"

/* ---- building ---- */

static void check_per_expert(const FeBuild *b, const FeMap *experts) {
    const FeValue *names = fe_value(experts, KEY(ssm_experts, per_expert));
    const FeValue *combine = fe_value(experts, KEY(ssm_experts, combine));
    const uint32_t allowed = FE_X_PROJ | FE_DT_PROJ | FE_A | FE_D;
    if (names->state != FE_GIVEN || combine->state != FE_GIVEN || combine->integer != FE_OUTPUTS) return;
    for (size_t i = 0; i < names->node->count; i++) {
        const FeNode *item = names->node->items[i];
        bool reserved;
        const char *word;
        int size, index = 0;
        while (fe_word_at(fe_key_row(KEY(ssm_experts, per_expert))->words, index, &word, &size, &reserved) &&
               (strlen(item->text) != (size_t)size || memcmp(item->text, word, (size_t)size) != 0)) {
            index++;
        }
        if (!(allowed & 1u << index)) {
            FeValue at = *names;
            at.span = item->span;
            fe_refuse(b, &at, "'ssm.experts.per_expert': %s needs combine: params; outputs allows x_proj, dt_proj, A and D",
                      item->text);
        }
    }
}

/* `inner` routes by c, so everything that c is made of must be the same for all experts. */
static void check_inner(const FeBuild *b, const FeMap *router) {
    const FeExperts *e = &b->out->experts;
    if (b->out->router.input != FE_ROUTER_INNER || e->combine != FE_PARAMS || !(e->per_expert & (FE_IN_PROJ | FE_CONV))) return;
    fe_refuse(b, fe_value(router, KEY(router, input)),
              "'router.input': inner needs one %s for all experts, but per_expert names it",
              e->per_expert & FE_IN_PROJ ? "in_proj" : "conv");
}

static void warn_gates(const FeBuild *b, const FeMap *router) {
    const FeRouter *r = &b->out->router;
    const FeExperts *e = &b->out->experts;
    bool sum_to_one = r->scale == 1.0 && (r->normalize || (r->score == FE_SOFTMAX && r->top_k == e->count));
    if (e->combine != FE_PARAMS || sum_to_one) return;
    const FeValue *cause = fe_value(router, r->scale != 1.0 ? KEY(router, scale) : KEY(router, normalize));
    fe_warn_once(&b->load->reader, cause->span, fe_used_by(b, cause),
                 "gates do not sum to 1, and combine: params scales every mixed parameter with them, A too");
}

static void build_experts(const FeBuild *b, const FeMap *experts, const FeMap *router) {
    const FeValue *idle = fe_value(experts, KEY(ssm_experts, idle));
    const FeValue *combine = fe_value(experts, KEY(ssm_experts, combine));
    FeExperts *e = &b->out->experts;
    *e = (FeExperts){
        .count = fe_integer(experts, KEY(ssm_experts, count)),
        .per_expert = fe_value(experts, KEY(ssm_experts, per_expert))->bits,
        .combine = (FeCombine)combine->integer,
        .idle = (FeIdle)idle->integer,
    };
    if (combine->state == FE_GIVEN && e->combine == FE_PARAMS) {
        if (idle->written && idle->node)
            fe_misplaced(b, idle, "'ssm.experts.idle' has no meaning beside combine: params: there is one state");
        e->idle = FE_HOLD;
    }
    check_per_expert(b, experts);
    size_t errors = b->load->reader.diags->errors;
    const FeMap *complete = fe_build_router(b, router, experts, KEY(ssm_experts, count), true);
    check_inner(b, complete);
    if (errors == b->load->reader.diags->errors) warn_gates(b, complete);
}

/* Each expert has a recurrence of its own. */
static bool keeps_states(const FeBlock *block) { return block->experts.count > 0 && block->experts.combine == FE_OUTPUTS; }

static void build(const FeBuild *b, FeMap *map) {
    const FeSpec *spec = b->load->spec;
    const FeValue *rank = fe_value(map, KEY(ssm, dt_rank)), *eps = fe_value(map, KEY(ssm, inner_norm_eps));
    b->out->ssm = (FeSsm){
        .d_inner = fe_width(b, map, KEY(ssm, d_inner), KEY(ssm, expand)),
        .d_state = fe_integer(map, KEY(ssm, d_state)),
        .d_conv = fe_integer(map, KEY(ssm, d_conv)),
        .dt_rank = rank->word ? (int64_t)su_ceil_div((uint64_t)spec->d_model, 16) : rank->integer,
        .conv_bias = fe_truth(map, KEY(ssm, conv_bias)),
        .bias = fe_truth(map, KEY(ssm, bias)),
        .activation = (FeActivation)fe_integer(map, KEY(ssm, activation)),
        .dt_norm = fe_truth(map, KEY(ssm, dt_norm)),
        .b_norm = fe_truth(map, KEY(ssm, b_norm)),
        .c_norm = fe_truth(map, KEY(ssm, c_norm)),
        .inner_norm_eps = eps->state == FE_GIVEN ? eps->real : spec->norm.eps,
    };
    const FeMap *experts = fe_block_experts(b, map, KEY(ssm, experts), KEY(ssm, router));
    if (experts) build_experts(b, experts, fe_child(map, KEY(ssm, router)));
    uint64_t recurrences = keeps_states(b->out) ? (uint64_t)b->out->experts.count : 1;
    uint64_t one = (uint64_t)b->out->ssm.d_inner * (uint64_t)b->out->ssm.d_state; /* d_inner < 2^31, d_state <= 256 */
    if (!su_mul(one, recurrences, &b->out->state_elements)) b->out->state_elements = UINT64_MAX;
    b->out->knows_order = true;
}

/* ---- tensors ---- */

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const FeSsm *s = &block->ssm;
    const int64_t D = l->spec->d_model, I = s->d_inner, N = s->d_state, R = s->dt_rank, W = s->d_conv;
    const uint32_t own = block->experts.count > 0 ? block->experts.per_expert : 0;
    fe_add_router(l, block->router.input == FE_ROUTER_INNER ? I : D);
    fe_add_linear(l, "in_proj", own & FE_IN_PROJ, I, D, s->bias);
    fe_add_linear(l, "gate_proj", own & FE_GATE_PROJ, I, D, s->bias);
    fe_draw_uniform(fe_add_part(l, "conv.weight", own & FE_CONV, I, W), W);
    if (s->conv_bias) fe_draw_uniform(fe_add_part(l, "conv.bias", own & FE_CONV, 0, I), W);
    fe_add_linear(l, "x_proj", own & FE_X_PROJ, R + 2 * N, I, false);
    fe_add_linear(l, "dt_proj", own & FE_DT_PROJ, I, R, true)[1].init = FE_INIT_DT_BIAS;
    if (s->dt_norm) fe_add_norm(l, "dt_norm", FE_NORM_RMS, R);
    if (s->b_norm) fe_add_norm(l, "b_norm", FE_NORM_RMS, N);
    if (s->c_norm) fe_add_norm(l, "c_norm", FE_NORM_RMS, N);
    fe_add_part(l, "A_log", own & FE_A, I, N)->init = FE_INIT_A_LOG;
    fe_add_part(l, "D", own & FE_D, 0, I)->init = FE_INIT_ONES;
    fe_add_linear(l, "out_proj", own & FE_OUT_PROJ, D, I, s->bias)->init_scale = l->deep;
}

/* ---- lowering ---- */

/* One ssm block in the making. */
typedef struct Ssm {
    const FeBlock *block;
    const FeSsm *d;
    bool experts, params; /* params: parameters are mixed; else (with experts) outputs are summed */
    uint32_t own;         /* FeExperts.per_expert, 0 without experts */
    FeChosen chosen;
} Ssm;

static bool mixes(const Ssm *s, uint32_t part) { return s->params && (s->own & part) != 0; }

/* c = act(conv(x)) */
static IrValueId lower_conv(FeLower *l, const Ssm *s, IrValueId x) {
    const FeSsm *d = s->d;
    bool mixed = mixes(s, FE_CONV);
    IrValueId w = fe_weight(l, "conv.weight");
    if (mixed) w = fe_op3(l, IR_OP_mix, w, s->chosen.experts, s->chosen.gates);
    IrValueId y;
    if (d->d_conv > 1) {
        IrValueId history = fe_state(l, "conv", ir_type(IR_F32, 2, d->d_inner, d->d_conv - 1));
        IrValueId operands[] = {x, w, history};
        IrNode *node = ir_node(&l->b, IR_OP_conv, operands, 3, NULL);
        y = node->results[0];
        l->b.graph->values[history].next = node->results[1];
    } else { /* one tap: no history */
        IrValueId operands[] = {x, w};
        y = ir_node(&l->b, IR_OP_conv, operands, 2, NULL)->results[0];
    }
    if (d->conv_bias) {
        IrValueId bias = fe_weight(l, "conv.bias");
        if (mixed)
            y = fe_op2(l, IR_OP_add, y, fe_op3(l, IR_OP_mix, bias, s->chosen.experts, s->chosen.gates));
        else
            y = fe_op2(l, IR_OP_add_bias, y, bias);
    }
    return fe_activation(l, d->activation, y);
}

static IrValueId inner_norm(FeLower *l, const Ssm *s, bool wanted, const char *name, IrValueId x) {
    if (!wanted) return x;
    return fe_norm(l, (FeNorm){FE_NORM_RMS, s->d->inner_norm_eps}, name, x);
}

/* Δ = softplus(W_dt δ + b_dt): [R,I] or [R,E,I] */
static IrValueId lower_delta(FeLower *l, const Ssm *s, IrValueId delta) {
    bool per_expert = s->experts && !s->params && (s->own & FE_DT_PROJ);
    IrValueId dt = per_expert ? fe_linear_all(l, "dt_proj", true, delta)
                              : fe_linear_mixed(l, "dt_proj", true, mixes(s, FE_DT_PROJ), s->chosen, delta);
    return fe_op1(l, IR_OP_softplus, dt);
}

/* s ← exp(Δ ⊗ A) ∘ s + (Δ ∘ c) ⊗ B; returns every row's s */
static IrValueId lower_recurrence(FeLower *l, const Ssm *s, IrValueId dt, IrValueId c, IrValueId B) {
    const FeSsm *d = s->d;
    IrValueId A = fe_weight_as(l, "A_log", IR_NEG_EXP);
    if (mixes(s, FE_A)) A = fe_op3(l, IR_OP_mix, A, s->chosen.experts, s->chosen.gates);
    IrValueId a = fe_op1(l, IR_OP_exp, fe_op2(l, IR_OP_outer, dt, A));
    IrValueId b = fe_op2(l, IR_OP_inject, fe_op2(l, IR_OP_mul, dt, c), B);
    bool heads = s->experts && !s->params;
    IrType type =
        heads ? ir_type(IR_F32, 3, s->block->experts.count, d->d_inner, d->d_state) : ir_type(IR_F32, 2, d->d_inner, d->d_state);
    IrValueId held = fe_state(l, "ssm", type);
    IrValueId operands[] = {a, b, held, s->chosen.experts};
    int n = heads && s->block->experts.idle == FE_HOLD ? 4 : 3;
    IrNode *node = ir_node(&l->b, IR_OP_recur, operands, n, NULL);
    l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

/* D ∘ c */
static IrValueId lower_skip(FeLower *l, const Ssm *s, IrValueId c) {
    IrValueId D = fe_weight(l, "D");
    if (mixes(s, FE_D)) return fe_op2(l, IR_OP_mul, c, fe_op3(l, IR_OP_mix, D, s->chosen.experts, s->chosen.gates));
    return fe_op2(l, IR_OP_mul_param, c, D);
}

/* y = s·C + D ∘ c, summed over the chosen experts where each has a state */
static IrValueId lower_scan(FeLower *l, const Ssm *s, IrValueId c) {
    const FeSsm *d = s->d;
    bool heads = s->experts && !s->params;
    IrValueId dbc = heads && (s->own & FE_X_PROJ) ? fe_linear_all(l, "x_proj", false, c)
                                                  : fe_linear_mixed(l, "x_proj", false, mixes(s, FE_X_PROJ), s->chosen, c);
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
    const FeSsm *d = &block->ssm;
    Ssm s = {.block = block, .d = d, .experts = block->experts.count > 0};
    s.params = s.experts && block->experts.combine == FE_PARAMS;
    s.own = s.experts ? block->experts.per_expert : 0;
    s.chosen = (FeChosen){IR_NONE, IR_NONE};
    bool inner = s.experts && block->router.input == FE_ROUTER_INNER;
    if (s.experts && !inner) s.chosen = fe_router(l, &block->router, u);
    IrValueId x = fe_linear_mixed(l, "in_proj", d->bias, mixes(&s, FE_IN_PROJ), s.chosen, u);
    IrValueId c = lower_conv(l, &s, x);
    if (inner) s.chosen = fe_router(l, &block->router, c);
    IrValueId z = fe_linear_mixed(l, "gate_proj", d->bias, mixes(&s, FE_GATE_PROJ), s.chosen, u);
    IrValueId y = lower_scan(l, &s, c);
    y = fe_op2(l, IR_OP_mul, y, fe_activation(l, d->activation, z));
    return fe_linear_mixed(l, "out_proj", d->bias, mixes(&s, FE_OUT_PROJ), s.chosen, y);
}

/* ---- describing ---- */

static void describe(const FeBlock *block, SuText *out) {
    if (!block->experts.count) return;
    const char *combine = block->experts.combine == FE_PARAMS ? "params" : "outputs";
    su_text_add(out, "%lld experts, top %lld, %s", (long long)block->experts.count, (long long)block->router.top_k, combine);
}

const FeKind fe_kind_ssm = {build, add_tensors, lower, describe};
