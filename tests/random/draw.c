/* Random specs. Every choice the language offers is drawn somewhere below; sizes are small and mostly no multiple of 16, with a
 * few that cross the 256 inputs of a linear layer's segment, the 256 keys of an attention block and the 512 rows of a step. */
#include <stdlib.h>

#include "draw.h"

#include <string.h>

#include "frontend/spec.h"
#include "rng.h"

/* What a share may adapt of a block, and have of its own. */
typedef struct Parts {
    const char *maps[8], *own[8];
    int n_maps, n_own;
} Parts;

/* What is common to the blocks of one spec. */
typedef struct Drawer {
    Rng rng;
    SuText *out;
    int64_t D;
    bool blocks;         /* some weights are q8 or q4, drawn last */
    bool small;          /* many tokens: keep everything else little */
    bool default_state;  /* defaults.ssm gives d_state and d_conv */
    bool default_router; /* defaults.router gives score and top_k 1 */
    bool default_mlp;    /* defaults.mlp gives d_ff and activation */
    bool default_moe;    /* defaults.mlp gives three experts */
    bool default_gated;  /* the activation of defaults.mlp is gated */
    Parts parts;         /* of the last block drawn */
    bool default_shortconv; /* defaults.shortconv gives d_conv and conv_bias */
    bool default_rope;   /* defaults.attention gives a rope with dim 2 */
} Drawer;

#define PICK(d, ...) pick((d), (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static const char *pick(Drawer *d, const char *const *words, size_t count) {
    return words[rng_between(&d->rng, 0, (int64_t)count - 1)];
}

/* What `activation` may be: of ssm, of mlp. */
static const char *const plain_activations[] = {
#define IR_PLAIN_WORD(word, WORD, name) #word,
#include "ir/activation.def"
};
static const char *const activations[] = {
#define IR_GATED_WORD(word, WORD, name) #word,
#include "ir/activation.def"
#define IR_PLAIN_WORD(word, WORD, name) #word,
#include "ir/activation.def"
};
static const char *const dtypes[] = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) #name,
#include "ir/dtype.def"
};
enum { FLOAT_DTYPES = IR_Q8 }; /* q8 and q4 stand behind the others */
#define PICK_OF(d, words) pick((d), (words), sizeof(words) / sizeof *(words))

static bool chance(Drawer *d, int percent) { return rng_chance(&d->rng, percent); }
static int64_t between(Drawer *d, int64_t low, int64_t high) { return rng_between(&d->rng, low, high); }
static const char *truth(Drawer *d) { return chance(d, 50) ? "true" : "false"; }

/* A size: now and then a multiple of 16, now and then past a segment of 256 inputs. */
static int64_t size_of(Drawer *d, int64_t low, int64_t high) {
    if (d->small) return between(d, low, low + (high - low) / 4);
    int64_t kind = between(d, 0, 99);
    if (kind < 25) return 16 * between(d, (low + 15) / 16, high / 16);
    if (kind < 31) return between(d, 257, 290);
    return between(d, low, high);
}

/* `d_inner: n` or `expand: r`, whichever name is given. */
static void draw_width(Drawer *d, const char *name, int64_t low, int64_t high) {
    if (chance(d, 30)) {
        const char *expand = d->D % 2 == 0 ? PICK(d, "1", "1.5", "2", "0.5", "2.0") : PICK(d, "1", "2", "1.0");
        su_text_add(d->out, "expand: %s", expand);
        return;
    }
    su_text_add(d->out, "%s: %lld", name, (long long)size_of(d, low, high));
}

/* What every block may have at its two ends. */
static void draw_ends(Drawer *d) {
    if (chance(d, 12)) su_text_add(d->out, ", input_scale: %s", PICK(d, "0.5", "1.25", "3", "1.0"));
    if (chance(d, 20)) su_text_add(d->out, ", output_scale: %s", PICK(d, "0.22", "0.5", "2.5", "1.0"));
    if (chance(d, 15)) su_text_add(d->out, ", out_norm: %s", PICK(d, "rms", "rms", "none"));
}

static void has_map(Drawer *d, const char *name) { d->parts.maps[d->parts.n_maps++] = name; }

static void may_own(Drawer *d, const char *what) { d->parts.own[d->parts.n_own++] = what; }

