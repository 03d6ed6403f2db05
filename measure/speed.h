/* The measurements of `mossc bench` on CPUs: prompts and decoding of one or more sequences, beside what the machine can do. */
#ifndef MOSSC_MEASURE_SPEED_H
#define MOSSC_MEASURE_SPEED_H

#include "measure/steps.h"
#include "measure/stats.h"

/* Of the rounds. The bound of a step is the larger of its weights' bytes over the reading limit (each weight once; of experts,
 * those expected to be chosen by its rows) and its linear layers' FLOPs over the panel kernel's rate. */
typedef struct MsSpeed {
    MsStats prefill_tok_s, decode_tok_s;   /* tokens of all sequences together */
    MsStats read_gb_s, panel_gflop_s;      /* with limits: the larger of before and after, both of prompt and decoding */
    MsStats prefill_of_bound, decode_of_bound; /* with limits: bound over time, at most about 1 */
} MsSpeed;

/* Needs ms_fits, dr_build_code and build->model. Results lie in build->arena. false: the reason is in build->diags. */
bool ms_measure_speed(DrBuild *build, const MsPlan *plan, MsSpeed *out_speed);

#endif
