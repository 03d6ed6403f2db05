/* Making phases: shared between phases.c (single operations), phases_fused.c (regions) and the walk over the graph. */
#ifndef MOSSC_PASSES_PHASES_H
#define MOSSC_PASSES_PHASES_H

#include "passes/builder.h"
#include "passes/match.h"

/* A phase of one tile, without operands. The pointer holds until the next phase is made. */
PsPhase *ps_new_phase(PsBuilder *b, PgKind kind, const IrNode *node, const char *name);
const char *ps_phase_name(PsBuilder *b, const IrNode *node, const char *what);

/* Operands. IR_NONE is ignored by the ones that read. `active`: fraction of the weight a decoded token reads. */
void ps_read(PsBuilder *b, PsPhase *p, int slot, IrValueId value);
void ps_read_buffer(PsPhase *p, int slot, int32_t buffer);
void ps_read_weight(PsBuilder *b, PsPhase *p, int slot, IrValueId value, PgPack pack, double active);
void ps_use_state(PsBuilder *b, PsPhase *p, int slot, IrValueId value);
void ps_write(PsBuilder *b, PsPhase *p, int slot, IrValueId value);
int32_t ps_new_buffer(PsBuilder *b, PsBytes bytes, const char *name); /* without a writer */
int32_t ps_write_buffer(PsBuilder *b, PsPhase *p, int slot, PsBytes bytes, const char *name);

/* Positions: the group table must exist before the phase that reads it is made (PG_BLOCK), then routes and table are read. */
void ps_prepare_groups(PsBuilder *b, const PsLayout *layout);
void ps_read_routes(PsBuilder *b, PsPhase *p, const PsLayout *layout, int routes_slot, int groups_slot);
/* k / E of some routes. */
double ps_chosen_fraction(const PsBuilder *b, IrValueId routes);

void ps_set_experts(PgKernel *k, const PsLayout *layout); /* raises E and k to the layout's */
void ps_tile_rows(const PsBuilder *b, PsPhase *p, const PsLayout *y); /* one tile, or blocks of 8 rows or positions */
void ps_tile_segments(const PsBuilder *b, PsPhase *p);                /* (panel, segment) */

bool ps_is_norm(IrOp op);
/* Norm fields of a kernel and its weights. */
void ps_set_norm(PsBuilder *b, PsPhase *p, const IrNode *norm, int w_slot, int b_slot);
/* The map that makes the logits. */
bool ps_is_head(const PsBuilder *b, const IrNode *node);

/* Single operations. */
void ps_phase_embed(PsBuilder *b, const IrNode *node);
void ps_phase_norm(PsBuilder *b, const IrNode *node);
void ps_phase_op(PsBuilder *b, const IrNode *node);
void ps_phase_sum(PsBuilder *b, const IrNode *node);
void ps_phase_lone_conv(PsBuilder *b, const IrNode *node);

/* Regions, given by their nodes (a lone map is a region of one). */
void ps_phase_map(PsBuilder *b, const PsGroup *nodes);
void ps_phase_route(PsBuilder *b, const PsGroup *nodes);
void ps_phase_conv(PsBuilder *b, const PsConv *conv);
void ps_phase_scan(PsBuilder *b, const PsScan *scan);
void ps_phase_attention(PsBuilder *b, const IrNode *attend);

#endif
