/* Mamba-3 as mamba_ssm stores it: one map into the block, whose rows are z, x, B, C, δ, A, trap and angles. With mimo_rank its kernels turn
 * pairs (i, i + N/2) of a state, the language 2i and 2i + 1: the N numbers are put in that order wherever they stand. */
#include <inttypes.h>

#include "import/families/parts.h"

static uint64_t angles_of(const ImMamba3 *m) {
    uint64_t turned = (uint64_t)((double)m->state * m->rope_fraction) / 2 * 2;
    return turned / 2 ? turned / 2 : 1;
}

static void in_proj(ImBlock *block, const ImMamba3 *m, uint64_t ranks, const ImOrder *order) {
    const uint64_t inner = (uint64_t)(m->heads * m->head_dim), shared = ranks * (uint64_t)m->groups * (uint64_t)m->state;
    const struct {
        const char *to;
        uint64_t rows;
        bool ordered;
    } parts[] = {{"gate_proj.weight", inner, false},           {"in_proj.weight", inner, false},
                 {"bc_proj.weight", 2 * shared, true},         {"dt_proj.weight", (uint64_t)m->heads, false},
                 {"a_proj.weight", (uint64_t)m->heads, false}, {"trap_proj.weight", (uint64_t)m->heads, false},
                 {"angle_proj.weight", angles_of(m), false}};
    const ImTensor *in = im_take(block->plan, "%s%sin_proj.weight", block->from, m->at);
    uint64_t first = 0, all = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) all += parts[i].rows;
    if (!im_has_rows(block->plan, in, all)) return;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ImPiece *piece = im_put_rows(block, parts[i].to, in, first, parts[i].rows);
        if (parts[i].ordered) piece->order = *order;
        first += parts[i].rows;
    }
}

static void put_flat(ImBlock *block, const ImMamba3 *m, const char *to, const char *from, const ImOrder *order) {
    ImPiece *piece = im_put(block, to, im_flat(block->plan, im_take(block->plan, "%s%s%s", block->from, m->at, from)));
    if (order) piece->order = *order;
}

static void keys(ImBlock *block, const ImMamba3 *m) {
    im_key(block, "kind", "mamba3");
    im_key(block, "d_inner", "%" PRId64, m->heads * m->head_dim);
    im_key(block, "head_dim", "%" PRId64, m->head_dim);
    im_key(block, "n_groups", "%" PRId64, m->groups);
    im_key(block, "d_state", "%" PRId64, m->state);
    im_key_unless(block, "rope_fraction", m->rope_fraction, 0.5);
    if (m->rank) im_key(block, "mimo_rank", "%" PRId64, m->rank);
    im_key(block, "a_activation", "%s", m->a_activation);
    im_key_unless(block, "a_floor", m->a_floor, 1e-4);
    if (m->head_norm) im_key(block, "out_norm_heads", "rms");
}

void im_mamba3(ImBlock *block, const ImMamba3 *m) {
    const ImOrder order = {m->rank && m->state % 2 == 0 ? IM_TO_PAIRS : IM_IN_ORDER, (uint64_t)m->state};
    keys(block, m);
    in_proj(block, m, m->rank ? (uint64_t)m->rank : 1, &order);
    put_flat(block, m, "dt_proj.bias", "dt_bias", NULL);
    put_flat(block, m, "b_norm.weight", "B_norm.weight", &order);
    put_flat(block, m, "c_norm.weight", "C_norm.weight", &order);
    put_flat(block, m, "b_bias", "B_bias", &order);
    put_flat(block, m, "c_bias", "C_bias", &order);
    put_flat(block, m, "D", "D", NULL);
    if (m->head_norm) put_flat(block, m, "head_norm.weight", "norm.weight", NULL);
    if (m->rank) put_flat(block, m, "mimo_x", "mimo_x", NULL);
    if (m->rank) put_flat(block, m, "mimo_z", "mimo_z", NULL);
    if (m->rank) put_flat(block, m, "mimo_o", "mimo_o", NULL);
    im_linear(block, "out_proj", su_printf(&block->plan->arena, "%sout_proj", m->at), false);
}
