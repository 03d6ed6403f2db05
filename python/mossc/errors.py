"""What goes wrong, as one exception with the place in the spec."""
from __future__ import annotations

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Message:
    """A message of the compiler. `line` and `column` count from 1, in characters; line 0 means the file as a whole."""

    severity: str  # "error", "warning", "note"
    code: str  # "unknown-key": stays the same when the message is reworded
    path: str  # the file's, as it was given; "" where no file is at fault
    line: int
    column: int
    length: int
    message: str  # one line
    hint: str  # what to do; "" where there is nothing to say

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}: " if self.line else f"{self.path}: " if self.path else ""
        return f"{place}{self.severity}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class MosscError(Exception):
    """What the C library reports: `code` names the kind ("bad_spec", "bad_weights", "bad_input", "no_file", "device", …, as MossCode does).

    `messages` are all that were given, warnings too. `path`, `line`, `column` and `hint` are those of the first error among them; without
    any, "" and 0. `str()` has every error in a line of its own.
    """

    def __init__(self, code: str, message: str, messages: typing.Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.messages = code, message, tuple(messages)
        first = next((m for m in self.messages if m.severity == "error"), None)
        self.path: str = first.path if first else ""
        self.line: int = first.line if first else 0
        self.column: int = first.column if first else 0
        self.hint: str = first.hint if first else ""

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.message, self.messages)


def without(what: str, extra: str, error: ImportError) -> str:
    """What to say where a command lacks the packages of an extra."""
    return f"{what} needs packages that are not here: pip install 'mossc[{extra}]' ({error})"


def said(error: Exception) -> str:
    """What a command says of an error: of a file's (OSError) its name and what is wrong with it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
