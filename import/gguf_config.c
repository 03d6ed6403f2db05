/* The config.json of a GGUF file: its own keys by gguf_keys.def, and those that follow from several of them or from tensors. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "import/gguf_view.h"

enum { ENDLESS = 1 << 20 /* the context_length of models that have no bound */ };

typedef enum Way { COPY, EACH, USED, NONE } Way;

typedef struct Key {
    unsigned archs;
    const char *key, *theirs;
    Way way;
} Key;

#define ALL IM_SET_ALL
#define LLAMA IM_SET_LLAMA
#define MISTRAL IM_SET_MISTRAL
#define MIXTRAL IM_SET_MIXTRAL
#define QWEN2MOE IM_SET_QWEN2MOE
#define MAMBA IM_SET_MAMBA
#define FALCON_MAMBA IM_SET_FALCON_MAMBA
#define MAMBA2 IM_SET_MAMBA2
#define JAMBA IM_SET_JAMBA
#define GRANITE IM_SET_GRANITE
#define GRANITEMOE IM_SET_GRANITEMOE
#define GRANITEHYBRID IM_SET_GRANITEHYBRID
#define FALCON_H1 IM_SET_FALCON_H1
#define LFM2 IM_SET_LFM2
#define GRANITES IM_SET_GRANITES
#define NEMOTRONS IM_SET_NEMOTRONS
#define RECURRENT IM_SET_RECURRENT
#define WITHOUT_ROPE IM_SET_WITHOUT_ROPE
static const Key keys[] = {
#define IM_KEY(archs, key, theirs, way) {archs, key, theirs, way},
#include "import/gguf_keys.def"
};

void im_gguf_each_key(ImArch arch, void (*add)(void *context, const char *key, const char *theirs), void *context, SuArena *arena) {
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool first = im_arch_in(arch, keys[i].archs) && (keys[i].way == COPY || keys[i].way == EACH);
        for (size_t j = 0; first && j < i; j++) first = !im_arch_in(arch, keys[j].archs) || strcmp(keys[j].key, keys[i].key) != 0;
        if (first) add(context, su_printf(arena, "%s.%s", im_arch(arch)->word, keys[i].key), keys[i].theirs);
    }
}

static bool wrong(const ImView *v, const char *key, const char *what) {
    return su_error(v->diags, v->span, NULL, "%s.%s: %s", v->info->word, key, what);
}

/* ---- members of the JSON */

static void add_int(SuText *json, const char *key, int64_t value) { su_text_add(json, ",\n\"%s\":%" PRId64, key, value); }
static void add_flag(SuText *json, const char *key, bool value) {
    su_text_add(json, ",\n\"%s\":%s", key, value ? "true" : "false");
}
static void add_text(SuText *json, const char *key, const char *value) { su_text_add(json, ",\n\"%s\":\"%s\"", key, value); }

/* In the fewest digits that give the float back: 1e-05, not 9.99999974737875e-06. */
static void add_float(SuText *json, const char *key, double value) {
    char digits[SU_REAL];
    for (int n = 6; n <= 9; n++) {
        snprintf(digits, sizeof digits, "%.*g", n, value);
        if (strtof(digits, NULL) == (float)value) break;
    }
    su_text_add(json, ",\n\"%s\":%s", key, digits);
}

/* ---- keys that have one of ours */

static const Key *row_of(const ImView *v, const char *key) {
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (im_arch_in(v->arch, keys[i].archs) && strcmp(keys[i].key, key) == 0) return &keys[i];
    return NULL;
}

static bool copy(const ImView *v, const Key *row, const ImGgufValue *value, SuText *json) {
    int64_t whole;
    const bool real = value->type == IM_GGUF_F32 || value->type == IM_GGUF_F64;
    if (value->type == IM_GGUF_BOOL)
        add_flag(json, row->theirs, value->as.natural != 0);
    else if (real && isfinite(value->as.real))
        add_float(json, row->theirs, value->as.real);
    else if (!real && im_gguf_whole(value, &whole))
        add_int(json, row->theirs, whole);
    else
        return wrong(v, row->key, "expected a finite number");
    return true;
}

static bool add_keys(const ImView *v, SuText *json) {
    const size_t size = strlen(v->info->word);
    bool ok = true;
    for (size_t i = 0; i < v->gguf->n_pairs; i++) {
        const ImGgufPair *pair = &v->gguf->pairs[i];
        if (strncmp(pair->key, v->info->word, size) != 0 || pair->key[size] != '.') continue;
        const Key *row = row_of(v, pair->key + size + 1);
        if (row == NULL) {
            ok = wrong(v, pair->key + size + 1, "the key is not known for this architecture");
        } else if (row->way == COPY) {
            ok = copy(v, row, &pair->value, json) && ok;
        } else if (row->way == EACH) {
            const int64_t each = im_view_each(v, row->key);
            ok = each >= 0 && ok;
            if (each > 0) add_int(json, row->theirs, each);
        }
    }
    return ok;
}

/* ---- what tensors say */

/* A layer that has a tensor of this name, or -1. */
static int64_t layer_with(const ImView *v, const char *name) {
    for (int64_t i = 0; i < v->layers; i++)
        if (im_view_tensor(v, i, name) != NULL) return i;
    return -1;
}

