/* The router of a block with experts: its own map under the defaults of routers. */
#include "frontend/kinds.h"

FeMap *fe_block_experts(const FeBuild *b, FeMap *map, FeKey experts_key, FeKey router_key) {
    FeMap *experts = fe_child(map, experts_key);
    const FeValue *router = fe_value(map, router_key);
    if (experts)
        fe_complete(&b->load->reader, experts);
    else if (!fe_broken(map, experts_key) && router->written && router->state == FE_GIVEN)
        fe_misplaced(b, router, "'router' has no meaning in a block without experts");
    if (!experts) fe_drop(map, router_key);
    return experts;
}

static void check_top_k(const FeBuild *b, const FeMap *router, const FeMap *experts, FeKey count_key) {
    const FeValue *top_k = fe_value(router, KEY(router, top_k)), *count = fe_value(experts, count_key);
    if (top_k->state != FE_GIVEN || count->state != FE_GIVEN || top_k->integer <= count->integer) return;
    if (top_k->node) {
        fe_refuse(b, top_k, "'router.top_k' is %lld, but there are only %lld experts", (long long)top_k->integer,
                  (long long)count->integer);
    } else {
        fe_refuse(b, count, "'%s' is %lld, but 'router.top_k' is %lld unless given", fe_key_name(b->arena, count_key),
                  (long long)count->integer, (long long)top_k->integer);
    }
}

/* Only a block with an inner activation can route by it. */
static void check_input(const FeBuild *b, FeMap *router) {
    FeValue *input = fe_value(router, KEY(router, input));
    if (input->state == FE_GIVEN && input->integer == FE_ROUTER_INNER && input->written)
        fe_refuse(b, input, "'router.input': %s blocks have no inner activation to use as router input",
                  fe_block_kind_word(b->out->kind));
    fe_set_integer(router, KEY(router, input), FE_ROUTER_BLOCK);
    input->moot = true;
}

/* Runs must be equal, and the best of them hold top_k experts. */
static void check_groups(const FeBuild *b, FeMap *router, const FeMap *experts, FeKey count_key) {
    FeMap *groups = fe_child(router, KEY(router, groups));
    if (!groups) return;
    fe_complete(&b->load->reader, groups);
    const FeValue *count = fe_value(groups, KEY(router_groups, count)), *top = fe_value(groups, KEY(router_groups, top));
    const FeValue *experts_count = fe_value(experts, count_key), *top_k = fe_value(router, KEY(router, top_k));
    if (count->state != FE_GIVEN || top->state != FE_GIVEN) return;
    long long n = (long long)count->integer, m = (long long)top->integer, E = (long long)experts_count->integer;
    if (m > n) fe_refuse(b, top, "'router.groups.top' is %lld, but there are only %lld groups", m, n);
    if (experts_count->state != FE_GIVEN) return;
    if (E % n != 0) {
        fe_refuse(b, count, "'router.groups.count': %lld does not divide the number of experts %lld", n, E);
    } else if (m <= n && top_k->state == FE_GIVEN && top_k->integer > E / n * m) {
        fe_refuse(b, top_k->node ? top_k : top, "'router.top_k' is %lld, but the %lld best groups have only %lld experts",
                  (long long)top_k->integer, m, E / n * m);
    }
}

static void warn_normalized(const FeBuild *b, const FeMap *router) {
    const FeRouter *r = &b->out->router;
    if (r->top_k != 1 || !r->normalize) return;
    fe_report_once(&b->load->reader, SU_CODE_constant_gate, fe_value(router, KEY(router, top_k))->span,
                   "normalize: false keeps the score as the combine weight",
                   "'router.top_k' is 1 and normalize is true: the combine weight is then always scale");
}

const FeMap *fe_build_router(const FeBuild *b, FeMap *map, FeKey router_key, const FeMap *experts, FeKey count, bool inner) {
    const FeMap *own = fe_child(map, router_key);
    const FeReader *reader = &b->load->reader;
    size_t errors = reader->diags->errors;
    const FeMap *base = b->load->defaults ? fe_child(b->load->defaults, KEY(defaults, router)) : NULL;
    FeMap *router = fe_merge(b->arena, base, own, FE_SECTION_router, own ? own->span : b->span);
    fe_complete(reader, router);
    fe_set_map(map, router_key, router);
    check_top_k(b, router, experts, count);
    if (!inner) check_input(b, router);
    check_groups(b, router, experts, count);
    const FeMap *groups = fe_child(router, KEY(router, groups));
    b->out->router = (FeRouter){
        .top_k = fe_integer(router, KEY(router, top_k)),
        .score = (FeScore)fe_integer(router, KEY(router, score)),
        .normalize = fe_truth(router, KEY(router, normalize)),
        .scale = fe_real(router, KEY(router, scale)),
        .select_bias = fe_truth(router, KEY(router, select_bias)),
        .bias = fe_truth(router, KEY(router, bias)),
        .input = (FeRouterInput)fe_integer(router, KEY(router, input)),
        .groups = groups ? fe_integer(groups, KEY(router_groups, count)) : 1,
        .top_groups = groups ? fe_integer(groups, KEY(router_groups, top)) : 1,
    };
    if (errors == reader->diags->errors) warn_normalized(b, router);
    return router;
}
