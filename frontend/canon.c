/* The canonical text of a spec: every field as it is after defaults, in a fixed order, without names and places. */
#include <string.h>

#include "frontend/load.h"

/* Seventeen digits tell any two doubles apart. */
static void print_block(const FeBlock *b, SuText *out) {
    switch (b->kind) {
    case FE_SSM:
        su_text_add(out, "ssm d_inner=%lld d_state=%lld d_conv=%lld dt_rank=%lld conv_bias=%d bias=%d activation=%s",
                    (long long)b->ssm.d_inner, (long long)b->ssm.d_state, (long long)b->ssm.d_conv, (long long)b->ssm.dt_rank,
                    b->ssm.conv_bias, b->ssm.bias, fe_activation_word(b->ssm.activation));
        su_text_add(out, " dt_norm=%d b_norm=%d c_norm=%d inner_norm_eps=%.17g\n", b->ssm.dt_norm, b->ssm.b_norm, b->ssm.c_norm,
                    b->ssm.inner_norm_eps);
        break;
    case FE_MLP:
        su_text_add(out, "mlp d_ff=%lld activation=%s bias=%d\n", (long long)b->mlp.d_ff, fe_activation_word(b->mlp.activation),
                    b->mlp.bias);
        break;
    case FE_ATTENTION:
        su_text_add(out, "attention n_heads=%lld n_kv_heads=%lld head_dim=%lld window=%lld bias=%d",
                    (long long)b->attention.n_heads, (long long)b->attention.n_kv_heads, (long long)b->attention.head_dim,
                    (long long)b->attention.window, b->attention.bias);
        if (b->attention.rope)
            su_text_add(out, " rope_theta=%.17g rope_dim=%lld", b->attention.rope_theta, (long long)b->attention.rope_dim);
        su_text_add(out, "\n");
        break;
    }
}

static void print_experts(const FeBlock *b, SuText *out) {
    const FeExperts *e = &b->experts;
    if (e->count == 0) return;
    su_text_add(out, "experts count=%lld", (long long)e->count);
    if (b->kind == FE_SSM)
        su_text_add(out, " per_expert=%u combine=%d idle=%d", (unsigned)e->per_expert, (int)e->combine, (int)e->idle);
    else if (e->shared > 0)
        su_text_add(out, " shared=%lld shared_d_ff=%lld", (long long)e->shared, (long long)e->shared_d_ff);
    const FeRouter *r = &b->router;
    su_text_add(out, "\nrouter top_k=%lld score=%d normalize=%d scale=%.17g select_bias=%d bias=%d input=%d\n", (long long)r->top_k,
                (int)r->score, r->normalize, r->scale, r->select_bias, r->bias, (int)r->input);
}

static void print_token(const char *key, int64_t id, const char *text, SuText *out) {
    if (text)
        su_text_add(out, " %s_text=%zu:%s", key, strlen(text), text); /* the length keeps any text apart from what follows */
    else
        su_text_add(out, " %s=%lld", key, (long long)id);
}

void fe_print_canonical(const FeSpec *spec, const char *tokenizer_file, SuText *out) {
    const FeTokenizer *t = &spec->tokenizer;
    su_text_add(out, "mossc 1\nvocab_size=%lld d_model=%lld max_positions=%lld\n", (long long)spec->vocab_size,
                (long long)spec->d_model, (long long)spec->max_positions);
    su_text_add(out, "norm kind=%d eps=%.17g\nfinal_norm kind=%d eps=%.17g\n", (int)spec->norm.kind, spec->norm.eps,
                (int)spec->final_norm.kind, spec->final_norm.eps);
    su_text_add(out, "tie_embeddings=%d embedding_scale=%.17g logit_scale=%.17g weights=%s\n", spec->tie_embeddings,
                spec->embedding_scale, spec->logit_scale, fe_dtype_word(spec->weights_dtype));
    su_text_add(out, "tokenizer kind=%d", (int)t->kind);
    if (tokenizer_file) su_text_add(out, " file=%zu:%s", strlen(tokenizer_file), tokenizer_file);
    print_token("bos", t->bos, t->bos_text, out);
    print_token("eos", t->eos, t->eos_text, out);
    su_text_add(out, "\n");
    for (int64_t i = 0; i < spec->n_blocks; i++) {
        print_block(&spec->blocks[i], out);
        print_experts(&spec->blocks[i], out);
    }
}
