/* fe_print_spec: what it prints reads back as the same spec, for specs drawn from the whole language and for one that spells out
 * what is rarely said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "frontend/spec.h"
#include "tests/random/draw.h"

enum { DRAWS = 300 };

static void parse_good(const SuText *text, FeSpec *out) {
    SuDiags diags = {0};
    if (!fe_spec_parse("t.yaml", text->text, text->size, NULL, 0, out, &diags)) {
        su_diags_print(&diags, stderr);
        fail();
    }
    su_diags_free(&diags);
}

/* The same hash, and the same text when it is printed again. */
static void check(const SuText *text) {
    FeSpec spec, again;
    SuText printed = {0}, twice = {0};
    parse_good(text, &spec);
    fe_print_spec(&spec, &printed);
    parse_good(&printed, &again);
    fe_print_spec(&again, &twice);
    assert_memory_equal(spec.hash, again.hash, sizeof spec.hash);
    assert_string_equal(printed.text, twice.text);
    assert_string_equal(spec.name, again.name);
    su_text_free(&printed);
    su_text_free(&twice);
    fe_spec_free(&spec);
    fe_spec_free(&again);
}

static void drawn_specs_read_back(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        SuText text = {0};
        draw_spec(seed, DRAW_FLOATS, &text);
        check(&text);
        su_text_free(&text);
    }
}

static void what_is_rare_reads_back(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(
        &text, "mossc: 1\nname: 7.b\nvocab_size: 300\nd_model: 30\nembedding_scale: 0.1\nlogit_scale: 3e-7\nweights: {dtype: f16}\n"
               "norm: {eps: 1.00000011920929e-06}\nfinal_norm: {kind: layer}\ntie_embeddings: false\nmax_positions: 77\n"
               "tokenizer: {kind: bpe, file: \"a b\\\\c.json\", bos: \"<\\\"s\\t>\", eos: 5}\n"
               "stack:\n  - name: first\n    repeat: 2\n    blocks:\n"
               "      - attention: {n_heads: 3, head_dim: 10, window: 9, rope: {theta: 123456.789, dim: 4}}\n"
               "      - mlp: {d_ff: 8, experts: {count: 4, shared: 1}}\n"
               "  - ssm: {expand: 1.5, experts: {count: 3, per_expert: [D, conv, A], combine: params}}\n");
    check(&text);
    su_text_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(drawn_specs_read_back), cmocka_unit_test(what_is_rare_reads_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
