/* Attention and an MLP or experts in turn: llama and its kin. */
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

/* In what they differ. */
typedef struct Traits {
    const char *type;
    double eps, theta;   /* of rms_norm_eps and rope_theta, where they are missing */
    bool qkv_bias;       /* of q, k and v, whatever the config says; else attention_bias is that of all four */
    const char *norms;   /* of q and k */
    bool full_norm;
    bool clip, factors, shared; /* clip_qkv; granite's factors; a shared expert behind a gate */
    /* sliding_window: none, of all layers, of the last ones (max_window_layers), of those that layer_types names */
    enum { NO_WINDOW, WINDOW, LAST_WINDOWS, NAMED_WINDOWS } window;
    int64_t window_size; /* of sliding_window, where it is missing; null is none */
    bool window_asked;   /* whether use_sliding_window must say that there is one */
    enum { DENSE, BLOCK_SPARSE, SPARSE, SPARSE_ALL } experts; /* mixtral's; qwen's, with dense layers; all layers */
} Traits;

#define ASKED .window_size = 4096, .window_asked = true
static const Traits kinds[] = {
    {.type = "granite", .eps = 1e-6, .theta = 1e4, .factors = true},
    {.type = "llama", .eps = 1e-6, .theta = 1e4},
    {.type = "mistral", .eps = 1e-6, .theta = 1e4, .window = WINDOW, .window_size = 4096},
    {.type = "mixtral", .eps = 1e-5, .theta = 1e6, .window = WINDOW, .experts = BLOCK_SPARSE},
    {.type = "olmoe", .eps = 1e-5, .theta = 1e4, .norms = "q_norm", .full_norm = true, .clip = true, .experts = SPARSE_ALL},
    {.type = "qwen2", .eps = 1e-6, .theta = 1e4, .qkv_bias = true, .window = LAST_WINDOWS, ASKED},
    {.type = "qwen2_moe",
     .eps = 1e-6,
     .theta = 1e4,
     .qkv_bias = true,
     .window = NAMED_WINDOWS,
     ASKED,
     .experts = SPARSE,
     .shared = true},
    {.type = "qwen3", .eps = 1e-6, .theta = 1e4, .norms = "q_norm", .window = LAST_WINDOWS, ASKED},
    {.type = "qwen3_moe", .eps = 1e-6, .theta = 1e4, .norms = "q_norm", .window = WINDOW, ASKED, .experts = SPARSE},
};
#undef ASKED

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
    const Traits *kind = f->kind;
    f->window = im_int_or(f->c, "sliding_window", im_is_null(f->c, "sliding_window") ? 0 : kind->window_size);
    if (!im_bool_or(f->c, "use_sliding_window", !kind->window_asked)) f->window = 0;
    const int64_t first = im_int_or(f->c, "max_window_layers", 28);
    f->first_window = kind->window == WINDOW ? 0 : first;
    if (f->window && kind->window == NAMED_WINDOWS && !im_has(f->c, "layer_types"))
        im_config_error(f->c, "use_sliding_window", "expected layer_types beside it, which say in which layers");
}

static void read_attention(Family *f) {
    ImConfig *c = f->c;
    f->attention = im_attention_of(c);
    ImAttention *a = &f->attention;
    a->rope = im_rope_of(c, f->plan, a->head_dim, 0, f->kind->theta);
    a->qkv_bias = f->kind->qkv_bias && im_bool_or(c, "qkv_bias", true);
    a->bias = !f->kind->qkv_bias && im_bool_or(c, "attention_bias", false);
    a->norms = f->kind->norms;
    a->full_norm = f->kind->full_norm;
    if (f->kind->clip) a->clip = im_real_or(c, "clip_qkv", 0);
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
    if (!f->kind->shared) return;
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
    if (f.kind->factors) read_factors(&f);
    im_expect_bool(c, "rope_interleaved", false); /* this and the next are of SmolLM */
    im_ignore(c, "is_llama_config transformers.js_config");
    int64_t n = im_layers(c, "num_hidden_layers");
    for (int64_t i = 0; i < n && !plan->failed; i++) add_layer(&f, i);
    im_finish(c, plan, "model.embed_tokens", "model.norm");
}
