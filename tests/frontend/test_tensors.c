/* fe_tensors: the Weights table, counting, and how fresh weights are drawn. */
#include <math.h>
#include <stdio.h>

#include "tests/frontend/helpers.h"

/* "name [2, 3]" a line. */
static char *listed(SuArena *arena, FeSpec *spec) {
    size_t count;
    const FeTensor *t = fe_tensors(spec, &count);
    char *text = su_strdup(arena, "");
    for (size_t i = 0; i < count; i++) {
        text = su_printf(arena, "%s%s [", text, t[i].name);
        for (int j = 0; j < t[i].rank; j++) text = su_printf(arena, "%s%s%lld", text, j ? ", " : "", (long long)t[i].shape[j]);
        text = su_printf(arena, "%s]\n", text);
    }
    return text;
}

static void assert_listed(const char *spec_text, const char *expected) {
    Loaded l = load_good(spec_text);
    SuArena arena = {0};
    assert_string_equal(listed(&arena, &l.spec), expected);
    su_arena_free(&arena);
    unload(&l);
}

#define SMALL "mossc: 1\nname: t\nvocab_size: 10\nd_model: 4\n"

static void names_and_shapes_of_an_ssm(void **state) {
    (void)state;
    assert_listed(
        SMALL "tie_embeddings: false\nstack: [{ssm: {d_inner: 6, d_state: 3, d_conv: 2, dt_rank: 5, bias: true, dt_norm: rms, "
              "b_norm: rms, c_norm: rms}}]\n",
        "embed.weight [10, 4]\nfinal_norm.weight [4]\nhead.weight [10, 4]\nblocks.0.norm.weight [4]\n"
        "blocks.0.in_proj.weight [6, 4]\nblocks.0.in_proj.bias [6]\nblocks.0.gate_proj.weight [6, 4]\nblocks.0.gate_proj.bias [6]\n"
        "blocks.0.conv.weight [6, 2]\nblocks.0.conv.bias [6]\nblocks.0.x_proj.weight [11, 6]\n"
        "blocks.0.dt_proj.weight [6, 5]\nblocks.0.dt_proj.bias [6]\n"
        "blocks.0.dt_norm.weight [5]\nblocks.0.b_norm.weight [3]\nblocks.0.c_norm.weight [3]\n"
        "blocks.0.A_log [6, 3]\nblocks.0.D [6]\nblocks.0.out_proj.weight [4, 6]\nblocks.0.out_proj.bias [4]\n");
}

static void per_expert_parts_have_a_leading_dimension(void **state) {
    (void)state;
    assert_listed(
        SMALL
        "norm: {kind: layer}\nfinal_norm: {kind: rms}\n"
        "stack:\n"
        "  - ssm:\n"
        "      {d_inner: 6, d_state: 3, dt_rank: 5, conv_bias: false, bias: true,\n"
        "       experts: {count: 7, combine: params, per_expert: [in_proj, gate_proj, conv, x_proj, dt_proj, A, D, out_proj]},\n"
        "       router: {bias: true, select_bias: true}}\n"
        "  - ssm: {d_inner: 6, d_state: 3, dt_rank: 5, experts: {count: 7, per_expert: [dt_proj, A]}, router: {input: inner}}\n",
        "embed.weight [10, 4]\nfinal_norm.weight [4]\nblocks.0.norm.weight [4]\nblocks.0.norm.bias [4]\n"
        "blocks.0.router.weight [7, 4]\nblocks.0.router.bias [7]\nblocks.0.router.select_bias [7]\n"
        "blocks.0.in_proj.weight [7, 6, 4]\nblocks.0.in_proj.bias [7, 6]\n"
        "blocks.0.gate_proj.weight [7, 6, 4]\nblocks.0.gate_proj.bias [7, 6]\n"
        "blocks.0.conv.weight [7, 6, 4]\nblocks.0.x_proj.weight [7, 11, 6]\n"
        "blocks.0.dt_proj.weight [7, 6, 5]\nblocks.0.dt_proj.bias [7, 6]\n"
        "blocks.0.A_log [7, 6, 3]\nblocks.0.D [7, 6]\nblocks.0.out_proj.weight [7, 4, 6]\nblocks.0.out_proj.bias [7, 4]\n"
        "blocks.1.norm.weight [4]\nblocks.1.norm.bias [4]\nblocks.1.router.weight [7, 6]\n"
        "blocks.1.in_proj.weight [6, 4]\nblocks.1.gate_proj.weight [6, 4]\n"
        "blocks.1.conv.weight [6, 4]\nblocks.1.conv.bias [6]\nblocks.1.x_proj.weight [11, 6]\n"
        "blocks.1.dt_proj.weight [7, 6, 5]\nblocks.1.dt_proj.bias [7, 6]\n"
        "blocks.1.A_log [7, 6, 3]\nblocks.1.D [6]\nblocks.1.out_proj.weight [4, 6]\n");
}

