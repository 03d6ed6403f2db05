"""Runs a script of extra/ in the environment that ./dev test python has made, or says that there is none.

    extra.py --mossc PROGRAM extra/SCRIPT
    extra.py --requirements        the packages that the environment has, a line for each part of the package; not those of NOT_BY_DEFAULT
"""
import os
import pathlib
import sys

NOT_BY_DEFAULT = ("peers",)  # they are compiled, for minutes
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def requirements():
    import tomllib
    project = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]
    yield "package", project["dependencies"]
    yield from ((name, packages) for name, packages in project["optional-dependencies"].items() if name not in NOT_BY_DEFAULT)


def main():
    if sys.argv[1:] == ["--requirements"]:
        for name, packages in requirements():
            print(name, *packages)
        return 0
    environment = os.environ.get("MOSSC_PYTHON_ENVIRONMENT")
    if not environment:
        print("skipped: ./dev test python makes the environment that this test needs")
        return 77
    *options, script = sys.argv[1:]
    program = str(pathlib.Path(environment) / "bin/python")
    os.execv(program, [program, str(pathlib.Path(__file__).resolve().parent / script), *options])


if __name__ == "__main__":
    sys.exit(main())
