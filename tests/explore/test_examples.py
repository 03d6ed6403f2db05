"""The spaces of examples/explore: each gives points, a front for its device, and specs that compile. Standard library only.

    python3 tests/explore/test_examples.py --mossc build/release/mossc [NAME…]
"""
import csv
import json
import pathlib
import sys

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from harness import run_tests  # noqa: E402

EXAMPLES = ROOT / "examples" / "explore"
OPTIONS = {}
HOST = """\
name: host
about: for a test
target: host
source: made up
rates: {threads: 1, read_gb_s: 10, panel_gflop_s: 50, exp_g_s: 2}
"""


def explore(m, name, *more):
    """The summary and the front of a study of the example; at most 2000 of its points."""
    m.run("explore", EXAMPLES / f"{name}.yaml", "-o", name, "--points", 2000, *more)
    with open(m.directory / name / "front.csv", newline="") as file:
        front = list(csv.DictReader(file))
    summary = json.loads((m.directory / name / "summary.json").read_text())
    assert summary["invalid"] == {} and summary["kept"] > 0 and front, summary
    m.file("point.yaml", m.run("explore", "spec", name, "--point", front[0]["index"]).stdout)
    check = m.json("check", "point.yaml", "--json")
    assert check["active_parameters"] == int(front[0]["active_parameters"]), (check, front[0])
    return summary, front


def values_of(summary, name):
    return next(axis["values"] for axis in summary["axes"] if axis["name"] == name)


def test_every_example_is_tested_here(m):
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == ["a100", "experts-or-state", "s24"]


def test_s24(m):
    summary, front = explore(m, "s24")
    indices = 1
    for axis in summary["axes"]:
        indices *= len(axis["values"])
    assert indices > 10**6 and 0 < summary["over_budget"] < summary["points"] <= 2000, summary
    assert summary["front"].keys() == {"galaxy-s24-ultra"}
    assert all(float(row["weight_bytes"]) <= 500e6 and float(row["decode_ms"]) <= 25 for row in front), front


def test_experts_or_state(m):
    m.file("host.yaml", HOST)
    m.variables["MOSSC_LOCK_DIR"] = str(m.directory)
    summary, front = explore(m, "experts-or-state", "--device", "host.yaml", "--measure", 1, "--rounds", 1)
    assert all(1.8e6 <= float(row["active_parameters"]) <= 2e6 for row in front), front
    measured = [json.loads(line) for line in (m.directory / "experts-or-state" / "measurements.jsonl").read_text().splitlines()]
    assert len(measured) == 1 and measured[0]["decode_ms"] > 0, measured


def test_a100(m):
    summary, front = explore(m, "a100")
    assert summary["workload"]["batch"] == 64 and summary["devices"][0]["threads"] == 108, summary
    assert values_of(summary, "combine") == ["outputs", "params"]
    for row in front:  # a step decodes a token of each sequence
        assert abs(float(row["decode_tok_s"]) * float(row["decode_ms"]) / 1e3 - 64) < 0.1, row
        assert float(row["peak_bytes"]) <= 36 * 2**30, row


if __name__ == "__main__":
    sys.exit(run_tests(globals(), OPTIONS, share_kernels=True))
