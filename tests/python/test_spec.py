"""mossc.Spec: what it says is what `mossc check` says."""
import copy
import json
import pickle
import subprocess
import sys

from common import ROOT, SPEC, TINY, WRONG, raises, run_tests

import numpy as np

sys.path.insert(0, str(ROOT / "tests/reference"))
from harness import read_safetensors  # noqa: E402
from quant import quantise_q8  # noqa: E402

import mossc  # noqa: E402
from mossc._c import check, ffi, lib  # noqa: E402
from mossc.rounding import round_weights  # noqa: E402


def test_a_spec_says_what_check_says(m):
    spec, checked = mossc.Spec(SPEC), m.json("check", SPEC, "--json")
    cost = spec.cost()
    assert (spec.name, spec.vocab_size, spec.d_model) == (checked["name"], checked["vocab_size"], checked["d_model"])
    for mine, theirs in (("parameters", "parameters"), ("active_parameters", "active_parameters"), ("weight_bytes", "weight_bytes"),
                         ("state_bytes", "state_bytes"), ("flops", "flops_per_token"), ("token_bytes", "bytes_per_token")):
        assert getattr(cost, mine) == checked[theirs], (mine, cost, checked)
    assert [block.kind for block in spec.blocks] == [block["kind"] for block in checked["blocks"]]
    assert sum(spec.block_cost(i).flops for i in range(-1, len(spec.blocks))) == cost.flops


def test_what_is_resolved_is_the_same_spec(m):
    for path in sorted((ROOT / "specs").glob("*.yaml")):
        spec = mossc.Spec(path)
        for again in (mossc.Spec(spec.resolved), mossc.Spec(spec.yaml()), mossc.Spec(spec.yaml().encode().decode())):
            assert again == spec and again.hash == spec.hash, path


def test_sets_override_values(m):
    spec = mossc.Spec(TINY, set={"d_model": 64})
    other = spec.set({"stack[1].mlp.d_ff": 80, "weights.dtype": "bf16"})
    assert spec.d_model == 64 and other.d_model == 64
    assert other.resolved["stack"][1]["mlp"]["d_ff"] == 80 and other.resolved["weights"]["dtype"] == "bf16"
    assert spec.resolved["stack"][1]["mlp"]["d_ff"] == 48
    assert spec.set(d_model=32) == mossc.Spec(TINY)


def test_numbers_of_numpy_are_numbers(m):
    plain = mossc.Spec(TINY, set={"d_model": 64, "norm.eps": 0.5, "tie_embeddings": True})
    assert mossc.Spec(TINY, set={"d_model": np.int64(64), "norm.eps": np.float32(0.5), "tie_embeddings": np.bool_(True)}) == plain
    resolved = plain.resolved
    resolved["d_model"] = np.int32(64)
    assert mossc.Spec(resolved) == plain
    for wrong in (np.arange(2), object(), [{1}]):
        assert "expected a text, a number" in str(raises(TypeError, mossc.Spec, TINY, set={"d_model": wrong}))
    assert "set: expected texts without NUL" in str(raises(ValueError, mossc.Spec, TINY, set={"name": "a\0b"}))


def test_none_is_the_word_of_the_language(m):
    spec = mossc.Spec(TINY, set={"stack[1].mlp.experts": None})
    assert spec == mossc.Spec(TINY, set={"stack[1].mlp.experts": "none"}) != mossc.Spec(TINY)
    entry = {"mlp": {"d_ff": 48, "experts": None, "out_norm": None}}
    values = {"mossc": 1, "name": "null", "vocab_size": 256, "d_model": 32, "tokenizer": {"bos": None}, "stack": [entry]}
    assert mossc.Spec(values).name == "null" and mossc.Spec(values).blocks[0].experts == 0
    assert mossc.Spec(values, set={"stack": [entry]}) == mossc.Spec(values)


def test_specs_are_pickled(m):
    m.file("tiny.yaml", TINY)
    for spec in (mossc.Spec(TINY, set={"d_model": 64}), mossc.Spec(m.directory / "tiny.yaml", set={"d_model": 64})):
        for again in (pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec)):
            assert again == spec and again.d_model == 64 and again.path == spec.path and again.yaml() == spec.yaml()


def test_the_package_runs_the_program(m):
    run = lambda *arguments: subprocess.run([sys.executable, "-m", "mossc", *arguments], env={**m.environment(), "MOSSC_PROGRAM": m.program}, capture_output=True)
    assert run("--version").stdout == m.run("--version").stdout != b""
    m.file("wrong.yaml", WRONG)
    done = run("check", str(m.directory / "wrong.yaml"))
    assert done.returncode == 1 and b"d_ff" in done.stderr


def test_tensors_are_those_of_a_fresh_checkpoint(m):
    spec = mossc.Spec(TINY, set={"weights.dtype": "bf16"})
    spec.write_fresh(m.directory / "fresh.safetensors", seed=3)
    header, data = read_safetensors(m.directory / "fresh.safetensors")
    header.pop("__metadata__", None)
    assert {t.name: t.shape for t in spec.tensors} == {name: tuple(entry["shape"]) for name, entry in header.items()}
    assert {t.name for t in spec.tensors if t.dtype == "bf16"} >= {"embed.weight", "blocks.0.in_proj.weight"}
    m.run("init", m.file("tiny.yaml", TINY), "--seed", 3, "-o", "again.safetensors", "--set", "weights.dtype=bf16")
    assert data == read_safetensors(m.directory / "again.safetensors")[1]


def test_weights_are_rounded_as_loading_rounds_them(m):
    w = np.random.default_rng(1).standard_normal((3, 70)).astype(np.float32)
    q, d, zero = round_weights("q8", w)
    parts = quantise_q8(w)
    assert (q == parts["q8"]).all() and (d == parts["d"].astype(np.float32)).all() and not zero.any()
    q, d, shift = round_weights("q4", w)
    of_group = lambda v: np.repeat(v, 32, 1)[:, :70]
    assert q.min() >= 0 and q.max() <= 15 and np.abs(of_group(d) * q - of_group(shift) - w).max() < 0.2
    w[1, 5] = np.inf
    assert raises(mossc.MosscError, round_weights, "q4", w).code == "bad_weights"
    assert raises(mossc.MosscError, round_weights, "f16", w).code == "bad_input"
    none, most = ffi.NULL, 2**63 - 1
    for dtype, rows, K in ((none, 1, 32), (b"q8", 1, most), (b"q4", most, 1), (b"q4", 2**40, 2**40), (b"q8", 2**31, 2**30), (b"q8", -1, 32)):
        round_it = lambda: check(lib.mossc_round_weights(dtype, none, rows, K, none, none, none))
        assert raises(mossc.MosscError, round_it).code == "bad_input", (dtype, rows, K)


def test_errors_have_line_column_and_hint(m):
    m.file("wrong.yaml", WRONG)
    [message] = m.json("check", "wrong.yaml", "--json", status=1)["messages"]
    error = raises(mossc.MosscError, mossc.Spec, m.directory / "wrong.yaml")
    assert (error.code, error.line, error.column) == ("bad_spec", message["line"], message["column"]), error
    assert error.hint == message.get("hint", "") and error.path == str(m.directory / "wrong.yaml")
    assert error.messages[0].code == message["code"] and error.messages[0].message == message["message"]
    assert f"wrong.yaml:{error.line}:{error.column}: " in str(error)
    assert raises(mossc.MosscError, mossc.Spec, json.loads('{"mossc": 1}'), name="a dict").path == "a dict"
    assert "no_such.yaml" in str(raises(mossc.MosscError, mossc.Spec, "no_such.yaml"))


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
