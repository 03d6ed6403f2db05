"""Directories that appear whole: they are filled under another name, which is theirs alone, and renamed. What a killed process left is
removed by the next one that writes the same directory."""
from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import types

from mossc.errors import MosscError


def check(path: pathlib.Path) -> None:
    """Before the work. MosscError: there is something already, or nothing can be made there."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MosscError("no_file", f"{path}: it exists already, and is no empty directory")
    if not path.parent.is_dir():
        raise MosscError("no_file", f"{path}: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise MosscError("no_file", f"{path}: {path.parent} cannot be written")


class Directory:
    """With it, `path` is where to write; at the end it becomes the directory asked for. An exception, or SIGTERM made one, leaves nothing."""

    def __init__(self, wanted: pathlib.Path) -> None:
        self._wanted, self.path = wanted, wanted.parent / f".{wanted.name}.{os.getpid()}.flexi"

    def __enter__(self) -> pathlib.Path:
        check(self._wanted)
        for left in self._wanted.parent.glob(f".{self._wanted.name}.*.flexi"):
            if self._lock(left):
                shutil.rmtree(left, ignore_errors=True)
                os.close(self._held)
        self.path.mkdir()
        self._lock(self.path)
        return self.path

    def _lock(self, path: pathlib.Path) -> bool:
        self._held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._held)
            return False
        return True

    def __exit__(self, kind: type | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        try:
            if kind is None:
                os.fsync(self._held)
                if self._wanted.is_dir():
                    self._wanted.rmdir()
                os.rename(self.path, self._wanted)
                parent = os.open(self._wanted.parent, os.O_RDONLY)
                os.fsync(parent)
                os.close(parent)
        finally:
            if self.path.exists():
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)
