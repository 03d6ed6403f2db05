/* What a checkpoint of a spec must hold, in the runtime's terms. */
#ifndef MOSSC_DRIVER_EXPECTED_H
#define MOSSC_DRIVER_EXPECTED_H

#include "frontend/spec.h"
#include "ir/program.h"

/* fe_tensors of a spec; in the arena, but for their names, which are the spec's. */
const PgTensor *dr_expected(SuArena *arena, FeSpec *spec, size_t *out_count);

#endif
