#!/usr/bin/env python3
"""Prints the polynomial coefficients that stand in ir/vmath.inc, and their largest weighted error before rounding in float.

Weighted least squares on Chebyshev points, the weights sharpened after Lawson (1961) until the error is nearly level: minimax up
to a few per cent. Coefficients are rounded to float from the constant term up, the rest fitted again after each, so that the rounding
of one is made good by the others. Needs numpy; run by hand when a polynomial changes.
"""
import math

import numpy as np


def solve(x, target, weight, powers):
    """Minimax-ish c with sum c_i x^powers_i near target, error times weight level."""
    basis = np.stack([x ** p for p in powers], 1)
    lawson = np.ones_like(x)
    best, best_error = None, math.inf
    for _ in range(60):
        w = weight * np.sqrt(lawson)
        c, *_ = np.linalg.lstsq(basis * w[:, None], target * w, rcond=None)
        error = np.abs(basis @ c - target) * weight
        if error.max() < best_error:
            best, best_error = c, error.max()
        lawson *= error / error.max() + 1e-3
        lawson /= lawson.sum()
    return best, best_error


def fit(name, low, high, target, weight, powers, points=2000):
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(points) + 0.5) / points)
    left = np.array([target(v) for v in x])
    scale = np.array([weight(v) for v in x])
    fixed = []
    for i, power in enumerate(powers):
        c, error = solve(x, left, scale, powers[i:])
        if i == 0:
            print(f"{name}: error {error:.2e}")
        fixed.append(float(np.float32(c[0])))
        left = left - fixed[-1] * x ** power
    print(f"  after rounding {np.abs(left * scale).max():.2e}")
    for power, c in zip(powers, fixed):
        print(f"  x^{power}: {c:.9g}f")


def erf_tail(t):
    return -math.log(math.erfc(t))


# exp(r) = 1 + r Q(r)
fit("exp", -0.34664, 0.34664, lambda r: math.expm1(r), lambda r: math.exp(-r), [1, 2, 3, 4, 5])
# log1p(e) = e + e e Q(e); the target is 1 + e Q, less 1
fit("log1p", 0.0, 1.0, lambda e: math.log1p(e) / e - 1, lambda e: e / math.log1p(e), list(range(1, 9)))
# erf(x) = x + x P(x^2), |x| <= 0.9; the target is P, in z = x^2
fit("erf near 0", 0.0, 0.9 ** 2, lambda z: math.erf(math.sqrt(z)) / math.sqrt(z) - 1,
    lambda z: math.sqrt(z) / math.erf(math.sqrt(z)), list(range(0, 6)))
# erf(x) = 1 - exp(-P(x)), 0.9 <= x <= 4
fit("erf tail", 0.9, 4.0, erf_tail, lambda t: math.erfc(t), list(range(0, 7)))
# sin(x) = x + x P(x^2), |x| <= pi/2; the target is P, in z = x^2
fit("sin", 1e-9, (math.pi / 2) ** 2, lambda z: math.sin(math.sqrt(z)) / math.sqrt(z) - 1,
    lambda z: math.sqrt(z) / math.sin(math.sqrt(z)), list(range(1, 5)))
# tanh(x) = x + x P(x^2), |x| <= 0.55; the target is P, in z = x^2
fit("tanh near 0", 1e-9, 0.55 ** 2, lambda z: math.tanh(math.sqrt(z)) / math.sqrt(z) - 1,
    lambda z: math.sqrt(z) / math.tanh(math.sqrt(z)), list(range(1, 6)))
