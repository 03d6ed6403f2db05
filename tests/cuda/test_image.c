/* From a program to the image for a GPU, through the kernel cache: what was compiled once is found, with NVRTC and without it;
 * damage and another NVRTC's work are not believed; a GPU that is newer than the NVRTC gets PTX. Either NVRTC will do; the emulated one
 * needs a C++ compiler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "codegen/cuda/compile.h"
#include "frontend/lower.h"
#include "frontend/spec.h"
#include "schedule/schedule.h"

enum { SKIPPED = 77, LARGE = 1 << 28, HEAD = 24, COMPILER = 8 }; /* the last two: of an entry's payload (compile.c) */

static const char spec_text[] = "mossc: 1\nname: image\nvocab_size: 32\nd_model: 16\nstack: [shortconv]\n";

/* A program, and a directory for its cache. */
typedef struct Place {
    char directory[64];
    FeSpec spec;
    SuArena arena;
    SuDiags diags;
    const PgProgram *program;
} Place;

static void place_open(Place *p) {
    PsOptions passes = {.few = &cg_cuda_few};
    *p = (Place){.directory = "/tmp/mossc-image-XXXXXX"};
    assert_non_null(mkdtemp(p->directory));
    assert_true(fe_spec_parse("image.yaml", spec_text, sizeof spec_text - 1, NULL, 0, &p->spec, &p->diags));
    IrGraph *graph = fe_lower(&p->spec, &p->arena);
    assert_true(ps_fuse(graph, &passes, &p->diags));
    assert_true(sc_program(graph, &passes, &p->arena, &p->program, &p->diags));
}

static void place_close(Place *p) {
    assert_true(cg_cache_clear(p->directory) < 100);
    assert_int_equal(rmdir(p->directory), 0);
    fe_spec_free(&p->spec);
    su_arena_free(&p->arena);
    su_diags_free(&p->diags);
}

/* Compiles with the place's cache. */
static bool compile(Place *p, int architecture, CgCudaOutput output, CgCudaCode *out) {
    CgCudaTarget target = cg_cuda_target_of(architecture, 16, 48 * 1024);
    CgCache *cache = cg_cache_open(p->directory, LARGE);
    bool ok = cg_cuda_compile(&target, p->program, &(CgCudaOptions){.output = output, .cache = cache}, out, &p->diags);
    assert_null(cg_cache_stats(cache).problem);
    cg_cache_close(cache);
    return ok;
}

static void expect_found(Place *p, int architecture, CgCudaOutput output, bool found) {
    CgCudaCode code;
    if (!compile(p, architecture, output, &code)) {
        su_diags_print(&p->diags, stderr);
        fail();
    }
    assert_int_equal(code.found, found);
    assert_int_equal(code.seconds > 0, !found);
    cg_cuda_code_free(&code);
}

static void expect_refused(Place *p, int architecture, CgCudaOutput output, const char *message) {
    CgCudaCode code;
    assert_false(compile(p, architecture, output, &code));
    assert_int_not_equal(p->diags.count, 0);
    if (strstr(p->diags.items[0].message, message) == NULL) fail_msg("%s", p->diags.items[0].message);
    p->diags.count = 0;
}

/* While it stands there is no NVRTC. */
static char *hide_nvrtc(void) {
    const char *own = getenv("MOSSC_NVRTC");
    char *copy = own == NULL ? NULL : strdup(own);
    setenv("MOSSC_NVRTC", "/no/such/file", 1);
    return copy;
}

static void show_nvrtc(char *own) {
    if (own == NULL)
        unsetenv("MOSSC_NVRTC");
    else
        setenv("MOSSC_NVRTC", own, 1);
    free(own);
}

/* ---------------------------------------------------------------------------------------------- the cache */

static void the_same_image_comes_from_the_cache(void **unused) {
    (void)unused;
    Place p;
    CgCudaCode made, found;
    place_open(&p);
    assert_true(compile(&p, 80, CG_CUDA_RUNS, &made));
    assert_true(compile(&p, 80, CG_CUDA_RUNS, &found));
    assert_false(made.found);
    assert_true(found.found);
    assert_int_equal(made.form, CG_NVRTC_CUBIN);
    assert_int_equal(found.form, CG_NVRTC_CUBIN);
    assert_int_equal(found.architecture.number, 80);
    assert_int_equal(found.size, made.size);
    assert_memory_equal(found.image, made.image, made.size);
    assert_memory_equal(&found.plan.image, &made.plan.image, sizeof made.plan.image);
    cg_cuda_code_free(&made);
    cg_cuda_code_free(&found);
    place_close(&p);
}

static void target_and_form_have_entries_of_their_own(void **unused) {
    (void)unused;
    Place p;
    place_open(&p);
    expect_found(&p, 80, CG_CUDA_PTX, false);
    expect_found(&p, 90, CG_CUDA_PTX, false);
    expect_found(&p, 80, CG_CUDA_RUNS, false);
    expect_found(&p, 80, CG_CUDA_PTX, true);
    place_close(&p);
}