static void names_and_shapes_of_an_mlp(void **state) {
    (void)state;
    assert_listed(
        SMALL "stack:\n"
              "  - mlp: {d_ff: 6, activation: gelu, bias: true}\n"
              "  - mlp: {d_ff: 6, bias: true, experts: {count: 3, shared: 2, shared_d_ff: 5}}\n",
        "embed.weight [10, 4]\nfinal_norm.weight [4]\nblocks.0.norm.weight [4]\n"
        "blocks.0.up_proj.weight [6, 4]\nblocks.0.up_proj.bias [6]\nblocks.0.down_proj.weight [4, 6]\nblocks.0.down_proj.bias [4]\n"
        "blocks.1.norm.weight [4]\nblocks.1.router.weight [3, 4]\n"
        "blocks.1.gate_proj.weight [3, 6, 4]\nblocks.1.gate_proj.bias [3, 6]\nblocks.1.up_proj.weight [3, 6, "
        "4]\nblocks.1.up_proj.bias [3, 6]\n"
        "blocks.1.down_proj.weight [3, 4, 6]\nblocks.1.down_proj.bias [3, 4]\n"
        "blocks.1.shared.gate_proj.weight [2, 5, 4]\nblocks.1.shared.gate_proj.bias [2, 5]\n"
        "blocks.1.shared.up_proj.weight [2, 5, 4]\nblocks.1.shared.up_proj.bias [2, 5]\n"
        "blocks.1.shared.down_proj.weight [2, 4, 5]\nblocks.1.shared.down_proj.bias [2, 4]\n");
}

static void names_and_shapes_of_attention(void **state) {
    (void)state;
    assert_listed(
        SMALL "norm: {kind: layer}\nstack: [{attention: {n_heads: 6, n_kv_heads: 2, head_dim: 5, bias: true}}]\n",
        "embed.weight [10, 4]\nfinal_norm.weight [4]\nfinal_norm.bias [4]\nblocks.0.norm.weight [4]\nblocks.0.norm.bias [4]\n"
        "blocks.0.q_proj.weight [30, 4]\nblocks.0.q_proj.bias [30]\nblocks.0.k_proj.weight [10, 4]\nblocks.0.k_proj.bias [10]\n"
        "blocks.0.v_proj.weight [10, 4]\nblocks.0.v_proj.bias [10]\nblocks.0.o_proj.weight [4, 30]\nblocks.0.o_proj.bias [4]\n");
}

static void names_and_shapes_of_a_shortconv(void **state) {
    (void)state;
    assert_listed(
        SMALL "stack: [shortconv, {shortconv: {d_inner: 6, d_conv: 1, bias: true, conv_bias: true}}]\n",
        "embed.weight [10, 4]\nfinal_norm.weight [4]\nblocks.0.norm.weight [4]\n"
        "blocks.0.b_proj.weight [4, 4]\nblocks.0.c_proj.weight [4, 4]\nblocks.0.in_proj.weight [4, 4]\n"
        "blocks.0.conv.weight [4, 3]\nblocks.0.out_proj.weight [4, 4]\nblocks.1.norm.weight [4]\n"
        "blocks.1.b_proj.weight [6, 4]\nblocks.1.b_proj.bias [6]\nblocks.1.c_proj.weight [6, 4]\nblocks.1.c_proj.bias [6]\n"
        "blocks.1.in_proj.weight [6, 4]\nblocks.1.in_proj.bias [6]\n"
        "blocks.1.conv.weight [6, 1]\nblocks.1.conv.bias [6]\nblocks.1.out_proj.weight [4, 6]\nblocks.1.out_proj.bias [4]\n");
}

