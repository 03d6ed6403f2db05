/* attention blocks (docs/language.md, "attention"). */
#include <math.h>
#include <string.h>

#include "frontend/kinds.h"
#include "support/size.h"

/* ---- building ---- */

/* D/H, which must be whole. 0 when it is not known. */
static int64_t default_head_dim(const FeBuild *b, const FeMap *map) {
    const FeValue *heads = fe_value(map, KEY(attention, n_heads));
    int64_t d_model = b->load->spec->d_model;
    if (heads->state != FE_GIVEN || !b->load->d_model_known || fe_broken(map, KEY(attention, head_dim))) return 0;
    if (d_model % heads->integer != 0) {
        fe_refuse(b, heads, "'attention.n_heads': %lld does not divide d_model %lld, and head_dim is not given",
                  (long long)heads->integer, (long long)d_model);
        return 0;
    }
    return d_model / heads->integer;
}

/* The keys of llama3 must all be there, and have no meaning in another kind. */
static void build_scaling(const FeBuild *b, FeMap *rope) {
    static const FeKey own[] = {KEY(rope_scaling, low_freq_factor), KEY(rope_scaling, high_freq_factor),
                                KEY(rope_scaling, original_max_positions)};
    FeMap *scaling = fe_child(rope, KEY(rope, scaling));
    if (!scaling) return;
    fe_complete(&b->load->reader, scaling);
    if (!fe_given(scaling, KEY(rope_scaling, kind))) return;
    bool llama3 = fe_integer(scaling, KEY(rope_scaling, kind)) == FE_LLAMA3;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const FeValue *value = fe_value(scaling, own[i]);
        const char *name = fe_key_name(b->arena, own[i]);
        if (llama3 && value->state == FE_ABSENT) {
            fe_report_once(&b->load->reader, SU_CODE_missing_key, scaling->span, NULL,
                           su_printf(b->arena, "'%s' is required with kind: llama3", name));
        }
        if (llama3) continue;
        if (value->written && value->state == FE_GIVEN) fe_misplaced(b, value, "'%s' has no meaning with kind: linear", name);
        fe_drop(scaling, own[i]);
    }
    const FeValue *low = fe_value(scaling, own[0]), *high = fe_value(scaling, own[1]);
    if (low->state == FE_GIVEN && high->state == FE_GIVEN && high->real <= low->real)
        fe_refuse(b, high, "'attention.rope.scaling.high_freq_factor' is %g, not above low_freq_factor %g", high->real, low->real);
}

static void build_rope(const FeBuild *b, FeMap *map, int64_t head_dim) {
    FeMap *rope = fe_child(map, KEY(attention, rope));
    if (!rope) return;
    fe_complete(&b->load->reader, rope);
    build_scaling(b, rope);
    const FeValue dim = *fe_value(rope, KEY(rope, dim));
    if (dim.state == FE_ABSENT) fe_set_integer(rope, KEY(rope, dim), head_dim);
    if (dim.state == FE_BROKEN) return;
    const FeValue *at = dim.state == FE_GIVEN ? &dim : fe_value(map, KEY(attention, rope));
    int64_t turned = fe_integer(rope, KEY(rope, dim));
    if (turned % 2 != 0) {
        fe_refuse(b, at, "'attention.rope.dim' is %lld%s, but components turn in pairs: it must be even", (long long)turned,
                  dim.state == FE_GIVEN ? "" : " (head_dim)");
    } else if (head_dim > 0 && turned > head_dim) {
        fe_refuse(b, at, "'attention.rope.dim' is %lld, more than head_dim %lld", (long long)turned, (long long)head_dim);
    }
}

/* The values of a block that is complete. */
typedef struct Attention {
    int64_t n_heads, n_kv_heads, head_dim; /* H, Hkv, P */
    bool qkv_bias, o_bias, rope;
    FeQkNorm qk_norm;
    double clip, scale; /* clip 0: none */
    int64_t window; /* 0: none */
    IrAttr angles[IR_rope_ATTRS]; /* heads and head_dim are left out */
} Attention;

