/* How well predictions follow what was measured. Internal to explore/. */
#ifndef MOSSC_EXPLORE_RANK_H
#define MOSSC_EXPLORE_RANK_H

#include "explore/calibrate.h"

/* Of n ≥ 2 pairs. Without memory it ends the guard. */
ExErrors ex_errors(const double *measured, const double *predicted, size_t n);

#endif
