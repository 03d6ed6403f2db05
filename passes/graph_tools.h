/* What every pass needs of a graph: who uses a value, new regions, and the order of nodes made right again. */
#ifndef MOSSC_PASSES_GRAPH_TOOLS_H
#define MOSSC_PASSES_GRAPH_TOOLS_H

#include "ir/activation.h"
#include "ir/graph.h"

/* Uses of every value by nodes; the logits and the next value of a state count as uses without a node. */
typedef struct PsUses {
    int32_t *count;   /* [n_values] */
    IrNodeId *user;   /* [n_values] the last node that uses it, IR_NONE if none */
} PsUses;

PsUses ps_uses(const IrGraph *g, SuArena *arena);

/* The node that makes a value, or NULL for weights, states, tokens. */
const IrNode *ps_maker(const IrGraph *g, IrValueId value);
/* The only user of a value, or IR_NONE if there are none or several. */
IrNodeId ps_only_user(const PsUses *uses, IrValueId value);

/* A list of nodes that shall become a region. */
enum { PS_MAX_GROUP = 48 };
typedef struct PsGroup {
    IrNodeId nodes[PS_MAX_GROUP];
    int n;
} PsGroup;

void ps_group_add(PsGroup *group, IrNodeId node);
bool ps_group_has(const PsGroup *group, IrNodeId node);
/* "conv" with the branch in front that the weight or state `of` belongs to: "branches.1.conv". */
const char *ps_part_name(const IrGraph *g, IrValueId of, const char *what);
/* Puts the group's nodes into a new region named "blocks.I.what" ("what" alone outside the blocks). */
void ps_make_region(IrGraph *g, IrRegionKind kind, const char *what, const PsGroup *group, const IrRoles *roles);

/* Reorders nodes so that each region is contiguous and operands come first; otherwise keeps the order. */
void ps_regroup(IrGraph *g);

/* How many experts the expert indices (a select's result) choose from, and how many they choose. */
typedef struct PsChoice {
    int64_t E, k;
} PsChoice;
PsChoice ps_choice(const IrGraph *g, IrValueId expert_indices);

/* The weight that a value is, or is a part of, or NULL. Its shape is the value's. */
const IrValue *ps_weight(const IrGraph *g, IrValueId value);

/* The activation an operation is, PG_NO_ACT if it is none. */
PgActivation ps_activation(IrOp op);

/* "in_proj" of "blocks.3.in_proj.weight": names regions and phases after the linear layer they hold. Writes into out. */
void ps_linear_name(const IrGraph *g, IrValueId weight, char *out, size_t size);

#endif
