/* ssm: state-space blocks (docs/language.md, "ssm"). What their kinds share, and mamba1; mamba2.c and mamba3.c have the others. */
#include "frontend/kinds/ssm.h"

#include <string.h>

#include "support/size.h"

FeSsm fe_read_ssm(const FeMap *map) {
    const FeMap *experts = fe_child(map, KEY(ssm, experts));
    const FeValue *limit = fe_value(map, KEY(ssm, dt_limit));
    return (FeSsm){
        .kind = (FeSsmKind)fe_integer(map, KEY(ssm, kind)),
        .d_inner = fe_integer(map, KEY(ssm, d_inner)),
        .d_state = fe_integer(map, KEY(ssm, d_state)),
        .d_conv = fe_integer(map, KEY(ssm, d_conv)),
        .dt_rank = fe_integer(map, KEY(ssm, dt_rank)),
        .conv_bias = fe_truth(map, KEY(ssm, conv_bias)),
        .bias = fe_truth(map, KEY(ssm, bias)),
        .activation = (FeActivation)fe_integer(map, KEY(ssm, activation)),
        .zoh = fe_integer(map, KEY(ssm, discretize)) == FE_ZOH,
        .dt_norm = fe_truth(map, KEY(ssm, dt_norm)),
        .b_norm = fe_truth(map, KEY(ssm, b_norm)),
        .c_norm = fe_truth(map, KEY(ssm, c_norm)),
        .inner_norm_eps = fe_real(map, KEY(ssm, inner_norm_eps)),
        .head_dim = fe_integer(map, KEY(ssm, head_dim)),
        .n_groups = fe_integer(map, KEY(ssm, n_groups)),
        .limits_dt = limit->state == FE_GIVEN && !limit->word,
        .dt_low = limit->real,
        .dt_high = limit->high,
        .gated_norm = fe_integer(map, KEY(ssm, gated_norm)) == FE_GATED_RMS,
        .norm_before_gate = fe_truth(map, KEY(ssm, norm_before_gate)),
        .norm_groups = fe_integer(map, KEY(ssm, norm_groups)),
        .d_per_channel = fe_truth(map, KEY(ssm, d_per_channel)),
        .rope_fraction = fe_real(map, KEY(ssm, rope_fraction)),
        .mimo_rank = fe_value(map, KEY(ssm, mimo_rank))->word ? 0 : fe_integer(map, KEY(ssm, mimo_rank)),
        .a_softplus = fe_integer(map, KEY(ssm, a_activation)) == FE_A_SOFTPLUS,
        .a_floor = fe_real(map, KEY(ssm, a_floor)),
        .head_norm = fe_truth(map, KEY(ssm, out_norm_heads)),
        .experts = experts,
        .params = experts && fe_integer(experts, KEY(ssm_experts, combine)) == FE_PARAMS,
        .idle = experts ? (FeIdle)fe_integer(experts, KEY(ssm_experts, idle)) : FE_HOLD,
    };
}

/* Whether each expert has its own of what per_expert calls `part`. */
bool fe_ssm_owns(const FeSsm *s, const char *part) {
    return s->experts && fe_has_word(s->experts, KEY(ssm_experts, per_expert), part);
}

bool fe_ssm_keeps_states(const FeSsm *s) { return s->experts && !s->params; }

/* ---- building ---- */

/* What each expert may have of its own, by kind; the first four with outputs too. */
static const char *const own_parts[][8] = {
    [FE_MAMBA1] = {"x_proj", "dt_proj", "A", "D", "in_proj", "gate_proj", "conv", "out_proj"},
    [FE_MAMBA2] = {"bc_proj", "dt_proj", "A", "D", "in_proj", "gate_proj", "conv", "out_proj"},
};

static void check_per_expert(const FeBuild *b, const FeMap *map, const FeMap *experts) {
    const FeSsmKind kind = (FeSsmKind)fe_integer(map, KEY(ssm, kind));
    const FeValue *names = fe_value(experts, KEY(ssm_experts, per_expert));
    const FeValue *combine = fe_value(experts, KEY(ssm_experts, combine));
    if (names->state != FE_GIVEN || combine->state != FE_GIVEN || fe_broken(map, KEY(ssm, kind))) return;
    for (size_t i = 0; i < names->node->count; i++) {
        const FeNode *item = names->node->items[i];
        int at = 0;
        while (at < 8 && strcmp(item->text, own_parts[kind][at]) != 0) at++;
        FeValue place = *names;
        place.span = item->span;
        if (at == 8)
            fe_refuse(b, &place, "'ssm.experts.per_expert': %s is not a part of kind: %s", item->text,
                      kind == FE_MAMBA2 ? "mamba2" : "mamba1");
        else if (at >= 4 && combine->integer == FE_OUTPUTS)
            fe_refuse(b, &place, "'ssm.experts.per_expert': %s needs combine: params; outputs allows %s, dt_proj, A and D",
                      item->text, own_parts[kind][0]);
    }
}

