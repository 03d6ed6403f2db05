"""A PostgreSQL of its own in a temporary directory, reached by a socket there: Debian's `postgresql`, nothing of the system's clusters."""
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Skipped  # noqa: E402
from forked import ends_with_parent  # noqa: E402

START_SECONDS = 120


def _programs() -> pathlib.Path:
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        raise Skipped("there is no PostgreSQL here (Debian: postgresql)")
    return found[-1].parent if found else pathlib.Path(on_path).parent


def _unprivileged() -> dict:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def cluster():
    """The URL of a database, as SQLAlchemy and mossc.explore take it."""
    programs, who = _programs(), _unprivileged()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mossc-postgres-"))
    directory.chmod(0o755)
    if who:
        os.chown(directory, who["user"], who["group"])

    how = {"stdin": subprocess.DEVNULL, "cwd": directory, "env": {**os.environ, "HOME": str(directory), "LC_ALL": "C"}, **who}
    data, log = directory / "data", directory / "log"
    try:
        done = subprocess.run([programs / "initdb", "-D", data, "-U", "mossc", "-A", "trust", "-E", "UTF8", "--no-sync"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=600, **how)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        with open(log, "wb") as said:
            parent = os.getpid()  # the server ends at once with this process, even where that is killed
            server = subprocess.Popen([programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "max_connections=200"],
                                      stdout=said, stderr=said, preexec_fn=lambda: ends_with_parent(parent, signal.SIGQUIT), **how)
        try:
            end = time.monotonic() + START_SECONDS
            while subprocess.run([programs / "pg_isready", "-q", "-h", directory, "-U", "mossc", "-d", "postgres"], **how).returncode != 0:
                assert server.poll() is None and time.monotonic() < end, log.read_text(errors="replace")[-2000:]
                time.sleep(0.1)
            yield f"postgresql://mossc@/postgres?host={directory}"
        finally:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # a fast shutdown, at once, in any case
                server.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(timeout=60)
                    break
    finally:
        shutil.rmtree(directory, ignore_errors=True)
