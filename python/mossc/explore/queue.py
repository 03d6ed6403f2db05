"""Who works on which trial. A trial is waiting, at work, finished or failed, and there are exactly as many as the study wants.

Every change of who has a trial happens within the store's lock, so that whatever is found half done was left by a process that was
killed: a trial at work without an owner waits again. So does one whose owner is gone: on this machine at once, elsewhere when its
heartbeat has been missing for five intervals. A trial is never made anew for that: none can be lost, and none is there twice."""
import os
import pathlib
import socket

import optuna
from optuna.trial import FrozenTrial, TrialState

from mossc.explore import bundle
from mossc.explore.errors import NoStudy
from mossc.explore.space import Space
from mossc.explore.store import Store

MOST_ATTEMPTS = 10  # of a trial whose workers die; then it fails


def _start_of(pid: int) -> str | None:
    """When a process of this machine began, in ticks; None: there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _place() -> str:
    """What must be equal for a PID to mean the same."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def owner_here() -> dict:
    """This process, as trials name who works on them."""
    return {"host": socket.gethostname(), "place": _place(), "pid": os.getpid(), "start": _start_of(os.getpid())}


def _is_gone(owner: dict) -> bool:
    """Whether a process of this machine has ended; False: not, or it is not of this machine."""
    return owner["place"] == _place() and _start_of(owner["pid"]) != owner["start"]


class Queue:
    """The trials of a study."""

    def __init__(self, store: Store, name: str):
        self.store, self.storage, self.name = store, store.storage, name
        try:
            self.study = optuna.load_study(study_name=name, storage=self.storage, sampler=optuna.samplers.RandomSampler())
        except KeyError:  # propose.py has the study's sampler
            raise NoStudy(f"the storage has no study {name}: `python -m mossc.explore create` makes one") from None
        attrs = self.study.user_attrs
        if "files" not in attrs:
            raise NoStudy(f"the study {name} is not one of mossc.explore, or was not made to its end: `create` it again")
        self.files, self.asked = attrs["files"], attrs["asked"]
        store.set_heartbeat(self.asked["heartbeat"])
        self.space = Space(bundle.summary(self.files))
        self.owner = owner_here()

    # ---- what there is

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def wanted(self) -> int:
        return self.study.user_attrs["trials"]

    # ---- within the lock

    def add(self, indices: list[int], **attrs) -> None:
        """New trials of these points, which wait."""
        for index in indices:
            self.study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, params=self.space.params(index),
                                                           distributions=self.space.distributions, user_attrs={"index": index, **attrs}))

    def _wait_again(self, trial: FrozenTrial) -> None:
        self.storage.set_trial_user_attr(trial._trial_id, "owner", None)
        self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def take_back(self, everything: bool = False) -> int:
        """Trials of workers that are gone wait again; `everything`: of all workers. How many there were."""
        running = self.trials(TrialState.RUNNING)
        stale = set(self.storage._get_stale_trial_ids(self.study._study_id)) if running else set()
        count = 0
        for trial in running:
            owner = trial.user_attrs.get("owner")
            if owner and not everything and trial._trial_id not in stale and not _is_gone(owner):
                continue
            count += 1
            if trial.user_attrs.get("attempts", 0) >= MOST_ATTEMPTS:
                self._fail(trial, {"index": trial.user_attrs["index"], "error": f"its worker died {MOST_ATTEMPTS} times"})
            else:
                self._wait_again(trial)
        return count

    def _fail(self, trial: FrozenTrial, line: dict) -> None:
        """line: of measurements.jsonl, with an error."""
        self.storage.set_trial_user_attr(trial._trial_id, "line", line)
        self.storage.set_trial_user_attr(trial._trial_id, "error", line["error"])
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _claim(self, trial: FrozenTrial) -> None:
        number = trial._trial_id
        self.storage.set_trial_state_values(number, TrialState.RUNNING)
        self.storage.record_heartbeat(number)
        self.storage.set_trial_user_attr(number, "attempts", trial.user_attrs.get("attempts", 0) + 1)
        self.storage.set_trial_user_attr(number, "owner", self.owner)

    # ---- what workers ask

    def claim(self, propose) -> FrozenTrial | None:
        """A trial for this process, which is its owner then; None: none waits and none is to be made. propose(trials) gives the index of a
        new point, or None where there is none left."""
        with self.store.lock():
            self.take_back()
            waiting = self.trials(TrialState.WAITING)
            if not waiting:
                index = self._next_point(propose)
                if index is None:
                    return None
                self.add([index])
                waiting = self.trials(TrialState.WAITING)
            trial = min(waiting, key=lambda one: one.number)
            self._claim(trial)
            return trial

    def _next_point(self, propose) -> int | None:
        trials = self.trials()
        first = sum(not trial.user_attrs.get("retry_of") for trial in trials)  # a retried trial is no further one
        if first >= self.wanted():
            return None
        index = propose(trials)  # the sampler learns from what a retry gave, too
        if index is None:  # the space has no more: that is all
            self.study.set_user_attr("trials", first)
        return index

    def is_mine(self, trial: FrozenTrial) -> bool:
        now = self.storage.get_trial(trial._trial_id)
        return now.state == TrialState.RUNNING and now.user_attrs.get("owner") == self.owner

    def give_back(self, trial: FrozenTrial) -> None:
        """It waits again, and this attempt does not count."""
        with self.store.lock():
            if self.is_mine(trial):
                self.storage.set_trial_user_attr(trial._trial_id, "attempts", trial.user_attrs.get("attempts", 0))
                self._wait_again(trial)

    def finish(self, trial: FrozenTrial, line: dict, metrics: dict, fidelity: str) -> bool:
        """Reports a line of measurements.jsonl with the point's metrics. False: the trial is another worker's by now, which reports it."""
        missing = [name for name in self.space.objectives if name not in metrics]
        if missing and not line.get("error"):
            line = line | {"error": f"{missing[0]} is not known of spec {line.get('spec_hash')}"}
        with self.store.lock():
            if not self.is_mine(trial):
                return False
            if "error" in line:
                self._fail(trial, line)
                return True
            number = trial._trial_id
            self.storage.set_trial_user_attr(number, "line", line)
            self.storage.set_trial_user_attr(number, "metrics", metrics)
            self.storage.set_trial_user_attr(number, "fidelity", fidelity)
            reported = optuna.trial.Trial(self.study, number)
            for name, value in self.space.constraints(metrics).items():
                if name not in reported.constraints:
                    reported.set_constraint(name, value)
            self.study.tell(trial.number, [metrics[name] for name in self.space.objectives])
            return True

    def retry(self, everything: bool) -> tuple[int, int]:
        """Failed trials are queued again, each once; those of workers that are gone wait again. How many of both."""
        with self.store.lock():
            back = self.take_back(everything)
            again = {trial.user_attrs.get("retry_of") for trial in self.trials()}
            failed = [trial for trial in self.trials(TrialState.FAIL) if trial.number + 1 not in again]
            for trial in failed:
                self.add([trial.user_attrs["index"]], retry_of=trial.number + 1)
            return len(failed), back
