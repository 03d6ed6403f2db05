/* What was measured, read back. */
#ifndef MOSSC_EXPLORE_MEASURED_H
#define MOSSC_EXPLORE_MEASURED_H

#include <cjson/cJSON.h>

#include "explore/study.h"

/* Gives every line of measurements.jsonl, failed ones too, to `take`, until it returns false; a file that is not there has none, and an
 * unfinished last line is passed over. *out_size, unless NULL: the bytes of the lines that are finished. false: the reason is in diags. */
bool ex_measured_read(const char *directory, bool (*take)(void *context, const cJSON *line, SuSpan span), void *context,
                      size_t *out_size, SuDiags *diags);

/* The same of any file of such lines, which must be there. */
bool ex_lines_read(const char *path, bool (*take)(void *context, const cJSON *line, SuSpan span), void *context, size_t *out_size,
                   SuDiags *diags);

/* The index of a line: a whole number from 0 on, below 2^64, which the space may or may not have. false: there is none, in diags. */
bool ex_line_index(const cJSON *line, SuSpan span, uint64_t *out_index, SuDiags *diags);

/* The number of a line, or of a map in it; NaN where there is none. */
double ex_measured_number(const cJSON *object, const char *name);

/* Writes measured.csv: a row as in points.csv for each point that was measured, by rising index, whose fidelity is "measured": times as they
 * were measured (nothing where only the quality was asked for), tokens a second from them, the rest as it is known of the spec. And
 * measured_front.csv: of these rows the front of those within the budgets. */
bool ex_measured_csv(ExStudy *study, size_t device, SuDiags *diags);

#endif
