/* report.html: a study as one page, which needs no network and no other file. */
#ifndef MOSSC_EXPLORE_REPORT_H
#define MOSSC_EXPLORE_REPORT_H

#include "explore/study.h"

/* Writes report.html of the study in `directory` from the files that are there: summary.json, points.csv and front.csv,
 * and measured.csv and calibration.json if there are any. Equal files give equal bytes: seconds of summary.json are not on the page. */
bool ex_report_write(const char *directory, SuDiags *diags);

#endif
