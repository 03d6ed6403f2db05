/* Metrics (metrics.def) as data. */
#include <string.h>

#include "explore/space.h"
#include "support/table.h"

static const ExMetricRow rows[] = {
#define EX_METRIC(id, name, unit, better, on_device, help) [EX_METRIC_##id] = {name, unit, help, better, on_device},
#include "explore/metrics.def"
};
SU_TABLE_FULL(rows, EX_METRIC_COUNT);

const ExMetricRow *ex_metric(ExMetric metric) { return &rows[metric]; }

bool ex_find_metric(const char *name, ExMetric *out) {
    for (ExMetric metric = 0; metric < EX_METRIC_COUNT; metric++) {
        if (strcmp(rows[metric].name, name) != 0) continue;
        *out = metric;
        return true;
    }
    return false;
}
