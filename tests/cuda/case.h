/* A spec with weights and tokens, what it means (eval64), and its model on a GPU: what test_device, test_runtime and tests/simt feed. */
#ifndef MOSSC_TESTS_CUDA_CASE_H
#define MOSSC_TESTS_CUDA_CASE_H

#include "codegen/cuda/compile.h"
#include "frontend/spec.h"
#include "runtime/cuda/moss_cuda.h"
#include "tests/random/weights.h"

enum { CASE_SEQUENCES = 2, CASE_MAX_TOKENS = 300 };

/* How far logits may be off, of their root mean square, and how close a routing decision may be to another. */
typedef struct CaseBounds {
    double tolerance, min_gap;
} CaseBounds;

/* case_exact: as for the CPU's kernels; tensor cores get x as two numbers, which keeps 16 bits. case_fast: they get 8 bits of it, an
 * error of 2^-9 / sqrt(3) of each input; the dozen linear layers of a drawn spec add up to about 1 % of the rms, and the worst of some hundred
 * logits is four times that. */
extern const CaseBounds case_exact, case_fast;

typedef enum CaseWeights { CASE_ANY /* the seed decides */, CASE_FLOATS, CASE_BLOCKS } CaseWeights;

/* What a case is made from. */
typedef struct CaseWants {
    uint64_t seed; /* of weights and tokens, and of the spec if it is drawn */
    const char *yaml, *set; /* NULL: it is drawn, as is T; "PATH=VALUE" for it, or NULL */
    CaseWeights weights; /* of a drawn spec */
    int64_t T;
    CaseBounds bounds; /* {0}: case_exact */
} CaseWants;

typedef struct Case {
    uint64_t seed;
    CaseBounds bounds;
    int64_t T, V;
    SuText yaml;
    FeSpec spec;
    SuArena arena;
    SuDiags diags;
    const PgProgram *program;
    CgCudaCode code; /* of the GPU that it was loaded on first; tests/simt has the plan alone */
    Weights weights;
    int32_t *tokens[CASE_SEQUENCES]; /* [T] */
    double *truth[CASE_SEQUENCES]; /* [T][V] of eval64 */
    double rms; /* of truth[0] */
    double worst; /* distance of logits from the truth that was seen, of the rms */
    bool rounds; /* inputs of some linear layer are rounded to 8 bits */
    int64_t seen, near, far; /* logits then: all, within the bounds, beyond FAR of case.c */
    bool failed;
} Case;

/* Every fourth seed has passes off, in turn, so that all kinds of kernels come up. false after a message. */
bool case_make(Case *c, const CaseWants *wants);
/* Only the program: no weights, tokens and truth. */
bool case_make_program(Case *c, const CaseWants *wants);
void case_free(Case *c); /* {0} is fine */
/* The program's model on the GPU, for which it is compiled the first time. */
bool case_load(Case *c, MossDevice *device, MossModel **out_model);
/* Whether logits [V] after token `row` of a sequence are near the truth. Where inputs are rounded to 8 bits, a last bit may make another
 * integer of one, and that another choice of experts, which later tokens remember: then most logits must be near FAR. */
bool case_near(Case *c, const char *how, int sequence, int64_t row, const float *logits);
/* Whether at least half of all logits were within the bounds: where inputs are rounded, too, most integers are the evaluator's. */
bool case_mostly_near(Case *c);
/* Prints the seed and the spec once, then what is wrong. false. */
bool case_fail(Case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool case_ok(Case *c, const char *what, MossError error);

#endif
