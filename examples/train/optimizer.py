"""Muon for the large matrices, AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest
orthogonal one, found by a few Newton-Schulz steps in bf16: five small products a
matrix, run for all matrices of one shape together.
"""

import collections

import jax
import jax.numpy as jnp

import kernels

MUON = ("in_proj", "gate_proj", "out_proj", "x_proj", "up_proj", "down_proj", "q_proj", "k_proj", "v_proj", "o_proj")
NS = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients, tuned by Jordan for speed


def uses_muon(name):
    return name.endswith(".weight") and name.split(".")[-2] in MUON


def init(params):
    first = {k: jnp.zeros_like(v) for k, v in params.items()}
    second = {k: jnp.zeros_like(v) for k, v in params.items() if not uses_muon(k)}
    return {"first": first, "second": second, "step": jnp.zeros((), jnp.int32)}


def _products(a, b):
    """a b^T for stacks a [S, m, k], b [S, n, k]."""
    stack, m, k = a.shape
    idx = jnp.repeat(jnp.arange(stack, dtype=jnp.int32), m)
    return kernels.linear(a.reshape(-1, k), idx, b).reshape(stack, m, -1)


def orthogonal(x, steps=5):
    """The orthogonal factor of every matrix of x [S, m, n], m <= n, to Muon's rough accuracy."""
    x = x / (jnp.sqrt(jnp.square(x).sum((1, 2), keepdims=True)) + 1e-7)
    a, b, c = NS
    for _ in range(steps):
        gram = _products(x, x)                                              # [S, m, m]
        poly = b * gram + c * _products(gram, gram)
        x = a * x + _products(poly, jnp.swapaxes(x, 1, 2))
    return x


def _orthogonal_all(moments):
    """orthogonal() over a dict of matrices and stacks of them, those of one shape in one go."""
    groups = collections.defaultdict(list)
    for name, m in moments.items():
        flat = m.reshape(-1, *m.shape[-2:])
        tall = flat.shape[1] > flat.shape[2]
        groups[tuple(sorted(flat.shape[1:]))].append((name, jnp.swapaxes(flat, 1, 2) if tall else flat, tall))
    out = {}
    for members in groups.values():
        done, at = orthogonal(jnp.concatenate([flat for _, flat, _ in members])), 0
        for name, flat, tall in members:
            part = done[at:at + flat.shape[0]]
            out[name] = (jnp.swapaxes(part, 1, 2) if tall else part).reshape(moments[name].shape)
            at += flat.shape[0]
    return out


def update(params, grads, opt, lr, muon_lr=0.015, adam_lr=0.003, decay=0.02, clip=1.0):
    """One step; `lr` in 0..1 scales both rates. Returns parameters, optimizer state, gradient norm."""
    size = jnp.sqrt(sum(jnp.square(g).sum() for g in grads.values()))
    grads = {k: g * jnp.minimum(1, clip / (size + 1e-6)) for k, g in grads.items()}
    step = opt["step"] + 1
    first, second, new, nesterov = {}, {}, {}, {}
    for name, g in grads.items():
        if uses_muon(name):
            first[name] = 0.95 * opt["first"][name] + g
            nesterov[name] = 0.95 * first[name] + g
        else:
            first[name] = 0.9 * opt["first"][name] + 0.1 * g
            second[name] = 0.99 * opt["second"][name] + 0.01 * jnp.square(g)
            rate = lr * adam_lr / (1 - 0.9 ** step)
            new[name] = params[name] - rate * first[name] / (jnp.sqrt(second[name] / (1 - 0.99 ** step)) + 1e-10)
    for name, direction in _orthogonal_all(nesterov).items():
        p, rate = params[name], lr * muon_lr
        shape = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
        new[name] = (1 - rate * decay) * p - rate * shape * direction
    return new, {"first": first, "second": second, "step": step}, size
