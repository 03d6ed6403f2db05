/* Samples of a space: indices that are drawn, each once, in rising order. */
#ifndef MOSSC_EXPLORE_SAMPLE_H
#define MOSSC_EXPLORE_SAMPLE_H

#include "explore/run.h"

/* `count` indices of the space that are no twins of others (EX_TWIN), or fewer where it has no more or too few are found; in `arena`.
 * Random: all equally likely, by the space's seed. Sobol: of a sequence that fills the cube of choices evenly, shifted by the seed. */
const uint64_t *ex_sample(const ExSpace *space, ExMethod method, uint64_t count, SuArena *arena, size_t *out_count);

/* The same in the order in which they are drawn, some perhaps twice. `tries`: how many are looked at. */
const uint64_t *ex_sample_order(const ExSpace *space, ExMethod method, uint64_t tries, SuArena *arena, size_t *out_count);

#endif