/* The norm behind a block is its last tensor. */
static void an_out_norm_is_one_more_vector(void **state) {
    (void)state;
    assert_listed(SMALL "norm: {kind: layer}\nfinal_norm: {kind: rms}\ndefaults: {mlp: {out_norm: rms, d_ff: 6}}\n"
                        "stack: [{mlp: {activation: gelu}}, {mlp: {activation: gelu, out_norm: none, output_scale: 0.5}}]\n",
                  "embed.weight [10, 4]\nfinal_norm.weight [4]\n"
                  "blocks.0.norm.weight [4]\nblocks.0.norm.bias [4]\nblocks.0.up_proj.weight [6, 4]\n"
                  "blocks.0.down_proj.weight [4, 6]\nblocks.0.out_norm.weight [4]\n"
                  "blocks.1.norm.weight [4]\nblocks.1.norm.bias [4]\nblocks.1.up_proj.weight [6, 4]\n"
                  "blocks.1.down_proj.weight [4, 6]\n");
}

static void branches_have_names_of_their_own(void **state) {
    (void)state;
    assert_listed(SMALL "define: {both: {parallel: [{mlp: {d_ff: 6, activation: gelu, out_norm: rms}}, "
                        "{name: b, mlp: {d_ff: 5, activation: gelu}}]}}\nstack: [both]\n",
                  "embed.weight [10, 4]\nfinal_norm.weight [4]\nblocks.0.norm.weight [4]\n"
                  "blocks.0.branches.0.up_proj.weight [6, 4]\nblocks.0.branches.0.down_proj.weight [4, 6]\n"
                  "blocks.0.branches.0.out_norm.weight [4]\n"
                  "blocks.0.branches.1.up_proj.weight [5, 4]\nblocks.0.branches.1.down_proj.weight [4, 5]\n");
}

/* A norm before it, what it owns, adapters with planes where the map has some, and its norm behind. */
static void a_share_has_little_of_its_own(void **state) {
    (void)state;
    assert_listed(SMALL "stack:\n"
                        "  - share: {block: ffn, out_norm: rms, own: [router, biases],\n"
                        "            adapters: {rank: 2, targets: [up_proj, shared_down_proj]}}\n"
                        "  - name: ffn\n"
                        "    mlp: {d_ff: 6, activation: gelu, bias: true, experts: {count: 3, shared: 2, shared_d_ff: 5}}\n"
                        "  - share: {block: ffn}\n",
                  "embed.weight [10, 4]\nfinal_norm.weight [4]\nblocks.0.norm.weight [4]\nblocks.0.router.weight [3, 4]\n"
                  "blocks.0.up_proj.bias [3, 6]\nblocks.0.down_proj.bias [3, 4]\n"
                  "blocks.0.shared.up_proj.bias [2, 5]\nblocks.0.shared.down_proj.bias [2, 4]\n"
                  "blocks.0.adapters.up_proj.A [3, 2, 4]\nblocks.0.adapters.up_proj.B [3, 6, 2]\n"
                  "blocks.0.adapters.shared_down_proj.A [2, 2, 5]\nblocks.0.adapters.shared_down_proj.B [2, 4, 2]\n"
                  "blocks.0.out_norm.weight [4]\n"
                  "blocks.1.norm.weight [4]\nblocks.1.router.weight [3, 4]\n"
                  "blocks.1.up_proj.weight [3, 6, 4]\nblocks.1.up_proj.bias [3, 6]\n"
                  "blocks.1.down_proj.weight [3, 4, 6]\nblocks.1.down_proj.bias [3, 4]\n"
                  "blocks.1.shared.up_proj.weight [2, 5, 4]\nblocks.1.shared.up_proj.bias [2, 5]\n"
                  "blocks.1.shared.down_proj.weight [2, 4, 5]\nblocks.1.shared.down_proj.bias [2, 4]\nblocks.2.norm.weight [4]\n");
}

