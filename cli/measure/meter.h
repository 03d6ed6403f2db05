/* What bench and limits do on a kind of device, and print of it: one row a kind (meter.c lists them). */
#ifndef MOSSC_CLI_MEASURE_METER_H
#define MOSSC_CLI_MEASURE_METER_H

#include <cjson/cJSON.h>

#include "driver/device.h"
#include "measure/gpu_speed.h"
#include "measure/speed.h"

/* What was measured by the kind's meter. */
typedef union CliSpeed {
    MsSpeed cpu;
    MsGpuSpeed gpu;
} CliSpeed;

/* What `mossc limits` was asked for. */
typedef struct CliLimits {
    int64_t threads, repeat; /* threads 0: not given */
    const char *isa;         /* NULL: not given */
    bool json;
} CliLimits;

typedef struct CliMeter {
    const DrDeviceKind *kind;
    /* `mossc bench`: needs what ms_measure_speed and ms_measure_gpu need. */
    bool (*speed)(DrBuild *build, const MsPlan *plan, CliSpeed *out);
    double (*decode_tok_s)(const CliSpeed *speed);
    void (*add_speed)(cJSON *root, const DrBuild *build, const MsPlan *plan, const CliSpeed *speed);
    void (*print_speed)(const MsPlan *plan, const CliSpeed *speed);
    /* `mossc limits`: measures and prints, after dr_build_device. */
    bool (*limits)(DrBuild *build, const CliLimits *what);
} CliMeter;

extern const CliMeter cli_meter_cpu, cli_meter_gpu;

/* The one of the build's device. */
const CliMeter *cli_meter(const DrBuild *build);

enum { CLI_PROCESSOR = 256 };
/* The kernel's name for the processor; empty where it has none. */
void cli_processor_name(char out[CLI_PROCESSOR]);
/* What is known of the build's device. */
void cli_json_add_facts(cJSON *object, const DrBuild *build);
/* Rows of the tables: of bench, and of limits. */
void cli_print_speed_row(const char *name, MsStats stats);
void cli_print_limit_row(const char *what, const char *unit, MsStats stats, const char *how);

#endif
