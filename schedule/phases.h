/* Making phases: shared between phases.c (single operations), phases_linear.c and phases_fused.c (regions) and the walk over
 * the graph. */
#ifndef MOSSC_SCHEDULE_PHASES_H
#define MOSSC_SCHEDULE_PHASES_H

#include "schedule/builder.h"

/* A phase of one tile, without operands. */
ScPhaseId sc_new_phase(ScBuilder *b, PgKind kind, const IrNode *node, const char *name);
const char *sc_phase_name(ScBuilder *b, const IrNode *node, const char *what);

/* Operands. IR_NONE is ignored by the ones that read. `active`: fraction of the weight a decoded token reads. */
void sc_read(ScBuilder *b, ScPhaseId p, int slot, IrValueId value);
void sc_read_buffer(ScBuilder *b, ScPhaseId p, int slot, int32_t buffer);
void sc_read_weight(ScBuilder *b, ScPhaseId p, int slot, IrValueId value, PgPack pack, double active);
/* In another shape than its own: the pack, planes, O, K of `shape`. One shape of a weight for each pack. */
void sc_read_weight_as(ScBuilder *b, ScPhaseId p, int slot, IrValueId value, const PgWeight *shape, double active);
void sc_use_state(ScBuilder *b, ScPhaseId p, int slot, IrValueId value);
void sc_touch_state(ScBuilder *b, ScPhaseId p, IrValueId value); /* that lies behind an operand's */
void sc_write(ScBuilder *b, ScPhaseId p, int slot, IrValueId value);
void sc_write_parts(ScBuilder *b, ScPhaseId p, int slot, const IrValueId *values, int n); /* rows, one behind the other */
int32_t sc_new_buffer(ScBuilder *b, ScBytes bytes, const char *name); /* without a writer */
int32_t sc_write_buffer(ScBuilder *b, ScPhaseId p, int slot, ScBytes bytes, const char *name);

/* Positions: the group table must exist before the phase that reads it is made (PG_BLOCK), then expert indices and table are read. */
void sc_prepare_groups(ScBuilder *b, const ScLayout *layout);
void sc_read_experts(ScBuilder *b, ScPhaseId p, const ScLayout *layout, int experts_slot, int groups_slot);
/* k / E of some expert indices. */
double sc_chosen_fraction(const ScBuilder *b, IrValueId expert_indices);

void sc_add_step(ScBuilder *b, ScPhaseId p, PgEpilogueStep step); /* to the end of the epilogue */
void sc_set_experts(PgKernel *k, const ScLayout *layout); /* raises E and k to the layout's */
void sc_set_groups(PgKernel *k, const IrNode *select);
void sc_tile_rows(const ScBuilder *b, ScPhaseId p, const ScLayout *y); /* one tile, or blocks of 8 rows or positions */
void sc_tile_segments(const ScBuilder *b, ScPhaseId p); /* (panel, segment) */

/* Norm fields of a kernel and its weights. */
void sc_set_norm(ScBuilder *b, ScPhaseId p, const IrNode *norm, int w_slot, int b_slot);

/* Single operations. */
void sc_phase_embed(ScBuilder *b, const IrNode *node);
void sc_phase_norm(ScBuilder *b, const IrNode *node);
void sc_phase_op(ScBuilder *b, const IrNode *node, PgKind kind);
void sc_phase_elementwise(ScBuilder *b, const IrNode *node, PgElementwise ew, PgActivation act);
void sc_phase_sum(ScBuilder *b, const IrNode *node);
void sc_phase_lone_conv(ScBuilder *b, const IrNode *node);

/* Regions: read by their roles, nothing is matched. */
IrValueId sc_role(const IrRegion *region, IrRole role); /* the value that plays it, or IR_NONE */
const IrNode *sc_role_node(const ScBuilder *b, const IrRegion *region, IrRole role); /* the node that makes it, or NULL */
PgActivation sc_role_activation(const ScBuilder *b, const IrRegion *region);
void sc_phase_linear(ScBuilder *b, const IrRegion *region);
void sc_phase_route(ScBuilder *b, const IrRegion *region);
void sc_phase_conv(ScBuilder *b, const IrRegion *region);
void sc_phase_scan(ScBuilder *b, const IrRegion *region);
void sc_phase_heads(ScBuilder *b, const IrRegion *region);
void sc_phase_trapezoid(ScBuilder *b, const IrRegion *region);
void sc_phase_turn(ScBuilder *b, const IrRegion *region);
void sc_phase_attention(ScBuilder *b, const IrRegion *region);

#endif
