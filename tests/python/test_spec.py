"""mossc.Spec: what it says is what `mossc check` says."""
import json
import sys

from common import ROOT, SPEC, TINY, WRONG, raises, run_tests

import mossc


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
