/* The commands of `mossc explore`, and what they print. */
#ifndef MOSSC_CLI_EXPLORE_EXPLORE_H
#define MOSSC_CLI_EXPLORE_EXPLORE_H

#include "cli/options.h"
#include "explore/study.h"

extern const CliCommand cli_explore_calibrate, cli_explore_collect, cli_explore_merge, cli_explore_point, cli_explore_spec;

/* explore.c: what is near the front may be on it, as far as the model of this device errs (ExMeasureOptions.near). */
double cli_explore_near(const ExDevice *device);

/* The device of the study that this machine is, for --measure. false: none is; `hint` says what to do (NULL: nothing). */
bool cli_explore_host(const ExStudy *study, const char *hint, size_t *out_device, SuDiags *diags);

/* print.c: counts and fronts, for people (a table and a plot of characters; and where the report is, if there is one) and for programs. */
void cli_explore_print(const ExStudy *study, const ExResult *result, bool report);
void cli_explore_json(const ExStudy *study, const ExResult *result);

#endif
