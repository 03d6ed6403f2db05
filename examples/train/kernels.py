"""The two hot operations, as native code where the machine has it.

`linear`  rows through the weights of the expert that each row has chosen
`scan`    the selective scan over the states of the chosen experts

Both exist twice: in C for x86 with AVX-512 and AMX (linear.c, scan.c; compiled on
first use, called by XLA, with gradients of their own) and in plain JAX, which
runs everywhere and is what the tests compare against.
"""

import ctypes
import functools
import hashlib
import os
import pathlib
import subprocess
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

HERE = pathlib.Path(__file__).parent
SOURCES = ["scan.c", "linear.c"]
FLAGS = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
STATE = 16  # the d_state that the native scan is compiled for
LANES = 32  # its d_inner comes in multiples of this
MAX_EXPERTS = 256  # of the native linear


def available():
    """Whether this machine runs the native kernels."""
    if os.environ.get("MOSS_TRAIN_KERNELS") == "jax" or jax.default_backend() != "cpu":
        return False
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "amx_bf16" in flags and "avx512_bf16" in flags


@functools.cache
def native():
    """Compiles, loads and registers the kernels; False where they do not run."""
    if not available():
        return False
    text = b"".join((HERE / f).read_bytes() for f in SOURCES + ["ffi.h"])
    digest = hashlib.sha256(text + repr(FLAGS).encode()).hexdigest()[:16]
    library = pathlib.Path(tempfile.gettempdir()) / f"moss-train-{os.getuid()}-{digest}.so"
    if not library.exists():
        fresh = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", *FLAGS, f"-DN={STATE}", f"-I{jax.ffi.include_dir()}",
                        *(HERE / f for f in SOURCES), "-o", fresh], check=True)
        fresh.rename(library)
    lib = ctypes.CDLL(library)
    for name in ("moss_scan", "moss_scan_back", "moss_linear", "moss_linear_back"):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(lib, name)), platform="cpu")
    return True


def _call(name, like, *args):
    shapes = [jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in like]
    return jax.ffi.ffi_call(name, shapes)(*args)


def _no_gradient(x):
    return np.zeros(x.shape, jax.dtypes.float0)


# ---- linear ----

def linear(x, idx, w):
    """y[p] = w[idx[p]] x[p // (P // R)]: x [R, in], idx [P], w [E, out, in] -> [P, out]."""
    return _linear(x, idx, w) if native() and w.shape[0] <= MAX_EXPERTS else linear_jax(x, idx, w)


def linear_jax(x, idx, w):
    pairs = jnp.repeat(x, idx.shape[0] // x.shape[0], axis=0)
    y = jnp.zeros((idx.shape[0], w.shape[1]), jnp.float32)
    for e in range(w.shape[0]):
        y += jnp.where((idx == e)[:, None], pairs @ w[e].T, 0)
    return y


@jax.custom_vjp
def _linear(x, idx, w):
    out = jax.ShapeDtypeStruct((idx.shape[0], w.shape[1]), jnp.float32)
    return _call("moss_linear", [out], x, idx, w)[0]


def _linear_forward(x, idx, w):
    return _linear(x, idx, w), (x, idx, w)


def _linear_backward(saved, gy):
    x, idx, w = saved
    gx, gw = _call("moss_linear_back", [x, w], x, idx, w, gy)
    return gx, _no_gradient(idx), gw


_linear.defvjp(_linear_forward, _linear_backward)


# ---- scan ----

def scan(c, raw, b, c_out, idx, gate, a, d, bias, state):
    """The scan of scan.c; returns y [batch, len, I] and the last states.

    c [batch, len, I], raw [.., K, I], b and c_out [.., K, N], idx and gate [.., K],
    a [E, N, I], d and bias [E, I], state [batch, E, N, I] (no gradient flows into it).
    """
    fits = a.shape[1] == STATE and a.shape[2] % LANES == 0
    form = _scan if native() and fits else scan_jax
    return form(c, raw, b, c_out, idx, gate, a, d, bias, jax.lax.stop_gradient(state))


def scan_jax(c, raw, b, c_out, idx, gate, a, d, bias, state):
    rows = jnp.arange(c.shape[0])

    def step(s, now):
        c, raw, b, c_out, idx, gate = now
        y = 0
        for k in range(idx.shape[1]):
            e = idx[:, k]
            dt = jax.nn.softplus(raw[:, k] + bias[e])                       # [batch, I]
            se = jnp.exp(dt[:, None] * a[e]) * s[rows, e] + (dt * c)[:, None] * b[:, k, :, None]
            s = s.at[rows, e].set(se)                                       # [batch, E, N, I]
            y += gate[:, k, None] * ((se * c_out[:, k, :, None]).sum(1) + d[e] * c)
        return s, y

    time_first = [jnp.swapaxes(v, 0, 1) for v in (c, raw, b, c_out, idx, gate)]
    last, y = jax.lax.scan(step, state, tuple(time_first))
    return jnp.swapaxes(y, 0, 1), last


@jax.custom_vjp
def _scan(*args):
    return tuple(_call("moss_scan", [args[0], args[9]], *args))


def _scan_forward(*args):
    return _scan(*args), args


def _scan_backward(args, grads):
    floats = args[:4] + args[5:9]
    gc, graw, gb, gc_out, ggate, ga, gd, gbias = _call("moss_scan_back", floats, *args, grads[0])
    return gc, graw, gb, gc_out, _no_gradient(args[4]), ggate, ga, gd, gbias, jnp.zeros_like(args[9])


_scan.defvjp(_scan_forward, _scan_backward)
