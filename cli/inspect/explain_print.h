/* What `mossc explain` prints. */
#ifndef MOSSC_CLI_EXPLAIN_PRINT_H
#define MOSSC_CLI_EXPLAIN_PRINT_H

#include <cjson/cJSON.h>

#include "measure/explain.h"

void cli_explain_print(const MsExplained *explained);
cJSON *cli_explain_json(const MsExplained *explained);

#endif
