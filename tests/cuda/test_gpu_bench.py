"""mossc limits and mossc bench on the emulated GPU, and bench/gpu/gpu.py. Speeds mean nothing here: what is tested is that everything is
measured, freed (`leaks` of the emulated GPU), and says what it is.

    MOSSC_CXX=c++ MOSSC_CUDA_DRIVER=… MOSSC_NVRTC=… python3 tests/cuda/test_gpu_bench.py --mossc build/release/mossc [NAME…]
"""
import json
import subprocess
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from emulated import SOURCE, emulate, skip_without_compiler  # noqa: E402
from harness import run_tests  # noqa: E402

GPU = ["--device", "cuda"]
SSM = """\
mossc: 1
name: small
vocab_size: 64
d_model: 32
weights: {dtype: bf16}
defaults: {ssm: {d_state: 4}}
stack:
  - ssm: {}
"""
# Figures of a report that are no ratios of two of its own.
LIMITS = ["copy_gb_s", "mma_tflop_s", "fma_tflop_s", "exp_g_s"]


def positive(report, keys):
    for key in keys:
        stats = report[key]
        assert 0 < stats["min"] <= stats["median"] <= stats["max"], (key, report)


def near(one, other):
    assert abs(one - other) <= 1e-9 * abs(other), (one, other)


def gpu_py(m, *arguments):
    command = [sys.executable, SOURCE / "bench" / "gpu" / "gpu.py", "--mossc", m.program, "--python", "/nonexistent/python", *arguments]
    done = subprocess.run(list(map(str, command)), env=m.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_limits_are_measured(m):
    emulate(m)
    report = m.json("limits", *GPU, "--repeat", 2, "--json")
    positive(report, LIMITS)
    assert (report["device"], report["architecture"], report["driver"]) == ("Emulated", "sm_90", "13.0"), report
    text = m.out("limits", *GPU, "--repeat", 1)
    assert "Emulated (sm_90, 2 multiprocessors" in text and "mma.sync, bf16" in text, text


def test_limits_without_tensor_cores(m):
    emulate(m, architecture=75)
    report = m.json("limits", *GPU, "--repeat", 1, "--json")
    positive(report, ["copy_gb_s", "fma_tflop_s", "exp_g_s"])
    assert "mma_tflop_s" not in report
    assert "linear layers use them from sm_80 on" in m.out("limits", *GPU, "--repeat", 1)


def test_limits_take_no_options_of_cpus(m):
    emulate(m)
    assert "--threads is for CPUs" in m.error("limits", *GPU, "--threads", 2)
    assert "--isa is for CPUs" in m.error("limits", *GPU, "--isa", "avx2")


def test_one_sequence_is_held_against_what_it_is_allowed(m):
    emulate(m)
    spec = m.file("small.yaml", SSM)
    report = m.json("bench", spec, *GPU, "--prefill", 12, "--decode", 40, "--repeat", 1, "--limits", "--json")
    positive(report, [*LIMITS, "compile_ms", "cached_ms", "load_ms", "prefill_tok_s", "decode_tok_s", "decode_of_bound", "prefill_of_peak"])
    assert report["phases"] > report["stages"] > 3 and not report["fast"], report
    assert min(report[key] for key in ("linear_ms", "scan_ms", "other_ms", "linear_of_peak", "scan_of_bound", "prefill_linear_flops")) > 0, report
    step = 1 / report["decode_tok_s"]["median"]
    reading = report["decode_bytes"] / (1e9 * report["copy_gb_s"]["median"])
    near(report["decode_of_bandwidth"]["median"], reading / step)
    near(report["decode_of_bound"]["median"], (1.1 * reading + 1.5e-6 * report["phases"]) / step)


def test_batches_are_held_against_the_larger_bound(m):
    emulate(m)
    spec = m.file("small.yaml", SSM)  # of 65 sequences: one more than pick their tokens together
    report = m.json("bench", spec, *GPU, "--batch", 65, "--prefill", 1, "--decode", 1, "--repeat", 1, "--limits", "--no-cache", "--json")
    step = 65 / report["decode_tok_s"]["median"]
    reading = report["decode_bytes"] / (1e9 * report["copy_gb_s"]["median"])
    computing = report["decode_linear_flops"] / (1e12 * report["mma_tflop_s"]["median"])
    near(report["decode_of_bound"]["median"], max(reading, computing) / step)
    assert "cached_ms" not in report


def test_a_table_says_the_same(m):
    emulate(m)
    spec = m.file("small.yaml", SSM)
    text = m.out("bench", spec, *GPU, "--batch", 2, "--prefill", 2, "--decode", 1, "--repeat", 1, "--no-cache")
    assert "2 sequences, each prompt of 2 tokens" in text and "prompts' phases, ms" in text and "phases in" in text, text


def test_explain_has_the_phases_of_few_rows(m):
    spec = m.file("small.yaml", SSM)
    assert "mossc bench --device cuda" in m.error("explain", spec, *GPU, "--measure", status=2)
    steps = m.json("explain", spec, *GPU, "--json")
    rows = {key: steps[key]["rows"] for key in ("token", "few", "prompt")}
    assert rows == {"token": 1, "few": 64, "prompt": 512}, rows
    assert "few" not in m.json("explain", spec, "--json")
    names = {line["name"] for part in steps["few"]["parts"] for line in part["lines"]}
    assert any(name.startswith("in_proj+gate_proj") for name in names), names
    assert "A token of 64 sequences each at position 1023: " in m.out("explain", spec, *GPU)


def test_gpu_py_runs(m):
    emulate(m)
    report = json.loads(gpu_py(m, "--smoke", "--json", "batch", "prefill"))
    lines = {line["what"]: line for line in report["results"]}
    sequences, scan = lines["64 sequences, bound / time"], lines["prompts: scan, bound / time"]
    assert sequences["asked"] == 0.55 and len(sequences["values"]) == 3 and sequences["held"] is not None, report
    assert scan["asked"] == 0.6 and len(scan["values"]) == 1 and scan["not_measured"] is None, report
    beside = lines["prompts, --fast: cuBLAS' time on the linear layers' shapes / the linear layers'"]
    assert not beside["values"] and beside["held"] is None and "/nonexistent/python" in beside["not_measured"], beside


def test_gpu_py_without_a_gpu(m):
    emulate(m, devices=0)
    text = gpu_py(m)
    assert text.startswith("gpu: not measured: ") and text.count("\n") == 1 and "found no GPU" in text, text


if __name__ == "__main__":
    skip_without_compiler()
    sys.exit(run_tests(globals()))
