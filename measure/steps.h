/* What both benches of `mossc bench` do, on CPUs and GPUs: sequences that share steps, their prompts, tokens fed one by one. */
#ifndef MOSSC_MEASURE_STEPS_H
#define MOSSC_MEASURE_STEPS_H

#include "driver/build.h"
#include "ir/phase_cost.h"

typedef struct MsPlan {
    int64_t prefill, decode; /* tokens of each sequence: of its prompt, and fed one by one after it */
    int64_t batch;           /* sequences that share every step */
    int64_t chunk;           /* most tokens of a step of the prompt; 0: as many as a step takes */
    int64_t repeat;          /* rounds that count */
    bool limits;             /* measure the machine's limits before and after every prompt and every decoding */
    DrProgress progress;
} MsPlan;

typedef struct MsSteps {
    const MsPlan *plan;
    const PgProgram *program;
    MossModel *model;
    MossState **states;    /* [batch] */
    MossSegment *segments; /* [batch] */
    int32_t *tokens;       /* [batch][prefill + decode] ids that no model expects, the same ones each time */
    int64_t rows;          /* of a step of the prompt, at most */
} MsSteps;

/* Whether this model takes such steps and so many tokens; needs dr_build_program. false: the reason is in build->diags. */
bool ms_fits(DrBuild *build, const MsPlan *plan);
/* Needs that and build->model. Arrays lie in build->arena. {0}, or what an error left, may be freed. */
MossError ms_steps_create(DrBuild *build, const MsPlan *plan, MsSteps *out_steps);
void ms_steps_free(MsSteps *steps);

void ms_reset(const MsSteps *steps); /* all sequences to position 0 */
MossError ms_prompts(const MsSteps *steps);
MossError ms_decode(const MsSteps *steps);

/* Of prompts of `prefill` tokens of `batch` sequences that share steps of at most max_rows rows: the step that follows after `done` tokens
 * of each. */
PgWork ms_prompt_work(int64_t prefill, int64_t batch, int64_t max_rows, int64_t done);
/* The same of these steps. */
PgWork ms_prompt_step(const MsSteps *steps, int64_t done);
/* A step of one token of each of `batch` sequences, at this position. */
PgWork ms_decode_work(int64_t batch, int64_t position);
/* FLOPs of the linear layers of a phase; a scan multiplies by dt_proj itself. */
double ms_linear_flops(const PgKernel *kernel, const PgCost *cost, int64_t rows);

#endif
