/* What the files of ir/ share and nobody else needs. */
#ifndef MOSSC_IR_INTERNAL_H
#define MOSSC_IR_INTERNAL_H

#include "ir/graph.h"

/* Appends a value; the caller fills the rest. */
IrValueId ir_append_value(IrGraph *g, IrValueKind kind, const char *name, IrType type);
/* Appends a node without results or types, in no region. The pointer is valid until the next one. */
IrNode *ir_append_node(IrGraph *g, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs);
/* How many results a node of `n` operands has: an absent optional state takes its own away. */
int ir_result_count(const IrOpInfo *info, int n);

/* The text form's words (ir/print.c). */
const char *ir_region_word(IrRegionKind kind);
const char *ir_dim_word(IrDim role); /* "": said by its place (rows), or a channel */
enum { IR_REGION_KINDS = IR_REGION_TURN + 1 };
/* A type in the text form, "f32[rows,64]", in a buffer of IR_TEXT bytes that is returned. */
enum { IR_TEXT = 192 };
const char *ir_type_text(const IrType *type, char *buffer);

#endif
