"""Functions of the page, of arrays."""
import math

import numpy as np


def sigmoid(v):
    return np.where(v >= 0, 1 / (1 + np.exp(-np.abs(v))), np.exp(-np.abs(v)) / (1 + np.exp(-np.abs(v))))


def softplus(v):
    return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


ACTIVATIONS = {
    "silu": lambda v: v * sigmoid(v),
    "gelu": lambda v: v / 2 * (1 + np.vectorize(math.erf, otypes=[float])(v / math.sqrt(2))),
    "gelu_tanh": lambda v: v / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    "relu2": lambda v: np.maximum(0, v) ** 2,
}
GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}


def heavy_tail(v):
    return np.where(v >= 0, 1 + v, 1 / (1 + np.abs(v)))


def rms(x, eps, w):
    return x / np.sqrt(np.mean(x * x) + eps) * w


def layer(x, eps, w, b):
    mean = np.mean(x)
    return (x - mean) / np.sqrt(np.mean((x - mean) ** 2) + eps) * w + b


def scaled(rates, scaling):
    """Frequencies of rope under a scaling."""
    if scaling is None:
        return rates
    factor = float(scaling["factor"])
    if scaling["kind"] == "linear":
        return rates / factor
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    original = int(scaling["original_max_positions"])
    out = []
    for rate in rates:
        length = 2 * math.pi / rate
        part = (original / length - low) / (high - low)
        if length < original / high:
            out.append(rate)
        elif length > original / low:
            out.append(rate / factor)
        else:
            out.append(rate * ((1 - part) / factor + part))
    return np.array(out)


def held_input(b, step, A):
    """What the input of a state-space block is multiplied with: the step, or what zero-order hold makes of it."""
    if b["discretize"] == "euler":
        return step + 0 * A
    v = step * A
    series = 1 + v / 2 + v**2 / 6 + v**3 / 24 + v**4 / 120 + v**5 / 720
    return step * np.where(v < -0.25, np.expm1(v) / np.minimum(v, -0.25), series)
