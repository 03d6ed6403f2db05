/* Forms: the floats of a block of each, and rows that become q8 and q4 exactly. With the words "dequantise FORM" the floats of the blocks
 * that stdin holds go to stdout (compare_forms.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "form_vectors.h"
#include "import/form.h"
#include "ir/half.h"
#include "support/random.h"

enum { MOST_K = 512, MOST_BYTES = 4 * MOST_K };

static const struct {
    ImForm form;
    const uint8_t *block;
    const uint32_t *floats;
    size_t bytes, weights;
} vectors[] = {
#define VECTOR(NAME) {IM_##NAME, block_##NAME, floats_##NAME, sizeof block_##NAME, sizeof floats_##NAME / 4}
    VECTOR(F16),  VECTOR(Q8_0), VECTOR(Q4_0), VECTOR(Q5_0), VECTOR(Q4_1), VECTOR(Q5_1),
    VECTOR(Q2_K), VECTOR(Q3_K), VECTOR(Q4_K), VECTOR(Q5_K), VECTOR(Q6_K),
};

static void blocks_are_the_floats_of_gguf(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        float out[MOST_K];
        assert_int_equal(im_form_row_bytes(vectors[i].form, vectors[i].weights), vectors[i].bytes);
        im_form_to_floats(vectors[i].form, vectors[i].block, vectors[i].weights, out);
        assert_memory_equal(out, vectors[i].floats, vectors[i].weights * sizeof *out);
    }
}

static void floats_are_copied_and_widened(void **unused) {
    (void)unused;
    const float wanted[] = {1.5f, -0.0f};
    const uint8_t bf16[] = {0xC0, 0x3F, 0, 0x80};
    float out[2];
    im_form_to_floats(IM_F32, (const uint8_t *)wanted, 2, out);
    assert_memory_equal(out, wanted, sizeof wanted);
    im_form_to_floats(IM_BF16, bf16, 2, out);
    assert_memory_equal(out, wanted, sizeof wanted);
}

static void rows_are_whole_blocks(void **unused) {
    (void)unused;
    assert_int_equal(im_form_row_bytes(IM_Q4_0, 33), 0);
    assert_int_equal(im_form_row_bytes(IM_Q6_K, 128), 0);
    assert_int_equal(im_form_row_bytes(IM_Q6_K, 768), 630);
    assert_int_equal(im_form_row_bytes(IM_F16, 33), 66);
}

/* Random blocks of 512 weights, their halves small. */
static void fill(ImForm form, uint64_t *seed, uint8_t *bytes) {
    const ImFormInfo *info = im_form(form);
    for (uint64_t at = 0; at < im_form_row_bytes(form, MOST_K); at++) bytes[at] = (uint8_t)su_random(seed);
    for (uint64_t at = 0; at < im_form_row_bytes(form, MOST_K); at += info->bytes) {
        for (int i = 0; i < (form == IM_Q4_K ? 2 : 1); i++) {
            const uint16_t half = ir_narrow_f16((float)su_unit(su_random(seed)) * 0.02f - 0.01f);
            memcpy(bytes + at + 2 * i, &half, 2);
        }
    }
}

/* What a row of ours is as floats, its parts given memory. */
static void through_a_row(ImForm form, IrDtype dtype, const uint8_t *bytes, float *out) {
    _Alignas(8) uint8_t memory[IR_PARTS][MOST_BYTES];
    IrRow row;
    IrBlocks blocks = {.dtype = dtype, .rows = 1, .K = MOST_K};
    for (int i = 0; i < IR_PARTS; i++) row.part[i] = memory[i], blocks.part[i] = memory[i];
    im_form_to_row(form, bytes, MOST_K, &row);
    ir_blocks_row(&blocks, 0, out);
}

static void kept_rows_are_the_same_numbers(void **unused) {
    (void)unused;
    uint64_t seed = 3;
    int kept = 0;
    for (int form = 0; form < IM_FORMS; form++) {
        IrDtype dtype;
        uint8_t bytes[MOST_BYTES];
        float wanted[MOST_K], found[MOST_K];
        if (!im_form_is_kept((ImForm)form, &dtype)) continue;
        kept++;
        fill((ImForm)form, &seed, bytes);
        if (form == IM_Q8_0)
            for (uint64_t at = 0; at < sizeof bytes; at++) bytes[at] = bytes[at] == 0x80 ? 0x81 : bytes[at];
        im_form_to_floats((ImForm)form, bytes, MOST_K, wanted);
        through_a_row((ImForm)form, dtype, bytes, found);
        assert_memory_equal(found, wanted, sizeof wanted);
    }
    assert_int_equal(kept, 4);
}

static void a_least_q8_becomes_minus_127(void **unused) {
    (void)unused;
    uint8_t bytes[34 * MOST_K / 32] = {0};
    float wanted[MOST_K], found[MOST_K];
    for (size_t at = 0; at < sizeof bytes; at += 34) {
        const uint16_t one = ir_narrow_f16(1);
        memcpy(bytes + at, &one, 2);
        bytes[at + 2] = 0x80;
    }
    im_form_to_floats(IM_Q8_0, bytes, MOST_K, wanted);
    through_a_row(IM_Q8_0, IR_Q8, bytes, found);
    assert_true(wanted[32] == -128);
    assert_true(found[32] == -127);
    assert_true(im_form_is_low(IM_Q8_0, bytes, MOST_K));
    bytes[2] = bytes[36] = 0x81;
    assert_false(im_form_is_low(IM_Q8_0, bytes, 64));
}

static void numbers_of_gguf_name_forms(void **unused) {
    (void)unused;
    ImForm form;
    const char *word;
    assert_true(im_form_of_gguf(14, &form, &word));
    assert_int_equal(form, IM_Q6_K);
    assert_false(im_form_of_gguf(23, &form, &word));
    assert_string_equal(word, "IQ4_XS");
    assert_false(im_form_of_gguf(4, &form, &word)); /* was removed */
    assert_null(word);
}

static int dequantise(const char *word) {
    uint8_t block[256];
    float out[256];
    int form = 0;
    while (form < IM_FORMS && strcmp(im_form((ImForm)form)->word, word) != 0) form++;
    if (form == IM_FORMS) return 2;
    const ImFormInfo *info = im_form((ImForm)form);
    while (fread(block, info->bytes, 1, stdin) == 1) {
        im_form_to_floats((ImForm)form, block, info->weights, out);
        fwrite(out, sizeof *out, info->weights, stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "dequantise") == 0) return dequantise(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_the_floats_of_gguf), cmocka_unit_test(floats_are_copied_and_widened),
        cmocka_unit_test(rows_are_whole_blocks),         cmocka_unit_test(kept_rows_are_the_same_numbers),
        cmocka_unit_test(a_least_q8_becomes_minus_127),  cmocka_unit_test(numbers_of_gguf_name_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
