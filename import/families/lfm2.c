/* lfm2: short convolutions between gates, and attention. */
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

/* in_proj's rows are B, C, x. */
static void shortconv(ImBlock *block, int64_t hidden, int64_t width, bool bias) {
    static const char *const ours[] = {"b_proj", "c_proj", "in_proj"}, *const parts[] = {"weight", "bias"};
    im_key(block, "d_conv", "%d", (int)width);
    im_key_flag(block, "bias", bias);
    im_key_flag(block, "conv_bias", bias);
    for (int p = 0; p < (bias ? 2 : 1); p++) {
        const ImTensor *in = im_take_in(block, "conv.in_proj", parts[p]);
        if (!im_has_rows(block->plan, in, 3 * (uint64_t)hidden)) continue;
        for (uint64_t i = 0; i < 3; i++)
            im_put_rows(block, su_printf(&block->plan->arena, "%s.%s", ours[i], parts[p]), in, i * (uint64_t)hidden,
                        (uint64_t)hidden);
    }
    im_linear(block, "conv", "conv.conv", bias);
    im_linear(block, "out_proj", "conv.out_proj", bias);
}

static int64_t lfm2_width(ImConfig *c) {
    int64_t width = im_int(c, im_has(c, "block_ff_dim") ? "block_ff_dim" : "intermediate_size"),
            multiple = im_int_or(c, "block_multiple_of", 256);
    double factor = im_real_or(c, "block_ffn_dim_multiplier", 1);
    im_ignore(c, "intermediate_size");
    if (!im_bool_or(c, "block_auto_adjust_ff_dim", true)) return width;
    width = im_floor(c, "block_ffn_dim_multiplier", factor * (double)(2 * width / 3));
    return multiple > 0 ? (width + multiple - 1) / multiple * multiple : width;
}

void im_lfm2(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "norm_eps", 1e-5);
    int64_t hidden = im_int(c, "hidden_size"), conv = im_int_or(c, "conv_L_cache", 3), n = im_layers(c, "num_hidden_layers");
    bool bias = im_bool_or(c, "conv_bias", false);
    ImAttention attention = im_attention_of(c);
    const double theta =
        im_real_or(c, "theta", 1e6); /* of the first configs, which have it in the place of rope_theta, or beside it */
    if (im_has(c, "theta") && im_real_or(c, "rope_theta", theta) != theta)
        im_config_error(c, "theta", "expected that of rope_theta");
    attention.rope = im_rope_of(c, plan, attention.head_dim, 0, theta);
    attention.out = "out_proj";
    attention.norms = "q_layernorm";
    const ImMlp mlp = {
        .at = "feed_forward.", .gate = "w1", .up = "w3", .down = "w2", .activation = "swiglu", .width = lfm2_width(c)};
    im_same(c, "block_dim", hidden);
    im_same(c, "conv_dim", hidden);
    im_same(c, "conv_dim_out", hidden);
    im_same(c, "num_heads", attention.heads);
    im_expect_bool(c, "block_use_swiglu", true);
    im_expect_bool(c, "use_pos_enc", true);
    im_ignore(c, "block_mlp_init_scale block_norm_eps block_out_init_scale block_use_xavier_init conv_use_xavier_init");
    size_t count;
    const cJSON *heads = im_list(c, "full_attn_idxs", &count);
    for (int64_t i = 0; i < n && !plan->failed; i++) {
        const char *type = im_layer_type(c, "layer_types", i);
        bool looks = *type ? im_is_attention(c, "layer_types", type) : im_is_listed(heads, i);
        ImBlock *block = im_block(plan, looks ? "attention" : "shortconv", im_layer_name(plan, i), "operator_norm");
        if (looks)
            im_attention(block, &attention);
        else
            shortconv(block, hidden, conv, bias);
        im_mlp(im_block(plan, "mlp", im_layer_name(plan, i), "ffn_norm"), &mlp);
    }
    im_ends(plan, &(ImEnds){.embed = "model.embed_tokens",
                            .norm = "model.embedding_norm",
                            .head = "lm_head",
                            .multiple = 256,
                            .tied = im_tied(c, im_has(c, "tie_embedding") ? "tie_embedding" : "tie_word_embeddings"),
                            .vocab_size = im_int(c, "vocab_size")});
}
