/* fe_spec_load: the fields of a spec, flattening, places, the hash, the printed table of keys. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/frontend/helpers.h"

static void built_in_values(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "stack: [ssm, {mlp: {expand: 4}}, {attention: {n_heads: 4}}]\n");
    const FeSpec *s = &l.spec;
    assert_string_equal(s->name, "t");
    assert_int_equal(s->norm.kind, FE_NORM_RMS);
    assert_true(s->norm.eps == 1e-5 && s->final_norm.eps == 1e-5);
    assert_true(s->tie_embeddings && s->embedding_scale == 1.0 && s->logit_scale == 1.0);
    assert_int_equal(s->weights.dtype, IR_F32);
    assert_int_equal(s->tokenizer.kind, FE_TOKENIZER_BYTES);
    assert_int_equal(s->tokenizer.bos.id, -1);
    assert_int_equal(s->max_positions, 4096);
    const FeBlock *ssm = &s->blocks[0], *a = &s->blocks[2];
    assert_int_equal(V(*ssm, ssm, d_inner)->integer, 128);
    assert_int_equal(V(*ssm, ssm, d_state)->integer, 16);
    assert_int_equal(V(*ssm, ssm, d_conv)->integer, 4);
    assert_int_equal(V(*ssm, ssm, dt_rank)->integer, 4);
    assert_true(V(*ssm, ssm, conv_bias)->integer && !V(*ssm, ssm, bias)->integer);
    assert_true(!V(*ssm, ssm, dt_norm)->integer && !V(*ssm, ssm, b_norm)->integer && !V(*ssm, ssm, c_norm)->integer);
    assert_int_equal(V(*ssm, ssm, activation)->integer, FE_SILU);
    assert_int_equal(s->blocks[0].experts.count, 0);
    assert_int_equal(V(s->blocks[1], mlp, d_ff)->integer, 256);
    assert_int_equal(V(s->blocks[1], mlp, activation)->integer, FE_SWIGLU);
    assert_true(V(*a, attention, n_kv_heads)->integer == 4 && V(*a, attention, head_dim)->integer == 16);
    assert_true(a->window == 0 && !V(*a, attention, rope)->map && !V(*a, attention, bias)->integer);
    unload(&l);
}

static void values_that_follow_from_others(void **state) {
    (void)state;
    Loaded l =
        load_good("mossc: 1\nname: t\nvocab_size: 256\nd_model: 100\nnorm: {kind: layer, eps: 2e-6}\nfinal_norm: {kind: rms}\n"
                  "stack:\n"
                  "  - ssm: {expand: 1.5}\n"
                  "  - ssm: {inner_norm_eps: 1e-3, dt_rank: 3}\n"
                  "  - mlp: {d_ff: 8, experts: {count: 4, shared: 2}}\n"
                  "  - attention: {n_heads: 4, head_dim: 6, n_kv_heads: 2, rope: }\n");
    const FeBlock *b = l.spec.blocks;
    assert_int_equal(l.spec.final_norm.kind, FE_NORM_RMS);
    assert_true(l.spec.final_norm.eps == 2e-6);
    assert_int_equal(V(b[0], ssm, d_inner)->integer, 150);
    assert_int_equal(V(b[0], ssm, dt_rank)->integer, 7); /* ceil(100/16) */
    assert_true(V(b[0], ssm, inner_norm_eps)->real == 2e-6 && V(b[1], ssm, inner_norm_eps)->real == 1e-3);
    assert_int_equal(V(b[1], ssm, dt_rank)->integer, 3);
    assert_int_equal(V(b[2], mlp_experts, shared_d_ff)->integer, 8);
    assert_int_equal(b[2].router.top_k, 2);
    assert_true(V(b[3], attention, rope)->map && V(b[3], rope, dim)->integer == 6 && V(b[3], rope, theta)->real == 10000.0);
    unload(&l);
}