static void count(const char *text, int64_t *out_total, int64_t *out_active) {
    Loaded l = load_good(text);
    size_t n;
    const FeTensor *t = fe_tensors(&l.spec, &n);
    *out_total = *out_active = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t elements = 1;
        for (int j = 0; j < t[i].rank; j++) elements *= t[i].shape[j];
        *out_total += elements;
        *out_active += t[i].active;
    }
    unload(&l);
}

static void shared_weights_count_once(void **state) {
    (void)state;
    int64_t alone, once, active;
    count(SMALL "stack: [{name: a, mlp: {d_ff: 6, experts: {count: 8}, router: {top_k: 3}}}]\n", &alone, &active);
    count(SMALL "stack: [{name: a, mlp: {d_ff: 6, experts: {count: 8}, router: {top_k: 3}}},"
                " {share: {block: a, adapters: {rank: 2, targets: [up_proj]}}}]\n",
          &once, &active);
    assert_int_equal(once - alone, 4 + 8 * 2 * (4 + 6));                        /* a norm, eight adapters */
    assert_int_equal(once - active, (8 - 3) * (3 * 6 * 4) + (8 - 3) * 2 * (4 + 6)); /* of idle experts */
}

static void mamba_130m_has_its_published_size(void **state) {
    (void)state;
    int64_t total, active;
    count("mossc: 1\nname: m\nvocab_size: 50280\nd_model: 768\nstack: [{repeat: 24, blocks: [ssm]}]\n", &total, &active);
    assert_int_equal(total, 129135360); /* state-spaces/mamba-130m-hf */
    assert_int_equal(active, total);
}

static void idle_experts_are_not_active(void **state) {
    (void)state;
    int64_t total, active, all;
    count(SMALL "stack: [{mlp: {d_ff: 6, experts: {count: 8, shared: 1}, router: {top_k: 3}}}, ssm]\n", &total, &active);
    assert_int_equal(total - active, (8 - 3) * 3 * 6 * 4);
    count(SMALL "stack: [{ssm: {d_inner: 6, d_state: 3, dt_rank: 2, experts: {count: 8, per_expert: [x_proj, A]}}}]\n", &total,
          &active);
    assert_int_equal(total - active, (8 - 2) * (8 * 6 + 6 * 3));
    count(SMALL
          "stack: [{ssm: {d_inner: 6, d_state: 3, dt_rank: 2, experts: {count: 8, per_expert: [x_proj, A], idle: update}}}]\n",
          &total, &all);
    assert_int_equal(total, all);
    count(SMALL "stack: [{ssm: {d_inner: 6, experts: {count: 8, per_expert: [in_proj], combine: params}}}]\n", &total, &active);
    assert_int_equal(total - active, (8 - 2) * 6 * 4);
}

static void an_untied_embedding_counts_one_row(void **state) {
    (void)state;
    int64_t total, active;
    count(SMALL "tie_embeddings: false\nstack: [ssm]\n", &total, &active);
    assert_int_equal(total - active, 9 * 4);
}

