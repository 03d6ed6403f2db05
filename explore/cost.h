/* What points cost, modelled: by the rules of `mossc check` and `mossc explain`, shared between points that have a block alike.
 *
 * A block is built once for each combination of what reaches it (explore/layout.h): by the whole compiler, in a spec whose groups stand
 * once. Its numbers are kept, and the cost of a point is their sum, added up in the order of the whole spec, so that it is equal to what
 * that spec would give, to the last digit. */
#ifndef MOSSC_EXPLORE_COST_H
#define MOSSC_EXPLORE_COST_H

#include "explore/layout.h"
#include "measure/time_model.h"

/* A device of the study. */
typedef struct ExDevice {
    const char *name; /* as files name it */
    MsTimeModel model;
    int64_t max_rows; /* of a step */
} ExDevice;

enum { EX_HASH = 16 };

/* A point's numbers. Metrics that are not known are NaN. */
typedef struct ExCost {
    double shared[EX_METRIC_COUNT];                   /* those that are the same on every device */
    double on_device[EX_MAX_DEVICES][EX_METRIC_COUNT];
} ExCost;

static inline double ex_value(const ExCost *cost, ExMetric metric, size_t device) {
    return ex_metric(metric)->on_device ? cost->on_device[device][metric] : cost->shared[metric];
}

/* A step that decodes a token of each sequence, in the middle of what is decoded. Like ms_prompt_work, it is a step as `mossc bench --batch`
 * takes them: all sequences share it. Steps of one row are PG_ROW. */
PgWork ex_decode_work(const ExWorkload *workload);

typedef struct ExCoster ExCoster;
typedef struct ExQuality ExQuality; /* explore/quality.h */

/* Costs of the points of a space; every pointer must live as long. Any number of threads may use a coster, each with an ExScratch. NULL:
 * the reason is in diags. */
ExCoster *ex_coster_create(const ExSpace *space, const FeBase *base, const ExDevice *devices, size_t n_devices, SuDiags *diags);
void ex_coster_free(ExCoster *coster);
/* From now on costs have the quality of their specs; before any scratch is made. */
void ex_coster_judge(ExCoster *coster, const ExQuality *quality);

typedef struct ExScratch ExScratch; /* of one thread */
ExScratch *ex_scratch_create(ExCoster *coster);
void ex_scratch_free(ExScratch *scratch);

typedef enum ExVerdict {
    EX_COSTED,
    EX_REFUSED, /* by the front end or the compiler: *out_message, which lives as long as the coster and is the same pointer for equal texts */
    EX_BROKEN /* out of memory or a bug: in diags of ex_scratch_diags */
} ExVerdict;

/* The cost of the point with these choices and derived values (ex_point). */
ExVerdict ex_cost(ExScratch *scratch, const uint32_t *choices, const ExValue *derived, ExCost *out, const char **out_message);
/* The hash of the point that ex_cost was last asked for, which must have had a cost. false: out of memory. */
bool ex_hash(ExScratch *scratch, uint8_t out[EX_HASH]);
const SuDiags *ex_scratch_diags(const ExScratch *scratch);

/* A point by its index, with its cost and the hash of its spec. */
typedef struct ExPriced {
    uint32_t choices[EX_MAX_AXES];
    ExCost cost;
    uint8_t hash[EX_HASH];
} ExPriced;

/* false: the space has no such index, or it is no point that has a cost. */
bool ex_price(const ExSpace *space, ExScratch *scratch, uint64_t index, ExPriced *out);

/* What the phases of one kind of kernel do together. */
typedef struct ExKindWork {
    uint64_t phases;
    double flops, exps, memory_bytes, activation_bytes; /* memory: weights and states */
    double seconds;
} ExKindWork;

/* Of the point that ex_cost was last asked for, which must have had a cost: what the steps of the prompts, or the step that decodes a token
 * of each sequence, do on a device, by kinds. The seconds add up to the metric. */
void ex_cost_by_kind(const ExScratch *scratch, size_t device, bool prompts, ExKindWork out[PG_KIND_COUNT]);

#endif
