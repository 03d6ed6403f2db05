"""The command line."""
from __future__ import annotations

import argparse

from mossc.arguments import count, number

EPILOG = """\
A run is begun or gone on with by the same command: RUN/run.pt holds what is needed, and is replaced as a whole. Spec and weights for
other commands are RUN/spec.yaml and RUN/model.safetensors; metrics are RUN/metrics.jsonl, and RUN/tensorboard where tensorboard is
installed.

on several GPUs or machines:
  torchrun --nproc-per-node 8 -m mossc.train SPEC --data TEXT -o RUN --tokens 1e10 --parallel fsdp

exit status: 0 the run is over; 1 an error; 2 wrong arguments; 130, 143 saved and stopped by SIGINT, SIGTERM
"""


def _assignment(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not path or not equals:
        raise argparse.ArgumentTypeError(f"'{text}': expected PATH=VALUE, as in d_model=256")
    return path, value


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m mossc.train", description="Trains the model of a spec on text.", epilog=EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("spec", metavar="SPEC")
    out.add_argument("--set", action="append", type=_assignment, default=[], metavar="PATH=VALUE", help="override a value of the spec")
    out.add_argument("-o", "--out", required=True, metavar="RUN", help="directory of the run")
    data = out.add_argument_group("data")
    data.add_argument("--data", nargs="+", required=True, metavar="FILE",
                      help="text; or token ids: .npy, .u16 or .u32 files. Text is tokenized once, into RUN/tokens")
    data.add_argument("--valid", metavar="FILE", help="text or tokens to check with at every save")
    data.add_argument("--valid-tokens", type=count(2), default=2**18, metavar="N", help="of them, the first so many (%(default)s)")
    data.add_argument("--batch", type=count(), default=32, metavar="B", help="sequences of a step, of all processes together (%(default)s)")
    data.add_argument("--window", type=count(), default=256, metavar="T", help="tokens of a sequence in a step (%(default)s)")
    data.add_argument("--accumulate", type=count(), default=1, metavar="N", help="cut a step's batch into N parts, one after the other")
    data.add_argument("--carry", choices=["auto", "yes", "no"], default="auto",
                      help="read the data as B streams, states carried from window to window; auto: where no block is attention")
    length = out.add_argument_group("length of the run: what is reached first ends it")
    length.add_argument("--tokens", type=number(above=0), default=float("inf"), metavar="N")
    length.add_argument("--steps", type=count(), default=float("inf"), metavar="N")
    length.add_argument("--minutes", type=number(above=0), default=float("inf"), metavar="M", help="of training, those of earlier starts included")
    rate = out.add_argument_group("rate")
    rate.add_argument("--schedule", choices=["wsd", "cosine"], default="wsd", help="warm-up, then constant with a linear fall at the end; or cosine")
    rate.add_argument("--warmup", type=number(0, 1), default=0.02, metavar="SHARE", help="of the run (%(default)s)")
    rate.add_argument("--fall", type=number(0, 1), default=0.5, metavar="SHARE", help="wsd: of the run (%(default)s)")
    rate.add_argument("--floor", type=number(0, 1), default=0.0, metavar="SHARE", help="of the rate, at the end (%(default)s)")
    rate.add_argument("--optimizer", choices=["muon", "adamw"], default="muon", help="muon: for matrices, adamw for the rest")
    rate.add_argument("--muon-lr", type=number(0), default=0.015, metavar="R", help="(%(default)s)")
    rate.add_argument("--lr", type=number(0), default=0.003, metavar="R", help="of adamw (%(default)s)")
    rate.add_argument("--decay", type=number(0), default=0.02, metavar="D", help="weight decay of matrices (%(default)s)")
    rate.add_argument("--clip", type=number(above=0), default=1.0, metavar="C", help="largest norm of the gradient (%(default)s)")
    routers = out.add_argument_group("routers")
    routers.add_argument("--balance", type=number(0), default=0.01, metavar="W", help="weight of the balance loss (%(default)s)")
    routers.add_argument("--z-loss", type=number(0), default=0.0, metavar="W", help="weight of the mean of logsumexp² (%(default)s)")
    routers.add_argument("--select-bias-rate", type=number(0), default=0.0, metavar="R",
                         help="balancing without a loss: how far select_bias moves in a step")
    machine = out.add_argument_group("machine")
    machine.add_argument("--device", default=None, help="cpu, cuda (the default where there is one)")
    machine.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of linear maps, and of what muon multiplies (%(default)s)")
    machine.add_argument("--parallel", choices=["ddp", "fsdp"], default="ddp", help="of several processes (torchrun)")
    machine.add_argument("--checkpointing", action="store_true", help="keep no activations inside blocks; compute them again going back")
    machine.add_argument("--compile", action="store_true", help="torch.compile each block")
    machine.add_argument("--threads", type=count(), default=None, metavar="N")
    other = out.add_argument_group("other")
    other.add_argument("--init", metavar="FILE", help="begin with these weights (safetensors) instead of fresh ones")
    other.add_argument("--seed", type=count(0), default=0, help="of fresh weights")
    other.add_argument("--save-minutes", type=number(above=0), default=5, metavar="M", help="between saves (%(default)s)")
    other.add_argument("--save-steps", type=count(), default=float("inf"), metavar="N")
    other.add_argument("--report-steps", type=count(), default=20, metavar="N", help="between lines of progress and metrics (%(default)s)")
    return out


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    out = parser()
    options = out.parse_args(arguments)
    if min(options.tokens, options.steps, options.minutes) == float("inf"):
        out.error("one of --tokens, --steps and --minutes is needed")
    if options.schedule == "wsd" and options.warmup + options.fall > 1:
        out.error(f"--warmup {options.warmup:g} and --fall {options.fall:g} are more than the run")
    if options.parallel == "fsdp" and options.optimizer == "muon":
        out.error("--parallel fsdp needs --optimizer adamw: muon works on whole matrices")
    return options
