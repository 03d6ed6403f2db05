/* Fresh weights (docs: the language page, "Fresh weights"): the same seed gives the same bytes on every machine. */
#ifndef MOSSC_RUNTIME_FRESH_H
#define MOSSC_RUNTIME_FRESH_H

#include "mossc/moss.h"
#include "runtime/safetensors.h"

typedef enum RtFreshKind {
    RT_FRESH_UNIFORM_FAN, /* U(±1/√fan) */
    RT_FRESH_NORMAL,      /* N(0, 0.02) */
    RT_FRESH_ONES,
    RT_FRESH_ZEROS,
    RT_FRESH_DT_BIAS,     /* softplus⁻¹(max(d, 1e-4)), log d uniform in [log 0.001, log 0.1] */
    RT_FRESH_A_LOG,       /* log(1 … N) along the last dimension */
    RT_FRESH_LOG_UNIFORM  /* log U(1, 16) */
} RtFreshKind;

typedef struct RtFreshTensor {
    RtWriteTensor tensor;
    RtFreshKind kind;
    int64_t fan;  /* RT_FRESH_UNIFORM_FAN */
    double scale; /* of the first three kinds: what is drawn is multiplied by it */
} RtFreshTensor;

/* A tensor being drawn, element after element: a stream of its own, from seed and name. */
typedef struct RtFreshStream {
    const RtFreshTensor *tensor;
    uint64_t state[4];   /* of xoshiro256** */
    double spare;        /* the second of a pair of normal draws */
    bool has_spare;
    uint64_t index;      /* of the next element */
} RtFreshStream;

RtFreshStream rt_fresh_start(const RtFreshTensor *tensor, uint64_t seed);
void rt_fresh_next(RtFreshStream *stream, uint64_t count, float *out);

/* Writes a whole checkpoint of fresh tensors as F32. progress (of bytes) may be NULL. */
bool rt_fresh_write(const char *path, const RtFreshTensor *tensors, size_t n_tensors, uint64_t seed, MossProgress progress,
                    void *progress_context, SuDiags *diags);

#endif
