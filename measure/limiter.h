/* What this machine can do at most, measured in this process: the yardsticks of `mossc explain` and `mossc bench --limits`.
 *
 * A limit drifts (a shared host, a hot processor), so time it right before and right after what it is compared with: after a
 * first call that chooses its pattern and its length, each takes 100 ms or less. Workers are as many as the model's and pinned
 * to the same CPUs; those of a model that does nothing sleep meanwhile. */
#ifndef MOSSC_MEASURE_LIMITER_H
#define MOSSC_MEASURE_LIMITER_H

#include "codegen/target.h"
#include "support/diag.h"

/* All workers together; the best of a few repetitions. */
typedef struct MsLimits {
    double read_gb_s;     /* reading memory (see ms_limiter_read_bytes), the best of several patterns, 10^9 bytes a second */
    double
        panel_gflop_s; /* a linear layer's microkernel (block_panels × block_rows of the target) with its operands in the first cache */
    double fma_gflop_s; /* float32 multiply-adds from registers */
    double exp_g_s; /* exp of the bits, 10^9 a second */
} MsLimits;

typedef struct MsLimiter MsLimiter;

/* threads 0: as many as the process may use CPUs. false: the reason is in diags. */
bool ms_limiter_create(const CgTarget *target, int threads, MsLimiter **out_limiter, SuDiags *diags);
void ms_limiter_free(MsLimiter *limiter);
int ms_limiter_threads(const MsLimiter *limiter);

/* One limit each, in the units of MsLimits. */
double ms_limit_read(MsLimiter *limiter);
double ms_limit_panel(MsLimiter *limiter);
double ms_limit_fma(MsLimiter *limiter);
double ms_limit_exp(MsLimiter *limiter);
MsLimits ms_measure_limits(MsLimiter *limiter); /* all four */
/* From now on ms_limit_read reads this many bytes again and again, as a step reads its weights: what lies in caches is then read
 * from there. 0, or as many as the caches hold several times: memory, as at first. */
void ms_limiter_read_bytes(MsLimiter *limiter, uint64_t bytes);
/* The larger of each: of what was measured before something and after it. */
MsLimits ms_limits_best(MsLimits a, MsLimits b);

/* What gave the last ms_limit_read ("8 streams, prefetch"), and the bytes that it reads through. */
const char *ms_limit_pattern(const MsLimiter *limiter);
uint64_t ms_limit_buffer(const MsLimiter *limiter);

#endif
