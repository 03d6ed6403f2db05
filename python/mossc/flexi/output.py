"""Directories that appear whole, with what a command needs meanwhile."""
from __future__ import annotations

import os
import pathlib
import types

from mossc import files
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
    """With it, a directory to write in; at the end it becomes the one asked for. An exception, or SIGTERM made one, leaves nothing; what a
    killed process left, the next one removes that writes the same."""

    def __init__(self, wanted: pathlib.Path) -> None:
        self._wanted = wanted

    def __enter__(self) -> pathlib.Path:
        check(self._wanted)
        files.sweep(self._wanted)
        self._part, self._held = files.claim(self._wanted, pathlib.Path.mkdir)
        return self._part

    def __exit__(self, kind: type | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        try:
            if kind is None:
                os.fsync(self._held)
                if self._wanted.is_dir():
                    self._wanted.rmdir()
                os.rename(self._part, self._wanted)
                files.sync_directory(self._wanted.parent)
        finally:
            files.remove(self._part)
            os.close(self._held)
