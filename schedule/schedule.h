/* The program of a graph: its regions become phases, phases get stages, values get places. Switches are those of the passes. */
#ifndef MOSSC_SCHEDULE_SCHEDULE_H
#define MOSSC_SCHEDULE_SCHEDULE_H

#include "ir/graph.h"
#include "ir/program.h"
#include "passes/pipeline.h"

/* Makes the program of a fused (or, with all fusion off, naive) graph. Everything lives in `arena`; tensors are the graph's
 * weights in their order. false: an error was added. */
bool sc_program(const IrGraph *graph, const PsOptions *options, SuArena *arena, const PgProgram **out_program, SuDiags *diags);

/* The program as text, for people and golden tests. */
void sc_print_program(const PgProgram *program, FILE *out);

#endif
