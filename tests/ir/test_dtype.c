/* The table of dtypes: sizes of panels, of the rows there are and of made-up ones whose groups have scales. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ir/dtype.h"

static void panels_are_whole_groups(void **state) {
    (void)state;
    assert_int_equal(ir_panel_bytes(IR_F32, 1), 64);
    assert_int_equal(ir_panel_bytes(IR_F32, 257), 257 * 64);
    assert_int_equal(ir_panel_bytes(IR_BF16, 1), 64);
    assert_int_equal(ir_panel_bytes(IR_BF16, 256), 128 * 64);
    assert_int_equal(ir_panel_bytes(IR_F16, 257), 129 * 64);
}

static void scales_stand_behind_groups_and_panels(void **state) {
    (void)state;
    const IrDtypeInfo q8 = {.group = 32, .group_bytes = 16 * (32 + 2)};
    const IrDtypeInfo q4 = {.group = 32, .group_bytes = 16 * (16 + 2), .over = 8, .over_bytes = 16 * 4};
    assert_int_equal(ir_panel_bytes_of(&q8, 33), 2 * 544);
    assert_int_equal(ir_panel_bytes_of(&q4, 256), 8 * 288 + 64);
    assert_int_equal(ir_panel_bytes_of(&q4, 257), 9 * 288 + 2 * 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_are_whole_groups),
        cmocka_unit_test(scales_stand_behind_groups_and_panels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
