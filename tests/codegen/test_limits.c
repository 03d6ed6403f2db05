/* The kernels that measure what a machine can do: they do all the work that they claim. */
#include "codegen/limits.h"
#include "tests/codegen/reference.h"

enum { TILES = 3, FLOATS = TILES * CG_READ_TILE / 4, OPERANDS = CG_LIMIT_OPERAND_BYTES / 4 };

typedef struct Limits {
    Rng random;
    CgLimits *limits;
    float *data, *inputs, *scratch; /* [FLOATS], [OPERANDS], [OPERANDS] */
} Limits;

static float *floats(uint64_t n) {
    float *p = aligned_alloc(64, n * sizeof *p);
    assert_non_null(p);
    memset(p, 0, n * sizeof *p);
    return p;
}

static Limits begin(void) {
    Limits r = {.random = {7}, .data = floats(FLOATS), .inputs = floats(OPERANDS), .scratch = floats(OPERANDS)};
    SuDiags diags = {0};
    rig_count_case();
    assert_true(cg_llvm_limits(rig_target(), &r.limits, &diags));
    return r;
}

static void end(Limits *r) {
    cg_limits_free(r->limits);
    free(r->data);
    free(r->inputs);
    free(r->scratch);
}

static const CgLimitKernel *run(Limits *r, unsigned kernel, uint32_t first, uint32_t end_tile) {
    const CgLimitKernel *k = &cg_limit_kernels(r->limits)[kernel];
    RtArgs args = {.weights = (const uint8_t *)r->data, .arena = (uint8_t *)r->inputs, .scratch = (uint8_t *)r->scratch};
    assert_true(k->scratch <= OPERANDS * sizeof(float));
    k->run(&args, NULL, first, end_tile);
    return k;
}

static double scratch_sum(const Limits *r, uint64_t bytes) {
    double sum = 0;
    for (uint64_t i = 0; i < bytes / 4; i++) sum += (double)r->scratch[i];
    return sum;
}

/* Every float of the last tile counts once, those of the tile before not at all: 1 everywhere, then 4 at one place after another. */
static void reads(Limits *r) {
    float *tile = r->data + (TILES - 1) * (CG_READ_TILE / 4);
    for (unsigned pattern = 0; pattern < CG_READ_PATTERNS; pattern++) {
        for (unsigned i = 0; i < CG_READ_TILE / 4; i++) tile[i] = 1;
        for (unsigned i = 0; i < CG_READ_TILE / 4; i += (unsigned)rng_between(&r->random, 1, 400)) {
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
static void multiplies(Limits *r) {
    enum { STEPS = 4, K = STEPS * 16 };
    unsigned panels = (unsigned)rig_target()->block_panels, rows = (unsigned)rig_target()->block_rows;
    for (unsigned i = 0; i < OPERANDS; i++) {
        r->data[i] = (float)rng_between(&r->random, -4, 4);
        r->inputs[i] = (float)rng_between(&r->random, -4, 4);
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

static void multiplies_and_adds(Limits *r) {
    enum { ROUNDS = 5 };
    for (unsigned i = 0; i < 32; i++) r->inputs[i] = rig_uniform(&r->random, -1, 1);
    const CgLimitKernel *k = run(r, CG_READ_PATTERNS + 1, 0, ROUNDS);
    unsigned chains = (unsigned)(k->scratch / 64);
    assert_true(k->work == 2.0 * 16 * chains);
    for (unsigned i = 0; i < chains * 16; i++) {
        float sum = (float)(i / 16);
        for (unsigned n = 0; n < ROUNDS; n++) sum = fmaf(sum, r->inputs[i % 16], r->inputs[16 + i % 16]);
        check_bits("chain", i / 16, i % 16, r->scratch[i], sum);
    }
}

static void raises(Limits *r) {
    for (unsigned i = 0; i < OPERANDS; i++) r->inputs[i] = rig_uniform(&r->random, -1, 1);
    const CgLimitKernel *k = run(r, CG_READ_PATTERNS + 2, 0, 1);
    float sums[64] = {0};
    assert_int_equal(k->scratch, sizeof sums);
    for (unsigned i = 0; i < (unsigned)k->work; i++) sums[i % 64] += vm_exp(r->inputs[i]);
    for (unsigned i = 0; i < 64; i++) check_bits("exp", 0, i, r->scratch[i], sums[i]);
}

static void with_limits(void (*test)(Limits *)) {
    Limits r = begin();
    test(&r);
    end(&r);
}

static void every_pattern_reads_every_byte_once(void **unused) {
    (void)unused;
    with_limits(reads);
}
static void the_panel_kernel_multiplies_all_inputs(void **unused) {
    (void)unused;
    with_limits(multiplies);
}
static void every_chain_does_every_round(void **unused) {
    (void)unused;
    with_limits(multiplies_and_adds);
}
static void exp_is_that_of_the_bits(void **unused) {
    (void)unused;
    with_limits(raises);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_reads_every_byte_once),
        cmocka_unit_test(the_panel_kernel_multiplies_all_inputs),
        cmocka_unit_test(every_chain_does_every_round),
        cmocka_unit_test(exp_is_that_of_the_bits),
    };
    return rig_begin(argc, argv) ? rig_end(cmocka_run_group_tests(tests, NULL, NULL)) : RIG_SKIPPED;
}
