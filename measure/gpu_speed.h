/* The measurements of `mossc bench --device cuda`: prompts, decoding with tokens picked on the GPU, phases by its own clock, beside
 * what it can do. */
#ifndef MOSSC_MEASURE_GPU_SPEED_H
#define MOSSC_MEASURE_GPU_SPEED_H

#include "measure/steps.h"
#include "measure/stats.h"

/* All the phases of the prompts, launched one by one and timed by the GPU; of the fastest round. */
typedef struct MsGpuPhases {
    bool known; /* false: a prompt is one row, which is one launch */
    double linear_ms, scan_ms, other_ms;
    double linear_of_peak; /* with limits: their FLOPs / the rate of what multiplies them / time; 0: there are none */
    double scan_of_bound; /* with limits: the larger of bytes / copy rate and exps / exp rate, over the time; 0: there are none */
} MsGpuPhases;

/* Of the rounds; ratios and limits with MsPlan.limits only. Bytes of a step are its weights (of experts those that its rows are
 * expected to choose) and its states, read and written. */
typedef struct MsGpuSpeed {
    MsStats prefill_tok_s, decode_tok_s; /* tokens of all sequences together */
    MsStats copy_gb_s, mma_tflop_s, fma_tflop_s, exp_g_s;
    MsStats decode_of_bound; /* one sequence: 1.1 · bytes / copy rate + 1.5 µs · phases; more: the larger of bytes / copy rate and
                                     linear layers' FLOPs / the rate of what multiplies them; over the time */
    MsStats decode_of_bandwidth; /* bytes / copy rate / time */
    MsStats prefill_of_peak; /* linear layers' FLOPs / the rate of what multiplies them / time */
    uint32_t phases, stages; /* of a step of decoding */
    double decode_bytes, decode_linear_flops; /* of a step in the middle of decoding, all sequences together */
    double prefill_linear_flops; /* of all prompts */
    bool tensor_cores; /* multiply what has 16-bit weights */
    MsGpuPhases of_prompts;
} MsGpuSpeed;

/* Needs ms_fits, dr_build_code and build->model on build->device. Results lie in build->arena. false: the reason is in
 * build->diags. */
bool ms_measure_gpu(DrBuild *build, const MsPlan *plan, MsGpuSpeed *out);

#endif
