/* The measurements of `mossc bench` on CPUs: prompts and decoding of one or more sequences, beside what the machine can do. */
#ifndef MOSSC_CLI_BENCH_SPEED_H
#define MOSSC_CLI_BENCH_SPEED_H

#include "cli/measure/bench_steps.h"
#include "cli/format.h"

/* Of the rounds. The bound of a step is the larger of its weights' bytes over the reading limit (each weight once; of experts,
 * those expected to be chosen by its rows) and its maps' FLOPs over the panel kernel's rate. */
typedef struct BenchSpeed {
    CliStats prefill_tok_s, decode_tok_s;   /* tokens of all sequences together */
    CliStats read_gb_s, panel_gflop_s;      /* with limits: the larger of before and after, both of prompt and decoding */
    CliStats prefill_of_bound, decode_of_bound; /* with limits: bound over time, at most about 1 */
} BenchSpeed;

/* Needs cli_bench_fits, dr_build_code and build->model. Results lie in build->arena. false: the reason is in build->diags. */
bool cli_bench_speed(DrBuild *build, const BenchPlan *plan, BenchSpeed *out_speed);

#endif
