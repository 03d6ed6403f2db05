/* A spec as JSON with every value: its blocks, and the places that keys.def names. */
#ifndef MOSSC_IMPORT_EXPORT_PLACE_H
#define MOSSC_IMPORT_EXPORT_PLACE_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

/* The first entry of the stack, which the others follow (->next); or NULL. */
const cJSON *xp_blocks(const cJSON *json);
/* The map of an entry or branch that its kind names (->string); or NULL. */
const cJSON *xp_kind(const cJSON *entry);
/* The block of an entry if it is of the kind that kind[0..size) names, "moe" and "dense" among them, or the first such branch of a
 * parallel; or NULL. */
const cJSON *xp_block_in(const cJSON *entry, const char *kind, size_t size);
/* The value at a place of keys.def, or NULL; a number, or 0; whether an item is this text. */
const cJSON *xp_value_at(const cJSON *json, const char *place);
double xp_number_at(const cJSON *json, const char *place);
bool xp_is_text(const cJSON *item, const char *text);
/* Gives attention without a scale the usual one, 1/sqrt(head_dim), which the spec leaves out. */
void xp_add_scales(cJSON *json);

#endif
