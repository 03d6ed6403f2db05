/* The state-space mixers of mamba_ssm, whose maps into the block are one matrix. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "import/families/parts.h"

static const char *const parts[] = {"weight", "bias"};

/* Rows of a map that is several of ours: FROM's rows `first` on become `rows` of TO. */
static ImPiece *cut(ImBlock *block, const char *to, const char *part, const ImTensor *from, uint64_t *first, int64_t rows,
                    double factor) {
    ImPiece *piece = im_put_rows(block, su_printf(&block->plan->arena, "%s.%s", to, part), from, *first, (uint64_t)rows);
    piece->factor = (float)factor;
    *first += (uint64_t)rows;
    return piece;
}

static const char *name_in(ImBlock *block, const char *at, const char *name) {
    return su_printf(&block->plan->arena, "%s%s", at, name);
}

static void conv_keys(ImBlock *block, int64_t conv, bool conv_bias, bool bias, const char *activation) {
    im_key(block, "d_conv", "%" PRId64, conv);
    if (!conv_bias) im_key_flag(block, "conv_bias", false);
    if (bias) im_key_flag(block, "bias", true);
    if (activation && strcmp(activation, "silu") != 0) im_key(block, "activation", "%s", activation);
}

/* ---- Mamba-1 */

static void inner_norms(ImBlock *block, const ImMamba1 *m) {
    const struct {
        const char *name;
        int64_t width;
    } norms[] = {{"dt", m->rank}, {"b", m->state}, {"c", m->state}};
    for (int i = 0; i < 3 && m->norms; i++) {
        SuArena *arena = &block->plan->arena;
        const char *to = su_printf(arena, "%s_norm.weight", norms[i].name);
        im_key(block, su_printf(arena, "%s_norm", norms[i].name), "rms");
        if (m->norms == IM_PLAIN_INNER_NORMS)
            im_put_ones(block, to, (uint64_t)norms[i].width);
        else
            im_move(block, to, su_printf(arena, "%s%s_layernorm.weight", m->at, norms[i].name));
    }
    if (m->norms && m->norms_eps > 0) im_key_real(block, "inner_norm_eps", m->norms_eps);
}

void im_mamba1(ImBlock *block, const ImMamba1 *m) {
    im_key(block, "d_inner", "%" PRId64, m->inner);
    im_key(block, "d_state", "%" PRId64, m->state);
    im_key(block, "dt_rank", "%" PRId64, m->rank);
    conv_keys(block, m->conv, m->conv_bias, m->bias, m->activation);
    for (int p = 0; p < (m->bias ? 2 : 1); p++) {
        const ImTensor *in = im_take_in(block, name_in(block, m->at, "in_proj"), parts[p]);
        uint64_t first = 0;
        if (!im_has_rows(block->plan, in, 2 * (uint64_t)m->inner)) continue;
        cut(block, "in_proj", parts[p], in, &first, m->inner, 1);
        cut(block, "gate_proj", parts[p], in, &first, m->inner, 1);
    }
    im_linear(block, "conv", name_in(block, m->at, "conv1d"), m->conv_bias);
    im_linear(block, "x_proj", name_in(block, m->at, "x_proj"), false);
    im_linear(block, "dt_proj", name_in(block, m->at, "dt_proj"), true);
    im_linear(block, "out_proj", name_in(block, m->at, "out_proj"), m->bias);
    im_move(block, "A_log", name_in(block, m->at, "A_log"));
    im_move(block, "D", name_in(block, m->at, "D"));
    inner_norms(block, m);
}

/* ---- Mamba-2 */

static void mamba2_keys(ImBlock *block, const ImMamba2 *m) {
    char low[SU_REAL], high[SU_REAL];
    im_key(block, "kind", "mamba2");
    im_key(block, "d_inner", "%" PRId64, m->heads * m->head_dim);
    im_key(block, "head_dim", "%" PRId64, m->head_dim);
    im_key(block, "n_groups", "%" PRId64, m->groups);
    im_key(block, "d_state", "%" PRId64, m->state);
    conv_keys(block, m->conv, m->conv_bias, m->bias, m->activation);
    if (m->limit[0] > 0 || m->limit[1] < HUGE_VAL)
        im_key(block, "dt_limit", "[%s, %s]", su_real_text(m->limit[0], low),
               m->limit[1] < HUGE_VAL ? su_real_text(m->limit[1], high) : "none");
    if (!m->gated_norm) im_key(block, "gated_norm", "none");
    if (m->gated_norm && m->norm_before_gate) im_key_flag(block, "norm_before_gate", true);
}

