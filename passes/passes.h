/* The passes among themselves. Each states what it requires, provides and destroys; pipeline.c calls them in order. */
#ifndef MOSSC_PASSES_PASSES_H
#define MOSSC_PASSES_PASSES_H

#include "passes/graph_tools.h"
#include "passes/pipeline.h"

/* Graph passes: in place. */
void ps_route_fusion(IrGraph *g);
void ps_scan_fusion(IrGraph *g);
void ps_elementwise_fusion(IrGraph *g);
/* What ends every run, whatever is switched off: no kernel does a linear's or attend's surroundings apart. `fold`: with
 * elementwise fusion. */
void ps_regions(IrGraph *g, bool fold);

/* Regions of one linear (regions.c). */
bool ps_is_linear(IrOp op);
IrRoles ps_linear_roles(const IrNode *linear); /* of a linear alone */
void ps_make_linear_region(IrGraph *g, const PsGroup *group, const IrRoles *roles);

#endif
