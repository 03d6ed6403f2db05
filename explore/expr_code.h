/* What an expression is parsed into: instructions of a stack machine, in postfix order. Between expr_parse.c and expr.c. */
#ifndef MOSSC_EXPLORE_EXPR_CODE_H
#define MOSSC_EXPLORE_EXPR_CODE_H

#include "explore/expr.h"

enum {
    EX_MAX_STACK = 48, /* values at once */
    EX_MAX_NESTING = 64, /* of brackets, functions and signs, when it is parsed */
    EX_MAX_CODE = 4096 /* instructions */
};

/* What an instruction does: EX_OP(ID, how it is written, operands it takes). */
#define EX_OPS(EX_OP)                                                                                                              \
    EX_OP(VALUE, "", 0)                                                                                                            \
    EX_OP(AXIS, "", 0)                                                                                                             \
    EX_OP(OR, "or", 2)                                                                                                             \
    EX_OP(AND, "and", 2)                                                                                                           \
    EX_OP(NOT, "not", 1)                                                                                                           \
    EX_OP(EQUAL, "==", 2)                                                                                                          \
    EX_OP(UNEQUAL, "!=", 2)                                                                                                        \
    EX_OP(LESS, "<", 2)                                                                                                            \
    EX_OP(LESS_EQUAL, "<=", 2)                                                                                                     \
    EX_OP(GREATER, ">", 2)                                                                                                         \
    EX_OP(GREATER_EQUAL, ">=", 2)                                                                                                  \
    EX_OP(ADD, "+", 2)                                                                                                             \
    EX_OP(SUBTRACT, "-", 2)                                                                                                        \
    EX_OP(MULTIPLY, "*", 2)                                                                                                        \
    EX_OP(DIVIDE, "/", 2)                                                                                                          \
    EX_OP(NEGATE, "-", 1)                                                                                                          \
    EX_OP(CEIL, "ceil", 1)                                                                                                         \
    EX_OP(FLOOR, "floor", 1)                                                                                                       \
    EX_OP(MIN, "min", 2)                                                                                                           \
    EX_OP(MAX, "max", 2)

typedef enum ExOp {
#define EX_OP(id, text, operands) EX_OP_##id,
    EX_OPS(EX_OP)
#undef EX_OP
} ExOp;

typedef struct ExCode {
    ExOp op;
    uint32_t axis; /* AXIS */
    ExValue value; /* VALUE */
} ExCode;

struct ExExpr {
    const ExCode *code; /* [n_code] */
    size_t n_code;
    uint32_t types; /* EX_IS_… of its value */
    const char *text;
    SuSpan span;
};

#endif
