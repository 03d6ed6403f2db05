/* Attention and an MLP or experts in turn: llama and its kin. */
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

/* In what they differ. */
typedef struct Traits {
    const char *type;
    double eps; /* of rms_norm_eps, where it is missing */
    bool qkv_bias;       /* of q, k and v, whatever the config says; else attention_bias is that of all four */
    const char *norms;   /* of q and k */
    bool full_norm;
    enum { NO_WINDOW, WINDOW, SOME_WINDOWS } window; /* sliding_window: none, of all layers, of those that other keys name */
    enum { DENSE, BLOCK_SPARSE, SPARSE, SPARSE_ALL } experts; /* mixtral's; qwen's, with dense layers; all layers */
} Traits;

static const Traits kinds[] = {
    {.type = "granite", .eps = 1e-6},
    {.type = "llama", .eps = 1e-6},
    {.type = "mistral", .eps = 1e-6, .window = WINDOW},
    {.type = "mixtral", .eps = 1e-5, .window = WINDOW, .experts = BLOCK_SPARSE},
    {.type = "olmoe", .eps = 1e-5, .norms = "q_norm", .full_norm = true, .experts = SPARSE_ALL},
    {.type = "qwen2", .eps = 1e-6, .qkv_bias = true, .window = SOME_WINDOWS},
    {.type = "qwen2_moe", .eps = 1e-6, .qkv_bias = true, .window = SOME_WINDOWS, .experts = SPARSE},
    {.type = "qwen3", .eps = 1e-6, .norms = "q_norm", .window = SOME_WINDOWS},
    {.type = "qwen3_moe", .eps = 1e-6, .norms = "q_norm", .window = WINDOW, .experts = SPARSE},
};

typedef struct Family {
    ImConfig *c;
    ImPlan *plan;
    const Traits *kind;
    ImAttention attention;
    ImMlp mlp; /* of dense layers */
    ImMlp shared;
    ImMoe moe;
    double output_scale;
    int64_t window, first_window; /* 0: none; the first layer that has one */
    int64_t step; /* every step-th layer has experts */
} Family;

/* ---- what the config says once */

static void read_window(Family *f) {
    f->window = im_int_or(f->c, "sliding_window", 0);
    bool used = im_bool_or(f->c, "use_sliding_window", f->kind->window == WINDOW);
    f->first_window = im_int_or(f->c, "max_window_layers", f->kind->window == SOME_WINDOWS ? 28 : 0);
    if (f->kind->window == WINDOW) f->first_window = 0;
    if (!used || f->kind->window == NO_WINDOW) f->window = 0;
}

static void read_attention(Family *f) {
    ImConfig *c = f->c;
    f->attention = im_attention_of(c);
    ImAttention *a = &f->attention;
    a->rope = im_rope_of(c, f->plan, a->head_dim, 0);
    a->qkv_bias = f->kind->qkv_bias && im_bool_or(c, "qkv_bias", true);
    a->bias = !f->kind->qkv_bias && im_bool_or(c, "attention_bias", false);
    a->norms = f->kind->norms;
    a->full_norm = f->kind->full_norm;
    if (strcmp(f->kind->type, "olmoe") == 0) a->clip = im_real_or(c, "clip_qkv", 0);
    if (f->kind->window != NO_WINDOW) read_window(f);
}

static void read_mlp(Family *f) {
    ImConfig *c = f->c;
    f->mlp = (ImMlp){.at = "mlp.", .gate = "gate_proj", .up = "up_proj", .down = "down_proj"};
    f->mlp.activation = im_activation(c, "hidden_act", true);
    f->mlp.width = im_int(c, "intermediate_size");
    if (f->kind->experts == DENSE) f->mlp.bias = im_bool_or(c, "mlp_bias", false);
}

