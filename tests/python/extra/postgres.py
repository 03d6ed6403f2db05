"""A PostgreSQL of its own in a temporary directory, reached by a socket there: Debian's `postgresql`, nothing of the system's clusters."""
import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Skipped  # noqa: E402


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

    def run(name, *arguments):
        done = subprocess.run([programs / name, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=directory,
                              timeout=600, env={**os.environ, "HOME": str(directory), "LC_ALL": "C"}, **who)
        assert done.returncode == 0, (name, done.stdout.decode(errors="replace")[-2000:])

    data, log = directory / "data", directory / "log"
    try:
        run("initdb", "-D", data, "-U", "mossc", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", data, "-w", "-l", log, "-o", f"-c listen_addresses='' -c unix_socket_directories={directory} -c max_connections=200", "start")
        try:
            yield f"postgresql://mossc@/postgres?host={directory}"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
