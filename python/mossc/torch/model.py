"""MosscForCausalLM: the model of a spec as a transformers model. Its parameters have the language's names."""
from __future__ import annotations

import pathlib
import tempfile
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

import mossc

from . import quant
from .blocks import Context
from .cache import MosscCache
from .config import MosscConfig
from .layer import Block, Lender, Norm
from .losses import router_losses, share_of_batch, text_loss
from .rounding import Rounding
from .tree import held, hold


@dataclass
class MosscOutput(ModelOutput):
    """loss: with `labels`, the mean of −log p over them (shifted by one), in training with the routers' losses; logits [B, T, V];
    hidden_states: x [B, T, D] before each entry of the stack, and behind the final norm; balance_loss, z_loss: means over the routers;
    router_loads: pairs of each expert, [E] for each router. With return_dict=False, those that are there, in this order."""

    loss: Tensor | None = None
    last_hidden_state: Tensor | None = None
    logits: Tensor | None = None
    cache: MosscCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    text_loss: Tensor | None = None
    balance_loss: Tensor | None = None
    z_loss: Tensor | None = None
    router_loads: tuple[Tensor, ...] | None = None


class MosscModel(PreTrainedModel):
    """The stack without the head: gives last_hidden_state [B, T, D] behind the final norm."""

    config_class = MosscConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]
    _supports_sdpa = True
    main_input_name = "input_ids"

    def __init__(self, config: MosscConfig):
        super().__init__(config)
        spec, known = config.spec, config.as_spec()
        tensors = known.tensors
        self._spec, self._most_positions = spec, known.max_positions
        self._rounding = Rounding(config.fake_quantise, spec["weights"].get("activations") == "q8")
        context = Context(spec["d_model"], spec["norm"]["eps"])
        outer = [t for t in tensors if not t.name.startswith("blocks.")]
        self._places = hold(self, [(t.name, t.shape) for t in outer])
        self._dtypes = {t.name: t.dtype for t in outer}
        norm = Norm(spec["norm"])
        self._final_norm = Norm(spec["final_norm"])
        named = {entry["name"]: i for i, entry in enumerate(spec["stack"]) if "name" in entry}
        lent = {named[entry["share"]["block"]] for entry in spec["stack"] if "share" in entry}
        self.blocks = nn.ModuleList(
            (Lender if i in lent else Block)(i, entry, tensors, norm, context, self._rounding) for i, entry in enumerate(spec["stack"])
        )
        for layer, entry in zip(self.blocks, spec["stack"]):
            if "share" in entry:
                layer.lend_from(self.blocks[named[entry["share"]["block"]]])
        self.gradient_checkpointing = False
        self.post_init()
        if not self.embed.weight.is_meta:
            self.draw_fresh()

    # ---- what transformers asks of a model

    def _init_weights(self, module: nn.Module) -> None:
        """Fresh weights are drawn by the C library, all at once: draw_fresh."""

    @torch.no_grad()
    def draw_fresh(self, seed: int = 0) -> None:
        """The weights of `mossc init` with this seed."""
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "fresh.safetensors"
            self.config.as_spec().write_fresh(path, seed)
            self.load_state_dict(load_file(path))

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs) -> None:
        """config.json, model.safetensors (the trained numbers; `mossc` rounds them as this module does) and spec.yaml: what
        `mossc run DIR/spec.yaml -w DIR/model.safetensors` takes."""
        if is_main_process:  # first: where it fails there are no weights without a spec
            self.config.write_spec(pathlib.Path(save_directory))
        super().save_pretrained(save_directory, is_main_process, **kwargs)

    def as_spec(self) -> mossc.Spec:
        return self.config.as_spec()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed = value

    # ---- computing

    def _embedding(self, input_ids: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        if input_ids.device.type == "cpu" and not (0 <= int(input_ids.min()) and int(input_ids.max()) < len(tensors["embed.weight"])):
            raise ValueError(f"input_ids: expected 0 to {len(tensors['embed.weight']) - 1}, got {int(input_ids.min())} to {int(input_ids.max())}")
        table = self._rounding(tensors["embed.weight"], self._dtypes["embed.weight"])
        return self._spec["embedding_scale"] * F.embedding(input_ids, table)

    def _stack(self, input_ids, inputs_embeds, attention_mask, position_ids, cache, use_cache, output_hidden_states):
        check_inputs(input_ids, inputs_embeds, attention_mask, position_ids, cache)
        tensors = held(self._places)
        check_mask(attention_mask)
        x = self._embedding(input_ids, tensors) if inputs_embeds is None else inputs_embeds
        cache = cache if cache is not None else MosscCache(len(self.blocks)) if use_cache else None
        position = 0 if cache is None else cache.position
        self._check_place(x, cache, position)
        losses, seen = [], []
        for i, layer in enumerate(self.blocks):
            if output_hidden_states:
                seen.append(x)
            state = None if cache is None else cache.states[i]
            if self.gradient_checkpointing and self.training:
                x, states, loss = self._gradient_checkpointing_func(layer.__call__, x, state, position)
            else:
                x, states, loss = layer(x, state, position)
            losses += loss
            if cache is not None:
                cache.states[i] = states
        if cache is not None:
            cache.position, cache.batch = position + x.shape[1], x.shape[0]
        x = self._final_norm(x, tensors, "final_norm")
        return x, cache, losses, (*seen, x) if output_hidden_states else None

    def _check_place(self, x: Tensor, cache: MosscCache | None, position: int) -> None:
        """ValueError: x does not go on with the cache's sequences, or there are no positions left for it."""
        if position and cache.batch != x.shape[0]:
            raise ValueError(f"the cache is of {cache.batch} sequences, the input has {x.shape[0]}")
        if self._most_positions and position + x.shape[1] > self._most_positions:
            raise ValueError(f"a sequence of {position + x.shape[1]} tokens, and the spec's max_positions is {self._most_positions}")

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: MosscCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        position_ids: Tensor | None = None,
        **_,
    ) -> MosscOutput:
        x, cache, losses, seen = self._stack(input_ids, inputs_embeds, attention_mask, position_ids, cache, use_cache, output_hidden_states)
        return MosscOutput(last_hidden_state=x, cache=cache, hidden_states=seen, **router_losses(losses, self.training))


