"""Runs the program `mossc`, whose answers are JSON: points, their costs and measurements have one implementation, in C."""
import json
import os
import subprocess
import tempfile

from mossc.explore.errors import ExploreError
from mossc.program import find


class Program:
    """`mossc`, with whoever ends its processes when this one is killed (watch.Watch, or None)."""

    def __init__(self, watch=None):
        try:
            self.path = find()
        except FileNotFoundError as error:
            raise ExploreError(str(error)) from None
        self.watch = watch

    def run(self, *arguments) -> str:
        """Its standard output. ExploreError: it failed, with what it said. Standard error passes through a file, so that a process that
        outlives this one never writes into a closed pipe."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen([self.path, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
                                       start_new_session=True)
            try:
                if self.watch:
                    self.watch.add(process.pid)
                output, _ = process.communicate()
            finally:
                if process.poll() is None:
                    end_group(process)
                if self.watch:
                    self.watch.remove(process.pid)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if process.returncode != 0:
            raise ExploreError(f"mossc {arguments[0]} {arguments[1]}: {text.strip() or f'ended with status {process.returncode}'}")
        return output.decode()

    def points(self, directory, *arguments) -> list[dict]:
        """What `mossc explore point` prints, one dict a point."""
        return [json.loads(line) for line in self.run("explore", "point", directory, *arguments).splitlines()]

    def point(self, directory, index: int, *arguments) -> dict:
        return self.points(directory, "--point", index, *arguments)[0]


def end_group(process: subprocess.Popen) -> None:
    """Kills a process that leads a session, and all in it."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()
