"""Files and directories that appear whole: they are written beside their place, under a name that is their writer's alone, and renamed. A lock
tells that the writer lives; what a killed one left is removed by the next that writes the same."""
from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import pathlib
import secrets
import shutil
from typing import BinaryIO, Callable, Iterator

_PART = ".part"


def _lock(held: int, part: pathlib.Path) -> bool:
    """False: another process has it, or it is gone."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(held), part.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _open(part: pathlib.Path) -> int:
    return os.open(part, os.O_RDONLY | os.O_CLOEXEC)


def claim(wanted: pathlib.Path, make: Callable[[pathlib.Path], object]) -> tuple[pathlib.Path, int]:
    """Makes what will become `wanted`, by make(part). Gives its path and a descriptor that holds its lock until it is closed. OSError."""
    while True:
        part = wanted.with_name(f".{wanted.name}.{secrets.token_hex(4)}{_PART}")
        make(part)
        try:
            held = _open(part)
        except FileNotFoundError:  # another process took it for what was left
            continue
        try:
            if _lock(held, part):
                return part, held
        except OSError:  # a file system without locks: nobody removes it
            return part, held
        os.close(held)


def lock(path: pathlib.Path) -> int:
    """Holds a file's lock, the file made, until this process ends. BlockingIOError: another one has it."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise BlockingIOError(error.errno, "another process is at work there", str(path.parent)) from None
    except OSError:  # a file system without locks
        pass
    return held


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Waits for a file's lock, the file and the directories above it made. The system frees it when its process ends. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(part: pathlib.Path) -> None:
    """Of either kind, if it is there."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _remove_left(parts: list[pathlib.Path]) -> None:
    for part in parts:
        try:
            held = _open(part)
        except OSError:
            continue
        try:
            if _lock(held, part):
                remove(part)
        except OSError:
            pass
        finally:
            os.close(held)


def sweep(wanted: pathlib.Path) -> None:
    """Removes what killed writers of this file or directory left."""
    _remove_left(list(wanted.parent.glob(f".{glob.escape(wanted.name)}.*{_PART}")))


def sweep_below(directory: pathlib.Path) -> None:
    """Removes what killed writers left anywhere in a directory."""
    _remove_left(list(directory.rglob(f".*{_PART}")))


def sync_directory(path: pathlib.Path) -> None:
    """What was renamed in it is on the disk."""
    held = _open(path)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def replace(path: pathlib.Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file, by content(file) or its bytes, onto the disk: whoever reads it, or is killed, sees the old one or the new one. Directories
    above it are made. OSError; then the old one is there, and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    part, held = claim(path, lambda fresh: fresh.touch(exist_ok=False))
    try:
        with open(part, "wb") as file:
            file.write(content) if isinstance(content, bytes) else content(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)
    finally:
        remove(part)
        os.close(held)
