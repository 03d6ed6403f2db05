"""A space becomes a study of Optuna: modelled by `mossc explore`, its files put into the storage, its first trials queued."""
import csv
import json
import pathlib

import optuna

from mossc.explore import bundle
from mossc.explore.errors import ExploreError
from mossc.explore.program import Program
from mossc.explore.queue import Queue
from mossc.explore.space import Space
from mossc.explore.store import HEARTBEAT, Store
from mossc.explore.work import machine

DEFAULTS = {"sampler": "tpe", "rounds": 5, "heartbeat": HEARTBEAT}
MOST_TRIALS = 10_000  # Optuna slows down beyond


def _kept(directory: pathlib.Path, device: str) -> list[int]:
    with open(directory / "points.csv", newline="") as file:
        return [int(row["index"]) for row in csv.DictReader(file) if row["device"] == device]


def _devices(files: dict[str, str]) -> list[str]:
    return sorted(device["name"] for device in bundle.summary(files)["devices"])


def _refuse_another(name: str, there: dict[str, str], files: dict[str, str], asked: dict, options) -> None:
    """ExploreError: the study that is there cannot go on as this one."""
    if any(there[part] != files[part] for part in ("space.yaml", "spec.yaml")):
        raise ExploreError(f"the storage has a study {name} of another space: give another --study")
    if _devices(there) != _devices(files):
        raise ExploreError(f"the study {name} is of {', '.join(_devices(there))}: give the same --device, or another --study")
    if options.rounds not in (None, asked["rounds"]):
        raise ExploreError(f"the study {name} measures {asked['rounds']} rounds: give the same --rounds, or another --study")


def _study(store: Store, name: str, space: Space) -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=store.storage, directions=space.directions, load_if_exists=True)
    ours = "files" in study.user_attrs or not study.get_trials(deepcopy=False)
    if not ours or [direction.name.lower() for direction in study.directions] != space.directions:
        raise ExploreError(f"the storage has a study {name} of another space, or of other programs: give another --study")
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


def create(storage: str, name: str, space_path: str, directory: pathlib.Path, options) -> Queue:
    """Makes the study, or goes on with one that was not made to its end; with a larger --trials it grows."""
    program = Program()
    more = [argument for device in options.device for argument in ("--device", device)]
    more += ["--points", options.points] if options.points else []
    program.run("explore", space_path, "-o", directory, "--json", *more)
    space = Space(json.loads((directory / "summary.json").read_text()))
    wanted, queued = _first_points(program, directory, space, options.trials, options.front)
    store = Store(storage, name, make=True)
    files = bundle.pack(directory)
    with store.lock():
        study = _study(store, name, space)
        there, asked = study.user_attrs.get("files"), study.user_attrs.get("asked", DEFAULTS)
        if there:
            _refuse_another(name, there, files, asked, options)
        study.set_user_attr("machine", study.user_attrs.get("machine") or machine())
        study.set_user_attr("asked", {what: value if (given := getattr(options, what)) is None else given for what, value in asked.items()})
        study.set_user_attr("trials", max(wanted, study.user_attrs.get("trials", 0)))
        if there:
            files = there | {part: files[part] for part in bundle.REPLACED if part in files}
        if there != files:
            study.set_user_attr("files", files)  # last: a study with it is whole but for its queue
    queue = Queue(store, name)
    with store.lock():
        taken = {trial.user_attrs["index"] for trial in queue.trials()}
        queue.add([index for index in queued if index not in taken])
    return queue
