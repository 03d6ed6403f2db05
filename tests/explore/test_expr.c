/* Expressions of spaces: what they are worth, what has no value, and what is refused, with its place. */
#include "support/str.h"
#include "tests/explore/helpers.h"

static const char *const axes[] = {"d", "experts", "dtype", "tied", "rank", "blocks"};
static const uint32_t types[] = {EX_IS_NUMBER, EX_IS_NUMBER | EX_IS_NONE, EX_IS_WORD, EX_IS_TRUTH, EX_IS_NUMBER | EX_IS_WORD, 0};
static const char *const words[] = {"auto", "bf16", "mamba-1", "q8"};
static const ExNames names = {axes, types, 6, words, 4};

typedef struct Tried {
    SuArena arena;
    SuDiags diags;
    const ExExpr *expr;
} Tried;

/* Parsed as if it stood at line 7, column 11; quoted: in quotes there. */
static Tried try_text(const char *text, bool quoted) {
    static const SuSource source = {.path = "t.yaml"};
    Tried t = {0};
    uint32_t size = 0;
    for (const char *c = text; *c; c++) size += ((unsigned char)*c & 0xC0) != 0x80;
    t.expr = ex_parse(&t.arena, &names, text, (SuSpan){&source, 7, 11, size + 2 * quoted}, &t.diags);
    assert_int_equal(t.expr == NULL, t.diags.errors > 0);
    return t;
}

static void free_tried(Tried *t) {
    su_arena_free(&t->arena);
    su_diags_free(&t->diags);
}

static const char *shown(const ExValue *value, char out[SU_REAL]) {
    if (value->type == EX_NUMBER) return su_real_text(value->number, out);
    return value->type == EX_NONE ? "none" : value->type == EX_WORD ? value->word : value->number != 0 ? "true" : "false";
}

/* Its value with d = 768, experts = `experts` (below 0: none), dtype = q8, tied = true, rank = auto; or "no: WHY". */
static void expect(const char *text, double experts, const char *expected) {
    Tried t = try_text(text, false);
    if (!t.expr) fail_msg("%s: %s", text, t.diags.items[0].message);
    const ExValue values[] = {{EX_NUMBER, 768, NULL}, {experts < 0 ? EX_NONE : EX_NUMBER, experts < 0 ? 0 : experts, NULL},
                              {EX_WORD, 0, words[3]}, {EX_TRUTH, 1, NULL},
                              {EX_WORD, 0, words[0]}, {0}};
    ExValue value;
    const char *why;
    char number[SU_REAL], got[200];
    if (ex_eval(t.expr, values, &value, &why)) {
        snprintf(got, sizeof got, "%s", shown(&value, number));
        if (!(ex_types(t.expr) >> value.type & 1)) fail_msg("%s: %s is of no type that was foretold", text, got);
    } else {
        snprintf(got, sizeof got, "no: %s", why);
    }
    if (strcmp(got, expected) != 0) fail_msg("%s: expected %s, got %s", text, expected, got);
    free_tried(&t);
}

static void numbers(void **state) {
    (void)state;
    expect("64 * ceil(8 * d / 3 / 64)", 8, "2048");
    expect("1 + 2 * 3", 8, "7");
    expect("(1 + 2) * 3", 8, "9");
    expect("10 - 4 - 3", 8, "3");
    expect("24 / 4 / 2", 8, "3");
    expect("2 * -3", 8, "-6");
    expect("-2 - -3", 8, "1");
    expect("- - 2", 8, "2");
    expect("-(2 + 3) * 2", 8, "-10");
    expect("floor(7 / 2) + ceil(7 / 2)", 8, "7");
    expect("floor(-0.5)", 8, "-1");
    expect("min(3, 1, 2) + max(d, experts, 1000, 2)", 8, "1001");
    expect("1.5e3 + .5 + 2.", 8, "1502.5");
    expect("1E-2", 8, "0.01");
    expect("  d\t/\n3  ", 8, "256");
    expect("0.1 + 0.2", 8, "0.30000000000000004");
}

