"""The steps of a run."""
from __future__ import annotations

import contextlib
import math
import time

import torch
from torch import Tensor, nn

from .evaluate import nats_of
from .optimizer import set_rate
from .run import NotFinite, Run, Stop
from .schedule import factor


def train(run: Run, stop: Stop) -> int:
    """To the end of the run, or until a signal. Returns the signal, 0 at the end. NotFinite: it cannot go on, and is not saved."""
    o = run.options
    saved = shown = time.monotonic()
    sums, count = None, 0
    run.module.train()
    while True:
        done, signal = run.done(), int(run.world.agree(stop.signal))
        if done >= 1 or signal:
            break
        share = factor(o.schedule, done, o.warmup, o.fall, o.floor)
        set_rate(run.optimizers, share)
        seen = step(run)
        sums = seen if sums is None else sums + seen
        run.progress.steps += 1
        count += 1
        if run.progress.steps % o.report_steps == 0:
            report(run, share, sums, count, time.monotonic() - shown)
            shown, sums, count = time.monotonic(), None, 0
        if run.world.agree(time.monotonic() - saved) > 60 * o.save_minutes or run.progress.steps % o.save_steps == 0:
            begun = time.monotonic()
            means(run, sums, count)
            save(run)
            saved = time.monotonic()
            shown += saved - begun  # the time of a save is not the steps'
    if count:
        report(run, share, sums, count, time.monotonic() - shown)
    if run.saved != run.progress.steps:
        save(run)
    elif not signal:
        run.metrics.say(f"the run is over, at step {run.progress.steps}")
    return signal


def step(run: Run) -> Tensor:
    """One step of all processes. Returns (nats, balance, norm of the gradient)."""
    o = run.options
    rows = torch.from_numpy(run.streams[run.progress.steps]).to(run.world.device)
    text = balance = torch.zeros((), device=run.world.device)
    loads = None
    parts = rows.chunk(o.accumulate)
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        with accumulating(run.module, last), precision(run):
            out = run.module(input_ids=part[:, :-1], cache=run.caches[i], use_cache=run.carry)
            nats = nn.functional.cross_entropy(out.logits.flatten(0, 1).float(), part[:, 1:].flatten())
            (run.model.add_router_losses(nats, out) / len(parts)).backward()
        run.caches[i] = out.cache.detach() if run.carry else None
        text = text + nats.detach() / len(parts)
        if out.router_loads is not None:
            balance = balance + out.balance_loss.detach() / len(parts)
            loads = out.router_loads if loads is None else tuple(a + b for a, b in zip(loads, out.router_loads))
    size = nn.utils.clip_grad_norm_(run.model.parameters(), o.clip)
    size = size.full_tensor() if hasattr(size, "full_tensor") else size
    for optimizer in run.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if o.select_bias_rate and loads is not None:
        run.model.balance_experts(loads, o.select_bias_rate)
    return torch.stack([text, balance, size])


def accumulating(module: nn.Module, last: bool):
    """Gradients of processes are summed with the last part."""
    if last or not hasattr(module, "no_sync"):
        return contextlib.nullcontext()
    return module.no_sync()


def precision(run: Run):
    if run.options.precision == "f32":
        return contextlib.nullcontext()
    return torch.autocast(run.world.device.type, torch.bfloat16)


def means(run: Run, sums: Tensor | None, count: int) -> list[float]:
    """What the steps since the last report gave, over all processes: (nats, balance, norm of the gradient); nothing without steps. NotFinite."""
    if sums is None:
        return []
    found = [value / count / run.world.size for value in run.world.sum(*sums.tolist())]
    if not all(map(math.isfinite, found)):
        raise NotFinite(f"the loss is {found[0]}, the norm of its gradient {found[2]}", run)
    return found


def report(run: Run, share: float, sums: Tensor, count: int, seconds: float) -> None:
    done = run.done()
    nats, balance, size = means(run, sums, count)
    speed = count * run.options.batch * run.options.window / seconds
    left = run.progress.seconds * (1 - done) / max(done, 1e-6) / 60
    run.metrics.write(run.progress.steps, tokens=run.tokens, loss=nats, balance=balance, gradient=size, rate=share, tokens_per_second=speed,
                      seconds=run.progress.seconds)
    run.metrics.say(f"step {run.progress.steps:6d}  {done:6.1%}  {run.tokens:13,} tokens  rate {share:.3f}  loss {nats:.4f}  "
                    f"{nats / math.log(2):.4f} bits  balance {balance:.3f}  |g| {size:.2f}  {speed:7.0f} tokens/s  {left:6.1f} min left")


def save(run: Run) -> None:
    run.save()
    if run.valid is not None:
        found = nats_of(run.model, run.valid, int(run.options.valid_tokens), run.world.device)
        run.metrics.write(run.progress.steps, **{f"valid_{key}": value for key, value in found.items()})
        run.metrics.say(f"saved at {run.tokens:,} tokens; check: " + ", ".join(f"{k} {v:.4f}" for k, v in found.items()))
    else:
        run.metrics.say(f"saved at {run.tokens:,} tokens")
