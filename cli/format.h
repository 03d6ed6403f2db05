/* Numbers for people, and JSON for programs. */
#ifndef MOSSC_CLI_FORMAT_H
#define MOSSC_CLI_FORMAT_H

#include <cjson/cJSON.h>
#include <stddef.h>

#include "measure/stats.h"

enum { CLI_NUMBER = 32 }; /* room for one formatted number */

/* "38.6 M", "200 k", "12"; three digits are shown. Writes to and returns `out`. */
const char *cli_count(double value, char out[CLI_NUMBER]);
/* "1.50 GiB", "12.0 KiB", "64 B". */
const char *cli_bytes(double value, char out[CLI_NUMBER]);

/* Adds {"median":…, "min":…, "max":…} under `name`. */
void cli_json_add_stats(cJSON *object, const char *name, MsStats stats);

/* Prints on one line of standard output and frees. Out of memory ends the process. */
void cli_json_print(cJSON *root);

#endif