static void comparisons(void **state) {
    (void)state;
    expect("d < 768", 8, "false");
    expect("d <= 768", 8, "true");
    expect("d > 767", 8, "true");
    expect("d >= 769", 8, "false");
    expect("d == 768", 8, "true");
    expect("d != 768", 8, "false");
    expect("d + 1 < d * 2", 8, "true");
    expect("dtype == q8", 8, "true");
    expect("dtype != q8", 8, "false");
    expect("dtype == 'q8'", 8, "true");
    expect("dtype == \"mamba-1\"", 8, "false");
    expect("dtype == 'no axis has it'", 8, "false");
    expect("'a' == 'a'", 8, "true");
    expect("tied == true", 8, "true");
    expect("tied == (d == 768)", 8, "true");
    expect("rank == auto", 8, "true");
    expect("rank == 4", 8, "false");
    expect("rank != 4", 8, "true");
}

static void none_equals_only_itself(void **state) {
    (void)state;
    expect("experts == none", 8, "false");
    expect("experts == none", -1, "true");
    expect("experts != none", 8, "true");
    expect("experts != none", -1, "false");
    expect("none == none", -1, "true");
    expect("dtype == none", -1, "false");
    expect("experts == 8", -1, "false");
    expect("experts != 8", -1, "true");
    static const char *const orders[] = {"experts < 9",  "experts <= 9", "experts > 0",
                                         "experts >= 0", "9 > experts",  "experts <= experts"};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        expect(orders[i], 8, "true");
        expect(orders[i], -1, "false");
    }
    expect("not experts < 9", -1, "true");
}

static void truth(void **state) {
    (void)state;
    expect("true and false", 8, "false");
    expect("true or false", 8, "true");
    expect("not tied", 8, "false");
    expect("not not tied", 8, "true");
    expect("not d == 1 and tied", 8, "true");
    expect("false and false or true", 8, "true");
    expect("true or true and false", 8, "true");
    expect("(true or true) and false", 8, "false");
    expect("not (tied and d > 1)", 8, "false");
    expect("none", 8, "none");
    expect("q8", 8, "q8");
    expect("'two words'", 8, "two words");
}

static void what_has_no_value(void **state) {
    (void)state;
    expect("d / 0", 8, "no: division by zero");
    expect("1 + d / (d - 768)", 8, "no: division by zero");
    expect("1e300 * 1e300", 8, "no: a result is too large");
    expect("-1e300 * 1e300", 8, "no: a result is too large");
    expect("experts + 1", 8, "9");
    expect("experts + 1", -1, "no: none is no number");
    expect("-experts", -1, "no: none is no number");
    expect("ceil(experts)", -1, "no: none is no number");
    expect("rank * 2", 8, "no: a number is needed where there is none");
    expect("rank < 2", 8, "no: a number is needed where there is none");
    expect("d / 0 == 1", 8, "no: division by zero");
    expect("not d / 0 == 1", 8, "no: division by zero");
    expect("min(1, d / 0)", 8, "no: division by zero");
}

/* As in languages that leave out what does not matter, but for the order. */
static void and_and_or_need_one_side(void **state) {
    (void)state;
    expect("experts == none or d / experts > 2", -1, "true");
    expect("d / experts > 2 or experts == none", -1, "true");
    expect("experts != none and d / experts > 2", -1, "false");
    expect("d / experts > 2 and experts != none", -1, "false");
    expect("d / experts > 2 and tied", -1, "no: none is no number");
    expect("d / experts > 2 or not tied", -1, "no: none is no number");
}

/* ---- errors */

static void refuse(const char *text, uint32_t column, uint32_t length, const char *message, const char *hint) {
    char expected[500];
    for (int quoted = 0; quoted < 2; quoted++) {
        Tried t = try_text(text, quoted);
        int size = snprintf(expected, sizeof expected, "7:%u+%u: %s", (unsigned)(10 + column + quoted), (unsigned)length, message);
        snprintf(expected + size, sizeof expected - (size_t)size, hint ? " (%s)\n" : "\n", hint);
        assert_messages(&t.diags, expected);
        assert_string_equal(su_code_id(t.diags.items[0].code), "bad-expression");
        free_tried(&t);
    }
}

