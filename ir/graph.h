/* The graph: what a model computes in one step, in SSA form.
 *
 * A graph is a list of nodes in an order that respects their operands; each node applies one operation of ops.def and has one
 * or more results. Values that no node makes are the tokens and positions of the step, weights and states. The dimension IR_R
 * (rows of the step) is the only symbol; all else is a number.
 *
 * The weights, in order, are the tensors of the checkpoint: name, shape and the dtype that each is stored in. A graph holds all
 * that a program is made of; the spec is not needed any more.
 *
 * Fusion does not replace operations by bigger ones: it puts nodes into *regions*. A region is a contiguous run of nodes that
 * becomes one phase (or a few) of the program; values used only inside it never reach memory. A region names the values that
 * play a part in it (roles.def), so that who reads it matches nothing again. After the last pass every linear and every attend
 * stands in one. Route fusion alone rewrites
 * operations (the dense ones over all experts into *_routed ones). So both evaluators run a graph of any level, with the same
 * result up to rounding (eval64) or bit for bit (eval32).
 *
 * Owner: the arena of the graph. Nothing is freed piece by piece. */
#ifndef MOSSC_IR_GRAPH_H
#define MOSSC_IR_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/dtype.h"
#include "support/arena.h"
#include "support/diag.h"

enum { IR_R = -1, IR_MAX_RANK = 4, IR_MAX_OPERANDS = 6, IR_MAX_RESULTS = 3, IR_MAX_ATTRS = 10 };

/* What a dimension counts. The shape rules say so (ir/shape.c), for results and for the weights and states that operations take;
 * nobody else concludes it from a rank. */
typedef enum IrDim {
    IR_DIM_UNKNOWN, /* of a weight or state that nothing has used yet */
    IR_DIM_ROW,
    IR_DIM_EXPERT, /* a plane for each of all experts */
    IR_DIM_SLOT,   /* a plane for each chosen expert */
    IR_DIM_CHANNEL,
    IR_DIM_INPUT, /* what a linear sums over */
    IR_DIM_STATE,
    IR_DIM_TAP,
    IR_DIM_POSITION, /* in a cache */
    IR_DIM_COUNT
} IrDim;

typedef struct IrType {
    IrDtype dtype;
    int rank;
    int64_t dim[IR_MAX_RANK]; /* IR_R or a positive number */
    uint8_t role[IR_MAX_RANK]; /* IrDim */
} IrType;

/* The size of the dimension of that role, 0 where there is none. */
int64_t ir_dim(const IrType *type, IrDim role);

typedef enum IrOp {
#define IR_OP(name, operands, results, attributes, traits) IR_OP_##name,
#include "ir/ops.def"
#undef IR_OP
    IR_OP_COUNT
} IrOp;

/* Places of attributes in IrNode.attrs: IR_GATES_scale … and their number, IR_gates_ATTRS. */
#define IR_INT(OP, name) IR_##OP##_##name,
#define IR_REAL(OP, name) IR_##OP##_##name,
#define IR_FLAG(OP, name) IR_##OP##_##name,
#define IR_NO_ATTRS
#define IR_OP(name, operands, results, attributes, traits) enum { attributes IR_##name##_ATTRS };
#include "ir/ops.def"
#undef IR_OP
#undef IR_INT
#undef IR_REAL
#undef IR_FLAG
#undef IR_NO_ATTRS

enum { IR_ELEMENTWISE = 1, IR_ROUTED = 2, IR_PLANEWISE = 4, IR_CHANNELWISE = 8 };

typedef struct IrOpInfo {
    const char *name, *operands;
    int results;
    int min_operands, max_operands, n_attrs, n_flags, n_states; /* flags are the last of the attributes */
    const char *attr_names[IR_MAX_ATTRS];
    bool attr_is_real[IR_MAX_ATTRS];
    uint32_t traits;
} IrOpInfo;

const IrOpInfo *ir_op_info(IrOp op);

typedef int32_t IrValueId; /* index into IrGraph.values */
typedef int32_t IrNodeId;  /* index into IrGraph.nodes */
enum { IR_NONE = -1 };

typedef enum IrValueKind { IR_RESULT, IR_TOKENS, IR_POSITIONS, IR_WEIGHT, IR_STATE } IrValueKind;
/* What loading does to a weight's elements: A = -exp(A_log). */
typedef enum IrTransform { IR_AS_IS, IR_NEG_EXP } IrTransform;

typedef struct IrValue {
    IrValueKind kind;
    IrType type;
    const char *name;      /* weight: tensor name; state: "blocks.3.conv"; result: printed after %, unique */
    IrNodeId node;         /* IR_RESULT: who makes it */
    int result;            /* and which of its results */
    IrTransform transform; /* IR_WEIGHT */
    IrValueId next;        /* IR_STATE: its value after the step (a result), IR_NONE until set */
} IrValue;

typedef union IrAttr {
    int64_t i;
    double f;
} IrAttr;

typedef struct IrNode {
    IrOp op;
    int n_operands; /* trailing absent optional operands are not counted */
    IrValueId operands[IR_MAX_OPERANDS];
    IrValueId results[IR_MAX_RESULTS];
    IrAttr attrs[IR_MAX_ATTRS];
    int32_t region; /* index into IrGraph.regions, or IR_NONE */
    int32_t block;  /* block of the spec, -1 outside (embed, final norm, head) */
    SuSpan span;    /* the spec line it came from */
} IrNode;

/* What a region becomes. A node outside any region is a phase of its own. */
typedef enum IrRegionKind {
    IR_REGION_LINEAR,
    IR_REGION_ROUTER,
    IR_REGION_CONV,
    IR_REGION_SCAN,
    IR_REGION_ATTENTION,
    IR_REGION_HEADS,
    IR_REGION_TRAPEZOID,
    IR_REGION_TURN
} IrRegionKind;

