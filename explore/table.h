/* A table that threads share: values by keys of bytes. What is in it stays until it is freed, so that what was found may be used without
 * a lock. Internal to explore/. */
#ifndef MOSSC_EXPLORE_TABLE_H
#define MOSSC_EXPLORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/arena.h"

typedef struct ExTable ExTable;

/* Without memory it ends the guard. most_bytes: see ex_table_full. */
ExTable *ex_table_create(size_t most_bytes);
void ex_table_free(ExTable *table); /* NULL: nothing */

/* NULL: not there. */
const void *ex_table_find(ExTable *table, const void *key, size_t size);
/* Keeps a value under a key; a key that is there keeps its value. Both must live as long as the table. false: out of memory. */
bool ex_table_put(ExTable *table, const char *key, size_t size, const void *value);
/* An arena for values and keys, which lives as long as the table; one thread uses it. NULL: out of memory. */
SuArena *ex_table_arena(ExTable *table);
/* Whether its arenas have more bytes than they should: then nothing more should be put into it. */
bool ex_table_full(ExTable *table);

/* `text` as one pointer for all that are equal; a new one is copied into `arena`, one of the table's. Without memory it ends the guard. */
const char *ex_table_text(ExTable *table, const char *text, SuArena *arena);

#endif
