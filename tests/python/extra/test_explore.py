"""python -m mossc.explore: many workers, killed at any moment; every trial once, none lost.

    python tests/python/extra/test_explore.py --mossc build/release/mossc [--seconds S] [--workers N] [NAME...]

--seconds: how long workers on PostgreSQL are killed at random (default 8; 600 in `./dev test python --all`).
"""
import contextlib
import csv
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Skipped, run_tests  # noqa: E402

try:
    import optuna
    import sqlalchemy
    from optuna.trial import TrialState
except ImportError:
    optuna = None
else:
    import forked
    import postgres
    import slurm
    from mossc.explore.queue import Queue
    from mossc.explore.store import Store

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    EXPLORE = forked.Server("loaded_explore")

OPTIONS = {"seconds": 8, "workers": 8}

BASE = """\
mossc: 1
name: base
vocab_size: 64
d_model: 64
stack:
  - repeat: 3
    blocks: [{ssm: {d_state: 4}}, {mlp: {d_ff: 32, experts: {count: 2}}}]
"""
# The command's number follows from the spec alone, and it notes that it ran. PAUSE: how long it takes.
COMMAND = """sh -c 'sleep ${PAUSE:-0}; echo {spec} >> $RUNS; sha256sum {spec} | tr -dc 1-9 | cut -c 1-6'"""
SPACE = """\
mossc_space: 1
name: killed
spec: base.yaml
axes:
  - {name: depth, path: "stack[0].repeat", values: [1, 2, 3, 4]}
  - {name: d, path: d_model, from: 16, to: 64, step: 16}
  - {name: experts, path: "stack[0].blocks[1].mlp.experts", values: [none, 2, 4], set: {count: $}}
  - {name: k, path: defaults.router.top_k, values: [1, 2], when: experts != none}
  - {name: ff, path: "stack[0].blocks[1].mlp.d_ff", from: 8, to: FF, step: 8}
devices: [raspberry-pi-5]
workload: {prefill: 16, decode: 8, threads: 1}
budgets: {parameters: 100k}
objectives: [quality, active_parameters]
quality: {command: "COMMAND"}
"""
HOST = """\
name: host
about: for a test
target: host
source: made up
rates: {threads: 1, read_gb_s: 10, panel_gflop_s: 50, exp_g_s: 2}
"""


class Explore:
    """Commands of mossc.explore in the directory of a test."""

    def __init__(self, m, storage=None, space=None, command=COMMAND):
        if optuna is None:
            raise Skipped("there is no Optuna here")
        self.m, self.storage, self.workers = m, storage or f"sqlite:///{m.directory}/study.db", []
        m.file("base.yaml", BASE)
        m.file("host.yaml", HOST)
        m.file("space.yaml", (space or SPACE.replace("FF", "16")).replace("COMMAND", command))
        self.runs = m.directory / "runs"

    def environment(self, **more):
        return {**self.m.environment(), "PYTHONPATH": os.environ["PYTHONPATH"], "RUNS": str(self.runs), "OMP_NUM_THREADS": "1", "MOSSC_PROGRAM": str(self.m.program),
                "MOSSC_LOCK_DIR": str(self.m.directory), **more}

    def arguments(self, name, *arguments, study="s"):
        return [name, *map(str, arguments), "--storage", self.storage, "--study", study]

    def command(self, name, *arguments, study="s"):
        return [sys.executable, "-m", "mossc.explore", *self.arguments(name, *arguments, study=study)]

    def run(self, name, *arguments, status=0, study="s", **more):
        ended, out, said = EXPLORE.run(self.arguments(name, *arguments, study=study), self.m.directory, self.environment(**more), 900)
        assert ended == status, (name, ended, out[-1000:], said[-3000:])
        return out if status == 0 else said

    def json(self, name, *arguments, **more):
        return json.loads(self.run(name, *arguments, "--json", **more))

    def start(self, *arguments, study="s", **more):
        with open(self.m.directory / "workers.log", "a") as log:
            process = EXPLORE.start(self.arguments("work", *arguments, study=study), self.m.directory, self.environment(**more), log, log)
        self.workers.append(process)
        return process

    def study(self, name="s"):
        url = self.storage.replace("postgresql:", "postgresql+psycopg:")
        # No connection stays open: each call makes a storage of its own.
        return optuna.load_study(study_name=name, storage=optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": sqlalchemy.NullPool}))

    def beat(self, trial, when):
        """As if its worker's last sign of life had been then."""
        with contextlib.closing(sqlite3.connect(self.m.directory / "study.db")) as database, database:
            database.execute("DELETE FROM trial_heartbeats WHERE trial_id = ?", (trial._trial_id,))
            database.execute("INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, datetime(?, 'unixepoch'))", (trial._trial_id, int(when)))

    def end(self):
        for process in self.workers:
            process.kill()
            process.wait()

    def log(self):
        return (self.m.directory / "workers.log").read_text()[-3000:]


@contextlib.contextmanager
def exploring(m, *arguments, **options):
    explore = Explore(m, *arguments, **options)
    try:
        yield explore
    finally:
        explore.end()


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def until(what, seconds=200, shown=lambda: ""):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, ("in vain for", seconds, shown())
        time.sleep(0.05)


def check_whole(explore, kept, study="s", lines=True):
    """Every point that is kept is the point of exactly one trial, which is complete."""
    trials = explore.study(study).get_trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}, ([trial for trial in trials if trial.state != TrialState.COMPLETE][:3], explore.log())
    assert sorted(trial.user_attrs["index"] for trial in trials) == sorted(kept)
    assert [trial.number for trial in trials] == list(range(len(kept)))
    assert all(trial.user_attrs["line"]["quality"] == trial.values[0] for trial in trials)


