/* Rows of points.csv and front.csv. The contract: index, every axis by its name, device, fidelity, spec_hash, every metric; a metric that is
 * not known is empty. Lines end with a line feed; texts with commas, quotes or line breaks are quoted as RFC 4180 says. */
#ifndef MOSSC_EXPLORE_CSV_H
#define MOSSC_EXPLORE_CSV_H

#include <stdio.h>

#include "explore/cost.h"

void ex_csv_header(const ExSpace *space, SuText *out);
/* `hash` NULL: not known. `cost` NULL: no metric is. */
void ex_csv_row(const ExSpace *space, uint64_t index, const uint32_t *choices, const char *device, const char *fidelity,
                const uint8_t *hash, const ExCost *cost, size_t device_index, SuText *out);
/* A row as it is read back, of su_realloc; `ExCsvRow row = {0};` is empty, and su_free(row.text) frees it. */
typedef struct ExCsvRow {
    char *text; /* without its line feed, NUL behind */
    size_t capacity, size;
} ExCsvRow;

/* Columns of a row: where they stand. */
static inline size_t ex_csv_device(const ExSpace *space) { return space->n_axes + 1; }
static inline size_t ex_csv_hash(const ExSpace *space) { return space->n_axes + 3; }
static inline size_t ex_csv_metric(const ExSpace *space, ExMetric metric) { return space->n_axes + 4 + (size_t)metric; }

/* Reads the next row, which may have line feeds in quoted fields. false: there is none, or an error (ferror). */
bool ex_csv_read(FILE *file, ExCsvRow *row);
/* Field `index` of a row, still quoted where it is; NULL: there are not so many. */
const char *ex_csv_field(const ExCsvRow *row, size_t index, size_t *out_size);
/* Whether the row is of this device. */
bool ex_csv_is_of(const ExSpace *space, const ExCsvRow *row, const char *device);
/* A metric's number; NaN where it is not known. */
double ex_csv_value(const ExSpace *space, const ExCsvRow *row, ExMetric metric);

/* Gives every row of a device to `take`, until it returns false. false: the reason is in diags. */
bool ex_csv_each(const ExSpace *space, const char *path, const char *device, bool (*take)(void *context, const ExCsvRow *row),
                 void *context, SuDiags *diags);

/* The value of an axis as a text: a scalar as it is, lists and maps as YAML in one line. */
void ex_node_text(const FeNode *node, SuText *out);
/* A number as short as it reads back the same; nothing where it is not known. */
void ex_csv_number(double value, SuText *out);

#endif
