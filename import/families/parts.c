#include "import/families/parts.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MOST_LAYERS = 4096, PADDING = 256 };

/* ---- the top level */

void im_begin(ImConfig *c, ImPlan *plan, const char *hidden_size, const char *eps_key, double eps) {
    char text[SU_REAL];
    im_top(plan, "d_model", "%" PRId64, im_int(c, hidden_size));
    im_top(plan, "norm", "{kind: rms, eps: %s}", su_real_text(im_real_or(c, eps_key, eps), text));
    int64_t positions = im_int_or(c, "max_position_embeddings", 0);
    if (positions) im_top(plan, "max_positions", "%" PRId64, positions);
}

int64_t im_layers(ImConfig *c, const char *key) {
    int64_t n = im_int(c, key);
    if (n > MOST_LAYERS) im_config_error(c, key, "expected at most %d", MOST_LAYERS);
    return n > MOST_LAYERS ? 1 : n;
}

int im_tied(ImConfig *c, const char *key) { return im_has(c, key) ? im_bool_or(c, key, false) : -1; }

void im_finish(ImConfig *c, ImPlan *plan, const char *embed, const char *norm) {
    im_ends(plan, &(ImEnds){.embed = embed,
                            .norm = norm,
                            .head = "lm_head",
                            .tied = im_tied(c, "tie_word_embeddings"),
                            .vocab_size = im_int(c, "vocab_size"),
                            .multiple = PADDING});
}

void im_same(ImConfig *c, const char *key, int64_t value) {
    if (im_int_or(c, key, value) != value) im_config_error(c, key, "expected %" PRId64 ", as the other keys say", value);
}

static const struct {
    const char *theirs, *plain, *gated;
} activations[] = {
    {"silu", "silu", "swiglu"},
    {"swish", "silu", "swiglu"},
    {"gelu", "gelu", "geglu"},
    {"gelu_pytorch_tanh", "gelu_tanh", "geglu_tanh"},
    {"gelu_new", "gelu_tanh", "geglu_tanh"},
    {"relu2", "relu2", NULL},
};
enum { ACTIVATIONS = sizeof activations / sizeof activations[0] };

const char *im_activation(ImConfig *c, const char *key, bool gated) {
    const char *given = im_text_or(c, key, "silu");
    for (size_t i = 0; i < ACTIVATIONS; i++) {
        const char *word = gated ? activations[i].gated : activations[i].plain;
        if (word && strcmp(activations[i].theirs, given) == 0) return word;
    }
    im_config_error(c, key, "the language has no activation '%s' here", given);
    return "silu";
}

const char *im_activation_of(const char *ours, bool gated) {
    for (size_t i = 0; i < ACTIVATIONS; i++) {
        const char *word = gated ? activations[i].gated : activations[i].plain;
        if (word && strcmp(word, ours) == 0) return activations[i].theirs;
    }
    return NULL;
}

const char *im_layer_type(ImConfig *c, const char *key, int64_t layer) {
    size_t count;
    const cJSON *list = im_list(c, key, &count), *item = list ? list->child : NULL;
    for (int64_t i = 0; item && i < layer; i++) item = item->next;
    if (list && !cJSON_IsString(item)) im_config_error(c, key, "expected a list of texts, one for each layer");
    return cJSON_IsString(item) ? item->valuestring : "";
}

bool im_is_attention(ImConfig *c, const char *key, const char *type) {
    static const char *const yes[] = {"attention", "full_attention"}, *const no[] = {"mamba", "linear_attention", "conv"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (strcmp(type, yes[i]) == 0) return true;
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        if (strcmp(type, no[i]) == 0) return false;
    if (*type) im_config_error(c, key, "no layer of this family is '%s'", type);
    return false;
}

bool im_is_listed(const cJSON *list, int64_t number) {
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next)
        if (cJSON_IsNumber(item) && item->valuedouble == (double)number) return true;
    return false;
}

const char *im_layer_name(ImPlan *plan, int64_t layer) { return su_printf(&plan->arena, "model.layers.%" PRId64 ".", layer); }

/* ---- attention */

ImAttention im_attention_of(ImConfig *c) {
    ImAttention a = {.at = "self_attn.", .out = "o_proj", .heads = im_int(c, "num_attention_heads")};
    a.kv_heads = im_int_or(c, "num_key_value_heads", a.heads);
    a.head_dim = im_int_or(c, "head_dim", 0);
    if (!a.head_dim) a.head_dim = im_int(c, "hidden_size") / a.heads;
    return a;
}

static const char *scaling_of(ImConfig *s, SuArena *arena, const char *kind) {
    char f[SU_REAL], low[SU_REAL], high[SU_REAL];
    if (strcmp(kind, "linear") == 0)
        return su_printf(arena, ", scaling: {kind: linear, factor: %s}", su_real_text(im_real(s, "factor"), f));
    if (strcmp(kind, "llama3") == 0) {
        return su_printf(arena,
                         ", scaling: {kind: llama3, factor: %s, low_freq_factor: %s, high_freq_factor: %s, original_max_positions: "
                         "%" PRId64 "}",
                         su_real_text(im_real(s, "factor"), f), su_real_text(im_real(s, "low_freq_factor"), low),
                         su_real_text(im_real(s, "high_freq_factor"), high), im_int(s, "original_max_position_embeddings"));
    }
    if (strcmp(kind, "default") != 0) im_config_error(s, "rope_type", "the language has no RoPE of the kind '%s'", kind);
    return "";
}

