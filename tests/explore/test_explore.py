"""mossc explore from end to end: counts, costs and fronts against `mossc check` and `mossc explain` of every point's spec; threads and
shards give the same bytes; what is measured survives kill -9 and full disks; calibration. Standard library only.

    python3 tests/explore/test_explore.py --mossc build/release/mossc [--points N] [--kills N] [NAME…]

runs all tests, or those whose names contain a NAME. --points: how many points are compared (default 30); --kills: how often measuring is
killed (default 2).
"""
import csv
import fcntl
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from harness import run_tests  # noqa: E402
from costs import costs  # noqa: E402

OPTIONS = {"points": 30, "kills": 2}

BASE = """\
mossc: 1
name: base
vocab_size: 300
d_model: 64
max_positions: 4096
defaults: {router: {top_k: 2}}
stack:
  - repeat: 3
    blocks:
      - ssm: {d_state: 8, experts: {count: 4, per_expert: [x_proj, dt_proj, A, D], combine: outputs, idle: hold}}
      - mlp: {d_ff: 96, experts: {count: 4}}
  - attention: {n_heads: 4, rope: {}}
  - ssm: {kind: mamba2, d_state: 16, head_dim: 16}
"""

# Axes of every kind: repeats, keys outside the stack, blocks, templates, `when`; points that are excluded, invalid and over budget.
SPACE = """\
mossc_space: 1
name: small
spec: base.yaml
axes:
  - {name: depth, path: "stack[0].repeat", values: [1, 2, 5]}
  - {name: d, path: d_model, values: [48, 64, 96]}
  - {name: experts, values: [none, 2, 4], paths: ["stack[0].blocks[0].ssm.experts", "stack[0].blocks[1].mlp.experts"], set: {count: $}}
  - {name: k, path: defaults.router.top_k, values: [1, 2, 3], when: experts != none}
  - {name: heads, path: "stack[1].attention.n_heads", values: [4, 5]}
  - {name: dtype, path: weights.dtype, values: [f32, bf16]}
  - {name: tied, path: tie_embeddings, values: [true, false]}
derive:
  - {path: "stack[0].blocks[1].mlp.d_ff", value: "32 * ceil(1.5 * d / 32)"}
require: ["experts == none or k <= experts + 1"]
devices: [raspberry-pi-5]
workload: {prefill: 512, decode: 100, threads: 2}
budgets: {weight_bytes: 600 KiB}
objectives: [-active_parameters, decode_ms]
"""
POSITION = 562
DEVICE = "raspberry-pi-5"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def begin(m, *more, directory="out", space=SPACE):
    m.file("base.yaml", BASE)
    m.file("space.yaml", space)
    m.run("explore", "space.yaml", "-o", directory, *more)
    return m.directory / directory


def close(a, b):
    """Equal, but for the fifteen digits that JSON is printed with."""
    return a == b or abs(a - b) <= 1e-14 * abs(b)


def costs_by_hand(m, directory, index):
    """The metrics of a point by the other commands; None: the front end refuses it."""
    spec = subprocess.run([m.program, "explore", "spec", directory, "--point", str(index)], cwd=m.directory, env=m.environment(),
                          capture_output=True)
    if spec.returncode != 0:
        return None
    m.file("point.yaml", spec.stdout)
    return costs(m, "point.yaml", POSITION, DEVICE, 2)


def test_points_cost_what_check_and_explain_say(m):
    out = begin(m, "--all-points")
    rows = rows_of(out / "points.csv")
    random.Random(3).shuffle(rows)
    compared = 0
    for row in rows[: OPTIONS["points"]]:
        if row["fidelity"] == "excluded":
            continue
        want = costs_by_hand(m, "out", row["index"])
        assert (row["fidelity"] == "invalid") == (want is None), row
        for name, value in (want or {}).items():
            assert close(float(row[name]), value), (row["index"], name, row[name], value)
            compared += 1
    assert compared > 2 * OPTIONS["points"], compared  # half of them have 5 heads, which the front end refuses


