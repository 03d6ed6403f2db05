"""A study of `mossc explore` within Optuna's storage, so that a worker needs nothing but its URL."""
import base64
import json
import pathlib
import zlib

from mossc.explore.errors import ExploreError
from mossc.files import replace

NEEDED = ("summary.json", "space.yaml", "spec.yaml")
TABLES = ("points.csv", "front.csv")  # for the report; left out where they are large
FOLLOW = ("quality.csv", *TABLES)
MEASURED = b"measured when the study began"  # as `mossc explore` writes of a host's limits
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


def _content(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _differ(there: dict[str, str], files: dict[str, str], name: str) -> bool:
    """Whether two studies have another file of this name. Limits of the host that were measured differ by nature."""
    one, other = (_content(side[name]) if name in side else None for side in (there, files))
    measured = one and other and MEASURED in one and MEASURED in other
    return one != other and not measured


def check_same(study: str, there: dict[str, str], files: dict[str, str]) -> None:
    """ExploreError: the files of a study in the storage are of another space or other devices."""
    for name in ("space.yaml", "spec.yaml"):
        if _differ(there, files, name):
            raise ExploreError(f"the storage has a study {study} of another space or spec ({name} differs): give another --study")
    names = sorted(name for name in there.keys() | files.keys() if name.startswith("devices/"))
    other = [pathlib.PurePath(name).stem for name in names if _differ(there, files, name)]
    if other:
        raise ExploreError(f"the storage has a study {study} with other devices ({', '.join(other)}): give the same --device, or another --study")


def renewed(there: dict[str, str] | None, files: dict[str, str]) -> dict[str, str]:
    """The files of a study with another table of qualities, and the tables that follow from it. The rest stays as workers have it."""
    kept = {name: text for name, text in (there or files).items() if name not in FOLLOW}
    return kept | {name: text for name, text in files.items() if name in FOLLOW}


def _keep_qualities(directory: pathlib.Path, contents: dict[str, bytes]) -> None:
    """Replaces an older table of qualities, and the tables that follow from it; quality.csv last: until then it is older."""
    path = directory / "quality.csv"
    if "quality.csv" in contents and path.exists() and path.read_bytes() != contents["quality.csv"]:
        for name in (*TABLES, "quality.csv"):
            if name in contents:
                replace(directory / name, contents[name])


def unpack(files: dict[str, str], directory: pathlib.Path) -> None:
    """Writes the files that are not there, and quality.csv where it is another one. ExploreError: the directory has a study of another space."""
    contents = {name: _content(text) for name, text in files.items()}
    for name in ("space.yaml", "spec.yaml"):
        path = directory / name
        if path.exists() and path.read_bytes() != contents[name]:
            raise ExploreError(f"{directory} has a study of another space or spec ({name} differs): give another -o DIR")
    _keep_qualities(directory, contents)
    for name, content in contents.items():  # summary.json last: a directory with one is a study
        if name != "summary.json" and not (directory / name).exists():
            replace(directory / name, content)
    if not (directory / "summary.json").exists():
        replace(directory / "summary.json", contents["summary.json"])


def summary(files: dict[str, str]) -> dict:
    return json.loads(_content(files["summary.json"]))