def front_of(study):
    return sorted((trial.user_attrs["index"], *trial.values) for trial in study.best_trials)


def kill_at_random(explore, n, seconds, pause, seed, *arguments):
    """n workers, of whom one is killed every now and then and another one started, for so long; then how often. pause: of a trial."""
    draw, kills = random.Random(seed), 0
    running = [explore.start(*arguments, PAUSE=pause) for _ in range(n)]
    until(lambda: len(list((explore.m.directory / "out/lines").glob("*"))) >= n // 2, 120, explore.log)  # Python has begun
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        time.sleep(draw.uniform(0.2, seconds ** 0.5 / 3))
        victim = draw.randrange(n)
        kills += running[victim].poll() is None
        running[victim].kill()
        running[victim].wait()
        running[victim] = explore.start(*arguments, PAUSE=pause)
    return running, kills


def test_workers_on_postgresql_are_killed_at_random(m):
    if optuna is None:
        raise Skipped("there is no Optuna here")
    seconds, n = OPTIONS["seconds"], OPTIONS["workers"]
    space = SPACE.replace("FF", str(8 * max(1, seconds // 150)))  # about 70 points for each 8
    if seconds < 150:
        space = space.replace("[1, 2, 3, 4]", "[1, 2]")
    with postgres.cluster() as url, exploring(m, url, space) as explore:
        asked = explore.json("create", "space.yaml", "-o", "out")
        kept = [int(row["index"]) for row in rows_of(m.directory / "out" / "points.csv")]
        assert asked["waiting"] == asked["trials"] == len(kept) > 30
        running, kills = kill_at_random(explore, n, seconds, f"{seconds * n / len(kept) / 2:.2f}", 3, "-o", "out")
        before = sum(trial.state == TrialState.COMPLETE for trial in explore.study().get_trials())
        for process in running:
            assert process.wait(timeout=900) == 0, explore.log()
        check_whole(explore, kept)
        assert explore.json("merge", "-o", "out") == {"measured": len(kept), "failed": 0, "trials": len(kept), "complete": len(kept), "error": 0, "running": 0, "waiting": 0}
        attempts = sum(trial.user_attrs["attempts"] for trial in explore.study().get_trials())
        # One worker by itself, with nothing of the others' but the space.
        explore.json("create", "space.yaml", "-o", "alone", study="alone")
        explore.run("work", "-o", "alone", study="alone")
        check_whole(explore, kept, "alone")
        assert front_of(explore.study()) == front_of(explore.study("alone")) != []
        rows = {int(row["index"]) for row in rows_of(m.directory / "out" / "measured_front.csv")}
        assert rows == {index for index, *_ in front_of(explore.study())}
        print(f"{len(kept)} trials, {n} workers, {kills} killed in {seconds} s, {before} trials complete then, {attempts - len(kept)} begun again")


def test_all_workers_are_killed_and_one_goes_on(m):
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--front", 4, "--trials", 12)
        workers = [explore.start("-o", "out", PAUSE="100") for _ in range(3)]
        until(lambda: sum(trial.state == TrialState.RUNNING for trial in explore.study().get_trials()) == 3, shown=explore.log)
        until(lambda: subprocess.run(["pgrep", "-f", "sleep 100"], capture_output=True).stdout.count(b"\n") >= 3)
        for process in workers:
            process.kill()
            process.wait()
        count = len(explore.study().get_trials())
        assert explore.json("status")["running"] == 3 and count <= 5
        explore.run("work", "-o", "out")
        trials = explore.study().get_trials()
        assert len(trials) == 12 and {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert len({trial.user_attrs["index"] for trial in trials}) == 12, "a point of its own each"
        assert sorted(trial.user_attrs["attempts"] for trial in trials)[-3:] == [2, 2, 2]


def test_nothing_that_a_killed_worker_began_goes_on(m):
    with exploring(m, command="sh -c 'echo $$ > $RUNS; sleep 1000; echo 1'") as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 5)
        worker = explore.start("-o", "out")
        until(explore.runs.exists, shown=explore.log)
        until(lambda: explore.runs.read_text().strip())
        pid = int(explore.runs.read_text())
        worker.kill()
        worker.wait()
        until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), 100)


def test_a_worker_that_is_told_to_stop_gives_its_trial_back(m):
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 5)
        worker = explore.start("-o", "out", PAUSE="100")
        until(lambda: [trial for trial in explore.study().get_trials() if trial.state == TrialState.RUNNING and trial.user_attrs.get("owner")], shown=explore.log)
        time.sleep(0.5)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=200) == 130
        (trial,) = [trial for trial in explore.study().get_trials() if "owner" in trial.user_attrs]
        assert trial.state == TrialState.WAITING and trial.user_attrs["owner"] is None and trial.user_attrs["attempts"] == 0


