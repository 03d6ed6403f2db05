/* Devices: machines that models are compiled for, as files describe them (specs/devices). */
#ifndef MOSSC_FRONTEND_DEVICE_H
#define MOSSC_FRONTEND_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "support/diag.h"
#include "support/str.h"

enum { FE_MAX_CLUSTERS = 8, FE_MAX_KERNEL_TIMES = 256 };

/* Cores that are alike. A number that is not known is 0, a text NULL. */
typedef struct FeCluster {
    const char *cpu;  /* a core of `mossc targets` */
    const char *cpus; /* the numbers that Linux gives them: "2,3,4" */
    const char *source;
    int64_t cores, vector_bits;
    int64_t l1d_kb, l2_kb; /* of one core */
    double ghz;            /* at most */
    int64_t fma_pipes;     /* vector multiply-adds that a core begins in a cycle */
} FeCluster;

/* What all workers reach together: measured (mossc limits, mossc explore calibrate), or from the maker's data sheet for a GPU. */
typedef struct FeRates {
    int64_t threads;
    double read_gb_s;     /* memory; 10^9 bytes a second */
    double cache_gb_s;    /* the last cache */
    double panel_gflop_s; /* multiply-adds of linear layers */
    double exp_g_s;
    double phase_us, stage_us; /* what a phase and a stage take beside their work; NaN: not known */
} FeRates;

/* How far the parts of the work of kernels count, fitted to measurements (measure/time_model.h). Later entries win over earlier ones. */
typedef struct FeKernelTime {
    const char *kernel; /* a kind: "linear" */
    const char *step; /* "row" or "block" */
    const char *weights; /* "bf16"; NULL: of every dtype */
    const char *experts; /* "single", "all" or "chosen"; NULL: whichever */
    double memory, cache, flops, exps, overlap, fixed_us;
} FeKernelTime;

typedef struct FeDevice {
    const char *name, *about;
    const char *target; /* of the code, as --target takes it */
    const char *workers; /* CPUs that should work unless the user says otherwise, the fastest first; NULL: all */
    const char *source; /* of the figures that are the whole device's */
    int64_t l3_kb;
    double bandwidth_gb_s; /* of its memory, at most */
    FeCluster clusters[FE_MAX_CLUSTERS]; /* of a CPU */
    int n_clusters;
    bool has_rates, has_kernels;
    FeRates rates;
    const FeKernelTime *kernels; /* [n_kernels] */
    int n_kernels;
} FeDevice;

/* Reads a device from the text of a file; `path` is for messages. What it points to lies in `arena`. */
bool fe_device_parse(const char *path, const char *text, size_t size, SuArena *arena, FeDevice *out, SuDiags *diags);

/* The device as a file; read back it is the same. */
void fe_print_device(const FeDevice *device, SuText *out);

#endif
