/* One block: its own map under the defaults, and the rules that tie its keys to each other.
 *
 * A value that came from defaults and has no meaning here is dropped; one that was written here is an error. A default that
 * has a meaning but does not fit is an error at the default, with a note of the block that it does not fit. */
#include <string.h>

#include "frontend/load.h"
#include "support/size.h"

#define KEY(section, key) FE_KEY_##section##_##key

typedef struct Build {
    const FeLoad *load;
    SuArena *arena;
    SuSpan span; /* of the block */
    FeBlock *out;
} Build;

/* ---- errors ---- */

static const char *used_by(const Build *b, const FeValue *value) {
    if (value->written || !value->node) return NULL;
    return su_printf(b->arena, "this default is used by the %s block at line %u", fe_block_kind_word(b->out->kind),
                     (unsigned)b->span.line);
}

__attribute__((format(printf, 3, 4))) static void refuse(const Build *b, const FeValue *value, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fe_error_once(&b->load->reader, value->span, used_by(b, value), su_vprintf(b->arena, format, args));
    va_end(args);
}

/* What was written where it has no meaning: the key itself is wrong, not its value. */
__attribute__((format(printf, 3, 4))) static void misplaced(const Build *b, const FeValue *value, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fe_error_once(&b->load->reader, value->key_span, NULL, su_vprintf(b->arena, format, args));
    va_end(args);
}

/* ---- values; of a broken one anything may come back: the spec is refused anyway ---- */

static int64_t integer(const FeMap *map, FeKey key) { return fe_value(map, key)->integer; }

static bool truth(const FeMap *map, FeKey key) { return fe_value(map, key)->integer != 0; }

/* I or F: given outright, or expand · D, which must be whole exactly. */
static int64_t width(const Build *b, const FeMap *map, FeKey outright, FeKey expand) {
    const FeValue *factor = fe_value(map, expand);
    int64_t d_model = b->load->spec->d_model, result = 0;
    bool whole;
    if (fe_given(map, outright)) return integer(map, outright);
    if (factor->state != FE_GIVEN || !b->load->d_model_known || fe_parse_scaled(factor->text, d_model, &result, &whole))
        return result;
    const char *name = fe_key_name(b->arena, expand), *text = fe_quote(b->arena, factor->text);
    if (whole)
        refuse(b, factor, "'%s': %s times d_model %lld is not below 2^31", name, text, (long long)d_model);
    else
        refuse(b, factor, "'%s': %s times d_model %lld is not a whole number", name, text, (long long)d_model);
    return 0;
}

/* ---- router ---- */

static void check_top_k(const Build *b, const FeMap *router, const FeMap *experts, FeKey count_key) {
    const FeValue *top_k = fe_value(router, KEY(router, top_k)), *count = fe_value(experts, count_key);
    if (top_k->state != FE_GIVEN || count->state != FE_GIVEN || top_k->integer <= count->integer) return;
    if (top_k->node) {
        refuse(b, top_k, "'router.top_k' is %lld, but there are only %lld experts", (long long)top_k->integer,
               (long long)count->integer);
    } else {
        refuse(b, count, "'%s' is %lld, but 'router.top_k' is %lld unless given", fe_key_name(b->arena, count_key),
               (long long)count->integer, (long long)top_k->integer);
    }
}

/* `inner` routes by c, so everything that c is made of must be the same for all experts. */
static void check_input(const Build *b, const FeMap *router, const FeMap *experts) {
    FeValue *input = fe_value(router, KEY(router, input));
    FeRouter *out = &b->out->router;
    if (input->state != FE_GIVEN || input->integer != FE_ROUTER_INNER) return;
    if (b->out->kind != FE_SSM) {
        if (input->written) refuse(b, input, "'router.input': inner has a meaning only in ssm blocks");
        out->input = FE_ROUTER_BLOCK;
        return;
    }
    uint32_t bits = fe_value(experts, KEY(ssm_experts, per_expert))->bits;
    bool params = integer(experts, KEY(ssm_experts, combine)) == FE_PARAMS;
    if (params && bits & (FE_IN_PROJ | FE_CONV)) {
        refuse(b, input, "'router.input': inner needs one %s for all experts, but per_expert names it",
               bits & FE_IN_PROJ ? "in_proj" : "conv");
    }
}