/* Which part a value plays in a region (roles.def). */
typedef enum IrRole {
#define IR_ROLE(name, row, kinds) IR_ROLE_##name,
#include "ir/roles.def"
    IR_ROLE_COUNT
} IrRole;

typedef struct IrRoleInfo {
    const char *name;
    bool row;
    const char *kinds; /* a letter for each IrRegionKind: ! must be, ? may be, . is not */
} IrRoleInfo;

const IrRoleInfo *ir_role_info(IrRole role);

typedef struct IrRoles {
    IrValueId of[IR_ROLE_COUNT]; /* IR_NONE: nobody */
} IrRoles;

IrRoles ir_no_roles(void);

typedef struct IrRegion {
    IrRegionKind kind;
    const char *name; /* "blocks.3.in_proj": used in explain, dumps, profiles */
    IrRoles roles;
} IrRegion;

typedef enum IrLevel { IR_NAIVE, IR_FUSED } IrLevel;

typedef struct IrGraph {
    SuArena *arena;
    const char *name;
    IrLevel level;
    IrValue *values;
    size_t n_values, values_capacity;
    IrNode *nodes;
    size_t n_nodes, nodes_capacity;
    IrRegion *regions;
    size_t n_regions, regions_capacity;
    size_t n_results; /* values of kind IR_RESULT: names the next one */
    IrValueId tokens, positions; /* i32[R] each */
    IrValueId logits;            /* f32[R,V] */
    int64_t max_positions;       /* of a sequence; 0: no bound */
    uint8_t spec_hash[16];       /* of the spec that it was lowered from; zeros: of none */
    struct IrNames *named;       /* weights and states by name (ir/graph.c) */
} IrGraph;

/* ---- building. Types of results are inferred (ir_infer); a mismatch is SU_BUG: lowering made a mistake. */
IrGraph *ir_graph_new(SuArena *arena, const char *name);
/* Elements of a row of logits, and of the embedded tokens. */
int64_t ir_vocab_size(const IrGraph *g);
int64_t ir_model_width(const IrGraph *g);
/* The residual stream: [*out_blocks + 1] values f32[rows, width], before each block and after the last. NULL: the graph has no blocks that
 * hand one such value on each, which a graph of text need not. */
IrValueId *ir_residuals(const IrGraph *g, SuArena *arena, int32_t *out_blocks);
IrValueId ir_weight(IrGraph *g, const char *tensor, IrType type, IrTransform transform); /* one value per (tensor, transform) */
/* The weight that a value is, or is a part (take) or the planes of (transpose); IR_NONE for others. *out_first: where the part begins among the channels. */
IrValueId ir_weight_behind(const IrGraph *g, IrValueId value, int64_t *out_first);
IrValueId ir_state(IrGraph *g, const char *name, IrType type);
IrType ir_type(IrDtype dtype, int rank, ...); /* dims as int64_t */

/* Where new nodes come from: set before building, copied into each node. */
typedef struct IrBuilder {
    IrGraph *graph;
    SuSpan span;
    int32_t block;
} IrBuilder;

/* Appends a node; results in node->results. `operands` has n values; attrs in the order of ops.def; NULL: there are none, or
 * flags only, which are 0. */
IrNode *ir_node(IrBuilder *b, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs);
/* The usual case: first result of a node with up to three operands; pass IR_NONE for those that are absent. */
IrValueId ir_op1(IrBuilder *b, IrOp op, IrValueId x, IrValueId y, IrValueId z);
/* Likewise with attributes. */
IrValueId ir_op1_attrs(IrBuilder *b, IrOp op, IrValueId x, IrValueId y, IrValueId z, const IrAttr *attrs);

/* ---- shapes (ir/shape.c): result types of a node from its operands' types. false and *out_why on a mismatch. */
bool ir_infer(const IrGraph *g, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs, IrType *out_types,
              const char **out_why);
bool ir_type_equal(const IrType *a, const IrType *b); /* whatever the roles */
/* Do all roles agree that both know? */
bool ir_roles_agree(const IrType *a, const IrType *b);
/* Fills the unknown roles of a node's weights, states and results. Whoever builds nodes by ir_node need not. */
void ir_settle_roles(IrGraph *g, const IrNode *node);
/* The roles that an operation's operand must have, IR_DIM_UNKNOWN where it may have any. */
void ir_operand_roles(const IrGraph *g, const IrNode *node, int operand, IrType *out);
/* Elements of a value for `rows` rows. */
int64_t ir_elements(const IrType *type, int64_t rows);

/* ---- text (ir/print.c, ir/parse.c): they are inverses. Spans are printed as !line:column and parsed back. */
void ir_print(const IrGraph *g, FILE *out);
IrGraph *ir_parse(SuArena *arena, const SuSource *source, SuDiags *diags); /* NULL: errors are in diags */
bool ir_graph_equal(const IrGraph *a, const IrGraph *b, const char **out_difference);

/* ---- rules (ir/verify.c): SSA order, types, expert indices within the experts they index, states set once, regions contiguous and
 * closed, and the level's own: a naive graph has no regions and no *_routed operation. Adds errors that name the node; false if any. */
bool ir_verify(const IrGraph *g, SuDiags *diags);

/* ---- cost (ir/cost.c): of one node for `rows` rows at `position` past tokens (attention). */
typedef struct IrCost {
    double flops; /* a multiply-add counts 2, a transcendental 1 */
    double weight_bytes; /* of weights read when rows = 1 (chosen experts only), each once */
    double state_bytes; /* read + written */
} IrCost;
IrCost ir_cost(const IrGraph *g, const IrNode *node, int64_t rows, int64_t position);

#endif
