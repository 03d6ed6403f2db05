/* Locks between processes: flock on a file that stays, since removing it would let two in. */
#ifndef MOSSC_EXPLORE_LOCK_H
#define MOSSC_EXPLORE_LOCK_H

#include "driver/progress.h"
#include "support/diag.h"

/* The lock of this file, which is made where it is not there: a descriptor, to be closed. Where another process has it, waits and shows
 * `waiting` on `progress`; progress NULL: that is the error `waiting`. -1 after an error. */
int ex_lock(const char *path, const char *waiting, const DrProgress *progress, SuDiags *diags);

/* The lock of the study in `directory`, of whoever writes its measurements.jsonl: the file DIR/lock. Otherwise as ex_lock. */
int ex_lock_study(const char *directory, const DrProgress *progress, SuDiags *diags);

#endif