static void what_cannot_be_read(void **state) {
    (void)state;
    refuse("", 1, 1, "expected a value, but the expression ends", NULL);
    refuse("d +", 4, 1, "expected a value, but the expression ends", NULL);
    refuse("(d + 1", 7, 1, "expected ')', but the expression ends", NULL);
    refuse("d + 1)", 6, 1, "expected an operator, got ')'", NULL);
    refuse("d 2", 3, 1, "expected an operator, got '2'", NULL);
    refuse("d not 2", 3, 3, "expected an operator, got 'not'", NULL);
    refuse("* d", 1, 1, "expected a value, got '*'", NULL);
    refuse("and", 1, 3, "expected a value, got 'and'", NULL);
    refuse("d + not tied", 5, 3, "expected a value, got 'not'", NULL);
    refuse("d = 768", 3, 1, "expected an operator, got '='", "did you mean '=='?");
    refuse("tied && tied", 6, 2, "expected an operator, got '&&'", "did you mean 'and'?");
    refuse("tied || tied", 6, 2, "expected an operator, got '||'", "did you mean 'or'?");
    refuse("!tied", 1, 1, "expected a value, got '!'", "did you mean 'not'?");
    refuse("d <> 2", 3, 2, "expected an operator, got '<>'", "did you mean '!='?");
    refuse("d ** 2", 3, 2, "expected an operator, got '**'", NULL);
    refuse("d \xE2\x88\x92 2", 3, 1, "expected an operator, got '\xE2\x88\x92'", NULL);
    refuse("'\xC3\xA9' == dtype %", 14, 1, "expected an operator, got '%'", NULL);
    refuse("dtype == 'q8", 10, 3, "a quoted text without its closing quote", NULL);
    refuse("1 < d < 3", 7, 1, "comparisons do not follow each other", "write 'a < b and b < c'");
    refuse("d == d == d", 8, 2, "comparisons do not follow each other", "write 'a < b and b < c'");
    refuse("2x", 1, 2, "'2x' is no number", "numbers are decimal: no leading zero, no '_', no unit");
    refuse("d > 500 + 007", 11, 3, "'007' is no number", "numbers are decimal: no leading zero, no '_', no unit");
    refuse("1.2.3", 1, 5, "'1.2.3' is no number", "numbers are decimal: no leading zero, no '_', no unit");
    refuse("2e", 1, 2, "'2e' is no number", "numbers are decimal: no leading zero, no '_', no unit");
    refuse("2e+", 1, 2, "'2e' is no number", "numbers are decimal: no leading zero, no '_', no unit");
    refuse("1e999", 1, 5, "'1e999' is too large", NULL);
}

static void functions(void **state) {
    (void)state;
    refuse("ceil", 5, 1, "expected '(' behind 'ceil', but the expression ends", NULL);
    refuse("ceil d", 6, 1, "expected '(' behind 'ceil', got 'd'", NULL);
    refuse("1 + ceil(d, 2)", 5, 4, "'ceil' takes one number", NULL);
    refuse("1 + min(d)", 5, 3, "'min' takes two numbers or more", NULL);
    refuse("max(d 2)", 7, 1, "expected ',', got '2'", NULL);
    refuse("max(d, 2", 9, 1, "expected ')', but the expression ends", NULL);
    refuse("max()", 5, 1, "expected a value, got ')'", NULL);
}

static void names_that_nothing_has(void **state) {
    (void)state;
    refuse("1 + expert", 5, 6, "unknown name 'expert'", "did you mean 'experts'?");
    refuse("dtype == q9", 10, 2, "unknown name 'q9'", "did you mean 'q8'?");
    refuse("dtype == mamba1", 10, 6, "unknown name 'mamba1'", "did you mean \"mamba-1\", with the quotes?");
    refuse("cel(d)", 1, 3, "unknown name 'cel'", "did you mean 'ceil'?");
    refuse("something_else", 1, 14, "unknown name 'something_else'", "a name is that of an axis, or a word among its values");
    refuse("blocks == none", 1, 6, "the values of 'blocks' are lists or maps, which expressions cannot use", NULL);
}

