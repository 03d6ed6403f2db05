"""The command line: exit statuses, help, mistakes, and every command once on a tiny spec. Standard library only.

    python3 tests/cli/test_cli.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import csv
import io
import json
import math
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ONE_MLP, TINY, WRONG, run_tests  # noqa: E402

COMMANDS = ["check", "info", "run", "eval", "logits", "bench", "init", "pack", "explain", "limits", "ir", "asm", "schema", "targets"]
PASSES = ["route-fusion", "scan-fusion", "elementwise-fusion", "weights", "plan", "schedule"]
TOKENS = "72, 101 108\n108,111 32 119 111 114 108 100 33\n"


def tiny(m):
    """A spec and weights for it."""
    spec = m.file("tiny.yaml", TINY)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec, "w.safetensors"


# ------------------------------------------------------------------------------------------------ help and usage


def test_help_lists_every_command(m):
    text = m.out("--help")
    assert all(f"\n  {name} " in text for name in COMMANDS), text
    assert m.out("help") == text and m.out("-h") == text


def test_no_command_is_a_usage_error(m):
    assert "usage: mossc" in m.error(status=2)


def test_version(m):
    assert m.out("--version").startswith("mossc 0.")


def test_every_command_has_help_with_options_and_examples(m):
    for name in COMMANDS:
        text = m.out(name, "--help")
        assert text.startswith(f"usage: mossc {name} "), text
        assert "\noptions:\n" in text and "\nexamples:\n  " in text and f"mossc {name}" in text.split("examples:")[1], text
        assert max(map(len, text.split("\nexamples:")[0].splitlines())) <= 100 and not any(l != l.rstrip() for l in text.splitlines()), text
        assert m.out("help", name) == text
        assert m.out(name, "-h", "--no-such-option") == text, "help wins over mistakes beside it"


def test_help_of_keys_and_schema(m):
    keys = m.out("help", "keys")
    assert all(key in keys for key in ("d_model", "per_expert", "top_k", "n_kv_heads")), keys
    schema = json.loads(m.out("schema"))
    assert "2020-12" in schema["$schema"] and "vocab_size" in json.dumps(schema)
    space = m.out("help", "space")
    assert all(word in space for word in ("mossc_space", "objectives", "when", "decode_tok_s")), space
    schema = json.loads(m.out("schema", "--space"))
    assert schema["required"] == ["mossc_space", "name", "spec", "axes", "objectives"] and "decode_ms" in schema["$defs"]["budgets"]["properties"]
    assert "did you mean 'space'?" in m.error("help", "spcae", status=2)


def test_unknown_words_get_the_nearest(m):
    m.file("tiny.yaml", TINY)
    assert "did you mean 'bench'?" in m.error("bensh", status=2)
    assert "did you mean '--json'?" in m.error("check", "tiny.yaml", "--jsno", status=2)
    assert "did you mean '--no-scan-fusion'?" in m.error("ir", "tiny.yaml", "--no-scanfusion", status=2)
    assert "did you mean 'scan-fusion'?" in m.error("ir", "tiny.yaml", "--stop-after", "scanfusion", status=2)
    assert "did you mean 'keys'?" in m.error("help", "kyes", status=2)
    assert "expected a command before option" in m.error("--json", "check", status=2)


def test_usage_errors(m):
    for arguments, text in [
        (["check"], "missing argument"),
        (["ir", "a", "b"], "unexpected argument"),
        (["help", "check", "more"], "unexpected argument"),
        (["init", "tiny.yaml"], "-o W.safetensors (--output) is needed"),
        (["logits", "tiny.yaml", "-w", "w", "-o", "x"], "--tokens FILE is needed"),
        (["run", "tiny.yaml", "-w"], "-w needs a value"),
        (["run", "tiny.yaml", "-w", "w"], "--prompt"),
        (["run", "tiny.yaml", "-w", "w", "--prompt", "a", "--prompt-file", "b"], "--prompt"),
        (["run", "tiny.yaml", "-w", "w", "--prompt", "a", "--temp", "hot"], "'hot'"),
        (["run", "tiny.yaml", "-w", "w", "--prompt", "a", "--temp", "-1"], "'-1'"),
        (["run", "tiny.yaml", "-w", "w", "--prompt", "a", "--top-p", "1.5"], "'1.5'"),
        (["bench", "tiny.yaml", "--threads", "0"], "from 1 to"),
        (["bench", "tiny.yaml", "--repeat", "3x"], "'3x'"),
        (["bench", "tiny.yaml", "--json=yes"], "takes no value"),
        (["bench", "-"], "standard input"),
        (["init", "tiny.yaml", "-o", "w", "--seed", "-1"], "'-1'"),
        (["init", "tiny.yaml", "-o", "w", "--seed", "18446744073709551616"], "2^64"),
        (["logits", "tiny.yaml", "-w", "w", "--tokens", "t", "-o", "x", "--mode", "both"], "prefill or decode"),
        (["logits", "tiny.yaml", "-w", "w", "--tokens", "t", "-o", "x", "--mode", "decode", "--chunk", "4"], "--chunk"),
        (["logits", "-", "-w", "w", "--tokens", "-", "-o", "x"], "standard input"),
        (["ir", "tiny.yaml", "--stage", "program", "--stop-after", "plan"], "--stop-after"),
        (["asm", "tiny.yaml", "--isa", "avx2", "--target", "aarch64"], "cannot be combined with --target"),
        (["check", "-x"], "'-x'"),
    ]:
        text_found = m.error(*arguments, status=2)
        assert text in text_found and "--help'" in text_found, (arguments, text_found)


def test_options_mix_with_positionals(m):
    m.file("--odd.yaml", TINY)
    first = m.out("check", "--json", "--", "--odd.yaml")
    assert json.loads(first)["name"] == "tiny"
    m.file("tiny.yaml", TINY)
    assert m.json("check", "--set=d_model=64", "--json", "tiny.yaml") == m.json("check", "tiny.yaml", "--json", "--set", "d_model=64")


# ------------------------------------------------------------------------------------------------ check


def test_check_prints_a_table(m):
    text = m.out("check", m.file("tiny.yaml", TINY))
    assert "tiny.yaml: tiny" in text and "ssm, 4 experts, top 2, outputs" in text and "  total " in text, text


def test_check_json(m):
    report = m.json("check", m.file("tiny.yaml", TINY), "--json")
    assert report["ok"] and report["name"] == "tiny" and [b["kind"] for b in report["blocks"]] == ["ssm", "mlp", "attention"]
    assert 0 < report["active_parameters"] < report["parameters"]
    for key in ("weight_bytes", "state_bytes", "flops_per_token", "bytes_per_token"):
        assert report[key] >= sum(block[key] for block in report["blocks"]) > 0, key
    assert report["weight_bytes"] == 4 * report["parameters"]
    half = m.json("check", "tiny.yaml", "--json", "--set", "weights.dtype=bf16")
    assert 2 * report["parameters"] < half["weight_bytes"] < report["weight_bytes"]


SHARED = """mossc: 1
name: shared
vocab_size: 64
d_model: 32
stack:
  - {name: lower, mlp: {d_ff: 48}}
  - share: {block: lower}
  - share: {block: lower, adapters: {rank: 2, targets: [up_proj]}, own: [biases]}
  - parallel: [{name: left, mlp: {d_ff: 48, experts: {count: 4}}}, {attention: {n_heads: 4, window: 8}}]
