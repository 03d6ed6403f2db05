/* A spec with weights and tokens, what it means (eval64), and its model on a GPU: what test_device and test_runtime feed. */
#ifndef MOSSC_TESTS_CUDA_CASE_H
#define MOSSC_TESTS_CUDA_CASE_H

#include "codegen/cuda/compile.h"
#include "frontend/spec.h"
#include "runtime/cuda/moss_cuda.h"
#include "tests/random/weights.h"

enum { CASE_SEQUENCES = 2, CASE_MAX_TOKENS = 300 };

typedef struct Case {
    uint64_t seed; /* of weights and tokens, and of the spec if it was drawn */
    int64_t T, V;
    SuText yaml;
    FeSpec spec;
    SuArena arena;
    SuDiags diags;
    const PgProgram *program;
    CgCudaCode code; /* of the GPU that it was loaded on first */
    Weights weights;
    int32_t *tokens[CASE_SEQUENCES]; /* [T] */
    double *truth[CASE_SEQUENCES];   /* [T][V] of eval64 */
    double rms;                      /* of truth[0] */
    double worst;                    /* distance of logits from the truth that was seen, of the rms */
    bool failed;
} Case;

/* yaml NULL: drawn, as is T. Every fourth seed has passes off, in turn, so that all kinds of kernels come up. false after a message. */
bool case_make(Case *c, uint64_t seed, const char *yaml, int64_t T);
void case_free(Case *c); /* {0} is fine */
/* The program's model on the GPU, for which it is compiled the first time. */
bool case_load(Case *c, MossDevice *device, MossModel **out_model);
/* Whether logits [V] after token `row` of a sequence are near the truth. */
bool case_near(Case *c, const char *how, int sequence, int64_t row, const float *logits);
/* Prints the seed and the spec once, then what is wrong. false. */
bool case_fail(Case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool case_ok(Case *c, const char *what, MossError error);

#endif