static void experts_of_an_ssm(void **state) {
    (void)state;
    Loaded l = load_good(
        HEAD
        "stack:\n"
        "  - ssm: {experts: {count: 8, per_expert: [out_proj, A, conv], combine: params}}\n"
        "  - ssm:\n"
        "      experts: {count: 8, per_expert: [x_proj, dt_proj, A, D], idle: update}\n"
        "      router: {top_k: 3, score: sigmoid, normalize: false, scale: 2.5, select_bias: true, bias: true, input: inner}\n");
    const FeBlock *b = l.spec.blocks;
    assert_parts(&b[0], "conv|A|out_proj");
    assert_int_equal(V(b[0], ssm_experts, combine)->integer, FE_PARAMS);
    assert_parts(&b[1], "x_proj|dt_proj|A|D");
    assert_int_equal(V(b[1], ssm_experts, combine)->integer, FE_OUTPUTS);
    assert_int_equal(V(b[1], ssm_experts, idle)->integer, FE_UPDATE);
    const FeRouter *r = &b[1].router;
    assert_true(r->top_k == 3 && r->score == FE_SIGMOID && !r->normalize && r->scale == 2.5 && r->select_bias && r->bias);
    assert_int_equal(r->input, FE_ROUTER_INNER);
    unload(&l);
}

static void groups_are_flattened_in_order(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "define: {m: {mlp: {d_ff: 8}}}\n"
                              "stack:\n"
                              "  - ssm\n"
                              "  - repeat: 2\n"
                              "    name: outer\n"
                              "    blocks:\n"
                              "      - m\n"
                              "      - repeat: 2\n"
                              "        blocks: [{name: in, ssm: {d_state: 3}}]\n"
                              "  - m\n");
    static const char *const kinds[] = {"ssm", "mlp", "ssm", "ssm", "mlp", "ssm", "ssm", "mlp"};
    static const unsigned lines[] = {7, 11, 13, 13, 11, 13, 13, 14};
    assert_int_equal(l.spec.n_blocks, 8);
    for (int i = 0; i < 8; i++) {
        assert_string_equal(fe_block_kind_word(l.spec.blocks[i].kind), kinds[i]);
        assert_int_equal(l.spec.blocks[i].span.line, lines[i]);
    }
    assert_string_equal(l.spec.blocks[0].path, "stack[0]");
    assert_string_equal(l.spec.blocks[1].path, "stack[1].blocks[0]");
    assert_string_equal(l.spec.blocks[6].path, "stack[1].blocks[1].blocks[0]");
    assert_string_equal(l.spec.blocks[6].name, "in");
    assert_null(l.spec.blocks[1].name);
    assert_int_equal(V(l.spec.blocks[6], ssm, d_state)->integer, 3);
    unload(&l);
}

/* What holds for a parallel follows from all its branches. */
static void a_parallel_sums_up_its_branches(void **state) {
    (void)state;
    Loaded l =
        load_good(HEAD "max_positions: 99\n"
                       "define: {pair: {parallel: [ssm, {name: left, attention: {n_heads: 4, window: 8}}]}}\n"
                       "stack:\n"
                       "  - pair\n"
                       "  - parallel: [shortconv, {attention: {n_heads: 4, window: 8}}, {attention: {n_heads: 4, window: 16}}]\n");
    const FeBlock *b = l.spec.blocks;
    assert_string_equal(fe_block_word(&b[0]), "parallel");
    assert_int_equal(b[0].n_branches, 2);
    assert_string_equal(b[0].path, "stack[0]");
    assert_string_equal(b[0].branches[1].path, "define.pair.parallel[1]");
    assert_string_equal(b[0].branches[1].name, "left");
    assert_true(b[0].knows_order && b[0].looks_back && b[0].window == 8);
    assert_true(b[0].state_elements == 128 * 16 + 8 * 64);
    assert_true(b[1].window == 16 && b[1].state_elements == 64 * 2 + (8 + 16) * 64);
    assert_int_equal(fe_position_bound(&l.spec), 0);
    const char *set = "stack[1].parallel[2].attention.window=none";
    Loaded all = load_with(l.spec.source->text, &set, 1);
    assert_true(all.ok && all.spec.blocks[1].window == 0);
    assert_int_equal(fe_position_bound(&all.spec), 99);
    unload(&all);
    unload(&l);
}