static void read_rope(const FeMap *rope, IrAttr *out) {
    const FeMap *scaling = fe_child(rope, KEY(rope, scaling));
    out[IR_ROPE_dim].i = fe_integer(rope, KEY(rope, dim));
    out[IR_ROPE_theta].f = fe_real(rope, KEY(rope, theta));
    out[IR_ROPE_interleaved].i = fe_integer(rope, KEY(rope, pairing)) == FE_INTERLEAVED;
    out[IR_ROPE_factor].f = scaling ? fe_real(scaling, KEY(rope_scaling, factor)) : 1;
    if (!scaling || fe_integer(scaling, KEY(rope_scaling, kind)) != FE_LLAMA3) return;
    out[IR_ROPE_low].f = fe_real(scaling, KEY(rope_scaling, low_freq_factor));
    out[IR_ROPE_high].f = fe_real(scaling, KEY(rope_scaling, high_freq_factor));
    out[IR_ROPE_original].i = fe_integer(scaling, KEY(rope_scaling, original_max_positions));
}

static Attention read(const FeMap *map) {
    const FeMap *rope = fe_child(map, KEY(attention, rope));
    const FeValue *window = fe_value(map, KEY(attention, window)), *scale = fe_value(map, KEY(attention, scale));
    const FeValue *clip = fe_value(map, KEY(attention, qkv_clip));
    const bool bias = fe_truth(map, KEY(attention, bias));
    Attention out = {
        .n_heads = fe_integer(map, KEY(attention, n_heads)),
        .n_kv_heads = fe_integer(map, KEY(attention, n_kv_heads)),
        .head_dim = fe_integer(map, KEY(attention, head_dim)),
        .qkv_bias = bias || fe_truth(map, KEY(attention, qkv_bias)),
        .o_bias = bias,
        .qk_norm = (FeQkNorm)fe_integer(map, KEY(attention, qk_norm)),
        .clip = clip->word ? 0 : clip->real,
        .window = window->word ? 0 : window->integer,
        .rope = rope != NULL,
    };
    out.scale = scale->state == FE_GIVEN ? scale->real : 1 / sqrt((double)out.head_dim);
    if (rope) read_rope(rope, out.angles);
    return out;
}

static void build(const FeBuild *b, FeMap *map) {
    const FeValue *heads = fe_value(map, KEY(attention, n_heads)), *kv = fe_value(map, KEY(attention, n_kv_heads));
    if (!fe_given(map, KEY(attention, head_dim))) fe_set_integer(map, KEY(attention, head_dim), default_head_dim(b, map));
    if (heads->state == FE_GIVEN && kv->state == FE_GIVEN && heads->integer % kv->integer != 0) {
        fe_refuse(b, kv, "'attention.n_kv_heads': %lld does not divide n_heads %lld", (long long)kv->integer,
                  (long long)heads->integer);
    }
    if (kv->state == FE_ABSENT) fe_set_integer(map, KEY(attention, n_kv_heads), heads->integer);
    build_rope(b, map, fe_integer(map, KEY(attention, head_dim)));
    const Attention a = read(map);
    uint64_t positions = (uint64_t)(a.window > 0 ? a.window : b->load->spec->max_positions), cached;
    if (!su_mul(positions, (uint64_t)a.n_kv_heads, &cached) || !su_mul(cached, (uint64_t)a.head_dim, &cached)) cached = UINT64_MAX;
    b->out->state_elements = cached;
    b->out->knows_order = a.rope;
    b->out->looks_back = true;
    b->out->window = a.window;
}

