"""Trains the model of a mossc spec on the bytes of a text.

    python train.py SPEC TEXT --out RUN (--minutes M | --tokens N) [--valid TEXT]

The text is cut into --batch streams that are read side by side, window by
window, states carried along. The rate warms up, stays, then falls linearly to
zero over the last --fall of the run. How far the run is, is measured by the clock
(--minutes) or by the tokens (--tokens), whichever is ahead. RUN/run.npz is
everything needed to go on (the same command resumes; a smaller --minutes ends
the run sooner), RUN/model.safetensors the weights as mossc reads them.
"""

import argparse
import os
import pathlib
import sys
import time

# XLA asks for its large temporaries anew at every step. Telling glibc to keep them, in one arena and in
# huge pages, saves about a quarter of the time; it has to be said before the process starts.
TUNABLES = {"hugetlb": 1, "mmap_threshold": 1 << 33, "trim_threshold": 1 << 34, "top_pad": 1 << 28, "arena_max": 1}
if "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{k}={v}" for k, v in TUNABLES.items())
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.execv(sys.executable, [sys.executable, *sys.argv])

import jax
import jax.numpy as jnp
import numpy as np

import checkpoint
import evaluate
import model
import optimizer
import spec as spec_file

LOG2 = np.log(2)


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("spec")
    ap.add_argument("text")
    ap.add_argument("--out", required=True, help="directory of the run")
    ap.add_argument("--valid", help="text for the check at every save")
    ap.add_argument("--minutes", type=float, default=float("inf"))
    ap.add_argument("--tokens", type=float, default=float("inf"))
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--window", type=int, default=256)
    ap.add_argument("--warmup", type=float, default=0.02, help="share of the run")
    ap.add_argument("--fall", type=float, default=0.5, help="share of the run over which the rate falls to zero")
    ap.add_argument("--muon-lr", type=float, default=0.015)
    ap.add_argument("--adam-lr", type=float, default=0.003)
    ap.add_argument("--balance", type=float, default=0.01, help="weight of the routers' balancing loss")
    ap.add_argument("--save-minutes", type=float, default=5)
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args()
    if min(args.minutes, args.tokens) == float("inf"):
        ap.error("one of --minutes and --tokens is needed")
    return args


class Streams:
    """The text as `batch` streams; window number i of all of them."""

    def __init__(self, text, batch, window):
        self.text, self.window = text, window
        self.starts = np.arange(batch) * (len(text) // batch)

    def __getitem__(self, i):
        at = self.starts[:, None] + i * self.window + np.arange(self.window + 1)
        return self.text[at % len(self.text)].astype(np.int32)              # [batch, window + 1]


def make_step(spec, args):
    def loss(params, tokens, state):
        logits, state, balance = model.forward(params, spec, tokens[:, :-1], state)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)
        nats = -picked.mean()
        return nats + args.balance * balance, (nats, balance, state)

    def step(params, opt, state, tokens, lr):
        grads, (nats, balance, state) = jax.grad(loss, has_aux=True)(params, tokens, state)
        params, opt, size = optimizer.update(params, grads, opt, lr, args.muon_lr, args.adam_lr)
        return params, opt, state, {"nats": nats, "balance": balance, "gradient": size}

    return jax.jit(step, donate_argnums=(0, 1, 2))


def rate(done, args):
    """The learning rate's factor when a share `done` of the run is over."""
    return max(0.0, min(1.0, (done + 1e-3) / args.warmup, (1 - done) / args.fall))


class Run:
    """The run's weights, optimizer, states and progress, on disk and in memory."""

    def __init__(self, spec, args):
        self.spec, self.args, self.out = spec, args, pathlib.Path(args.out)
        self.progress = {"steps": 0, "seconds": 0.0}
        if (self.out / "run.npz").exists():
            self.params, self.opt, self.state, self.progress = checkpoint.load_run(
                self.out / "run.npz", len(spec.blocks))
        else:
            self.params = model.fresh(spec, args.seed)
            self.opt, self.state = optimizer.init(self.params), model.empty_state(spec, args.batch)
        self.begun = time.time() - self.progress["seconds"]

    @property
    def tokens(self):
        return self.progress["steps"] * self.args.batch * self.args.window

    def done(self):
        self.progress["seconds"] = time.time() - self.begun
        return max(self.progress["seconds"] / 60 / self.args.minutes, self.tokens / self.args.tokens)

    def save(self, valid):
        checkpoint.save_run(self.out / "run.npz", self.params, self.opt, self.state, self.progress)
        checkpoint.write_safetensors(self.out / "model.safetensors", self.params, self.spec.dtype)
        if valid is not None:
            stored = checkpoint.read_safetensors(self.out / "model.safetensors")
            bits = evaluate.bits_per_byte(stored, self.spec, valid[:1 << 18], streams=16, window=256)
            print(f"saved at {self.tokens / 1e6:.1f} M tokens; {bits:.4f} bits per byte on 256 KiB of the check text",
                  flush=True)


def report(run, done, lr, sums, count, seconds):
    nats, balance, gradient = (float(sums[k]) / count for k in ("nats", "balance", "gradient"))
    speed = count * run.args.batch * run.args.window / seconds
    left = run.progress["seconds"] * (1 - done) / max(done, 1e-6) / 60
    print(f"step {run.progress['steps']:6d}  {done:6.1%}  {run.tokens / 1e6:7.2f} M tokens  rate {lr:.3f}  "
          f"loss {nats:.4f}  {nats / LOG2:.4f} bpb  balance {balance:.3f}  |g| {gradient:.2f}  "
          f"{speed:6.0f} tokens/s  {left:5.1f} min left", flush=True)


def train(run, text, valid, every=20):
    args, step = run.args, make_step(run.spec, run.args)
    streams = Streams(text, args.batch, args.window)
    saved, shown, sums, count = time.time(), time.time(), None, 0
    while (done := run.done()) < 1:
        lr = rate(done, args)
        tokens = streams[run.progress["steps"]]
        run.params, run.opt, run.state, seen = step(run.params, run.opt, run.state, tokens, lr)
        sums = seen if sums is None else jax.tree.map(jnp.add, sums, seen)
        run.progress["steps"] += 1
        count += 1
        if run.progress["steps"] % every == 0:
            jax.block_until_ready(sums)
            report(run, done, lr, sums, count, time.time() - shown)
            shown, sums, count = time.time(), None, 0
        if (begun := time.time()) - saved > 60 * args.save_minutes:
            run.save(valid)
            saved = time.time()
            shown += saved - begun  # the time of a save is not the steps'
    run.save(valid)


def main():
    args = arguments()
    spec = spec_file.load(args.spec)
    total, active = model.count(spec)
    print(f"{spec.name}: {total:,} parameters, {active:,} active per token", flush=True)
    text = np.memmap(args.text, np.uint8, "r")
    valid = np.fromfile(args.valid, np.uint8) if args.valid else None
    train(Run(spec, args), text, valid)


if __name__ == "__main__":
    main()
