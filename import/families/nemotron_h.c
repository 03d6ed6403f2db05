/* nemotron_h: one mixer a layer: Mamba-2, attention without positions, an MLP or experts, both of them with the square of ReLU. */
#include <inttypes.h>
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

typedef struct Nemotron {
    ImMamba2 mixer;
    ImAttention attention;
    ImMlp mlp, shared;
    ImMoe moe;
    int64_t latent; /* 0: none */
} Nemotron;

/* The kinds of layers, in a pattern's letters and in words of either version of transformers. */
static const struct {
    char letter;
    const char *words[2], *kind;
} kinds[] = {
    {'M', {"mamba", "linear_attention"}, "ssm"},
    {'*', {"attention", "full_attention"}, "attention"},
    {'-', {"mlp", "mlp"}, "mlp"},
    {'E', {"moe", "moe"}, "mlp"},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* The letters of all layers; "" after an error. */
static const char *pattern_of(ImConfig *c, ImPlan *plan) {
    if (!im_has(c, "layers_block_type")) return im_text(c, "hybrid_override_pattern");
    size_t count, n = 0;
    const cJSON *list = im_list(c, "layers_block_type", &count);
    char *letters = su_alloc(&plan->arena, count + 1);
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next)
        for (int k = 0; k < KINDS; k++)
            for (int w = 0; w < (strcmp(kinds[k].words[0], kinds[k].words[1]) ? 2 : 1); w++)
                if (cJSON_IsString(item) && strcmp(item->valuestring, kinds[k].words[w]) == 0) letters[n++] = kinds[k].letter;
    if (n != count) im_config_error(c, "layers_block_type", "expected mamba, attention, mlp or moe for each layer");
    return n == count ? letters : "";
}

/* ---- what the config says */

static void read_mixer(ImConfig *c, Nemotron *n) {
    n->mixer = (ImMamba2){
        .at = "mixer.", .gated_norm = true, .heads = im_int(c, "mamba_num_heads"), .head_dim = im_int(c, "mamba_head_dim")};
    n->mixer.groups = im_int_or(c, "n_groups", 8);
    n->mixer.state = im_int(c, "ssm_state_size");
    n->mixer.conv = im_int_or(c, "conv_kernel", 4);
    n->mixer.bias = im_bool_or(c, "use_bias", false);
    n->mixer.conv_bias = im_bool_or(c, "use_conv_bias", true);
    n->mixer.activation = im_activation(c, "mamba_hidden_act", false);
    im_limit_of(c, "time_step_limit", n->mixer.limit);
    if (im_bool_or(c, "mamba_proj_bias", n->mixer.bias) != n->mixer.bias)
        im_config_error(c, "mamba_proj_bias", "expected the value of use_bias: the language has one key for both");
    im_ignore(c, "expand"); /* heads say the width */
}

static void read_attention(ImConfig *c, Nemotron *n) {
    n->attention = (ImAttention){.at = "mixer.", .out = "o_proj", .heads = im_int(c, "num_attention_heads")};
    n->attention.kv_heads = im_int_or(c, "num_key_value_heads", n->attention.heads);
    n->attention.head_dim = im_int(c, im_has(c, "head_dim") ? "head_dim" : "attention_head_dim");
    n->attention.window = im_int_or(c, "sliding_window", 0);
    n->attention.bias = im_bool_or(c, "attention_bias", false);
    im_ignore(c, "attention_head_dim rope_theta rope_scaling partial_rotary_factor"); /* nothing turns */
    ImConfig *rope = im_map(c, "rope_parameters");
    if (rope) im_ignore(rope, "rope_theta rope_type partial_rotary_factor");
}

/* Of all shared experts together. transformers takes the key alone for it, whatever n_shared_experts says; others count with that: the tensor of
 * a layer says which it is. */
static int64_t shared_width(ImConfig *c, const ImPlan *plan, const char *pattern) {
    SuArena arena = {0};
    const int64_t width = im_int(c, "moe_shared_expert_intermediate_size"), all = width * im_int_or(c, "n_shared_experts", 1);
    const ImTensor *up = im_source_find(plan->source, su_printf(&arena, "backbone.layers.%d.mixer.shared_experts.up_proj.weight",
                                                                (int)(strchr(pattern, 'E') - pattern)));
    su_arena_free(&arena);
    return up && up->rows == (uint64_t)all ? all : width;
}