/* A share is described like the other block, but for where it stands and its ends. */
static void a_share_is_like_the_other_block(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "stack:\n"
                              "  - {name: again, share: {block: moe, out_norm: rms, adapters: {rank: 3, targets: [up_proj]}}}\n"
                              "  - {name: moe, mlp: {d_ff: 8, output_scale: 0.5, experts: {count: 4}, router: {top_k: 3}}}\n");
    const FeBlock *share = &l.spec.blocks[0], *other = &l.spec.blocks[1];
    assert_true(share->share && share->share->of == 1 && share->share->rank == 3 && !share->shared);
    assert_true(other->shared && !other->share);
    assert_true(share->kind == FE_MLP && share->map == other->map);
    assert_true(share->experts.count == 4 && share->router.top_k == 3);
    assert_true(share->output_scale == 1.0 && share->out_norm);
    assert_string_equal(share->name, "again");
    assert_string_equal(share->path, "stack[0]");
    assert_int_equal(share->span.line, 6);
    unload(&l);
}

static void a_block_knows_the_place_of_its_kind(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "stack:\n  - name: a\n    ssm: {d_state: 4}\n  -   ssm\n");
    assert_int_equal(l.spec.blocks[0].span.line, 7);
    assert_int_equal(l.spec.blocks[0].span.column, 5);
    assert_int_equal(l.spec.blocks[0].span.length, 3);
    assert_int_equal(l.spec.blocks[1].span.line, 8);
    assert_int_equal(l.spec.blocks[1].span.column, 7);
    unload(&l);
}

static void a_tokenizer_lies_beside_its_spec(void **state) {
    (void)state;
    static const char text[] = HEAD "tokenizer: {kind: bpe, file: tok/t.json, bos: <s>, eos: 2}\nstack: [ssm]\n";
    FeSpec spec;
    SuDiags diags = {0};
    assert_true(fe_spec_parse("some/where/t.yaml", text, strlen(text), NULL, 0, &spec, &diags));
    assert_int_equal(spec.tokenizer.kind, FE_TOKENIZER_BPE);
    assert_string_equal(spec.tokenizer.file, "some/where/tok/t.json");
    assert_string_equal(spec.tokenizer.bos.text, "<s>");
    assert_int_equal(spec.tokenizer.bos.id, -1);
    assert_int_equal(spec.tokenizer.n_eos, 1);
    assert_int_equal(spec.tokenizer.eos[0].id, 2);
    assert_null(spec.tokenizer.eos[0].text);
    fe_spec_free(&spec);
    assert_true(fe_spec_parse("t.yaml", text, strlen(text), NULL, 0, &spec, &diags));
    assert_string_equal(spec.tokenizer.file, "tok/t.json");
    fe_spec_free(&spec);
    su_diags_free(&diags);
}

static void a_text_may_end_at_several_tokens(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "tokenizer: {kind: bpe, file: /t.json, eos: [2, \"2\", </s>]}\nstack: [ssm]\n");
    Loaded one = load_good(HEAD "tokenizer: {eos: [2]}\nstack: [ssm]\n"),
           bare = load_good(HEAD "tokenizer: {eos: 2}\nstack: [ssm]\n");
    assert_int_equal(l.spec.tokenizer.n_eos, 3);
    assert_int_equal(l.spec.tokenizer.eos[0].id, 2);
    assert_string_equal(l.spec.tokenizer.eos[1].text, "2");
    assert_string_equal(l.spec.tokenizer.eos[2].text, "</s>");
    assert_memory_equal(one.spec.hash, bare.spec.hash, sizeof bare.spec.hash);
    unload(&l);
    unload(&one);
    unload(&bare);
}

static void a_quoted_token_is_a_text(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "tokenizer: {kind: bpe, file: /t.json, bos: \"2\", eos: 'none'}\nstack: [ssm]\n");
    assert_string_equal(l.spec.tokenizer.file, "/t.json");
    assert_string_equal(l.spec.tokenizer.bos.text, "2");
    assert_string_equal(l.spec.tokenizer.eos[0].text, "none");
    unload(&l);
}

static bool same_hash(const char *a, const char *b) {
    Loaded l = load_good(a), m = load_good(b);
    bool same = memcmp(l.spec.hash, m.spec.hash, sizeof l.spec.hash) == 0;
    unload(&l);
    unload(&m);
    return same;
}