static void types_that_do_not_fit(void **state) {
    (void)state;
    refuse("d + dtype", 5, 5, "'+' takes numbers, and 'dtype' is a word", NULL);
    refuse("tied * 2", 1, 4, "'*' takes numbers, and 'tied' is a truth value", NULL);
    refuse("1 + none", 5, 4, "'+' takes numbers, and 'none' is none", NULL);
    refuse("-(d < 2)", 2, 7, "'-' takes numbers, and '(d < 2)' is a truth value", NULL);
    refuse("ceil(dtype)", 6, 5, "'ceil' takes numbers, and 'dtype' is a word", NULL);
    refuse("dtype < 3", 1, 5, "'<' takes numbers, and 'dtype' is a word", NULL);
    refuse("d and tied", 1, 1, "'and' takes truth values, and 'd' is a number", NULL);
    refuse("tied or experts", 9, 7, "'or' takes truth values, and 'experts' is none or a number", NULL);
    refuse("not d + 1", 5, 5, "'not' takes truth values, and 'd + 1' is a number", NULL);
    refuse("not (d == 1) == 2", 5, 13, "'(d == 1)' is a truth value and '2' is a number: they are never equal", NULL);
    refuse("d == q8", 1, 7, "'d' is a number and 'q8' is a word: they are never equal", NULL);
    refuse("tied and dtype != 2", 10, 10, "'dtype' is a word and '2' is a number: they are never equal", NULL);
}

/* Where characters of the line and of the text differ, the whole is marked. */
static void an_escaped_text_is_marked_as_a_whole(void **state) {
    (void)state;
    static const SuSource source = {.path = "t.yaml"};
    Tried t = {0};
    assert_null(ex_parse(&t.arena, &names, "dtype == q9", (SuSpan){&source, 7, 11, 20}, &t.diags));
    assert_messages(&t.diags, "7:11+20: unknown name 'q9' (did you mean 'q8'?)\n");
    free_tried(&t);
}

static void repeat(SuText *text, const char *piece, int count) {
    for (int i = 0; i < count; i++) su_text_append(text, piece, strlen(piece));
}

/* `before` as often as can be read, then "1", then `after` as often; once more it is refused. */
static void edge(const char *before, int most, const char *after, const char *message) {
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        repeat(&text, before, most + more);
        su_text_add(&text, "1");
        repeat(&text, after, most + more);
        Tried t = try_text(text.text, false);
        if (!t.expr != (more > 0)) fail_msg("%d of %s: %s", most + more, before, t.expr ? "taken" : t.diags.items[0].message);
        if (more) assert_string_equal(t.diags.items[0].message, message);
        free_tried(&t);
        su_text_free(&text);
    }
}

static void limits(void **state) {
    (void)state;
    edge("(", 63, ")", "nested too deeply");
    edge("- ", 63, "", "nested too deeply");
    edge("1 - (", 47, ")", "the expression is too large");
    edge("", 2047, "+1", "the expression is too large");
    SuText text = {0};
    repeat(&text, "(", 1 << 20);
    Tried t = try_text(text.text, false);
    assert_null(t.expr);
    free_tried(&t);
    su_text_free(&text);
}

static void an_expression_knows_what_it_uses(void **state) {
    (void)state;
    Tried t = try_text("d > 3 or min(d, 2) == 2 and dtype == q8", false);
    static const bool uses[] = {true, false, true, false, false, false};
    for (size_t i = 0; i < 6; i++) assert_int_equal(ex_uses(t.expr, i), uses[i]);
    assert_string_equal(ex_text(t.expr), "d > 3 or min(d, 2) == 2 and dtype == q8");
    assert_int_equal(ex_span(t.expr).column, 11);
    assert_int_equal(ex_types(t.expr), EX_IS_TRUTH);
    free_tried(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(comparisons),
        cmocka_unit_test(none_equals_only_itself),
        cmocka_unit_test(truth),
        cmocka_unit_test(what_has_no_value),
        cmocka_unit_test(and_and_or_need_one_side),
        cmocka_unit_test(what_cannot_be_read),
        cmocka_unit_test(functions),
        cmocka_unit_test(names_that_nothing_has),
        cmocka_unit_test(types_that_do_not_fit),
        cmocka_unit_test(an_escaped_text_is_marked_as_a_whole),
        cmocka_unit_test(limits),
        cmocka_unit_test(an_expression_knows_what_it_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