def test_counts_and_front_are_those_of_a_search_by_hand(m):
    out = begin(m, "--all-points")
    rows, summary = rows_of(out / "points.csv"), json.loads((out / "summary.json").read_text())
    # 3 depths, 3 widths, 1 + 2 · 3 pairs of experts and k, 2 · 2 · 2 others
    assert summary["points"] == len(rows) == 3 * 3 * 7 * 8, summary["points"]
    by = {word: [row for row in rows if row["fidelity"] == word] for word in ("excluded", "invalid", "modelled")}
    assert summary["excluded"] == 0 and not by["excluded"], summary
    # k = 3 of 2 experts is refused by the front end, and so are 5 heads where they do not divide d_model: none of 48, 64 and 96
    assert summary["invalid"] and sum(summary["invalid"].values()) == len(by["invalid"]), summary["invalid"]
    expected = sum(1 for row in rows if row["heads"] == "5" or (row["experts"] == "2" and row["k"] == "3"))
    assert len(by["invalid"]) == expected, (len(by["invalid"]), expected, summary["invalid"])
    kept = [row for row in by["modelled"] if float(row["weight_bytes"]) <= 600 * 1024]
    assert (summary["kept"], summary["over_budget"]) == (len(kept), len(by["modelled"]) - len(kept)), summary
    goals = {row["index"]: (-float(row["active_parameters"]), float(row["decode_ms"])) for row in kept}
    front = [i for i, a in goals.items() if not any(all(x <= y for x, y in zip(b, a)) and b != a for b in goals.values())]
    assert [row["index"] for row in rows_of(out / "front.csv")] == sorted(front, key=int), front
    assert summary["front"][DEVICE] == sorted(map(int, front))


def test_hashes_are_those_of_the_specs(m):
    out = begin(m)
    row = rows_of(out / "points.csv")[5]
    m.file("point.yaml", m.run("explore", "spec", "out", "--point", row["index"]).stdout)
    m.run("init", "point.yaml", "-o", "w")
    m.run("pack", "point.yaml", "-w", "w", "-o", "w.pack")
    assert bytes.fromhex(row["spec_hash"]) in (m.directory / "w.pack").read_bytes()[:160]


def test_threads_do_not_change_the_bytes(m):
    one, three = begin(m, "--threads", 1), begin(m, "--threads", 3, directory="three")
    for name in ("points.csv", "front.csv", "report.html"):
        assert (one / name).read_bytes() == (three / name).read_bytes(), name


def test_shards_merge_to_the_same_bytes(m):
    whole = begin(m, "--all-points")
    for i in (1, 2, 3):
        begin(m, "--all-points", "--shard", f"{i}/3", directory=f"part{i}")
    m.run("explore", "merge", "part2", "part3", "part1", "-o", "joined")
    for name in ("points.csv", "front.csv", "report.html", "space.yaml", "spec.yaml"):
        assert (whole / name).read_bytes() == (m.directory / "joined" / name).read_bytes(), name
    a, b = (json.loads((directory / "summary.json").read_text()) for directory in (whole, m.directory / "joined"))
    for summary in (a, b):
        del summary["seconds"], summary["points_per_second"]
    assert a == b
    text = m.run("explore", "merge", "part1", "part2", "-o", "joined2", status=1).stderr
    assert "is part 1 of 3" in text, text
    assert not (m.directory / "joined2" / "points.csv").exists()


def test_samples_are_points_of_the_space(m):
    everything = {row["index"]: row for row in rows_of(begin(m, "--all-points") / "points.csv")}
    for method in ("random", "sobol"):
        rows = rows_of(begin(m, "--all-points", "--points", 100, "--method", method, directory=method) / "points.csv")
        assert 90 <= len(rows) <= 100 and len({row["index"] for row in rows}) == len(rows), (method, len(rows))
        assert all(everything[row["index"]] == row for row in rows), method
        for axis in ("depth", "d", "dtype"):  # an even sample has every value about equally often
            counts = [sum(row[axis] == value for row in rows) for value in {row[axis] for row in rows}]
            assert max(counts) < 2.2 * min(counts), (method, axis, counts)


