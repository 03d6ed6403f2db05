"""Weights of 8 and 4 bits in NumPy, written from docs/language.md ("Weights of 8 and 4 bits"). Numbers are float64 where the page does
not say float32."""
import numpy as np

GROUP, OVER = 32, 8
PARTS = {"q8": ("q8", "d"), "q4": ("q4", "d", "m", "s", "t")}


def grouped(x):
    """[..., K] -> [..., G, 32], filled with zeros."""
    x = np.asarray(x)
    fill = -x.shape[-1] % GROUP
    x = np.concatenate([x, np.zeros([*x.shape[:-1], fill], x.dtype)], -1)
    return x.reshape(*x.shape[:-1], -1, GROUP)


def in_supers(x, fill=0):
    """[..., G] -> [..., S, 8]."""
    x = np.concatenate([x, np.full([*x.shape[:-1], -x.shape[-1] % OVER], fill, x.dtype)], -1)
    return x.reshape(*x.shape[:-1], -1, OVER)


def quantise_q8(w):
    """The parts of float32 weights [..., K]."""
    w = np.asarray(w, np.float32)
    groups = grouped(w)
    d = (np.abs(groups).max(-1) / np.float32(127)).astype(np.float16)
    step = d.astype(np.float32)[..., None]
    q = np.where(step == 0, 0, np.clip(np.rint(groups / np.where(step == 0, 1, step)), -127, 127)).astype(np.int8)
    return {"q8": q.reshape(*w.shape[:-1], -1)[..., : w.shape[-1]].copy(), "d": d}


def quantise_q4(w):
    """Plainly, by the least and the largest weight of a group: any numbers would do that a checkpoint may hold."""
    groups = grouped(np.asarray(w, np.float32))
    low = np.maximum(-groups.min(-1), 0)
    width = (groups.max(-1) + low) / 15
    d = (in_supers(width).max(-1) / 63).astype(np.float16)
    m = (in_supers(low).max(-1) / 63).astype(np.float16)
    G = groups.shape[-2]
    d_of, m_of = (np.repeat(x.astype(np.float64), OVER, -1)[..., :G] for x in (d, m))
    s, t = (np.clip(np.rint(x / np.where(of == 0, 1, of)), 0, 63).astype(np.uint8) for x, of in ((width, d_of), (low, m_of)))
    step = (d_of * s)[..., None]
    q = np.clip(np.rint((groups + (m_of * t)[..., None]) / np.where(step == 0, 1, step)), 0, 15).astype(np.uint8)
    q[..., -1, w.shape[-1] - GROUP * (G - 1) :] = 0
    packed = q[..., 0::2] | q[..., 1::2] << 4
    return {"q4": packed.reshape(*packed.shape[:-2], -1), "d": d, "m": m, "s": s, "t": t}


def rounded(x):
    """e [G] and p [G, 32] of an input, made in float32."""
    groups = grouped(np.asarray(x).astype(np.float32))
    a = np.abs(groups).max(-1)
    small = a < np.float32(2.0**-100)
    safe = np.where(small, np.float32(1), a)
    p = np.clip(np.rint(groups * (np.float32(127) / safe)[:, None]), -127, 127)
    return np.where(small, 0, safe / np.float32(127)).astype(np.float64), np.where(small[:, None], 0, p).astype(np.float64)


class Terms:
    """A sum of maps, each times a number: what `params` mixtures and adapters make of a map whose weights cannot be added."""

    __array_ufunc__ = None  # NumPy leaves g * map and x @ map.T to these

    def __init__(self, terms):
        self.terms = terms

    def __matmul__(self, x):
        return sum(g * (weights @ x) for g, weights in self.terms)

    def __getitem__(self, index):
        return Terms([(g, weights[index]) for g, weights in self.terms])

    def __rmul__(self, g):
        return Terms([(g * factor, weights) for factor, weights in self.terms])

    def __add__(self, other):
        return Terms(self.terms + (other.terms if isinstance(other, Terms) else [(1, other)]))

    def __radd__(self, other):
        return self if isinstance(other, int) and other == 0 else Terms([(1, other)] + self.terms)

    @property
    def T(self):
        return Transposed(self)


class Transposed:
    """For x @ W.T, of rows x."""

    __array_ufunc__ = None

    def __init__(self, weights):
        self.weights = weights

    def __rmatmul__(self, x):
        return np.array([self.weights @ row for row in x])


class Blocks(Terms):
    """A weight [..., O, K] in blocks."""

    def __init__(self, q, d, m, K, rounds):
        super().__init__([(1, self)])
        self.q, self.d, self.m, self.K, self.rounds = q, d, m, K, rounds  # [..., O, G, 32], [..., O, G] twice

    @staticmethod
    def of(parts, K, rounds):
        """Of the parts of a checkpoint, float16 numbers as any float."""
        if "q8" in parts:
            q = grouped(np.maximum(parts["q8"].astype(np.float64), -127))
            return Blocks(q, parts["d"].astype(np.float64), np.zeros(q.shape[:-1]), K, rounds)
        packed = parts["q4"].reshape(*parts["q4"].shape[:-1], -1, GROUP // 2)
        q = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], GROUP).astype(np.float64)
        d, m = (np.repeat(parts[of].astype(np.float64), OVER, -1)[..., : q.shape[-2]] for of in "dm")
        return Blocks(q, d * parts["s"], m * parts["t"], K, rounds)

    def values(self):
        """Weights as the float32 numbers that they are."""
        w = (self.d[..., None] * self.q - self.m[..., None]).astype(np.float32)
        return w.reshape(*w.shape[:-2], -1)[..., : self.K].astype(np.float64)

    def __matmul__(self, x):
        if not self.rounds:
            return self.values() @ x
        e, p = rounded(x)
        sums = np.einsum("ogi,gi->og", self.q, p)
        return (e * (self.d * sums - self.m * p.sum(-1))).sum(-1)

    def __getitem__(self, index):
        if self.q.ndim == 3:  # rows of a table
            return self.values()[index]
        return Blocks(self.q[index], self.d[index], self.m[index], self.K, self.rounds)
