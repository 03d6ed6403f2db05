/* Tables indexed by an enum are whole: no row of a list is without its words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ir/graph.h"
#include "ir/program.h"
#include "ir/work.h"
#include "passes/pipeline.h"

static void has_word(const char *word) {
    assert_non_null(word);
    assert_true(word[0] != 0);
}

static void lists_have_words(void **state) {
    (void)state;
    for (int i = 0; i < PG_KIND_COUNT; i++) has_word(pg_kind_word((PgKind)i));
    for (int i = PG_NO_ACT + 1; i < PG_ACTIVATIONS; i++) has_word(pg_activation((PgActivation)i)->word);
    for (int i = PG_NO_STEP + 1; i < PG_STEP_KINDS; i++) {
        if (i == PG_STEP_ACT) continue; /* printed by its activation */
        has_word(pg_step((PgStepKind)i)->word);
    }
    for (int i = 0; i < IR_OP_COUNT; i++) has_word(ir_op_info((IrOp)i)->name);
    for (int i = 0; i < IR_ROLE_COUNT; i++) has_word(ir_role_info((IrRole)i)->name);
    for (int i = 0; i < IR_DTYPES; i++) has_word(ir_dtype_word((IrDtype)i));
    for (int i = 0; i < IR_STORED_DTYPES; i++)
        if (!ir_is_blocks((IrDtype)i)) has_word(ir_dtype((IrDtype)i)->file);
}

static void passes_have_names_and_help(void **state) {
    (void)state;
    for (int i = 0; i < PS_PASS_COUNT; i++) {
        has_word(ps_pass_name((PsPass)i));
        has_word(ps_pass_help((PsPass)i));
        assert_int_equal(ps_pass_by_name(ps_pass_name((PsPass)i)), i);
    }
}

/* All operations but those that do no arithmetic; a forgotten row of work.def would be a table of zeros. */
static void operations_have_work(void **state) {
    (void)state;
    for (int i = 0; i < IR_OP_COUNT; i++) {
        IrWork work = ir_work((IrOp)i, 1, 1);
        bool moves_only = i == IR_OP_slice || i == IR_OP_repeat || i == IR_OP_take || i == IR_OP_split || i == IR_OP_transpose ||
                          i == IR_OP_delay;
        assert_true((work.flops + work.exps > 0) == !moves_only);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_have_words),
        cmocka_unit_test(passes_have_names_and_help),
        cmocka_unit_test(operations_have_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
