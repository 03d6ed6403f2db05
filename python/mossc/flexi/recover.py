"""Recovery: what a model lost by pruning is trained back, by the text and by what the unpruned model says of it. Needs PyTorch."""
from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import time
import typing

import numpy as np
import torch
import torch.nn.functional as F

from mossc.errors import MosscError
from mossc.flexi import model as models
from mossc.flexi import output
from mossc.flexi import text as texts
from mossc.flexi.checkpoint import Checkpoint, store
from mossc.flexi.prune import compare, read_texts
from mossc.model import Model
from mossc.spec import Spec, find
from mossc.torch import MosscConfig, MosscForCausalLM

WARM_UP = 0.05  # of the steps, over which the learning rate rises
LAST_RATE = 0.1  # of the learning rate, at the end of its cosine


@dataclasses.dataclass
class Recover:
    """What `recover` is asked for."""

    spec: str
    weights: list[str]
    text: pathlib.Path
    output: pathlib.Path
    teacher: str | None = None  # a spec, or a directory; None: the text alone teaches
    teacher_weights: list[str] = dataclasses.field(default_factory=list)
    train: str = "adapters"  # adapters (and norms), or all
    steps: int = 200
    batch: int = 8
    length: int = 256
    rate: float = 1e-3
    share_of_teacher: float = 0.9  # of the loss; the rest is the text's
    seed: int = 0
    text_bytes: int = 1 << 20
    score: pathlib.Path | None = None
    threads: int = 0
    progress: texts.Progress = lambda what, done, total: None


def module(spec: Spec, checkpoint: Checkpoint) -> MosscForCausalLM:
    """With the checkpoint's numbers, float32; the forward pass rounds them as the spec stores them."""
    out = MosscForCausalLM(MosscConfig.from_spec(spec, balance_loss=0.0))
    out.load_state_dict({t.name: torch.from_numpy(np.array(checkpoint.floats(t.name))) for t in spec.tensors})
    return out


def is_trained(name: str, train: str) -> bool:
    """Whether a tensor of that name is: adapters and norms, or all."""
    return train == "all" or ".adapters." in name or name.split(".")[-2].endswith("norm")


class Windows:
    """Runs of a text's tokens, drawn at random: int64 [batch, length + 1]."""

    def __init__(self, tokens: typing.Sequence[int], o: Recover) -> None:
        if len(tokens) <= o.length:
            raise MosscError("bad_input", f"{o.text}: {len(tokens)} tokens, expected more than --length {o.length}")
        self._tokens, self._o, self._random = np.asarray(tokens), o, np.random.default_rng(o.seed)

    def next(self) -> torch.Tensor:
        first = self._random.integers(0, len(self._tokens) - self._o.length, self._o.batch)
        return torch.from_numpy(self._tokens[first[:, None] + np.arange(self._o.length + 1)].astype(np.int64))


def loss_of(student: torch.Tensor, teacher: torch.Tensor | None, targets: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(what is made small, the text's mean −log p) of logits [B, T, V] and targets [B, T]: with a teacher KL(teacher ‖ student) counts `share`
    of it (Hinton et al., arXiv 1503.02531, at temperature 1)."""
    logs = F.log_softmax(student.flatten(0, 1).float(), -1)
    text = F.nll_loss(logs, targets.flatten())
    if teacher is None:
        return text, text
    wanted = F.log_softmax(teacher.flatten(0, 1).float(), -1)
    return share * F.kl_div(logs, wanted, log_target=True, reduction="batchmean") + (1 - share) * text, text


def rate_at(step: int, steps: int) -> float:
    """Of the learning rate: it rises, then follows half a cosine."""
    warm = max(1, int(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(student: MosscForCausalLM, teacher: MosscForCausalLM | None, windows: Windows, o: Recover) -> dict:
    """Changes the student's parameters. Gives what the report says of it."""
    chosen = [p for name, p in student.named_parameters() if is_trained(name, o.train)]
    for name, p in student.named_parameters():
        p.requires_grad_(is_trained(name, o.train))
    optimiser = torch.optim.AdamW(chosen, lr=o.rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, o.steps))
    student.train()
    losses, start = [], time.perf_counter()
    for step in range(o.steps):
        tokens = windows.next()
        with torch.no_grad():
            wanted = teacher(tokens[:, :-1]).logits if teacher is not None else None
        loss, text = loss_of(student(tokens[:, :-1]).logits, wanted, tokens[:, 1:], o.share_of_teacher)
        if not torch.isfinite(loss):
            raise MosscError("non_finite", f"the loss of step {step} is {float(loss)}: a lower --lr may help")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(text.item())
        o.progress(f"recovery (text loss {losses[-1]:.3f})", step + 1, o.steps)
    last = losses[-max(1, o.steps // 10):]
    return {"trained": o.train, "trained_parameters": sum(p.numel() for p in chosen), "steps": o.steps, "tokens": o.steps * o.batch * o.length,
            "seconds": time.perf_counter() - start, "first_text_loss": losses[0], "last_text_loss": sum(last) / len(last)}


def earlier_report(spec: str) -> dict:
    """Of the pruning that made the model, where it lies beside it."""
    path = pathlib.Path(spec)
    path = (path if path.is_dir() else path.parent) / models.REPORT
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise MosscError("bad_input", f"{path}: no report: {error}") from None


def recover(o: Recover) -> dict:
    """Writes o.output, as prune does. Gives the report. MosscError."""
    with output.Directory(o.output) as room:
        if o.threads:
            torch.set_num_threads(o.threads)
        torch.manual_seed(o.seed)
        spec, paths = find(o.spec, o.weights)
        if spec.max_positions and o.length > spec.max_positions:
            raise MosscError("bad_input", f"--length {o.length}: the model has {spec.max_positions} positions")
        training, scored = read_texts(o.text, o.text_bytes, o.score)
        checkpoint, report = Checkpoint(paths), earlier_report(o.spec)
        with Model(spec, paths, threads=o.threads) as m:
            before = models.measure(m, scored, "before", o.progress)
            windows = Windows(m.tokenizer.encode(training), o)
        teacher = None
        if o.teacher:
            teacher_spec, teacher_paths = find(o.teacher, o.teacher_weights)
            if teacher_spec.vocab_size != spec.vocab_size:
                raise MosscError("bad_input", f"the teacher has {teacher_spec.vocab_size} tokens, the model {spec.vocab_size}")
            teacher = module(teacher_spec, Checkpoint(teacher_paths)).eval().requires_grad_(False)
        student = module(spec, checkpoint)
        trained = train(student, teacher, windows, o)
        numbers = {name: p.detach().numpy() for name, p in student.named_parameters()}
        made = models.Made(spec, {name: store(numbers[name], checkpoint.tensors[name].dtype) if is_trained(name, o.train) else stored
                                  for name, stored in checkpoint.tensors.items()}, spec.path.parent)
        with models.opened(made, room, o.threads) as m:
            after = models.measure(m, scored, "recovered", o.progress)
        new = compare(spec, spec, {"unrecovered": before, "recovered": after}, "recovered")
        for key in ("parameters", "bytes"):
            new[key]["before"] = report.get(key, new[key])["before"]
        for key in ("bits_per_byte", "speed"):
            new[key] = {**report.get(key, {"before": new[key]["unrecovered"]}), **new[key]}
        report = {**report, "command": "recover", "recovery": {**trained, "text": str(o.text), "teacher": o.teacher}, **new}
        made.write(room, f"Made by mossc.flexi recover of {spec.name}.")
        models.write_report(room, report)
    return report
