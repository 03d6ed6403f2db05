"""What the trials of a study say becomes files of `mossc explore`: measurements.jsonl, measured.csv, measured_front.csv and the report."""
import json
import pathlib
import tempfile

from optuna.trial import TrialState

from mossc.explore import bundle
from mossc.explore.errors import ExploreError
from mossc.explore.program import Program
from mossc.explore.queue import Queue


def _lines_of(part: pathlib.Path) -> list[pathlib.Path]:
    """Files of lines in a worker's directory, or in a study; a file is one itself."""
    if part.is_file():
        return [part]
    found = sorted((part / "lines").glob("*.jsonl"))
    if (part / "measurements.jsonl").exists():
        found.append(part / "measurements.jsonl")
    if not found:
        raise ExploreError(f"{part} has no lines of measurements")
    return found


def _prepare(queue: Queue | None, parts: list[pathlib.Path], directory: pathlib.Path) -> None:
    """The directory becomes a study with its tables."""
    if queue:
        bundle.unpack(queue.files, directory)
    elif not (directory / "summary.json").exists():
        whole = [part for part in parts if (part / "points.csv").exists()]
        if not whole:
            raise ExploreError(f"{directory} is no study of mossc explore, and no part has its tables: give --storage and --study")
        bundle.unpack(bundle.pack(whole[0]), directory)
    if not (directory / "points.csv").exists():
        raise ExploreError("the tables of the space are too large for the storage: give as -o the directory that `create` made")


def merge(queue: Queue | None, parts: list[pathlib.Path], directory: pathlib.Path) -> dict:
    """What was collected: {"measured", "failed"}, and with a study the numbers of its trials by state."""
    _prepare(queue, parts, directory)
    files = [path for part in parts for path in _lines_of(part)]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for trial in queue.trials(TrialState.COMPLETE, TrialState.FAIL) if queue else []:
            file.write(json.dumps(trial.user_attrs["line"]) + "\n")
        file.flush()
        counts = json.loads(Program().run("explore", "collect", directory, file.name, *files, "--json"))
    return counts | (states(queue) if queue else {})


def states(queue: Queue) -> dict:
    """Trials by state; those that were queued again after they failed count as the new one."""
    trials = queue.trials()
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    now = [trial for trial in trials if trial.number + 1 not in again]
    names = {"complete": TrialState.COMPLETE, "error": TrialState.FAIL, "running": TrialState.RUNNING, "waiting": TrialState.WAITING}
    return {"trials": queue.wanted()} | {name: sum(trial.state == state for trial in now) for name, state in names.items()}