def test_a_space_that_is_wrong_leaves_nothing(m):
    m.file("base.yaml", BASE)
    m.file("space.yaml", SPACE.replace("path: d_model", "path: d_modle.x"))
    text = m.run("explore", "space.yaml", "-o", "out", status=None)
    m.file("space.yaml", SPACE.replace("spec: base.yaml", "spec: nowhere.yaml"))
    text = m.run("explore", "space.yaml", "-o", "none", status=1).stderr
    assert "space.yaml:3:" in text and "nowhere.yaml" in text, text
    assert not (m.directory / "none").exists()
    for options, words in ((("--points", "0"), "--points"), (("--shard", "3/2"), "--shard"), (("--shard", "1/2", "--measure", "3"), "--measure"),
                           (("--method", "sobol"), "--method sobol needs --points N"), (("--spread",), "--spread needs --measure M"),
                           (("--rounds", "3"), "--rounds needs --measure M")):
        m.file("space.yaml", SPACE)
        text = m.run("explore", "space.yaml", "-o", "none", *options, status=2).stderr
        assert words in text, text
    text = m.run("explore", "calibrat", "out", "-o", "none", status=2).stderr
    assert "did you mean `mossc explore calibrate`" in text, text
    text = m.run("explore", "space.yaml", "-o", "phone", "--measure", 1, status=1).stderr
    assert "--device host" in text and not (m.directory / "phone" / "points.csv").exists(), text
    text = m.run("explore", "spec", "none", "--point", 1, status=1).stderr
    assert "no study" in text, text


def test_quality_comes_from_a_file_by_hash(m):
    rows = rows_of(begin(m) / "points.csv")
    m.file("quality.csv", "quality,spec_hash\n" + "".join(f"{i / 8},{row['spec_hash']}\n" for i, row in enumerate(rows)))
    judged = SPACE.replace("objectives: [-active_parameters, decode_ms]", "objectives: [quality, parameters]\nquality: {file: quality.csv}")
    out = begin(m, space=judged, directory="judged")
    assert [float(row["quality"]) for row in rows_of(out / "points.csv")] == [i / 8 for i in range(len(rows))]
    best = rows_of(out / "front.csv")
    assert best[0]["index"] == rows[0]["index"] and json.loads((out / "summary.json").read_text())["kept"] == len(rows)
    m.file("quality.csv", "quality,spec_hash\n1,xyz\n")
    text = m.error("explore", "space.yaml", "-o", "judged", status=1)
    assert "quality.csv:2:" in text, text
    begun = SPACE.replace("objectives: [-active_parameters, decode_ms]", "objectives: [quality]\nquality: {command: echo 1}")
    m.file("space.yaml", begun)
    assert "known of measured points only" in m.error("explore", "space.yaml", "-o", "other")


# ---- measuring

TINY_SPACE = """\
mossc_space: 1
name: tiny
spec: base.yaml
axes:
  - {name: depth, path: "stack[0].repeat", values: [1, 2, 3]}
  - {name: d, path: d_model, values: [16, 32, 48, 64]}
devices: [host]
workload: {prefill: 16, decode: 8, threads: 1}
objectives: [-active_parameters, decode_ms]
"""
TINY_BASE = """\
mossc: 1
name: base
vocab_size: 64
d_model: 64
stack:
  - repeat: 3
    blocks: [mlp: {d_ff: 32}]
"""  # compiled soon
SCANS = TINY_BASE.replace("[mlp: {d_ff: 32}]", "[{ssm: {d_state: 4}}, {mlp: {d_ff: 32}}]")
HOST = """\
name: host
about: for a test
target: host
source: made up
rates: {threads: 1, read_gb_s: 10, panel_gflop_s: 50, exp_g_s: 2}
"""


def begin_tiny(m, *more, space=TINY_SPACE, base=TINY_BASE):
    m.file("base.yaml", base)
    m.file("space.yaml", space)
    m.file("host.yaml", HOST)
    m.variables["MOSSC_LOCK_DIR"] = str(m.directory)
    return ["explore", "space.yaml", "-o", "out", "--device", "host.yaml", "--json", *more]


def lines_of(m):
    return [json.loads(line) for line in (m.directory / "out" / "measurements.jsonl").read_text().splitlines()]


