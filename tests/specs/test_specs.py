"""Every shipped spec is checked and lowered, counts its parameters as the NumPy reference does, and says what it is. Those are compiled whose
programs have a kind of kernel that no spec before them has, in the order of their names; with --all every one.

    python3 tests/specs/test_specs.py --mossc build/release/mossc [--all]
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
root = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "tests" / "reference"))
from kernels import NewKinds  # noqa: E402
from reference import Spec  # noqa: E402

# (in all, active) as published, in millions to the precision given: a figure beside what every spec is held to.
PUBLISHED = {
    "lfm2-like": (354.5, 354.5),
    "mamba-130m": (129.1, 129.1),
    "mamba-370m": (371.5, 371.5),
    "mamba2-130m": (129.0, 129.0),
    "mamba2-370m": (368.3, 368.3),
    "mossnet-8x200m-outputs": (556, 200),
    "mossnet-8x200m-params": (556, 200),
    "smollm2-135m": (134.5, 134.5),
}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}"
    assert done.stdout, f"{' '.join(command)} printed nothing"
    return done.stdout


def check(mossc, path, is_compiled):
    assert path.read_text().startswith("# "), "no comment at its head says what it is"
    report = json.loads(run(mossc, "check", str(path), "--json"))
    counts = (report["parameters"], report["active_parameters"])
    assert counts == Spec(path).counts(), f"parameters {counts}, the reference counts {Spec(path).counts()}"
    for value, wanted in zip(counts, PUBLISHED.get(path.stem, ())):
        assert abs(value / 1e6 - wanted) <= (0.05 if wanted % 1 else 0.01 * wanted), f"{value / 1e6} M parameters, published {wanted} M"
    assert report["name"] == path.stem, f"its name is {report['name']}"
    program = run(mossc, "ir", str(path), "--stage", "program")
    for stage in ("naive", "fused"):
        with tempfile.TemporaryDirectory() as directory:
            text = pathlib.Path(directory) / "graph.mir"
            text.write_text(run(mossc, "ir", str(path), "--stage", stage))
            assert run(mossc, "ir", str(text), "--stage", "program") == program, f"the {stage} graph's text becomes another program"
    if is_compiled:
        run(mossc, "asm", str(path))
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--all", action="store_true", help="compile every spec")
    options = parser.parse_args()
    mossc, new_kinds = options.mossc, NewKinds(options.mossc, options.all)
    failed = 0
    found = sorted((root / "specs").glob("*.yaml"))
    assert found, f"no specs in {root / 'specs'}"
    missing = sorted(set(PUBLISHED) - {path.stem for path in found})
    if missing:
        print(f"FAILED  figures are published of specs that are not there: {', '.join(missing)}")
        failed += 1
    for path in found:
        try:
            is_compiled = new_kinds.has(path)
            total, active = check(mossc, path, is_compiled)
            print(f"ok      {path.name}: {total / 1e6:.1f} M parameters, {active / 1e6:.1f} M active{', compiled' * is_compiled}")
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {path.name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