/* Biases, where they are not what is usual. */
static void add_biases(const ImView *v, SuText *json) {
    const bool backbone = im_arch_in(v->arch, IM_SET_BACKBONES), has_ssm = layer_with(v, "ssm_in.weight") >= 0;
    if (layer_with(v, "attn_output.bias") >= 0) add_flag(json, "attention_bias", true);
    if (layer_with(v, "ffn_up.bias") >= 0) add_flag(json, "mlp_bias", true);
    if (has_ssm && layer_with(v, "ssm_conv1d.bias") < 0) add_flag(json, backbone ? "use_conv_bias" : "mamba_conv_bias", false);
    if (layer_with(v, "ssm_in.bias") >= 0)
        add_flag(json, im_arch_in(v->arch, IM_SET_RECURRENT) ? "use_bias" : "mamba_proj_bias", true);
    if (v->arch == IM_ARCH_LFM2) add_flag(json, "conv_bias", layer_with(v, "shortconv.conv.bias") >= 0);
}

static bool add_ends(const ImView *v, SuText *json) {
    const ImGgufTensor *embed = im_gguf_tensor(v->gguf, "token_embd.weight");
    if (embed == NULL) return su_error(v->diags, v->span, NULL, "the tensor 'token_embd.weight' is missing");
    if (im_view_whole(v, "vocab_size", (int64_t)embed->shape[0]) != (int64_t)embed->shape[0])
        return wrong(v, "vocab_size", "expected as many as token_embd.weight has rows");
    add_int(json, "vocab_size", (int64_t)embed->shape[0]);
    add_flag(json, "tie_word_embeddings", im_gguf_tensor(v->gguf, "output.weight") == NULL);
    const int64_t context = im_view_whole(v, "context_length", 0);
    if (context > 0 && context != ENDLESS && !im_arch_in(v->arch, IM_SET_RECURRENT))
        add_int(json, "max_position_embeddings", context);
    return true;
}

/* ---- kinds of layers */

static char letter_of(const ImView *v, int64_t layer) {
    if (im_view_tensor(v, layer, "attn_q.weight") != NULL) return '*';
    if (im_view_tensor(v, layer, "ffn_gate_inp.weight") != NULL) return 'E';
    return im_view_tensor(v, layer, "ffn_up.weight") != NULL ? '-' : 'M';
}

/* nemotron_h: a mixer a layer. */
static void add_pattern(const ImView *v, SuText *json) {
    char *pattern = su_alloc(v->arena, (size_t)v->layers + 1);
    for (int64_t i = 0; i < v->layers; i++) pattern[i] = letter_of(v, i);
    add_text(json, "hybrid_override_pattern", pattern);
}

static void add_layer_types(const ImView *v, const char *attention, const char *other, SuText *json) {
    su_text_add(json, ",\n\"layer_types\":[");
    for (int64_t i = 0; i < v->layers; i++)
        su_text_add(json, "%s\"%s\"", i > 0 ? "," : "", im_view_tensor(v, i, "attn_q.weight") != NULL ? attention : other);
    su_text_add(json, "]");
}

/* jamba: the layers that have a tensor are every PERIOD-th from OFFSET on. */
static bool add_period(const ImView *v, const char *tensor, const char *what, SuText *json) {
    const int64_t offset = layer_with(v, tensor);
    int64_t period = v->layers + 1, first = offset < 0 ? v->layers : offset; /* where there is none, behind the last */
    for (int64_t i = first + 1; i < v->layers && period > v->layers; i++)
        if (im_view_tensor(v, i, tensor) != NULL) period = i - first;
    for (int64_t i = 0; i < v->layers; i++)
        if ((im_view_tensor(v, i, tensor) != NULL) != (i >= first && (i - first) % period == 0))
            return su_error(v->diags, v->span, NULL, "layers with '%s' are at no regular distance from each other", tensor);
    add_int(json, su_printf(v->arena, "%s_layer_period", what), period);
    add_int(json, su_printf(v->arena, "%s_layer_offset", what), first);
    return true;
}

/* ---- state-space mixers */

/* inner_size is heads of a size each. */
static bool add_head_size(const ImView *v, const char *key, SuText *json) {
    const int64_t inner = im_view_whole(v, "ssm.inner_size", 0), heads = im_view_whole(v, "ssm.time_step_rank", 0);
    if (inner < 1 || heads < 1 || inner % heads != 0)
        return wrong(v, "ssm.inner_size", "expected a multiple of ssm.time_step_rank, the number of heads");
    add_int(json, key, inner / heads);
    return true;
}

static bool add_expand(const ImView *v, const char *key, SuText *json) {
    const int64_t inner = im_view_whole(v, "ssm.inner_size", 0), hidden = im_view_whole(v, "embedding_length", 0);
    if (inner < 1 || hidden < 1) return wrong(v, "ssm.inner_size", "expected a number of channels");
    char text[SU_REAL];
    su_text_add(json, ",\n\"%s\":%s", key, su_real_text((double)inner / (double)hidden, text));
    return true;
}