static void draw_router(Drawer *d, int64_t count, bool may_be_inner) {
    if (chance(d, 15) && (d->default_router || count >= 2)) return; /* all from defaults, or the language's */
    int64_t top_k = between(d, 1, count < 4 ? count : 4);
    su_text_add(d->out, ", router: {top_k: %lld", (long long)top_k);
    if (chance(d, 60)) su_text_add(d->out, ", score: %s", PICK(d, "softmax", "sigmoid"));
    if (chance(d, 60)) su_text_add(d->out, ", normalize: %s", truth(d));
    if (chance(d, 40)) su_text_add(d->out, ", scale: %s", PICK(d, "0.7", "1.3", "1.9", "1.0"));
    if (chance(d, 40)) su_text_add(d->out, ", select_bias: %s", truth(d));
    if (chance(d, 40)) su_text_add(d->out, ", bias: %s", truth(d));
    int64_t groups = between(d, 2, 4);
    while (count % groups != 0 && groups < count) groups++; /* runs of one, of a prime number */
    int64_t top = between(d, 1, groups);
    if (chance(d, 40) && count % groups == 0 && top_k <= count / groups * top)
        su_text_add(d->out, ", groups: {count: %lld, top: %lld}", (long long)groups, (long long)top);
    if (may_be_inner && chance(d, 40)) su_text_add(d->out, ", input: %s", PICK(d, "inner", "inner", "block"));
    su_text_add(d->out, "}");
}

/* `first`: the map that makes B and C. few: of so few channels relu2 leaves none at some tokens, where a router that reads them would have
 * nothing to choose by. */
static void draw_ssm_experts(Drawer *d, const char *first, bool few) {
    const char *const parts[] = {first, "dt_proj", "A", "D", "in_proj", "gate_proj", "conv", "out_proj"};
    int64_t count = between(d, 1, 20) == 1 ? 1 : between(d, 2, d->small ? 4 : 9);
    bool params = chance(d, 50);
    int usable = params ? 8 : 4;
    uint32_t set = 0;
    while (set == 0) set = (uint32_t)between(d, 1, (1 << usable) - 1);
    if (chance(d, 20)) set = 15; /* what MossNet uses */
    su_text_add(d->out, ", experts: {count: %lld, per_expert: [", (long long)count);
    const char *comma = "";
    for (int i = 0; i < usable; i++)
        if (set >> i & 1) {
            su_text_add(d->out, "%s%s", comma, parts[i]);
            comma = ", ";
        }
    su_text_add(d->out, "]");
    may_own(d, "router");
    if (params)
        su_text_add(d->out, ", combine: params");
    else if (chance(d, 50))
        su_text_add(d->out, ", combine: outputs");
    if (!params && chance(d, 70)) su_text_add(d->out, ", idle: %s", PICK(d, "hold", "update"));
    su_text_add(d->out, "}");
    draw_router(d, count, !few && (set & (1 << 4 | 1 << 6)) == 0);
}

/* Heads, groups and runs of every size: of whole panels, and of parts of one. */
static void draw_mamba2(Drawer *d) {
    int64_t groups = between(d, 1, 3), heads = groups * between(d, 1, 3),
            head_dim = strtoll(PICK(d, "1", "3", "4", "8", "16", "32"), NULL, 10);
    int64_t inner = heads * head_dim, runs = between(d, 1, 6);
    su_text_add(d->out, "kind: mamba2, d_inner: %lld, head_dim: %lld", (long long)inner, (long long)head_dim);
    if (groups > 1 || chance(d, 30)) su_text_add(d->out, ", n_groups: %lld", (long long)groups);
    while (inner % runs != 0) runs--;
    if (chance(d, 50)) su_text_add(d->out, ", norm_groups: %lld", (long long)runs);
    su_text_add(d->out, ", d_state: %lld", (long long)(chance(d, 10) ? 128 : between(d, 1, 24)));
    if (chance(d, 50)) su_text_add(d->out, ", d_conv: %lld", (long long)between(d, 1, 8));
    if (chance(d, 50)) su_text_add(d->out, ", conv_bias: %s", truth(d));
    if (chance(d, 50)) su_text_add(d->out, ", bias: %s", truth(d));
    if (chance(d, 60)) su_text_add(d->out, ", activation: %s", PICK_OF(d, plain_activations));
    if (chance(d, 50)) su_text_add(d->out, ", dt_limit: %s", PICK(d, "[0.001, 0.1]", "[0.02, none]", "[0, 0.05]", "none"));
    if (chance(d, 20))
        su_text_add(d->out, ", gated_norm: none");
    else
        may_own(d, "inner_norms");
    if (chance(d, 50)) su_text_add(d->out, ", norm_before_gate: %s", truth(d));
    if (chance(d, 30)) su_text_add(d->out, ", inner_norm_eps: 1e-4");
    if (chance(d, 50)) su_text_add(d->out, ", d_per_channel: %s", truth(d));
    if (chance(d, 30)) su_text_add(d->out, ", discretize: %s", PICK(d, "zoh", "euler"));
    if (chance(d, 50)) draw_ssm_experts(d, "bc_proj", inner < 8);
    draw_ends(d);
    su_text_add(d->out, "}");
}

