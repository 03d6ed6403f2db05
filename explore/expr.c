/* Evaluating expressions. */
#include "explore/expr.h"

#include <math.h>
#include <string.h>

#include "explore/expr_code.h"

bool ex_uses(const ExExpr *expr, size_t axis) {
    for (size_t i = 0; i < expr->n_code; i++)
        if (expr->code[i].op == EX_OP_AXIS && expr->code[i].axis == axis) return true;
    return false;
}

uint32_t ex_types(const ExExpr *expr) { return expr->types; }

SuSpan ex_span(const ExExpr *expr) { return expr->span; }

const char *ex_text(const ExExpr *expr) { return expr->text; }

/* A value, or why there is none. */
typedef struct Slot {
    ExValue value;
    const char *why; /* NULL: there is one */
} Slot;

static Slot number(double value) {
    if (!isfinite(value)) return (Slot){.why = "a result is too large"};
    return (Slot){.value = {EX_NUMBER, value, NULL}};
}

static Slot truth(bool value) { return (Slot){.value = {EX_TRUTH, value, NULL}}; }

static Slot nothing(const char *why) { return (Slot){.why = why}; }

static bool is(const Slot *slot, bool value) {
    return !slot->why && slot->value.type == EX_TRUTH && (slot->value.number != 0) == value;
}

static bool equal(const ExValue *a, const ExValue *b) {
    if (a->type != b->type || a->type == EX_NONE) return a->type == b->type;
    return a->type == EX_WORD ? a->word == b->word || strcmp(a->word, b->word) == 0 : a->number == b->number;
}

/* What a pair of operands lacks, or NULL. */
static const char *lacks(const Slot *a, const Slot *b, ExType wanted) {
    if (a->why || b->why) return a->why ? a->why : b->why;
    if (a->value.type == wanted && b->value.type == wanted) return NULL;
    if (wanted == EX_TRUTH) return "a truth value is needed where there is none";
    return a->value.type == EX_NONE || b->value.type == EX_NONE ? "none is no number" : "a number is needed where there is none";
}

static Slot compare(ExOp op, const Slot *a, const Slot *b) {
    const char *why = lacks(a, b, EX_NUMBER);
    bool with_none = !a->why && !b->why && (a->value.type == EX_NONE || b->value.type == EX_NONE);
    bool comparable = with_none && a->value.type <= EX_NUMBER && b->value.type <= EX_NUMBER;
    if (comparable) return truth(false);
    if (why) return nothing(why);
    double x = a->value.number, y = b->value.number;
    return truth(op == EX_OP_LESS ? x < y : op == EX_OP_LESS_EQUAL ? x <= y : op == EX_OP_GREATER ? x > y : x >= y);
}

static Slot compute(ExOp op, double x, double y) {
    switch (op) {
    case EX_OP_ADD: return number(x + y);
    case EX_OP_SUBTRACT: return number(x - y);
    case EX_OP_MULTIPLY: return number(x * y);
    case EX_OP_DIVIDE: return y == 0 ? nothing("division by zero") : number(x / y);
    case EX_OP_NEGATE: return number(-x);
    case EX_OP_CEIL: return number(ceil(x));
    case EX_OP_FLOOR: return number(floor(x));
    case EX_OP_MIN: return number(x < y ? x : y);
    case EX_OP_MAX: return number(x > y ? x : y);
    case EX_OP_VALUE:
    case EX_OP_AXIS:
    case EX_OP_OR:
    case EX_OP_AND:
    case EX_OP_NOT:
    case EX_OP_EQUAL:
    case EX_OP_UNEQUAL:
    case EX_OP_LESS:
    case EX_OP_LESS_EQUAL:
    case EX_OP_GREATER:
    case EX_OP_GREATER_EQUAL: break;
    }
    SU_BUG("operation %d does not compute", (int)op);
}

/* One truth value decides, whatever the other is. */
static Slot join(const Slot *a, const Slot *b, bool decides) {
    if (is(a, decides) || is(b, decides)) return truth(decides);
    const char *why = lacks(a, b, EX_TRUTH);
    return why ? nothing(why) : truth(!decides);
}

static Slot equality(const Slot *a, const Slot *b, bool wanted) {
    if (a->why || b->why) return nothing(a->why ? a->why : b->why);
    return truth(equal(&a->value, &b->value) == wanted);
}

/* Of one operand a is b. */
static Slot apply(ExOp op, const Slot *a, const Slot *b) {
    switch (op) {
    case EX_OP_OR: return join(a, b, true);
    case EX_OP_AND: return join(a, b, false);
    case EX_OP_NOT: return lacks(a, b, EX_TRUTH) ? nothing(lacks(a, b, EX_TRUTH)) : truth(a->value.number == 0);
    case EX_OP_EQUAL:
    case EX_OP_UNEQUAL: return equality(a, b, op == EX_OP_EQUAL);
    case EX_OP_LESS:
    case EX_OP_LESS_EQUAL:
    case EX_OP_GREATER:
    case EX_OP_GREATER_EQUAL: return compare(op, a, b);
    case EX_OP_VALUE:
    case EX_OP_AXIS:
    case EX_OP_ADD:
    case EX_OP_SUBTRACT:
    case EX_OP_MULTIPLY:
    case EX_OP_DIVIDE:
    case EX_OP_NEGATE:
    case EX_OP_CEIL:
    case EX_OP_FLOOR:
    case EX_OP_MIN:
    case EX_OP_MAX: break;
    }
    const char *why = lacks(a, b, EX_NUMBER);
    return why ? nothing(why) : compute(op, a->value.number, b->value.number);
}

bool ex_eval(const ExExpr *expr, const ExValue *values, ExValue *out, const char **out_why) {
    static const uint8_t operands[] = {
#define EX_OP(id, text, count) [EX_OP_##id] = count,
        EX_OPS(EX_OP)
#undef EX_OP
    };
    Slot stack[EX_MAX_STACK];
    size_t size = 0; /* expr_parse.c has seen that it fits */
    for (const ExCode *c = expr->code, *end = c + expr->n_code; c < end; c++) {
        if (operands[c->op] == 0) {
            stack[size++] = (Slot){.value = c->op == EX_OP_AXIS ? values[c->axis] : c->value};
        } else {
            size -= operands[c->op];
            stack[size] = apply(c->op, &stack[size], &stack[size + operands[c->op] - 1]);
            size++;
        }
    }
    *out = stack[0].value;
    *out_why = stack[0].why;
    return !stack[0].why;
}