static void warn_gates(const Build *b, const FeMap *router) {
    const FeRouter *r = &b->out->router;
    const FeExperts *e = &b->out->experts;
    const FeReader *reader = &b->load->reader;
    const FeValue *top_k = fe_value(router, KEY(router, top_k));
    if (r->top_k == 1 && r->normalize) {
        fe_warn_once(reader, top_k->span, "normalize: false keeps the score as the gate",
                     "'router.top_k' is 1 and normalize is true: the gate is then always scale");
    }
    bool sum_to_one = r->scale == 1.0 && (r->normalize || (r->score == FE_SOFTMAX && r->top_k == e->count));
    if (b->out->kind == FE_SSM && e->combine == FE_PARAMS && !sum_to_one) {
        const FeValue *cause = fe_value(router, r->scale != 1.0 ? KEY(router, scale) : KEY(router, normalize));
        fe_warn_once(reader, cause->span, used_by(b, cause),
                     "gates do not sum to 1, and combine: params scales every mixed parameter with them, A too");
    }
}

static void build_router(const Build *b, const FeMap *own, const FeMap *experts, FeKey count_key) {
    const FeReader *reader = &b->load->reader;
    size_t errors = reader->diags->errors;
    const FeMap *base = b->load->defaults ? fe_child(b->load->defaults, KEY(defaults, router)) : NULL;
    FeMap *router = fe_merge(b->arena, base, own, FE_SECTION_router, own ? own->span : b->span);
    fe_complete(reader, router);
    b->out->router = (FeRouter){
        .top_k = integer(router, KEY(router, top_k)),
        .score = (FeScore)integer(router, KEY(router, score)),
        .normalize = truth(router, KEY(router, normalize)),
        .scale = fe_value(router, KEY(router, scale))->real,
        .select_bias = truth(router, KEY(router, select_bias)),
        .bias = truth(router, KEY(router, bias)),
        .input = (FeRouterInput)integer(router, KEY(router, input)),
    };
    check_top_k(b, router, experts, count_key);
    check_input(b, router, experts);
    if (errors == reader->diags->errors) warn_gates(b, router);
}

/* The experts' map, complete, or NULL when the block has none. A router beside none is dropped or refused. */
static const FeMap *block_experts(const Build *b, FeMap *map, FeKey experts_key, FeKey router_key) {
    FeMap *experts = fe_child(map, experts_key);
    const FeValue *router = fe_value(map, router_key);
    if (experts)
        fe_complete(&b->load->reader, experts);
    else if (!fe_broken(map, experts_key) && router->written && router->state == FE_GIVEN)
        misplaced(b, router, "'router' has no meaning in a block without experts");
    return experts;
}

/* ---- ssm ---- */

static void check_per_expert(const Build *b, const FeMap *experts) {
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
            refuse(b, &at, "'ssm.experts.per_expert': %s needs combine: params; outputs allows x_proj, dt_proj, A and D",
                   item->text);
        }
    }
}

static void build_ssm_experts(const Build *b, const FeMap *experts, const FeMap *router) {
    const FeValue *idle = fe_value(experts, KEY(ssm_experts, idle));
    const FeValue *combine = fe_value(experts, KEY(ssm_experts, combine));
    FeExperts *e = &b->out->experts;
    *e = (FeExperts){
        .count = integer(experts, KEY(ssm_experts, count)),
        .per_expert = fe_value(experts, KEY(ssm_experts, per_expert))->bits,
        .combine = (FeCombine)combine->integer,
        .idle = (FeIdle)idle->integer,
    };
    if (combine->state == FE_GIVEN && e->combine == FE_PARAMS) {
        if (idle->written && idle->node)
            misplaced(b, idle, "'ssm.experts.idle' has no meaning beside combine: params: there is one state");
        e->idle = FE_HOLD;
    }
    check_per_expert(b, experts);
    build_router(b, router, experts, KEY(ssm_experts, count));
}