static void the_hash_sees_the_model_only(void **state) {
    (void)state;
    static const char base[] = HEAD "stack: [ssm, ssm]\n";
    assert_true(same_hash(
        base, "# c\nname: other\nmossc: 1\nd_model: 64\nvocab_size: 256\nstack:\n  - repeat: 2\n    name: g\n    blocks:\n"
              "      - ssm: {d_state: 16, expand: 2.0, experts: none}\n"));
    assert_true(same_hash(base, HEAD "defaults: {router: {top_k: 5}, mlp: {d_ff: 3}}\nstack: [ssm, ssm]\n"));
    assert_false(same_hash(base, HEAD "stack: [ssm]\n"));
    assert_false(same_hash(base, HEAD "norm: {eps: 1.00001e-5}\nstack: [ssm, ssm]\n"));
    assert_false(same_hash(base, HEAD "stack: [ssm, {ssm: {dt_norm: rms}}]\n"));
    assert_false(same_hash(base, HEAD "weights: {dtype: bf16}\nstack: [ssm, ssm]\n"));
    assert_false(
        same_hash(HEAD "stack: [ssm, {attention: {n_heads: 4}}]\n", HEAD "stack: [ssm, {attention: {n_heads: 4, rope: {}}}]\n"));
}

static void warnings_leave_the_spec_good(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "stack: [{mlp: {d_ff: 8}}]\n");
    assert_int_equal(l.diags.warnings, 1);
    assert_int_equal(l.diags.items[0].severity, SU_WARNING);
    unload(&l);
}

static void diagnostics_come_in_the_order_of_the_file(void **state) {
    (void)state;
    Loaded l = load_text("d_modle: 4\nstack: [sssm]\nname: T\nvocab_size: x\ndefine: {a: 3}\nmossc: 2\n");
    assert_false(l.ok);
    assert_int_equal(l.diags.errors, 6);
    for (size_t i = 0; i < l.diags.count; i++) assert_int_equal(l.diags.items[i].span.line, i + 1);
    unload(&l);
}

static void help_and_schema_list_the_keys(void **state) {
    (void)state;
    SuText keys = {0}, schema = {0};
    fe_print_keys(&keys);
    assert_true(fe_print_schema(&schema));
    for (FeKey key = 0; key < FE_KEY_none; key++) {
        char line[64], property[64];
        snprintf(line, sizeof line, "\n  %s ", fe_key_row(key)->name);
        snprintf(property, sizeof property, "\"%s\":", fe_key_row(key)->name);
        assert_non_null(strstr(keys.text, line));
        assert_non_null(strstr(schema.text, property));
    }
    assert_non_null(strstr(schema.text, "https://json-schema.org/draft/2020-12/schema"));
    su_text_free(&keys);
    su_text_free(&schema);
}

static void words_of_the_enums(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "stack: [ssm, {mlp: {d_ff: 8, activation: geglu_tanh}}, {mlp: {d_ff: 8, activation: relu2}}]\n");
    assert_int_equal(V(l.spec.blocks[1], mlp, activation)->integer, FE_GEGLU_TANH);
    assert_int_equal(V(l.spec.blocks[2], mlp, activation)->integer, FE_RELU2);
    unload(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_values),
        cmocka_unit_test(values_that_follow_from_others),
        cmocka_unit_test(experts_of_an_ssm),
        cmocka_unit_test(groups_are_flattened_in_order),
        cmocka_unit_test(a_parallel_sums_up_its_branches),
        cmocka_unit_test(a_share_is_like_the_other_block),
        cmocka_unit_test(a_block_knows_the_place_of_its_kind),
        cmocka_unit_test(a_tokenizer_lies_beside_its_spec),
        cmocka_unit_test(a_text_may_end_at_several_tokens),
        cmocka_unit_test(a_quoted_token_is_a_text),
        cmocka_unit_test(the_hash_sees_the_model_only),
        cmocka_unit_test(warnings_leave_the_spec_good),
        cmocka_unit_test(diagnostics_come_in_the_order_of_the_file),
        cmocka_unit_test(help_and_schema_list_the_keys),
        cmocka_unit_test(words_of_the_enums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
