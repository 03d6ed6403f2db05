"""Every kind of block is causal and carries its state. Run: python test_model.py"""

import jax
import jax.numpy as jnp

import model
import spec as spec_file

EXPERTS = {"count": 4, "per_expert": ["x_proj", "dt_proj", "A", "D"], "combine": "outputs"}
MIXED = {"count": 4, "combine": "params",
         "per_expert": ["in_proj", "gate_proj", "conv", "x_proj", "dt_proj", "A", "D", "out_proj"]}
CASES = {
    "plain ssm": {"ssm": {}},
    "ssm with norms and a free size": {"ssm": {"d_inner": 48, "d_state": 5, "b_norm": "rms", "dt_norm": "rms"}},
    "ssm experts, hold": {"ssm": {"experts": EXPERTS}},
    "ssm experts, update": {"ssm": {"experts": {**EXPERTS, "idle": "update"}}},
    "ssm experts that share all but A": {"ssm": {"experts": {**EXPERTS, "per_expert": ["A"]}}},
    "ssm experts, parameters": {"ssm": {"experts": MIXED}},
    "ssm experts, parameters, inner router": {
        "ssm": {"experts": {**MIXED, "per_expert": ["x_proj", "A", "out_proj"]}, "router": {"input": "inner"}}},
    "gated mlp": {"mlp": {"d_ff": 64, "bias": True}},
    "plain mlp": {"mlp": {"expand": 2, "activation": "relu2"}},
    "mlp experts": {"mlp": {"d_ff": 32, "experts": {"count": 4, "shared": 1}, "router": {"score": "sigmoid"}}},
    "attention": {"attention": {"n_heads": 4, "n_kv_heads": 2, "window": 5, "rope": {}}},
}


def build(block):
    doc = {"mossc": 1, "name": "case", "vocab_size": 32, "d_model": 32, "stack": [block]}
    spec = spec_file.resolve(doc)
    params = {k: v + 0.1 * jax.random.normal(jax.random.key(1), v.shape) for k, v in model.fresh(spec).items()}
    return spec, params


def difference(a, b):
    return float(jnp.abs(a - b).max())


def test(name, block):
    spec, params = build(block)
    tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 32)
    run = jax.jit(lambda t, s: model.forward(params, spec, t, s)[:2])
    empty = model.empty_state(spec, 2)
    whole, _ = run(tokens, empty)
    other, _ = run(tokens.at[:, 9:].set(3), empty)
    assert difference(whole[:, :9], other[:, :9]) < 1e-5, f"{name}: sees the future"
    if "attention" not in block:  # its past is not carried in training
        head, state = run(tokens[:, :7], empty)
        tail, _ = run(tokens[:, 7:], state)
        assert difference(whole, jnp.concatenate([head, tail], 1)) < 1e-4, f"{name}: loses state"
    loss = lambda p: model.forward(p, spec, tokens, empty)[0][..., 0].sum()
    assert all(bool(jnp.isfinite(g).all()) for g in jax.grad(loss)(params).values()), f"{name}: gradients"
    print(f"{name}: causal, stateful, differentiable")


if __name__ == "__main__":
    for name, block in CASES.items():
        test(name, block)
