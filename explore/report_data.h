/* What report.html knows: one JSON object. Between report_data.c and report.c.
 *
 *   {"summary": summary.json without seconds, "metrics": [{"name", "unit", "help", "larger"}],
 *    "devices": [{"name", "front": [ROW], "points": [ROW], "measured": [ROW], "work": {"INDEX": {"decode": [WORK], "prefill": [WORK]}}}],
 *    "lines": [text], "specs": {"INDEX": [of lines]}, "calibration": calibration.json or null}
 *
 * ROW: [index, [choice of each axis], spec_hash, [metric or null]]. WORK: [kind, phases, FLOPs, exps, bytes of weights and states, bytes of
 * activations, seconds]. A spec is given by its lines, most of which many specs share. */
#ifndef MOSSC_EXPLORE_REPORT_DATA_H
#define MOSSC_EXPLORE_REPORT_DATA_H

#include "explore/study.h"

/* On a page at most, of all devices together; of more, so many evenly spread. */
enum {
    EX_REPORT_POINTS = 4000,  /* rows of points.csv that are kept */
    EX_REPORT_FRONT = 4000,   /* rows of front.csv */
    EX_REPORT_DETAILS = 1000, /* of those, points with their spec and their work */
};

/* A guard must be around it. false: the reason is in diags. */
bool ex_report_data(ExStudy *study, SuText *out, SuDiags *diags);

#endif
