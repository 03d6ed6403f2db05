"""The numbers of q4: the search of ir/quant_search.c in tensors, with the same bits, for where weights are not in a CPU's memory.

Every super-block of 256 weights (eight groups of 32) is a row here; the steps and the order of sums are those of the C file, whose head
explains them. Float32 throughout; multiplications and additions are separate operations, as they are there.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mossc.rounding import GROUP

OVER, LANES, REFITS, WINDOW_S, WINDOW_T, SMALL_S, ROUNDS = 8, 16, 2, 8, 8, 4, 2
MOST, SCALE_MOST = 15, 63
ROUNDING = 1.5 * 2.0**23
TINY_SHARE = 2.0**-18
HUGE = 2.0**127


def q4_numbers(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """rows float32 [R, K] -> q [R, K], D = d·s and M = m·t [R, G], all float32: a weight is D·q − M."""
    R, K = rows.shape
    groups = -(-K // GROUP)
    supers = -(-groups // OVER)
    size = supers * OVER * GROUP
    x = F.pad(rows, (0, size - K)).reshape(R * supers, OVER, GROUP)
    there = F.pad(torch.ones(K, device=rows.device), (0, size - K)).reshape(1, supers, OVER, GROUP)
    there = there.expand(R, -1, -1, -1).reshape(R * supers, OVER, GROUP)
    search = _Search(x, there)
    d, m, s, t = search.run()
    q = search.q(d, m, s, t).reshape(R, size)[:, :K]
    of_group = lambda v: v.reshape(R, supers * OVER)[:, :groups]
    return q, of_group(d[:, None] * s), of_group(m[:, None] * t)


def _inverse(D: Tensor) -> Tensor:
    return 1.0 / (D + 2.0**-100)


def _nearest_q(y: Tensor, per_D: Tensor) -> Tensor:
    return (y * per_D + ROUNDING).clamp(ROUNDING, ROUNDING + MOST) - ROUNDING


def _nearest_int(x: Tensor, most: int) -> Tensor:
    return (x.clamp(0, most) + 0.5).floor()


def _in_order(terms: Tensor) -> Tensor:
    """Sums over the last axis, from the first on."""
    out = torch.zeros_like(terms[..., 0])
    for k in range(terms.shape[-1]):
        out = out + terms[..., k]
    return out


class _Search:
    """x, there [B, 8, 32]: super-blocks, and 1 where a weight is."""

    def __init__(self, x: Tensor, there: Tensor):
        largest = x.abs().amax((1, 2))
        exponent = (largest.view(torch.int32) >> 23).clamp(1, 252)
        self.unit = ((exponent + 1) << 23).view(torch.float32)  # [B]
        self.x = x * ((253 - exponent) << 23).view(torch.float32)[:, None, None]
        self.h, self.there = there, there > 0
        self.zero = largest == 0
        self.least = torch.where(self.there, self.x, torch.inf).amin(2)  # [B, 8]; inf: no such group
        self.largest = torch.where(self.there, self.x, -torch.inf).amax(2)
        self.group = self.there[..., 0]  # [B, 8]
        self.least = torch.where(self.group, self.least, 0.0)
        self.largest = torch.where(self.group, self.largest, 0.0)
        self.sum_h = _in_order(self.h)
        self.z = torch.where(self.there, self.x - self.least[..., None], 0.0)
        self.sum_hz = _in_order(self.z)
        self.n = torch.arange(OVER, device=x.device)

    def run(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """d, m [B] as float16 numbers; s, t [B, 8]."""
        blocks = self.x.shape[0]
        none = self.x.new_zeros(blocks)
        best = (none, none, self.x.new_zeros(blocks, OVER), self.x.new_zeros(blocks, OVER), torch.where(self.zero, 0.0, none + HUGE))
        best = self._sign(1.0, best, best[4] > 0)
        positive = (self.group & (self.least > 0)).any(1)
        if bool(positive.any()):
            best = self._sign(-1.0, best, positive & (best[4] > 0))
        return best[:4]

    def q(self, d: Tensor, m: Tensor, s: Tensor, t: Tensor) -> Tensor:
        D, M = (d / self.unit)[:, None] * s, (m / self.unit)[:, None] * t
        q = _nearest_q(self.x + M[..., None], _inverse(D)[..., None])
        return torch.where(self.there, q, 0.0)

    # ---- sums over the weights of a group, for D and M [B, 8, lanes]

    def _errors(self, D: Tensor, M: Tensor) -> Tensor:
        per_D, out = _inverse(D), torch.zeros_like(D)
        for k in range(GROUP):
            y = self.x[..., k, None] + M
            e = y - D * _nearest_q(y, per_D)
            out = out + self.h[..., k, None] * (e * e)
        return out

    def _sums(self, D: Tensor, M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        per_D, hq_all, hqq, hqz = _inverse(D), torch.zeros_like(D), torch.zeros_like(D), torch.zeros_like(D)
        for k in range(GROUP):
            q = _nearest_q(self.x[..., k, None] + M, per_D)
            hq = self.h[..., k, None] * q
            hq_all = hq_all + hq
            hqq = hqq + hq * q
            hqz = hqz + hq * self.z[..., k, None]
        return hq_all, hqq, hqz

    # ---- step 2

    def _refit(self, sums: tuple[Tensor, Tensor, Tensor], sign: float, D: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
        hq, hqq, hqz = sums
        sum_h, sum_hz, least = self.sum_h[..., None], self.sum_hz[..., None], self.least[..., None]
        square = hqq * sum_h
        det = square - hq * hq
        new_D = (hqz * sum_h - hq * sum_hz) / det
        new_M = (new_D * hq - sum_hz) / sum_h - least
        both = (det > square * TINY_SHARE) & (new_M * sign >= 0)
        new_D = torch.where(both, new_D, (hqz + least * hq) / hqq)
        new_M = torch.where(both, new_M, 0.0)
        usable = (hqq > 0) & (new_D > 0)
        return torch.where(usable, new_D, D), torch.where(usable, new_M, M)

    def _fit(self, sign: float) -> tuple[Tensor, Tensor, Tensor]:
        low = torch.where((self.least > 0) == (sign > 0), 0.0, self.least)
        span = torch.where(self.largest > low, self.largest - low, 0.0)
        lane = torch.arange(LANES, device=low.device, dtype=torch.float32)
        D = span[..., None] / (13.0 + lane * torch.tensor(4.0 / (LANES - 1), dtype=torch.float32, device=low.device))
        D[..., 8] = span / MOST
        M = (-low)[..., None].expand_as(D)
        for _ in range(REFITS):
            D, M = self._refit(self._sums(D, M), sign, D, M)
        best = self._errors(D, M).argmin(2, keepdim=True)
        D, M = D.gather(2, best), M.gather(2, best)
        hqq = self._sums(D, M)[1]
        none = lambda v: torch.where(self.group, v[..., 0], 0.0)
        return none(D), none(M), none(hqq)

    # ---- step 3

    def _divisor(self, values: Tensor, weights: Tensor) -> Tensor:
        largest = values.amax(1).clamp(min=0)
        best, least = torch.zeros_like(largest), torch.full_like(largest, HUGE)
        for S in range(SCALE_MOST, SCALE_MOST // 2, -1):
            step, per_step = largest / S, S / largest
            error = torch.zeros_like(largest)
            for i in range(OVER):
                e = values[:, i] - step * ((values[:, i] * per_step + ROUNDING) - ROUNDING)
                error = error + torch.where(self.group[:, i], weights[:, i] * (e * e), 0.0)
            better = error < least
            least, best = torch.where(better, error, least), torch.where(better, step, best)
        return best

    # ---- step 4

    def _choose(self, d: Tensor, m: Tensor, s: Tensor, t: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
        d, m = (d / self.unit)[:, None], (m / self.unit)[:, None]
        first_s = _nearest_int(s - window // 2, SCALE_MOST + 1 - window)
        first_t = _nearest_int(t - WINDOW_T // 2, SCALE_MOST + 1 - WINDOW_T)
        lane = torch.arange(window * WINDOW_T, device=s.device)
        all_s = first_s[..., None] + (lane // WINDOW_T).float()
        all_t = first_t[..., None] + (lane % WINDOW_T).float()
        errors = self._errors(d[..., None] * all_s, m[..., None] * all_t)
        least, best = errors.min(2, keepdim=True)
        return all_s.gather(2, best)[..., 0], all_t.gather(2, best)[..., 0], torch.where(self.group, least[..., 0], 0.0)

    def _choose_all(self, d, m, s, t, window):
        s, t, errors = self._choose(d, m, s, t, window)
        return torch.where(self.group, s, 0.0), torch.where(self.group, t, 0.0), _in_order(errors)

    # ---- step 5

    def _refit_all(self, d: Tensor, m: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """d, m and where they are usable and others than they were."""
        x_d, x_m = d / self.unit, m / self.unit
        D, M = x_d[:, None] * s, x_m[:, None] * t
        per_D = _inverse(D)
        hq, hqq, hqr, hr = (torch.zeros_like(D) for _ in range(4))
        for k in range(GROUP):
            h, y = self.h[..., k], self.x[..., k] + M
            q = _nearest_q(y, per_D)
            r = y - D * q
            hq = hq + h * q
            hqq = hqq + h * q * q
            hqr = hqr + h * q * r
            hr = hr + h * r
        dd, dm, mm = _in_order(s * s * hqq), _in_order(s * t * hq), _in_order(t * t * self.sum_h)
        dr, mr = _in_order(s * hqr), _in_order(t * hr)
        square = dd * mm
        det = square - dm * dm
        both = det > square * TINY_SHARE
        change = (dr * mm - dm * mr) / det
        one = dd > 0
        new_d = torch.where(both, x_d + change, torch.where(one, x_d + dr / dd, x_d))
        new_m = torch.where(both, x_m + (change * dm - mr) / mm, x_m)
        usable = new_d > 0
        new_d, new_m = (new_d * self.unit).half().float(), (new_m * self.unit).half().float()
        return new_d, new_m, usable & ((new_d != d) | (new_m != m)) & new_d.isfinite() & new_m.isfinite()

    def _sign(self, sign: float, best, active: Tensor):
        """The better of `best` and what this sign of m gives, where active."""
        D, M, hqq = self._fit(sign)
        d, m = self._divisor(D, hqq), self._divisor(M * sign, self.sum_h)
        d, m = (self._half_step(v * self.unit) for v in (d, m))
        active = active & d.isfinite() & m.isfinite()
        m = m * sign
        step, shift = d / self.unit, m / self.unit
        s = torch.where(step[:, None] > 0, _nearest_int(D / step[:, None], SCALE_MOST), 0.0)
        t = torch.where(shift[:, None] != 0, _nearest_int(M / shift[:, None], SCALE_MOST), 0.0)
        s, t = torch.nan_to_num(s), torch.nan_to_num(t)
        s, t, error = self._choose_all(d, m, s, t, WINDOW_S)
        best = self._better(best, (d, m, s, t, error), active)
        now = best
        going = active
        for _ in range(ROUNDS):
            d, m, changed = self._refit_all(*now[:4])
            going = going & changed
            s, t, error = self._choose_all(d, m, now[2], now[3], SMALL_S)
            now = self._where(going, (d, m, s, t, error), now)
            best = self._better(best, now, going)
        return best

    @staticmethod
    def _half_step(step: Tensor) -> Tensor:
        half = step.half().float()
        return torch.where((step > 0) & (half == 0), 2.0**-24, half)

    @staticmethod
    def _where(here: Tensor, new, old):
        return tuple(torch.where(here if n.dim() == 1 else here[:, None], n, o) for n, o in zip(new, old))

    def _better(self, best, new, active: Tensor):
        return self._where(active & (new[4] < best[4]), new, best)
