"""A run: its parts, on disk and in memory."""
from __future__ import annotations

import pathlib
import signal
import time
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.distributed.checkpoint import state_dict as whole

import mossc
from mossc.files import lock, replace, sweep_below
from mossc.imports import WEIGHTS
from mossc.spec import word_of
from mossc.torch import MosscCache, MosscConfig, MosscForCausalLM

from . import optimizer as optimizers
from .data import Streams, Tokens, open_tokens
from .distributed import World, wrap
from .metrics import Metrics


@dataclass
class Progress:
    steps: int = 0
    seconds: float = 0.0


class NotFinite(Exception):
    """The run cannot go on."""

    def __init__(self, what: str, run: Run):
        super().__init__(f"{what} at step {run.progress.steps}, which is not saved: a smaller rate may help"
                         + (f"; {run.file} is from before" if run.file.exists() else ""))


class Run:
    """Everything of a run. The spec's errors, those of data (ValueError) and of files (OSError) are raised."""

    def __init__(self, options, world: World):
        self.options, self.world, self.out = options, world, pathlib.Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.out / ".lock") if world.first else None
        spec = mossc.Spec(options.spec, set=dict(options.set))
        self.spec = spec
        if options.batch % (world.size * options.accumulate):
            raise ValueError(f"a batch of {options.batch} cannot be cut into {world.size} × {options.accumulate} equal parts")
        self.carry = _carries(options, spec)
        cache = self.out / "tokens"
        self.valid = None
        if world.first:
            sweep_below(self.out)
            open_tokens(options.data, spec, cache)
            self.valid = self._open_valid(cache, True)
        world.wait()
        if not world.first and options.parallel == "fsdp":  # whose forward pass takes all processes
            self.valid = self._open_valid(cache, False)
        rows = options.batch // world.size
        tokens = open_tokens(options.data, spec, cache, make=False)
        self.streams = Streams(tokens, options.batch, options.window, world.rank * rows, (world.rank + 1) * rows)
        config = MosscConfig.from_spec(spec, balance_loss=options.balance, z_loss=options.z_loss)
        self.model = MosscForCausalLM(config)
        if options.init:
            self._begin_with(options.init)
        elif options.seed:
            self.model.draw_fresh(options.seed)
        self.model.to(world.device)
        if options.checkpointing:
            self.model.gradient_checkpointing_enable()
        if options.compile:
            for layer in self.model.blocks:
                layer.compile()
        if options.select_bias_rate and not any(bias is not None for layer in self.model.blocks for bias in layer.router_biases()):
            raise ValueError("--select-bias-rate: the spec has no router with select_bias: true")
        self.module = wrap(self.model, world, options.parallel)
        self.optimizers = optimizers.make(self.model, options.optimizer, options.muon_lr, options.lr, options.decay, options.precision)
        self._whole = whole.StateDictOptions(full_state_dict=True, cpu_offload=True, broadcast_from_rank0=world.size > 1)
        self.caches: list[MosscCache | None] = [None] * options.accumulate
        self.progress = Progress()
        self._settings = {"--batch": options.batch, "--window": options.window, "--optimizer": options.optimizer, "tokens of --data": len(tokens)}
        self._load()
        self.saved = self.progress.steps if self.progress.steps else None
        self.begun = time.monotonic() - self.progress.seconds
        self.metrics = Metrics(self.out, self.progress.steps, world.first)

    def _open_valid(self, cache: pathlib.Path, make: bool) -> Tokens | None:
        if not self.options.valid:
            return None
        out = open_tokens([self.options.valid], self.spec, cache, make)
        if min(len(out), self.options.valid_tokens) < 2:
            raise ValueError(f"{self.options.valid}: to check with takes two tokens at least")
        return out

    def _begin_with(self, given: str) -> None:
        path = pathlib.Path(given)
        path = path / WEIGHTS if path.is_dir() else path
        try:
            held = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: no safetensors: {error}") from None
        _check_fit(path, held, self.model.state_dict())
        self.model.load_state_dict(held)

    @property
    def file(self) -> pathlib.Path:
        return self.out / "run.pt"

    @property
    def tokens(self) -> int:
        return self.progress.steps * self.options.batch * self.options.window

    def done(self) -> float:
        """The share of the run that is over; the first process's clock counts."""
        o = self.options
        self.progress.seconds = self.world.agree(time.monotonic() - self.begun)
        return max(self.progress.seconds / 60 / o.minutes, self.tokens / o.tokens, self.progress.steps / o.steps)

    # ---- files

    def save(self) -> None:
        """RUN/run.pt and what other commands take; each appears as a whole, run.pt last. NotFinite: a weight is no number; nothing is
        written."""
        weights = whole.get_model_state_dict(self.model, options=self._whole)
        moments = [whole.get_optimizer_state_dict(self.model, o, options=self._whole) for o in self.optimizers]
        states = self.world.gather([cache and (cache.states, cache.position) for cache in self.caches])
        if not self.world.agree(all(bool(value.isfinite().all()) for value in weights.values())):  # those of the first
            raise NotFinite("a weight is not finite", self)
        if self.world.first:
            weights = {name: value.contiguous() for name, value in weights.items()}
            replace(self.out / WEIGHTS, lambda file: file.write(save(weights, {"format": "pt"})))
            self.model.config.write(self.out)
            held = {"hash": self.spec.hash, "settings": self._settings, "weights": weights, "moments": moments, "states": states, "progress": asdict(self.progress)}
            try:
                replace(self.file, lambda file: torch.save(held, file))
            except RuntimeError as error:  # how torch tells of a disk that is full
                raise OSError(f"{self.file}: cannot be written; what was there before is whole: {error}") from None
        self.saved = self.progress.steps
        self.world.wait()

    def _load(self) -> None:
        path = self.file
        if not path.exists():
            return
        held = _read(path)
        if held["hash"] != self.spec.hash:
            raise ValueError(f"{path} is a run of another spec: give another -o, or remove it")
        for name, value in held.get("settings", {}).items():
            if value != self._settings[name]:
                raise ValueError(f"{path} is a run with {name} {value}, not {self._settings[name]}: to begin a new one with its weights give "
                                 f"another -o and --init {self.out}")
        whole.set_model_state_dict(self.model, held["weights"], options=self._whole)
        for o, moments in zip(self.optimizers, held["moments"], strict=True):
            given = [{key: value for key, value in group.items() if key != "params"} for group in o.param_groups]
            whole.set_optimizer_state_dict(self.model, o, moments, options=self._whole)
            for group, values in zip(o.param_groups, given, strict=True):
                group.update(values)  # rates are the command's, not those of the start before
        self.progress = Progress(**held["progress"])
        if len(held["states"]) == self.world.size and len(held["states"][0]) == self.options.accumulate:
            for i, state in enumerate(held["states"][self.world.rank]):
                self.caches[i] = state and self._cache(*state)

    def _cache(self, states, position: int) -> MosscCache:
        cache = MosscCache(len(self.model.blocks))
        cache.states, cache.position = states, position
        cache.batch = self.options.batch // (self.world.size * self.options.accumulate)
        cache._each(lambda v: v.to(self.world.device))
        return cache


