"""The language's architectures in JAX: fresh weights and the forward pass.

Parameters are a flat dict from tensor name to array, names and shapes exactly
those of the spec language. Arrays called u are the normed block input
[batch, len, D]; "pairs" are (token, chosen expert), token first.
"""

import math
import zlib

import jax
import jax.numpy as jnp

import kernels

ACTIVATIONS = {
    "silu": jax.nn.silu, "swiglu": jax.nn.silu,
    "gelu": lambda v: jax.nn.gelu(v, approximate=False), "geglu": lambda v: jax.nn.gelu(v, approximate=False),
    "gelu_tanh": jax.nn.gelu, "geglu_tanh": jax.nn.gelu,
    "relu2": lambda v: jnp.square(jax.nn.relu(v)),
}
GATED = ("swiglu", "geglu", "geglu_tanh")


# ---- fresh weights ----

def shapes(spec):
    """Every tensor of the model: name -> shape."""
    d = spec.d_model
    out = {"embed.weight": (spec.vocab, d)}
    if not spec.tied:
        out["head.weight"] = (spec.vocab, d)
    norms = [("final_norm", spec.final_norm)] + [(b.name("norm"), spec.norm) for b in spec.blocks]
    for name, norm in norms:
        out[name + ".weight"] = (d,)
        if norm["kind"] == "layer":
            out[name + ".bias"] = (d,)
    for block in spec.blocks:
        own = {"ssm": _ssm_shapes, "mlp": _mlp_shapes, "attention": _attention_shapes}[block.kind](block, d)
        out.update({block.name(k): v for k, v in own.items()})
    return out


def _maps(sizes, bias, lead=()):
    """Linear maps {name: (out, in)} with their biases."""
    out = {}
    for name, (rows, cols) in sizes.items():
        out[name + ".weight"] = (*lead, rows, cols)
        if bias:
            out[name + ".bias"] = (*lead, rows)
    return out


def _router_shapes(block, d):
    if not block.count:
        return {}
    wide = block.d_inner if block.router["input"] == "inner" else d
    out = {"router.weight": (block.count, wide)}
    for key in ("bias", "select_bias"):
        if block.router[key]:
            out["router." + key] = (block.count,)
    return out


def _per_expert(block, tensor):
    """Whether an ssm's experts each have this tensor (`A_log` goes by the name of A)."""
    part = tensor.split(".")[0]
    return bool(block.count) and ("A" if part == "A_log" else part) in block.experts["per_expert"]


def _ssm_shapes(block, d):
    i, n, r, w = block.d_inner, block.d_state, block.dt_rank, block.d_conv
    out = _maps({"in_proj": (i, d), "gate_proj": (i, d), "out_proj": (d, i)}, block.bias)
    out |= {"conv.weight": (i, w), "x_proj.weight": (r + 2 * n, i), "dt_proj.weight": (i, r), "dt_proj.bias": (i,),
            "A_log": (i, n), "D": (i,)}
    if block.conv_bias:
        out["conv.bias"] = (i,)
    out = {k: (block.count, *v) if _per_expert(block, k) else v for k, v in out.items()}
    for key, size in (("dt_norm", r), ("b_norm", n), ("c_norm", n)):
        if block.keys[key] != "none":
            out[key + ".weight"] = (size,)
    return out | _router_shapes(block, d)


def _mlp_shapes(block, d):
    def maps(f, lead):
        sizes = {"up_proj": (f, d), "down_proj": (d, f)}
        if block.activation in GATED:
            sizes["gate_proj"] = (f, d)
        return _maps(sizes, block.bias, lead)

    if not block.count:
        return maps(block.d_ff, ())
    out = maps(block.d_ff, (block.count,))
    if block.experts["shared"]:
        shared = maps(block.experts["shared_d_ff"], (block.experts["shared"],))
        out |= {"shared." + k: v for k, v in shared.items()}
    return out | _router_shapes(block, d)


def _attention_shapes(block, d):
    q, kv = block.n_heads * block.head_dim, block.n_kv_heads * block.head_dim
    return _maps({"q_proj": (q, d), "k_proj": (kv, d), "v_proj": (kv, d), "o_proj": (d, q)}, block.bias)


def fresh(spec, seed=0):
    """Weights as mamba_ssm starts them; every tensor has a random stream of its own."""
    key = jax.random.key(seed)
    return {name: _draw(jax.random.fold_in(key, zlib.crc32(name.encode())), name, shape, len(spec.blocks))
            for name, shape in shapes(spec).items()}