/* ---- tensors ---- */

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const Attention a = read(block->map);
    const int64_t D = l->spec->d_model, q = a.n_heads * a.head_dim, kv = a.n_kv_heads * a.head_dim;
    fe_add_linear(l, "q_proj", false, q, D, a.qkv_bias);
    fe_add_linear(l, "k_proj", false, kv, D, a.qkv_bias);
    fe_add_linear(l, "v_proj", false, kv, D, a.qkv_bias);
    if (a.qk_norm != FE_QK_NORM_NONE) {
        fe_add_norm(l, "q_norm", FE_NORM_RMS, a.qk_norm == FE_QK_NORM_HEAD ? a.head_dim : q);
        fe_add_norm(l, "k_norm", FE_NORM_RMS, a.qk_norm == FE_QK_NORM_HEAD ? a.head_dim : kv);
    }
    fe_add_linear(l, "o_proj", false, D, q, a.o_bias)->init_scale = l->deep;
}

/* ---- lowering ---- */

/* q or k normed, as many heads each by itself or all as one. */
static IrValueId lower_norm(FeLower *l, const Attention *d, const char *weight, int64_t heads, IrValueId x) {
    if (d->qk_norm == FE_QK_NORM_NONE) return x;
    return fe_rms_norm(l, l->spec->norm.eps, d->qk_norm == FE_QK_NORM_HEAD ? heads : 1, fe_weight(l, weight), x);
}

static IrValueId lower_clip(FeLower *l, const Attention *d, IrValueId x) {
    return d->clip > 0 ? fe_clamp(l, -d->clip, d->clip, x) : x;
}

static IrValueId lower_rope(FeLower *l, const Attention *d, int64_t heads, IrValueId x) {
    IrAttr attrs[IR_rope_ATTRS];
    if (!d->rope) return x;
    memcpy(attrs, d->angles, sizeof attrs);
    attrs[IR_ROPE_heads].i = heads;
    attrs[IR_ROPE_head_dim].i = d->head_dim;
    return ir_op1_attrs(&l->b, IR_OP_rope, x, l->b.graph->positions, IR_NONE, attrs);
}

static IrValueId lower(FeLower *l, const FeBlock *block, IrValueId u) {
    const Attention values = read(block->map), *d = &values;
    IrValueId q = fe_linear(l, "q_proj", d->qkv_bias, u);
    IrValueId k = fe_linear(l, "k_proj", d->qkv_bias, u);
    IrValueId v = fe_linear(l, "v_proj", d->qkv_bias, u);
    q = lower_norm(l, d, "q_norm.weight", d->n_heads, q);
    k = lower_norm(l, d, "k_norm.weight", d->n_kv_heads, k);
    q = lower_rope(l, d, d->n_heads, lower_clip(l, d, q));
    k = lower_rope(l, d, d->n_kv_heads, lower_clip(l, d, k));
    v = lower_clip(l, d, v);
    int64_t in_sight = d->window > 0 ? d->window : l->spec->max_positions;
    IrType cache = ir_type(IR_F32, 2, in_sight, d->n_kv_heads * d->head_dim);
    IrValueId k_cache = fe_state(l, "k", cache), v_cache = fe_state(l, "v", cache);
    IrAttr attrs[] = {[IR_ATTEND_heads] = {.i = d->n_heads},
                      [IR_ATTEND_kv_heads] = {.i = d->n_kv_heads},
                      [IR_ATTEND_head_dim] = {.i = d->head_dim},
                      [IR_ATTEND_window] = {.i = d->window},
                      [IR_ATTEND_scale] = {.f = d->scale}};
    IrValueId operands[] = {q, k, v, l->b.graph->positions, k_cache, v_cache};
    IrNode *node = ir_node(&l->b, IR_OP_attend, operands, 6, attrs);
    IrValueId o = node->results[0];
    l->b.graph->values[k_cache].next = node->results[1];
    l->b.graph->values[v_cache].next = node->results[2];
    return fe_linear(l, "o_proj", d->o_bias, o);
}

/* ---- describing ---- */

static void describe(const FeBlock *block, SuText *out) {
    if (block->window) su_text_add(out, "window %lld", (long long)block->window);
}

const FeKind fe_kind_attention = {build, add_tensors, lower, describe};