/* Heads of one group and of several, angles for all components, for half of them or nearly none. */
static void draw_mamba3(Drawer *d) {
    static const char *const own[] = {"D", "biases", "inner_norms"}, *const maps[] = {"bc_proj", "trap_proj", "angle_proj"};
    int64_t groups = between(d, 1, 3), heads = groups * between(d, 1, 3),
            head_dim = strtoll(PICK(d, "1", "3", "4", "8", "16", "32"), NULL, 10);
    for (int i = 0; i < 3; i++) has_map(d, maps[i]);
    for (int i = 0; i < 3; i++) may_own(d, own[i]);
    su_text_add(d->out, "kind: mamba3, d_inner: %lld, head_dim: %lld", (long long)(heads * head_dim), (long long)head_dim);
    if (groups > 1 || chance(d, 30)) su_text_add(d->out, ", n_groups: %lld", (long long)groups);
    su_text_add(d->out, ", d_state: %lld",
                (long long)(chance(d, 10)   ? 128
                            : chance(d, 50) ? 16 * between(d, 1, 4)
                                            : 2 * between(d, 2, 20)));
    if (chance(d, 60)) su_text_add(d->out, ", rope_fraction: %s", PICK(d, "0.5", "1.0", "1"));
    if (chance(d, 50)) su_text_add(d->out, ", mimo_rank: %s", PICK(d, "1", "2", "3", "5", "none"));
    if (chance(d, 50)) su_text_add(d->out, ", a_activation: %s", PICK(d, "heavy_tail", "softplus"));
    if (chance(d, 40)) su_text_add(d->out, ", a_floor: %s", PICK(d, "0.8", "1e-3"));
    if (chance(d, 50)) su_text_add(d->out, ", out_norm_heads: %s", PICK(d, "rms", "rms", "none"));
    if (chance(d, 30)) su_text_add(d->out, ", inner_norm_eps: 1e-4");
    draw_ends(d);
    su_text_add(d->out, "}");
}

static void draw_ssm(Drawer *d) {
    static const char *const maps[] = {"in_proj", "gate_proj", "dt_proj", "out_proj"};
    static const char *const own[] = {"A", "D", "conv", "biases"};
    int64_t kind = between(d, 0, 99);
    bool mamba2 = kind < 30;
    for (int i = 0; i < 4; i++) has_map(d, maps[i]);
    if (kind >= 75) {
        su_text_add(d->out, "ssm: {");
        draw_mamba3(d);
        return;
    }
    has_map(d, mamba2 ? "bc_proj" : "x_proj");
    for (int i = 0; i < 4; i++) may_own(d, own[i]);
    su_text_add(d->out, "ssm: {");
    if (mamba2) {
        draw_mamba2(d);
        return;
    }
    draw_width(d, "d_inner", 5, 120);
    if (!d->default_state || chance(d, 50))
        su_text_add(d->out, ", d_state: %lld", (long long)(chance(d, 5) ? between(d, 33, 80) : between(d, 1, 24)));
    if (!d->default_state || chance(d, 50)) su_text_add(d->out, ", d_conv: %lld", (long long)between(d, 1, 8));
    if (chance(d, 70)) su_text_add(d->out, ", dt_rank: %lld", (long long)between(d, 1, 20));
    if (chance(d, 50)) su_text_add(d->out, ", conv_bias: %s", truth(d));
    if (chance(d, 50)) su_text_add(d->out, ", bias: %s", truth(d));
    if (chance(d, 60)) su_text_add(d->out, ", activation: %s", PICK_OF(d, plain_activations));
    if (chance(d, 30)) su_text_add(d->out, ", dt_norm: rms%s", chance(d, 40) ? ", inner_norm_eps: 1e-4" : "");
    if (chance(d, 30)) {
        su_text_add(d->out, ", b_norm: rms");
        may_own(d, "inner_norms");
    }
    if (chance(d, 30)) su_text_add(d->out, ", c_norm: %s", PICK(d, "rms", "rms", "none"));
    if (chance(d, 20)) su_text_add(d->out, ", discretize: %s", PICK(d, "zoh", "euler"));
    if (chance(d, 70)) draw_ssm_experts(d, "x_proj", false);
    draw_ends(d);
    su_text_add(d->out, "}");
}