static void read_experts(ImConfig *c, ImPlan *plan, const char *pattern, Nemotron *n) {
    char scale[SU_REAL];
    int64_t groups = im_int_or(c, "n_group", 1), top = im_int_or(c, "topk_group", 1);
    n->shared = n->mlp;
    n->shared.at = "shared_experts.";
    n->shared.width = shared_width(c, plan, pattern);
    if (n->mlp.bias) im_config_error(c, "mlp_bias", "expected false: the language has no experts with biases");
    n->moe =
        (ImMoe){.at = "mixer.", .router = "gate", .experts = "experts", .up = "up_proj", .down = "down_proj", .shared = &n->shared};
    n->moe.activation = n->mlp.activation;
    n->moe.count = im_int(c, "n_routed_experts");
    n->moe.top_k = im_int(c, "num_experts_per_tok");
    n->moe.width = im_int(c, "moe_intermediate_size");
    n->moe.normalize = im_bool_or(c, "norm_topk_prob", true);
    n->latent = im_int_or(c, "moe_latent_size", 0);
    if (n->latent) n->moe.expert_keys = su_printf(&plan->arena, ", latent: %" PRId64, n->latent);
    const char *chosen = groups > 1 ? su_printf(&plan->arena, ", groups: {count: %" PRId64 ", top: %" PRId64 "}", groups, top) : "";
    n->moe.router_keys = su_printf(&plan->arena, ", score: sigmoid, select_bias: true, scale: %s%s",
                                   su_real_text(im_real_or(c, "routed_scaling_factor", 1), scale), chosen);
}

static void read_keys(ImConfig *c, ImPlan *plan, const char *pattern, Nemotron *n) {
    read_mixer(c, n);
    read_attention(c, n);
    n->mlp = (ImMlp){.at = "mixer.", .up = "up_proj", .down = "down_proj", .width = im_int(c, "intermediate_size")};
    im_expect_text(c, "mlp_hidden_act", "relu2");
    n->mlp.activation = "relu2";
    n->mlp.bias = im_bool_or(c, "mlp_bias", false);
    if (strchr(pattern, 'E')) read_experts(c, plan, pattern, n);
    im_ignore(c, "n_group topk_group n_shared_experts n_routed_experts num_experts_per_tok norm_topk_prob routed_scaling_factor "
                 "moe_latent_size "
                 "moe_intermediate_size moe_shared_expert_intermediate_size moe_shared_expert_overlap hybrid_override_pattern "
                 "num_nextn_predict_layers mtp_layers_block_type mtp_hybrid_override_pattern rms_norm_eps norm_eps");
}

/* ---- layers */

static void add_experts(ImBlock *block, const Nemotron *n) {
    im_moe(block, &n->moe);
    im_move(block, "router.select_bias", "mixer.gate.e_score_correction_bias");
    if (!n->latent) return;
    im_linear(block, "latent_down_proj", "mixer.fc1_latent_proj", false);
    im_linear(block, "latent_up_proj", "mixer.fc2_latent_proj", false);
}

static void add_layer(ImConfig *c, ImPlan *plan, const Nemotron *n, char letter, int64_t layer) {
    int k = 0;
    while (k < KINDS && kinds[k].letter != letter) k++;
    if (k == KINDS) im_config_error(c, "hybrid_override_pattern", "expected M, *, - or E for each layer, got '%c'", letter);
    if (k == KINDS) return;
    ImBlock *block = im_block(plan, kinds[k].kind, su_printf(&plan->arena, "backbone.layers.%" PRId64 ".", layer), "norm");
    if (letter == 'M')
        im_mamba2(block, &n->mixer);
    else if (letter == '*')
        im_attention(block, &n->attention);
    else if (letter == '-')
        im_mlp(block, &n->mlp);
    else
        add_experts(block, n);
}

void im_nemotron_h(ImConfig *c, ImPlan *plan) {
    im_begin(c, plan, "hidden_size", "layer_norm_epsilon", 1e-5);
    const char *pattern = pattern_of(c, plan);
    Nemotron n = {0};
    read_keys(c, plan, pattern, &n);
    n.moe.shared = &n.shared;
    int64_t layers = (int64_t)strlen(pattern);
    im_same(c, "num_hidden_layers", layers);
    if (layers > 4096) im_config_error(c, "hybrid_override_pattern", "expected at most 4096 layers");
    for (int64_t i = 0; i < layers && i < 4096 && !plan->failed; i++) add_layer(c, plan, &n, pattern[i], i);
    im_drop(plan, "mtp.", "they predict several tokens at once, for training");
    im_finish(c, plan, "backbone.embeddings", "backbone.norm_f");
}
