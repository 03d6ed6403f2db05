"""Where the program mossc is."""
from __future__ import annotations

import os
import pathlib
import shutil


def find() -> str:
    """The program: $MOSSC_PROGRAM, the one of this package, of the build directory that it lies in, or of PATH. FileNotFoundError."""
    package = pathlib.Path(__file__).absolute().parent  # not of what a link leads to
    beside = (package / "bin" / "mossc", package.parents[1] / "mossc")
    for path in (os.environ.get("MOSSC_PROGRAM"), *beside, shutil.which("mossc")):
        if path and os.access(path, os.X_OK) and not os.path.isdir(path):
            return str(path)
    raise FileNotFoundError("the program mossc is not found: put it on PATH, or name it in MOSSC_PROGRAM")
