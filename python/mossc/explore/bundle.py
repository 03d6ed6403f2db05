"""A study of `mossc explore` within Optuna's storage, so that a worker needs nothing but its URL."""
import base64
import json
import pathlib
import zlib

from mossc.explore.errors import ExploreError
from mossc.files import replace

NEEDED = ("summary.json", "space.yaml", "spec.yaml")
TABLES = ("points.csv", "front.csv")  # for the report; left out where they are large
REPLACED = ("quality.csv",)  # may change while the study goes on: rows that were missing
MOST_TABLE = 16 << 20  # bytes, packed


def _pack(text: bytes) -> str:
    return base64.b64encode(zlib.compress(text, 9)).decode()


def pack(directory: pathlib.Path) -> dict[str, str]:
    """The files of a study by name, packed as text."""
    names = [*NEEDED, *(f"devices/{path.name}" for path in sorted((directory / "devices").glob("*.yaml")))]
    if (directory / "quality.csv").exists():
        names.append("quality.csv")
    files = {name: _pack((directory / name).read_bytes()) for name in names}
    tables = {name: _pack((directory / name).read_bytes()) for name in TABLES}
    return files | {name: text for name, text in tables.items() if len(text) <= MOST_TABLE}


def unpack(files: dict[str, str], directory: pathlib.Path) -> None:
    """Writes the files that are not there, and those of REPLACED. ExploreError: the directory has a study of another space."""
    contents = {name: zlib.decompress(base64.b64decode(text)) for name, text in files.items()}
    for name in ("space.yaml", "spec.yaml"):
        path = directory / name
        if path.exists() and path.read_bytes() != contents[name]:
            raise ExploreError(f"{directory} has a study of another space or spec ({name} differs): give another -o DIR")
    for name, content in contents.items():  # summary.json last: a directory with one is a study
        path = directory / name
        if name != "summary.json" and (not path.exists() or name in REPLACED and path.read_bytes() != content):
            replace(directory / name, content)
    if not (directory / "summary.json").exists():
        replace(directory / "summary.json", contents["summary.json"])


def summary(files: dict[str, str]) -> dict:
    return json.loads(zlib.decompress(base64.b64decode(files["summary.json"])))