static const FeTensor *find(const FeTensor *t, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0) return &t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void fresh_weights_follow_mamba_ssm(void **state) {
    (void)state;
    Loaded l = load_good(
        SMALL
        "weights: {dtype: bf16}\ntie_embeddings: false\nstack:\n"
        "  - ssm: {d_inner: 6, d_conv: 3, dt_rank: 5, bias: true, experts: {count: 2, per_expert: [A]}, router: {bias: true}}\n"
        "  - mlp: {d_ff: 9, bias: true, experts: {count: 2, shared: 1, shared_d_ff: 7}}\n"
        "  - attention: {n_heads: 2}\n  - ssm\n");
    static const struct {
        const char *name;
        enum FeInit init;
        int64_t fan;
        bool deep, narrow;
    } rows[] = {
        {"embed.weight", FE_INIT_NORMAL, 0, false, true},
        {"head.weight", FE_INIT_NORMAL, 0, false, true},
        {"final_norm.weight", FE_INIT_ONES, 0, false, false},
        {"blocks.0.router.weight", FE_INIT_NORMAL, 0, false, false},
        {"blocks.0.router.bias", FE_INIT_ZEROS, 0, false, false},
        {"blocks.0.in_proj.weight", FE_INIT_UNIFORM_FAN, 4, false, true},
        {"blocks.0.in_proj.bias", FE_INIT_ZEROS, 0, false, false},
        {"blocks.0.conv.weight", FE_INIT_UNIFORM_FAN, 3, false, false},
        {"blocks.0.conv.bias", FE_INIT_UNIFORM_FAN, 3, false, false},
        {"blocks.0.x_proj.weight", FE_INIT_UNIFORM_FAN, 6, false, true},
        {"blocks.0.dt_proj.weight", FE_INIT_UNIFORM_FAN, 5, false, true},
        {"blocks.0.dt_proj.bias", FE_INIT_DT_BIAS, 0, false, false},
        {"blocks.0.A_log", FE_INIT_A_LOG, 0, false, false},
        {"blocks.0.D", FE_INIT_ONES, 0, false, false},
        {"blocks.0.out_proj.weight", FE_INIT_UNIFORM_FAN, 6, true, true},
        {"blocks.0.out_proj.bias", FE_INIT_ZEROS, 0, false, false},
        {"blocks.1.up_proj.weight", FE_INIT_UNIFORM_FAN, 4, false, true},
        {"blocks.1.down_proj.weight", FE_INIT_UNIFORM_FAN, 9, true, true},
        {"blocks.1.shared.up_proj.weight", FE_INIT_UNIFORM_FAN, 4, false, true},
        {"blocks.1.shared.down_proj.weight", FE_INIT_UNIFORM_FAN, 7, true, true},
        {"blocks.1.shared.down_proj.bias", FE_INIT_ZEROS, 0, false, false},
        {"blocks.2.q_proj.weight", FE_INIT_UNIFORM_FAN, 4, false, true},
        {"blocks.2.o_proj.weight", FE_INIT_UNIFORM_FAN, 4, true, true},
    };
    size_t n;
    const FeTensor *t = fe_tensors(&l.spec, &n);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const FeTensor *found = find(t, n, rows[i].name);
        assert_int_equal(found->init, rows[i].init);
        assert_int_equal(found->fan, rows[i].fan);
        assert_int_equal(found->dtype, rows[i].narrow ? IR_BF16 : IR_F32);
        assert_true(found->init_scale == (rows[i].deep ? 0.5 : 1.0)); /* four blocks */
    }
    unload(&l);
}

static void tensors_know_their_block_and_line(void **state) {
    (void)state;
    Loaded l = load_good(SMALL "final_norm: {kind: layer}\nstack:\n  - ssm\n  - mlp: {d_ff: 8, experts: {count: 2}}\n");
    size_t n;
    const FeTensor *t = fe_tensors(&l.spec, &n);
    assert_int_equal(find(t, n, "embed.weight")->block, -1);
    assert_int_equal(find(t, n, "embed.weight")->span.line, 3);
    assert_int_equal(find(t, n, "final_norm.bias")->span.line, 5);
    assert_int_equal(find(t, n, "blocks.1.up_proj.weight")->block, 1);
    assert_int_equal(find(t, n, "blocks.1.up_proj.weight")->span.line, 8);
    assert_true(find(t, n, "blocks.1.up_proj.weight")->per_expert);
    assert_false(find(t, n, "blocks.1.router.weight")->per_expert);
    unload(&l);
}

/* "in_proj q4" a line, of the tensors whose dtype the spec chooses and of those that are neither that nor float32. */
static void assert_stored(const char *spec_text, const char *expected) {
    Loaded l = load_good(spec_text);
    SuText text = {0};
    size_t count;
    const FeTensor *t = fe_tensors(&l.spec, &count);
    for (size_t i = 0; i < count; i++)
        if (t[i].map || t[i].dtype != IR_F32)
            su_text_add(&text, "%s %s\n", t[i].map ? t[i].map : t[i].name, ir_dtype_word(t[i].dtype));
    assert_string_equal(text.text, expected);
    su_text_free(&text);
    unload(&l);
}

