"""python -m mossc.flexi: pruning, growing and recovering models whose blocks share weights."""
from __future__ import annotations

import argparse
import pathlib
import signal
import sys
import typing

from mossc.arguments import count, number
from mossc.errors import MosscError, said, without
from mossc.flexi import extend as extending
from mossc.flexi import prune as pruning

STATUS_ERROR, STATUS_INTERRUPTED, STATUS_TERMINATED = 1, 130, 143


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


class Progress:
    """A line on standard error, where somebody sees it."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._open = shown or sys.stderr.isatty(), ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._open not in ("", what):
            sys.stderr.write("\n")
        sys.stderr.write(f"\r{what}: {done} of {total}")
        self._open = "" if done >= total else what
        if not self._open:
            sys.stderr.write("\n")
        sys.stderr.flush()


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a spec, or a directory with spec.yaml and model.safetensors")
    parser.add_argument("-w", "--weights", metavar="FILE", action="append", default=[], help="safetensors of it; may be given several times")
    parser.add_argument("--text", metavar="FILE", type=pathlib.Path, required=True,
                        help="text to calibrate with; without --score its last fifth is kept apart and scored")
    parser.add_argument("--score", metavar="FILE", type=pathlib.Path, help="text whose bits per byte are reported")
    parser.add_argument("--text-bytes", metavar="N", type=count(1), default=65536, help="bytes of each text, at most (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path, required=True,
                        help="directory for spec.yaml, model.safetensors and report.json; it appears when it is complete")
    parser.add_argument("--threads", metavar="N", type=count(0), default=0, help="threads (default: as many as there are CPUs to use)")
    parser.add_argument("--progress", action="store_true", help="show progress also where standard error is no terminal")


def _numbers(report: dict) -> None:
    """What came out, as a table."""
    rows = {when: bits for when, bits in report["bits_per_byte"].items() if when != "after"}
    width = max(map(len, rows))
    print(f"{'':{width}} {'bits per byte':>13} {'prompt tok/s':>13} {'tok/s':>8}")
    for when, bits in rows.items():
        speed = report["speed"][when]
        print(f"{when:{width}} {bits:13.4f} {speed['prompt_tokens_per_second']:13.0f} {speed['tokens_per_second']:8.1f}")
    for what in ("parameters", "bytes"):
        before, after = report[what]["before"], report[what]["after"]
        print(f"{what}: {before} before, {after} after ({100 * after / before:.1f} %)")


def _prune(a: argparse.Namespace, progress: Progress) -> None:
    report = pruning.prune(pruning.Prune(a.spec, a.weights, a.text, a.output, a.rate, a.rank, a.drop, a.targets, a.own, a.out_norm,
                                         a.text_bytes, a.score, a.threads, progress))
    for i, block in enumerate(report["pruned"]):
        by, far = report["replaced_by"][i], report["distance"][i]
        what = "dropped" if by is None else f"shares block {by}, distance {far:.6g}"
        print(f"block {block}: influence {report['block_influence'][block]:.4f}, {what}")
    _numbers(report)
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)


def _add_prune(commands: typing.Any) -> None:
    p = commands.add_parser("prune", help="replace the least important blocks by others, with adapters", description=(
        "Measures each block's influence on a text, and replaces those of least by a share of the nearest block that stays (docs/flexi.md)."))
    _common(p)
    p.add_argument("--rate", metavar="R", type=number(above=0, below=1), required=True, help="the share of the blocks that go, as in 0.3; one of every kind stays")
    p.add_argument("--rank", metavar="N", type=count(0), default=16, help="of the adapters (default: %(default)s; 0: none)")
    p.add_argument("--drop", action="store_true", help="drop them, without replacement")
    p.add_argument("--targets", metavar="MAPS", type=_words, default=("smaller",),
                   help="maps that get adapters, as in in_proj,out_proj; all; or smaller: those that have more numbers than an adapter (the default)")
    p.add_argument("--own", metavar="WORDS", type=_words, default=pruning.ALL,
                   help="small tensors that a replaced block keeps: words of share.own (default: all that fit)")
    p.add_argument("--out-norm", choices=("rms", "none"), default="rms",
                   help="whether what a share computes is normed to the mean square of the block that was there (default: %(default)s)")
    p.set_defaults(run=_prune)


def _blocks(text: str) -> list[int]:
    """"2,4-6": 2, 4, 5 and 6."""
    out = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"'{text}': expected blocks by number, as in 2,4-6")
        out += range(int(first), int(last if dash else first) + 1)
    return out


def _extend(a: argparse.Namespace, progress: Progress) -> None:
    report = extending.extend(extending.Extend(a.spec, a.weights, a.text, a.output, a.blocks, a.times, a.rank, a.start, a.targets, a.seed,
                                               a.text_bytes, a.score, a.threads, progress))
    print("stack: " + " ".join(f"{s['block']}" + "'" * s["repetition"] for s in report["stack"]))
    _numbers(report)


def _add_extend(commands: typing.Any) -> None:
    p = commands.add_parser("extend", help="repeat chosen blocks, with fresh adapters", description=(
        "Makes a deeper model: chosen blocks are gone through again as shares, which begin with almost no effect (docs/flexi.md)."))
    _common(p)
    p.add_argument("--blocks", metavar="LIST", type=_blocks, required=True, help="blocks by number from 0, as in 2,4-6; a run of neighbours is repeated as one")
    p.add_argument("--times", metavar="N", type=count(1), default=1, help="how often they are repeated (default: %(default)s)")
    p.add_argument("--rank", metavar="N", type=count(0), default=16, help="of the adapters (default: %(default)s; 0: none)")
    p.add_argument("--start", metavar="S", type=number(0), default=0.01,
                   help="how much a repetition adds at first, in shares of what its block adds (default: %(default)s)")
    p.add_argument("--targets", metavar="MAPS", type=_words, default=("smaller",), help="maps that get adapters, as in prune")
    p.add_argument("--seed", metavar="N", type=count(0), default=0, help="of the adapters (default: %(default)s)")
    p.set_defaults(run=_extend)


def _recover(a: argparse.Namespace, progress: Progress) -> None:
    try:
        from mossc.flexi import recover as recovering
    except ImportError as error:
        raise MosscError("bad_input", without("recover", "torch", error)) from None
    report = recovering.recover(recovering.Recover(a.spec, a.weights, a.text, a.output, a.teacher, a.teacher_weights, a.train, a.steps, a.batch,
                                                   a.length, a.lr, a.teacher_share, a.seed, a.text_bytes, a.score, a.threads, progress))
    done = report["recovery"]
    print(f"{done['trained_parameters']} parameters trained with {done['tokens']} tokens in {done['seconds']:.0f} s: "
          f"text loss {done['first_text_loss']:.4f} to {done['last_text_loss']:.4f}")
    _numbers(report)


def _add_recover(commands: typing.Any) -> None:
    p = commands.add_parser("recover", help="train back what pruning lost", description=(
        "Trains adapters and norms, or all, of a model that prune or extend made, with what the unpruned model says of the text "
        "(docs/flexi.md). Needs PyTorch."))
    _common(p)
    p.set_defaults(text_bytes=1 << 20)
    p.add_argument("--teacher", metavar="SPEC", help="the unpruned model: a spec, or a directory (default: the text alone teaches)")
    p.add_argument("--teacher-weights", metavar="FILE", action="append", default=[], help="its weights, where --teacher is no directory")
    p.add_argument("--train", choices=("adapters", "all"), default="adapters", help="what is trained: adapters and norms (the default), or all")
    p.add_argument("--steps", metavar="N", type=count(1), default=200, help="of training (default: %(default)s)")
    p.add_argument("--batch", metavar="N", type=count(1), default=8, help="sequences of a step (default: %(default)s)")
    p.add_argument("--length", metavar="N", type=count(1), default=256, help="tokens of a sequence (default: %(default)s)")
    p.add_argument("--lr", metavar="R", type=number(above=0), default=1e-3, help="learning rate (default: %(default)s)")
    p.add_argument("--teacher-share", metavar="S", type=number(0, 1), default=0.9, help="of the loss; the rest is the text's (default: %(default)s)")
    p.add_argument("--seed", metavar="N", type=count(0), default=0, help="of what is drawn (default: %(default)s)")
    p.set_defaults(run=_recover)


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m mossc.flexi", description="Blocks of a model that share weights: pruning, growing, recovering.")
    commands = out.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_prune(commands)
    _add_extend(commands)
    _add_recover(commands)
    return out


def _terminated(*_: object) -> typing.NoReturn:
    sys.exit(STATUS_TERMINATED)


def main(arguments: typing.Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        options.run(options, Progress(options.progress))
    except (MosscError, OSError) as error:  # OSError: a full disk, a file that is gone
        print(f"error: {said(error)}", file=sys.stderr)
        return STATUS_ERROR
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
