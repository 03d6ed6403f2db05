/* Checkpoints of the package mamba_ssm: Mamba-1, 2 or 3 in all layers, attention in some, an MLP behind each mixer or none. Its config leaves
 * out what has its default. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

enum { MLP_MULTIPLE = 128 }; /* of the MLP's width */

typedef struct MambaSsm {
    ImConfig *c, *ssm, *attn; /* ssm_cfg and attn_cfg, or NULL */
    ImPlan *plan;
    int64_t d_model, inner;
    int version; /* of the mixer */
    ImMamba1 mamba1;
    ImMamba2 mamba2;
    ImMamba3 mamba3;
} MambaSsm;

static const char training_keys[] =
    "layer dt_min dt_max dt_init dt_scale dt_init_floor A_init_range conv_init use_fast_path use_mem_eff_path chunk_size "
    "process_group sequence_parallel device dtype dropout";

/* ---- mixers */

static void read_mamba1(MambaSsm *m, ImConfig *s) {
    int64_t rank = (m->d_model + 15) / 16;
    m->mamba1 =
        (ImMamba1){.at = "mixer.", .inner = m->inner, .state = im_int_or(s, "d_state", 16), .conv = im_int_or(s, "d_conv", 4)};
    m->mamba1.rank = im_text_is(s, "dt_rank", "auto") ? rank : im_int_or(s, "dt_rank", rank);
    m->mamba1.bias = im_bool_or(s, "bias", false);
    m->mamba1.conv_bias = im_bool_or(s, "conv_bias", true);
}

static int64_t heads_of(ImConfig *s, int64_t inner, int64_t *head_dim) {
    *head_dim = im_int_or(s, "headdim", 64);
    if (*head_dim > 0 && inner % *head_dim == 0) return inner / *head_dim;
    im_config_error(s, "headdim", "does not divide the inner width %" PRId64, inner);
    return 1;
}

static void read_mamba2(MambaSsm *m, ImConfig *s) {
    m->mamba2 = (ImMamba2){.at = "mixer.",
                           .state = im_int_or(s, "d_state", 128),
                           .conv = im_int_or(s, "d_conv", 4),
                           .groups = im_int_or(s, "ngroups", 1)};
    m->mamba2.heads = heads_of(s, m->inner, &m->mamba2.head_dim);
    m->mamba2.bias = im_bool_or(s, "bias", false);
    m->mamba2.conv_bias = im_bool_or(s, "conv_bias", true);
    m->mamba2.gated_norm = im_bool_or(s, "rmsnorm", true);
    m->mamba2.norm_before_gate = im_bool_or(s, "norm_before_gate", false);
    im_limit_of(s, "dt_limit", m->mamba2.limit);
    im_ignore(s, "D_has_hdim"); /* D itself says */
    if (im_int_or(s, "d_ssm", m->inner) != m->inner)
        im_config_error(s, "d_ssm", "an MLP within the mixer is not in the language: expected the inner width %" PRId64, m->inner);
    im_expect_text(s, "activation", "silu");
}

static void read_mamba3(MambaSsm *m, ImConfig *s) {
    m->mamba3 = (ImMamba3){.at = "mixer.", .state = im_int_or(s, "d_state", 128), .groups = im_int_or(s, "ngroups", 1)};
    m->mamba3.heads = heads_of(s, m->inner, &m->mamba3.head_dim);
    m->mamba3.rope_fraction = im_real_or(s, "rope_fraction", 0.5);
    if (!(m->mamba3.rope_fraction >= 0 && m->mamba3.rope_fraction <= 1)) {
        im_config_error(s, "rope_fraction", "expected a number from 0 to 1");
        m->mamba3.rope_fraction = 0.5;
    }
    m->mamba3.a_floor = im_real_or(s, "A_floor", 1e-4);
    m->mamba3.head_norm = im_bool_or(s, "is_outproj_norm", false);
    m->mamba3.rank = im_int_or(s, "mimo_rank", 4);
    if (!im_bool_or(s, "is_mimo", false)) m->mamba3.rank = 0;
    m->mamba3.a_activation = m->plan->a_activation;
    if (m->plan->a_activation) return;
    im_config_error(s, "layer",
                    "what A passes changed on 2026-06-02 from softplus to heavy_tail, and no key says which it is: give "
                    "--mamba3-a softplus or heavy_tail, by the date of training");
    m->mamba3.a_activation = "softplus";
}

/* ---- attention and MLP */

