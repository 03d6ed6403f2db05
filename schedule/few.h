/* What PG_FEW joins (few.c). */
#ifndef MOSSC_SCHEDULE_FEW_H
#define MOSSC_SCHEDULE_FEW_H

#include "schedule/builder.h"

/* Marks what is joined: SC_NO_FEW_PHASE, norm_behind. Before any phase of PG_FEW is made. */
void sc_join_few(ScBuilder *b);
/* For the phase that makes x, if a norm is joined to it (PG_FEW): what it leaves for those that read the norm. */
void sc_leave_norm(ScBuilder *b, ScPhaseId p, IrValueId x);
/* For a linear layer that reads that in place of the norm's result. */
void sc_take_factor(ScBuilder *b, ScPhaseId p, const IrNode *norm);

#endif
