/* Taking measurements that were made elsewhere into a study. */
#ifndef MOSSC_EXPLORE_COLLECT_H
#define MOSSC_EXPLORE_COLLECT_H

#include "explore/study.h"

/* Adds lines of `files`, each as measurements.jsonl has them, to that of the study, which then has one line a point, by rising index: the
 * first that was measured, or where none was, the first that failed. A line whose spec_hash is not that of its point is refused. The file
 * changes as a whole; another process that measures into the study or collects meanwhile is an error (explore/lock.h). *out_measured,
 * *out_failed: lines of both kinds there are then. false: the reason is in diags. */
bool ex_collect(ExStudy *study, const char *const *files, size_t n_files, size_t *out_measured, size_t *out_failed, SuDiags *diags);

#endif