def _draw(key, name, shape, depth):
    parts = name.split(".")
    owner, last = parts[-2] if len(parts) > 1 else "", parts[-1]
    uniform = lambda bound: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    if last == "A_log":
        return jnp.broadcast_to(jnp.log(jnp.arange(1.0, shape[-1] + 1)), shape)
    if last == "D" or (owner.endswith("norm") and last == "weight"):
        return jnp.ones(shape)
    if owner == "dt_proj" and last == "bias":
        dt = jnp.exp(jax.random.uniform(key, shape, minval=math.log(0.001), maxval=math.log(0.1)))
        return jnp.log(jnp.expm1(jnp.maximum(dt, 1e-4)))
    if owner == "conv":
        return uniform(0.5)
    if last != "weight":
        return jnp.zeros(shape)
    if owner in ("embed", "head", "router"):
        return 0.02 * jax.random.normal(key, shape)
    scale = 1 / math.sqrt(depth) if owner in ("out_proj", "down_proj", "o_proj") else 1.0
    return uniform(scale / math.sqrt(shape[-1]))


# ---- pieces ----

def _norm(params, name, x, norm):
    w = params[name + ".weight"]
    if norm["kind"] == "layer":
        x = x - x.mean(-1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + float(norm["eps"])) * w
    return y + params[name + ".bias"] if norm["kind"] == "layer" else y


def _rms(x, w, eps):
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + float(eps)) * w


class Reader:
    """One block's view of the parameters."""

    def __init__(self, params, block):
        self.params, self.block = params, block

    def get(self, name):
        return self.params.get(self.block.name(name))

    def map(self, name, x, idx=None):
        """The linear map `name` on x [..., in]; idx [...], where given, chooses the expert of every row."""
        w, bias = self.get(name + ".weight"), self.get(name + ".bias")
        rows = x.reshape(-1, x.shape[-1])
        if idx is None or w.ndim == 2:
            pairs = rows.shape[0] if idx is None else idx.size
            y = kernels.linear(rows, jnp.zeros(pairs, jnp.int32), w.reshape(1, *w.shape[-2:]))
        else:
            y = kernels.linear(rows, idx.reshape(-1), w)
        y = y.reshape(*(x.shape[:-1] if idx is None else idx.shape), -1)
        if bias is None:
            return y
        return y + (bias[idx] if bias.ndim == 2 and idx is not None else bias)


def route(read, rho):
    """Chosen experts [batch, len, K], their gates, and the balancing loss of this block."""
    router, count = read.block.router, read.block.count
    logits = jnp.einsum("btd,ed->bte", rho, read.get("router.weight"))
    if router["bias"]:
        logits += read.get("router.bias")
    scores = jax.nn.softmax(logits) if router["score"] == "softmax" else jax.nn.sigmoid(logits)
    order = scores + read.get("router.select_bias") if router["select_bias"] else logits
    idx = _largest(jax.lax.stop_gradient(order), router["top_k"])
    chosen = jax.nn.one_hot(idx, count)                                     # [batch, len, K, E]
    gates = (chosen * scores[:, :, None]).sum(-1)
    if router["normalize"]:
        gates /= gates.sum(-1, keepdims=True) + 1e-20
    load = chosen.mean((0, 1, 2))                                           # the Switch loss: 1 when even
    balance = count * (load * (scores / scores.sum(-1, keepdims=True)).mean((0, 1))).sum()
    return idx, gates * router["scale"], balance


def _largest(x, k):
    """Indices of the k largest, ties to the lower index. For small k faster than a sort."""
    found = []
    for _ in range(k):
        i = jnp.argmax(x, -1).astype(jnp.int32)
        found.append(i)
        x = jnp.where(jax.nn.one_hot(i, x.shape[-1], dtype=bool), -jnp.inf, x)
    return jnp.stack(found, -1)


# ---- blocks: (read, u, state) -> (output, state, balancing loss) ----

def _conv(read, x, past, gates=None):
    """Causal depthwise convolution; past [batch, W-1, I] are the inputs before the window, gates [batch, len, E]
    mix kernels that experts have of their own."""
    blend = lambda p, dims: gates @ p if p.ndim > dims else p               # over the expert axis, if there is one
    w, bias = read.get("conv.weight"), read.get("conv.bias")                # [.., I, W], [.., I]
    full = jnp.concatenate([past, x], 1)
    y = sum(full[:, j:j + x.shape[1]] * blend(w[..., j], 1) for j in range(w.shape[-1]))
    return (y if bias is None else y + blend(bias, 1)), jax.lax.stop_gradient(full[:, x.shape[1]:])


def _expert_axis(x, dims):
    """A parameter of `dims` axes with an expert axis in front, whether or not it has one of its own."""
    return x if x.ndim == dims + 1 else x[None]


