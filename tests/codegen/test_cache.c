/* Kernels on disk: what is stored comes back, nothing damaged or foreign is believed, the directory stays within its bound, and
 * compiling with the cache gives the functions that compiling without it gives. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "codegen/cache.h"
#include "codegen/target.h"
#include "support/alloc.h"
#include "tests/runtime/damage.h"

enum { PAYLOAD = 100, LARGE = 1 << 28 };

/* A directory that is not there yet, in one that is removed at the end with all that is in both. */
typedef struct Place {
    char *parent, directory[256];
} Place;

static Place place_make(void) {
    Place place = {.parent = directory_make().path};
    snprintf(place.directory, sizeof place.directory, "%s/below/kernels", place.parent);
    return place;
}

static void remove_tree(const char *path) {
    DIR *directory = opendir(path);
    for (struct dirent *d; directory != NULL && (d = readdir(directory)) != NULL;) {
        char inner[512];
        snprintf(inner, sizeof inner, "%s/%s", path, d->d_name);
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && unlink(inner) != 0) remove_tree(inner);
    }
    if (directory != NULL) closedir(directory);
    rmdir(path);
}

static void place_remove(Place *place) {
    remove_tree(place->parent);
    assert_int_not_equal(access(place->parent, F_OK), 0);
    free(place->parent);
}

static SuDigest key_of(int n) { return su_digest(&n, sizeof n); }

static void path_of(const Place *place, int n, char out[512]) {
    char hex[SU_HEX];
    SuDigest key = key_of(n);
    snprintf(out, 512, "%s/%s.kernel", place->directory, su_digest_hex(&key, hex));
}

/* Stores entry n, whose payload is PAYLOAD times n. */
static CgCacheStats store(const Place *place, int n, uint64_t most_bytes) {
    uint8_t payload[PAYLOAD];
    memset(payload, n, sizeof payload);
    CgCache *cache = cg_cache_open(place->directory, most_bytes);
    SuDigest key = key_of(n);
    cg_cache_store(cache, &key, payload, 60, payload + 60, PAYLOAD - 60);
    cg_cache_trim(cache);
    CgCacheStats stats = cg_cache_stats(cache);
    stats.problem = NULL; /* goes with the cache */
    cg_cache_close(cache);
    return stats;
}

/* Whether entry n is found; then it must hold what was stored. */
static bool is_found(const Place *place, int n, CgCacheStats *out_stats) {
    CgCache *cache = cg_cache_open(place->directory, LARGE);
    SuDigest key = key_of(n);
    size_t size = 0;
    uint8_t *payload = cg_cache_find(cache, &key, &size);
    if (payload != NULL) {
        assert_int_equal(size, PAYLOAD);
        for (size_t i = 0; i < size; i++) assert_int_equal(payload[i], n);
    }
    *out_stats = cg_cache_stats(cache);
    assert_int_equal(out_stats->found + out_stats->missed + out_stats->damaged, 1);
    su_free(payload);
    cg_cache_close(cache);
    return payload != NULL;
}

/* The place's entry 1 is not believed, and is good again once it was stored anew. */
static void expect_refused(void *context, const char *path, const char *what) {
    const Place *place = context;
    CgCacheStats stats;
    (void)path;
    if (is_found(place, 1, &stats) || stats.damaged != 1) fail_msg("an entry was believed: %s", what);
}

static void expect_replaced(const Place *place, const char *what) {
    CgCacheStats stats;
    expect_refused((void *)(uintptr_t)place, NULL, what);
    assert_int_equal(store(place, 1, LARGE).stored, 1);
    assert_true(is_found(place, 1, &stats));
}

/* ---------------------------------------------------------------------------------------------- entries */

static void what_was_stored_is_found(void **unused) {
    (void)unused;
    Place place = place_make();
    CgCacheStats stats;
    assert_false(is_found(&place, 1, &stats));
    assert_int_equal(stats.missed, 1);
    assert_int_equal(store(&place, 1, LARGE).stored, 1);
    assert_true(is_found(&place, 1, &stats));
    assert_false(is_found(&place, 2, &stats));
    place_remove(&place);
}

static void damage_is_noticed_wherever_it_is(void **unused) {
    (void)unused;
    Place place = place_make();
    char path[512];
    store(&place, 1, LARGE);
    path_of(&place, 1, path);
    try_flips(path, SIZE_MAX, 1, expect_refused, &place);
    try_cuts(path, 1, expect_refused, &place);
    CgCacheStats stats;
    assert_true(is_found(&place, 1, &stats));
    write_bytes(path, NULL, 0);
    expect_replaced(&place, "an empty file");
    place_remove(&place);
}