def test_a_worker_of_another_machine_is_known_by_its_heartbeat(m):
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 3, "--heartbeat", 1)
        worker = explore.start("-o", "out", PAUSE="100")

        def running():
            return [trial for trial in explore.study().get_trials() if trial.state == TrialState.RUNNING and trial.user_attrs.get("owner")]

        until(running, shown=explore.log)
        (trial,) = running()
        storage = explore.study()._storage
        other = {**trial.user_attrs["owner"], "place": "elsewhere"}  # its PID says nothing here
        storage.set_trial_user_attr(trial._trial_id, "owner", other)
        assert explore.json("retry") == {"failed": 0, "gone": 0}, "it lives"
        worker.kill()
        worker.wait()
        assert explore.json("retry") == {"failed": 0, "gone": 0}, "its heartbeat is young"
        time.sleep(6.5)
        assert explore.json("retry") == {"failed": 0, "gone": 1}
        explore.run("work", "-o", "out")
        assert explore.json("status")["complete"] == 3


def test_samplers_make_as_many_trials_as_asked(m):
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 16, "--sampler", "nsga2")
        for process in [explore.start("-o", "out") for _ in range(4)]:
            assert process.wait(timeout=300) == 0, (process.returncode, explore.log())
        trials = explore.study().get_trials()
        assert len(trials) == 16 == len({trial.user_attrs["index"] for trial in trials}), [trial.user_attrs["index"] for trial in trials]
        kept = {int(row["index"]) for row in rows_of(m.directory / "out" / "points.csv")}
        assert {trial.user_attrs["index"] for trial in trials} <= kept, "points within the budget on parameters"
        assert all(trial.constraints["parameters <= 100000"] <= 0 for trial in trials)
        assert explore.json("create", "space.yaml", "-o", "out", "--trials", 20)["trials"] == 20
        explore.run("work", "-o", "out", "--most", 1)
        explore.run("work", "-o", "out")
        assert len(explore.study().get_trials()) == 20