/* Machine code of sm_90a is its own; PTX is of the target without the suffix, which later GPUs take. */
static void suffix_is_for_machine_code(void **unused) {
    (void)unused;
    Place p;
    CgCudaTarget target;
    CgCudaCode code;
    place_open(&p);
    assert_true(cg_cuda_target_by_name("cuda:sm_90a", &target, &p.diags));
    assert_true(target.warpgroups && target.architecture.suffix == 'a');
    expect_found(&p, 90, CG_CUDA_RUNS, false);
    CgCache *cache = cg_cache_open(p.directory, LARGE);
    assert_true(cg_cuda_compile(&target, p.program, &(CgCudaOptions){.cache = cache}, &code, &p.diags));
    assert_true(!code.found && code.form == CG_NVRTC_CUBIN && code.architecture.suffix == 'a');
    cg_cuda_code_free(&code);
    assert_true(cg_cuda_compile(&target, p.program, &(CgCudaOptions){.cache = cache}, &code, &p.diags));
    assert_true(code.found && code.architecture.number == 90 && code.architecture.suffix == 'a');
    cg_cuda_code_free(&code);
    assert_true(cg_cuda_compile(&target, p.program, &(CgCudaOptions){.output = CG_CUDA_PTX}, &code, &p.diags));
    assert_true(code.form == CG_NVRTC_PTX && code.architecture.number == 90 && code.architecture.suffix == '\0');
    cg_cuda_code_free(&code);
    cg_cache_close(cache);
    place_close(&p);
}

/* Entry 0 of the directory: its path, or its key. */
static void first_entry(const Place *p, char out_path[512], SuDigest *out_key) {
    SuEntries entries = cg_cache_list(p->directory);
    assert_int_equal(entries.count, 1);
    *out_key = entries.items[0].name;
    snprintf(out_path, 512, "%s", su_entry_path(&entries.arena, p->directory, out_key, ".kernel"));
    su_entries_free(&entries);
}

static void damaged_image_is_made_again(void **unused) {
    (void)unused;
    Place p;
    char path[512];
    SuDigest key;
    place_open(&p);
    expect_found(&p, 80, CG_CUDA_PTX, false);
    first_entry(&p, path, &key);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -100, SEEK_END), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -100, SEEK_END), 0);
    fputc(byte ^ 1, file);
    fclose(file);
    expect_found(&p, 80, CG_CUDA_PTX, false);
    expect_found(&p, 80, CG_CUDA_PTX, true);
    place_close(&p);
}

/* Makes the only entry one of another NVRTC. */
static void make_foreign(const Place *p) {
    char path[512];
    SuDigest key;
    size_t size;
    first_entry(p, path, &key);
    CgCache *cache = cg_cache_open(p->directory, LARGE);
    uint8_t *payload = cg_cache_find(cache, &key, &size);
    assert_non_null(payload);
    payload[COMPILER] ^= 1;
    cg_cache_store(cache, &key, payload, HEAD, payload + HEAD, size - HEAD);
    su_free(payload);
    cg_cache_close(cache);
}

static void another_nvrtcs_image_is_taken_only_without_one(void **unused) {
    (void)unused;
    Place p;
    place_open(&p);
    expect_found(&p, 80, CG_CUDA_PTX, false);
    make_foreign(&p);
    char *own = hide_nvrtc();
    expect_found(&p, 80, CG_CUDA_PTX, true);
    expect_refused(&p, 90, CG_CUDA_PTX, "cannot load the library");
    show_nvrtc(own);
    expect_found(&p, 80, CG_CUDA_PTX, false);
    expect_found(&p, 80, CG_CUDA_PTX, true);
    place_close(&p);
}

/* ---------------------------------------------------------------------------------------------- GPUs that it does not know */

enum { FUTURE = 999, PAST = 10 };

static void newer_gpu_gets_ptx(void **unused) {
    (void)unused;
    Place p;
    CgCudaCode code;
    place_open(&p);
    assert_true(compile(&p, FUTURE, CG_CUDA_RUNS, &code));
    assert_int_equal(code.form, CG_NVRTC_PTX);
    assert_true(code.architecture.number >= 75 && code.architecture.number < FUTURE);
    assert_int_equal(strlen(code.image), code.size - 1);
    char target[32];
    snprintf(target, sizeof target, ".target sm_%d", code.architecture.number);
    assert_non_null(strstr(code.image, target));
    cg_cuda_code_free(&code);
    place_close(&p);
}

static void machine_code_for_a_newer_gpu_is_refused(void **unused) {
    (void)unused;
    Place p;
    place_open(&p);
    expect_refused(&p, FUTURE, CG_CUDA_CUBIN, "cannot generate machine code for sm_999");
    place_close(&p);
}

static void older_gpu_is_refused(void **unused) {
    (void)unused;
    Place p;
    place_open(&p);
    expect_refused(&p, PAST, CG_CUDA_RUNS, "does not support sm_10, only newer GPUs");
    place_close(&p);
}

/* test_image COMPILER */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_image_comes_from_the_cache),
        cmocka_unit_test(target_and_form_have_entries_of_their_own),
        cmocka_unit_test(suffix_is_for_machine_code),
        cmocka_unit_test(damaged_image_is_made_again),
        cmocka_unit_test(another_nvrtcs_image_is_taken_only_without_one),
        cmocka_unit_test(newer_gpu_gets_ptx),
        cmocka_unit_test(machine_code_for_a_newer_gpu_is_refused),
        cmocka_unit_test(older_gpu_is_refused),
    };
    if (argc < 2 || argv[1][0] == '\0') {
        printf("skipped: there is no C++ compiler\n");
        return SKIPPED;
    }
    setenv("MOSSC_CXX", argv[1], 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
