"""The native kernels against plain JAX, values and gradients. Run: python test_scan.py"""

import jax
import jax.numpy as jnp

import kernels


def draw(key, *shape):
    return jax.random.normal(key, shape)


def compare(name, native, plain, args, floats, bound):
    """Both forms of one operation on the same arguments, and the gradients of a random sum of the result."""
    probe = draw(jax.random.key(9), *jax.eval_shape(plain, *args).shape)
    pairs = [(native(*args), plain(*args))]
    grads = [jax.grad(lambda *a: (f(*a) * probe).sum(), argnums=floats)(*args) for f in (native, plain)]
    pairs += list(zip(*grads))
    for i, (got, want) in enumerate(pairs):
        error = float(jnp.abs(got - want).max() / (jnp.abs(want).max() + 1e-6))
        print(f"{name} {'value' if i == 0 else f'gradient {floats[i - 1]}'}: relative error {error:.1e}")
        assert error < bound


def test_scan(batch=3, length=40, chan=64, k=2, experts=5, n=16):
    keys = jax.random.split(jax.random.key(0), 10)
    idx = jnp.argsort(draw(keys[4], batch, length, experts), axis=-1)[..., :k].astype(jnp.int32)
    args = (draw(keys[0], batch, length, chan), draw(keys[1], batch, length, k, chan),
            draw(keys[2], batch, length, k, n), draw(keys[3], batch, length, k, n), idx,
            jax.nn.sigmoid(draw(keys[5], batch, length, k)), -jnp.exp(draw(keys[6], experts, n, chan)),
            draw(keys[7], experts, chan), draw(keys[8], experts, chan), draw(keys[9], batch, experts, n, chan))
    floats = (0, 1, 2, 3, 5, 6, 7, 8)
    compare("scan", lambda *a: kernels._scan(*a)[0], lambda *a: kernels.scan_jax(*a)[0], args, floats, 1e-4)
    got, want = kernels._scan(*args)[1], kernels.scan_jax(*args)[1]
    assert float(jnp.abs(got - want).max()) < 1e-4 * float(jnp.abs(want).max())


def test_linear(rows=1500, share=2, experts=5, out=44, inner=72):
    """The native form rounds what it multiplies to bf16, hence the bound."""
    keys = jax.random.split(jax.random.key(1), 3)
    idx = jax.random.randint(keys[0], (rows * share,), 0, experts)
    args = (draw(keys[1], rows, inner), idx, draw(keys[2], experts, out, inner))
    compare("linear", kernels._linear, kernels.linear_jax, args, (0, 2), 1e-2)


if __name__ == "__main__":
    if kernels.native():
        test_scan()
        test_linear()
        test_linear(rows=900, share=3, experts=7)
        test_linear(rows=777, share=1, experts=1, out=192, inner=384)
    else:
        print("no native kernels on this machine: nothing to compare")