def test_workers_that_start_together_make_one_study(m):
    with exploring(m) as explore:
        workers = [explore.start("--space", "space.yaml", "-o", "out", "--trials", 8) for _ in range(4)]
        for process in workers:
            assert process.wait(timeout=300) == 0, (process.returncode, explore.log())
        assert explore.json("status")["complete"] == 8 == len(explore.study().get_trials())


def test_quality_is_asked_once_for_a_spec(m):
    # Axes with names of their own and no effect: pairs of points have one spec.
    space = SPACE.replace("FF", "8").replace("[1, 2, 3, 4]", "[1, 2]").replace("devices:", "  - {name: twice, path: x-twice, values: [1, 2]}\ndevices:")
    with exploring(m, space=space) as explore:
        asked = explore.json("create", "space.yaml", "-o", "out")
        for process in [explore.start("-o", "out") for _ in range(2)]:
            assert process.wait(timeout=300) == 0, (process.returncode, explore.log())
        rows = rows_of(m.directory / "out" / "points.csv")
        assert asked["trials"] == len(rows) == 2 * len({row["spec_hash"] for row in rows})
        assert len(explore.runs.read_text().splitlines()) == len(rows) // 2
        assert explore.json("merge", "-o", "out")["measured"] == len(rows)


def test_quality_comes_from_a_file(m):
    with exploring(m, space=SPACE.replace("FF", "8").replace("[1, 2, 3, 4]", "[1, 2]")) as explore:
        m.run("explore", "space.yaml", "-o", "first")
        rows = rows_of(m.directory / "first" / "points.csv")
        m.file("quality.csv", "spec_hash,quality\n" + "".join(f"{row['spec_hash']},{number}\n" for number, row in enumerate(rows[1:])))
        text = (m.directory / "space.yaml").read_text()
        m.file("space.yaml", text[: text.index("quality: {")] + "quality: {file: quality.csv}\n")
        explore.json("create", "space.yaml", "-o", "out")
        explore.run("work", "-o", "elsewhere")
        trials = {trial.user_attrs["index"]: trial for trial in explore.study().get_trials()}
        assert {int(row["index"]): trials[int(row["index"])].values[0] for row in rows[1:]} == {int(row["index"]): number for number, row in enumerate(rows[1:])}
        missing = trials[int(rows[0]["index"])]
        assert missing.state == TrialState.FAIL and missing.user_attrs["error"] == f"quality is not known of spec {rows[0]['spec_hash']}"


def test_the_study_says_how_long_a_heartbeat_may_be_missing(m):
    with exploring(m, space=from_file()) as explore:
        m.file("quality.csv", "spec_hash,quality\n")
        explore.json("create", "space.yaml", "-o", "out", "--heartbeat", 100)
        study, now = explore.study(), time.time()
        storage, (trial, *_) = study._storage, study.get_trials()
        storage.set_trial_user_attr(trial._trial_id, "owner", {"host": "x", "place": "elsewhere", "pid": 1, "start": "1"})
        storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        explore.beat(trial, now - 400)
        assert explore.json("retry")["gone"] == 0, "less than five intervals of the study"
        assert "unrecognized arguments: --heartbeat" in explore.run("retry", "--heartbeat", 1, status=2)
        assert "the study has --heartbeat 100, not 1" in explore.run("create", "space.yaml", "-o", "out", "--heartbeat", 1, status=1)
        explore.json("create", "space.yaml", "-o", "out")
        assert explore.study().user_attrs["asked"]["heartbeat"] == 100
        explore.beat(trial, now - 600)
        assert explore.json("retry")["gone"] == 1


def from_file():
    """A space whose qualities are in quality.csv."""
    space = SPACE.replace("FF", "8").replace("[1, 2, 3, 4]", "[1, 2]")
    return space[: space.index("quality: {")] + "quality: {file: quality.csv}\n"


