/* Expressions from text, by recursive descent: instructions are emitted as soon as their operands are, which makes them postfix.
 *
 *   or         := and ("or" and)*
 *   and        := not ("and" not)*
 *   not        := "not" not | comparison
 *   comparison := sum (("==" | "!=" | "<" | "<=" | ">" | ">=") sum)?
 *   sum        := product (("+" | "-") product)*
 *   product    := sign (("*" | "/") sign)*
 *   sign       := "-" sign | value
 *   value      := number | quoted text | name | function "(" or ("," or)* ")" | "(" or ")"
 *
 * A function that returns false has reported. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explore/expr_code.h"
#include "explore/expr_token.h"
#include "frontend/keys.h"
#include "support/str.h"

typedef struct Parser {
    SuArena *arena;
    const ExNames *names;
    const char *text;
    SuSpan span;
    uint32_t shift; /* characters of a line before the text, of its span */
    bool placed;    /* the text stands in its line as it is; else all errors are about the whole */
    SuDiags *diags;
    ExToken token;
    unsigned nesting;
    ExCode *code;
    size_t n_code, capacity, stack;
} Parser;

/* What was parsed: its types, and where it stands. */
typedef struct Operand {
    uint32_t types;
    size_t from, to; /* bytes of the text */
} Operand;

/* ---- places and messages */

