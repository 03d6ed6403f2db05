"""mossc ir, asm and targets. Standard library only.

    python3 tests/cli/test_code.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import os
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ONE_MLP, PASSES, TINY, run_tests, tiny  # noqa: E402


def test_ir_stages(m):
    spec = m.file("tiny.yaml", TINY)
    stages = {stage: m.out("ir", spec, "--stage", stage) for stage in ("naive", "fused", "program")}
    assert len(set(stages.values())) == 3 and all(stages.values())
    assert m.out("ir", spec) == stages["fused"]
    for name in PASSES:
        assert m.out("ir", spec, "--stage", "program", f"--no-{name}"), name
    assert m.out("ir", spec, "--no-route-fusion") != stages["fused"]
    assert m.out("ir", spec, "--stop-after", "route-fusion") not in stages.values()


def test_ir_reads_its_own_text(m):
    spec = m.file("tiny.yaml", TINY)
    naive, fused = m.out("ir", spec, "--stage", "naive"), m.out("ir", spec, "--stage", "fused")
    m.file("naive.mir", naive)
    assert m.out("ir", "naive.mir") == naive
    assert m.out("ir", "naive.mir", "--stage", "fused") == fused
    assert m.out("ir", m.file("fused.mir", fused)) == fused
    assert m.out("ir", "fused.mir", "--stage", "fused") == fused
    assert "broken.mir:" in m.error("ir", m.file("broken.mir", naive.replace("=", "?", 1)))
    assert "missing.mir: error: cannot open" in m.error("ir", "missing.mir")


def test_ir_dumps_every_step(m):
    spec = m.file("one.yaml", ONE_MLP)
    done = m.run("ir", spec, "--stage", "program", "--dump-dir", "steps", "--time-passes")
    names = sorted(os.listdir(m.directory / "steps"))
    assert any("naive" in name for name in names) and any("route-fusion" in name for name in names) and len(names) >= 5, names
    assert all(name in done.stderr for name in PASSES), done.stderr
    assert "cannot create directory" in m.error("ir", spec, "--dump-dir", "one.yaml")


def test_asm_prints_code(m):
    spec = m.file("tiny.yaml", TINY)
    assert "define " in m.out("asm", spec, "--llvm")
    assert "ret" in m.out("asm", spec) and "ret" in m.out("asm", m.file("one.yaml", ONE_MLP), "--isa", "avx2")


def test_asm_prints_code_for_other_processors(m):
    spec = m.file("one.yaml", ONE_MLP)
    assert "fmla\tv" in m.out("asm", spec, "--target", "aarch64+dotprod+fp16")
    assert "fmla\tv" in m.out("asm", spec, "--target", "cortex-x4")
    assert 'target triple = "aarch64' in m.out("asm", spec, "--llvm", "--target", "aarch64:cortex-a720")
    assert "%zmm" in m.out("asm", spec, "--target", "x86-64-v4") and "%zmm" not in m.out("asm", spec, "--target", "x86-64-v3+vnni")
    blocks = ["--set", "weights.dtype=q8", "--set", "weights.activations=q8"]
    for target, has in (("x86-64-v4", False), ("x86-64-v4+vnni", True), ("x86-64-v3", False), ("x86-64-v3+vnni", True)):
        assert ("vpdpbusd" in m.out("asm", spec, *blocks, "--target", target)) == has, target


def test_weights_of_8_and_4_bits_use_what_an_arm_processor_has(m):
    spec = m.file("one.yaml", ONE_MLP)
    products = {"aarch64": "smull", "aarch64+dotprod": "sdot", "aarch64+dotprod+i8mm": "smmla", "cortex-x4": "smmla", "cortex-a76": "sdot"}
    for dtype in ("q8", "q4"):
        for target, wanted in products.items():
            text = m.out("asm", spec, "--set", f"weights.dtype={dtype}", "--target", target)
            seen = {word for word in ("smull", "sdot", "smmla") if f"\t{word}\tv" in text}
            # One row has nothing to share a matrix with: it takes sdot.
            assert seen == ({"sdot", "smmla"} if wanted == "smmla" else {wanted}), (dtype, target, seen)


def test_targets_lists_processors_and_devices(m):
    text = m.out("targets")
    assert "\n  cortex-x4 " in text and "\n  dotprod " in text and "\n  galaxy-s24-ultra " in text and "\n  cuda:sm_90 " in text, text
    assert "cuda:sm_80" in [gpu["name"] for gpu in m.json("targets", "--json")["gpus"]]
    devices = {device["name"]: device for device in m.json("targets", "--json")["devices"]}
    assert {"host", "a100", "galaxy-s24-ultra", "raspberry-pi-5", "graviton3"} <= set(devices), devices
    phone = devices["galaxy-s24-ultra"]
    assert [cluster["cores"] for cluster in phone["clusters"]] == [1, 3, 2, 2] and phone["bandwidth_gb_s"] == 76.8, phone
    assert all(cluster["source"] for device in devices.values() for cluster in device["clusters"]), devices
    gpu = devices["a100"]
    assert gpu["clusters"] == [] and gpu["target"] == "cuda:sm_80" and gpu["source"], gpu
    assert gpu["rates"] == {"threads": 108, "read_gb_s": 1555, "cache_gb_s": 7219, "panel_gflop_s": 312000, "exp_g_s": 2436}, gpu
    assert "\n  a100 " in text and "code for cuda:sm_80" in text, text


def test_code_for_a_device_is_that_of_its_core(m):
    spec = m.file("one.yaml", ONE_MLP)
    target = {device["name"]: device for device in m.json("targets", "--json")["devices"]}["galaxy-s24-ultra"]["target"]
    assert m.out("asm", spec, "--target", "galaxy-s24-ultra") == m.out("asm", spec, "--target", target)


def test_code_for_a_gpu_by_its_device(m):
    spec = m.file("tiny.yaml", TINY)
    assert m.out("asm", spec, "--target", "a100") == m.out("asm", spec, "--target", "cuda:sm_80")
    device = m.file("mine.yaml", "name: mine\nabout: a GPU\ntarget: cuda:sm_90\nsource: made up\n"
                    "rates: {read_gb_s: 3000, panel_gflop_s: 900000, exp_g_s: 3000}\n")
    assert m.out("asm", spec, "--target", device) == m.out("asm", spec, "--target", "cuda:sm_90")
    assert "--cpus cannot be combined with a GPU target" in m.error("compile", spec, "-w", "none", "--target", "a100", "--cpus", "0", "-o",
                                                                   "out", status=2)
    m.file("mine.yaml", "name: mine\nabout: a GPU\ntarget: cuda:sm_9\nsource: made up\n"
           "rates: {read_gb_s: 3000, panel_gflop_s: 900000, exp_g_s: 3000}\n")
    assert "GPUs before sm_75 are not supported" in m.error("asm", spec, "--target", device)


def test_a_wrong_device_file_is_reported_with_its_place(m):
    spec = m.file("tiny.yaml", TINY)
    device = m.file("mine.yaml", "name: mine\nabout: a board\ntarget: cortex-a76\nsource: measured\nbandwith_gb_s: 3\nclusters: []\n"
                    "kernels:\n  - {kernel: linear, step: token, overlap: 1}\n  - {kernel: linear, step: prompt, overlap: 3}\n")
    text = m.error("asm", spec, "--target", device)
    assert "mine.yaml:5:1: error: unknown key 'bandwith_gb_s'" in text and "did you mean 'bandwidth_gb_s'" in text, text
    assert "mine.yaml:6:11: error: 'clusters': expected a list of 1 to 8 clusters" in text, text
    assert "mine.yaml:9:45: error: 'overlap': expected a number from 0 to 1" in text and "mine.yaml:8:" not in text, text


def test_an_unknown_target_is_an_error_that_names_a_near_one(m):
    spec = m.file("tiny.yaml", TINY)
    assert "did you mean 'cortex-a720'" in m.error("asm", spec, "--target", "cortex-a7200")
    assert "did you mean 'dotprod'" in m.error("asm", spec, "--target", "aarch64+dotprd")
    assert "did you mean 'vnni'" in m.error("asm", spec, "--target", "x86-64-v4+vni")
    assert "unknown extension 'vnni'" in m.error("asm", spec, "--target", "aarch64+vnni")
    assert "did you mean 'galaxy-s24-ultra'" in m.error("asm", spec, "--target", "galaxy-s24-ulta")
    assert "mossc targets" in m.error("asm", spec, "--target", "toaster")


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
