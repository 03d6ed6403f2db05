/* What the verifier refuses of graphs that the text form cannot spell: ids and links that a pass could get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tests/ir/rig.h"

static const float table[] = {1, 2, 3, 4};

/* %x, then %y = silu %x, %z = exp %y: the logits. */
static IrGraph *make_chain(Rig *rig) {
    rig_start(rig);
    IrValueId x = rig_rows(rig, table, 2, 2);
    IrValueId y = ir_op1(&rig->b, IR_OP_silu, x, IR_NONE, IR_NONE);
    return rig_finish(rig, ir_op1(&rig->b, IR_OP_exp, y, IR_NONE, IR_NONE));
}

static void refuse(Rig *rig, const char *message) {
    assert_false(ir_verify(rig->b.graph, &rig->diags));
    assert_true(rig->diags.errors > 0);
    if (!strstr(rig->diags.items[0].message, message)) fail_msg("%s, not %s", rig->diags.items[0].message, message);
    rig_end(rig);
}

static void test_operands_are_made_before(void **state) {
    (void)state;
    Rig rig;
    IrGraph *g = make_chain(&rig);
    g->nodes[1].operands[0] = g->nodes[2].results[0];
    refuse(&rig, "(silu): operand 0 is not made before it");
    g = make_chain(&rig);
    g->nodes[1].operands[0] = g->nodes[1].results[0];
    refuse(&rig, "(silu): operand 0 is not made before it");
}

static void test_operands_exist(void **state) {
    (void)state;
    const IrValueId bad[] = {IR_NONE, -5, 1000};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Rig rig;
        IrGraph *g = make_chain(&rig);
        g->nodes[1].operands[0] = bad[i];
        refuse(&rig, "(silu): operand 0 is absent");
    }
}

static void test_results_belong_to_their_node(void **state) {
    (void)state;
    Rig rig;
    IrGraph *g = make_chain(&rig);
    g->values[g->nodes[1].results[0]].node = 2;
    refuse(&rig, "(silu): result 0 says that another node makes it");
    g = make_chain(&rig);
    g->nodes[1].results[1] = g->nodes[1].results[0];
    refuse(&rig, "(silu): has too many results");
}

static void test_results_have_names_of_their_own(void **state) {
    (void)state;
    Rig rig;
    IrGraph *g = make_chain(&rig);
    g->values[g->nodes[2].results[0]].name = g->values[g->nodes[1].results[0]].name;
    refuse(&rig, "two results are named");
}

static void test_regions_are_contiguous(void **state) {
    (void)state;
    Rig rig;
    IrGraph *g = make_chain(&rig);
    IrRegion region = {IR_REGION_LINEAR, "m", ir_no_roles()};
    g->level = IR_FUSED;
    g->regions = &region;
    g->n_regions = 1;
    g->nodes[0].region = g->nodes[2].region = 0;
    refuse(&rig, "the region \"m\" is not contiguous");
    g = make_chain(&rig);
    g->level = IR_FUSED;
    g->nodes[1].region = 3;
    refuse(&rig, "(silu): is in a region that does not exist");
}

static void test_logits_are_made(void **state) {
    (void)state;
    Rig rig;
    IrGraph *g = make_chain(&rig);
    g->n_nodes = 2; /* a pass dropped the node that makes them */
    refuse(&rig, "the logits are missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operands_are_made_before),     cmocka_unit_test(test_operands_exist),
        cmocka_unit_test(test_results_belong_to_their_node), cmocka_unit_test(test_results_have_names_of_their_own),
        cmocka_unit_test(test_regions_are_contiguous),       cmocka_unit_test(test_logits_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
