/* Expressions of a space (docs/explore.md): `when`, `require` and the values of `derive`.
 *
 * Numbers, none, words (q8, "mamba-1"), true and false; names of axes; + - * / ( ), ceil floor min max, comparisons, and or not.
 * An expression is parsed once into a list of instructions without jumps, and evaluated for each point: it cannot loop, and its depth
 * is bounded. What can be known when it is parsed (a name that no axis has, a number where a truth value must stand) is an error with
 * its place then; the rest (division by zero, a result that is not finite) when it is evaluated. */
#ifndef MOSSC_EXPLORE_EXPR_H
#define MOSSC_EXPLORE_EXPR_H

#include "support/diag.h"

typedef enum ExType { EX_NONE, EX_NUMBER, EX_TRUTH, EX_WORD } ExType;

/* The value of an axis or of an expression. */
typedef struct ExValue {
    ExType type;
    double number;    /* EX_NUMBER: finite; EX_TRUTH: 0 or 1 */
    const char *word; /* EX_WORD: interned, so that equal words are equal pointers (ExNames.words) */
} ExValue;

/* Sets of types. */
enum { EX_IS_NONE = 1 << EX_NONE, EX_IS_NUMBER = 1 << EX_NUMBER, EX_IS_TRUTH = 1 << EX_TRUTH, EX_IS_WORD = 1 << EX_WORD };

/* Names that an expression may use: of axes, by their index; and the words that axes have among their values. */
typedef struct ExNames {
    const char *const *axes; /* [n_axes] */
    const uint32_t *types;   /* [n_axes] EX_IS_… of the axis's values; 0: lists or maps, which no expression can use */
    size_t n_axes;
    const char *const
        *words; /* [n_words], in order of strcmp: a bare name that is no axis may be one of these; a quoted text may be any */
    size_t n_words;
} ExNames;

typedef struct ExExpr ExExpr; /* lives in the arena that it was parsed into, and never changes */

/* Parses `text`, whose first character stands at `span` (of a source's line; a text may be quoted there). NULL: reported with a caret
 * under the place. */
const ExExpr *ex_parse(SuArena *arena, const ExNames *names, const char *text, SuSpan span, SuDiags *diags);
/* Whether a name means something of its own: and, ceil, none… */
bool ex_is_keyword(const char *name);
/* Whether it names the axis. */
bool ex_uses(const ExExpr *expr, size_t axis);
/* EX_IS_… of what its value may be. */
uint32_t ex_types(const ExExpr *expr);
/* The place of the whole expression, and its text, for messages. */
SuSpan ex_span(const ExExpr *expr);
const char *ex_text(const ExExpr *expr);

/* Its value when the axes have `values` [n_axes]. false: *out_why is a constant text ("division by zero"). No memory is allocated;
 * any number of threads may evaluate one expression. none equals none and nothing else; < <= > >= of a number with none are false. `a or b`
 * is true where one of them is, `a and b` false where one of them is, even if the other has no value. */
bool ex_eval(const ExExpr *expr, const ExValue *values, ExValue *out, const char **out_why);

#endif
