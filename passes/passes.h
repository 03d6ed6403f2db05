/* The passes among themselves. Each states what it requires, provides and destroys; pipeline.c calls them in order. */
#ifndef MOSSC_PASSES_PASSES_H
#define MOSSC_PASSES_PASSES_H

#include "passes/pipeline.h"

/* Graph passes: in place. */
void ps_route_fusion(IrGraph *g);
void ps_scan_fusion(IrGraph *g);
void ps_elementwise_fusion(IrGraph *g);

#endif