static void entry_under_a_wrong_name_is_refused(void **unused) {
    (void)unused;
    Place place = place_make();
    char one[512], two[512];
    path_of(&place, 1, one);
    path_of(&place, 2, two);
    store(&place, 2, LARGE);
    assert_int_equal(rename(two, one), 0);
    expect_replaced(&place, "another kernel's entry");
    place_remove(&place);
}

static void file_that_others_may_write_is_refused(void **unused) {
    (void)unused;
    Place place = place_make();
    char path[512];
    store(&place, 1, LARGE);
    path_of(&place, 1, path);
    assert_int_equal(chmod(path, 0664), 0);
    expect_replaced(&place, "a file that the group may write");
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 12345), 0);
        expect_replaced(&place, "another user's file");
    }
    assert_int_equal(chmod(path, 0), 0);
    CgCacheStats stats;
    assert_int_equal(is_found(&place, 1, &stats), geteuid() == 0); /* root reads everything */
    assert_int_equal(store(&place, 1, LARGE).stored, 1);
    place_remove(&place);
}

static void link_and_pipe_in_place_of_the_file_are_refused(void **unused) {
    (void)unused;
    Place place = place_make();
    char one[512], two[512];
    store(&place, 1, LARGE);
    path_of(&place, 1, one);
    path_of(&place, 2, two);
    assert_int_equal(rename(one, two), 0);
    assert_int_equal(symlink(two, one), 0);
    expect_replaced(&place, "a symbolic link");
    assert_int_equal(unlink(one), 0);
    assert_int_equal(mkfifo(one, 0600), 0);
    expect_refused(&place, one, "a pipe");
    place_remove(&place);
}

static void directory_in_place_of_the_file_is_no_entry(void **unused) {
    (void)unused;
    Place place = place_make();
    char path[512];
    store(&place, 2, LARGE);
    path_of(&place, 1, path);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refused(&place, path, "a directory");
    assert_int_equal(store(&place, 1, LARGE).stored, 0);
    assert_int_equal(store(&place, 3, LARGE).stored, 1); /* the others are kept nevertheless */
    place_remove(&place);
}

/* ---------------------------------------------------------------------------------------------- the directory */

static void directory_that_cannot_be_made_is_told(void **unused) {
    (void)unused;
    Place place = place_make();
    char below[512];
    snprintf(below, sizeof below, "%s/below", place.parent);
    write_bytes(below, NULL, 0); /* a file where a directory must be */
    CgCache *cache = cg_cache_open(place.directory, LARGE);
    SuDigest key = key_of(1);
    size_t size;
    assert_null(cg_cache_find(cache, &key, &size));
    cg_cache_store(cache, &key, "x", 1, "y", 1);
    cg_cache_store(cache, &key, "x", 1, "y", 1);
    CgCacheStats stats = cg_cache_stats(cache);
    assert_int_equal(stats.missed, 1);
    assert_int_equal(stats.stored, 0);
    assert_string_equal(stats.problem, "cannot create: Not a directory");
    cg_cache_close(cache);
    place_remove(&place);
}