static void dtypes_of_q8_and_q4(void **state) {
    (void)state;
    assert_stored(SMALL "tie_embeddings: false\nweights: {dtype: q8}\nstack: [ssm]\n",
                  "embed q8\nhead q8\nin_proj q8\ngate_proj q8\nx_proj q8\ndt_proj bf16\nout_proj q8\n");
    assert_stored(
        SMALL "weights: {dtype: q4}\nstack: [ssm, {ssm: {kind: mamba2, head_dim: 1}}, {ssm: {kind: mamba3, head_dim: 1}}]\n",
        "embed q8\nin_proj q4\ngate_proj q4\nx_proj q8\ndt_proj bf16\nout_proj q4\n"
        "in_proj q4\ngate_proj q4\nbc_proj q8\ndt_proj bf16\nout_proj q4\n"
        "in_proj q4\ngate_proj q4\nbc_proj q8\ndt_proj bf16\na_proj bf16\ntrap_proj bf16\nangle_proj bf16\nout_proj q4\n");
    assert_stored(SMALL "weights: {dtype: q4}\nstack: [{attention: {n_heads: 2}}, shortconv]\n",
                  "embed q8\nq_proj q4\nk_proj q4\nv_proj q4\no_proj q4\nb_proj q4\nc_proj q4\nin_proj q4\nout_proj q4\n");
}

static void overrides_go_by_name(void **state) {
    (void)state;
    assert_stored(SMALL "weights: {dtype: bf16, overrides: {embed: f32, up_proj: q8, shared_up_proj: q4}}\n"
                        "stack: [{parallel: [{mlp: {d_ff: 2, activation: gelu, experts: {count: 2, shared: 1}}}, "
                        "{mlp: {d_ff: 2, activation: gelu}}]}]\n",
                  "embed f32\nup_proj q8\ndown_proj bf16\nshared_up_proj q4\nshared_down_proj bf16\nup_proj q8\ndown_proj bf16\n");
}

static void adapters_are_never_blocks(void **state) {
    (void)state;
#define SHARED                                                                                                                     \
    "stack: [{name: a, mlp: {d_ff: 2, activation: gelu}}, {share: {block: a, adapters: {rank: 1, targets: [up_proj]}}}]\n"
    assert_stored(SMALL "weights: {dtype: q4, overrides: {up_proj: f32}}\n" SHARED,
                  "embed q8\nup_proj f32\ndown_proj q4\nblocks.1.adapters.up_proj.A bf16\nblocks.1.adapters.up_proj.B bf16\n");
    assert_stored(SMALL "weights: {dtype: f16, overrides: {up_proj: q4}}\n" SHARED,
                  "embed f16\nup_proj q4\ndown_proj f16\nblocks.1.adapters.up_proj.A f16\nblocks.1.adapters.up_proj.B f16\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_shapes_of_an_ssm),
        cmocka_unit_test(per_expert_parts_have_a_leading_dimension),
        cmocka_unit_test(names_and_shapes_of_an_mlp),
        cmocka_unit_test(names_and_shapes_of_attention),
        cmocka_unit_test(names_and_shapes_of_a_shortconv),
        cmocka_unit_test(branches_have_names_of_their_own),
        cmocka_unit_test(a_share_has_little_of_its_own),
        cmocka_unit_test(shared_weights_count_once),
        cmocka_unit_test(an_out_norm_is_one_more_vector),
        cmocka_unit_test(mamba_130m_has_its_published_size),
        cmocka_unit_test(idle_experts_are_not_active),
        cmocka_unit_test(an_untied_embedding_counts_one_row),
        cmocka_unit_test(fresh_weights_follow_mamba_ssm),
        cmocka_unit_test(tensors_know_their_block_and_line),
        cmocka_unit_test(dtypes_of_q8_and_q4),
        cmocka_unit_test(overrides_go_by_name),
        cmocka_unit_test(adapters_are_never_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
