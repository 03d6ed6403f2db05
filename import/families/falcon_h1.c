/* falcon_h1: both mixers side by side on one norm, and factors everywhere. Those that the language has no key for become part of maps. */
#include <math.h>
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

typedef struct FalconH1 {
    ImMamba2 mixer;
    ImAttention attention;
    ImMlp mlp;
    double ssm_multipliers[5], ssm[2], heads[2], gate, down; /* in and out of each */
} FalconH1;

static FalconH1 falcon_of(ImConfig *c, ImPlan *plan) {
    FalconH1 f = {.mixer = im_mamba2_of(c), .attention = im_attention_of(c), .mlp = im_gated(c, "feed_forward.", "hidden_act")};
    double mlp[] = {1, 1};
    for (int i = 0; i < 5; i++) f.ssm_multipliers[i] = 1;
    if (im_has(c, "ssm_multipliers")) im_reals(c, "ssm_multipliers", 5, f.ssm_multipliers);
    if (im_has(c, "mlp_multipliers")) im_reals(c, "mlp_multipliers", 2, mlp);
    f.gate = mlp[0];
    f.down = mlp[1];
    f.ssm[0] = im_real_or(c, "ssm_in_multiplier", 1);
    f.ssm[1] = im_real_or(c, "ssm_out_multiplier", 1);
    f.heads[0] = im_real_or(c, "attention_in_multiplier", 1);
    f.heads[1] = im_real_or(c, "attention_out_multiplier", 1);
    f.mixer.gated_norm = im_bool_or(c, "mamba_rms_norm", false);
    f.mixer.norm_before_gate = im_bool_or(c, "mamba_norm_before_gate", true);
    if (im_bool_or(c, "projectors_bias", f.mixer.bias) != f.mixer.bias)
        im_config_error(c, "projectors_bias", "expected the value of mamba_proj_bias: the language has one key for both");
    f.attention.rope = im_rope_of(c, plan, f.attention.head_dim, 0, 10000);
    f.attention.bias = im_bool_or(c, "attention_bias", false);
    f.mlp.bias = im_bool_or(c, "mlp_bias", false);
    double key = im_real_or(c, "key_multiplier", 1); /* a score is linear in its key, turned or not */
    if (key != 1) f.attention.scale = key / sqrt((double)f.attention.head_dim);
    im_expect_bool(c, "mamba_use_mlp", true);
    im_ignore(c, "mlp_expansion_factor attn_layer_indices");
    return f;
}

static void falcon_layer(ImPlan *plan, const FalconH1 *f, int64_t layer) {
    ImBlock *both = im_block(plan, "parallel", im_layer_name(plan, layer), "input_layernorm");
    ImBlock *mixer = im_branch(both, "ssm"), *attention = im_branch(both, "attention");
    ImMamba2 m = f->mixer;
    m.multipliers = f->ssm_multipliers;
    im_mamba2(mixer, &m);
    im_key_unless(mixer, "input_scale", f->ssm[0], 1);
    im_key_unless(mixer, "output_scale", f->ssm[1], 1);
    im_attention(attention, &f->attention);
    im_key_unless(attention, "input_scale", f->heads[0], 1);
    im_key_unless(attention, "output_scale", f->heads[1], 1);
    ImBlock *mlp = im_block(plan, "mlp", im_layer_name(plan, layer), "pre_ff_layernorm");
    im_mlp(mlp, &f->mlp);
    im_scale(mlp, "gate_proj.weight", f->gate);
    if (f->mlp.bias) im_scale(mlp, "gate_proj.bias", f->gate);
    im_key_unless(mlp, "output_scale", f->down, 1);
}

void im_falcon_h1(ImConfig *c, ImPlan *plan) {
    char text[SU_REAL];
    im_begin(c, plan, "hidden_size", "rms_norm_eps", 1e-5);
    im_top(plan, "embedding_scale", "%s", su_real_text(im_real_or(c, "embedding_multiplier", 1), text));
    im_top(plan, "logit_scale", "%s", su_real_text(im_real_or(c, "lm_head_multiplier", 1), text));
    const FalconH1 f = falcon_of(c, plan);
    int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) falcon_layer(plan, &f, i);
    im_finish(c, plan, "model.embed_tokens", "model.final_layernorm");
}
