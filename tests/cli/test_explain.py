"""mossc explain and mossc limits: sums, agreement with mossc check, tables that fit, what is refused. Standard library only.

    python3 tests/cli/test_explain.py --mossc build/release/mossc [NAME…]
"""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, run_tests  # noqa: E402

SPECS = sorted((pathlib.Path(__file__).resolve().parents[2] / "specs").glob("*.yaml"))
COSTS = ["flops", "exps", "weight_bytes", "state_bytes", "activation_bytes"]
TIMES = ["seconds", "waiting_seconds", "bound_seconds"]
BINDINGS = {"reading", "arithmetic", "waiting", "size"}
WIDTH = 120


def close(a, b):
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def check_sums(step, keys):
    for key in keys:
        for part in step["parts"]:
            assert close(part[key], sum(line[key] for line in part["lines"])), (key, part)
        assert close(step["total"][key], sum(part[key] for part in step["parts"])), key


def test_lines_add_up_to_parts_and_parts_to_the_step(m):
    for spec in SPECS:
        result = m.json("explain", spec, "--json")
        for step in (result["token"], result["prompt"]):
            check_sums(step, COSTS + ["phases"])
            assert all(sum(line["phases"] for line in part["lines"]) == part["phases"] for part in step["parts"])
        assert result["token"]["rows"] == 1 and result["prompt"]["rows"] == 512


# A one-row step computes a norm again in every linear layer behind it: a little more than the graph asks for.
def test_flops_of_a_token_are_those_of_check(m):
    for spec in SPECS:
        expected = m.json("check", spec, "--json")
        token = m.json("explain", spec, "--json")["token"]
        assert token["position"] == expected["position"] == 1023
        assert expected["flops_per_token"] <= token["total"]["flops"] <= 1.02 * expected["flops_per_token"], spec
        assert sum(part["blocks"] for part in token["parts"]) == expected["n_blocks"], spec


def test_equal_blocks_are_one_part(m):
    spec = m.file("tiny.yaml", TINY.replace("stack:\n", "stack:\n  - repeat: 3\n    blocks: [{ssm: {}}]\n  - ssm: {}\n"))
    parts = [part for part in m.json("explain", spec, "--json")["token"]["parts"] if part["blocks"]]
    assert [(part["name"], part["blocks"]) for part in parts] == [("ssm", 4), ("ssm", 1), ("mlp", 1), ("attention", 1)]
    assert parts[0]["spec_lines"] == [8, 9] and parts[1]["about"] == "4 experts, top 2, outputs"
    assert all(line["phases"] == 4 for line in parts[0]["lines"])


def test_more_rows_choose_more_experts(m):
    spec = m.file("tiny.yaml", TINY)

    def weights(rows):
        return m.json("explain", spec, "--json", "--rows", rows)["prompt"]["total"]["weight_bytes"]

    assert weights(2) < weights(4) < weights(400) < weights(500) < 1.05 * weights(400)  # all experts; the rest are rows of the embedding


def test_attention_costs_more_at_later_positions(m):
    spec = m.file("tiny.yaml", TINY.replace("window: 8", "rope: none").replace("d_model: 32\n", "d_model: 32\nmax_positions: 4096\n"))
    tokens = [m.json("explain", spec, "--json", "--position", position)["token"]["total"] for position in (10, 1000)]
    assert tokens[0]["flops"] < tokens[1]["flops"] and tokens[0]["state_bytes"] < tokens[1]["state_bytes"]
    assert tokens[0]["weight_bytes"] == tokens[1]["weight_bytes"]


def test_times_add_up_and_say_what_binds(m):
    spec = m.file("tiny.yaml", TINY)
    result = m.json("explain", spec, "--measure", "--json", "--repeat", 1, "--rows", 40, "--threads", 2)
    assert result["threads"] == 2
    for step in (result["token"], result["prompt"]):
        check_sums(step, TIMES + ["share"])
        total = step["total"]
        assert close(total["share"], 1) and 0 < total["seconds"] and 0 < total["bound_seconds"]
        assert total["seconds"] <= 1.001 * step["profiled_step_seconds"] and step["step_seconds"] > 0 and 0 <= step["others"] <= 1
        assert all(value > 0 for value in step["limits"].values())
        for line in (line for part in step["parts"] for line in part["lines"]):
            assert line["binding"] in BINDINGS and line["words"] and line["waiting_seconds"] <= line["seconds"], line


def test_one_worker_never_waits_for_another(m):
    spec = m.file("tiny.yaml", TINY)
    result = m.json("explain", spec, "--measure", "--json", "--repeat", 1, "--rows", 20, "--threads", 1)
    for step in (result["token"], result["prompt"]):
        assert step["total"]["waiting_seconds"] < 0.5 * step["total"]["seconds"]
        assert not any(line["binding"] == "waiting" for part in step["parts"] for line in part["lines"])


def test_measuring_works_at_the_last_position(m):
    spec = m.file("tiny.yaml", TINY.replace("window: 8", "rope: none").replace("d_model: 32\n", "d_model: 32\nmax_positions: 24\n"))
    result = m.json("explain", spec, "--measure", "--json", "--repeat", 1)
    assert result["token"]["position"] == 23 and result["prompt"]["rows"] == 24


def test_tables_fit_the_terminal(m):
    texts = [m.out("explain", spec) for spec in SPECS]
    texts.append(m.out("explain", m.file("tiny.yaml", TINY), "--measure", "--repeat", 1, "--rows", 20))
    for text in texts:
        assert all(len(line) <= WIDTH and line == line.rstrip() for line in text.splitlines()), text
    assert "bottleneck" in texts[-1] and "bottleneck" not in texts[0]


def test_mistakes_say_what_is_wrong(m):
    spec = m.file("tiny.yaml", TINY.replace("window: 8", "rope: none").replace("d_model: 32\n", "d_model: 32\nmax_positions: 64\n"))
    for arguments, status, message in (
        (["--rows", 65], 1, "--rows 65 is past the most tokens of a step of this model, 64"),
        (["--rows", 1], 2, "from 2 to 512"),
        (["--position", 64], 1, "--position 64 is past max_positions - 1 of this model, 63"),
        (["-w", "w.safetensors"], 2, "-w requires --measure"),
        (["--measure", "-w", "none.safetensors"], 1, "none.safetensors"),
        (["--device", "raspberry-pi-5", "--fast"], 1, "--fast needs sums of bfloat16 products"),
    ):
        error = m.error("explain", spec, *arguments, status=status)
        assert message in error, error
    m.run("explain", spec, "--device", "graviton3", "--fast", "--set", "weights.dtype=bf16")


def test_limits_are_measured(m):
    one = m.json("limits", "--json", "--repeat", 1, "--threads", 1)
    assert one["threads"] == 1 and one["vector_lanes"] in (4, 8, 16) and "stream" in one["read_pattern"]
    for key in ("read_gb_s", "panel_gflop_s", "fma_gflop_s", "exp_g_s"):
        assert 0 < one[key]["min"] <= one[key]["median"] <= one[key]["max"], one
    assert "panel kernel" in m.out("limits", "--repeat", 1)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