/* The piece of δ, until the next one is put; NULL after an error. */
static ImPiece *mamba2_in(ImBlock *block, const ImMamba2 *m, const char *part) {
    static const double ones[] = {1, 1, 1, 1, 1};
    const double *by = m->multipliers ? m->multipliers : ones;
    const int64_t inner = m->heads * m->head_dim, shared = m->groups * m->state;
    const ImTensor *in = im_take_in(block, name_in(block, m->at, "in_proj"), part);
    uint64_t first = 0;
    if (!im_has_rows(block->plan, in, 2 * (uint64_t)inner + 2 * (uint64_t)shared + (uint64_t)m->heads)) return NULL;
    cut(block, "gate_proj", part, in, &first, inner, by[0]);
    cut(block, "in_proj", part, in, &first, inner, by[1]);
    cut(block, "bc_proj", part, in, &first, shared, by[2]);
    cut(block, "bc_proj", part, in, &first, shared, by[3]);
    return cut(block, "dt_proj", part, in, &first, m->heads, by[4]);
}

void im_mamba2(ImBlock *block, const ImMamba2 *m) {
    mamba2_keys(block, m);
    const ImTensor *dt_bias = im_take(block->plan, "%s%sdt_bias", block->from, m->at);
    mamba2_in(block, m, "weight");
    ImPiece *dt = m->bias ? mamba2_in(block, m, "bias") : im_put(block, "dt_proj.bias", dt_bias);
    if (m->bias && dt && im_has_rows(block->plan, dt_bias, dt->rows)) dt->plus = dt_bias; /* δ has two biases: their sum */
    im_linear(block, "conv", name_in(block, m->at, "conv1d"), m->conv_bias);
    im_linear(block, "out_proj", name_in(block, m->at, "out_proj"), m->bias);
    im_move(block, "A_log", name_in(block, m->at, "A_log"));
    const ImTensor *D = im_flat(block->plan, im_take(block->plan, "%s%sD", block->from, m->at));
    if (D && D->rows && D->rows != (uint64_t)m->heads) im_key_flag(block, "d_per_channel", true);
    im_put(block, "D", D);
    if (m->gated_norm) im_move(block, "gated_norm.weight", name_in(block, m->at, "norm.weight"));
}

ImMamba2 im_mamba2_of(ImConfig *c) {
    int64_t hidden = im_int(c, "hidden_size"), inner = im_int_or(c, "mamba_d_ssm", 0);
    ImMamba2 m = {.at = "mamba.", .gated_norm = true, .heads = im_int_or(c, "mamba_n_heads", 128)};
    if (!m.heads) im_config_error(c, "mamba_n_heads", "expected at least 1");
    if (!m.heads) m.heads = 1;
    if (!inner) inner = im_int_or(c, "mamba_expand", 2) * hidden;
    im_ignore(c, "mamba_expand");
    m.head_dim = im_text_is(c, "mamba_d_head", "auto") ? inner / m.heads : im_int_or(c, "mamba_d_head", inner / m.heads);
    m.groups = im_int_or(c, "mamba_n_groups", 1);
    m.state = im_int_or(c, "mamba_d_state", 256);
    m.conv = im_int_or(c, "mamba_d_conv", 4);
    m.bias = im_bool_or(c, "mamba_proj_bias", false);
    m.conv_bias = im_bool_or(c, "mamba_conv_bias", true);
    m.activation = im_activation(c, "hidden_act", false);
    im_limit_of(c, "time_step_limit", m.limit);
    if (m.heads * m.head_dim != inner) im_config_error(c, "mamba_n_heads", "heads of mamba_d_head do not make the inner width");
    return m;
}