/* ---- what is special */

static bool uses_rope(const ImView *v) { return im_view_flag(v, "rope.scaling.finetuned", true); }

static void add_factors(const ImView *v, SuText *json) {
    const int64_t heads = im_view_each(v, "attention.head_count");
    const double usual = (double)im_view_whole(v, "embedding_length", 1) / (double)(heads > 0 ? heads : 1);
    const int64_t given = im_view_whole(v, "attention.key_length", 0);
    add_float(json, "attention_multiplier", im_view_real(v, "attention.scale", 1 / sqrt(given > 0 ? (double)given : usual)));
    add_float(json, "embedding_multiplier", im_view_real(v, "embedding_scale", 1));
    add_float(json, "residual_multiplier", im_view_real(v, "residual_scale", 1));
    add_float(json, "logits_scaling", im_view_real(v, "logit_scale", 1));
}

static bool add_granite(const ImView *v, SuText *json) {
    add_factors(v, json);
    return uses_rope(v) || wrong(v, "rope.scaling.finetuned", "expected true: this architecture has RoPE");
}

static bool add_granitehybrid(const ImView *v, SuText *json) {
    add_factors(v, json);
    add_text(json, "position_embedding_type", uses_rope(v) ? "rope" : "nope");
    if (im_view_value(v, "expert_shared_feed_forward_length") == NULL)
        add_int(json, "shared_intermediate_size", im_view_each(v, "feed_forward_length"));
    add_layer_types(v, "attention", "mamba", json);
    return add_head_size(v, "mamba_d_head", json);
}

/* Files have eps by either name, or by both. */
static bool add_nemotron(const ImView *v, SuText *json) {
    static const char name[] = "attention.layer_norm_epsilon", rms_name[] = "attention.layer_norm_rms_epsilon";
    const double eps = im_view_real(v, name, 0), rms = im_view_real(v, rms_name, eps);
    if (im_view_value(v, name) && rms != eps) return wrong(v, name, "expected that of attention.layer_norm_rms_epsilon");
    if (im_view_value(v, name) && !im_view_value(v, rms_name)) add_float(json, "layer_norm_epsilon", eps);
    add_pattern(v, json);
    return add_head_size(v, "mamba_head_dim", json);
}

static bool add_special(const ImView *v, SuText *json) {
    switch (v->arch) {
    case IM_ARCH_MAMBA2: return add_head_size(v, "head_dim", json);
    case IM_ARCH_JAMBA:
        return add_expand(v, "mamba_expand", json) && add_period(v, "attn_q.weight", "attn", json) &&
               add_period(v, "ffn_gate_inp.weight", "expert", json);
    case IM_ARCH_FALCON_MAMBA:
        add_float(json, "mixer_rms_eps", im_view_real(v, "attention.layer_norm_rms_epsilon", 0));
        return true;
    case IM_ARCH_GRANITE:
    case IM_ARCH_GRANITEMOE: return add_granite(v, json);
    case IM_ARCH_GRANITEHYBRID: return add_granitehybrid(v, json);
    case IM_ARCH_FALCON_H1:
        add_flag(json, "mamba_rms_norm", layer_with(v, "ssm_norm.weight") >= 0);
        return add_head_size(v, "mamba_d_head", json);
    case IM_ARCH_NEMOTRON_H:
    case IM_ARCH_NEMOTRON_H_MOE: return add_nemotron(v, json);
    case IM_ARCH_LFM2: add_layer_types(v, "full_attention", "conv", json); return true;
    case IM_ARCH_LLAMA:
    case IM_ARCH_MISTRAL:
    case IM_ARCH_MIXTRAL:
    case IM_ARCH_QWEN2:
    case IM_ARCH_QWEN2MOE:
    case IM_ARCH_QWEN3:
    case IM_ARCH_QWEN3MOE:
    case IM_ARCH_OLMOE:
    case IM_ARCH_MAMBA:
    case IM_ARCHS: return true;
    }
    return true;
}

/* ---- all of it */

static bool check_value_length(const ImView *v) {
    const int64_t length = im_view_whole(v, "attention.value_length", 0);
    return length == 0 || length == im_view_whole(v, "attention.key_length", 0) ||
           wrong(v, "attention.value_length", "expected that of attention.key_length: the language has nothing else");
}

bool im_gguf_has_rope(const ImView *v) {
    if (im_arch_in(v->arch, IM_SET_RECURRENT | IM_SET_WITHOUT_ROPE)) return false;
    return v->arch != IM_ARCH_GRANITEHYBRID || uses_rope(v);
}

bool im_gguf_config(const ImView *v, SuText *json) {
    su_text_add(json, "{\"model_type\":\"%s\",\n%s", v->info->model_type, v->info->fixed);
    add_biases(v, json);
    if (im_gguf_has_rope(v) && !im_view_value(v, "rope.freq_base")) add_float(json, "rope_theta", 10000);
    const bool ok = add_keys(v, json) && add_ends(v, json) && add_special(v, json) && check_value_length(v) &&
                    (!im_gguf_has_rope(v) || im_gguf_rope(v, json));
    su_text_add(json, "}\n");
    return ok;
}