void fe_ssm_check_divides(const FeBuild *b, FeMap *map, FeKey key, int64_t whole, const char *of) {
    int64_t part = fe_integer(map, key);
    if (fe_broken(map, key) || whole <= 0 || part <= 0 || whole % part == 0) return;
    fe_refuse(b, fe_value(map, key), "'ssm.%s': %lld does not divide %s %lld", fe_key_row(key)->name, (long long)part, of,
              (long long)whole);
}

void fe_ssm_check_heads(const FeBuild *b, FeMap *map, const FeSsm *s) {
    fe_ssm_check_divides(b, map, KEY(ssm, head_dim), s->d_inner, "d_inner");
    if (s->head_dim > 0 && s->d_inner % s->head_dim == 0)
        fe_ssm_check_divides(b, map, KEY(ssm, n_groups), s->d_inner / s->head_dim, "the number of heads");
}

/* `inner` routes by c, so everything that c is made of must be the same for all experts. */
static void check_inner(const FeBuild *b, const FeSsm *s, const FeMap *router) {
    bool own_x = fe_ssm_owns(s, "in_proj"), own_conv = fe_ssm_owns(s, "conv");
    if (b->out->router.input != FE_ROUTER_INNER || !s->params || !(own_x || own_conv)) return;
    fe_refuse(b, fe_value(router, KEY(router, input)),
              "'router.input': inner needs one %s for all experts, but per_expert names it", own_x ? "in_proj" : "conv");
}

static void warn_gates(const FeBuild *b, const FeSsm *s, const FeMap *router) {
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
    check_per_expert(b, map, experts);
    b->out->experts.count = fe_integer(experts, KEY(ssm_experts, count));
    size_t errors = b->load->reader.diags->errors;
    const FeMap *router = fe_build_router(b, map, KEY(ssm, router), experts, KEY(ssm_experts, count), true);
    const FeSsm s = fe_read_ssm(map);
    check_inner(b, &s, router);
    if (errors == b->load->reader.diags->errors) warn_gates(b, &s, router);
    b->out->experts.busy = s.idle == FE_UPDATE ? b->out->experts.count : b->out->router.top_k;
}

/* What some kinds have, others have not. */
static void settle_kind(const FeBuild *b, FeMap *map, FeSsmKind kind) {
    enum { ONE = 1 << FE_MAMBA1, TWO = 1 << FE_MAMBA2, THREE = 1 << FE_MAMBA3 };
    static const struct {
        FeKey key;
        unsigned kinds;
    } own[] = {
        {KEY(ssm, dt_rank), ONE},          {KEY(ssm, dt_norm), ONE},          {KEY(ssm, b_norm), ONE},
        {KEY(ssm, c_norm), ONE},           {KEY(ssm, d_conv), ONE | TWO},     {KEY(ssm, conv_bias), ONE | TWO},
        {KEY(ssm, bias), ONE | TWO},       {KEY(ssm, activation), ONE | TWO}, {KEY(ssm, discretize), ONE | TWO},
        {KEY(ssm, head_dim), TWO | THREE}, {KEY(ssm, n_groups), TWO | THREE}, {KEY(ssm, dt_limit), TWO},
        {KEY(ssm, gated_norm), TWO},       {KEY(ssm, norm_before_gate), TWO}, {KEY(ssm, norm_groups), TWO},
        {KEY(ssm, d_per_channel), TWO},    {KEY(ssm, rope_fraction), THREE},  {KEY(ssm, mimo_rank), THREE},
        {KEY(ssm, a_activation), THREE},   {KEY(ssm, a_floor), THREE},        {KEY(ssm, out_norm_heads), THREE},
    };
    const char *word;
    int size;
    bool reserved;
    fe_word_at(fe_key_row(KEY(ssm, kind))->words, (int)kind, &word, &size, &reserved);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const FeValue *value = fe_value(map, own[i].key);
        if (own[i].kinds >> kind & 1) continue;
        if (value->written && value->node)
            fe_misplaced(b, value, "'ssm.%s' has no meaning with kind: %.*s", fe_key_row(own[i].key)->name, size, word);
        fe_set_moot(&b->load->reader, map, own[i].key);
    }
}

