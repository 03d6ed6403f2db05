"""How well a model predicts tokens."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from mossc.torch import MosscCache

from .data import Tokens

STREAMS, WINDOW = 16, 256


@torch.no_grad()
def nats_of(model: nn.Module, tokens: Tokens, most: int, device: torch.device) -> dict[str, float]:
    """{"nats": mean over the first `most` tokens, at least 2, "bits_per_byte": where the text is known}. The tokens are read as 16 pieces,
    each from nothing, and a model with max_positions begins anew where they end: faster than in one, and a little worse."""
    training = model.training
    model.eval()
    most = min(len(tokens), most)
    streams = min(STREAMS, most // 2)
    count = most // streams
    rows = torch.from_numpy(tokens.at(0, count * streams)).view(streams, count).to(device)
    bound = model.config.as_spec().max_positions or math.inf
    window = min(WINDOW, bound)
    cache, total = MosscCache(len(model.blocks)), 0.0
    for at in range(0, count - 1, window):
        part = rows[:, at : at + window + 1]
        if cache.position + part.shape[1] - 1 > bound:
            cache = MosscCache(len(model.blocks))
        logits = model(input_ids=part[:, :-1], cache=cache).logits
        total += F.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten(), reduction="sum").item()
    model.train(training)
    nats = total / (streams * (count - 1))
    out = {"nats": nats}
    if tokens.bytes is not None:
        out["bits_per_byte"] = nats / math.log(2) * len(tokens) / tokens.bytes
    return out
