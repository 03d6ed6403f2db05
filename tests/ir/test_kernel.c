/* Kernels are equal when their fields are, whatever lies between the fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ir/program.h"

static void set_fields(PgKernel *to, const PgKernel *from) {
#define PG_FIELD(type, name) to->name = from->name;
#include "ir/kernel_fields.def"
}

static void test_padding(void **state) {
    (void)state;
    PgKernel model = {.kind = PG_SCAN, .K = 7, .eps = 1e-5, .gate = true}, a, b;
    memset(&a, 0x00, sizeof a);
    memset(&b, 0xff, sizeof b);
    set_fields(&a, &model);
    set_fields(&b, &model);
    assert_true(pg_kernel_equal(&a, &b));
}

static void test_every_field(void **state) {
    (void)state;
    const PgKernel a = {0};
    PgKernel b;
#define PG_FIELD(type, name)                                                                                                       \
    b = a;                                                                                                                         \
    ((unsigned char *)&b)[offsetof(PgKernel, name)] ^= 1;                                                                          \
    if (pg_kernel_equal(&a, &b)) fail_msg("%s does not count", #name);
#include "ir/kernel_fields.def"
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_padding), cmocka_unit_test(test_every_field)};
    return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