"""


def test_check_says_what_is_shared_and_what_stands_side_by_side(m):
    spec = m.file("shared.yaml", SHARED.replace(", own: [biases]", ""))
    lower, alike, adapted, parallel = m.json("check", spec, "--json")["blocks"]
    assert alike["share"] == {"block": "lower", "index": 0, "rank": 0} and "share" not in lower
    assert alike["parameters"] == 32 and alike["flops_per_token"] == lower["flops_per_token"]  # a norm; all the work
    added = 2 * (32 + 48)
    assert adapted["share"]["rank"] == 2 and adapted["parameters"] == 32 + added
    assert adapted["flops_per_token"] == lower["flops_per_token"] + 2 * added + 48  # and a sum
    assert parallel["kind"] == "parallel" and "experts" not in parallel
    assert [(branch["kind"], branch.get("name"), branch["path"]) for branch in parallel["branches"]] == [
        ("mlp", "left", "stack[3].parallel[0]"),
        ("attention", None, "stack[3].parallel[1]"),
    ]
    text = m.out("check", spec)
    assert "mlp, shares lower, rank 2 " in text and "parallel: mlp (4 experts, top 2), attention (window 8) " in text
    explained = m.out("explain", spec)
    assert "shares lower, rank 2" in explained and "branches.1.attend" in explained
    assert "'share.own': biases matches no tensor of lower" in m.error("check", m.file("shared.yaml", SHARED))


def test_check_reports_mistakes_with_their_place(m):
    text = m.error("check", m.file("wrong.yaml", WRONG))
    assert text.startswith("wrong.yaml:8:") and "error: " in text and "^" in text and "d_ff" in text, text
    report = json.loads(m.run("check", "wrong.yaml", "--json", status=1).stdout)
    first = report["messages"][0]
    assert not report["ok"] and first["line"] == 8 and first["code"] == "unknown-key", report


def test_check_goes_on_after_a_wrong_spec(m):
    done = m.run("check", m.file("wrong.yaml", WRONG), m.file("tiny.yaml", TINY), status=1)
    assert b"tiny.yaml: tiny" in done.stdout and "wrong.yaml:8:" in done.stderr


def test_check_reads_standard_input(m):
    assert "tiny" in m.out("check", "-", stdin=TINY.encode())


def test_check_shows_warnings_and_succeeds(m):
    done = m.run("check", m.file("tiny.yaml", TINY), "--set", "defaults.router.top_k=1")
    assert "warning: " in done.stderr and "normalize" in done.stderr, done.stderr


def test_set_overrides_and_its_mistakes_are_reported(m):
    spec = m.file("tiny.yaml", TINY)
    assert m.json("check", spec, "--json", "--set", "d_model=64", "--set", "name=other")["name"] == "other"
    assert "error: " in m.error("check", spec, "--set", "d_modle=64")
    assert "error: " in m.error("check", spec, "--set", "stack[7].ssm.d_state=4")
    assert "error: " in m.error("check", spec, "--set", "d_model")


def test_a_missing_spec_is_an_error_everywhere(m):
    for command in (["check"], ["ir"], ["asm"], ["bench"], ["init", "-o", "x"], ["run", "-w", "w", "--prompt", "a"],
                    ["eval", "-w", "w", "--text", "t"], ["logits", "-w", "w", "--tokens", "t", "-o", "x"]):
        assert "missing.yaml: error: cannot open" in m.error(*command, "missing.yaml"), command
    assert m.left() == []


def test_a_full_standard_output_is_an_error(m):
    with open("/dev/full", "wb") as full:
        done = m.run("check", m.file("tiny.yaml", TINY), stdout=full, status=1)
    assert "cannot write standard output" in done.stderr, done.stderr


# ------------------------------------------------------------------------------------------------ ir and asm


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
    spec = m.file("tiny.yaml", TINY)
    done = m.run("ir", spec, "--stage", "program", "--dump-dir", "steps", "--time-passes")
    names = sorted(os.listdir(m.directory / "steps"))
    assert any("naive" in name for name in names) and any("route-fusion" in name for name in names) and len(names) >= 5, names
    assert all(name in done.stderr for name in PASSES), done.stderr
    assert "cannot create directory" in m.error("ir", spec, "--dump-dir", "tiny.yaml")


def test_asm_prints_code(m):
    spec = m.file("tiny.yaml", TINY)
    assert "define " in m.out("asm", spec, "--llvm")
    assert "ret" in m.out("asm", spec) and "ret" in m.out("asm", spec, "--isa", "avx2")


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
    spec = m.file("tiny.yaml", TINY)
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


# ------------------------------------------------------------------------------------------------ init


def test_init_gives_the_same_bytes_for_the_same_seed(m):
    spec = m.file("tiny.yaml", TINY)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        m.run("init", spec, "--seed", seed, "-o", name)
    a, b, c = ((m.directory / name).read_bytes() for name in "abc")
    assert a == b and a != c
    (size,) = struct.unpack_from("<Q", a)
    header = json.loads(a[8 : 8 + size])
    assert header["embed.weight"]["shape"] == [256, 32] and "blocks.1.router.weight" in header


def test_a_failed_write_leaves_nothing(m):
    spec, weights = tiny(m)
    tokens = m.file("t.txt", TOKENS)
    before = m.left()
    assert "cannot create" in m.error("init", spec, "-o", "no/such/directory/w")
    assert "/dev/full: error: cannot write: disk is full" in m.error("init", spec, "-o", "/dev/full")
    assert "cannot write" in m.error("init", spec, "-o", "new", largest_file=8192)
    assert "cannot write" in m.error("logits", spec, "-w", weights, "--tokens", tokens, "-o", "new", largest_file=2048)
    assert "cannot create" in m.error("logits", spec, "-w", weights, "--tokens", tokens, "-o", "no/such/directory/x")
    assert m.left() == before


def test_an_interrupted_command_leaves_nothing(m):
    spec = m.file("large.yaml", TINY.replace("vocab_size: 256", "vocab_size: 1000000"))
    before = m.left()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGBUS):
        process = subprocess.Popen([m.program, "init", spec, "-o", "w"], cwd=m.directory, stderr=subprocess.PIPE)
        while m.left() == before and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(number)
        said = process.communicate()[1]
        assert process.returncode in (-number, 0), number
        assert (b"became shorter" in said) == (process.returncode == -signal.SIGBUS), said
        (m.directory / "w").unlink(missing_ok=True)  # it may have been faster
        assert m.left() == before, (number, m.left())


# ------------------------------------------------------------------------------------------------ logits


def test_logits_are_the_same_bits_however_they_are_made(m):
    spec, weights = tiny(m)
    tokens = m.file("t.txt", TOKENS)
    common = ["logits", spec, "-w", weights, "--tokens", tokens, "-o", "x.npy"]
    m.run(*common, "--reference", 32)
    rows, wanted = m.npy("x.npy")
    assert len(rows) == 12 and len(rows[0]) == 256 and all(map(math.isfinite, sum(rows, ())))
    for options in ([], ["--mode", "decode"], ["--chunk", 5], ["--threads", 1], ["--threads", 2, "--chunk", 1], ["--chunk", 100000],
                    ["--isa", "avx2"]):
        m.run(*common, *options)
        assert m.npy("x.npy")[1] == wanted, f"{options} gives other bits than the reference"
    m.run(*common, "--reference", 64)
    exact, _ = m.npy("x.npy")
    m.run(*common, *(f"--no-{name}" for name in PASSES))
    plain, _ = m.npy("x.npy")
    size = math.sqrt(sum(v * v for row in exact for v in row) / (12 * 256))
    for found in (rows, plain):
        assert max(abs(a - b) for x, y in zip(found, exact) for a, b in zip(x, y)) < 2e-4 * size


def test_logits_reads_tokens_from_standard_input_and_reports_json(m):
    spec, weights = tiny(m)
    report = m.json("logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--json", stdin=b"1 2 3")
    assert report["tokens"] == 3 and report["vocab_size"] == 256 and len(m.npy("x.npy")[0]) == 3
    report = m.json("logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--json", "--reference", "64", stdin=b"1 2 3")
    assert report["min_gap"] > 0 and report["reference"] == 64
    done = m.run("logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--reference", "32", stdin=b"1 2 3")
    assert "smallest gap" in done.stderr and not done.stdout


def test_a_sequence_ends_at_max_positions_in_every_mode(m):
    spec, weights = tiny(m)
    common = ["logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--set", "max_positions=5"]
    bounded = ["--set", "stack[2].attention.window=none"]
    for options in ([], ["--mode", "decode"], ["--chunk", 3], ["--reference", 32], ["--reference", 64]):
        m.run(*common, *options, *bounded, stdin=b"1 2 3 4 5")
        assert "max_positions" in m.error(*common, *options, *bounded, stdin=b"1 2 3 4 5 6"), options
        m.run(*common, *options, stdin=b"1 2 3 4 5 6")  # a window forgets, and has no bound


def test_bad_tokens_are_reported_with_their_place(m):
    spec, weights = tiny(m)
    common = ["logits", spec, "-w", weights, "--tokens"]
    before = m.left()
    for content, text in ((b"1 2\n3 x4", "-:2:3: error: expected a token id"), (b"1,\n256", "-:2:1: error: token id is out of range"),
                          (b"-1", "-:1:1: error: expected a token id"), (b"99999999999999999999999", "out of range"),
                          (b" \n,", "file has no token ids"), (b"1.5", "expected a token id")):
        assert text in m.error(*common, "-", "-o", "x.npy", stdin=content), content
    assert "missing.txt: error: cannot open" in m.error(*common, "missing.txt", "-o", "x.npy")
    assert m.left() == before


def test_bad_weights_are_an_error_of_every_command_that_loads_them(m):
    spec, weights = tiny(m)
    good = (m.directory / weights).read_bytes()
    m.file("t.txt", TOKENS)
    other = m.file("other.yaml", TINY.replace("vocab_size: 256", "vocab_size: 128"))
    bad = [m.file("empty", b""), m.file("garbage", b"\xff" * 500), m.file("short", good[:-100]), m.file("head", good[:100]), "missing"]
    for name in bad:
        for command in (["run", "--prompt", "a"], ["eval", "--text", "t.txt"], ["bench"], ["logits", "--tokens", "t.txt", "-o", "x"],
                        ["logits", "--tokens", "t.txt", "-o", "x", "--reference", "32"]):
            assert f"{name}" in m.error(*command, spec, "-w", name), (command, name)
    text = m.error("run", other, "-w", weights, "--prompt", "a")
    assert "embed.weight" in text and "[128, 32]" in text, text
    twice = m.error("run", spec, "-w", weights, "-w", weights, "--prompt", "a")
    assert "'blocks.0.A_log'" in twice and twice.count("w.safetensors") > 20, twice
    assert "x" not in m.left()


def test_a_router_that_overflows_is_an_error_of_the_run(m):
    spec, weights = tiny(m)
    data = bytearray((m.directory / weights).read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    begin, end = json.loads(data[8 : 8 + size])["blocks.1.router.weight"]["data_offsets"]
    data[8 + size + begin : 8 + size + end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
    weights = m.file("huge", bytes(data))
    m.file("t.txt", TOKENS)
    for options in ([], ["--mode", "decode"], ["--reference", "32"]):
        text = m.error("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy", *options)
        assert "block 1" in text and "position 0" in text, text
    assert "block 1" in m.error("run", spec, "-w", weights, "--prompt", "a", "--no-echo")
    assert "x.npy" not in m.left()


# ------------------------------------------------------------------------------------------------ eval


def nats(row, token):
    top = max(row)
    return top + math.log(sum(math.exp(v - top) for v in row)) - row[token]


def test_eval_agrees_with_logits(m):
    spec, weights = tiny(m)
    text = "Hello, world. " * 50
    tokens = list(text.encode())
    m.file("text.txt", text)
    m.file("t.txt", " ".join(map(str, tokens)))
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
    rows, _ = m.npy("x.npy")
    wanted = sum(nats(rows[i], tokens[i + 1]) for i in range(len(tokens) - 1))
    report = m.json("eval", spec, "-w", weights, "--text", "text.txt", "--json")
    assert report["tokens"] == report["bytes"] == len(tokens) and report["scored_tokens"] == report["scored_bytes"] == len(tokens) - 1
    assert math.isclose(report["nats_per_token"], wanted / (len(tokens) - 1), rel_tol=1e-9)
    assert math.isclose(report["bits_per_byte"], wanted / math.log(2) / (len(tokens) - 1), rel_tol=1e-9)
    assert math.isclose(report["perplexity"], math.exp(report["nats_per_token"]), rel_tol=1e-9)
    assert m.json("eval", spec, "-w", weights, "--text", "text.txt", "--json", "--chunk", 7, "--threads", 2) == report
    assert m.json("eval", spec, "-w", weights, "--text", "-", "--json", stdin=text.encode()) == report
    assert "bits per byte" in m.out("eval", spec, "-w", weights, "--text", "text.txt")


def test_eval_scores_the_first_token_after_bos(m):
    spec, weights = tiny(m)
    m.file("t.txt", "0 72 105")
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
    rows, _ = m.npy("x.npy")
    report = m.json("eval", spec, "-w", weights, "--text", "-", "--json", "--set", "tokenizer={bos: 0}", stdin=b"Hi")
    assert report["scored_tokens"] == report["tokens"] == 2
    assert math.isclose(report["nats_per_token"], (nats(rows[0], 72) + nats(rows[1], 105)) / 2, rel_tol=1e-9)


def test_eval_needs_something_to_score(m):
    spec, weights = tiny(m)
    for text in (b"", b"a"):
        assert "error: " in m.error("eval", spec, "-w", weights, "--text", "-", stdin=text)
    m.run("eval", spec, "-w", weights, "--text", "-", "--set", "tokenizer={bos: 0}", stdin=b"a")
    assert "error: cannot open" in m.error("eval", spec, "-w", weights, "--text", "missing.txt")


def test_text_outside_the_vocabulary_is_an_error(m):
    spec = m.file("small.yaml", TINY.replace("vocab_size: 256", "vocab_size: 100"))
    m.run("init", spec, "--seed", 1, "-o", "w")
    assert "error: " in m.error("eval", spec, "-w", "w", "--text", "-", stdin=b"Hello")
    assert "error: " in m.error("run", spec, "-w", "w", "--prompt", "Hello")


# ------------------------------------------------------------------------------------------------ run


def test_run_is_the_same_for_the_same_seed(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "20"]
    first = m.run(*common, "--seed", 3)
    assert first.stdout.startswith(b"Hello") and len(first.stdout) == 25
    assert "time to first token" in first.stderr and "tokens/s" in first.stderr, first.stderr
    assert m.run(*common, "--seed", 3, "--threads", 2, "--chunk", 2).stdout == first.stdout
    assert m.run(*common, "--seed", 4).stdout != first.stdout
    assert m.run(*common, "--seed", 3, "--no-echo").stdout == first.stdout[5:]
    assert m.run(*common, "-n", "0").stdout == b"Hello"
    assert m.json(*common, "-n", "0", "--json")["tokens"] == []
    m.file("prompt.txt", "Hello")
    assert m.run("run", spec, "-w", weights, "--prompt-file", "prompt.txt", "-n", "20", "--seed", 3).stdout == first.stdout
    assert m.run("run", spec, "-w", weights, "--prompt-file", "-", "-n", "20", "--seed", 3, stdin=b"Hello").stdout == first.stdout


def test_greedy_run_takes_the_largest_logit(m):
    spec, weights = tiny(m)
    report = m.json("run", spec, "-w", weights, "--prompt", "Hello", "-n", "6", "--temp", "0", "--json")
    tokens = list(b"Hello") + report["tokens"]
    assert report["generated_tokens"] == len(report["tokens"]) == 6 and report["prompt_tokens"] == 5 and report["stopped_by"] == "length"
    m.file("t.txt", " ".join(map(str, tokens)))
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
    rows, _ = m.npy("x.npy")
    assert [max(range(256), key=rows[i].__getitem__) for i in range(4, 10)] == report["tokens"]


def test_run_json_is_valid_whatever_bytes_come(m):
    spec, weights = tiny(m)
    report = m.json("run", spec, "-w", weights, "--prompt", "é", "-n", "200", "--temp", "2", "--top-k", "0", "--top-p", "1", "--json")
    assert bytes(report["tokens"]).decode(errors="replace") == report["text"] or len(report["tokens"]) == 200
    for key in ("time_to_first_token_ms", "prefill_tok_s", "decode_tok_s", "compile_ms", "load_ms"):
        assert report[key] >= 0, key


def test_run_stops_at_eos(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "6", "--temp", "0", "--json"]
    tokens = m.json(*common)["tokens"]
    report = m.json(*common, "--set", f"tokenizer={{eos: {tokens[3]}}}")
    assert report["stopped_by"] == "eos" and report["tokens"] == tokens[: tokens.index(tokens[3])], (report, tokens)
    ends = sorted({(tokens[3] + 1) % 256, tokens[4], tokens[3]})
    several = m.json(*common, "--set", f"tokenizer={{eos: {ends}}}")
    first = min(i for i, t in enumerate(tokens) if t in ends)
    assert several["stopped_by"] == "eos" and several["tokens"] == tokens[:first], (several, tokens)


def test_run_stops_at_ids_and_texts(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "--temp", "0", "--json"]
    plain = m.json(*common, "-n", "12")
    tokens = plain["tokens"]
    report = m.json(*common, "-n", "12", "--stop-id", tokens[3])
    assert report["stopped_by"] == "eos" and report["tokens"] == tokens[: tokens.index(tokens[3])], (report, tokens)
    stop = bytes(tokens[2:4]).decode("latin-1")
    if all(token < 128 for token in tokens[2:4]) and "\0" not in stop:
        report = m.json(*common, "-n", "12", "--stop", stop, "--stop", "never this")
        assert report["stopped_by"] == "stop" and report["text"] == plain["text"].split(stop)[0], (report, plain)
    m.error(*common, "--stop", "")
    assert "'x'" in m.error(*common, "--stop-id", "x") and "outside the vocabulary" in m.error(*common, "--stop-id", "256")


def test_run_goes_on_to_the_end_of_positions(m):
    spec, weights = tiny(m)
    bounded = ["--set", "stack[2].attention.window=none", "--set", "max_positions=40"]
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "-1", "--temp", "0", "--json", *bounded]
    report = m.json(*common)
    assert report["stopped_by"] == "positions" and report["generated_tokens"] == 36, report
    eos = report["tokens"][0]
    assert m.json(*common, "--set", f"tokenizer={{eos: {eos}}}")["generated_tokens"] == 0
    ignoring = m.json(*common, "--set", f"tokenizer={{eos: {eos}}}", "--ignore-eos")
    assert ignoring["generated_tokens"] == 36 and eos not in ignoring["tokens"], ignoring


def test_run_picks_by_biases_penalties_and_min_p(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "8", "--json"]
    greedy = m.json(*common, "--temp", "0")
    assert m.json(*common, "--temp", "5", "--top-k", "0", "--min-p", "1")["tokens"] == greedy["tokens"]
    assert m.json(*common, "--temp", "0", "--logit-bias", "65=1000")["tokens"] == [65] * 8
    assert m.json(*common, "--temp", "0", "--logit-bias", "65+1000", "--logit-bias", f"65-inf")["tokens"] == greedy["tokens"] or 65 in greedy["tokens"]
    penalised = m.json(*common, "--temp", "0", "--presence-penalty", "1000", "--repeat-last-n", "-1")["tokens"]
    assert len(set(penalised)) == 8 and not set(penalised) & set(b"Hello"), penalised
    assert m.json(*common, "--temp", "0", "--presence-penalty", "1000", "--repeat-last-n", "0")["tokens"] == greedy["tokens"]
    assert "'65'" in m.error(*common, "--logit-bias", "65")
    told = m.json(*common, "--temp", "0", "--logprobs", "2")
    assert [item["token"] for item in told["logprobs"]] == greedy["tokens"] == [item["top"][0]["token"] for item in told["logprobs"]]
    assert all(len(item["top"]) == 2 and item["logprob"] <= 0 and item["top"][0]["logprob"] >= item["top"][1]["logprob"] for item in told["logprobs"])
    m.error("run", spec, "-w", weights, "--prompt", "a", "--logprobs", "2", status=2)


def test_run_heeds_the_model_s_generation_yaml(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "8", "--json"]
    greedy = m.json(*common, "--temp", "0")["tokens"]
    m.file("generation.yaml", f"temperature: 0\nstop: [{greedy[4]}]\nother: 1\n")
    done = m.run(*common)
    report = json.loads(done.stdout)
    assert report["tokens"] == greedy[: greedy.index(greedy[4])] and report["stopped_by"] == "eos", report
    assert "unknown key 'other'" in done.stderr, done.stderr
    m.file("generation.yaml", "top_p: many\n")
    assert "'top_p': expected a number from 0 to 1" in m.error(*common)


def test_run_stops_where_positions_end(m):
    spec, weights = tiny(m)
    bounded = ["--set", "stack[2].attention.window=none", "--set", "max_positions=8"]
    report = m.json("run", spec, "-w", weights, "--prompt", "Hello", "-n", "50", "--json", *bounded)
    assert report["stopped_by"] == "positions" and report["generated_tokens"] == 4, report
    assert "error: " in m.error("run", spec, "-w", weights, "--prompt", "Hello, world", *bounded)


def test_run_needs_a_prompt_or_bos(m):
    spec, weights = tiny(m)
    assert "bos" in m.error("run", spec, "-w", weights, "--prompt", "")
    assert len(m.run("run", spec, "-w", weights, "--prompt", "", "-n", "3", "--set", "tokenizer={bos: 0}").stdout) == 3


# ------------------------------------------------------------------------------------------------ bench


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
