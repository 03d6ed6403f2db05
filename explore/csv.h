/* Rows of points.csv and front.csv. The contract: index, every axis by its name, device, fidelity, spec_hash, every metric; a metric that is
 * not known is empty. Lines end with a line feed; texts with commas, quotes or line breaks are quoted as RFC 4180 says. */
#ifndef MOSSC_EXPLORE_CSV_H
#define MOSSC_EXPLORE_CSV_H

#include "explore/cost.h"

void ex_csv_header(const ExSpace *space, SuText *out);
/* `hash` NULL: not known. `cost` NULL: no metric is. */
void ex_csv_row(const ExSpace *space, uint64_t index, const uint32_t *choices, const char *device, const char *fidelity,
                const uint8_t *hash, const ExCost *cost, size_t device_index, SuText *out);
/* The value of an axis as a text: a scalar as it is, lists and maps as YAML in one line. */
void ex_node_text(const FeNode *node, SuText *out);
/* A number as short as it reads back the same; nothing where it is not known. */
void ex_csv_number(double value, SuText *out);

#endif
