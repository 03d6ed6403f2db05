/* A directory of results: a study. It holds copies of its space and base spec and a file for each device, so that everything in it can be
 * made again, and points can be asked for by their index.
 *
 *   space.yaml, spec.yaml     the space and its base, as they were
 *   quality.csv               the numbers of `quality: {file: …}`
 *   devices/NAME.yaml         each device; of "host" with the limits measured when the study began
 *   points.csv, front.csv     see explore/csv.h
 *   summary.json              counts, fronts, and what was asked for
 *   measurements.jsonl        one line each (explore/measure.h)
 *   lock                      of whoever writes them (explore/lock.h)
 *   measured.csv, measured_front.csv   see explore/measured.h
 *   report.html */
#ifndef MOSSC_EXPLORE_STUDY_H
#define MOSSC_EXPLORE_STUDY_H

#include <cjson/cJSON.h>

#include "explore/run.h"
#include "frontend/device.h"
#include "support/json.h"

typedef struct ExStudy {
    const char *directory;
    ExSpace space;
    FeBase base;
    ExDevice devices[EX_MAX_DEVICES];
    FeDevice descriptions[EX_MAX_DEVICES];
    size_t n_devices;
    const ExQuality *quality; /* of the space's file; NULL: it has none */
    SuArena arena;
} ExStudy;

/* Begins a study of a space in `directory`, which is made, or goes on with the one that is there: its space and spec must be the same if
 * it has measurements. devices (NULL: the space's): names, or paths of device files. Measures the host's limits where they are needed and
 * not known yet. Must be closed either way. */
bool ex_study_begin(const char *space, const char *directory, const char *const *devices, size_t n_devices, ExStudy *out,
                    SuDiags *diags);
/* Opens the study in a directory. */
bool ex_study_open(const char *directory, ExStudy *out, SuDiags *diags);
void ex_study_close(ExStudy *study);
/* Makes a study of the same space, spec and devices in another directory, without results. */
bool ex_study_copy(const char *from, const char *directory, ExStudy *out, SuDiags *diags);

/* The number of the device that is this machine; n_devices: none is. */
size_t ex_study_host(const ExStudy *study);

/* A coster of the study's points. NULL: the reason is in diags. */
ExCoster *ex_study_coster(const ExStudy *study, SuDiags *diags);

/* Says that the space has no such index, which stands at `span` (or {0}); returns false. */
bool ex_no_such_point(const ExSpace *space, uint64_t index, SuSpan span, SuDiags *diags);
/* The spec of a point. false: it is none (out of range, excluded, invalid): in diags. */
bool ex_study_spec(ExStudy *study, uint64_t index, FeSpec *out, SuDiags *diags);

/* Reads the summary.json of a study's directory; the caller frees the JSON. false: the reason is in diags. */
bool ex_study_read_summary(const char *directory, SuArena *arena, SuJson *out, SuDiags *diags);
/* Writes JSON as a file of a study's directory, and frees it. */
bool ex_study_json(const char *directory, const char *name, cJSON *root, SuDiags *diags);
/* Writes summary.json (summary.c). */
bool ex_study_summary(const ExStudy *study, const ExRunOptions *options, const ExResult *result, SuDiags *diags);

#endif
