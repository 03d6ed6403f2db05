/* What this machine can do at most, measured in this process: the yardsticks of `mossc explain` and `mossc bench --limits`.
 *
 * A limit drifts (a shared host, a hot processor), so time it right before and right after what it is compared with: after a
 * first call that chooses its pattern and its length, each takes 100 ms or less. Workers are as many as the model's and pinned
 * to the same CPUs; those of a model that does nothing sleep meanwhile. */
#ifndef MOSSC_CLI_LIMITER_H
#define MOSSC_CLI_LIMITER_H

#include <cjson/cJSON.h>

#include "codegen/target.h"
#include "support/diag.h"

/* All workers together; the best of a few repetitions. */
typedef struct CliLimits {
    double read_gb_s;     /* reading memory (see cli_limiter_read_bytes), the best of several patterns, 10^9 bytes a second */
    double
        panel_gflop_s; /* a linear layer's microkernel (block_panels × block_rows of the target) with its operands in the first cache */
    double fma_gflop_s; /* float32 multiply-adds from registers */
    double exp_g_s; /* exp of the bits, 10^9 a second */
} CliLimits;

typedef struct CliLimiter CliLimiter;

/* threads 0: as many as the process may use CPUs. false: the reason is in diags. */
bool cli_limiter_create(const CgTarget *target, int threads, CliLimiter **out_limiter, SuDiags *diags);
void cli_limiter_free(CliLimiter *limiter);
int cli_limiter_threads(const CliLimiter *limiter);

/* One limit each, in the units of CliLimits. */
double cli_limit_read(CliLimiter *limiter);
double cli_limit_panel(CliLimiter *limiter);
double cli_limit_fma(CliLimiter *limiter);
double cli_limit_exp(CliLimiter *limiter);
CliLimits cli_measure_limits(CliLimiter *limiter); /* all four */
/* From now on cli_limit_read reads this many bytes again and again, as a step reads its weights: what lies in caches is then read
 * from there. 0, or as many as the caches hold several times: memory, as at first. */
void cli_limiter_read_bytes(CliLimiter *limiter, uint64_t bytes);
/* The larger of each: of what was measured before something and after it. */
CliLimits cli_limits_best(CliLimits a, CliLimits b);

/* What gave the last cli_limit_read ("8 streams, prefetch"), and the bytes that it reads through. */
const char *cli_limit_pattern(const CliLimiter *limiter);
uint64_t cli_limit_buffer(const CliLimiter *limiter);

/* {"read_gb_s":…, "panel_gflop_s":…, "fma_gflop_s":…, "exp_g_s":…} under "limits". */
void cli_json_add_limits(cJSON *object, CliLimits limits);

#endif