/* mamba3 has no experts; defaults that give some are for other kinds. */
static void refuse_experts(const FeBuild *b, FeMap *map) {
    const FeValue *experts = fe_value(map, KEY(ssm, experts));
    if (experts->written && experts->node && !experts->word)
        fe_misplaced(b, experts, "'ssm.experts': kind: mamba3 has no experts in this version");
    fe_set_moot(&b->load->reader, map, KEY(ssm, experts));
}

static void build(const FeBuild *b, FeMap *map) {
    const FeSpec *spec = b->load->spec;
    if (fe_broken(map, KEY(ssm, kind))) return; /* reported; what the other keys mean depends on it */
    const FeSsmKind kind = (FeSsmKind)fe_integer(map, KEY(ssm, kind));
    settle_kind(b, map, kind);
    if (kind == FE_MAMBA3) refuse_experts(b, map);
    fe_width(b, map, KEY(ssm, d_inner), KEY(ssm, expand));
    if (!fe_given(map, KEY(ssm, d_state))) fe_set_integer(map, KEY(ssm, d_state), kind == FE_MAMBA1 ? 16 : 128);
    if (kind == FE_MAMBA2) fe_build_mamba2(b, map);
    if (kind == FE_MAMBA3) fe_build_mamba3(b, map);
    if (fe_value(map, KEY(ssm, dt_rank))->word)
        fe_set_integer(map, KEY(ssm, dt_rank), (int64_t)su_ceil_div((uint64_t)spec->d_model, 16));
    if (!fe_given(map, KEY(ssm, inner_norm_eps))) fe_set_real(map, KEY(ssm, inner_norm_eps), spec->norm.eps);
    FeMap *experts = fe_block_experts(b, map, KEY(ssm, experts), KEY(ssm, router));
    if (experts) build_experts(b, map, experts);
    const FeSsm s = fe_read_ssm(map);
    uint64_t states = fe_ssm_keeps_states(&s) ? (uint64_t)b->out->experts.count : 1;
    uint64_t one = (uint64_t)s.d_inner * (uint64_t)s.d_state; /* d_inner < 2^31, d_state <= 256 */
    if (kind == FE_MAMBA3) one += fe_mamba3_held(&s);
    if (!su_mul(one, states, &b->out->state_elements)) b->out->state_elements = UINT64_MAX;
    b->out->knows_order = true;
}

/* ---- tensors ---- */

void fe_ssm_conv_tensors(FeTensorList *l, const FeSsm *s, int64_t channels) {
    bool own = fe_ssm_owns(s, "conv");
    fe_draw_uniform(fe_add_part(l, "conv.weight", own, channels, s->d_conv), s->d_conv);
    if (s->conv_bias) fe_draw_uniform(fe_add_part(l, "conv.bias", own, 0, channels), s->d_conv);
}

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const FeSsm values = fe_read_ssm(block->map), *s = &values;
    const int64_t D = l->spec->d_model, I = s->d_inner, N = s->d_state, R = s->dt_rank;
    fe_add_router(l, block->router.input == FE_ROUTER_INNER ? I : D);
    if (s->kind == FE_MAMBA2) {
        fe_mamba2_tensors(l, s);
        return;
    }
    if (s->kind == FE_MAMBA3) {
        fe_mamba3_tensors(l, s);
        return;
    }
    fe_add_linear(l, "in_proj", fe_ssm_owns(s, "in_proj"), I, D, s->bias);
    fe_add_linear(l, "gate_proj", fe_ssm_owns(s, "gate_proj"), I, D, s->bias);
    fe_ssm_conv_tensors(l, s, I);
    fe_add_linear(l, "x_proj", fe_ssm_owns(s, "x_proj"), R + 2 * N, I, false);
    fe_add_linear(l, "dt_proj", fe_ssm_owns(s, "dt_proj"), I, R, true)[1].init = FE_INIT_DT_BIAS;
    if (s->dt_norm) fe_add_norm(l, "dt_norm", FE_NORM_RMS, R);
    if (s->b_norm) fe_add_norm(l, "b_norm", FE_NORM_RMS, N);
    if (s->c_norm) fe_add_norm(l, "c_norm", FE_NORM_RMS, N);
    FeTensor *A = fe_add_part(l, "A_log", fe_ssm_owns(s, "A"), I, N);
    A->init = FE_INIT_A_LOG;
    A->neg_exp = true;
    fe_add_part(l, "D", fe_ssm_owns(s, "D"), 0, I)->init = FE_INIT_ONES;
    fe_add_linear(l, "out_proj", fe_ssm_owns(s, "out_proj"), D, I, s->bias)->init_scale = l->deep;
}

