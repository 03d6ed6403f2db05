#include "cli/measure/meter.h"

#include <stdio.h>

#include "support/diag.h"

static const CliMeter *const meters[] = {&cli_meter_cpu, &cli_meter_gpu};

const CliMeter *cli_meter(const DrBuild *build) {
    for (size_t i = 0; i < sizeof meters / sizeof meters[0]; i++)
        if (meters[i]->kind == dr_kind(build)) return meters[i];
    SU_BUG("device '%s' has no meter", dr_kind(build)->name);
}

void cli_json_add_facts(cJSON *object, const DrBuild *build) {
    DrFacts facts;
    dr_kind(build)->describe(build, &facts);
    for (int i = 0; i < facts.count; i++)
        if (facts.items[i].text[0])
            cJSON_AddStringToObject(object, facts.items[i].key, facts.items[i].text);
        else
            cJSON_AddNumberToObject(object, facts.items[i].key, facts.items[i].number);
}

void cli_print_speed_row(const char *name, MsStats stats) {
    printf("  %-22s %12.2f %12.2f %12.2f\n", name, stats.median, stats.min, stats.max);
}

void cli_print_limit_row(const char *what, const char *unit, MsStats stats, const char *how) {
    printf("  %-16s %9.1f %9.1f %9.1f  %-8s  %s\n", what, stats.median, stats.min, stats.max, unit, how);
}
