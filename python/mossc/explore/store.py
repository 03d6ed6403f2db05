"""Optuna's storage by its URL: SQLite on one machine, PostgreSQL for many; and a lock that one process of a study holds at a time."""
import contextlib
import functools
import pathlib
import zlib

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError

from mossc.errors import without
from mossc.explore.errors import ExploreError, NoStudy
from mossc.files import locked

EXPECTED = "expected sqlite:///FILE.db or postgresql://USER@HOST/DATABASE"
ADVICE = "check that the URL is that of a database for Optuna, that its server runs, and that you may write"
WAIT_SECONDS = 60  # of SQLite, for another process that writes
# File systems on which SQLite loses data or locks: NFS, SMB, Lustre, FUSE (man 2 statfs).
SHARED = {"nfs", "nfs4", "cifs", "smb3", "lustre", "fuse", "9p", "gpfs", "beegfs"}


def _url(text: str) -> sqlalchemy.URL:
    try:
        url = sqlalchemy.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ExploreError(f"--storage: {EXPECTED}, got '{text}'") from None
    kind = url.get_backend_name()
    if kind == "postgresql" and url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and url.database in (None, "", ":memory:"):
        raise ExploreError("--storage: a database in memory is of one process; give sqlite:///FILE.db")
    if kind not in ("postgresql", "sqlite"):
        raise ExploreError(f"--storage: {EXPECTED}, got {kind}")
    return url


def _shown(text: str) -> str:
    """The URL without its password."""
    try:
        return sqlalchemy.make_url(text).render_as_string(hide_password=True)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return text


@contextlib.contextmanager
def reaching(text: str):
    """ExploreError in place of what SQLAlchemy, Optuna and drivers raise where the storage cannot be used."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        said = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise ExploreError(f"--storage {_shown(text)}: {said}; {ADVICE}") from None


def _file_system(path: pathlib.Path) -> str:
    """The type of the file system that holds the path."""
    best, kind = "", ""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, mount, what, *_ = line.split(" ")
        inside = mount == "/" or path == pathlib.Path(mount) or str(path).startswith(mount + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, what
    return kind


def _engine_options(url: sqlalchemy.URL) -> dict:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": WAIT_SECONDS}}
    alive = {"connect_timeout": 30, "keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
    return {"pool_pre_ping": True, "pool_size": 2, "connect_args": alive}


def _tune_sqlite(connection, _record) -> None:
    """A trial takes a sixth of the time. A process that is killed loses nothing; a machine without power may lose the last commits, whose
    lines are on the disk."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class DatabaseLock:
    """An advisory lock of PostgreSQL, held by a transaction: the server frees it when the connection breaks, which it also does when the
    process's machine no longer answers (keepalives)."""

    def __init__(self, url: sqlalchemy.URL, name: str):
        self.engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **{"connect_args": _engine_options(url)["connect_args"]})
        self.keys = {"a": zlib.crc32(b"mossc.explore") - (1 << 31), "b": zlib.crc32(name.encode()) - (1 << 31)}

    @contextlib.contextmanager
    def __call__(self):
        with self.engine.connect() as connection:
            connection.execute(sqlalchemy.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(sqlalchemy.text("SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; SET LOCAL tcp_keepalives_count = 3"))
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:a, :b)"), self.keys)
            yield
            connection.rollback()


class Store:
    """storage: an RDBStorage; lock(): what a study changes that more than one process may change, changes within it. make: a database of
    SQLite that is not there is made. ExploreError."""

    def __init__(self, text: str, study: str, make: bool = False):
        url = _url(text)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            path = pathlib.Path(url.database).absolute()
            if not path.parent.is_dir():
                raise ExploreError(f"--storage: there is no directory {path.parent}")
            if not make and not path.exists():
                raise NoStudy(f"--storage: there is no {path}: `python -m mossc.explore create` makes it")
            if _file_system(path.parent.resolve()).split(".")[0] in SHARED:
                raise ExploreError(f"--storage: {path} is on a network's file system, where SQLite loses data: use PostgreSQL")
        try:
            self._open(url, study)
        except ImportError as error:  # the driver
            raise ExploreError(without(f"--storage {_shown(text)}", "explore", error)) from None
        except (OSError, RuntimeError) as error:  # no right to write; RuntimeError: tables of another version of Optuna
            raise ExploreError(f"--storage {_shown(text)}: {' '.join(str(error).split())}; {ADVICE}") from None

    def _open(self, url: sqlalchemy.URL, study: str) -> None:
        sqlite = url.get_backend_name() == "sqlite"
        with reaching(url.render_as_string()):
            self.lock = functools.partial(locked, pathlib.Path(f"{url.database}.lock")) if sqlite else DatabaseLock(url, study)
            with self.lock() if sqlite else DatabaseLock(url, "")():  # tables are made by one
                self.storage = optuna.storages.RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=_engine_options(url))
        if sqlite:
            sqlalchemy.event.listen(self.storage.engine, "connect", _tune_sqlite)
            self.storage.engine.dispose()

    def set_heartbeat(self, interval: int) -> None:
        """Seconds between signs of life, as the study has them: all its processes must agree on who is gone."""
        self.storage.heartbeat_interval, self.storage.grace_period = interval, 5 * interval
