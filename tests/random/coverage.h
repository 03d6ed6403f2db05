/* What was drawn and done over a run of test_random: a feature that never comes up is not tested. */
#ifndef MOSSC_TESTS_RANDOM_COVERAGE_H
#define MOSSC_TESTS_RANDOM_COVERAGE_H

#include "frontend/spec.h"

/* Counts one more of a row of coverage.c, if it was seen. */
void cover(const char *name, bool seen);
void cover_spec(FeSpec *spec);
/* Prints the counts. false: a row is below its least. */
bool covered(void);

#endif