def ssm(read, u, state):
    block, act = read.block, ACTIVATIONS[read.block.activation]
    if block.count and block.experts["combine"] == "params":
        return _ssm_mixed(read, u, state)
    x, z = read.map("in_proj", u), read.map("gate_proj", u)                 # [batch, len, I]
    c, past = _conv(read, x, state["conv"])
    c = act(c)
    idx, gates, balance = _choose(read, u, c)
    y, last = _scan(read, c, idx, gates, state["s"])
    return read.map("out_proj", y * act(z)), {"conv": past, "s": jax.lax.stop_gradient(last)}, balance


def _choose(read, u, c):
    """Experts to advance at every token [batch, len, K] and the gates of what they give."""
    block = read.block
    if not block.count:
        return jnp.zeros((*u.shape[:2], 1), jnp.int32), jnp.ones((*u.shape[:2], 1)), 0.0
    idx, gates, balance = route(read, c if block.router["input"] == "inner" else u)
    if block.experts["idle"] == "hold":
        return idx, gates, balance
    every = jnp.broadcast_to(jnp.arange(block.count, dtype=jnp.int32), (*u.shape[:2], block.count))
    return every, _spread(idx, gates, block.count), balance


def _spread(idx, gates, count):
    """Gates of the chosen [.., K] -> gates of all experts [.., E], zero where not chosen."""
    return (jax.nn.one_hot(idx, count) * gates[..., None]).sum(-2)


def _low(read, low):
    """x_proj's output cut into delta [.., R], B and C [.., N], normed where the spec says so."""
    block, r, n = read.block, read.block.dt_rank, read.block.d_state
    parts = [low[..., :r], low[..., r:r + n], low[..., r + n:]]
    for i, key in enumerate(("dt_norm", "b_norm", "c_norm")):
        if block.keys[key] != "none":
            parts[i] = _rms(parts[i], read.get(key + ".weight"), block.keys.get("inner_norm_eps", 1e-5))
    return parts


def _scan(read, c, idx, gates, state):
    """The state update of the experts idx; dt_proj's bias is added inside the scan."""
    delta, b, c_out = _low(read, read.map("x_proj", c, idx))                # [batch, len, K, ..]
    weight = _expert_axis(read.get("dt_proj.weight"), 2)
    which = idx if weight.shape[0] > 1 else jnp.zeros_like(idx)
    raw = kernels.linear(delta.reshape(-1, delta.shape[-1]), which.reshape(-1), weight).reshape(*idx.shape, -1)
    a, d, bias = (_expert_axis(read.get(k), dims) for k, dims in (("A_log", 2), ("D", 1), ("dt_proj.bias", 1)))
    a, d, bias = (jnp.broadcast_to(v, (max(read.block.count, 1), *v.shape[1:])) for v in (a, d, bias))
    return kernels.scan(c, raw, b, c_out, idx, gates, -jnp.exp(jnp.swapaxes(a, 1, 2)), d, bias, state)


# Experts that mix parameters: one state, every parameter the gates' sum of the experts' own. A map of a
# mixture is the mixture of the maps; the rest is mixed token by token. In plain JAX, and slow.

def _ssm_mixed(read, u, state):
    block, act = read.block, ACTIVATIONS[read.block.activation]
    inner = block.router["input"] == "inner"
    routed = None if inner else route(read, u)
    mixed = lambda name, v: _mix_map(read, name, v, *routed[:2])
    x = read.map("in_proj", u) if inner else mixed("in_proj", u)
    c, past = _conv(read, x, state["conv"], None if inner else _spread(*routed[:2], block.count))
    c = act(c)
    routed = route(read, c) if inner else routed
    gates = _spread(*routed[:2], block.count)                               # [batch, len, E]
    delta, b, c_out = _low(read, mixed("x_proj", c))
    dt = jax.nn.softplus(mixed("dt_proj", delta))
    y, last = _scan_mixed(read, c, dt, b, c_out, gates, state["s"][:, 0])
    out = mixed("out_proj", y * act(mixed("gate_proj", u)))
    return out, {"conv": past, "s": jax.lax.stop_gradient(last)[:, None]}, routed[2]


def _mix_map(read, name, x, idx, gates):
    if read.get(name + ".weight").ndim == 2:
        return read.map(name, x)
    return (read.map(name, x, idx) * gates[..., None]).sum(2)


