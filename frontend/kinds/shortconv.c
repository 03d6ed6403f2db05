/* shortconv: gated short convolutions (docs/language.md, "shortconv"). */
#include "frontend/kinds.h"

/* The values of a block that is complete. */
typedef struct Shortconv {
    int64_t d_inner, d_conv; /* I, W */
    bool bias, conv_bias;
} Shortconv;

static Shortconv read(const FeMap *map) {
    return (Shortconv){
        .d_inner = fe_integer(map, KEY(shortconv, d_inner)),
        .d_conv = fe_integer(map, KEY(shortconv, d_conv)),
        .bias = fe_truth(map, KEY(shortconv, bias)),
        .conv_bias = fe_truth(map, KEY(shortconv, conv_bias)),
    };
}

static void build(const FeBuild *b, FeMap *map) {
    if (!fe_given(map, KEY(shortconv, d_inner))) fe_set_integer(map, KEY(shortconv, d_inner), b->load->spec->d_model);
    const Shortconv s = read(map);
    b->out->state_elements = (uint64_t)s.d_inner * (uint64_t)(s.d_conv - 1); /* both below 2^31 */
    b->out->knows_order = s.d_conv > 1;
}

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const Shortconv s = read(block->map);
    const int64_t D = l->spec->d_model, I = s.d_inner, W = s.d_conv;
    fe_add_linear(l, "b_proj", false, I, D, s.bias);
    fe_add_linear(l, "c_proj", false, I, D, s.bias);
    fe_add_linear(l, "in_proj", false, I, D, s.bias);
    fe_draw_uniform(fe_add_part(l, "conv.weight", false, I, W), W);
    if (s.conv_bias) fe_draw_uniform(fe_add_part(l, "conv.bias", false, 0, I), W);
    fe_add_linear(l, "out_proj", false, D, I, s.bias)->init_scale = l->deep;
}

/* W_out (c ∘ conv(b ∘ x)) */
static IrValueId lower(FeLower *l, const FeBlock *block, IrValueId u) {
    const Shortconv s = read(block->map);
    IrValueId b = fe_linear(l, "b_proj", s.bias, u);
    IrValueId x = fe_linear(l, "in_proj", s.bias, u);
    IrValueId y = fe_conv(l, "conv", s.d_inner, s.d_conv, fe_weight(l, "conv.weight"), fe_op2(l, IR_OP_mul, b, x));
    if (s.conv_bias) y = fe_op2(l, IR_OP_add_bias, y, fe_weight(l, "conv.bias"));
    IrValueId c = fe_linear(l, "c_proj", s.bias, u);
    return fe_linear(l, "out_proj", s.bias, fe_op2(l, IR_OP_mul, c, y));
}

static void describe(const FeBlock *block, SuText *out) {
    (void)block; /* all are alike */
    (void)out;
}

const FeKind fe_kind_shortconv = {build, add_tensors, lower, describe};
