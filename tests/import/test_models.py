"""Families for which tests/golden has no logits: each is written down here once more, in NumPy and from the names and shapes of its
checkpoints, and what mossc makes of a random one is held against that.

    python3 tests/import/test_models.py --mossc build/release/mossc [NAME…]
"""
import sys

import numpy as np

sys.dont_write_bytecode = True
from folders import Drawn, make  # noqa: E402
from harness import run_tests  # noqa: E402

TOLERANCE = 1e-4  # largest difference over the root mean square
V, D, T = 40, 32, 24
TOKENS = np.random.default_rng(5).integers(0, V, T)

silu = lambda x: x / (1 + np.exp(-x))  # noqa: E731
sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
erf = np.vectorize(__import__("math").erf)
gelu = lambda x: x / 2 * (1 + erf(x / np.sqrt(2)))  # noqa: E731


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rms(x, weight, eps=1e-5):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, weight, bias, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight + bias


def heads_of(x, n):
    return x.reshape(T, n, -1)


def rope(x, theta=10000.0, dim=None, interleaved=False):
    """x [T, heads, head_dim]: the first `dim` components turn."""
    dim = dim or x.shape[-1]
    angles = np.arange(T)[:, None] * theta ** (-np.arange(0, dim, 2) / dim)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    out = x.copy()
    first, second = (slice(0, dim, 2), slice(1, dim, 2)) if interleaved else (slice(0, dim // 2), slice(dim // 2, dim))
    out[..., first], out[..., second] = x[..., first] * cos - x[..., second] * sin, x[..., second] * cos + x[..., first] * sin
    return out


def attend(q, k, v, scale):
    """[T, heads, head_dim] each; neighbours share keys and values."""
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scores = np.einsum("thd,shd->hts", q, k) * scale
    scores[:, ~np.tri(T, dtype=bool)] = -np.inf
    return np.einsum("hts,shd->thd", softmax(scores), v).reshape(T, -1)


def convolved(x, weight, bias):
    """x [T, C], weight [C, 1, W]."""
    width = weight.shape[-1]
    padded = np.vstack([np.zeros((width - 1, x.shape[1])), x])
    return silu(sum(padded[w : w + T] * weight[:, 0, w] for w in range(width)) + bias)


def check(m, name, config, drawn, logits, *options, said=(), **texts):
    folder = make(m, name, config, drawn.tensors, **texts)
    m.run("import", folder, "-o", "out", "--verify", *options)
    spec = (m.directory / "out" / "spec.yaml").read_text()
    for words in said:
        assert words in spec, f"{words!r} is not in\n{spec}"
    m.file("tokens.txt", " ".join(map(str, TOKENS)))
    # The evaluator: what is compiled has its bits, and is compiled in tests/golden.
    m.run("logits", "out/spec.yaml", "-w", "out/model.safetensors", "--tokens", "tokens.txt", "-o", "logits.npy", "--reference", 32)
    got = np.array(m.npy("logits.npy")[0])
    off = np.abs(got - logits).max() / np.sqrt(np.mean(logits**2))
    assert off < TOLERANCE, f"off by {off}\n{spec}"


# ---------------------------------------------------------------------------------------------- transformers


def qkv(w, at, x, heads, kv_heads, dim, bias):
    parts = []
    for part, n in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        y = x @ w(f"{at}{part}_proj.weight", n * dim, D).T
        parts.append(heads_of(y + w(f"{at}{part}_proj.bias", n * dim) if bias else y, n))
    return parts


def swiglu(w, at, x, width):
    return (silu(x @ w(at + "gate_proj.weight", width, D).T) * (x @ w(at + "up_proj.weight", width, D).T)) @ w(at + "down_proj.weight", D, width).T


TRANSFORMER = {"hidden_size": D, "vocab_size": V, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "intermediate_size": 48,
               "max_position_embeddings": 64, "tie_word_embeddings": False}


def test_granite(m):
    w = Drawn(1)
    config = {**TRANSFORMER, "model_type": "granite", "num_hidden_layers": 2, "rms_norm_eps": 1e-5, "embedding_multiplier": 3.0, "attention_multiplier": 0.2,
              "residual_multiplier": 0.6, "logits_scaling": 2.5, "rope_theta": 500.0, "rope_scaling": None}
    h = 3.0 * w("model.embed_tokens.weight", V, D)[TOKENS]
    for i in range(2):
        at = f"model.layers.{i}."
        q, k, v = qkv(w, at + "self_attn.", rms(h, w(at + "input_layernorm.weight", D, near=1)), 4, 2, 8, False)
        h = h + 0.6 * attend(rope(q, 500), rope(k, 500), v, 0.2) @ w(at + "self_attn.o_proj.weight", D, D).T
        h = h + 0.6 * swiglu(w, at + "mlp.", rms(h, w(at + "post_attention_layernorm.weight", D, near=1)), 48)
    logits = rms(h, w("model.norm.weight", D, near=1)) @ w("lm_head.weight", V, D).T / 2.5
    check(m, "granite", config, w, logits, said=["repeat: 2"])


def granite_experts(w, at, x, count, top_k, width):
    """Gate and up are halves of one matrix an expert; a softmax of the chosen ones' logits."""
    both, down = w(at + "input_linear.weight", count, 2 * width, D), w(at + "output_linear.weight", count, D, width)
    logits, out = x @ w(at + "router.layer.weight", count, D, scale=0.5).T, np.zeros_like(x)
    for t in range(T):
        chosen = np.argsort(-logits[t])[:top_k]
        for e, p in zip(chosen, softmax(logits[t][chosen]), strict=True):
            y = both[e] @ x[t]
            out[t] += p * (down[e] @ (silu(y[:width]) * y[width:]))
    return out


def check_granite_moe(m, name, shared):
    w = Drawn(7)
    config = {**TRANSFORMER, "model_type": name, "num_hidden_layers": 2, "rms_norm_eps": 1e-5, "embedding_multiplier": 3.0, "attention_multiplier": 0.2,
              "residual_multiplier": 0.6, "logits_scaling": 2.5, "rope_theta": 500.0, "rope_scaling": None, "num_local_experts": 6, "num_experts_per_tok": 2,
              "intermediate_size": 16, "output_router_logits": False, "router_aux_loss_coef": 0.001, **({"shared_intermediate_size": 24} if shared else {})}
    h = 3.0 * w("model.embed_tokens.weight", V, D)[TOKENS]
    for i in range(2):
        at = f"model.layers.{i}."
        q, k, v = qkv(w, at + "self_attn.", rms(h, w(at + "input_layernorm.weight", D, near=1)), 4, 2, 8, False)
        h = h + 0.6 * attend(rope(q, 500), rope(k, 500), v, 0.2) @ w(at + "self_attn.o_proj.weight", D, D).T
        x = rms(h, w(at + "post_attention_layernorm.weight", D, near=1))
        y = granite_experts(w, at + "block_sparse_moe.", x, 6, 2, 16)
        if shared:
            both = x @ w(at + "shared_mlp.input_linear.weight", 48, D).T
            y = y + (silu(both[:, :24]) * both[:, 24:]) @ w(at + "shared_mlp.output_linear.weight", D, 24).T
        h = h + 0.6 * y
    logits = rms(h, w("model.norm.weight", D, near=1)) @ w("lm_head.weight", V, D).T / 2.5
    check(m, name, config, w, logits, said=["repeat: 2", "experts: {count: 6"])


def test_granite_moe(m):
    check_granite_moe(m, "granitemoe", False)


def test_granite_moe_with_a_shared_expert(m):
    check_granite_moe(m, "granitemoeshared", True)


def qwen2_moe_layer(w, at, x):
    """Six experts, two chosen of a softmax over all that is not normalised, and a shared one behind a gate."""
    p = softmax(x @ w(at + "gate.weight", 6, D, scale=0.5).T)
    out = np.zeros_like(x)
    for t in range(T):
        for e in np.argsort(-p[t])[:2]:
            out[t] += p[t, e] * swiglu(w, f"{at}experts.{e}.", x[t : t + 1], 16)[0]
    for e in range(6):
        swiglu(w, f"{at}experts.{e}.", x[:1], 16)  # the file holds all of them
    return out + sigmoid(x @ w(at + "shared_expert_gate.weight", 1, D).T) * swiglu(w, at + "shared_expert.", x, 24)


def test_qwen2_moe(m):
    """Biases of q, k and v that no key speaks of; layer 1 is dense by mlp_only_layers."""
    w = Drawn(2)
    config = {**TRANSFORMER, "model_type": "qwen2_moe", "num_hidden_layers": 3, "rms_norm_eps": 1e-6, "num_experts": 6, "num_experts_per_tok": 2,
              "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [1],
              "use_sliding_window": False, "sliding_window": 8, "max_window_layers": 28, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    h = w("model.embed_tokens.weight", V, D)[TOKENS]
    for i in range(3):
        at = f"model.layers.{i}."
        q, k, v = qkv(w, at + "self_attn.", rms(h, w(at + "input_layernorm.weight", D, near=1), 1e-6), 4, 2, 8, True)
        h = h + attend(rope(q), rope(k), v, 8**-0.5) @ w(at + "self_attn.o_proj.weight", D, D).T
        x = rms(h, w(at + "post_attention_layernorm.weight", D, near=1), 1e-6)
        h = h + (swiglu(w, at + "mlp.", x, 48) if i == 1 else qwen2_moe_layer(w, at + "mlp.", x))
    logits = rms(h, w("model.norm.weight", D, near=1), 1e-6) @ w("lm_head.weight", V, D).T
    check(m, "qwen2-moe", config, w, logits, said=["shared_gate: true", "normalize: false"])


def test_a_window_of_some_layers(m):
    """qwen2: layers from max_window_layers on see sliding_window tokens."""
    w = Drawn(3)
    config = {**TRANSFORMER, "model_type": "qwen2", "num_hidden_layers": 2, "rms_norm_eps": 1e-6, "use_sliding_window": True, "sliding_window": 5,
              "max_window_layers": 1, "rope_theta": 10000.0}
    h = w("model.embed_tokens.weight", V, D)[TOKENS]
    for i in range(2):
        at = f"model.layers.{i}."
        q, k, v = qkv(w, at + "self_attn.", rms(h, w(at + "input_layernorm.weight", D, near=1), 1e-6), 4, 2, 8, True)
        q, k = rope(q), rope(k)
        seen = attend(q, k, v, 8**-0.5)
        if i == 1:
            scores = np.einsum("thd,shd->hts", q, np.repeat(k, 2, axis=1)) * 8**-0.5
            scores[:, ~(np.tri(T, dtype=bool) & ~np.tri(T, k=-5, dtype=bool))] = -np.inf
            seen = np.einsum("hts,shd->thd", softmax(scores), np.repeat(v, 2, axis=1)).reshape(T, -1)
        h = h + seen @ w(at + "self_attn.o_proj.weight", D, D).T
        h = h + swiglu(w, at + "mlp.", rms(h, w(at + "post_attention_layernorm.weight", D, near=1), 1e-6), 48)
    check(m, "qwen2", config, w, rms(h, w("model.norm.weight", D, near=1), 1e-6) @ w("lm_head.weight", V, D).T, said=["window: 5"])


# ---------------------------------------------------------------------------------------------- Mamba


def mamba1(w, at, x, inner, state, rank, bias):
    both = x @ w(at + "in_proj.weight", 2 * inner, D).T + (w(at + "in_proj.bias", 2 * inner) if bias else 0)
    z = both[:, inner:]
    c = convolved(both[:, :inner], w(at + "conv1d.weight", inner, 1, 4), w(at + "conv1d.bias", inner))
    delta, B, C = np.split(c @ w(at + "x_proj.weight", rank + 2 * state, inner).T, [rank, rank + state], axis=1)
    delta = softplus(delta @ w(at + "dt_proj.weight", inner, rank).T + w(at + "dt_proj.bias", inner, near=-2))
    A, s, y = -np.exp(w(at + "A_log", inner, state, near=0.5, scale=0.5)), np.zeros((inner, state)), []
    for t in range(T):
        s = np.exp(delta[t, :, None] * A) * s + (delta[t] * c[t])[:, None] * B[t]
        y.append(s @ C[t] + w(at + "D", inner, near=1) * c[t])
    return np.array(y) * silu(z) @ w(at + "out_proj.weight", D, inner).T + (w(at + "out_proj.bias", D) if bias else 0)


def blackmamba_mlp(w, at, x, width, bias):
    gate, up = np.split(x @ w(at + "linear_fc1.weight", 2 * width, D).T + (w(at + "linear_fc1.bias", 2 * width) if bias else 0), 2, axis=1)
    return gelu(gate) * up @ w(at + "linear_fc2.weight", D, width).T + (w(at + "linear_fc2.bias", D) if bias else 0)


def blackmamba(m, name, bias):
    """swiglu gates with GELU; one expert by the sigmoid of a router with a bias; the last norm is a layer norm, the head tied."""
    w = Drawn(4)
    config = {"num_layers": 4, "hidden_size": D, "state_size": 8, "conv_dimension": 4, "vocab_size": V, "expansion_factor": 2, "mamba_moe_layers": ["r", "3", "r", "1"],
              "ffn_hidden_size": 40, "add_bias_linear": bias, "swiglu": True, "max_sequence_length": 64}
    table = w("embedding.word_embeddings.weight", V, D)
    h = table[TOKENS]
    for i, kind in enumerate(config["mamba_moe_layers"]):
        at = f"decoder.layers.{i}.mixer."
        x = rms(h, w(f"decoder.layers.{i}.norm.weight", D, near=1))
        if kind == "r":
            h = h + mamba1(w, at, x, 2 * D, 8, 2, bias)
        elif kind == "1":
            h = h + blackmamba_mlp(w, at, x, 40, bias)
        else:
            p = sigmoid(x @ w(at + "router.weight", 3, D, scale=0.5).T + w(at + "router.bias", 3))
            every = np.array([blackmamba_mlp(w, f"{at}local_experts.{e}.", x, 40, bias) for e in range(3)])
            chosen = p.argmax(1)
            h = h + every[chosen, np.arange(T)] * p[np.arange(T), chosen][:, None]
    last = layer_norm(h, w("decoder.final_layernorm.weight", D, near=1), w("decoder.final_layernorm.bias", D))
    check(m, name, config, w, last @ table.T, said=["geglu", "final_norm: {kind: layer}"])


def test_blackmamba(m):
    blackmamba(m, "blackmamba", False)


def test_blackmamba_with_biases(m):
    blackmamba(m, "biased", True)


def mamba2(w, at, x, inner, dim, groups, state):
    heads = inner // dim
    rows = w(at + "in_proj.weight", 2 * inner + 2 * groups * state + heads, D)
    z, xbc, dt = np.split(x @ rows.T, [inner, 2 * inner + 2 * groups * state], axis=1)
    xbc = convolved(xbc, w(at + "conv1d.weight", inner + 2 * groups * state, 1, 4), w(at + "conv1d.bias", inner + 2 * groups * state))
    c, B, C = np.split(xbc, [inner, inner + groups * state], axis=1)
    delta = softplus(dt + w(at + "dt_bias", heads, near=-2))
    A, D_ = -np.exp(w(at + "A_log", heads, near=0.5)), w(at + "D", heads, near=1)
    s, y = np.zeros((heads, dim, state)), np.zeros((T, heads, dim))
    for t in range(T):
        for h in range(heads):
            g = h * groups // heads
            xh = c[t, h * dim : (h + 1) * dim]
            s[h] = np.exp(delta[t, h] * A[h]) * s[h] + delta[t, h] * np.outer(xh, B[t, g * state : (g + 1) * state])
            y[t, h] = s[h] @ C[t, g * state : (g + 1) * state] + D_[h] * xh
    gated = (y.reshape(T, inner) * silu(z)).reshape(T, groups, -1)
    return rms(gated, w(at + "norm.weight", inner, near=1).reshape(groups, -1)).reshape(T, inner) @ w(at + "out_proj.weight", D, inner).T


def test_mamba_ssm_with_attention_and_mlps(m):
    """Mamba-2, attention in layer 1, MLPs whose width is rounded up and whose first map is up, then gate; layer norms."""
    w = Drawn(6)
    config = {"d_model": D, "n_layer": 3, "vocab_size": V - 2, "d_intermediate": 100, "ssm_cfg": {"layer": "Mamba2", "d_state": 16, "headdim": 16, "ngroups": 2},
              "attn_layer_idx": [1], "attn_cfg": {"causal": True, "num_heads": 4, "num_heads_kv": 2, "head_dim": 8, "rotary_emb_dim": 4, "out_proj_bias": False},
              "rms_norm": False, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8, "tie_embeddings": True}
    table = w("backbone.embedding.weight", V, D)
    h = table[TOKENS]
    norm = lambda at, x: layer_norm(x, w(at + ".weight", D, near=1), w(at + ".bias", D))  # noqa: E731
    for i in range(3):
        at = f"backbone.layers.{i}."
        x = norm(at + "norm", h)
        if i == 1:
            rows = x @ w(at + "mixer.in_proj.weight", 64, D).T + w(at + "mixer.in_proj.bias", 64)
            q, k, v = (heads_of(part, n) for part, n in zip(np.split(rows, [32, 48], axis=1), (4, 2, 2)))
            h = h + attend(rope(q, dim=4), rope(k, dim=4), v, 8**-0.5) @ w(at + "mixer.out_proj.weight", D, 32).T
        else:
            h = h + mamba2(w, at + "mixer.", x, 2 * D, 16, 2, 16)
        up, gate = np.split(norm(at + "norm2", h) @ w(at + "mlp.fc1.weight", 256, D).T, 2, axis=1)
        h = h + up * silu(gate) @ w(at + "mlp.fc2.weight", D, 128).T
    check(m, "hybrid", config, w, norm("backbone.norm_f", h) @ table.T, said=["kind: layer", "last 2 tokens are padding"])


def mamba3(w, at, x, state, ranks, fraction, groups, function, head_norm):
    """As mamba_ssm's Mamba3: in_proj's rows are z, x, B, C, dt, A, trap, angles; with several ranks the pairs (i, i + N/2) turn, else (2i, 2i + 1)."""
    inner, dim, mimo = 2 * D, 16, ranks > 1
    heads, angles = inner // dim, int(state * fraction) // 2
    shared = ranks * groups * state
    cuts = np.cumsum([inner, inner, shared, shared, heads, heads, heads])
    rows = w(at + "in_proj.weight", cuts[-1] + angles, D)
    z, v, B, C, dt, a, trap, theta = np.split(x @ rows.T, cuts, axis=1)
    B, C = (rms(part.reshape(T, ranks, groups, state), w(f"{at}{name}_norm.weight", state, near=1)) for part, name in ((B, "B"), (C, "C")))
    f = softplus(a) if function == "softplus" else np.where(a >= 0, 1 + a, 1 / (1 - np.minimum(a, 0)))
    A, delta, lam = np.minimum(-f, -1e-4), softplus(dt + w(at + "dt_bias", heads, near=-1)), sigmoid(trap)
    b_bias, c_bias = (w(f"{at}{name}_bias", heads, ranks, state, near=1, scale=0.3) for name in "BC")
    into, gates, out = ((w(f"{at}mimo_{name}", heads, ranks, dim, near=1, scale=0.3) if mimo else np.ones((heads, ranks, dim))) for name in "xzo")
    D_, weight = w(at + "D", heads, near=1), w(at + "norm.weight", inner, near=1) if head_norm else None
    first, second = (np.arange(angles), np.arange(angles) + state // 2) if mimo else (2 * np.arange(angles), 2 * np.arange(angles) + 1)

    def turned(k, by):
        k = k.copy()
        k[first], k[second] = k[first] * np.cos(by) - k[second] * np.sin(by), k[first] * np.sin(by) + k[second] * np.cos(by)
        return k

    y = np.zeros((T, heads, dim))
    for h in range(heads):
        g, s, by, before = h * groups // heads, np.zeros((dim, state)), np.zeros(angles), np.zeros((dim, state))
        for t in range(T):
            d = delta[t, h]
            by = by + np.pi * np.tanh(theta[t]) * d
            x_h, z_h = v[t, h * dim : (h + 1) * dim], z[t, h * dim : (h + 1) * dim]
            ks, qs = ([turned(part[t, r, g] + bias[h, r], by) for r in range(ranks)] for part, bias in ((B, b_bias), (C, c_bias)))
            now = sum(np.outer(x_h * into[h, r], ks[r]) for r in range(ranks))
            decay = np.exp(A[t, h] * d)
            s = decay * s + (1 - lam[t, h]) * d * decay * before + lam[t, h] * d * now
            before = now
            for r in range(ranks):
                out_r = s @ qs[r] + D_[h] * x_h * into[h, r]
                if head_norm:
                    out_r = rms(out_r, weight[h * dim : (h + 1) * dim])
                y[t, h] += out[h, r] * out_r * silu(z_h * gates[h, r])
    return y.reshape(T, inner) @ w(at + "out_proj.weight", D, inner).T


def mamba3_model(m, name, seed, ranks=1, fraction=0.5, groups=1, function="heavy_tail", head_norm=False):
    w = Drawn(seed)
    given = {"layer": "Mamba3", "d_state": 16, "headdim": 16, "ngroups": groups, "rope_fraction": fraction, "is_outproj_norm": head_norm}
    config = {"d_model": D, "n_layer": 2, "vocab_size": V, "ssm_cfg": {**given, **({"is_mimo": True, "mimo_rank": ranks} if ranks > 1 else {})}, "rms_norm": True,
              "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8, "tie_embeddings": True, "d_intermediate": 0, "attn_layer_idx": [], "attn_cfg": {}}
    table = w("backbone.embedding.weight", V, D)
    h = table[TOKENS]
    for i in range(2):
        at = f"backbone.layers.{i}."
        h = h + mamba3(w, at + "mixer.", rms(h, w(at + "norm.weight", D, near=1)), 16, ranks, fraction, groups, function, head_norm)
    logits = rms(h, w("backbone.norm_f.weight", D, near=1)) @ table.T
    check(m, name, config, w, logits, "--mamba3-a", function, said=[f"a_activation: {function}"])
    return config, w


def test_mamba3_with_one_input(m):
    config, w = mamba3_model(m, "siso", 7)
    error = m.error("import", m.directory / "siso", "-o", "other")
    assert "ssm_cfg.layer" in error and "--mamba3-a" in error, error


def test_mamba3_with_several_inputs(m):
    mamba3_model(m, "mimo", 8, ranks=2, fraction=1.0, groups=2, function="softplus")


def test_mamba3_with_norms_of_heads(m):
    mamba3_model(m, "normed", 9, ranks=4, head_norm=True)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