static void build_ssm(const Build *b, FeMap *map) {
    const FeSpec *spec = b->load->spec;
    const FeValue *rank = fe_value(map, KEY(ssm, dt_rank)), *eps = fe_value(map, KEY(ssm, inner_norm_eps));
    b->out->ssm = (FeSsm){
        .d_inner = width(b, map, KEY(ssm, d_inner), KEY(ssm, expand)),
        .d_state = integer(map, KEY(ssm, d_state)),
        .d_conv = integer(map, KEY(ssm, d_conv)),
        .dt_rank = rank->word ? (int64_t)su_ceil_div((uint64_t)spec->d_model, 16) : rank->integer,
        .conv_bias = truth(map, KEY(ssm, conv_bias)),
        .bias = truth(map, KEY(ssm, bias)),
        .activation = (FeActivation)integer(map, KEY(ssm, activation)),
        .dt_norm = truth(map, KEY(ssm, dt_norm)),
        .b_norm = truth(map, KEY(ssm, b_norm)),
        .c_norm = truth(map, KEY(ssm, c_norm)),
        .inner_norm_eps = eps->state == FE_GIVEN ? eps->real : spec->norm.eps,
    };
    const FeMap *experts = block_experts(b, map, KEY(ssm, experts), KEY(ssm, router));
    if (experts) build_ssm_experts(b, experts, fe_child(map, KEY(ssm, router)));
}

/* ---- mlp ---- */

static void build_mlp_experts(const Build *b, const FeMap *experts, const FeMap *router) {
    const FeValue *shared = fe_value(experts, KEY(mlp_experts, shared));
    const FeValue *shared_d_ff = fe_value(experts, KEY(mlp_experts, shared_d_ff));
    bool own_width = shared_d_ff->state == FE_GIVEN;
    b->out->experts = (FeExperts){
        .count = integer(experts, KEY(mlp_experts, count)),
        .shared = shared->integer,
        .shared_d_ff = own_width ? shared_d_ff->integer : b->out->mlp.d_ff,
    };
    if (own_width && shared->state == FE_GIVEN && shared->integer == 0) {
        if (shared_d_ff->written) misplaced(b, shared_d_ff, "'mlp.experts.shared_d_ff' has no meaning without shared experts");
        b->out->experts.shared_d_ff = b->out->mlp.d_ff;
    }
    build_router(b, router, experts, KEY(mlp_experts, count));
}

static void build_mlp(const Build *b, FeMap *map) {
    bool any = fe_value(map, KEY(mlp, d_ff))->state != FE_ABSENT || fe_value(map, KEY(mlp, expand))->state != FE_ABSENT;
    if (!any) fe_error_once(&b->load->reader, map->span, NULL, "'mlp.d_ff' or 'mlp.expand' is required");
    b->out->mlp = (FeMlp){
        .d_ff = width(b, map, KEY(mlp, d_ff), KEY(mlp, expand)),
        .activation = (FeActivation)integer(map, KEY(mlp, activation)),
        .bias = truth(map, KEY(mlp, bias)),
    };
    const FeMap *experts = block_experts(b, map, KEY(mlp, experts), KEY(mlp, router));
    if (experts) build_mlp_experts(b, experts, fe_child(map, KEY(mlp, router)));
}

/* ---- attention ---- */

