"""A space becomes a study of Optuna: modelled by `mossc explore`, its files put into the storage, its first trials queued."""
import csv
import json
import pathlib
import tempfile

import optuna

from mossc.explore import bundle
from mossc.explore.errors import ExploreError, NoStudy
from mossc.explore.program import Program
from mossc.explore.queue import Queue
from mossc.explore.space import Space
from mossc.explore.store import Store
from mossc.explore.work import machine

DEFAULTS = {"sampler": "tpe", "rounds": 5, "heartbeat": 60}  # heartbeat: seconds
ATTRIBUTES = {"machine", "asked", "trials", "files"}  # of a study of mossc.explore
MOST_TRIALS = 10_000  # Optuna slows down beyond


def _kept(directory: pathlib.Path, device: str) -> list[int]:
    with open(directory / "points.csv", newline="") as file:
        return [int(row["index"]) for row in csv.DictReader(file) if row["device"] == device]


def _is_ours(study: optuna.Study, space: Space) -> bool:
    """Whether a study is one of mossc.explore, also one that was not made to its end: that has no trials yet."""
    directions = [direction.name.lower() for direction in study.directions]
    return "files" in study.user_attrs or (directions == space.directions and study.user_attrs.keys() <= ATTRIBUTES and not study.get_trials(deepcopy=False))


def _study(store: Store, name: str, space: Space) -> optuna.Study:
    try:
        study = optuna.load_study(study_name=name, storage=store.storage)
    except KeyError:
        study = optuna.create_study(study_name=name, storage=store.storage, directions=space.directions)
    if not _is_ours(study, space):
        raise ExploreError(f"the storage has a study {name} that mossc.explore did not make: give another --study")
    if "files" in study.user_attrs:
        return study  # it has its names, and may be of another space
    study.set_metric_names([goal if direction == "minimize" else f"-{goal}" for goal, direction in zip(space.objectives, space.directions)])
    return study


def _first_points(program: Program, directory: pathlib.Path, space: Space, wanted: int | None, front: int) -> tuple[int, list[int]]:
    """How many trials the study has, and the points that are queued first."""
    kept = _kept(directory, space.device)
    if wanted is None or wanted >= len(kept) and json.loads((directory / "summary.json").read_text())["method"] == "all":
        wanted, queued = len(kept), kept
    else:
        candidates = program.points(directory, "--candidates", min(front, wanted)) if front else []
        queued = [about["index"] for about in candidates]
    if wanted > MOST_TRIALS:
        raise ExploreError(f"{wanted} trials: a study of Optuna has at most {MOST_TRIALS}; give --trials N, or use mossc explore --shard")
    return wanted, queued


def _ask(there: dict, options) -> dict:
    """What a study is asked for, as its attribute; what was not given stays. ExploreError: workers have begun with something else."""
    given = {name: getattr(options, name) for name in DEFAULTS if getattr(options, name) is not None}
    for name in ("rounds", "heartbeat"):
        if there and given.get(name, there[name]) != there[name]:
            raise ExploreError(f"the study has --{name} {there[name]}, not {given[name]}: leave --{name} out, or give another --study")
    return DEFAULTS | there | given


def _check_same(storage: str, name: str, space_path: str, more: list[str], program: Program) -> None:
    """ExploreError: the storage has this study with another space or other devices. A point is modelled apart for it, so that nothing of the
    user's directory changes where it is refused."""
    try:
        there = Queue(Store(storage, name), name).files
    except NoStudy:
        return
    with tempfile.TemporaryDirectory() as apart:
        program.run("explore", space_path, "-o", pathlib.Path(apart) / "study", "--json", *more, "--points", 1)
        bundle.check_same(name, there, bundle.pack(pathlib.Path(apart) / "study"))


def create(storage: str, name: str, space_path: str, directory: pathlib.Path, options) -> Queue:
    """Makes the study, or goes on with one that was not made to its end; with a larger --trials it grows."""
    program = Program()
    more = [argument for device in options.device for argument in ("--device", device)]
    _check_same(storage, name, space_path, more, program)
    more += ["--points", options.points] if options.points else []
    program.run("explore", space_path, "-o", directory, "--json", *more)
    space = Space(json.loads((directory / "summary.json").read_text()))
    wanted, queued = _first_points(program, directory, space, options.trials, options.front)
    store = Store(storage, name, make=True)
    files = bundle.pack(directory)
    with store.lock():
        study = _study(store, name, space)
        there = study.user_attrs.get("files")
        if there:
            bundle.check_same(name, there, files)
        asked = _ask(study.user_attrs["asked"] if there else {}, options)
        study.set_user_attr("machine", study.user_attrs.get("machine") or machine())
        study.set_user_attr("asked", asked)
        study.set_user_attr("trials", max(wanted, study.user_attrs.get("trials", 0)))
        if not there or there.get("quality.csv") != files.get("quality.csv"):
            study.set_user_attr("files", bundle.renewed(there, files))  # last: a study with it is whole but for its queue
    queue = Queue(store, name)
    with store.lock():
        taken = {trial.user_attrs["index"] for trial in queue.trials()}
        queue.add([index for index in queued if index not in taken])
    return queue
