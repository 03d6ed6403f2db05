/* BlackMamba: Mamba-1 and MLPs or experts, as its list of layers says: "r" a mixer, "1" an MLP, "8" eight experts. */
#include <inttypes.h>
#include <string.h>

#include "import/families/families.h"
#include "import/families/parts.h"

typedef struct BlackMamba {
    ImMamba1 mixer;
    int64_t width;
    bool gated, bias;
} BlackMamba;

/* linear_fc1 of an MLP: gate, then up, or up alone; linear_fc2. */
static void mlp_tensors(ImBlock *block, const BlackMamba *b, const char *at) {
    SuArena *arena = &block->plan->arena;
    static const char *const parts[] = {"weight", "bias"};
    for (int p = 0; p < (b->bias ? 2 : 1); p++) {
        const ImTensor *in = im_take_in(block, su_printf(arena, "%slinear_fc1", at), parts[p]);
        uint64_t rows = (uint64_t)b->width, up = b->gated ? rows : 0;
        if (!im_has_rows(block->plan, in, up + rows)) continue;
        if (b->gated) im_put_rows(block, su_printf(arena, "gate_proj.%s", parts[p]), in, 0, rows);
        im_put_rows(block, su_printf(arena, "up_proj.%s", parts[p]), in, up, rows);
    }
    im_linear(block, "down_proj", su_printf(arena, "%slinear_fc2", at), b->bias);
}

static void add_experts(ImBlock *block, const BlackMamba *b, int64_t count) {
    im_key(block, "d_ff", "%" PRId64, b->width);
    im_key(block, "activation", b->gated ? "geglu" : "gelu"); /* what it calls swiglu gates with GELU */
    if (b->bias) im_key_flag(block, "bias", true);
    if (count == 1) {
        mlp_tensors(block, b, "mixer.");
        return;
    }
    im_key(block, "experts", "{count: %" PRId64 "}", count);
    im_key(block, "router", "{top_k: 1, score: sigmoid, normalize: false, bias: true}"); /* how it routes what is not training */
    im_linear(block, "router", "mixer.router", true);
    for (int64_t e = 0; e < count; e++)
        mlp_tensors(block, b, su_printf(&block->plan->arena, "mixer.local_experts.%" PRId64 ".", e));
}

static BlackMamba read_keys(ImConfig *c) {
    int64_t hidden = im_int(c, "hidden_size");
    BlackMamba b = {
        .mixer = {.at = "mixer.", .inner = im_int(c, "expansion_factor") * hidden, .rank = (hidden + 15) / 16, .conv_bias = true}};
    b.mixer.state = im_int(c, "state_size");
    b.mixer.conv = im_int(c, "conv_dimension");
    b.bias = b.mixer.bias = im_bool_or(c, "add_bias_linear", true);
    b.gated = im_bool_or(c, "swiglu", false);
    b.width = im_int_or(c, "ffn_hidden_size", 4 * hidden);
    im_ignore(c, "base_model_type");
    return b;
}

static bool is_count(char letter) { return letter >= '1' && letter <= '9'; }

void im_blackmamba(ImConfig *c, ImPlan *plan) {
    im_top(plan, "d_model", "%" PRId64, im_int(c, "hidden_size"));
    im_top(plan, "norm", "{kind: rms, eps: 1e-05}");
    im_top(plan, "final_norm", "{kind: layer}");
    im_ignore(c, "max_sequence_length"); /* no layer has positions */
    const BlackMamba b = read_keys(c);
    int64_t n = im_layers(c, "num_layers");
    for (int64_t i = 0; i < n && !plan->failed && !im_config_failed(c); i++) {
        const char *from = su_printf(&plan->arena, "decoder.layers.%" PRId64 ".", i),
                   *type = im_layer_type(c, "mamba_moe_layers", i);
        if (strcmp(type, "r") == 0)
            im_mamba1(im_block(plan, "ssm", from, "norm"), &b.mixer);
        else if (is_count(type[0]) &&
                 is_count(type[strlen(type) - 1])) /* of "r4" and the like both parts have norms of their own */
            add_experts(im_block(plan, "mlp", from, "norm"), &b, type[strlen(type) - 1] - '0');
        else
            im_config_error(c, "mamba_moe_layers", "the language has no layer '%s'", type);
    }
    im_ends(plan, &(ImEnds){.embed = "embedding.word_embeddings",
                            .norm = "decoder.final_layernorm",
                            .head = "output_layer",
                            .norm_bias = true,
                            .tied = 1,
                            .vocab_size = im_int(c, "vocab_size"),
                            .multiple = 1});
}