/* D/H, which must be whole. 0 when it is not known. */
static int64_t default_head_dim(const Build *b, const FeMap *map) {
    const FeValue *heads = fe_value(map, KEY(attention, n_heads));
    int64_t d_model = b->load->spec->d_model;
    if (heads->state != FE_GIVEN || !b->load->d_model_known || fe_broken(map, KEY(attention, head_dim))) return 0;
    if (d_model % heads->integer != 0) {
        refuse(b, heads, "'attention.n_heads': %lld does not divide d_model %lld, and head_dim is not given",
               (long long)heads->integer, (long long)d_model);
        return 0;
    }
    return d_model / heads->integer;
}

static void build_rope(const Build *b, FeMap *map, FeAttention *a) {
    FeMap *rope = fe_child(map, KEY(attention, rope));
    if (!rope) return;
    fe_complete(&b->load->reader, rope);
    const FeValue *dim = fe_value(rope, KEY(rope, dim));
    a->rope = true;
    a->rope_theta = fe_value(rope, KEY(rope, theta))->real;
    a->rope_dim = dim->state == FE_GIVEN ? dim->integer : a->head_dim;
    if (dim->state == FE_BROKEN) return;
    const FeValue *at = dim->state == FE_GIVEN ? dim : fe_value(map, KEY(attention, rope));
    if (a->rope_dim % 2 != 0) {
        refuse(b, at, "'attention.rope.dim' is %lld%s, but components turn in pairs: it must be even", (long long)a->rope_dim,
               dim->state == FE_GIVEN ? "" : " (head_dim)");
    } else if (a->head_dim > 0 && a->rope_dim > a->head_dim) {
        refuse(b, at, "'attention.rope.dim' is %lld, more than head_dim %lld", (long long)a->rope_dim, (long long)a->head_dim);
    }
}

static void build_attention(const Build *b, FeMap *map) {
    const FeValue *heads = fe_value(map, KEY(attention, n_heads)), *kv = fe_value(map, KEY(attention, n_kv_heads));
    const FeValue *window = fe_value(map, KEY(attention, window));
    FeAttention *a = &b->out->attention;
    *a = (FeAttention){
        .n_heads = heads->integer,
        .n_kv_heads = kv->state == FE_GIVEN ? kv->integer : heads->integer,
        .window = window->word ? 0 : window->integer,
        .bias = truth(map, KEY(attention, bias)),
    };
    bool given = fe_given(map, KEY(attention, head_dim));
    a->head_dim = given ? integer(map, KEY(attention, head_dim)) : default_head_dim(b, map);
    if (heads->state == FE_GIVEN && kv->state == FE_GIVEN && heads->integer % kv->integer != 0) {
        refuse(b, kv, "'attention.n_kv_heads': %lld does not divide n_heads %lld", (long long)kv->integer,
               (long long)heads->integer);
    }
    build_rope(b, map, a);
}

/* ---- the block ---- */

bool fe_build_block(const FeLoad *load, FeBlockKind kind, const FeMap *own, SuSpan span, FeBlock *out_block) {
    static const struct {
        FeSection section;
        FeKey defaults;
        void (*build)(const Build *b, FeMap *map);
    } kinds[] = {
        [FE_SSM] = {FE_SECTION_ssm, KEY(defaults, ssm), build_ssm},
        [FE_MLP] = {FE_SECTION_mlp, KEY(defaults, mlp), build_mlp},
        [FE_ATTENTION] = {FE_SECTION_attention, KEY(defaults, attention), build_attention},
    };
    const Build b = {load, load->reader.arena, span, out_block};
    size_t errors = load->reader.diags->errors;
    *out_block = (FeBlock){.kind = kind, .span = span};
    const FeMap *base = load->defaults ? fe_child(load->defaults, kinds[kind].defaults) : NULL;
    FeMap *map = fe_merge(b.arena, base, own, kinds[kind].section, span);
    fe_complete(&load->reader, map);
    kinds[kind].build(&b, map);
    return load->reader.diags->errors == errors;
}