static uint32_t characters(const char *text, size_t size) {
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static SuSpan place(const Parser *p, size_t from, size_t to) {
    if (!p->placed) return p->span;
    SuSpan span = p->span;
    span.column += p->shift + characters(p->text, from);
    span.length = characters(p->text + from, to - from);
    span.length += span.length == 0;
    return span;
}

static const char *quoted(const Parser *p, size_t from, size_t to) {
    return fe_quote(p->arena, su_strndup(p->arena, p->text + from, to - from));
}

__attribute__((format(printf, 5, 6))) static bool fail(const Parser *p, size_t from, size_t to, const char *hint,
                                                       const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *message = su_vprintf(p->arena, format, args);
    va_end(args);
    return su_report(p->diags, SU_CODE_bad_expression, place(p, from, to), hint, "%s", message);
}

/* ---- tokens */

static void next(Parser *p) { p->token = ex_next_token(p->text, p->token.at + p->token.size); }

static bool is_text(const Parser *p, const char *text) {
    return p->token.size == strlen(text) && memcmp(p->text + p->token.at, text, p->token.size) == 0;
}

static bool is_symbol(const Parser *p, const char *text) { return p->token.kind == EX_TOKEN_SYMBOL && is_text(p, text); }

static bool is_word(const Parser *p, const char *text) { return p->token.kind == EX_TOKEN_NAME && is_text(p, text); }

static bool take_symbol(Parser *p, const char *text) {
    if (!is_symbol(p, text)) return false;
    next(p);
    return true;
}

/* What other languages write, in our words. */
static const char *advice(const Parser *p) {
    static const char *const others[][2] = {{"=", "=="}, {"&&", "and"}, {"||", "or"}, {"!", "not"}, {"<>", "!="}};
    for (size_t i = 0; p->token.kind == EX_TOKEN_SYMBOL && i < sizeof others / sizeof *others; i++)
        if (is_text(p, others[i][0])) return su_printf(p->arena, "did you mean '%s'?", others[i][1]);
    return NULL;
}

/* Something else was expected where the token stands. */
static bool unexpected(const Parser *p, const char *wanted) {
    const ExToken *t = &p->token;
    if (t->kind == EX_TOKEN_BROKEN) return fail(p, t->at, t->at + t->size, NULL, "a quoted text without its closing quote");
    if (t->kind == EX_TOKEN_END) return fail(p, t->at, t->at, NULL, "expected %s, but the expression ends", wanted);
    return fail(p, t->at, t->at + t->size, advice(p), "expected %s, got %s", wanted, quoted(p, t->at, t->at + t->size));
}

/* ---- instructions */

static const struct {
    const char *text;
    int operands;
} ops[] = {
#define EX_OP(id, text, operands) [EX_OP_##id] = {text, operands},
    EX_OPS(EX_OP)
#undef EX_OP
};

static bool emit(Parser *p, ExCode code, const Operand *at) {
    p->stack += 1 - (size_t)ops[code.op].operands;
    if (p->stack > EX_MAX_STACK || p->n_code == EX_MAX_CODE) return fail(p, at->from, at->to, NULL, "the expression is too large");
    p->code = su_grow(p->arena, p->code, &p->capacity, p->n_code + 1, sizeof(ExCode));
    p->code[p->n_code++] = code;
    return true;
}

/* "a number or none" */
static const char *types_text(const Parser *p, uint32_t types) {
    static const char *const names[] = {
        [EX_NONE] = "none", [EX_NUMBER] = "a number", [EX_TRUTH] = "a truth value", [EX_WORD] = "a word"};
    const char *text = "";
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (types >> i & 1) text = su_printf(p->arena, "%s%s%s", text, *text ? " or " : "", names[i]);
    return text;
}

/* Operands of `op` must have one of these types. */
static bool wants(const Parser *p, ExOp op, const Operand *operand, uint32_t types) {
    if (operand->types & types) return true;
    return fail(p, operand->from, operand->to, NULL, "'%s' takes %s, and %s is %s", ops[op].text,
                types & EX_IS_NUMBER ? "numbers" : "truth values", quoted(p, operand->from, operand->to),
                types_text(p, operand->types));
}

static bool may_equal(const Parser *p, const Operand *a, const Operand *b) {
    if ((a->types & b->types) || ((a->types | b->types) & EX_IS_NONE)) return true;
    return fail(p, a->from, b->to, NULL, "%s is %s and %s is %s: they are never equal", quoted(p, a->from, a->to),
                types_text(p, a->types), quoted(p, b->from, b->to), types_text(p, b->types));
}

static bool fits(const Parser *p, ExOp op, const Operand *a, const Operand *b) {
    uint32_t wanted = op <= EX_OP_NOT ? EX_IS_TRUTH : op <= EX_OP_GREATER_EQUAL ? EX_IS_NUMBER | EX_IS_NONE : EX_IS_NUMBER;
    if (op == EX_OP_EQUAL || op == EX_OP_UNEQUAL) return may_equal(p, a, b);
    return wants(p, op, a, wanted) && wants(p, op, b, wanted);
}

/* The instruction of two operands that were parsed (of one: a is b); *a becomes its result. */
static bool combine(Parser *p, ExOp op, Operand *a, const Operand *b) {
    if (!fits(p, op, a, b)) return false;
    a->to = b->to;
    a->types = op <= EX_OP_GREATER_EQUAL ? EX_IS_TRUTH : EX_IS_NUMBER;
    return emit(p, (ExCode){.op = op}, a);
}

/* ---- values */

static bool parse_or(Parser *p, Operand *out);

static bool emit_value(Parser *p, ExValue value, Operand *out) {
    *out = (Operand){1u << value.type, p->token.at, p->token.at + p->token.size};
    next(p);
    return emit(p, (ExCode){.op = EX_OP_VALUE, .value = value}, out);
}

static bool parse_number(Parser *p, Operand *out) {
    const ExToken *t = &p->token;
    double number;
    const char *text = su_strndup(p->arena, p->text + t->at, t->size);
    if (!fe_parse_real(text, &number))
        return fail(p, t->at, t->at + t->size, "numbers are decimal: no leading zero, no '_', no unit", "%s is no number",
                    fe_quote(p->arena, text));
    if (!isfinite(number)) return fail(p, t->at, t->at + t->size, NULL, "%s is too large", fe_quote(p->arena, text));
    return emit_value(p, (ExValue){EX_NUMBER, number, NULL}, out);
}

static int by_text(const void *left, const void *right) { return strcmp(*(const char *const *)left, *(const char *const *)right); }

/* The word of the axes with that text, or NULL. */
static const char *find_word(const ExNames *names, const char *text) {
    if (names->n_words == 0) return NULL;
    const char *const *found = bsearch(&text, names->words, names->n_words, sizeof *names->words, by_text);
    return found ? *found : NULL;
}

static bool parse_quoted(Parser *p, Operand *out) {
    const char *text = su_strndup(p->arena, p->text + p->token.at + 1, p->token.size - 2), *word = find_word(p->names, text);
    return emit_value(p, (ExValue){EX_WORD, 0, word ? word : text}, out);
}

/* "(" or ("," or)* ")" behind the name of a function, the current token. */
static bool parse_function(Parser *p, ExOp op, Operand *out) {
    const size_t from = p->token.at, name_end = from + p->token.size;
    Operand next_one;
    next(p);
    if (!take_symbol(p, "(")) return unexpected(p, su_printf(p->arena, "'(' behind '%s'", ops[op].text));
    if (!parse_or(p, out)) return false;
    if (ops[op].operands == 1) {
        if (!combine(p, op, out, out)) return false;
    } else if (!is_symbol(p, ",")) {
        return is_symbol(p, ")") ? fail(p, from, name_end, NULL, "'%s' takes two numbers or more", ops[op].text)
                                 : unexpected(p, "','");
    }
    while (take_symbol(p, ",")) {
        if (ops[op].operands == 1) return fail(p, from, name_end, NULL, "'%s' takes one number", ops[op].text);
        if (!parse_or(p, &next_one) || !combine(p, op, out, &next_one)) return false;
    }
    const size_t to = p->token.at + p->token.size;
    if (!take_symbol(p, ")")) return unexpected(p, "')'");
    out->from = from;
    out->to = to;
    return true;
}

static bool parse_axis(Parser *p, size_t axis, Operand *out) {
    const ExToken t = p->token;
    uint32_t types = p->names->types[axis];
    if (types == 0)
        return fail(p, t.at, t.at + t.size, NULL, "the values of '%s' are lists or maps, which expressions cannot use",
                    p->names->axes[axis]);
    *out = (Operand){types, t.at, t.at + t.size};
    next(p);
    return emit(p, (ExCode){.op = EX_OP_AXIS, .axis = (uint32_t)axis}, out);
}

static const struct {
    const char *name;
    ExValue value;
} constants[] = {{"none", {.type = EX_NONE}}, {"true", {.type = EX_TRUTH, .number = 1}}, {"false", {.type = EX_TRUTH}}};
enum { N_CONSTANTS = sizeof constants / sizeof *constants };

/* The name of a function. */
static bool find_function(const char *name, ExOp *out) {
    for (ExOp op = EX_OP_CEIL; op <= EX_OP_MAX; op++) {
        if (strcmp(ops[op].text, name) != 0) continue;
        *out = op;
        return true;
    }
    return false;
}

bool ex_is_keyword(const char *name) {
    ExOp op;
    for (size_t i = 0; i < N_CONSTANTS; i++)
        if (strcmp(constants[i].name, name) == 0) return true;
    return find_function(name, &op) || strcmp(name, "and") == 0 || strcmp(name, "or") == 0 || strcmp(name, "not") == 0;
}

static bool unknown_name(const Parser *p, const char *name) {
    const ExNames *n = p->names;
    const char **all = SU_NEW_ARRAY(p->arena, const char *, n->n_axes + n->n_words + EX_OP_MAX + N_CONSTANTS);
    size_t count = 0;
    for (size_t i = 0; i < n->n_axes; i++) all[count++] = n->axes[i];
    for (size_t i = 0; i < n->n_words; i++) all[count++] = n->words[i];
    for (ExOp op = EX_OP_CEIL; op <= EX_OP_MAX; op++) all[count++] = ops[op].text;
    for (size_t i = 0; i < N_CONSTANTS; i++) all[count++] = constants[i].name;
    const char *near = su_nearest(name, all, count), *hint = "a name is that of an axis, or a word among its values";
    if (near) {
        bool bare = ex_next_token(near, 0).kind == EX_TOKEN_NAME && ex_next_token(near, 0).size == strlen(near);
        hint = su_printf(p->arena, bare ? "did you mean '%s'?" : "did you mean \"%s\", with the quotes?", near);
    }
    return fail(p, p->token.at, p->token.at + p->token.size, hint, "unknown name %s", fe_quote(p->arena, name));
}

static bool parse_name(Parser *p, Operand *out) {
    const char *name = su_strndup(p->arena, p->text + p->token.at, p->token.size), *word;
    ExOp function;
    for (size_t i = 0; i < N_CONSTANTS; i++)
        if (strcmp(constants[i].name, name) == 0) return emit_value(p, constants[i].value, out);
    if (find_function(name, &function)) return parse_function(p, function, out);
    if (ex_is_keyword(name)) return unexpected(p, "a value");
    for (size_t i = 0; i < p->names->n_axes; i++)
        if (strcmp(p->names->axes[i], name) == 0) return parse_axis(p, i, out);
    word = find_word(p->names, name);
    return word ? emit_value(p, (ExValue){EX_WORD, 0, word}, out) : unknown_name(p, name);
}

static bool parse_brackets(Parser *p, Operand *out) {
    const size_t from = p->token.at;
    next(p);
    if (!parse_or(p, out)) return false;
    if (!is_symbol(p, ")")) return unexpected(p, "')'");
    *out = (Operand){out->types, from, p->token.at + 1};
    next(p);
    return true;
}

static bool parse_value(Parser *p, Operand *out) {
    if (p->token.kind == EX_TOKEN_NUMBER) return parse_number(p, out);
    if (p->token.kind == EX_TOKEN_QUOTED) return parse_quoted(p, out);
    if (p->token.kind == EX_TOKEN_NAME) return parse_name(p, out);
    return is_symbol(p, "(") ? parse_brackets(p, out) : unexpected(p, "a value");
}

/* ---- operators */

/* One more level of recursion. */
static bool enter(Parser *p) {
    return ++p->nesting <= EX_MAX_NESTING || fail(p, p->token.at, p->token.at + p->token.size, NULL, "nested too deeply");
}

/* A sign or `not`, the current token, before what `operand` parses. */
static bool parse_prefix(Parser *p, ExOp op, bool (*operand)(Parser *, Operand *), Operand *out) {
    const size_t from = p->token.at;
    if (!enter(p)) return false;
    next(p);
    if (!operand(p, out) || !combine(p, op, out, out)) return false;
    out->from = from;
    p->nesting--;
    return true;
}

static bool parse_sign(Parser *p, Operand *out) {
    return is_symbol(p, "-") ? parse_prefix(p, EX_OP_NEGATE, parse_sign, out) : parse_value(p, out);
}

/* The operator of first..last that the current token is. */
static bool find_operator(const Parser *p, ExOp first, ExOp last, ExOp *out) {
    for (ExOp op = first; op <= last; op++) {
        if (!is_symbol(p, ops[op].text) && !is_word(p, ops[op].text)) continue;
        *out = op;
        return true;
    }
    return false;
}

/* operand (operator operand)* */
static bool parse_chain(Parser *p, ExOp first, ExOp last, bool (*operand)(Parser *, Operand *), Operand *out) {
    ExOp op;
    Operand right;
    if (!operand(p, out)) return false;
    while (find_operator(p, first, last, &op)) {
        next(p);
        if (!operand(p, &right) || !combine(p, op, out, &right)) return false;
    }
    return true;
}

static bool parse_product(Parser *p, Operand *out) { return parse_chain(p, EX_OP_MULTIPLY, EX_OP_DIVIDE, parse_sign, out); }

static bool parse_sum(Parser *p, Operand *out) { return parse_chain(p, EX_OP_ADD, EX_OP_SUBTRACT, parse_product, out); }

static bool parse_comparison(Parser *p, Operand *out) {
    ExOp op;
    Operand right;
    if (!parse_sum(p, out)) return false;
    if (!find_operator(p, EX_OP_EQUAL, EX_OP_GREATER_EQUAL, &op)) return true;
    next(p);
    if (!parse_sum(p, &right) || !combine(p, op, out, &right)) return false;
    if (!find_operator(p, EX_OP_EQUAL, EX_OP_GREATER_EQUAL, &op)) return true;
    return fail(p, p->token.at, p->token.at + p->token.size, "write 'a < b and b < c'", "comparisons do not follow each other");
}

static bool parse_not(Parser *p, Operand *out) {
    return is_word(p, "not") ? parse_prefix(p, EX_OP_NOT, parse_not, out) : parse_comparison(p, out);
}

static bool parse_and(Parser *p, Operand *out) { return parse_chain(p, EX_OP_AND, EX_OP_AND, parse_not, out); }

static bool parse_or(Parser *p, Operand *out) {
    if (!enter(p) || !parse_chain(p, EX_OP_OR, EX_OP_OR, parse_and, out)) return false;
    p->nesting--;
    return true;
}

const ExExpr *ex_parse(SuArena *arena, const ExNames *names, const char *text, SuSpan span, SuDiags *diags) {
    uint32_t size = characters(text, strlen(text));
    Parser p = {.arena = arena, .names = names, .text = text, .span = span, .diags = diags};
    p.shift = span.length == size + 2; /* a quote */
    p.placed = span.length == size || p.shift;
    Operand result;
    next(&p);
    if (!parse_or(&p, &result)) return NULL;
    if (p.token.kind != EX_TOKEN_END) {
        unexpected(&p, "an operator");
        return NULL;
    }
    ExExpr *expr = SU_NEW(arena, ExExpr);
    *expr = (ExExpr){p.code, p.n_code, result.types, su_strdup(arena, text), span};
    return expr;
}