def test_rows_that_were_missing_reach_a_study(m):
    with exploring(m, space=from_file()) as explore:
        m.file("quality.csv", "spec_hash,quality\n")
        explore.json("create", "space.yaml", "-o", "out", "--trials", 100)
        explore.run("work", "-o", "elsewhere", "--most", 2)
        assert explore.json("status")["error"] == 2
        rows = rows_of(m.directory / "out" / "points.csv")
        m.file("quality.csv", "spec_hash,quality\n" + "".join(f"{row['spec_hash']},{number}\n" for number, row in enumerate(rows)))
        explore.json("create", "space.yaml", "-o", "out")
        assert explore.json("retry")["failed"] == 2
        explore.run("work", "-o", "elsewhere")
        counts = explore.json("merge", "-o", "elsewhere")
        assert counts["complete"] == counts["trials"] == len(rows) and counts["error"] == 0, counts
        (m.directory / "elsewhere" / "quality.csv").write_text("spec_hash,quality\n")
        explore.run("merge", "-o", "elsewhere")
        assert (m.directory / "elsewhere" / "quality.csv").read_bytes() == (m.directory / "quality.csv").read_bytes()


def test_a_study_keeps_its_devices_and_rounds(m):
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 2, "--rounds", 3)
        before = (m.directory / "out" / "summary.json").read_bytes()
        text = explore.run("create", "space.yaml", "-o", "out", "--device", "host.yaml", status=1)
        assert "other devices (host, raspberry-pi-5)" in text and "another --study" in text, text
        assert (m.directory / "out" / "summary.json").read_bytes() == before
        assert "the study has --rounds 3, not 4" in explore.run("create", "space.yaml", "-o", "out", "--rounds", 4, status=1)


def test_what_a_retry_gave_reaches_the_sampler(m):
    if optuna is None:
        raise Skipped("there is no Optuna here")
    with exploring(m, command="sh -c 'test -e $RUNS || exit 7; echo 5'") as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 2)
        explore.run("work", "-o", "out")
        explore.runs.touch()
        explore.json("retry")
        explore.run("work", "-o", "out")
        explore.json("create", "space.yaml", "-o", "out", "--trials", 3)
        seen = []
        queue = Queue(Store(explore.storage, "s"), "s")
        queue.claim(lambda trials: seen.extend(trial.state for trial in trials))
        assert seen.count(TrialState.COMPLETE) == 2, seen


def ended_without_traceback(explore, *words, status=1, name="status", more=(), **environment):
    done = subprocess.run(explore.command(name, *more), cwd=explore.m.directory, env={**explore.environment(), **environment}, capture_output=True, text=True)
    assert done.returncode == status and "Traceback" not in done.stderr and all(word in done.stderr for word in words), (done.returncode, done.stderr[-2000:])


def test_a_storage_that_cannot_be_used_is_told(m):
    with exploring(m) as explore:
        good = explore.storage
        m.file("text.db", "this is no database, but a text that is long enough to be read as one\n" * 20)
        explore.storage = f"sqlite:///{m.directory}/text.db"
        text = explore.run("status", status=1)
        assert f"--storage {explore.storage}: file is not a database; check that the URL" in text and "Traceback" not in text, text
        explore.storage = "postgresql://me:secret@127.0.0.1:1/x"
        text = explore.run("status", status=1)
        assert "--storage postgresql+psycopg://me:***@127.0.0.1:1/x: " in text and "secret" not in text and "Traceback" not in text, text
        (m.directory / "none").mkdir()
        (m.directory / "none" / "psycopg.py").write_text("raise ModuleNotFoundError(\"No module named 'psycopg'\")\n")
        ended_without_traceback(explore, "pip install 'mossc[explore]'", PYTHONPATH=f"{m.directory}/none:{os.environ['PYTHONPATH']}")
        explore.storage = good
        optuna.create_study(study_name="s", storage=good)
        text = explore.run("create", "space.yaml", "-o", "out", status=1)
        assert "a study s that mossc.explore did not make" in text and "Traceback" not in text, text


