/* Measuring points of a study on this machine: compiled, run in turns with the machine's limits, and written down one by one.
 *
 * measurements.jsonl has a line for each point that was measured, synced before the next begins:
 *
 *   {"index": 17, "spec_hash": "…", "device": "host", "threads": 2, "prefill_ms": …, "decode_ms": …, "code_bytes": …, "compile_ms": … (absent: kernels
 *    were in the cache), "steps": [{"mode": "row", "rows": 1, "position": 576, "seconds": …, "profiled_seconds": …, "read_bytes": …,
 *    "limits": {"read_gb_s": …, "panel_gflop_s": …, "exp_g_s": …}, "lines": [{"kernel": "linear", "weights": "bf16", "experts": "chosen",
 *    "name": "down_proj", "phases": 12, "stages": 12, "seconds": … (of all of them), "flops": … (of one; likewise all others of
 *    measure/phase_numbers.def)}]}]}
 *   {"index": 18, "error": "…"}
 *
 * A process that is killed loses the point that it was at, and no other: run again, it goes on there. A point at which the process was
 * killed three times gets a line with that error. One process measures on a machine at a time (a lock); others wait. So they do
 * where another one, of another machine or by collecting, writes lines of the same study (explore/lock.h). */
#ifndef MOSSC_EXPLORE_MEASURE_H
#define MOSSC_EXPLORE_MEASURE_H

#include "explore/study.h"

typedef struct ExMeasureOptions {
    uint64_t points; /* of the study, those that were measured before included */
    int64_t rounds;  /* of which the fastest counts */
    bool spread;     /* over the whole space, in place of the front and what is near it */
    double near; /* a point is near the front when, in every objective, it is at most so much worse (0.1: a tenth) than one of it */
    DrProgress progress;
} ExMeasureOptions;

/* Measures on `device` of the study, which must be this machine. Stops early, with the reason, only where it cannot go on at all; points
 * that fail are lines. *out_measured, *out_failed: lines of both kinds there are in the end. */
bool ex_measure(ExStudy *study, size_t device, const ExMeasureOptions *options, size_t *out_measured, size_t *out_failed,
                SuDiags *diags);

/* One point, whose line becomes *out_line (the caller frees it) and is not written down. times: it is compiled and run on `device`, with the
 * lock; else `device` is not read. quality: the space's command, where it has one, judges the spec. false: it could not even begin; a point
 * that fails has a line with "error". */
bool ex_measure_point(ExStudy *study, size_t device, uint64_t index, bool times, bool quality, const ExMeasureOptions *options,
                      cJSON **out_line, SuDiags *diags);

/* Points to measure, the most interesting first (candidates.c); in `arena`. Needs points.csv and front.csv. */
bool ex_candidates(ExStudy *study, size_t device, const ExMeasureOptions *options, SuArena *arena, uint64_t **out_points,
                   size_t *out_count, SuDiags *diags);

#endif
