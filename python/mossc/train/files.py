"""Files that appear as a whole."""
from __future__ import annotations

import os
import pathlib
from typing import BinaryIO, Callable


def replace(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes beside the file, onto the disk, then renames: whoever reads, or is killed, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(fresh, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