def test_commands_that_are_interrupted_say_nothing(m):
    with exploring(m) as explore:
        program = m.directory / "slow"
        program.write_text("#!/bin/sh\ntouch begun\nexec sleep 100\n")
        program.chmod(0o755)
        worker = subprocess.Popen(explore.command("create", "space.yaml", "-o", "out"), cwd=m.directory, env={**explore.environment(), "MOSSC_PROGRAM": str(program)},
                                  stderr=subprocess.PIPE, text=True)
        until((m.directory / "begun").exists, 60)
        worker.send_signal(signal.SIGINT)
        _, said = worker.communicate(timeout=60)
        assert worker.returncode == 130 and said == "", (worker.returncode, said)


def test_failed_trials_are_kept_and_retried(m):
    with exploring(m, command="sh -c 'test -e $RUNS || exit 7; echo 5'") as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 4)
        explore.run("work", "-o", "out")
        counts = explore.json("merge", "-o", "out")
        assert counts["error"] == counts["failed"] == 4 and counts["complete"] == counts["measured"] == 0, counts
        assert {trial.user_attrs["error"] for trial in explore.study().get_trials()} == {"quality: the command ended with status 7"}
        explore.runs.touch()
        assert explore.json("retry") == {"failed": 4, "gone": 0} and explore.json("retry") == {"failed": 0, "gone": 0}
        explore.run("work", "-o", "out")
        counts = explore.json("merge", "-o", "out")
        assert counts == {"measured": 4, "failed": 0, "trials": 4, "complete": 4, "error": 0, "running": 0, "waiting": 0}, counts


def timed_space():
    space = SPACE.replace("FF", "8").replace("objectives: [quality, active_parameters]", "objectives: [quality, decode_ms]").replace("[raspberry-pi-5]", "[host]")
    return space.replace("budgets: {parameters: 100k}", "budgets: {parameters: 100k, code_bytes: 1}")


def test_times_are_measured_and_budgets_are_constraints(m):
    with exploring(m, space=timed_space()) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 4, "--device", "host.yaml", "--rounds", 1)
        for process in [explore.start("-o", "part1"), explore.start("-o", "part2")]:
            assert process.wait(timeout=300) == 0, (process.returncode, explore.log())
        trials = explore.study().get_trials()
        assert len(trials) == 4 and all(trial.user_attrs["fidelity"] == "measured" and trial.user_attrs["line"]["steps"] for trial in trials)
        assert all(trial.constraints["code_bytes <= 1"] > 0 for trial in trials) and explore.study().best_trials == []
        explore.run("merge", "-o", "out")
        measured = rows_of(m.directory / "out" / "measured.csv")
        assert {(int(row["index"]), float(row["quality"]), float(row["decode_ms"])) for row in measured} == {(t.user_attrs["index"], *t.values) for t in trials}
        assert rows_of(m.directory / "out" / "measured_front.csv") == [] and "badge measured" not in (m.directory / "out" / "report.html").read_text()[:100]
        # The same from the workers' directories alone, without the storage.
        done = subprocess.run([sys.executable, "-m", "mossc.explore", "merge", "out", "part1", "part2", "-o", "joined", "--json"], cwd=m.directory,
                              env=explore.environment(), capture_output=True, text=True)
        assert done.returncode == 0 and json.loads(done.stdout) == {"measured": 4, "failed": 0}, (done.stdout, done.stderr)
        assert (m.directory / "joined" / "measured.csv").read_bytes() == (m.directory / "out" / "measured.csv").read_bytes()


def test_a_line_is_on_the_disk_before_it_is_reported(m):
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 1)
        index = int(rows_of(m.directory / "out" / "points.csv")[0]["index"])
        hash_of = rows_of(m.directory / "out" / "points.csv")[0]["spec_hash"]
        explore.run("work", "-o", "out")
        (trial,) = explore.study().get_trials()
        (path,) = (m.directory / "out" / "lines").glob("*.jsonl")
        assert [json.loads(line) for line in path.read_text().splitlines()] == [trial.user_attrs["line"]]
        # What a worker wrote and had no time to report is reported by the next, and not measured again.
        (m.directory / "late" / "lines").mkdir(parents=True)
        (m.directory / "late" / "lines" / "x.jsonl").write_text(json.dumps({"index": index, "spec_hash": hash_of, "quality": 4711}) + '\n{"index": 1, "qua')
        explore.json("create", "space.yaml", "-o", "out", study="late")
        before = len(explore.runs.read_text().splitlines())
        explore.run("work", "-o", "late", "--most", 1, study="late")
        assert explore.study("late").get_trials()[0].values[0] == 4711 and len(explore.runs.read_text().splitlines()) == before


