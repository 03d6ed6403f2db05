/* Random weights for measuring. `mossc init` makes the language's; these only have their sizes and signs. */
#include "driver/random_weights.h"

#include <math.h>
#include <string.h>

#include "support/clock.h"

/* Tensors of a pool start at different multiples of this many elements, so that no two experts' rows are the same. */
enum { STRIDE = 16, SLACK = 4096 };

/* Elements of one kind, from which every tensor of that kind takes its own from some place on: the runtime holds on to all of
 * a model's elements until they are packed, and two copies of a large model may not fit. */
typedef struct Pool {
    const FeTensor *like; /* a tensor of the pool: what its elements follow */
    uint64_t size;        /* elements of the largest tensor; SLACK more are there */
    float *data;
} Pool;

typedef struct RandomWeights {
    const FeTensor *tensors;
    size_t count;
    size_t next; /* where the search starts: tensors are asked for in order */
    Pool *pools;
    size_t n_pools, capacity;
    SuArena arena; /* owns the pools and their elements */
} RandomWeights;

static uint64_t elements(const FeTensor *tensor) {
    uint64_t n = 1;
    for (int i = 0; i < tensor->rank; i++) n *= (uint64_t)tensor->shape[i];
    return n; /* below 2^48: fe_spec_load saw to it */
}

/* Elements of a and b follow the same distribution, place by place. */
static bool alike(const FeTensor *a, const FeTensor *b) {
    if (a->init != b->init || a->fan != b->fan || a->init_scale != b->init_scale) return false;
    return a->init != FE_INIT_A_LOG || a->shape[a->rank - 1] == b->shape[b->rank - 1];
}

static Pool *find_pool(const RandomWeights *weights, const FeTensor *tensor) {
    for (size_t i = 0; i < weights->n_pools; i++)
        if (alike(weights->pools[i].like, tensor)) return &weights->pools[i];
    return NULL;
}

/* Uniform in [-1, 1): 24 bits of a xorshift generator. */
static float uniform(uint64_t *random) {
    uint64_t x = *random;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    *random = x;
    return (float)(x >> 40) * 0x1p-23f - 1.0f;
}

static void fill(const FeTensor *like, uint64_t n, uint64_t *random, float *out) {
    float bound = (float)like->init_scale;
    switch (like->init) {
    case FE_INIT_UNIFORM_FAN:
        bound /= sqrtf((float)like->fan);
        for (uint64_t i = 0; i < n; i++) out[i] = bound * uniform(random);
        return;
    case FE_INIT_NORMAL: /* a uniform distribution of the same variance */
        for (uint64_t i = 0; i < n; i++) out[i] = 0.02f * 1.7320508f * bound * uniform(random);
        return;
    case FE_INIT_ONES:
        for (uint64_t i = 0; i < n; i++) out[i] = bound;
        return;
    case FE_INIT_ZEROS: return; /* as the arena gave them */
    case FE_INIT_DT_BIAS:       /* log d for time steps d from 0.001 to 0.1, near enough to softplus^-1 */
        for (uint64_t i = 0; i < n; i++) out[i] = -4.6f + 2.3f * uniform(random);
        return;
    case FE_INIT_A_LOG: /* log(1..N) in every row */
        for (uint64_t i = 0; i < n; i++) out[i] = logf((float)(i % (uint64_t)like->shape[like->rank - 1] + 1));
        return;
    case FE_INIT_LOG_UNIFORM:
        for (uint64_t i = 0; i < n; i++) out[i] = logf(8.5f + 7.5f * uniform(random));
        return;
    }
}

/* Makes all elements. */
static RandomWeights make_weights(FeSpec *spec) {
    RandomWeights weights = {0};
    weights.tensors = fe_tensors(spec, &weights.count);
    for (size_t i = 0; i < weights.count; i++) {
        const FeTensor *tensor = &weights.tensors[i];
        Pool *pool = find_pool(&weights, tensor);
        if (!pool) {
            weights.pools = su_grow(&weights.arena, weights.pools, &weights.capacity, weights.n_pools + 1, sizeof *pool);
            pool = &weights.pools[weights.n_pools++];
            *pool = (Pool){.like = tensor};
        }
        if (elements(tensor) > pool->size) pool->size = elements(tensor);
    }
    uint64_t random = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < weights.n_pools; i++) {
        Pool *pool = &weights.pools[i];
        pool->data = SU_NEW_ARRAY(&weights.arena, float, pool->size + SLACK);
        fill(pool->like, pool->size + SLACK, &random, pool->data);
    }
    return weights;
}

/* A MossTensorLookup. */
static const float *look_up(void *context, const char *name) {
    RandomWeights *weights = context;
    for (size_t i = 0; i < weights->count; i++) {
        size_t at = (weights->next + i) % weights->count;
        const FeTensor *tensor = &weights->tensors[at];
        if (strcmp(tensor->name, name) != 0) continue;
        weights->next = at + 1;
        bool rows_repeat = tensor->init == FE_INIT_A_LOG; /* starts with a row */
        return find_pool(weights, tensor)->data + (rows_repeat ? 0 : at * STRIDE % SLACK);
    }
    return NULL;
}

static bool build_random(DrBuild *build, const DrBuildOptions *options, double *out_seconds) {
    RandomWeights random = make_weights(&build->spec);
    double start = su_seconds();
    bool ok = dr_build_from_memory(build, options, "packing random weights", look_up, &random);
    *out_seconds = su_seconds() - start;
    su_arena_free(&random.arena);
    return ok;
}

bool dr_build_weights_or_random(DrBuild *build, const DrBuildOptions *options, double *out_seconds) {
    double start = su_seconds(), seconds;
    bool ok;
    if (options->weights->count) {
        ok = dr_build_weights(build, options);
        seconds = su_seconds() - start;
    } else {
        ok = build_random(build, options, &seconds);
    }
    if (out_seconds) *out_seconds = seconds;
    return ok;
}
