/* Writing what a plan says: the tensors of its spec, one after the other, each read, changed and rounded row by row. */
#ifndef MOSSC_IMPORT_WRITE_H
#define MOSSC_IMPORT_WRITE_H

#include "driver/progress.h"
#include "frontend/spec.h"
#include "import/plan.h"
#include "runtime/workers.h"

/* What became of tensors of one kind and one form. */
typedef struct ImClass {
    const char *map; /* of weights.overrides, "others": norms, biases and the like */
    const char *from; /* the form in the source: "BF16" */
    IrDtype dtype;
    uint64_t tensors, weights, bytes;
    double error; /* root mean square of the differences, over that of the weights */
} ImClass;

typedef struct ImClasses {
    ImClass *items;
    size_t count, capacity;
    uint64_t bytes; /* of all */
    SuArena arena;  /* the caller's */
} ImClasses;

/* Whether the plan has every tensor of the spec, in its shape, and none besides: errors name the source's tensors. */
bool im_check_shapes(const ImPlan *plan, FeSpec *spec, SuDiags *diags);
/* Writes a safetensors file, after im_check_shapes. A weight that is not finite, or beyond its dtype, is an error. */
bool im_write_weights(const ImPlan *plan, FeSpec *spec, const char *path, RtWorkers *workers, const DrProgress *progress,
                      ImClasses *out, SuDiags *diags);
/* Reads a safetensors file that im_write_weights made of such a plan and spec: each number and each row of blocks is made of the source once
 * more and must be, to the bit, what the runtime reads there. The first one that is not is an error. (verify.c) */
bool im_verify_weights(const ImPlan *plan, FeSpec *spec, const char *path, RtWorkers *workers, const DrProgress *progress,
                       SuDiags *diags);

#endif
