/* The kernels that measure what a machine can do: they do all the work that they claim. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/limits.h"
#include "ir/vmath32.h"
#include "tests/codegen/harness.h"
// clang-format off
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

enum { TILES = 3, FLOATS = TILES * CG_READ_TILE / 4, OPERANDS = CG_LIMIT_OPERAND_BYTES / 4 };

typedef struct Rig {
    Harness *h; /* for its target and its numbers */
    CgLimits *limits;
    float *data, *inputs, *scratch; /* [FLOATS], [OPERANDS], [OPERANDS] */
} Rig;

static float *floats(uint64_t n) {
    float *p = aligned_alloc(64, n * sizeof *p);
    assert_non_null(p);
    memset(p, 0, n * sizeof *p);
    return p;
}

static Rig rig(const char *isa) {
    Rig r = {.h = harness_new(isa, 7), .data = floats(FLOATS), .inputs = floats(OPERANDS), .scratch = floats(OPERANDS)};
    SuDiags diags = {0};
    if (r.h->present) assert_true(cg_llvm_limits(&r.h->target, &r.limits, &diags));
    return r;
}

static void end(Rig *r) {
    cg_limits_free(r->limits);
    harness_free(r->h);
    free(r->data);
    free(r->inputs);
    free(r->scratch);
}

static const CgLimitKernel *run(Rig *r, unsigned kernel, uint32_t first, uint32_t end_tile) {
    const CgLimitKernel *k = &cg_limit_kernels(r->limits)[kernel];
    RtArgs args = {.weights = (const uint8_t *)r->data, .arena = (uint8_t *)r->inputs, .scratch = (uint8_t *)r->scratch};
    assert_true(k->scratch <= OPERANDS * sizeof(float));
    k->run(&args, NULL, first, end_tile);
    return k;
}

static double scratch_sum(const Rig *r, uint64_t bytes) {
    double sum = 0;
    for (uint64_t i = 0; i < bytes / 4; i++) sum += (double)r->scratch[i];
    return sum;
}

/* Every float of the last tile counts once, those of the tile before not at all: 1 everywhere, then 4 at one place after another. */
static void reads(Rig *r) {
    float *tile = r->data + (TILES - 1) * (CG_READ_TILE / 4);
    for (unsigned pattern = 0; pattern < CG_READ_PATTERNS; pattern++) {
        for (unsigned i = 0; i < CG_READ_TILE / 4; i++) tile[i] = 1;
        for (unsigned i = 0; i < CG_READ_TILE / 4; i += 1 + harness_below(r->h, 400)) {
            tile[i] = 4;
            const CgLimitKernel *k = run(r, pattern, TILES - 1, TILES);
            assert_int_equal(k->kind, CG_LIMIT_READ);
            assert_true(k->work == CG_READ_TILE);
            assert_true(scratch_sum(r, k->scratch) == CG_READ_TILE / 4 + 3);
            tile[i] = 1;
        }
    }
}

/* Whole numbers, so that sums are exact in any order. */
static void multiplies(Rig *r) {
    enum { STEPS = 4, K = STEPS * 16 };
    unsigned panels = (unsigned)r->h->target.block_panels, rows = (unsigned)r->h->target.block_rows;
    for (unsigned i = 0; i < OPERANDS; i++) {
        r->data[i] = (float)harness_below(r->h, 9) - 4;
        r->inputs[i] = (float)harness_below(r->h, 9) - 4;
    }
    const CgLimitKernel *k = run(r, CG_READ_PATTERNS, 0, 2 * STEPS);
    assert_true(k->work == 2.0 * 16 * 16 * panels * rows);
    for (unsigned p = 0; p < panels; p++) {
        for (unsigned row = 0; row < rows; row++) {
            for (unsigned lane = 0; lane < 16; lane++) {
                float sum = 0;
                for (unsigned i = 0; i < K; i++)
                    sum += r->data[(p * K + i) * 16 + lane] * r->inputs[(i / 16 * rows + row) * 16 + i % 16];
                check_bits("sum", p, row, r->scratch[(p * rows + row) * 16 + lane], 2 * sum);
            }
        }
    }
}

static void multiplies_and_adds(Rig *r) {
    enum { ROUNDS = 5 };
    for (unsigned i = 0; i < 32; i++) r->inputs[i] = harness_float(r->h);
    const CgLimitKernel *k = run(r, CG_READ_PATTERNS + 1, 0, ROUNDS);
    unsigned chains = (unsigned)(k->scratch / 64);
    assert_true(k->work == 2.0 * 16 * chains);
    for (unsigned i = 0; i < chains * 16; i++) {
        float sum = (float)(i / 16);
        for (unsigned n = 0; n < ROUNDS; n++) sum = fmaf(sum, r->inputs[i % 16], r->inputs[16 + i % 16]);
        check_bits("chain", i / 16, i % 16, r->scratch[i], sum);
    }
}

static void raises(Rig *r) {
    for (unsigned i = 0; i < OPERANDS; i++) r->inputs[i] = harness_float(r->h);
    const CgLimitKernel *k = run(r, CG_READ_PATTERNS + 2, 0, 1);
    float sums[64] = {0};
    assert_int_equal(k->scratch, sizeof sums);
    for (unsigned i = 0; i < (unsigned)k->work; i++) sums[i % 64] += vm_exp(r->inputs[i]);
    for (unsigned i = 0; i < 64; i++) check_bits("exp", 0, i, r->scratch[i], sums[i]);
}

static void with_each_instruction_set(void (*test)(Rig *)) {
    static const char *const isas[] = {"avx512", "avx2"};
    for (int i = 0; i < 2; i++) {
        Rig r = rig(isas[i]);
        if (r.h->present) test(&r);
        end(&r);
    }
}

static void every_pattern_reads_every_byte_once(void **unused) {
    (void)unused;
    with_each_instruction_set(reads);
}
static void the_panel_kernel_multiplies_all_inputs(void **unused) {
    (void)unused;
    with_each_instruction_set(multiplies);
}
static void every_chain_does_every_round(void **unused) {
    (void)unused;
    with_each_instruction_set(multiplies_and_adds);
}
static void exp_is_that_of_the_bits(void **unused) {
    (void)unused;
    with_each_instruction_set(raises);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_reads_every_byte_once),
        cmocka_unit_test(the_panel_kernel_multiplies_all_inputs),
        cmocka_unit_test(every_chain_does_every_round),
        cmocka_unit_test(exp_is_that_of_the_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