def test_another_machine_is_refused(m):
    with exploring(m, space=timed_space()) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 1, "--device", "host.yaml", "--rounds", 1)
        study = explore.study()
        study.set_user_attr("machine", {**study.user_attrs["machine"], "cpu": "Another One"})
        text = explore.run("work", "-o", "out", status=1)
        assert "measures on Another One" in text and explore.json("status")["waiting"] + explore.json("status")["complete"] == 0


def test_a_slurm_array_of_workers(m):
    if optuna is None:
        raise Skipped("there is no Optuna here")
    with slurm.cluster(4) as reached, exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 24)
        command = " ".join(explore.command("work", "-o", m.directory / "out"))
        environment = {**reached, **explore.environment(PAUSE="0.3")}
        sent = subprocess.run(["sbatch", "--parsable", "--array=1-4", "--requeue", f"--output={m.directory}/job-%a.log", f"--chdir={m.directory}", "--wrap", command],
                              env=environment, capture_output=True, text=True)
        assert sent.returncode == 0, sent.stderr
        until(lambda: explore.json("status")["complete"] >= 4, 200)
        # Slurm sends one of them SIGTERM and starts it anew.
        subprocess.run(["scontrol", "requeue", f"{sent.stdout.strip()}_2"], env=environment, check=True, capture_output=True)
        until(lambda: explore.json("status")["complete"] == 24, 300, lambda: "".join(path.read_text()[-500:] for path in m.directory.glob("job-*.log")))
        trials = explore.study().get_trials()
        assert len(trials) == 24 == len({trial.user_attrs["index"] for trial in trials})


def test_workers_that_mpirun_starts(m):
    if not shutil.which("mpirun"):
        raise Skipped("there is no mpirun here (Debian: openmpi-bin)")
    with exploring(m) as explore:
        explore.json("create", "space.yaml", "-o", "out", "--trials", 8)
        done = subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3", *explore.command("work", "-o", "out")], cwd=m.directory,
                              env=explore.environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert explore.json("status")["complete"] == 8 and done.stdout.count("done ") == 3


def test_mistakes_are_told(m):
    with exploring(m) as explore:
        before = {path.name for path in m.directory.iterdir()}
        for arguments, words in ((("work",), "there is no "), (("status",), "there is no "), (("create", "nowhere.yaml"), "nowhere.yaml: there is no"),
                                 (("create", "space.yaml", "--sampler", "best"), "--sampler: expected one of tpe")):
            text = explore.run(*arguments, status=1)
            assert words in text and "Traceback" not in text, text
        assert {path.name for path in m.directory.iterdir()} == before
        explore.json("create", "space.yaml", "-o", "out", "--trials", 2)
        assert "the storage has no study another" in explore.run("status", study="another", status=1)
        m.file("space.yaml", (m.directory / "space.yaml").read_text().replace("[1, 2, 3, 4]", "[1, 2]"))
        assert "of another space" in explore.run("create", "space.yaml", "-o", "other", status=1)
        for option in ("--trials", "--rounds", "--heartbeat"):
            assert f"{option}: '0': expected a whole number, at least 1" in explore.run("create", "space.yaml", option, 0, status=2)
        for explore.storage in ("study.db", "postgresql://host:port/x"):
            assert f"expected sqlite:///FILE.db or postgresql://USER@HOST/DATABASE, got '{explore.storage}'" in explore.run("work", status=1)
        explore.storage = "sqlite://"
        assert "in memory" in explore.run("work", status=1)
        explore.storage = "mysql://x"
        assert "expected sqlite:///FILE.db or postgresql://" in explore.run("work", status=1)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), OPTIONS, share_kernels=True))
