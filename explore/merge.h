/* Joining the parts of a space that `--shard` made. */
#ifndef MOSSC_EXPLORE_MERGE_H
#define MOSSC_EXPLORE_MERGE_H

#include "explore/study.h"

/* Joins the parts in `directories`, which must be all N of one space, in any order, into `directory`: its files have the bytes that one run
 * would have written, but for the seconds in summary.json, which are the sum. `study` becomes the joined one (close it either way). */
bool ex_merge(const char *const *directories, size_t n, const char *directory, ExStudy *study, ExResult *out, SuDiags *diags);

#endif
