/* One mixer a layer: mamba, falcon_mamba, mamba2. */
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

void im_mamba_1(ImConfig *c, ImPlan *plan) {
    bool falcon = strcmp(im_text(c, "model_type"), "falcon_mamba") == 0;
    im_begin(c, plan, "hidden_size", "layer_norm_epsilon", 1e-5);
    int64_t hidden = im_int(c, "hidden_size"), rank = (hidden + 15) / 16;
    ImMamba1 m = {.at = "mixer.", .state = im_int_or(c, "state_size", 16), .conv = im_int_or(c, "conv_kernel", 4)};
    const double expand = im_real_or(c, "expand", 2); /* intermediate_size is the one to trust */
    m.inner = im_has(c, "intermediate_size") ? im_int(c, "intermediate_size") : im_floor(c, "expand", expand * (double)hidden);
    m.rank = im_text_is(c, "time_step_rank", "auto") ? rank : im_int_or(c, "time_step_rank", rank);
    m.bias = im_bool_or(c, "use_bias", false);
    m.conv_bias = im_bool_or(c, "use_conv_bias", true);
    m.activation = im_activation(c, "hidden_act", false);
    m.norms = falcon ? IM_PLAIN_INNER_NORMS : IM_NO_INNER_NORMS;
    if (falcon) m.norms_eps = im_real_or(c, "mixer_rms_eps", 1e-6);
    int64_t n = im_layers(c, "num_hidden_layers");
    /* What conversions of mamba_ssm's checkpoints left behind. */
    im_same(c, "d_inner", m.inner);
    im_same(c, "d_model", hidden);
    im_same(c, "n_layer", n);
    im_expect_bool(c, "rms_norm", true);
    im_ignore(c, "fused_add_norm pad_vocab_size_multiple ssm_cfg");
    for (int64_t i = 0; i < n && !plan->failed; i++)
        im_mamba1(im_block(plan, "ssm", su_printf(&plan->arena, "backbone.layers.%d.", (int)i), "norm"), &m);
    im_finish(c, plan, "backbone.embeddings", "backbone.norm_f");
}

void im_mamba_2(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "layer_norm_epsilon", 1e-5);
    ImMamba2 m = {.at = "mixer.", .gated_norm = true, .heads = im_int(c, "num_heads"), .head_dim = im_int(c, "head_dim")};
    m.groups = im_int_or(c, "n_groups", 8);
    m.state = im_int_or(c, "state_size", 128);
    m.conv = im_int_or(c, "conv_kernel", 4);
    m.bias = im_bool_or(c, "use_bias", false);
    m.conv_bias = im_bool_or(c, "use_conv_bias", true);
    m.activation = im_activation(c, "hidden_act", false);
    im_limit_of(c, "time_step_limit", m.limit);
    im_same(c, "intermediate_size", m.heads * m.head_dim);
    im_expect_bool(c, "rms_norm", true);
    /* heads and head_dim say the width; the gate is first whatever norm_before_gate says, which transformers does not read. */
    im_ignore(c, "expand norm_before_gate time_step_rank");
    int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++)
        im_mamba2(im_block(plan, "ssm", su_printf(&plan->arena, "backbone.layers.%d.", (int)i), "norm"), &m);
    im_finish(c, plan, "backbone.embeddings", "backbone.norm_f");
}