const char *im_rope_of(ImConfig *c, ImPlan *plan, int64_t head_dim, int64_t dim, double theta) {
    ImConfig *now = im_map(c, "rope_parameters"), *scaling = now ? now : im_map(c, "rope_scaling");
    double part = im_real_or(c, "partial_rotary_factor", 1);
    theta = im_real_or(now ? now : c, "rope_theta", theta);
    const char *kind = "default", *scaled = "";
    if (now) part = im_real_or(now, "partial_rotary_factor", part);
    if (scaling) {
        const char *old = im_text_or(scaling, "type", kind); /* of older files, which may have both */
        kind = im_text_or(scaling, "rope_type", old);
        scaled = scaling_of(scaling, &plan->arena, kind);
    }
    if (!(part > 0 && part <= 1)) {
        im_config_error(c, "partial_rotary_factor", "expected a number above 0 and up to 1");
        part = 1;
    }
    if (!dim && part != 1) dim = im_floor(c, "partial_rotary_factor", part * (double)head_dim);
    char text[SU_REAL];
    const char *turned = dim && dim != head_dim ? su_printf(&plan->arena, ", dim: %" PRId64, dim) : "";
    return su_printf(&plan->arena, "{theta: %s%s%s}", su_real_text(theta, text), turned, scaled);
}

void im_attention(ImBlock *block, const ImAttention *a) {
    SuArena *arena = &block->plan->arena;
    im_key(block, "n_heads", "%" PRId64, a->heads);
    im_key(block, "n_kv_heads", "%" PRId64, a->kv_heads);
    im_key(block, "head_dim", "%" PRId64, a->head_dim);
    if (a->window) im_key(block, "window", "%" PRId64, a->window);
    if (a->bias || a->qkv_bias) im_key_flag(block, a->bias ? "bias" : "qkv_bias", true);
    if (a->norms) im_key(block, "qk_norm", a->full_norm ? "full" : "head");
    if (a->clip > 0) im_key_real(block, "qkv_clip", a->clip);
    if (a->scale > 0) im_key_real(block, "scale", a->scale);
    if (a->rope) im_key(block, "rope", "%s", a->rope);
    for (const char *letter = "qkv"; *letter; letter++)
        im_linear(block, su_printf(arena, "%c_proj", *letter), su_printf(arena, "%s%c_proj", a->at, *letter),
                  a->bias || a->qkv_bias);
    im_linear(block, "o_proj", su_printf(arena, "%s%s", a->at, a->out), a->bias);
    for (const char *letter = "qk"; a->norms && *letter; letter++) /* "q_norm", "q_layernorm" */
        im_move(block, su_printf(arena, "%c_norm.weight", *letter),
                su_printf(arena, "%s%c%s.weight", a->at, *letter, a->norms + 1));
}

/* ---- feed-forward parts */

ImMlp im_gated(ImConfig *c, const char *at, const char *activation_key) {
    ImMlp m = {.at = at, .gate = "gate_proj", .up = "up_proj", .down = "down_proj"};
    m.activation = im_activation(c, activation_key, true);
    m.width = im_int(c, "intermediate_size");
    return m;
}

static void mlp_tensors(ImBlock *block, const char *to, const char *at, const ImMlp *m) {
    SuArena *arena = &block->plan->arena;
    const char *const names[] = {m->gate, m->up, m->down}, *const ours[] = {"gate_proj", "up_proj", "down_proj"};
    for (int i = 0; i < 3; i++)
        if (names[i]) im_linear(block, su_printf(arena, "%s%s", to, ours[i]), su_printf(arena, "%s%s", at, names[i]), m->bias);
}

void im_mlp(ImBlock *block, const ImMlp *m) {
    im_key(block, "d_ff", "%" PRId64, m->width);
    im_key(block, "activation", "%s", m->activation);
    if (m->bias) im_key_flag(block, "bias", true);
    mlp_tensors(block, "", m->at, m);
}

void im_moe(ImBlock *block, const ImMoe *m) {
    SuArena *arena = &block->plan->arena;
    const ImMlp expert = {.gate = m->gate, .up = m->up, .down = m->down};
    const char *shared = "";
    if (m->shared)
        shared = su_printf(arena, ", shared: 1, shared_d_ff: %" PRId64 "%s", m->shared->width,
                           m->shared_gate ? ", shared_gate: true" : "");
    im_key(block, "d_ff", "%" PRId64, m->width);
    im_key(block, "activation", "%s", m->activation);
    im_key(block, "experts", "{count: %" PRId64 "%s%s}", m->count, shared, m->expert_keys ? m->expert_keys : "");
    im_key(block, "router", "{top_k: %" PRId64 ", normalize: %s%s}", m->top_k, m->normalize ? "true" : "false",
           m->router_keys ? m->router_keys : "");
    im_move(block, "router.weight", su_printf(arena, "%s%s.weight", m->at, m->router));
    for (int64_t e = 0; m->experts && e < m->count && !block->plan->failed; e++)
        mlp_tensors(block, "", su_printf(arena, "%s%s.%" PRId64 ".", m->at, m->experts, e), &expert);
    if (m->shared) mlp_tensors(block, "shared.", su_printf(arena, "%s%s", m->at, m->shared->at), m->shared);
    if (m->shared_gate) im_move(block, "shared_gate.weight", su_printf(arena, "%sshared_expert_gate.weight", m->at));
}

void im_limit_of(ImConfig *c, const char *key, double limit[2]) {
    limit[0] = 0;
    limit[1] = HUGE_VAL;
    if (im_has(c, key)) im_reals(c, key, 2, limit);
}