/* ---- lowering ---- */

bool fe_ssm_mixes(const FeSsmMaking *s, const char *part) { return s->d.params && fe_ssm_owns(&s->d, part); }

/* Channels [first, first + count) of the convolution's weight or bias, mixed where each expert has its own. */
static IrValueId conv_part(FeLower *l, const FeSsmMaking *s, const char *name, FeSsmChannels part) {
    IrValueId w = fe_weight(l, name);
    int64_t dim = fe_ssm_owns(&s->d, "conv");
    if (part.count != part.of) w = fe_take(l, w, dim, part.first, part.count);
    return fe_ssm_mixes(s, "conv") ? fe_op3(l, IR_OP_mix, w, s->chosen.experts, s->chosen.gates) : w;
}

/* The convolution of x's planes, each with the history of its expert. */
static IrValueId conv_each(FeLower *l, const FeSsmMaking *s, int64_t channels, const char *what, IrValueId w, IrValueId x) {
    int64_t past = s->d.d_conv - 1;
    IrValueId operands[] = {x, w, IR_NONE, s->chosen.experts};
    if (past > 0) operands[2] = fe_state(l, what, ir_type(IR_F32, 3, s->block->experts.count, channels, past));
    IrNode *node = ir_node(&l->b, IR_OP_conv_each, operands, past == 0 ? 2 : s->d.idle == FE_HOLD ? 4 : 3, NULL);
    if (past > 0) l->b.graph->values[operands[2]].next = node->results[1];
    return node->results[0];
}

IrValueId fe_ssm_conv(FeLower *l, const FeSsmMaking *s, FeSsmChannels part, const char *what, bool planes, IrValueId x) {
    const FeSsm *d = &s->d;
    IrValueId w = conv_part(l, s, "conv.weight", part);
    IrValueId y = planes ? conv_each(l, s, part.count, what, w, x) : fe_conv(l, what, part.count, d->d_conv, w, x);
    if (d->conv_bias) y = fe_op2(l, fe_ssm_mixes(s, "conv") ? IR_OP_add : IR_OP_add_bias, y, conv_part(l, s, "conv.bias", part));
    return fe_activation(l, d->activation, y);
}

IrValueId fe_ssm_linear(FeLower *l, const FeSsmMaking *s, const char *name, bool bias, IrValueId x) {
    if (fe_ssm_keeps_states(&s->d) && fe_ssm_owns(&s->d, name)) return fe_linear_all(l, name, bias, x);
    return fe_linear_mixed(l, name, bias, fe_ssm_mixes(s, name), s->chosen, x);
}

