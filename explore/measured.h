/* What was measured, read back. */
#ifndef MOSSC_EXPLORE_MEASURED_H
#define MOSSC_EXPLORE_MEASURED_H

#include <cjson/cJSON.h>

#include "explore/study.h"

/* Gives every line of measurements.jsonl, failed ones too, to `take`, until it returns false; a file that is not there has none, and an
 * unfinished last line is passed over. *out_size, unless NULL: the bytes of the lines that are finished. false: the reason is in diags. */
bool ex_measured_read(const char *directory, bool (*take)(void *context, const cJSON *line, SuSpan span), void *context,
                      size_t *out_size, SuDiags *diags);

/* The number of a line, or of a map in it; NaN where there is none. */
double ex_measured_number(const cJSON *object, const char *name);

/* Writes measured.csv: a row as in points.csv for each point that was measured, by rising index, whose fidelity is "measured": times as they
 * were measured, tokens a second from them, the rest as it is known of the spec. */
bool ex_measured_csv(ExStudy *study, size_t device, SuDiags *diags);

#endif
