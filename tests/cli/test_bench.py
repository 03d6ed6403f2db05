"""mossc bench on a tiny spec, and the progress of long commands. Standard library only.

    python3 tests/cli/test_bench.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import csv
import io
import json
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ONE_MLP, TINY, run_tests, tiny  # noqa: E402


def test_bench_reports_json_and_a_table(m):
    spec, weights = tiny(m)
    small = ["--prefill", "16", "--decode", "4", "--repeat", "2"]
    for options in (["-w", weights], ["--no-scan-fusion", "--threads", "1", "--set", "weights.dtype=bf16"]):
        report = m.json("bench", spec, *small, "--json", *options)
        for key in ("compile_ms", "load_ms", "prefill_tok_s", "decode_tok_s"):
            assert 0 < report[key]["min"] <= report[key]["median"] <= report[key]["max"], (key, report)
        for key in ("weight_bytes", "active_weight_bytes", "state_bytes", "peak_rss_bytes"):
            assert report[key] > 0, key
        assert report["active_weight_bytes"] < report["weight_bytes"]
    text = m.out("bench", m.file("one.yaml", ONE_MLP), *small)
    assert "decode, tokens/s" in text and "median" in text, text


def test_bench_holds_a_batch_against_the_limits(m):
    spec, _ = tiny(m)
    small = ["--prefill", "8", "--decode", "2", "--repeat", "1"]
    report = m.json("bench", spec, *small, "--batch", 3, "--limits", "--json")
    assert report["batch"] == 3
    for key in ("read_gb_s", "panel_gflop_s", "prefill_of_bound", "decode_of_bound"):
        assert report[key]["min"] > 0, (key, report)
    assert "3 sequences, each prompt of 8 tokens" in m.out("bench", m.file("one.yaml", ONE_MLP), *small, "--batch", 3)


def test_bench_refuses_more_tokens_than_the_model_takes(m):
    spec = m.file("tiny.yaml", TINY.replace("window: 8", "rope: none"))
    error = m.error("bench", spec, "--set", "max_positions=16", "--prefill", "10", "--decode", "7", "--repeat", "1")
    assert "--prefill and --decode make 17 tokens; max_positions of this model is 16" in error, error


def test_bench_prints_the_table_of_llama_bench(m):
    spec, weights = tiny(m)
    lines = m.out("bench", spec, "-p", "8,16", "-n", 4, "-pg", "8,2", "-d", "0,5", "-t", "1,2", "-r", 2).splitlines()
    names = [name.strip() for name in lines[0].strip("|").split("|")]
    assert names == ["model", "size", "params", "backend", "threads", "test", "t/s"], names
    assert set(lines[1]) == set("|-: "), lines[1]
    assert {line.count("|") for line in lines} == {8}, lines
    rows = [dict(zip(names, (cell.strip() for cell in line.strip("|").split("|")))) for line in lines[2:]]
    tests = ["pp8", "pp16", "tg4", "pp8+tg2", "pp8 @ d5", "pp16 @ d5", "tg4 @ d5", "pp8+tg2 @ d5"]
    assert [(row["threads"], row["test"]) for row in rows] == [(t, test) for t in "12" for test in tests], rows
    assert all(row["model"] == "tiny f32" and row["backend"] == "CPU" and float(row["t/s"].split(" ± ")[0]) > 0 for row in rows), rows
    report = json.loads(m.out("bench", spec, "-w", weights, "-p", 8, "-n", 0, "-r", 3, "-o", "json"))
    (row,) = report
    assert (row["n_prompt"], row["n_gen"], row["n_depth"], row["model_filename"]) == (8, 0, 0, spec), row
    speeds = row["samples_ts"]
    mean = sum(speeds) / 3
    assert abs(row["avg_ts"] - mean) < 1e-6 * mean and abs(row["stddev_ts"] - (sum((s - mean) ** 2 for s in speeds) / 2) ** 0.5) < 1e-6 * mean
    assert all(abs(8e9 / ns - s) < 1e-6 * s for ns, s in zip(row["samples_ns"], speeds)), row
    many = [json.loads(line) for line in m.out("bench", spec, "-p", 8, "-n", 2, "-r", 1, "-o", "jsonl").splitlines()]
    assert [(one["n_prompt"], one["n_gen"]) for one in many] == [(8, 0), (0, 2)] and many[0].keys() == row.keys()
    table = list(csv.DictReader(io.StringIO(m.out("bench", spec, "-p", 8, "-n", 2, "-r", 1, "-o", "csv"))))
    assert [one["n_gen"] for one in table] == ["0", "2"] and table[0].keys() == row.keys() - {"samples_ns", "samples_ts"}, table


def test_bench_keeps_table_and_report_apart(m):
    spec = m.file("tiny.yaml", TINY)
    for options in (["--prefill", 4], ["--decode", 4], ["--limits"], ["--json"], ["--batch", 2]):
        assert f"{options[0]}: not with -p" in m.error("bench", spec, "-o", "md", *options, status=2)
    assert "--pg: expected two numbers" in m.error("bench", spec, "-pg", 5, status=2)
    assert "integers from 0 to 16777216 with commas between, got '5,'" in m.error("bench", spec, "-p", "5,", status=2)
    assert "leave no test" in m.error("bench", spec, "-p", 0, "-n", 0)
    window = m.file("all.yaml", TINY.replace("window: 8", "rope: none"))
    error = m.error("bench", window, "--set", "max_positions=16", "-p", 10, "-n", 0, "-d", 7)
    assert "a test of 10 tokens and a depth of 7: max_positions of this model is 16" in error, error


def test_progress_is_silent_unless_asked(m):
    spec, weights = tiny(m)
    common = ["bench", spec, "--prefill", "4", "--decode", "2", "--repeat", "1"]
    assert m.run(*common).stderr == ""
    assert "measuring: done in" in m.run(*common, "--progress").stderr


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