IrValueId fe_ssm_recur(FeLower *l, const FeSsmMaking *s, IrValueId a, IrValueId b) {
    const FeSsm *d = &s->d;
    bool own = fe_ssm_keeps_states(d);
    IrType type =
        own ? ir_type(IR_F32, 3, s->block->experts.count, d->d_inner, d->d_state) : ir_type(IR_F32, 2, d->d_inner, d->d_state);
    IrValueId held = fe_state(l, "ssm", type);
    IrValueId operands[] = {a, b, held, s->chosen.experts};
    IrNode *node = ir_node(&l->b, IR_OP_recur, operands, own && d->idle == FE_HOLD ? 4 : 3, NULL);
    l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

static IrValueId inner_norm(FeLower *l, const FeSsmMaking *s, bool wanted, const char *name, IrValueId x) {
    if (!wanted) return x;
    return fe_norm(l, (FeNorm){FE_NORM_RMS, s->d.inner_norm_eps}, name, x);
}

/* Δ = softplus(W_dt δ + b_dt): [R,I] or [R,E,I] */
static IrValueId lower_delta(FeLower *l, const FeSsmMaking *s, IrValueId delta) {
    return fe_op1(l, IR_OP_softplus, fe_ssm_linear(l, s, "dt_proj", true, delta));
}

/* s ← exp(Δ ⊗ A) ∘ s + (Δ ∘ c) ⊗ B; returns every row's s */
static IrValueId lower_recurrence(FeLower *l, const FeSsmMaking *s, IrValueId dt, IrValueId c, IrValueId B) {
    const FeSsm *d = &s->d;
    IrValueId A = fe_weight(l, "A_log");
    if (fe_ssm_mixes(s, "A")) A = fe_op3(l, IR_OP_mix, A, s->chosen.experts, s->chosen.gates);
    IrValueId v = fe_op2(l, IR_OP_outer, dt, A), a = fe_op1(l, IR_OP_exp, v);
    IrValueId b = fe_inject(l, fe_op2(l, IR_OP_mul, dt, c), B, 1);
    if (d->zoh) b = fe_op2(l, IR_OP_mul, b, fe_op1(l, IR_OP_zoh, v));
    return fe_ssm_recur(l, s, a, b);
}

/* D ∘ c */
static IrValueId lower_skip(FeLower *l, const FeSsmMaking *s, IrValueId c) {
    IrValueId D = fe_weight(l, "D");
    if (fe_ssm_mixes(s, "D")) return fe_op2(l, IR_OP_mul, c, fe_op3(l, IR_OP_mix, D, s->chosen.experts, s->chosen.gates));
    return fe_op2(l, IR_OP_mul_param, c, D);
}

/* y = s·C + D ∘ c, summed over the chosen experts where each has a state */
static IrValueId lower_scan(FeLower *l, const FeSsmMaking *s, IrValueId c) {
    const FeSsm *d = &s->d;
    bool heads = fe_ssm_keeps_states(&s->d);
    IrValueId dbc = fe_ssm_linear(l, s, "x_proj", false, c);
    IrValueId delta = inner_norm(l, s, d->dt_norm, "dt_norm", fe_slice(l, dbc, 0, d->dt_rank));
    IrValueId B = inner_norm(l, s, d->b_norm, "b_norm", fe_slice(l, dbc, d->dt_rank, d->d_state));
    IrValueId C = inner_norm(l, s, d->c_norm, "c_norm", fe_slice(l, dbc, d->dt_rank + d->d_state, d->d_state));
    IrValueId dt = lower_delta(l, s, delta);
    IrValueId states = lower_recurrence(l, s, dt, c, B);
    IrValueId y = fe_contract(l, states, C, 1);
    y = fe_op2(l, IR_OP_add, y, lower_skip(l, s, c));
    return heads ? fe_op3(l, IR_OP_expert_sum, y, s->chosen.experts, s->chosen.gates) : y;
}

static IrValueId lower(FeLower *l, const FeBlock *block, IrValueId u) {
    FeSsmMaking s = {.block = block, .d = fe_read_ssm(block->map), .chosen = {IR_NONE, IR_NONE}};
    const FeSsm *d = &s.d;
    bool inner = d->experts && block->router.input == FE_ROUTER_INNER;
    if (d->experts && !inner) s.chosen = fe_router(l, &block->router, u);
    if (d->kind == FE_MAMBA2) return fe_lower_mamba2(l, &s, u);
    if (d->kind == FE_MAMBA3) return fe_lower_mamba3(l, &s, u);
    IrValueId x = fe_ssm_linear(l, &s, "in_proj", d->bias, u);
    IrValueId c = fe_ssm_conv(l, &s, (FeSsmChannels){0, d->d_inner, d->d_inner}, "conv", false, x);
    if (inner) s.chosen = fe_router(l, &block->router, c);
    IrValueId z = fe_ssm_linear(l, &s, "gate_proj", d->bias, u);
    IrValueId y = lower_scan(l, &s, c);
    y = fe_op2(l, IR_OP_mul, y, fe_activation(l, d->activation, z));
    return fe_ssm_linear(l, &s, "out_proj", d->bias, y);
}

/* ---- describing ---- */

static void describe(const FeBlock *block, SuText *out) {
    if (!block->experts.count) return;
    const char *combine = fe_read_ssm(block->map).params ? "params" : "outputs";
    su_text_add(out, "%lld experts, top %lld, %s", (long long)block->experts.count, (long long)block->router.top_k, combine);
}

const FeKind fe_kind_ssm = {build, add_tensors, lower, describe};