static void add_attention(MambaSsm *m, ImBlock *block) {
    ImConfig *s = m->attn;
    static const char *const parts[] = {"weight", "bias"};
    int64_t heads = im_int(s, "num_heads"), kv_heads = im_int_or(s, "num_heads_kv", heads);
    int64_t dim = im_int_or(s, "head_dim", m->d_model / heads), turned = im_int_or(s, "rotary_emb_dim", 0);
    bool in = im_bool_or(s, "qkv_proj_bias", true), out = im_bool_or(s, "out_proj_bias", true);
    char theta[SU_REAL];
    im_key(block, "n_heads", "%" PRId64, heads);
    im_key(block, "n_kv_heads", "%" PRId64, kv_heads);
    im_key(block, "head_dim", "%" PRId64, dim);
    if (in) im_key_flag(block, out ? "bias" : "qkv_bias", true);
    if (out && !in) im_config_error(s, "out_proj_bias", "a bias of the output alone is not in the language");
    if (im_has(s, "softmax_scale")) im_key_real(block, "scale", im_real(s, "softmax_scale"));
    const char *base = su_real_text(im_real_or(s, "rotary_emb_base", 10000), theta);
    const char *pairing = im_bool_or(s, "rotary_emb_interleaved", false) ? ", pairing: interleaved" : "";
    if (turned) im_key(block, "rope", "{theta: %s, dim: %" PRId64 "%s}", base, turned, pairing);
    if (im_int_or(s, "d_conv", 0)) im_config_error(s, "d_conv", "a convolution before attention is not in the language");
    if (im_int_or(s, "mlp_dim", 0)) im_config_error(s, "mlp_dim", "an MLP within attention is not in the language");
    if (!im_bool_or(s, "causal", false)) im_config_error(s, "causal", "expected true: a token sees no later ones");
    for (int p = 0; p < (in ? 2 : 1); p++) {
        const ImTensor *qkv = im_take_in(block, "mixer.in_proj", parts[p]);
        uint64_t q = (uint64_t)(heads * dim), kv = (uint64_t)(kv_heads * dim);
        if (!im_has_rows(m->plan, qkv, q + 2 * kv)) continue;
        im_put_rows(block, p ? "q_proj.bias" : "q_proj.weight", qkv, 0, q);
        im_put_rows(block, p ? "k_proj.bias" : "k_proj.weight", qkv, q, kv);
        im_put_rows(block, p ? "v_proj.bias" : "v_proj.weight", qkv, q + kv, kv);
    }
    im_linear(block, "o_proj", "mixer.out_proj", out);
}

/* fc1's rows are up, then gate. */
static void add_mlp(MambaSsm *m, const char *from, int64_t width) {
    uint64_t rows = (uint64_t)(width + MLP_MULTIPLE - 1) / MLP_MULTIPLE * MLP_MULTIPLE;
    ImBlock *block = im_block(m->plan, "mlp", from, "norm2");
    im_key(block, "d_ff", "%" PRIu64, rows);
    const ImTensor *both = im_take_in(block, "mlp.fc1", "weight");
    if (im_has_rows(m->plan, both, 2 * rows)) {
        im_put_rows(block, "up_proj.weight", both, 0, rows);
        im_put_rows(block, "gate_proj.weight", both, rows, rows);
    }
    im_linear(block, "down_proj", "mlp.fc2", false);
}

/* ---- all of it */

static void read_mixer(MambaSsm *m) {
    static const struct {
        const char *layer;
        void (*read)(MambaSsm *m, ImConfig *s);
    } versions[] = {{"Mamba1", read_mamba1}, {"Mamba2", read_mamba2}, {"Mamba3", read_mamba3}};
    const char *layer = im_text_or(m->ssm, "layer", "Mamba1");
    m->inner = im_floor(m->ssm, "expand", im_real_or(m->ssm, "expand", 2) * (double)m->d_model);
    while (m->version < 3 && strcmp(versions[m->version].layer, layer) != 0) m->version++;
    if (m->version == 3)
        im_config_error(m->ssm, "layer", "expected Mamba1, Mamba2 or Mamba3, got '%s'", layer);
    else
        versions[m->version].read(m, m->ssm);
    im_ignore(m->ssm, training_keys);
}

static void add_mixer(MambaSsm *m, const char *from) {
    ImBlock *block = im_block(m->plan, "ssm", from, "norm");
    if (m->version == 0) im_mamba1(block, &m->mamba1);
    if (m->version == 1) im_mamba2(block, &m->mamba2);
    if (m->version == 2) im_mamba3(block, &m->mamba3);
}

void im_mamba_ssm(ImConfig *c, ImPlan *plan) {
    MambaSsm m = {.c = c, .plan = plan, .d_model = im_int(c, "d_model")};
    im_top(plan, "d_model", "%" PRId64, m.d_model);
    plan->norm_bias = !im_bool_or(c, "rms_norm", true);
    im_top(plan, "norm", "{kind: %s, eps: 1e-05}", plan->norm_bias ? "layer" : "rms"); /* eps is in no config */
    m.ssm = im_map_or_empty(c, "ssm_cfg");
    m.attn = im_map_or_empty(c, "attn_cfg");
    read_mixer(&m);
    im_ignore(c, "fused_add_norm");
    size_t count;
    const cJSON *heads = im_list(c, "attn_layer_idx", &count);
    int64_t n = im_layers(c, "n_layer"), width = im_int_or(c, "d_intermediate", 0),
            multiple = im_int_or(c, "pad_vocab_size_multiple", 8);
    for (int64_t i = 0; i < n && !plan->failed && !im_config_failed(c); i++) {
        const char *from = su_printf(&plan->arena, "backbone.layers.%" PRId64 ".", i);
        if (im_is_listed(heads, i))
            add_attention(&m, im_block(plan, "attention", from, "norm"));
        else
            add_mixer(&m, from);
        if (width) add_mlp(&m, from, width);
    }
    bool tied = im_bool_or(c, "tie_embeddings", true);
    im_ends(plan, &(ImEnds){.embed = "backbone.embedding",
                            .norm = "backbone.norm_f",
                            .head = "lm_head",
                            .norm_bias = plan->norm_bias,
                            .tied = tied,
                            .vocab_size = im_int(c, "vocab_size"),
                            .multiple = multiple > 0 ? multiple : 1});
}
