/* Fresh weights. Generator: xoshiro256** (Blackman, Vigna 2018), its state filled by splitmix64 from the seed and the FNV-1a hash
 * of the tensor's name. Normal draws by Box and Muller (1958) with our own log, cos and sin. */
#include "runtime/fresh.h"

#include <math.h>
#include <string.h>

#include "support/dmath.h"
#include "support/random.h"

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t xoshiro(uint64_t s[4]) {
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static double uniform(RtFreshStream *s) { return su_unit(xoshiro(s->state)); }

static double normal(RtFreshStream *s) {
    static const double two_pi = 0x1.921fb54442d18p+2;
    if (s->has_spare) {
        s->has_spare = false;
        return s->spare;
    }
    double radius = sqrt(-2 * su_dlog(1 - uniform(s))); /* 1 − u is in (0, 1] */
    double angle = two_pi * uniform(s);
    s->spare = radius * su_dsin(angle);
    s->has_spare = true;
    return radius * su_dcos(angle);
}

static double dt_bias(RtFreshStream *s) {
    double low = su_dlog(0.001), high = su_dlog(0.1);
    double d = su_dexp(low + uniform(s) * (high - low));
    d = d > 1e-4 ? d : 1e-4;
    return su_dlog(su_dexp(d) - 1); /* softplus⁻¹; at d ≥ 1e-4 the difference keeps 39 bits, a float takes 24 */
}

static double draw(RtFreshStream *s) {
    const RtFreshTensor *t = s->tensor;
    switch (t->kind) {
    case RT_FRESH_UNIFORM_FAN: return (2 * uniform(s) - 1) / sqrt((double)t->fan) * t->scale;
    case RT_FRESH_NORMAL: return 0.02 * normal(s) * t->scale;
    case RT_FRESH_ONES: return t->scale;
    case RT_FRESH_ZEROS: return 0;
    case RT_FRESH_DT_BIAS: return dt_bias(s);
    case RT_FRESH_A_LOG: return su_dlog((double)(s->index % (uint64_t)t->tensor.shape[t->tensor.rank - 1] + 1));
    case RT_FRESH_LOG_UNIFORM: return su_dlog(1 + 15 * uniform(s));
    }
    return 0;
}

RtFreshStream rt_fresh_start(const RtFreshTensor *tensor, uint64_t seed) {
    RtFreshStream s = {.tensor = tensor};
    uint64_t hash = 0xCBF29CE484222325;
    for (const char *c = tensor->tensor.name; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001B3;
    uint64_t start = su_random(&seed) ^ hash;
    for (int i = 0; i < 4; i++) s.state[i] = su_random(&start);
    return s;
}

void rt_fresh_next(RtFreshStream *stream, uint64_t count, float *out) {
    for (uint64_t i = 0; i < count; i++, stream->index++) out[i] = (float)draw(stream);
}

/* The writer asks tensor after tensor; a new one starts its stream. */
typedef struct Writing {
    const RtFreshTensor *tensors;
    uint64_t seed;
    RtFreshStream stream;
    MossProgress progress;
    void *progress_context;
    uint64_t done, total; /* bytes */
} Writing;

static void fill(void *context, size_t tensor, uint64_t first, uint64_t count, void *out) {
    Writing *w = context;
    if (first == 0) w->stream = rt_fresh_start(&w->tensors[tensor], w->seed);
    rt_fresh_next(&w->stream, count, out);
    w->done += count * sizeof(float);
    if (w->progress) w->progress(w->progress_context, w->done, w->total);
}

static uint64_t tensor_bytes(const RtWriteTensor *tensor) {
    uint64_t bytes = sizeof(float);
    for (int i = 0; i < tensor->rank; i++) bytes *= (uint64_t)tensor->shape[i];
    return bytes;
}

bool rt_fresh_write(const char *path, const RtFreshTensor *tensors, size_t n_tensors, uint64_t seed, MossProgress progress,
                    void *progress_context, SuDiags *diags) {
    SuArena arena = {0};
    RtWriteTensor *list = SU_NEW_ARRAY(&arena, RtWriteTensor, n_tensors);
    Writing writing = {.tensors = tensors, .seed = seed, .progress = progress, .progress_context = progress_context};
    for (size_t i = 0; i < n_tensors; i++) {
        list[i] = tensors[i].tensor;
        writing.total += tensor_bytes(&list[i]);
    }
    bool ok = rt_safetensors_write(path, list, n_tensors, fill, &writing, diags);
    su_arena_free(&arena);
    return ok;
}
