"""Puts the package's files beside the extension of a build directory, as links: Python then imports the tree as it is.

    python3 stage.py python/mossc build/release/python/mossc
"""
import pathlib
import sys


def stage(source: pathlib.Path, target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for link in target.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()
    for path in source.iterdir():
        link = target / path.name
        if path.name != "__pycache__" and not link.is_symlink():
            link.symlink_to(path)


if __name__ == "__main__":
    stage(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]))
