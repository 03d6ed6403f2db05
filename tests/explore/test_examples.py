"""The spaces of examples/explore: each gives points, a front for its device, and specs that compile. Standard library only.

    python3 tests/explore/test_examples.py --mossc build/release/mossc [NAME…]
"""
import csv
import itertools
import json
import math
import pathlib
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from harness import run_tests  # noqa: E402
from costs import costs  # noqa: E402

EXAMPLES = ROOT / "examples" / "explore"
OPTIONS = {"points": 20}  # of the part of s24 that is searched by hand; all of it has 2160
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
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == ["a100", "experts-or-state", "novels", "s24"]


def test_s24(m):
    summary, front = explore(m, "s24")
    indices = 1
    for axis in summary["axes"]:
        indices *= len(axis["values"])
    assert indices > 10**6 and 0 < summary["over_budget"] < summary["points"] <= 2000, summary
    assert summary["front"].keys() == {"galaxy-s24-ultra"}
    assert all(float(row["weight_bytes"]) <= 500e6 and float(row["decode_ms"]) <= 25 for row in front), front


# Values of s24's axes: a part of it.
PART = {"depth": (4, 12), "d": (384, 512, 768, 1024, 1280), "experts": ("none", 2, 4, 8), "k": (1, 2, 4), "n": (16, 64, 128), "expand": (1, 2),
        "ff": (1024, 3072), "dtype": ("f32", "bf16")}


def part_of_s24(m):
    """The example's file with the values of PART."""
    text = (EXAMPLES / "s24.yaml").read_text().replace("../../specs", str(ROOT / "specs"))
    for name, values in PART.items():
        text, n = re.subn(rf"(name: {name}, (?:path|paths): [^\n]*?,\s+)(from: [^}}\n]*step: \d+|values: \[[^\]]*\])",
                          lambda match: match[1] + f"values: [{', '.join(map(str, values))}]", text)
        assert n == 1, (name, text)
    m.file("part.yaml", text)


def settings_of(point):
    """A point as --set of the base spec."""
    ssm, mlp = "stack[0].blocks[0].ssm", "stack[0].blocks[1].mlp"
    count = ".experts=none" if point["experts"] == "none" else f".experts.count={point['experts']}"
    settings = [f"stack[0].repeat={point['depth']}", f"d_model={point['d']}", ssm + count, mlp + count, f"{ssm}.d_state={point['n']}",
                f"{ssm}.expand={point['expand']}", f"{mlp}.d_ff={point['ff']}", f"weights.dtype={point['dtype']}"]
    if point["experts"] != "none":
        settings.append(f"defaults.router.top_k={point['k']}")
    return [word for setting in settings for word in ("--set", setting)]


def searched_by_hand(m, points):
    """Each point's metrics, as columns of points.csv, by `mossc check` and `mossc explain`."""
    spec = str(ROOT / "specs" / "mossnet-8x200m-outputs.yaml")
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda point: costs(m, spec, 576, "galaxy-s24-ultra", 6, *settings_of(point)), points))


def test_part_of_s24_by_hand(m):
    """Counts and front of a part of s24 beside a search by the other commands, with axes and `require` written down here once more."""
    part_of_s24(m)
    m.run("explore", "part.yaml", "-o", "part", "--all-points")
    points = [dict(zip(PART, values)) for values in itertools.product(*PART.values())]
    points = [p for p in points if (p["k"] == 1 if p["experts"] == "none" else p["k"] <= p["experts"])]
    with open(m.directory / "part" / "points.csv", newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["fidelity"] != "excluded"]
    rows = {tuple(row[name] for name in PART if name != "k" or row["experts"] != "none"): row for row in listed}
    summary = json.loads((m.directory / "part" / "summary.json").read_text())
    assert len(points) == len(rows) == 2160, (len(points), len(rows))
    some = random.Random(5).sample(points, min(OPTIONS["points"], len(points)))
    costs = searched_by_hand(m, some)
    kept = {}
    for point, cost in zip(some, costs):
        row = rows[tuple(str(point[name]) for name in PART if name != "k" or point["experts"] != "none")]
        for name, value in cost.items():  # JSON has fifteen digits
            assert math.isclose(float(row[name]), value, rel_tol=1e-14), (point, name, row[name], value)
        if cost["weight_bytes"] <= 500e6 and cost["decode_ms"] <= 25:
            kept[int(row["index"])] = (-cost["active_parameters"], cost["decode_ms"])
    if len(some) < len(points):
        return
    best = sorted(i for i, a in kept.items() if not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in kept.values()))
    assert (summary["kept"], summary["over_budget"]) == (len(kept), 2160 - len(kept)), summary
    assert summary["front"]["galaxy-s24-ultra"] == best, (summary["front"], best)


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


def test_novels(m):
    m.file("host.yaml", HOST)
    summary, front = explore(m, "novels", "--device", "host.yaml")
    assert summary["kept"] == 18 and summary["quality_command"].endswith("judge.sh {spec}") and (EXAMPLES / "judge.sh").exists()
    assert {row["quality"] for row in front} == {""}


if __name__ == "__main__":
    sys.exit(run_tests(globals(), OPTIONS, share_kernels=True))
