"""ssm of kind mamba3: the trapezoid, turning B and C, several inputs and outputs of a head."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from ..functions import A_ACTIVATIONS, rms, softplus, wide
from ..ssd import ssd
from ..weights import Weights
from .base import Context, Kind, Result, State, before, normed


class Mamba3(Kind):
    def __init__(self, keys: dict, context: Context):
        super().__init__(keys, context)
        self.inner, self.N, self.P, self.G = (keys[k] for k in ("d_inner", "d_state", "head_dim", "n_groups"))
        self.H = self.inner // self.P
        self.R = 1 if keys["mimo_rank"] == "none" else keys["mimo_rank"]
        self.mimo = keys["mimo_rank"] != "none"
        self.f = A_ACTIVATIONS[keys["a_activation"]]

    def __call__(self, w: Weights, u: Tensor, state: State | None, position: int) -> Result:
        batch, length, _ = u.shape
        rows = u.flatten(0, 1)
        of = lambda name, *shape: w.map(name, rows).view(batch, length, *shape)
        x, z = of("in_proj", 1, self.H, self.P), of("gate_proj", 1, self.H, self.P)
        B, C = of("bc_proj", 2, self.R, self.G, self.N).unbind(2)
        dt = softplus(of("dt_proj", self.H))
        decay = torch.minimum(-self.f(wide(of("a_proj", self.H))), dt.new_tensor(-self.keys["a_floor"])) * dt  # log α
        part = wide(of("trap_proj", self.H)).sigmoid()
        turn = math.pi * wide(of("angle_proj", 1, -1)).tanh() * dt[..., None]  # [B, T, H, S]
        angle = self._angles(turn, before(state, "angle", turn, batch, self.H, turn.shape[-1]))
        k, q = self._turned(w, B, "b", angle), self._turned(w, C, "c", angle)  # [B, T, R, H, N]
        v = x * w["mimo_x"].transpose(0, 1) if self.mimo else x  # [B, T, R, H, P]
        carried = (1 - part) * dt  # what this token's step takes in of the one before, before it decays
        now = part * dt
        later = now + torch.cat([carried[:, 1:], torch.zeros_like(carried[:, :1])], 1)
        s = before(state, "s", v, batch, self.H, self.P, self.N)
        if state is not None:
            s = s + carried[:, 0, :, None, None] * torch.einsum("brhp,brhn->bhpn", wide(state["v"]), wide(state["k"]))
        y, s = ssd(v, k, q, decay, now, later, s)
        y = y + w["D"][:, None] * v
        if self.keys["out_norm_heads"] != "none":
            y = rms(y, None, self.keys["inner_norm_eps"]) * w["head_norm.weight"].view(self.H, self.P)
        out = w.map("out_proj", self._gated(w, y, z).flatten(2).flatten(0, 1)).view_as(u)
        return Result(out, {"s": s, "angle": angle[:, -1], "v": v[:, -1], "k": k[:, -1]})

    def _angles(self, turn: Tensor, start: Tensor) -> Tensor:
        """Θ [B, T, H, S], kept in −π..π. The sum is formed in double: over a long sequence it grows."""
        total = start.double()[:, None] + turn.double().cumsum(1)
        return (total - 2 * math.pi * (total / (2 * math.pi)).round()).to(turn.dtype)

    def _turned(self, w: Weights, X: Tensor, name: str, angle: Tensor) -> Tensor:
        """X [B, T, R, G, N] -> [B, T, R, H, N]."""
        x = normed(w, name + "_norm", X, self.keys["inner_norm_eps"], "rms")
        x = x.repeat_interleave(self.H // self.G, 3) + w[name + "_bias"].transpose(0, 1)
        cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]
        turning, rest = x[..., : 2 * angle.shape[-1]], x[..., 2 * angle.shape[-1] :]
        a, b = turning[..., 0::2], turning[..., 1::2]
        return torch.cat([torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2), rest], -1)

    def _gated(self, w: Weights, y: Tensor, z: Tensor) -> Tensor:
        """y [B, T, R, H, P], z [B, T, 1, H, P] -> [B, T, H, P]."""
        silu = torch.nn.functional.silu
        if not self.mimo:
            return (y * silu(z))[:, :, 0]
        of = lambda name: w[name].transpose(0, 1)
        return (of("mimo_o") * y * silu(z * of("mimo_z"))).sum(2)
