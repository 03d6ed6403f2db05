/* Lowering: a checked Spec becomes a naive graph, one operation per operator of the language's equations. */
#ifndef MOSSC_FRONTEND_LOWER_H
#define MOSSC_FRONTEND_LOWER_H

#include "frontend/spec.h"
#include "ir/graph.h"

/* The graph lives in `arena`; it keeps spans into spec->source. Weights carry the language's tensor names, and the dtype they
 * are stored in. Cannot fail on a spec that fe_spec_load accepted. */
IrGraph *fe_lower(FeSpec *spec, SuArena *arena);

#endif
