/* The parts of report.html, which lie in the library. */
#ifndef MOSSC_EXPLORE_REPORT_FILES_H
#define MOSSC_EXPLORE_REPORT_FILES_H

#include "driver/embedded.h"

/* "report.html" first, then what its marks name. The last one's name is NULL. */
extern const DrEmbedded ex_report_files[];

#endif