class MosscForCausalLM(MosscModel, GenerationMixin):
    """With the head. See MosscOutput for what it gives."""

    def get_output_embeddings(self) -> nn.Module:
        return self.embed if self._spec["tie_embeddings"] else self.head

    def _logits(self, x: Tensor) -> Tensor:
        name = "embed.weight" if self._spec["tie_embeddings"] else "head.weight"
        dtype = self._dtypes[name]
        rounds = self._rounding.inputs and dtype in quant.BLOCKS
        weight = self._rounding(held(self._places)[name], dtype, rounds)
        return self._spec["logit_scale"] * F.linear(quant.round_input(x) if rounds else x, weight)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: MosscCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        num_items_in_batch: Tensor | int | None = None,
        position_ids: Tensor | None = None,
        **_,
    ) -> MosscOutput:
        """input_ids [B, T]; labels [B, T], −100 where none: label t is what logits t − 1 are scored on. num_items_in_batch: these are a part
        of a batch with so many labels, whose losses the parts' losses add up to."""
        x, cache, losses, seen = self._stack(input_ids, inputs_embeds, attention_mask, position_ids, cache, use_cache, output_hidden_states)
        logits = self._logits(x[:, -logits_to_keep:] if logits_to_keep else x)
        out = MosscOutput(logits=logits, cache=cache, hidden_states=seen, **router_losses(losses, self.training))
        if labels is None:
            return out
        text = text_loss(logits[:, :-1], labels[:, 1:], num_items_in_batch)
        loss = self.add_router_losses(text, out, share_of_batch(labels[:, 1:], num_items_in_batch))
        return MosscOutput(loss=loss, text_loss=text, **out)  # anew, so that a tuple begins with the loss

    def add_router_losses(self, loss: Tensor, out: MosscOutput, share: Tensor | float = 1.0) -> Tensor:
        """share: how much of a batch `out` is of."""
        if not self.training or out.balance_loss is None:
            return loss
        return loss + share * (self.config.balance_loss * out.balance_loss + self.config.z_loss * out.z_loss)

    @torch.no_grad()
    def balance_experts(self, loads: tuple[Tensor, ...], rate: float) -> None:
        """Balancing without a loss (arXiv 2408.15664): `select_bias` of an expert with fewer pairs than the mean rises by rate, of one
        with more it falls. loads: router_loads of a step."""
        biases = [bias for layer in self.blocks for bias in layer.router_biases()]
        for bias, load in zip(biases, loads, strict=True):
            if bias is None:
                continue
            change = rate * (load.mean() - load).sign().to(bias.dtype)
            if isinstance(bias, DTensor):  # sharded by FSDP
                change = distribute_tensor(change, bias.device_mesh, bias.placements)
            bias.add_(change)

    # ---- generation

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # it makes a cache of its own

    def prepare_inputs_for_generation(self, input_ids: Tensor, cache: MosscCache | None = None, use_cache: bool = True, **kwargs) -> dict:
        seen = 0 if cache is None else cache.position
        return {"input_ids": input_ids[:, seen:], "cache": cache, "use_cache": use_cache, "logits_to_keep": 1} | {
            key: kwargs[key] for key in ("attention_mask",) if key in kwargs
        }

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if outputs.cache is not None:
            model_kwargs["cache"] = outputs.cache
        return model_kwargs


def check_inputs(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, mask: Tensor | None, position_ids: Tensor | None, cache: MosscCache | None
) -> None:
    given = [x for x in (input_ids, inputs_embeds) if x is not None]
    if len(given) != 1:
        raise ValueError(f"expected input_ids or inputs_embeds, not {'both' if given else 'neither'}")
    if input_ids is not None and (input_ids.dim() != 2 or input_ids.dtype not in (torch.int64, torch.int32)):
        raise ValueError(f"expected input_ids [B, T] of int64, got {input_ids.dtype} of shape {list(input_ids.shape)}")
    if given[0].numel() == 0:
        raise ValueError(f"expected at least one sequence of at least one token, not an input of shape {list(given[0].shape)}")
    if position_ids is not None:
        check_positions(position_ids, mask, 0 if cache is None else cache.position, given[0].shape[1])


def check_positions(position_ids: Tensor, mask: Tensor | None, first: int, length: int) -> None:
    """Positions cannot be chosen: a state takes in its tokens one after the other. Those of padding are never looked at."""
    wrong = position_ids != torch.arange(first, first + length, device=position_ids.device)
    if mask is not None:
        wrong = wrong & mask[:, -length:].bool()
    if bool(wrong.any()):
        raise ValueError(f"position_ids: expected {first} to {first + length - 1}, one after the other, as without them (a state takes in every token "
                         "it is given, so sequences that are packed into one row would run into each other)")


def check_mask(mask: Tensor | None) -> None:
    """Padding behind a sequence is harmless, since nothing looks ahead; padding before one would enter the states."""
    if mask is not None and bool((mask[:, 1:] > mask[:, :-1]).any()):
        raise ValueError("attention_mask has padding before a sequence: pad on the right (a state takes in every token it is given)")
