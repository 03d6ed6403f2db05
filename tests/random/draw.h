/* Draws specs from the whole language, as YAML text. */
#ifndef MOSSC_TESTS_RANDOM_DRAW_H
#define MOSSC_TESTS_RANDOM_DRAW_H

#include <stdint.h>

#include "support/str.h"

/* Appends a spec; the same seed gives the same text. Returns how many tokens to run it on. */
int64_t draw_spec(uint64_t seed, SuText *out);

#endif
