/* What both benches of `mossc bench` do, on CPUs and GPUs: sequences that share steps, their prompts, tokens fed one by one. */
#ifndef MOSSC_CLI_BENCH_STEPS_H
#define MOSSC_CLI_BENCH_STEPS_H

#include "driver/build.h"
#include "ir/phase_cost.h"

typedef struct BenchPlan {
    int64_t prefill, decode; /* tokens of each sequence: of its prompt, and fed one by one after it */
    int64_t batch;           /* sequences that share every step */
    int64_t chunk;           /* most tokens of a step of the prompt; 0: as many as a step takes */
    int64_t repeat;          /* rounds that count */
    bool limits;             /* measure the machine's limits before and after every prompt and every decoding */
    bool progress;
} BenchPlan;

typedef struct BenchSteps {
    const BenchPlan *plan;
    const PgProgram *program;
    MossModel *model;
    MossState **states;    /* [batch] */
    MossSegment *segments; /* [batch] */
    int32_t *tokens;       /* [batch][prefill + decode] ids that no model expects, the same ones each time */
    int64_t share;         /* tokens of each sequence that a step of the prompt takes at most */
} BenchSteps;

/* Whether this model takes such steps and so many tokens; needs dr_build_program. false: the reason is in build->diags. */
bool cli_bench_fits(DrBuild *build, const BenchPlan *plan);
/* Needs that and build->model. Arrays lie in build->arena. {0}, or what an error left, may be freed. */
MossError cli_bench_steps_create(DrBuild *build, const BenchPlan *plan, BenchSteps *out_steps);
void cli_bench_steps_free(BenchSteps *steps);

void cli_bench_reset(const BenchSteps *steps); /* all sequences to position 0 */
MossError cli_bench_prompts(const BenchSteps *steps);
MossError cli_bench_decode(const BenchSteps *steps);

/* The step of the prompts that follows after `done` tokens of each sequence. */
PgWork cli_bench_prompt_work(const BenchSteps *steps, int64_t done);
/* A step of one token of each sequence, at this position. */
PgWork cli_bench_decode_work(const BenchSteps *steps, int64_t position);
/* FLOPs of the linear maps of a phase; a scan multiplies by dt_proj itself. */
double cli_bench_map_flops(const PgKernel *kernel, const PgCost *cost, int64_t rows);

#endif
