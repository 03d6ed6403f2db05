/* The back end as a whole: targets, names, printing, dumping, several kernels at once. */
#include <dirent.h>
#include <unistd.h>

#include "tests/codegen/rig.h"

static const PgKernel kernels[] = {
    {.kind = PG_NORM, .mode = PG_ROW, .O = 40, .K = 40, .norm = PG_RMS},
    {.kind = PG_LINEAR,
     .mode = PG_ROW,
     .K = 40,
     .O = 64,
     .norm = PG_RMS,
     .epilogue = {{{.kind = PG_STEP_BIAS}, {.kind = PG_STEP_ACT, .act = PG_SILU}}}},
    {.kind = PG_LINEAR,
     .mode = PG_BLOCK,
     .dtype = IR_BF16,
     .K = 40,
     .O = 200,
     .select = PG_CHOSEN,
     .E = 4,
     .k = 2,
     .y_layout = PG_POSITIONS},
    {.kind = PG_GROUP, .mode = PG_BLOCK, .E = 4, .k = 2},
    {.kind = PG_ROUND, .mode = PG_BLOCK, .O = 40, .K = 40},
    {.kind = PG_LINEAR, .mode = PG_BLOCK, .dtype = IR_Q8, .rounds = true, .K = 40, .O = 64},
    {.kind = PG_LINEAR, .mode = PG_ROW, .dtype = IR_Q4, .rounds = true, .K = 40, .O = 64},
};
enum { KERNELS = sizeof kernels / sizeof *kernels };
static const PgProgram program = {.kernels = kernels, .n_kernels = KERNELS};

static void unknown_instruction_set_is_an_error(void **unused) {
    (void)unused;
    CgTarget target;
    SuDiags diags = {0};
    assert_false(cg_target_host("sse9", &target, &diags));
    assert_int_equal(diags.errors, 1);
    assert_string_equal(diags.items[0].message, "unknown instruction set 'sse9'");
    cg_target_free(&target);
    su_diags_free(&diags);
}

static void lower_instruction_set_can_be_asked_for(void **unused) {
    (void)unused;
    CgTarget target;
    SuDiags diags = {0};
    bool arm = rig_target()->vector_lanes == 4; /* where there is no other */
    assert_int_equal(cg_target_host("avx2", &target, &diags), !arm);
    assert_int_equal(target.vector_lanes, arm ? 0 : 8);
    if (!arm) assert_int_equal(PG_ROW_BLOCK % target.block_rows, 0);
    cg_target_free(&target);
    su_diags_free(&diags);
}

static void name_says_what_a_kernel_does(void **unused) {
    (void)unused;
    char name[160], few[15];
    cg_kernel_name(&kernels[1], 7, name, sizeof name);
    assert_string_equal(name, "linear_row_40x64_f32_norm_bias_silu_7");
    cg_kernel_name(&kernels[1], 7, few, sizeof few);
    assert_string_equal(few, "linear_row_40x");
}

static void every_kernel_gets_a_function(void **unused) {
    (void)unused;
    rig_count_case();
    SuDiags diags = {0};
    CgCompiled *compiled = NULL;
    assert_true(cg_llvm_compile(rig_target(), &program, NULL, &compiled, &diags));
    const PgCode *codes = cg_codes(compiled);
    for (int i = 0; i < KERNELS; i++) {
        assert_non_null(codes[i].run);
        assert_true(codes[i].claim >= 1);
        for (int j = 0; j < i; j++) assert_true(codes[i].run != codes[j].run);
    }
    assert_int_equal(codes[0].groups, 1);
    assert_in_range(codes[2].groups, 13 / 3, 13); /* 13 panels */
    assert_true(codes[1].scratch >= 40 * 4);      /* the normed row */
    cg_compiled_free(compiled);
    su_diags_free(&diags);
}

static char *printed(bool llvm_ir) {
    SuDiags diags = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_true(cg_llvm_print(rig_target(), &program, llvm_ir, out, &diags));
    fclose(out);
    su_diags_free(&diags);
    return text;
}

static void code_is_printed_as_assembly_or_ir(void **unused) {
    (void)unused;
    char *assembly = printed(false), *ir = printed(true);
    assert_non_null(strstr(assembly, "linear_row_40x64_f32_norm_bias_silu_1:"));
    assert_non_null(strstr(assembly, rig_target()->vector_lanes == 4 ? "fmla" : "vfmadd"));
    assert_non_null(strstr(ir, "define void @group_block_3("));
    assert_non_null(strstr(ir, "@llvm.fma.v16f32"));
    assert_null(strstr(ir, " fast ")); /* no fast-math flag anywhere */
    assert_null(strstr(ir, " contract "));
    free(assembly);
    free(ir);
}

static void dump_writes_three_files_a_kernel(void **unused) {
    (void)unused;
    char dir[] = "/tmp/mossc-dump-XXXXXX";
    assert_non_null(mkdtemp(dir));
    SuDiags diags = {0};
    CgCompiled *compiled = NULL;
    CgOptions options = {.dump_dir = dir};
    assert_true(cg_llvm_compile(rig_target(), &program, &options, &compiled, &diags));
    int files = 0;
    DIR *directory = opendir(dir);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        files += entry->d_name[0] != '.' && unlink(path) == 0;
    }
    closedir(directory);
    rmdir(dir);
    assert_int_equal(files, 3 * KERNELS);
    cg_compiled_free(compiled);
    su_diags_free(&diags);
}

static void empty_program_compiles(void **unused) {
    (void)unused;
    SuDiags diags = {0};
    CgCompiled *compiled = NULL;
    PgProgram empty = {0};
    assert_true(cg_llvm_compile(rig_target(), &empty, NULL, &compiled, &diags));
    cg_compiled_free(compiled);
    cg_compiled_free(NULL);
    su_diags_free(&diags);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_instruction_set_is_an_error),
        cmocka_unit_test(lower_instruction_set_can_be_asked_for),
        cmocka_unit_test(name_says_what_a_kernel_does),
        cmocka_unit_test(every_kernel_gets_a_function),
        cmocka_unit_test(code_is_printed_as_assembly_or_ir),
        cmocka_unit_test(dump_writes_three_files_a_kernel),
        cmocka_unit_test(empty_program_compiles),
    };
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
