/* Devices: machines that models are compiled for, as files describe them (specs/devices). */
#ifndef MOSSC_FRONTEND_DEVICE_H
#define MOSSC_FRONTEND_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "support/diag.h"

enum { FE_MAX_CLUSTERS = 8 };

/* Cores that are alike. A number that is not known is 0, a text NULL. */
typedef struct FeCluster {
    const char *cpu;  /* a core of `mossc targets` */
    const char *cpus; /* the numbers that Linux gives them: "2,3,4" */
    const char *source;
    int64_t cores, vector_bits;
    int64_t l1d_kb, l2_kb; /* of one core */
    double ghz;            /* at most */
} FeCluster;

typedef struct FeDevice {
    const char *name, *about;
    const char *target;  /* of the code, as --target takes it */
    const char *workers; /* CPUs that should work unless the user says otherwise, the fastest first; NULL: all */
    const char *source;  /* of the figures that are the whole device's */
    int64_t l3_kb;
    double bandwidth_gb_s; /* of its memory, at most */
    FeCluster clusters[FE_MAX_CLUSTERS];
    int n_clusters;
} FeDevice;

/* Reads a device from the text of a file; `path` is for messages. What it points to lies in `arena`. */
bool fe_device_parse(const char *path, const char *text, size_t size, SuArena *arena, FeDevice *out, SuDiags *diags);

#endif
