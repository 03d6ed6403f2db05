/* Numbers for people, and JSON for programs. */
#include "cli/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* `value` with three digits and the first unit that keeps it below `base`. Units of which there is one only below are whole. */
static const char *scaled(double value, double base, const char *const *units, size_t count, char out[CLI_NUMBER]) {
    size_t i = 0;
    while (i + 1 < count && value >= base * 0.9995) {
        value /= base;
        i++;
    }
    int decimals = i == 0 && value == floor(value) ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, CLI_NUMBER, "%.*f%s", decimals, value, units[i]);
    return out;
}

const char *cli_count(double value, char out[CLI_NUMBER]) {
    static const char *const units[] = {"", " k", " M", " G", " T", " P"};
    return scaled(value, 1000, units, sizeof units / sizeof units[0], out);
}

const char *cli_bytes(double value, char out[CLI_NUMBER]) {
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
    return scaled(value, 1024, units, sizeof units / sizeof units[0], out);
}

void cli_json_add_stats(cJSON *object, const char *name, MsStats stats) {
    cJSON *item = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(item, "median", stats.median);
    cJSON_AddNumberToObject(item, "min", stats.min);
    cJSON_AddNumberToObject(item, "max", stats.max);
}

void cli_json_print(cJSON *root) {
    char *text = cJSON_PrintUnformatted(root);
    if (!text) {
        fputs("mossc: error: out of memory\n", stderr);
        exit(1);
    }
    puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
}
