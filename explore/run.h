/* Exploring a space: every point, or a sample, costed; those within budgets written down, and the front of each device. */
#ifndef MOSSC_EXPLORE_RUN_H
#define MOSSC_EXPLORE_RUN_H

#include "driver/progress.h"
#include "explore/cost.h"
#include "explore/front.h"
#include "explore/tally.h"

typedef enum ExMethod { EX_ALL, EX_RANDOM, EX_SOBOL } ExMethod;

typedef struct ExRunOptions {
    ExMethod method;
    uint64_t points; /* of a sample */
    uint64_t shard, n_shards; /* from 1; 1 of 1: everything */
    int threads;     /* at least 1; results do not depend on it */
    bool all_points; /* points.csv has also those that are not kept */
    DrProgress progress;
} ExRunOptions;

typedef struct ExResult {
    SuArena arena;
    ExTally tally; /* reasons by message */
    uint64_t *fronts[EX_MAX_DEVICES]; /* [n_front[device]] indices, rising */
    size_t n_front[EX_MAX_DEVICES];
    double seconds;
} ExResult;

/* Runs and writes points.csv and front.csv into `directory`, which is there; each appears whole. false: the reason is in diags. */
bool ex_run(const ExSpace *space, ExCoster *coster, const ExDevice *devices, size_t n_devices, const ExRunOptions *options,
            const char *directory, ExResult *out, SuDiags *diags);
void ex_result_free(ExResult *result);

/* A point of a front: its objectives, less is better. NaN where one is not known, which then does not count. */
ExRival ex_rival(const ExSpace *space, const ExCost *cost, size_t device, uint64_t index);
/* What times that are computed for a device are: "modelled" or "calibrated". */
const char *ex_fidelity(const ExDevice *device);
/* Within the budgets that this fidelity can judge. */
bool ex_within(const ExSpace *space, const ExCost *cost, size_t device);

#endif
