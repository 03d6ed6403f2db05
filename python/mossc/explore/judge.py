"""A point's line: what is measured of it, judged by the space's command, and on the disk before anybody is told."""
import hashlib
import json
import os
import pathlib
import socket
import time

from mossc.explore.errors import ExploreError
from mossc.explore.program import Program
from mossc.explore.space import Space
from mossc.files import locked, replace


class Lines:
    """What the workers of a directory wrote: a file for each process, so that none waits for another."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory / "lines"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path = self.directory / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}.jsonl"
        self.read: dict[pathlib.Path, int] = {}
        self.good: dict[int, dict] = {}  # by index

    def find(self, index: int) -> dict | None:
        """A line without an error of this point, of any worker here."""
        for path in self.directory.glob("*.jsonl"):
            begin = self.read.get(path, 0)
            if path.stat().st_size <= begin:
                continue
            with open(path, "rb") as file:
                file.seek(begin)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]  # a last line without its end was cut when its worker was killed
            self.read[path] = begin + len(whole)
            for line in map(json.loads, whole.splitlines()):
                if "error" not in line:
                    self.good.setdefault(line["index"], line)
        return self.good.get(index)

    def write(self, line: dict) -> None:
        with open(self.path, "ab") as file:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


class Judge:
    """Evaluates points of a study in a directory."""

    def __init__(self, program: Program, directory: pathlib.Path, space: Space, rounds: int):
        self.program, self.directory, self.space, self.rounds = program, directory, space, rounds
        self.lines = Lines(directory)

    def _quality(self, about: dict) -> dict:
        """The line of the command's judgement, kept by the hash of the spec: two points of one spec are judged once, and so is a point whose
        worker was killed after it."""
        key = f"{about['spec_hash']}-{hashlib.sha256(self.space.command.encode()).hexdigest()[:8]}"
        path = self.directory / "quality" / f"{key}.json"
        with locked(path.with_suffix(".lock")):
            if path.exists():
                return {"quality": json.loads(path.read_text())["quality"]}
            line = self.program.point(self.directory, about["index"], "--quality")["measured"]
            if "quality" in line:
                replace(path, json.dumps({"quality": line["quality"], "command": self.space.command}).encode() + b"\n")
            return {name: line[name] for name in ("quality", "error") if name in line}

    def _line(self, about: dict) -> dict:
        line = {"index": about["index"], "spec_hash": about["spec_hash"]}
        if self.space.timed:
            line = self.program.point(self.directory, about["index"], "--measure", "--rounds", self.rounds)["measured"]
        if self.space.judged and "error" not in line:
            line = line | self._quality(about)
        return line

    def line(self, index: int, reported: dict | None) -> tuple[dict, dict, str]:
        """The line of a point, the metrics that are known of it, and their fidelity. The line is on the disk. reported: what a worker that
        was killed then had told the storage already."""
        about = self.program.point(self.directory, index)
        if about["state"] != "point":
            line = {"index": index, "error": f"the point is {about['state']}: {about.get('why', 'see docs/explore.md')}"}
            return line, {}, "modelled"
        line = reported or self.lines.find(index)
        if not line:
            try:
                line = self._line(about)
            except ExploreError as error:
                line = {"index": index, "spec_hash": about["spec_hash"], "error": str(error)}
            self.lines.write(line)
        device = about["devices"][self.space.device]
        return line, self._metrics(line, device["metrics"]), "measured" if self.space.timed else device["fidelity"]

    def _metrics(self, line: dict, modelled: dict) -> dict:
        """Times are measured or modelled, never both."""
        shared = {name: value for name, value in modelled.items() if not self.space.timed or name not in self.space.on_device}
        own = {name: line[name] for name in (*self.space.on_device, "quality") if name in line}
        if self.space.timed and "decode_ms" in own and "prefill_ms" in own:
            own |= {rate: modelled[rate] * modelled[time_of] / own[time_of]
                    for rate, time_of in (("decode_tok_s", "decode_ms"), ("prefill_tok_s", "prefill_ms")) if rate in modelled}
        return shared | own
