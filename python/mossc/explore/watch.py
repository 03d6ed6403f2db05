"""Ends the processes of a worker that was killed: a measurement or a training that goes on without it would disturb the next.

Run as a script it reads "+PID" and "-PID" from its standard input and, when that ends, kills the groups that are left. It imports
nothing of the package."""
import os
import signal
import subprocess
import sys


class Watch:
    """A process of its own, which ends after this one, however this one ends."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-I", "-S", os.path.abspath(__file__)], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def add(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _tell(self, line: str) -> None:
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main()
