"""When weights are rounded: each time they are used in training, once for each change of theirs without gradients."""
from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from . import quant


class Rounding:
    """weight -> as the spec stores it. `inputs`: those of q8 and q4 maps are rounded too."""

    def __init__(self, active: bool, inputs: bool):
        self.active, self.inputs = active, active and inputs
        self._kept = WeakIdKeyDictionary()

    def __call__(self, weight: Tensor, dtype: str, exact: bool = False) -> Tensor:
        """exact: q4 as the difference of its products, not rounded to float32 (what a map of rounded inputs multiplies with)."""
        if not self.active or dtype == "f32":
            return weight
        if torch.is_grad_enabled() and weight.requires_grad:
            return quant.fake_quantise(weight, dtype, exact)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return quant.stored(weight, dtype, exact)  # what shards parameters may change them behind our back
        key = (weight._version, weight.dtype, weight.device, weight.data_ptr(), exact)
        kept = self._kept.get(weight)
        if kept is None or kept[0] != key:
            with torch.inference_mode(False):
                kept = (key, quant.stored(weight, dtype, exact))
            self._kept[weight] = kept
        return kept[1]
