/* cg_print_tables: what it prints is taken by a C compiler without a warning, and is the program again, field by field, for specs drawn
 * from the whole language. Skipped where there is no C compiler. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "codegen/artefact.h"
#include "frontend/lower.h"
#include "frontend/spec.h"
#include "schedule/schedule.h"
#include "tests/random/draw.h"

enum { DRAWS = 12, SKIPPED = 77, SEED = 40 };

#define FLAGS "-std=c17 -pedantic -Wall -Wextra -Wconversion -Werror -shared -fPIC -I" MOSSC_SOURCE

/* A program as it was made, and as it was printed and compiled. */
typedef struct Pair {
    FeSpec spec;
    SuArena arena;
    SuDiags diags;
    const PgProgram *made, *compiled;
    void *library;
} Pair;

static void *compile(const SuText *text) {
    char directory[] = "/tmp/mossc-tables-XXXXXX", source[64], library[64], command[512];
    assert_non_null(mkdtemp(directory));
    snprintf(source, sizeof source, "%s/t.c", directory);
    snprintf(library, sizeof library, "%s/t.so", directory);
    snprintf(command, sizeof command, "cc " FLAGS " -o %s %s", library, source);
    FILE *file = fopen(source, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text->text, 1, text->size, file), text->size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(system(command), 0);
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(handle);
    unlink(source);
    unlink(library);
    rmdir(directory);
    return handle;
}

static void pair_open(Pair *p, const SuText *spec) {
    PsOptions passes = {0};
    SuText tables = {0};
    *p = (Pair){0};
    assert_true(fe_spec_parse("t.yaml", spec->text, spec->size, NULL, 0, &p->spec, &p->diags));
    IrGraph *graph = fe_lower(&p->spec, &p->arena);
    assert_true(ps_fuse(graph, &passes, &p->diags));
    assert_true(sc_program(graph, &passes, &p->arena, &p->made, &p->diags));
    cg_print_tables(p->made, "t", &tables);
    p->library = compile(&tables);
    p->compiled = dlsym(p->library, "t_program");
    assert_non_null(p->compiled);
    su_text_free(&tables);
}

static void pair_close(Pair *p) {
    dlclose(p->library);
    fe_spec_free(&p->spec);
    su_arena_free(&p->arena);
    su_diags_free(&p->diags);
}

/* Arrays of structs whose only pointer, if there is one, is to a name at `name_at`. */
static void check_table(const void *made, const void *compiled, uint32_t count, size_t size, size_t name_at) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t one[512], other[512];
        memcpy(one, (const uint8_t *)made + i * size, size);
        memcpy(other, (const uint8_t *)compiled + i * size, size);
        if (name_at < size) {
            const char *name, *other_name;
            memcpy(&name, one + name_at, sizeof name);
            memcpy(&other_name, other + name_at, sizeof other_name);
            assert_string_equal(name, other_name);
            memset(one + name_at, 0, sizeof name);
            memset(other + name_at, 0, sizeof name);
        }
        assert_memory_equal(one, other, size);
    }
}

static void check_pair(const Pair *p) {
    const PgProgram *a = p->made, *b = p->compiled;
    PgProgram bare = *a, other = *b;
    assert_string_equal(a->name, b->name);
    assert_null(b->kernels);
    for (int mode = 0; mode < PG_MODES; mode++) {
        check_table(a->steps[mode].phases, b->steps[mode].phases, a->steps[mode].n_phases, sizeof(PgPhase),
                    offsetof(PgPhase, name));
        bare.steps[mode].phases = other.steps[mode].phases = NULL;
    }
    check_table(a->tensors, b->tensors, a->n_tensors, sizeof(PgTensor), offsetof(PgTensor, name));
    check_table(a->weights, b->weights, a->n_weights, sizeof(PgWeight), SIZE_MAX);
    check_table(a->states, b->states, a->n_states, sizeof(PgState), offsetof(PgState, name));
    check_table(a->ropes, b->ropes, a->n_ropes, sizeof(PgRope), SIZE_MAX);
    bare.name = other.name = NULL;
    bare.kernels = NULL;
    bare.tensors = other.tensors = NULL;
    bare.weights = other.weights = NULL;
    bare.states = other.states = NULL;
    bare.ropes = other.ropes = NULL;
    assert_memory_equal(&bare, &other, sizeof bare);
}

static void check(const SuText *spec) {
    Pair pair;
    pair_open(&pair, spec);
    check_pair(&pair);
    pair_close(&pair);
}

static void printed_tables_are_the_programs(void **state) {
    (void)state;
    for (uint64_t seed = SEED; seed < SEED + DRAWS; seed++) {
        SuText text = {0};
        draw_spec(seed, DRAW_FLOATS, &text);
        check(&text);
        su_text_free(&text);
    }
}

static void what_is_rare_is_printed_too(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, "mossc: 1\nname: 7.b\nvocab_size: 300\nd_model: 32\nweights: {dtype: f16}\nmax_positions: 77\nstack:\n"
                       "  - attention: {n_heads: 4, window: 9, rope: {theta: 123456.789, dim: 4}}\n"
                       "  - attention: {n_heads: 4, rope: {theta: 10000.25}}\n");
    check(&text);
    su_text_free(&text);
    SuText stateless = {0};
    su_text_add(&stateless, "mossc: 1\nname: none\nvocab_size: 40\nd_model: 16\nstack:\n  - mlp: {d_ff: 8}\n");
    check(&stateless);
    su_text_free(&stateless);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(printed_tables_are_the_programs),
                                       cmocka_unit_test(what_is_rare_is_printed_too)};
    if (system("cc --version >/dev/null 2>&1") != 0) {
        printf("skipped: there is no C compiler\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