static void set_age(const Place *place, int n, time_t seconds) {
    char path[512];
    path_of(place, n, path);
    struct timespec times[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void what_was_used_least_recently_goes_first(void **unused) {
    (void)unused;
    Place place = place_make();
    CgCacheStats stats;
    SuEntries entries;
    for (int n = 1; n <= 4; n++) {
        store(&place, n, LARGE);
        set_age(&place, n, 100 - n);
    }
    assert_true(is_found(&place, 1, &stats)); /* used now; entry 2 is the oldest */
    entries = cg_cache_list(place.directory);
    assert_int_equal(entries.count, 4);
    uint64_t one = entries.bytes / 4;
    su_entries_free(&entries);
    assert_int_equal(store(&place, 5, 3 * one).evicted, 2);
    assert_true(is_found(&place, 1, &stats) && is_found(&place, 4, &stats) && is_found(&place, 5, &stats));
    assert_false(is_found(&place, 2, &stats) || is_found(&place, 3, &stats));
    place_remove(&place);
}

static void clearing_removes_entries_only(void **unused) {
    (void)unused;
    Place place = place_make();
    char other[512], fourth[512], temporary[600], third[512];
    for (int n = 1; n <= 3; n++) store(&place, n, LARGE);
    path_of(&place, 3, third);
    assert_int_equal(truncate(third, 0), 0); /* as a crash of the machine leaves what was not synced */
    snprintf(other, sizeof other, "%s/notes.kernel", place.directory);
    write_bytes(other, NULL, 0);
    path_of(&place, 4, fourth);
    snprintf(temporary, sizeof temporary, "%s.mossc-tmp-Ab12Cd", fourth);
    write_bytes(temporary, NULL, 0); /* a killed process left it */
    assert_int_equal(cg_cache_clear(place.directory), 3);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_not_equal(access(temporary, F_OK), 0);
    assert_int_equal(cg_cache_clear("/nowhere/at/all"), 0);
    place_remove(&place);
}

/* ---------------------------------------------------------------------------------------------- compiling */

static const PgKernel kernels[] = {
    {.kind = PG_NORM, .mode = PG_ROW, .O = 40, .K = 40, .norm = PG_RMS},
    {.kind = PG_LINEAR,
     .mode = PG_ROW,
     .K = 40,
     .O = 64,
     .norm = PG_RMS,
     .epilogue = {{{.kind = PG_STEP_BIAS}, {.kind = PG_STEP_ACT, .act = PG_SILU}}}},
    {.kind = PG_GROUP, .mode = PG_BLOCK, .E = 4, .k = 2},
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

typedef struct Compiling {
    const char *isa, *abs_greater; /* the latter, which none of the kernels uses, NULL: the host's */
    const PgKernel *kernels;
    CgOptions options;
} Compiling;

/* Compiles three kernels with the place's cache; what it did is in *out_stats. */
static void compile(const Place *place, const Compiling *how, PgCode out_codes[KERNELS], CgCacheStats *out_stats) {
    PgProgram program = {.kernels = how->kernels, .n_kernels = KERNELS};
    CgTarget target;
    SuDiags diags = {0};
    CgCompiled *compiled = NULL;
    CgOptions options = how->options;
    options.cache = cg_cache_open(place->directory, LARGE);
    assert_true(cg_target_host(how->isa, &target, &diags));
    if (how->abs_greater != NULL) target.abs_greater = how->abs_greater;
    assert_true(cg_llvm_compile(&target, &program, &options, &compiled, &diags));
    for (int i = 0; i < KERNELS; i++) {
        assert_non_null(cg_codes(compiled)[i].run);
        out_codes[i] = cg_codes(compiled)[i];
        out_codes[i].run = NULL; /* ends here */
    }
    *out_stats = cg_cache_stats(options.cache);
    cg_cache_close(options.cache);
    cg_compiled_free(compiled);
    cg_target_free(&target);
    su_diags_free(&diags);
}

static void expect_compiled(const Place *place, const Compiling *how, uint32_t found, uint32_t stored) {
    PgCode codes[KERNELS];
    CgCacheStats stats;
    compile(place, how, codes, &stats);
    assert_int_equal(stats.found, found);
    assert_int_equal(stats.stored, stored);
}

static void second_time_nothing_is_made(void **unused) {
    (void)unused;
    Place place = place_make();
    PgCode made[KERNELS], found[KERNELS];
    CgCacheStats stats;
    Compiling how = {.kernels = kernels};
    compile(&place, &how, made, &stats);
    assert_int_equal(stats.missed, KERNELS);
    assert_int_equal(stats.stored, KERNELS);
    compile(&place, &how, found, &stats);
    assert_int_equal(stats.found, KERNELS);
    assert_int_equal(stats.stored, 0);
    assert_memory_equal(made, found, sizeof made);
    place_remove(&place);
}

static void place_in_the_program_does_not_matter(void **unused) {
    (void)unused;
    Place place = place_make();
    PgKernel turned[KERNELS];
    for (int i = 0; i < KERNELS; i++) memcpy(&turned[i], &kernels[KERNELS - 1 - i], sizeof turned[i]);
    expect_compiled(&place, &(Compiling){.kernels = kernels}, 0, KERNELS);
    expect_compiled(&place, &(Compiling){.kernels = turned}, KERNELS, 0);
    place_remove(&place);
}

static bool has_wider_than_avx2(void) {
    CgTarget target;
    SuDiags diags = {0};
    bool wider = cg_target_host("avx512", &target, &diags);
    cg_target_free(&target);
    su_diags_free(&diags);
    return wider;
}

static void whatever_changes_the_code_changes_the_key(void **unused) {
    (void)unused;
    Place place = place_make();
    Compiling how = {.kernels = kernels};
    CgOptions debug = {.debugger = CG_GDB, .spec_path = "a.yaml"}, elsewhere = {.debugger = CG_GDB, .spec_path = "b.yaml"};
    expect_compiled(&place, &how, 0, KERNELS);
    expect_compiled(&place, &(Compiling){.kernels = kernels, .options = debug}, 0, KERNELS);
    expect_compiled(&place, &(Compiling){.kernels = kernels, .options = elsewhere}, 0, KERNELS);
    PgKernel other[KERNELS];
    memcpy(other, kernels, sizeof other);
    other[1].epilogue.steps[1] = (PgEpilogueStep){0};
    expect_compiled(&place, &(Compiling){.kernels = other}, KERNELS - 1, 1);
    expect_compiled(&place, &how, KERNELS, 0);
    expect_compiled(&place, &(Compiling){.kernels = kernels, .options = debug}, KERNELS, 0);
    place_remove(&place);
}

/* A suite of its own, since without a wider instruction set both are the same code. */
static void an_instruction_set_changes_the_key(void **unused) {
    (void)unused;
    Place place = place_make();
    expect_compiled(&place, &(Compiling){.kernels = kernels}, 0, KERNELS);
    expect_compiled(&place, &(Compiling){.kernels = kernels, .isa = "avx2"}, 0, KERNELS);
    place_remove(&place);
}

/* The next process has its texts at other addresses. */
static void texts_of_the_target_count_wherever_they_lie(void **unused) {
    (void)unused;
    Place place = place_make();
    const char here[] = "facgt", there[] = "facgt";
    expect_compiled(&place, &(Compiling){.kernels = kernels, .abs_greater = here}, 0, KERNELS);
    expect_compiled(&place, &(Compiling){.kernels = kernels, .abs_greater = there}, KERNELS, 0);
    expect_compiled(&place, &(Compiling){.kernels = kernels}, 0, KERNELS);
    place_remove(&place);
}

static void damaged_kernels_are_made_again(void **unused) {
    (void)unused;
    Place place = place_make();
    Compiling how = {.kernels = kernels};
    expect_compiled(&place, &how, 0, KERNELS);
    SuEntries entries = cg_cache_list(place.directory);
    for (size_t i = 0; i < 2; i++) {
        const char *path = su_entry_path(&entries.arena, place.directory, &entries.items[i].name, ".kernel");
        Bytes bytes = read_bytes(path);
        bytes.data[bytes.size - 1 - i] ^= 1;
        write_bytes(path, bytes.data, bytes.size - i);
        free(bytes.data);
    }
    su_entries_free(&entries);
    expect_compiled(&place, &how, KERNELS - 2, 2);
    expect_compiled(&place, &how, KERNELS, 0);
    place_remove(&place);
}

/* With "isa": only what needs an instruction set above AVX2. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_stored_is_found),
        cmocka_unit_test(damage_is_noticed_wherever_it_is),
        cmocka_unit_test(entry_under_a_wrong_name_is_refused),
        cmocka_unit_test(file_that_others_may_write_is_refused),
        cmocka_unit_test(link_and_pipe_in_place_of_the_file_are_refused),
        cmocka_unit_test(directory_in_place_of_the_file_is_no_entry),
        cmocka_unit_test(directory_that_cannot_be_made_is_told),
        cmocka_unit_test(what_was_used_least_recently_goes_first),
        cmocka_unit_test(clearing_removes_entries_only),
        cmocka_unit_test(second_time_nothing_is_made),
        cmocka_unit_test(place_in_the_program_does_not_matter),
        cmocka_unit_test(whatever_changes_the_code_changes_the_key),
        cmocka_unit_test(texts_of_the_target_count_wherever_they_lie),
        cmocka_unit_test(damaged_kernels_are_made_again),
    };
    const struct CMUnitTest instruction_sets[] = {cmocka_unit_test(an_instruction_set_changes_the_key)};
    bool isa = argc == 2 && strcmp(argv[1], "isa") == 0;
    if (isa && !has_wider_than_avx2()) {
        printf("skipped: this machine has no instruction set above avx2\n");
        return 77;
    }
    int failed = isa ? cmocka_run_group_tests(instruction_sets, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
    cg_llvm_shutdown();
    return failed;
}
