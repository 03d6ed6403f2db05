/* A spec as YAML with every value written out: what is left when defaults, definitions, groups and --set have been applied. It reads
 * back to the same FeSpec, names of blocks and places aside, and so to the same hash. One line a block. */
#include <stdlib.h>
#include <string.h>

#include "frontend/spec.h"

static const char *const norm_words[] = {[FE_NORM_RMS] = "rms", [FE_NORM_LAYER] = "layer"};
static const char *const score_words[] = {[FE_SOFTMAX] = "softmax", [FE_SIGMOID] = "sigmoid"};
static const char *const combine_words[] = {[FE_OUTPUTS] = "outputs", [FE_PARAMS] = "params"};
static const char *const idle_words[] = {[FE_HOLD] = "hold", [FE_UPDATE] = "update"};
static const char *const input_words[] = {[FE_ROUTER_BLOCK] = "block", [FE_ROUTER_INNER] = "inner"};
static const char *const own_words[] = {"in_proj", "gate_proj", "conv", "x_proj",
                                        "dt_proj", "A",         "D",    "out_proj"}; /* FE_IN_PROJ… */

static const char *truth(bool value) { return value ? "true" : "false"; }

static const char *rms_or_none(bool value) { return value ? "rms" : "none"; }

/* The shortest decimal that reads back as the same double. */
static void print_real(const char *key, double value, SuText *out) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    su_text_add(out, "%s: %s%s", key, text, strpbrk(text, ".e") ? "" : ".0");
}

/* As a YAML string in double quotes. */
static void print_string(const char *text, SuText *out) {
    su_text_add(out, "\"");
    for (; *text; text++)
        if ((unsigned char)*text < ' ')
            su_text_add(out, "\\x%02X", (unsigned)*text);
        else
            su_text_add(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    su_text_add(out, "\"");
}

/* ---- blocks */

static void print_router(const FeBlock *b, SuText *out) {
    const FeRouter *r = &b->router;
    su_text_add(out, ", router: {top_k: %lld, score: %s, normalize: %s, ", (long long)r->top_k, score_words[r->score],
                truth(r->normalize));
    print_real("scale", r->scale, out);
    su_text_add(out, ", select_bias: %s, bias: %s", truth(r->select_bias), truth(r->bias));
    if (b->kind == FE_SSM) su_text_add(out, ", input: %s", input_words[r->input]);
    su_text_add(out, "}");
}

static void print_experts(const FeBlock *b, SuText *out) {
    const FeExperts *e = &b->experts;
    if (e->count == 0) {
        if (b->kind != FE_ATTENTION) su_text_add(out, ", experts: none");
        return;
    }
    su_text_add(out, ", experts: {count: %lld", (long long)e->count);
    if (b->kind == FE_SSM) {
        const char *comma = "";
        su_text_add(out, ", per_expert: [");
        for (size_t i = 0; i < sizeof own_words / sizeof *own_words; i++) {
            if (!(e->per_expert >> i & 1)) continue;
            su_text_add(out, "%s%s", comma, own_words[i]);
            comma = ", ";
        }
        su_text_add(out, "], combine: %s", combine_words[e->combine]);
        if (e->combine == FE_OUTPUTS) su_text_add(out, ", idle: %s", idle_words[e->idle]);
    } else {
        su_text_add(out, ", shared: %lld", (long long)e->shared);
        if (e->shared > 0) su_text_add(out, ", shared_d_ff: %lld", (long long)e->shared_d_ff);
    }
    su_text_add(out, "}");
    print_router(b, out);
}

static void print_ssm(const FeSsm *s, SuText *out) {
    su_text_add(out, "d_inner: %lld, d_state: %lld, d_conv: %lld, dt_rank: %lld, conv_bias: %s, bias: %s, activation: %s",
                (long long)s->d_inner, (long long)s->d_state, (long long)s->d_conv, (long long)s->dt_rank, truth(s->conv_bias),
                truth(s->bias), fe_activation_word(s->activation));
    su_text_add(out, ", dt_norm: %s, b_norm: %s, c_norm: %s, ", rms_or_none(s->dt_norm), rms_or_none(s->b_norm),
                rms_or_none(s->c_norm));
    print_real("inner_norm_eps", s->inner_norm_eps, out);
}

static void print_attention(const FeAttention *a, SuText *out) {
    su_text_add(out, "n_heads: %lld, n_kv_heads: %lld, head_dim: %lld, bias: %s, ", (long long)a->n_heads, (long long)a->n_kv_heads,
                (long long)a->head_dim, truth(a->bias));
    if (a->window > 0)
        su_text_add(out, "window: %lld, ", (long long)a->window);
    else
        su_text_add(out, "window: none, ");
    if (a->rope) {
        su_text_add(out, "rope: {");
        print_real("theta", a->rope_theta, out);
        su_text_add(out, ", dim: %lld}", (long long)a->rope_dim);
    } else {
        su_text_add(out, "rope: none");
    }
}

static void print_block(const FeBlock *b, SuText *out) {
    su_text_add(out, "  - %s: {", fe_block_kind_word(b->kind));
    switch (b->kind) {
    case FE_SSM: print_ssm(&b->ssm, out); break;
    case FE_MLP:
        su_text_add(out, "d_ff: %lld, activation: %s, bias: %s", (long long)b->mlp.d_ff, fe_activation_word(b->mlp.activation),
                    truth(b->mlp.bias));
        break;
    case FE_ATTENTION: print_attention(&b->attention, out); break;
    }
    print_experts(b, out);
    su_text_add(out, "}\n");
}

/* ---- the file */

static void print_norm(const char *key, const FeNorm *norm, SuText *out) {
    su_text_add(out, "%s: {kind: %s, ", key, norm_words[norm->kind]);
    print_real("eps", norm->eps, out);
    su_text_add(out, "}\n");
}

static void print_token(const char *key, int64_t id, const char *text, SuText *out) {
    su_text_add(out, ", %s: ", key);
    if (text)
        print_string(text, out);
    else if (id >= 0)
        su_text_add(out, "%lld", (long long)id);
    else
        su_text_add(out, "none");
}

static void print_tokenizer(const FeTokenizer *t, SuText *out) {
    su_text_add(out, "tokenizer: {kind: %s", t->kind == FE_TOKENIZER_BPE ? "bpe" : "bytes");
    if (t->kind == FE_TOKENIZER_BPE) {
        su_text_add(out, ", file: ");
        print_string(t->written_file, out);
    }
    print_token("bos", t->bos, t->bos_text, out);
    print_token("eos", t->eos, t->eos_text, out);
    su_text_add(out, "}\n");
}

void fe_print_spec(const FeSpec *spec, SuText *out) {
    su_text_add(out, "mossc: 1\nname: %s\nvocab_size: %lld\nd_model: %lld\n", spec->name, (long long)spec->vocab_size,
                (long long)spec->d_model);
    print_norm("norm", &spec->norm, out);
    print_norm("final_norm", &spec->final_norm, out);
    su_text_add(out, "tie_embeddings: %s\n", truth(spec->tie_embeddings));
    print_real("embedding_scale", spec->embedding_scale, out);
    su_text_add(out, "\n");
    print_real("logit_scale", spec->logit_scale, out);
    su_text_add(out, "\nmax_positions: %lld\nweights: {dtype: %s}\n", (long long)spec->max_positions,
                fe_dtype_word(spec->weights_dtype));
    print_tokenizer(&spec->tokenizer, out);
    su_text_add(out, "stack:\n");
    for (int64_t i = 0; i < spec->n_blocks; i++) print_block(&spec->blocks[i], out);
}
