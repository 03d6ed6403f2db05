/* What each operation is, from its row in ops.def. All of it is constant data: a row's strings are taken apart by the compiler. */
#include <assert.h>

#include "ir/graph.h"

/* Letter i of the literal s, NUL past its end. */
#define LETTER(s, i) ((s)[sizeof(s) > (i) ? (i) : sizeof(s) - 1])
#define OPTIONAL_AT(s, i) (LETTER(s, i) >= 'A' && LETTER(s, i) <= 'Z')
#define STATE_AT(s, i) (LETTER(s, i) == 's' || LETTER(s, i) == 'S')
#define SUM(P, s) (P(s, 0) + P(s, 1) + P(s, 2) + P(s, 3) + P(s, 4) + P(s, 5))

/* The column of attributes is expanded three times, each time with another meaning of IR_INT, IR_REAL and IR_FLAG. */
static const IrOpInfo infos[IR_OP_COUNT] = {
#define IR_OP(op, operand_letters, n_results, attrs, op_traits)                                                                    \
    [IR_OP_##op].name = #op, [IR_OP_##op].operands = operand_letters, [IR_OP_##op].results = n_results,                            \
    [IR_OP_##op].min_operands = sizeof operand_letters - 1 - SUM(OPTIONAL_AT, operand_letters),                                    \
    [IR_OP_##op].max_operands = sizeof operand_letters - 1, [IR_OP_##op].n_states = SUM(STATE_AT, operand_letters),                \
    [IR_OP_##op].n_attrs = IR_##op##_ATTRS, [IR_OP_##op].traits = op_traits,
#include "ir/ops.def"
#undef IR_OP

#define IR_OP(op, operand_letters, n_results, attrs, op_traits) [IR_OP_##op].attr_names = {attrs},
#define IR_INT(OP, name) #name,
#define IR_REAL(OP, name) #name,
#define IR_FLAG(OP, name) #name,
#define IR_NO_ATTRS NULL
#include "ir/ops.def"
#undef IR_OP
#undef IR_INT
#undef IR_REAL
#undef IR_FLAG
#undef IR_NO_ATTRS

#define IR_OP(op, operand_letters, n_results, attrs, op_traits) [IR_OP_##op].attr_is_real = {attrs},
#define IR_INT(OP, name) false,
#define IR_REAL(OP, name) true,
#define IR_FLAG(OP, name) false,
#define IR_NO_ATTRS false
#include "ir/ops.def"
#undef IR_OP
#undef IR_INT
#undef IR_REAL
#undef IR_FLAG
#undef IR_NO_ATTRS

#define IR_OP(op, operand_letters, n_results, attrs, op_traits) [IR_OP_##op].n_flags = 0 attrs,
#define IR_INT(OP, name)
#define IR_REAL(OP, name)
#define IR_FLAG(OP, name) +1
#define IR_NO_ATTRS
#include "ir/ops.def"
#undef IR_OP
#undef IR_INT
#undef IR_REAL
#undef IR_FLAG
#undef IR_NO_ATTRS
};

#define IR_OP(op, operand_letters, n_results, attrs, op_traits)                                                                    \
    static_assert(sizeof operand_letters - 1 <= IR_MAX_OPERANDS && (n_results) <= IR_MAX_RESULTS &&                                \
                      (int)IR_##op##_ATTRS <= (int)IR_MAX_ATTRS,                                                                   \
                  "row of " #op);
#include "ir/ops.def"
#undef IR_OP

const IrRoleInfo *ir_role_info(IrRole role) {
    static const IrRoleInfo roles[IR_ROLE_COUNT] = {
#define IR_ROLE(name, row, kinds) [IR_ROLE_##name] = {#name, row, kinds},
#include "ir/roles.def"
    };
    if ((unsigned)role >= IR_ROLE_COUNT) SU_BUG("no role has the number %d", (int)role);
    return &roles[role];
}

const IrOpInfo *ir_op_info(IrOp op) {
    if ((unsigned)op >= IR_OP_COUNT) SU_BUG("no operation has the number %d", (int)op);
    return &infos[op];
}