static void draw_mlp(Drawer *d) {
    su_text_add(d->out, "mlp: {");
    const char *comma = "";
    if (!d->default_mlp || chance(d, 50)) {
        draw_width(d, "d_ff", 5, 130);
        comma = ", ";
    }
    has_map(d, "up_proj");
    has_map(d, "down_proj");
    if (!d->default_mlp || chance(d, 50)) {
        const char *activation = PICK_OF(d, activations);
        su_text_add(d->out, "%sactivation: %s", comma, activation);
        comma = ", ";
        if (strstr(activation, "glu")) has_map(d, "gate_proj");
    } else if (d->default_gated) {
        has_map(d, "gate_proj");
    }
    bool bias = chance(d, 50);
    su_text_add(d->out, "%sbias: %s", comma, bias ? "true" : "false");
    if (bias) may_own(d, "biases");
    if (chance(d, 60)) {
        int64_t count = between(d, 1, 15) == 1 ? 1 : between(d, 2, d->small ? 5 : 11),
                shared = chance(d, 35) ? between(d, 1, 3) : 0;
        su_text_add(d->out, ", experts: {count: %lld", (long long)count);
        if (shared) su_text_add(d->out, ", shared: %lld", (long long)shared);
        if (shared && chance(d, 60)) su_text_add(d->out, ", shared_d_ff: %lld", (long long)size_of(d, 3, 70));
        if (shared && chance(d, 50)) su_text_add(d->out, ", shared_gate: %s", PICK(d, "true", "true", "false"));
        if (chance(d, 25)) {
            su_text_add(d->out, ", latent: %lld", (long long)size_of(d, 3, 60));
            has_map(d, "latent_down_proj");
            has_map(d, "latent_up_proj");
        }
        su_text_add(d->out, "}");
        draw_router(d, count, false);
        may_own(d, "router");
        if (shared) has_map(d, "shared_up_proj");
        if (shared) has_map(d, "shared_down_proj");
    } else if (d->default_moe && chance(d, 50)) {
        su_text_add(d->out, ", experts: none");
    }
    draw_ends(d);
    su_text_add(d->out, "}");
}

/* Ramps that begin or end among the frequencies of a few dimensions. */
static void draw_scaling(Drawer *d) {
    int64_t kind = between(d, 0, 9);
    if (kind < 2) su_text_add(d->out, ", scaling: {kind: linear, factor: %s}", PICK(d, "2", "0.75", "8.0"));
    if (kind == 2) su_text_add(d->out, ", scaling: none");
    if (kind < 3 || kind > 5) return;
    const char *factor = PICK(d, "8.0", "3"), *low = PICK(d, "1.0", "0.01", "4"), *high = PICK(d, "4.5", "32");
    su_text_add(d->out,
                ", scaling: {kind: llama3, factor: %s, low_freq_factor: %s, high_freq_factor: %s, original_max_positions: %lld}",
                factor, low, high, (long long)between(d, 8, 200));
}

