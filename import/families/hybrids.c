/* Mixers of two kinds, each layer with a feed-forward part behind its mixer: jamba, bamba, granitemoehybrid; and granitemoe,
 * which is that without mixers. */
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

/* Item `layer` of a period, counted from its offset. */
static bool is_periodic(int64_t layer, int64_t period, int64_t offset) { return period > 0 && layer % period == offset; }

/* ---- jamba */

static ImMamba1 jamba_mixer(ImConfig *c) {
    int64_t hidden = im_int(c, "hidden_size"), rank = (hidden + 15) / 16;
    ImMamba1 m = {.at = "mamba.",
                  .norms = IM_INNER_NORMS,
                  .state = im_int_or(c, "mamba_d_state", 16),
                  .conv = im_int_or(c, "mamba_d_conv", 4)};
    m.inner = im_int_or(c, "mamba_expand", 2) * hidden;
    m.rank = im_text_is(c, "mamba_dt_rank", "auto") ? rank : im_int_or(c, "mamba_dt_rank", rank);
    m.bias = im_bool_or(c, "mamba_proj_bias", false);
    m.conv_bias = im_bool_or(c, "mamba_conv_bias", true);
    m.activation = im_activation(c, "hidden_act", false);
    im_expect_bool(c, "mamba_inner_layernorms", true);
    return m;
}

void im_jamba(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "rms_norm_eps", 1e-6);
    ImMamba1 mixer = jamba_mixer(c);
    ImAttention attention = im_attention_of(c); /* without positions */
    ImMlp mlp = im_gated(c, "feed_forward.", "hidden_act");
    ImMoe moe = {.at = "feed_forward.", .router = "router", .experts = "experts", .gate = mlp.gate, .up = mlp.up, .down = mlp.down};
    moe.activation = mlp.activation;
    moe.width = mlp.width;
    moe.count = im_int_or(c, "num_experts", 16);
    moe.top_k = im_int_or(c, "num_experts_per_tok", 2);
    attention.window = im_int_or(c, "sliding_window", 0);
    im_ignore(c, "calc_logits_for_entire_prompt n_ctx layers_block_type");
    int64_t n = im_layers(c, "num_hidden_layers"),
            heads[] = {im_int_or(c, "attn_layer_period", 8), im_int_or(c, "attn_layer_offset", 4)};
    int64_t experts[] = {im_int_or(c, "expert_layer_period", 2), im_int_or(c, "expert_layer_offset", 1)};
    for (int64_t i = 0; i < n && !plan->failed; i++) {
        bool looks = is_periodic(i, heads[0], heads[1]);
        ImBlock *block = im_block(plan, looks ? "attention" : "ssm", im_layer_name(plan, i), "input_layernorm");
        if (looks)
            im_attention(block, &attention);
        else
            im_mamba1(block, &mixer);
        ImBlock *feed = im_block(plan, "mlp", im_layer_name(plan, i), "pre_ff_layernorm");
        if (moe.count > 1 && is_periodic(i, experts[0], experts[1]))
            im_moe(feed, &moe);
        else
            im_mlp(feed, &mlp);
    }
    im_finish(c, plan, "model.embed_tokens", "model.final_layernorm");
}

/* ---- bamba */

void im_bamba(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "rms_norm_eps", 1e-5);
    ImMamba2 mixer = im_mamba2_of(c);
    ImAttention attention = im_attention_of(c);
    int64_t turned = im_int_or(c, "attn_rotary_emb", attention.head_dim / 2); /* half of each head, and no key needs to say it */
    ImConfig *rope = im_has(c, "rope_parameters") ? im_map(c, "rope_parameters") : c;
    bool said = im_has(rope, "partial_rotary_factor");
    attention.rope = im_rope_of(c, plan, attention.head_dim, said ? 0 : turned, 10000);
    attention.bias = im_bool_or(c, "attention_bias", false);
    ImMlp mlp = im_gated(c, "feed_forward.", "hidden_act");
    mlp.bias = im_bool_or(c, "mlp_bias", false);
    size_t count;
    const cJSON *heads = im_list(c, "attn_layer_indices", &count);
    im_ignore(c, "layer_types layers_block_type");
    int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) {
        bool looks = im_is_listed(heads, i);
        ImBlock *block = im_block(plan, looks ? "attention" : "ssm", im_layer_name(plan, i), "input_layernorm");
        if (looks)
            im_attention(block, &attention);
        else
            im_mamba2(block, &mixer);
        im_mlp(im_block(plan, "mlp", im_layer_name(plan, i), "pre_ff_layernorm"), &mlp);
    }
    im_finish(c, plan, "model.embed_tokens", "model.final_layernorm");
}

/* ---- granitemoehybrid */