static void read_experts(Family *f) {
    ImConfig *c = f->c;
    bool mixtral = f->kind->experts == BLOCK_SPARSE, some = f->kind->experts == SPARSE;
    f->moe =
        (ImMoe){.at = "mlp.", .router = "gate", .experts = "experts", .gate = "gate_proj", .up = "up_proj", .down = "down_proj"};
    if (mixtral)
        f->moe = (ImMoe){.at = "block_sparse_moe.", .router = "gate", .experts = "experts", .gate = "w1", .up = "w3", .down = "w2"};
    f->moe.activation = f->mlp.activation;
    f->moe.count = im_int(c, im_has(c, "num_experts") ? "num_experts" : "num_local_experts"); /* 4.x and 5 call it differently */
    f->moe.top_k = im_int(c, "num_experts_per_tok");
    f->moe.width = some ? im_int(c, "moe_intermediate_size") : f->mlp.width;
    f->moe.normalize = mixtral || im_bool_or(c, "norm_topk_prob", false);
    f->step = some ? im_int_or(c, "decoder_sparse_step", 1) : 1;
    if (strcmp(f->kind->type, "qwen2_moe") != 0) return;
    f->shared = f->mlp;
    f->shared.at = "shared_expert.";
    f->shared.width = im_int(c, "shared_expert_intermediate_size");
    f->moe.shared = &f->shared;
    f->moe.shared_gate = true;
}

/* Of granite, where the language's factors are called otherwise. */
static void read_factors(Family *f) {
    char text[SU_REAL];
    im_top(f->plan, "embedding_scale", "%s", su_real_text(im_real_or(f->c, "embedding_multiplier", 1), text));
    im_top(f->plan, "logit_scale", "%s", su_real_text(1 / im_real_or(f->c, "logits_scaling", 1), text));
    f->attention.scale = im_real_or(f->c, "attention_multiplier", 1);
    f->output_scale = im_real_or(f->c, "residual_multiplier", 1);
}

/* ---- layers */

static bool has_experts(Family *f, int64_t layer) {
    size_t count;
    if (f->kind->experts != SPARSE) return f->kind->experts != DENSE;
    const cJSON *dense = im_list(f->c, "mlp_only_layers", &count);
    return !im_is_listed(dense, layer) && f->step > 0 && (layer + 1) % f->step == 0;
}

static int64_t window_of(Family *f, int64_t layer) {
    const char *type = im_layer_type(f->c, "layer_types", layer);
    if (!*type) return layer >= f->first_window ? f->window : 0;
    bool slides = strcmp(type, "sliding_attention") == 0;
    if (!slides && strcmp(type, "full_attention") != 0)
        im_config_error(f->c, "layer_types", "no layer of this family is '%s'", type);
    return slides ? f->window : 0;
}

static void add_layer(Family *f, int64_t layer) {
    const char *from = im_layer_name(f->plan, layer);
    ImAttention a = f->attention;
    a.window = window_of(f, layer);
    ImBlock *attention = im_block(f->plan, "attention", from, "input_layernorm");
    im_attention(attention, &a);
    bool experts = has_experts(f, layer);
    ImBlock *mlp = im_block(f->plan, "mlp", from, "post_attention_layernorm");
    if (experts)
        im_moe(mlp, &f->moe);
    else
        im_mlp(mlp, &f->mlp);
    im_key_unless(attention, "output_scale", f->output_scale, 1);
    im_key_unless(mlp, "output_scale", f->output_scale, 1);
}

static const Traits *kind_of(ImConfig *c) {
    const char *type = im_text(c, "model_type");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].type, type) == 0) return &kinds[i];
    SU_BUG("the family '%s' has no traits", type);
}

void im_transformer(ImConfig *c, ImPlan *plan) {
    Family f = {.c = c, .plan = plan, .kind = kind_of(c), .output_scale = 1};
    im_begin(c, plan, "hidden_size", "rms_norm_eps", f.kind->eps);
    read_attention(&f);
    read_mlp(&f);
    if (f.kind->experts != DENSE) read_experts(&f);
    if (strcmp(f.kind->type, "granite") == 0) read_factors(&f);
    im_expect_bool(c, "rope_interleaved", false); /* this and the next are of SmolLM */
    im_ignore(c, "is_llama_config transformers.js_config");
    int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) add_layer(&f, i);
    im_finish(c, plan, "model.embed_tokens", "model.norm");
}
