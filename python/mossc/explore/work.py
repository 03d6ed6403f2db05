"""A worker: takes a trial, evaluates its point, reports it; until all are done."""
import contextlib
import os
import pathlib
import platform
import signal
import sys
import threading
import time

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from mossc.explore import bundle
from mossc.explore.errors import ExploreError
from mossc.explore.judge import Judge
from mossc.explore.program import Program
from mossc.explore.propose import Proposer
from mossc.explore.queue import Queue
from mossc.explore.watch import Watch
from mossc.files import locked

PATIENCE = 300  # seconds without the database until a worker gives up
POLL = 1.0  # seconds between looks for trials that come back


class Stopped(BaseException):
    """SIGTERM or SIGINT: what this worker is at waits again."""


def machine() -> dict:
    """What must be equal for times to belong together."""
    names = [line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.split(":")[0].strip() in ("model name", "CPU part")]
    return {"machine": platform.machine(), "cpu": names[0] if names else platform.processor(), "cpus": len(os.sched_getaffinity(0))}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def heartbeat(queue: Queue, trial: FrozenTrial, interval: int):
    """Tells every `interval` seconds that this process lives."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval):
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError, StorageInternalError):
                queue.storage.record_heartbeat(trial._trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def patiently(what, *arguments):
    """Calls it again while the database cannot be reached."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return what(*arguments)
        except (sqlalchemy.exc.OperationalError, StorageInternalError) as error:
            if time.monotonic() > end:
                raise ExploreError(f"--storage: {error}") from None
            say(f"the storage does not answer, trying again: {str(error).splitlines()[0]}")
            time.sleep(2)


class Worker:
    def __init__(self, queue: Queue, directory: pathlib.Path):
        self.queue, self.interval = queue, queue.asked["heartbeat"]
        self.check_machine()
        with locked(directory / ".lock"):
            bundle.unpack(queue.files, directory)
        self.watch = Watch()
        program = Program(self.watch)
        self.judge = Judge(program, directory, queue.space, queue.asked["rounds"])
        self.propose = Proposer(program, directory, queue.space, queue.asked["sampler"])

    def check_machine(self) -> None:
        """Times of one study are of one kind of machine."""
        theirs, ours = self.queue.study.user_attrs["machine"], machine()
        if self.queue.space.timed and theirs != ours:
            said = [f"{m['cpu']} ({m['machine']}), {m['cpus']} CPUs" for m in (theirs, ours)]
            raise ExploreError(f"the study {self.queue.name} measures on {said[0]}, and this machine is {said[1]}: "
                               "its times would not belong together")

    def one(self) -> bool:
        """Works on a trial. False: there was none."""
        trial = patiently(self.queue.claim, self.propose)
        if trial is None:
            return False
        try:
            with heartbeat(self.queue, trial, self.interval):
                line, metrics, fidelity = self.judge.line(trial.user_attrs["index"], trial.user_attrs.get("line"))
            own = patiently(self.queue.finish, trial, line, metrics, fidelity)
        except Stopped:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.queue.give_back(trial)
            raise
        what = f"failed: {line['error']}" if "error" in line else ", ".join(f"{name} {metrics.get(name)}" for name in self.queue.space.objectives)
        say(f"trial {trial.number}, point {line['index']}: {what}{'' if own else ' (another worker has it by now)'}")
        return True

    def others_work(self) -> bool:
        return bool(self.queue.trials(TrialState.RUNNING, TrialState.WAITING))


def work(queue: Queue, directory: pathlib.Path, most: int | None, seconds: float | None, wait: bool) -> int:
    """Until all trials of the study are finished (wait: also those of others, which may die), `most` are done here, or `seconds` have
    passed. How many were done here."""
    def stop(_number, _frame):
        raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    worker = Worker(queue, directory)
    begin, done = time.monotonic(), 0
    try:
        while (most is None or done < most) and (seconds is None or time.monotonic() - begin < seconds):
            if worker.one():
                done += 1
            elif wait and patiently(worker.others_work):
                time.sleep(POLL)
            else:
                break
    finally:
        worker.watch.close()
    return done