/* Gate and up are halves of one matrix, gate first, of each expert: [.., 2F, D]. GGUF has them apart: NAME.gate and NAME.up. */
static void halves(ImBlock *block, const char *to, const char *at, int64_t experts, int64_t width) {
    ImPlan *plan = block->plan;
    static const char *const ours[] = {"gate_proj.weight", "up_proj.weight"}, *const apart[] = {"gate", "up"};
    const char *names[] = {su_printf(&plan->arena, "%s%s", to, ours[0]), su_printf(&plan->arena, "%s%s", to, ours[1])};
    uint64_t rows = (uint64_t)width;
    const bool joined = plan->source->invents ? plan->source->joins : im_there(plan, "%s%s.weight", block->from, at);
    if (!joined) {
        for (int half = 0; half < 2; half++)
            im_put(block, names[half], im_take(plan, "%s%s.%s.weight", block->from, at, apart[half]));
        return;
    }
    const ImTensor *both = im_take_in(block, at, "weight");
    if (!im_has_rows(plan, both, 2 * rows * (uint64_t)experts)) return;
    for (uint64_t e = 0; e < (uint64_t)experts; e++)
        for (uint64_t half = 0; half < 2; half++) im_put_rows(block, names[half], both, (2 * e + half) * rows, rows);
}

static void granite_mlp(ImConfig *c, ImBlock *block) {
    int64_t count = im_int_or(c, "num_local_experts", 0), width = im_int_or(c, "intermediate_size", 0),
            shared = im_int_or(c, "shared_intermediate_size", 0);
    if (count == 0 && shared == 0) im_config_error(c, "shared_intermediate_size", "expected a width, where there are no experts");
    int64_t top_k = im_int_or(c, "num_experts_per_tok", 0);
    const ImMlp beside = {.width = shared};
    const char *activation = im_activation(c, "hidden_act", true);
    if (count > 0) { /* a softmax of the chosen experts' logits is a softmax of all, normalised */
        const ImMoe moe = {.at = "block_sparse_moe.",
                           .router = "router.layer",
                           .activation = activation,
                           .count = count,
                           .top_k = top_k,
                           .width = width,
                           .normalize = true,
                           .shared = shared > 0 ? &beside : NULL};
        im_moe(block, &moe);
        halves(block, "", "block_sparse_moe.input_linear", count, width);
        im_move(block, "down_proj.weight", "block_sparse_moe.output_linear.weight");
    } else {
        im_mlp(block, &(ImMlp){.activation = activation, .width = shared});
    }
    if (shared == 0) return;
    const char *to = count > 0 ? "shared." : "";
    halves(block, to, "shared_mlp.input_linear", 1, shared);
    im_move(block, su_printf(&block->plan->arena, "%sdown_proj.weight", to), "shared_mlp.output_linear.weight");
}

/* What granite's families have in common. */
typedef struct Granite {
    double scale; /* of what a block adds */
    ImAttention attention;
    const char *turned; /* RoPE, where heads are turned */
} Granite;

static Granite granite_of(ImConfig *c, ImPlan *plan) {
    char text[SU_REAL];
    Granite g = {.attention = im_attention_of(c)};
    im_top(plan, "embedding_scale", "%s", su_real_text(im_real_or(c, "embedding_multiplier", 1), text));
    im_top(plan, "logit_scale", "%s", su_real_text(1 / im_real_or(c, "logits_scaling", 1), text));
    g.scale = im_real_or(c, "residual_multiplier", 1);
    g.attention.scale = im_real_or(c, "attention_multiplier", 1);
    g.attention.bias = im_bool_or(c, "attention_bias", false);
    g.turned = im_rope_of(c, plan, g.attention.head_dim, 0, 10000);
    return g;
}

/* mixer NULL: attention. */
static void granite_layer(ImConfig *c, ImPlan *plan, int64_t layer, const Granite *g, const ImMamba2 *mixer) {
    ImBlock *block = im_block(plan, mixer ? "ssm" : "attention", im_layer_name(plan, layer), "input_layernorm");
    if (mixer)
        im_mamba2(block, mixer);
    else
        im_attention(block, &g->attention);
    im_key_unless(block, "output_scale", g->scale, 1);
    ImBlock *feed = im_block(plan, "mlp", im_layer_name(plan, layer), "post_attention_layernorm");
    granite_mlp(c, feed);
    im_key_unless(feed, "output_scale", g->scale, 1);
}

/* granitemoe and granitemoeshared, whose experts have one beside them. */
void im_granite_moe(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "rms_norm_eps", 1e-6);
    Granite g = granite_of(c, plan);
    g.attention.rope = g.turned;
    const int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) granite_layer(c, plan, i, &g, NULL);
    im_finish(c, plan, "model.embed_tokens", "model.norm");
}

void im_granite_hybrid(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "rms_norm_eps", 1e-6);
    const ImMamba2 mixer = im_mamba2_of(c);
    Granite g = granite_of(c, plan);
    if (im_text_is(c, "position_embedding_type", "rope"))
        g.attention.rope = g.turned;
    else if (im_has(c, "position_embedding_type"))
        im_expect_text(c, "position_embedding_type", "nope");
    im_expect_text(c, "normalization_function", "rmsnorm");
    im_ignore(c, "init_method");
    const int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) {
        const bool looks = im_is_attention(c, "layer_types", im_layer_type(c, "layer_types", i));
        granite_layer(c, plan, i, &g, looks ? NULL : &mixer);
    }
    im_finish(c, plan, "model.embed_tokens", "model.norm");
}
