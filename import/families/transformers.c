/* Attention and an MLP in turn: llama and its kin. */
#include "import/families/families.h"
#include "import/families/parts.h"

static void layer(ImPlan *plan, const char *from, const ImAttention *attention, const ImMlp *mlp) {
    im_attention(im_block(plan, "attention", from, "input_layernorm"), attention);
    im_mlp(im_block(plan, "mlp", from, "post_attention_layernorm"), mlp);
}

void im_llama(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "rms_norm_eps", 1e-6);
    ImAttention a = im_attention_of(c);
    a.rope = im_rope_of(c, plan, a.head_dim, 0);
    a.window = im_int_or(c, "sliding_window", 0);
    a.bias = im_bool_or(c, "attention_bias", false);
    ImMlp m = {.at = "mlp.", .gate = "gate_proj", .up = "up_proj", .down = "down_proj", .width = im_int(c, "intermediate_size")};
    m.activation = im_activation(c, "hidden_act", true);
    m.bias = im_bool_or(c, "mlp_bias", false);
    int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) layer(plan, su_printf(&plan->arena, "model.layers.%d.", (int)i), &a, &m);
    im_finish(c, plan, "model.embed_tokens", "model.norm");
}