def _scan_mixed(read, c, dt, b, c_out, gates, state):
    """One state [batch, N, I] under A mixed token by token."""
    a = -jnp.exp(jnp.swapaxes(read.get("A_log"), -1, -2))                   # [E, N, I] or [N, I]
    d = read.get("D")

    def step(s, now):
        c, dt, b, c_out, gates = now
        at = jnp.einsum("be,eni->bni", gates, a) if a.ndim == 3 else a
        s = jnp.exp(dt[:, None] * at) * s + (dt * c)[:, None] * b[..., None]
        return s, (s * c_out[..., None]).sum(1)

    time_first = [jnp.swapaxes(v, 0, 1) for v in (c, dt, b, c_out, gates)]
    last, y = jax.lax.scan(step, jax.lax.stop_gradient(state), tuple(time_first))
    return jnp.swapaxes(y, 0, 1) + (gates @ d if d.ndim == 2 else d) * c, last


def mlp(read, u, state):
    block = read.block
    if not block.count:
        return _feed(read, u, ""), state, 0.0
    idx, gates, balance = route(read, u)
    out = (_feed(read, u, "", idx) * gates[..., None]).sum(2)
    for j in range(block.experts["shared"]):
        out += _feed(read, u, "shared.", jnp.full((*u.shape[:2], 1), j, jnp.int32))[:, :, 0]
    return out, state, balance


def _feed(read, u, prefix, idx=None):
    """One gated or plain MLP; with idx [batch, len, K] through the chosen experts -> [batch, len, K, D]."""
    act = ACTIVATIONS[read.block.activation]
    h = read.map(prefix + "up_proj", u, idx)
    h = act(read.map(prefix + "gate_proj", u, idx)) * h if read.block.activation in GATED else act(h)
    return read.map(prefix + "down_proj", h, idx)


def attention(read, u, state):
    """Sees the present window only: in training the sequence starts where the window starts."""
    block, (batch, length, _) = read.block, u.shape
    heads = lambda name, n: read.map(name, u).reshape(batch, length, n, block.head_dim)
    q, k, v = heads("q_proj", block.n_heads), heads("k_proj", block.n_kv_heads), heads("v_proj", block.n_kv_heads)
    if block.rope != "none":
        q, k = _rope(q, block.rope), _rope(k, block.rope)
    share = block.n_heads // block.n_kv_heads
    k, v = jnp.repeat(k, share, 2), jnp.repeat(v, share, 2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(block.head_dim)
    back = jnp.arange(length)[:, None] - jnp.arange(length)
    seen = (back >= 0) & (back < (length if block.window == "none" else block.window))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    out = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, -1)
    return read.map("o_proj", out), state, 0.0


def _rope(x, rope):
    half = rope["dim"] // 2
    angle = jnp.arange(x.shape[1])[:, None] * float(rope["theta"]) ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]             # [len, 1, half]
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


BLOCKS = {"ssm": ssm, "mlp": mlp, "attention": attention}


# ---- the model ----

def empty_state(spec, batch):
    """What a sequence carries from one window to the next, one entry a block."""
    def one(block):
        if block.kind != "ssm":
            return {}
        i, states = block.d_inner, block.count if block.count and block.experts["combine"] == "outputs" else 1
        return {"conv": jnp.zeros((batch, block.d_conv - 1, i)),
                "s": jnp.zeros((batch, states, block.d_state, i))}
    return [one(b) for b in spec.blocks]


def forward(params, spec, tokens, state):
    """tokens [batch, len] -> logits [batch, len, V], the state after them, mean balancing loss."""
    x = spec.embedding_scale * params["embed.weight"][tokens]
    after, losses = [], []
    for block, before in zip(spec.blocks, state):
        u = _norm(params, block.name("norm"), x, spec.norm)
        y, s, balance = BLOCKS[block.kind](Reader(params, block), u, before)
        x = x + y
        after.append(s)
        if block.count:
            losses.append(balance)
    x = _norm(params, "final_norm", x, spec.final_norm)
    head = params["embed.weight" if spec.tied else "head.weight"]
    rows = x.reshape(-1, x.shape[-1])
    logits = kernels.linear(rows, jnp.zeros(rows.shape[0], jnp.int32), head[None])
    balance = sum(losses) / len(losses) if losses else 0.0
    return spec.logit_scale * logits.reshape(*tokens.shape, -1), after, balance


def count(spec):
    """Parameters: all of them, and those a token uses."""
    total = active = 0
    per_expert = {b.index: b for b in spec.blocks if b.count}
    for name, shape in shapes(spec).items():
        size = math.prod(shape)
        total += size
        active += size * _share(name, shape, per_expert)
    if not spec.tied:
        active -= (spec.vocab - 1) * spec.d_model
    return total, round(active)


def _share(name, shape, per_expert):
    """The share of a tensor that one token uses."""
    parts = name.split(".")
    block = per_expert.get(int(parts[1])) if parts[0] == "blocks" else None
    if block is None or parts[2] in ("router", "norm", "shared"):
        return 1
    own = block.kind == "mlp" or _per_expert(block, parts[2])
    return block.router["top_k"] / block.count if own else 1