static void draw_attention(Drawer *d, int64_t tokens) {
    int64_t heads = between(d, 1, 6);
    int64_t kv = heads;
    while (chance(d, 60) || heads % kv != 0) kv = between(d, 1, heads);
    bool given = heads > d->D || d->D % heads != 0 || chance(d, 60);
    int64_t head_dim = given ? between(d, 1, 40) : d->D / heads;
    if (d->default_rope && head_dim < 2) head_dim = 2, given = true; /* a default that does not fit is an error */
    static const char *const maps[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    for (int i = 0; i < 4; i++) has_map(d, maps[i]);
    su_text_add(d->out, "attention: {n_heads: %lld", (long long)heads);
    if (kv != heads) su_text_add(d->out, ", n_kv_heads: %lld", (long long)kv);
    if (given) su_text_add(d->out, ", head_dim: %lld", (long long)head_dim);
    if (chance(d, 50)) su_text_add(d->out, ", window: %lld", (long long)between(d, 1, chance(d, 50) ? tokens : 24));
    if (head_dim >= 2 && chance(d, 60)) {
        su_text_add(d->out, ", rope: {");
        if (head_dim % 2 != 0 || d->default_rope || chance(d, 50))
            su_text_add(d->out, "dim: %lld, ", (long long)(2 * between(d, 1, head_dim / 2)));
        su_text_add(d->out, "theta: %s", PICK(d, "10000.0", "500.0", "1e6"));
        if (chance(d, 50)) su_text_add(d->out, ", pairing: %s", PICK(d, "interleaved", "interleaved", "half"));
        draw_scaling(d);
        su_text_add(d->out, "}");
    } else if (d->default_rope && chance(d, 50))
        su_text_add(d->out, ", rope: none");
    if (chance(d, 50)) su_text_add(d->out, ", bias: %s", truth(d));
    if (chance(d, 30)) su_text_add(d->out, ", qkv_bias: %s", truth(d));
    const char *qk_norm = PICK(d, "none", "none", "none", "head", "full");
    if (chance(d, 80)) {
        su_text_add(d->out, ", qk_norm: %s", qk_norm);
        if (strcmp(qk_norm, "none") != 0) may_own(d, "inner_norms");
    }
    if (chance(d, 30)) su_text_add(d->out, ", qkv_clip: %s", PICK(d, "0.7", "1.5", "none"));
    if (chance(d, 25)) su_text_add(d->out, ", scale: %s", PICK(d, "0.1", "0.5", "1.25"));
    draw_ends(d);
    su_text_add(d->out, "}");
}

static void draw_shortconv(Drawer *d) {
    static const char *const maps[] = {"b_proj", "c_proj", "in_proj", "out_proj"};
    for (int i = 0; i < 4; i++) has_map(d, maps[i]);
    may_own(d, "conv");
    su_text_add(d->out, "shortconv: {bias: %s", truth(d));
    if (chance(d, 60)) su_text_add(d->out, ", d_inner: %lld", (long long)size_of(d, 5, 120));
    if (!d->default_shortconv || chance(d, 50)) su_text_add(d->out, ", d_conv: %lld", (long long)between(d, 1, 8));
    if (chance(d, 50)) su_text_add(d->out, ", conv_bias: %s", truth(d));
    draw_ends(d);
    su_text_add(d->out, "}");
}

static void draw_block(Drawer *d, int64_t tokens, bool attention) {
    int64_t kind = attention ? 99 : between(d, 0, 99);
    d->parts = (Parts){0};
    if (kind < 55)
        draw_ssm(d);
    else if (kind < 75)
        draw_mlp(d);
    else if (kind < 84)
        draw_shortconv(d);
    else
        draw_attention(d, tokens);
}

/* Two to eight blocks; more than three are slow to compile. */
static void draw_parallel(Drawer *d, int64_t tokens, bool defined) {
    int64_t count = chance(d, 5) ? 8 : between(d, 2, 3);
    su_text_add(d->out, "parallel: [");
    for (int64_t i = 0; i < count; i++) {
        su_text_add(d->out, "%s", i ? ", " : "");
        if (count > 3 || chance(d, 15)) {
            su_text_add(d->out, "%s", defined && chance(d, 50) ? "word" : PICK(d, "ssm", "shortconv"));
            continue;
        }
        su_text_add(d->out, "{");
        draw_block(d, tokens, false);
        su_text_add(d->out, "}");
    }
    su_text_add(d->out, "]");
}

/* Some of a list's words, at least one. */
static void draw_some(Drawer *d, const char *const *words, int count) {
    int64_t first = between(d, 0, count - 1);
    const char *comma = "";
    su_text_add(d->out, "[");
    for (int i = 0; i < count; i++) {
        if (i != first && chance(d, 60)) continue;
        su_text_add(d->out, "%s%s", comma, words[i]);
        comma = ", ";
    }
    su_text_add(d->out, "]");
}

static void draw_share(Drawer *d, int64_t number, const Parts *parts) {
    bool group = chance(d, 25);
    su_text_add(d->out, group ? "  - repeat: 2\n    blocks:\n      - " : "  - ");
    su_text_add(d->out, "share: {block: base-%lld", (long long)number);
    if (chance(d, 65)) {
        su_text_add(d->out, ", adapters: {rank: %lld, targets: ", (long long)between(d, 1, chance(d, 20) ? 33 : 8));
        draw_some(d, parts->maps, parts->n_maps);
        su_text_add(d->out, "}");
    }
    if (parts->n_own > 0 && chance(d, 60)) {
        su_text_add(d->out, ", own: ");
        draw_some(d, parts->own, parts->n_own);
    }
    draw_ends(d);
    su_text_add(d->out, "}\n");
}

/* A named block and a share of it, in either order. */
static void draw_pair(Drawer *d, int64_t tokens, int64_t number) {
    SuText *out = d->out, base = {0}, share = {0};
    d->out = &base;
    su_text_add(d->out, "  - name: base-%lld\n    ", (long long)number);
    draw_block(d, tokens, false);
    su_text_add(d->out, "\n");
    Parts parts = d->parts;
    d->out = &share;
    draw_share(d, number, &parts);
    d->out = out;
    bool after = chance(d, 70);
    su_text_add(d->out, "%s%s", after ? base.text : share.text, after ? share.text : base.text);
    su_text_free(&base);
    su_text_free(&share);
}

static void draw_top(Drawer *d, uint64_t seed, int64_t tokens) {
    SuText *out = d->out;
    su_text_add(out, "mossc: 1\nname: random-%llu\n", (unsigned long long)seed);
    su_text_add(out, "vocab_size: %lld\nd_model: %lld\n", (long long)between(d, 17, 300), (long long)d->D);
    if (chance(d, 70)) {
        su_text_add(out, "norm: {kind: %s", PICK(d, "rms", "layer"));
        if (chance(d, 50)) su_text_add(out, ", eps: %s", PICK(d, "1e-6", "1e-3", "0.01"));
        su_text_add(out, "}\n");
    }
    if (chance(d, 40)) su_text_add(out, "final_norm: {kind: %s}\n", PICK(d, "rms", "layer"));
    if (chance(d, 60)) su_text_add(out, "tie_embeddings: %s\n", truth(d));
    if (chance(d, 40)) su_text_add(out, "embedding_scale: %s\n", PICK(d, "0.5", "3.25", "9.0"));
    if (chance(d, 40)) su_text_add(out, "logit_scale: %s\n", PICK(d, "0.125", "2.5"));
    const char *dtype = chance(d, 80) ? pick(d, dtypes, FLOAT_DTYPES) : NULL;
    if (dtype && !d->blocks) su_text_add(out, "weights: {dtype: %s}\n", dtype);
    su_text_add(out, "max_positions: %lld\n", (long long)(tokens + (chance(d, 50) ? 0 : between(d, 1, 90))));
}

/* The names of weights.overrides that tensors of the spec have, which is complete but for its weights. */
typedef struct Maps {
    const char *of[FE_N_WEIGHTS];
    size_t count;
} Maps;

static void find_maps(FeSpec *spec, Maps *out) {
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    for (size_t t = 0; t < count; t++) {
        size_t i = 0;
        while (tensors[t].map && i < out->count && strcmp(out->of[i], tensors[t].map) != 0) i++;
        if (tensors[t].map && i == out->count) out->of[out->count++] = tensors[t].map;
    }
}

static void draw_overrides(Drawer *d, const Maps *maps, int percent) {
    const char *before = ", overrides: {";
    for (size_t i = 0; i < maps->count; i++) {
        if (!chance(d, percent)) continue;
        su_text_add(d->out, "%s%s: %s", before, maps->of[i], PICK_OF(d, dtypes));
        before = ", ";
    }
    if (before[2] == '\0') su_text_add(d->out, "}");
}

/* What weights there are is known when the spec is drawn: theirs is the last key. */
static void draw_weights(Drawer *d) {
    FeSpec spec;
    SuDiags diags = {0};
    Maps maps = {0};
    if (!fe_spec_parse("random.yaml", d->out->text, d->out->size, NULL, 0, &spec, &diags)) abort();
    find_maps(&spec, &maps);
    const char *dtype = chance(d, 75) ? PICK(d, "q8", "q4", "q4") : PICK_OF(d, dtypes);
    su_text_add(d->out, "weights: {dtype: %s", dtype);
    draw_overrides(d, &maps, dtype[0] == 'q' ? 15 : 60);
    if (chance(d, 30)) su_text_add(d->out, ", activations: %s", PICK(d, "q8", "f32", "f32"));
    su_text_add(d->out, "}\n");
    fe_spec_free(&spec);
    su_diags_free(&diags);
}

static void draw_defaults(Drawer *d) {
    d->default_state = chance(d, 30), d->default_router = chance(d, 30);
    d->default_mlp = chance(d, 30), d->default_rope = chance(d, 20);
    d->default_shortconv = chance(d, 20);
    if (!d->default_state && !d->default_router && !d->default_mlp && !d->default_rope && !d->default_shortconv) return;
    SuText *out = d->out;
    su_text_add(out, "defaults:\n");
    if (d->default_state)
        su_text_add(out, "  ssm: {d_state: %lld, d_conv: %lld, activation: %s, c_norm: rms%s}\n", (long long)between(d, 1, 20),
                    (long long)between(d, 1, 6), PICK(d, "silu", "gelu"),
                    chance(d, 30) ? ", out_norm: rms, output_scale: 0.75" : "");
    if (d->default_mlp) {
        d->default_moe = chance(d, 40);
        d->default_gated = chance(d, 50);
        su_text_add(out, "  mlp: {d_ff: %lld, activation: %s%s}\n", (long long)size_of(d, 5, 90),
                    d->default_gated ? "swiglu" : "relu2", d->default_moe ? ", experts: {count: 3}" : "");
    }
    if (d->default_shortconv) su_text_add(out, "  shortconv: {d_conv: %lld, conv_bias: true}\n", (long long)between(d, 2, 5));
    if (d->default_rope) su_text_add(out, "  attention: {rope: {dim: 2}}\n");
    if (d->default_router) su_text_add(out, "  router: {top_k: 1, score: %s, scale: 1.25}\n", PICK(d, "softmax", "sigmoid"));
}

int64_t draw_spec(uint64_t seed, DrawWeights weights, SuText *out) {
    Drawer d = {.rng = {seed * 0x2545f4914f6cdd1du + 7}, .out = out, .blocks = weights == DRAW_BLOCKS};
    int64_t tokens = between(&d, 40, 70);
    bool attention = false;
    if (chance(&d, 7)) tokens = between(&d, 270, 560), d.small = true, attention = true;
    d.D = d.small ? between(&d, 7, 33) : size_of(&d, 7, 96);
    draw_top(&d, seed, tokens);
    draw_defaults(&d);
    int64_t blocks = between(&d, 1, d.small ? 2 : 5), defined = chance(&d, 25) ? 1 : 0;
    if (defined) {
        su_text_add(out, "define:\n  word: {");
        draw_block(&d, tokens, false);
        su_text_add(out, "}\n");
    }
    su_text_add(out, "stack:\n");
    if (attention) {
        su_text_add(out, "  - ");
        draw_block(&d, tokens, true);
        su_text_add(out, "\n");
    }
    for (int64_t i = 0; i < blocks; i++) {
        if (defined && chance(&d, 50)) {
            su_text_add(out, "  - word\n");
        } else if (i + 2 <= blocks && chance(&d, 20)) {
            draw_pair(&d, tokens, i);
            i++;
        } else if (!d.small && i + 2 <= blocks && chance(&d, 20)) {
            su_text_add(out, "  - ");
            draw_parallel(&d, tokens, defined);
            su_text_add(out, "\n");
            i++;
        } else if (!d.small && i + 2 < blocks && chance(&d, 25)) {
            su_text_add(out, "  - repeat: 2\n    blocks:\n      - ");
            draw_block(&d, tokens, false);
            su_text_add(out, "\n");
            i++;
        } else if (chance(&d, 6)) {
            su_text_add(out, "  - %s\n", PICK(&d, "ssm", "ssm", "shortconv"));
        } else {
            su_text_add(out, "  - ");
            draw_block(&d, tokens, false);
            su_text_add(out, "\n");
        }
    }
    if (d.blocks) draw_weights(&d);
    return tokens;
}