def rewrite_times(m):
    """Times of a device on which nothing overlaps, whose kernels take twice the model's work and 5 us each: calibration must find that."""
    lines = lines_of(m)
    for step in (step for line in lines for step in line["steps"]):
        step["limits"] = {"read_gb_s": 10, "panel_gflop_s": 50, "exp_g_s": 2}
        for line in step["lines"]:
            reading = (line["every_bytes"] + line["chosen_bytes"] + line["activation_bytes"]) / 10e9
            work = (reading + line["flops"] / 50e9 + line["exps"] / 2e9) * line["longer"]
            line["seconds"] = line["phases"] * (2 * work + 5e-6) + 1e-6 * line["stages"]
        step["seconds"] = step["profiled_seconds"] = sum(line["seconds"] for line in step["lines"])
    (m.directory / "out" / "measurements.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_measuring_and_calibrating(m):
    command = begin_tiny(m, "--rounds", 1, "--spread", base=SCANS)
    m.run(*command, "--measure", 3)
    first = lines_of(m)
    assert len(first) == 3 and all(line["decode_ms"] > 0 and line["prefill_ms"] > 0 and line["device"] == "host" for line in first)
    text = m.run("explore", "calibrate", "out", "-o", "device.yaml", status=1).stderr
    assert "at least 8 measured points, got 3" in text, text
    m.run(*command, "--measure", 8)
    lines = lines_of(m)
    assert lines[:3] == first and len({line["index"] for line in lines}) == len(lines) == 8
    measured = rows_of(m.directory / "out" / "measured.csv")
    assert [int(row["index"]) for row in measured] == sorted(line["index"] for line in lines)
    assert all(row["fidelity"] == "measured" and int(row["code_bytes"]) > 1000 and float(row["decode_tok_s"]) > 0 for row in measured)
    errors = json.loads(m.run("explore", "calibrate", "out", "-o", "device.yaml", "--json").stdout)
    assert errors["points"] == 8 and errors["fitted"] == 4 and len(errors["metrics"]) == 4, errors
    rewrite_times(m)
    errors = m.json("explore", "calibrate", "out", "-o", "device.yaml", "--json")
    by = {(e["metric"], e["fidelity"]): e for e in errors["metrics"]}
    for metric in ("decode_ms", "prefill_ms"):
        assert by[metric, "calibrated"]["mape"] < 0.02 and by[metric, "calibrated"]["within_10"] == 1, errors
        assert by[metric, "modelled"]["mape"] > 0.05, errors
    m.run("explore", "space.yaml", "-o", "again", "--device", "device.yaml", "--json")
    assert {row["fidelity"] for row in rows_of(m.directory / "again" / "points.csv")} == {"calibrated"}
    text = m.out("explain", "base.yaml", "--device", "device.yaml")
    assert "Calibrated:" in text, text


def test_a_command_judges_measured_points(m):
    command = """quality: {command: "grep -c d_model {spec}; echo loss 2.5e-1"}\n"""
    m.run(*begin_tiny(m, "--rounds", 1, "--measure", 2, space=TINY_SPACE + command))
    assert [line["quality"] for line in lines_of(m)] == [0.25, 0.25]
    assert {row["quality"] for row in rows_of(m.directory / "out" / "measured.csv")} == {"0.25"}
    m.file("space.yaml", TINY_SPACE + "quality: {command: exit 3}\n")
    m.run("explore", "space.yaml", "-o", "out2", "--device", "host.yaml", "--json", "--rounds", 1, "--measure", 1)
    (line,) = map(json.loads, (m.directory / "out2" / "measurements.jsonl").read_text().splitlines())
    assert line["error"] == "quality: the command ended with status 3", line


def test_killed_at_any_moment_it_goes_on(m):
    command = [str(part) for part in begin_tiny(m, "--rounds", 1, "--measure", 4)]
    m.run(*command[:-1], "1")  # how long one takes; kernels are compiled
    draw, seen = random.Random(5), []
    for _ in range(OPTIONS["kills"]):
        process = subprocess.Popen([m.program, *command], cwd=m.directory, env=m.environment(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(draw.uniform(0.05, 4))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        text = (m.directory / "out" / "measurements.jsonl").read_text()
        whole = [json.loads(line) for line in text.split("\n")[:-1]]
        assert whole[: len(seen)] == seen, "a line that was there is gone"
        seen = whole
    m.run(*command)
    lines = lines_of(m)
    assert lines[: len(seen)] == seen and len({line["index"] for line in lines}) == len(lines) == 4, lines
    assert not (m.directory / "out" / "measuring").exists()


def test_a_point_that_kills_the_process_is_given_up(m):
    command = begin_tiny(m, "--rounds", 1, "--measure", 2)
    m.run(*command[:-1], 1)
    (done,) = (line["index"] for line in lines_of(m))
    m.run(*command)  # which point is next
    following = lines_of(m)[1]["index"]
    (m.directory / "out" / "measurements.jsonl").write_text(json.dumps(lines_of(m)[0]) + "\n")
    (m.directory / "out" / "measuring").write_text(f"{following} 3\n")
    m.run(*command)
    last = lines_of(m)[-1]
    assert done != following == last["index"] and "killed three times" in last["error"], last


def test_a_full_disk_loses_nothing(m):
    command = begin_tiny(m, "--rounds", 1, "--measure", 3)
    m.run(*command[:-1], 1)
    before = lines_of(m)
    room = (m.directory / "out" / "report.html").stat().st_size
    path = m.directory / "out" / "measurements.jsonl"
    # Lines grow the file past the limit, which the report's size is below: some line cannot be written whole.
    padding = json.dumps({"index": 999999, "error": "x" * room}) + "\n"
    path.write_text(path.read_text() + padding)
    size = path.stat().st_size
    text = m.run(*command, status=1, largest_file=size + 1000).stderr
    assert "cannot write a measurement" in text, text
    assert path.stat().st_size == size and lines_of(m)[:1] == before
    m.run(*command)
    assert len(lines_of(m)) == 3


# ---- single points


def points_of(m, *options, directory="out"):
    return [json.loads(line) for line in m.run("explore", "point", directory, *options).stdout.splitlines()]


def test_a_point_says_what_the_tables_say(m):
    rows = rows_of(begin(m, "--all-points") / "points.csv")
    asked = rows[::7]
    for row, point in zip(asked, points_of(m, *(f"--point={row['index']}" for row in asked)), strict=True):
        assert point["index"] == int(row["index"]) and all(row[axis] == value for axis, value in point["values"].items())
        if row["fidelity"] == "invalid":
            assert point["state"] == row["fidelity"] and "devices" not in point and point["why"], point
            continue
        (device,) = point["devices"].values()
        assert point["state"] == "point" and point["spec_hash"] == row["spec_hash"] and device["fidelity"] == row["fidelity"]
        assert device["metrics"] == {name: float(row[name]) for name in device["metrics"]}, (point, row)
        assert device["within"] == (float(row["weight_bytes"]) <= 600 * 1024), point
    assert {row["fidelity"] for row in asked} == {"modelled", "invalid"}


def test_twins_name_their_point(m):
    everything = {int(row["index"]) for row in rows_of(begin(m, "--all-points") / "points.csv")}
    last = max(everything)
    twins = [index for index in range(last) if index not in everything]
    for twin in points_of(m, *(f"--point={index}" for index in twins[::7])):
        assert twin["state"] == "twin" and twin["twin_of"] in everything, twin
        (of,) = points_of(m, "--point", twin["twin_of"])
        assert of["values"] == {**twin["values"], "k": "1"}, (of, twin)


def test_what_was_measured_elsewhere_becomes_part_of_a_study(m):
    judged = TINY_SPACE + """quality: {command: "grep -c d_ff {spec}"}\n"""
    m.run(*begin_tiny(m, space=judged))
    rows = [int(row["index"]) for row in rows_of(m.directory / "out" / "points.csv")]
    first, second, third = points_of(m, "--candidates", 3, "--spread")
    (timed,) = points_of(m, "--point", first["index"], "--measure", "--quality", "--rounds", 1)
    (asked,) = points_of(m, "--point", second["index"], "--quality")
    assert asked["measured"] == {"index": second["index"], "spec_hash": second["spec_hash"], "quality": asked["measured"]["quality"]}
    failed = {"index": third["index"], "error": "by hand"}
    assert not (m.directory / "out" / "measurements.jsonl").exists() and len(rows) > 3
    m.file("a.jsonl", json.dumps(failed) + "\n" + json.dumps(timed["measured"]) + "\n")
    m.file("b.jsonl", json.dumps(asked["measured"]) + "\n" + json.dumps({**timed["measured"], "decode_ms": 1e9}) + "\n{\"ind")
    assert m.json("explore", "collect", "out", "a.jsonl", "b.jsonl", "--json") == {"measured": 2, "failed": 1}
    expected = sorted([failed, timed["measured"], asked["measured"]], key=lambda line: line["index"])
    assert lines_of(m) == expected
    table = {int(row["index"]): row for row in rows_of(m.directory / "out" / "measured.csv")}
    assert set(table) == {first["index"], second["index"]} and table[second["index"]]["decode_ms"] == ""
    assert float(table[first["index"]]["decode_ms"]) == timed["measured"]["decode_ms"]
    assert {row["index"] for row in rows_of(m.directory / "out" / "measured_front.csv")} <= {row["index"] for row in table.values()}
    m.file("c.jsonl", json.dumps({**asked["measured"], "index": third["index"]}) + "\n")
    assert "of another space" in m.run("explore", "collect", "out", "c.jsonl", status=1).stderr
    good = {"index": third["index"], "spec_hash": third["spec_hash"], "quality": 1}
    m.file("d.jsonl", json.dumps(good) + "\n")
    assert m.json("explore", "collect", "out", "d.jsonl", "--json") == {"measured": 3, "failed": 0}


def test_lines_without_a_point_of_the_space_are_refused(m):
    m.run(*begin_tiny(m))
    wrong = [(1e300, "no index of a point"), (-1, "no index of a point"), (0.5, "no index of a point"), (2**64, "no index of a point"),
             ("0", "without 'index'"), (None, "without 'index'"), (999999, "has no point 999999"), (2**63, "has no point")]
    for index, said in wrong:
        m.file("a.jsonl", json.dumps({"index": index, "error": "by hand"}) + "\n")
        text = m.run("explore", "collect", "out", "a.jsonl", status=1).stderr
        assert said in text and "a.jsonl:1" in text, (index, text)
        m.file("out/measurements.jsonl", json.dumps({"index": index, "decode_ms": 1}) + "\n")
        text = m.run("explore", "collect", "out", "a.jsonl", status=1).stderr
        assert said in text and "measurements.jsonl:1" in text, (index, text)
        (m.directory / "out" / "measurements.jsonl").unlink()


def test_one_process_at_a_time_writes_lines_of_a_study(m):
    m.run(*begin_tiny(m))
    command = [str(part) for part in begin_tiny(m, "--rounds", 1, "--measure", 1, "--progress")]
    m.file("a.jsonl", json.dumps({"index": 0, "error": "by hand"}) + "\n")
    with open(m.directory / "out" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = m.run("explore", "collect", "out", "a.jsonl", status=1).stderr
        assert "lock: error: another process writes measurements of this study" in text, text
        process = subprocess.Popen([m.program, *command], cwd=m.directory, env=m.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        held, deadline = f"{m.directory}/out/lock", time.time() + 60
        while not any(os.readlink(f) == held for f in pathlib.Path(f"/proc/{process.pid}/fd").iterdir() if f.is_symlink()):
            assert time.time() < deadline and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        assert process.poll() is None and not (m.directory / "out" / "measurements.jsonl").exists()
        m.file("out/measurements.jsonl", json.dumps({"index": 1, "error": "by hand"}) + "\n")  # whoever has the lock adds one
    said = process.communicate(timeout=120)[1].decode()
    assert "waiting for another process that writes measurements of this study" in said, said
    assert process.returncode == 0 and [line["index"] for line in lines_of(m)] == [1], lines_of(m)
    assert m.json("explore", "collect", "out", "a.jsonl", "--json") == {"measured": 0, "failed": 2}


def test_quality_by_a_command_may_be_an_objective_beside_another(m):
    judged = TINY_SPACE + """quality: {command: "echo 3"}\n"""
    line = next(line for line in judged.splitlines() if line.startswith("objectives"))
    m.run(*begin_tiny(m, "--rounds", 1, "--measure", 2, space=judged.replace(line, "objectives: [-quality, decode_ms]")))
    assert {row["quality"] for row in rows_of(m.directory / "out" / "front.csv")} == {""}
    measured = sorted(rows_of(m.directory / "out" / "measured.csv"), key=lambda row: float(row["decode_ms"]))
    assert [row["quality"] for row in measured] == ["3", "3"]
    assert rows_of(m.directory / "out" / "measured_front.csv") == measured[:1], "quality is equal: the faster one beats the other"


if __name__ == "__main__":
    sys.exit(run_tests(globals(), OPTIONS, share_kernels=True))