def _read(path: pathlib.Path) -> dict:
    """ValueError: it is no run."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what is damaged may say anything to the unpickler
        raise ValueError(f"{path} is not whole, or no run of mossc.train: remove it to begin anew") from None
    if not isinstance(held, dict) or not {"hash", "weights", "moments", "states", "progress"} <= held.keys():
        raise ValueError(f"{path} is no run of mossc.train: give another -o, or remove it")
    return held


def _check_fit(path: pathlib.Path, held: dict, wanted: dict) -> None:
    """ValueError: other names or shapes."""
    wrong = [f"{name} is missing" for name in wanted if name not in held] + [f"{name} is not the spec's" for name in held if name not in wanted]
    wrong += [f"{name} has shape {list(value.shape)}, not {list(wanted[name].shape)}" for name, value in held.items()
              if name in wanted and value.shape != wanted[name].shape]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path}: not weights of this spec: {'; '.join(wrong[:3])}{more}")


def _carries(options, spec: mossc.Spec) -> bool:
    """Whether states go on from window to window. ValueError: windows do not fit the spec's positions."""
    most = spec.max_positions
    if most and options.window > most:
        raise ValueError(f"--window {options.window} is more than the spec's max_positions, {most}")
    if most and options.carry == "yes":
        raise ValueError(f"--carry yes: the spec's max_positions, {most}, end what is carried")
    kinds = {word for entry in spec.resolved["stack"] for word in _words(entry)}
    return options.carry == "yes" or options.carry == "auto" and not most and "attention" not in kinds


def _words(entry: dict):
    """The kinds in an entry of a resolved stack."""
    word = word_of(entry)
    if word == "parallel":
        yield from map(word_of, entry[word])
    else:
        yield word


class Stop:
    """Whether a signal asked the run to end after its present step."""

    def __init__(self):
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number, frame) -> None:
        self.signal = number
