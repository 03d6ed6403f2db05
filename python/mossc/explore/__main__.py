"""The commands: python -m mossc.explore COMMAND --help."""
import argparse
import contextlib
import json
import pathlib
import sys
import warnings

from mossc.arguments import count, number
from mossc.errors import without
from mossc.explore.errors import ExploreError, NoStudy
from mossc.files import locked


def _study_options(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    parser.add_argument("--storage", required=needed, metavar="URL", help="sqlite:///FILE.db on one machine, postgresql://USER@HOST/DATABASE for many")
    parser.add_argument("--study", required=needed, metavar="NAME", help="name of the study in the storage")


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=count(), metavar="N", help="how many points are tried (default: every one that is kept)")
    parser.add_argument("--sampler", help="which of Optuna's chooses points, where not all are tried: tpe (the default), nsga2, nsga3, gp, qmc, random")
    parser.add_argument("--front", type=count(0), default=0, metavar="M", help="the first M are those of the modelled front and near it")
    parser.add_argument("--points", metavar="N", help="model only N points of the space, at random")
    parser.add_argument("--device", action="append", default=[], help="in place of the space's devices")
    parser.add_argument("--rounds", type=count(), metavar="R", help="of a measurement, the fastest of which counts (default: 5)")
    parser.add_argument("--heartbeat", type=count(), metavar="S", help="seconds between signs of life; after five without one a worker on another machine is gone (default: 60)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mossc.explore", description="Explores a space of specs with many processes on many machines (docs/explore.md).")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a study of a space")
    create.add_argument("space", metavar="SPACE", help="a space as `mossc explore` takes it")
    _study_options(create)
    _create_options(create)
    work = commands.add_parser("work", help="take trials, measure their points and report them, until all are done")
    _study_options(work)
    work.add_argument("--space", metavar="SPACE", help="make the study of this space first, unless it is there")
    _create_options(work)
    work.add_argument("--most", type=count(), metavar="N", help="end after N trials")
    work.add_argument("--seconds", type=number(0), metavar="S", help="begin no trial after S seconds")
    work.add_argument("--no-wait", action="store_true", help="end when no trial waits, although others are at work, who may die")
    retry = commands.add_parser("retry", help="queue failed trials again, and those of workers that are gone")
    _study_options(retry)
    retry.add_argument("--running", action="store_true", help="also those that workers are at: when you know that there are none")
    status = commands.add_parser("status", help="how many trials are done, and the best")
    _study_options(status)
    merge = commands.add_parser("merge", help="take what was measured into a study of `mossc explore`, with its report")
    merge.add_argument("parts", nargs="*", metavar="PART", help="directories of workers, or files of lines, beside or in place of the storage")
    _study_options(merge, needed=False)
    for command in (create, work, merge):
        command.add_argument("-o", "--output", type=pathlib.Path, metavar="DIR", required=command is merge, help="directory of files (default: the study's name)")
    for command in (create, work, retry, status, merge):
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _tell(options, out: dict) -> None:
    print(json.dumps(out) if options.json else ", ".join(f"{name} {value}" for name, value in out.items()))


def _show(options, queue, counts: dict) -> None:
    best = [{"trial": trial.number, "point": trial.user_attrs["index"], **dict(zip(queue.space.objectives, trial.values))}
            for trial in queue.study.best_trials] if counts["complete"] else []
    if options.json:
        print(json.dumps(counts | {"front": best}))
        return
    _tell(options, counts)
    for row in best:
        print(", ".join(f"{name} {value:g}" for name, value in row.items()))


def _run(options) -> None:
    from mossc.explore.collect import merge, states  # Optuna takes a second
    from mossc.explore.create import create
    from mossc.explore.propose import make_sampler
    from mossc.explore.queue import Queue
    from mossc.explore.store import Store
    from mossc.explore.work import work

    if options.command == "merge" and bool(options.storage) != bool(options.study):
        raise ExploreError("merge: --storage and --study go together")
    if options.command == "merge" and not options.storage and not options.parts:
        raise ExploreError("merge: give --storage and --study, or directories of workers")
    if getattr(options, "space", None) and not pathlib.Path(options.space).is_file():
        raise ExploreError(f"{options.space}: there is no such file")
    if getattr(options, "sampler", None):
        make_sampler(options.sampler, 0)  # an error before anything is made
    directory = getattr(options, "output", None) or pathlib.Path(options.study or ".")
    queue = None
    if options.command == "create" or (options.command == "work" and options.space):
        with locked(directory / ".create.lock"):  # of several workers the first makes it
            if options.command == "create" or not _is_there(options):
                queue = create(options.storage, options.study, options.space, directory, options)
    if queue is None:
        queue = Queue(Store(options.storage, options.study), options.study) if options.storage else None
    if options.command == "merge":
        _tell(options, merge(queue, [pathlib.Path(part) for part in options.parts], directory))
    elif options.command == "retry":
        failed, gone = queue.retry(options.running)
        _tell(options, {"failed": failed, "gone": gone})
    elif options.command == "work":
        _tell(options, {"done": work(queue, directory, options.most, options.seconds, not options.no_wait)})
    elif options.command == "create":
        _tell(options, states(queue))
    else:
        _show(options, queue, states(queue))


def _is_there(options) -> bool:
    from mossc.explore.queue import Queue
    from mossc.explore.store import Store

    try:
        Queue(Store(options.storage, options.study), options.study)
    except NoStudy:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _main(options)
    except KeyboardInterrupt:
        return 130


def _main(options) -> int:
    try:
        import optuna
    except ImportError as error:
        sys.exit(without("mossc.explore", "explore", error))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of heartbeats
    from mossc.explore.store import reaching
    from mossc.explore.work import Stopped

    try:
        with reaching(options.storage) if options.storage else contextlib.nullcontext():
            _run(options)
    except ExploreError as error:
        print(f"mossc.explore: {error}", file=sys.stderr)
        return 1
    except Stopped:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
