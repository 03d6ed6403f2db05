"""The command line: exit statuses, help, mistakes; specs checked and weights made. Standard library only.

    python3 tests/cli/test_cli.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import json
import pathlib
import signal
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, TOKENS, WRONG, run_tests, tiny  # noqa: E402

COMMANDS = ["check", "info", "run", "eval", "logits", "bench", "init", "pack", "explain", "limits", "ir", "asm", "schema", "targets"]


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
    spec = m.file("large.yaml", TINY.replace("vocab_size: 256", "vocab_size: 200000"))
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


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
