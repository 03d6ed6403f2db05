/* What is known of one point of a study, for programs that drive an exploration. */
#ifndef MOSSC_EXPLORE_ABOUT_H
#define MOSSC_EXPLORE_ABOUT_H

#include "explore/study.h"

/* {"index", "state": "point", "twin", "excluded" or "invalid", "twin_of" (of a twin: the index of the point), "why" (of an invalid one),
 *  "values": {axis: text as in points.csv}; and of a point "spec_hash" and "devices": {name: {"fidelity", "within": bool, of the budgets,
 *  "metrics": {name: number; those that are known}}}}. The caller frees it. A guard must be around it. NULL: the reason is in diags. */
cJSON *ex_about_point(const ExStudy *study, ExScratch *scratch, uint64_t index, SuDiags *diags);

#endif
