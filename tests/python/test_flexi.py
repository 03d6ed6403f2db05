"""mossc.flexi: distances and matchings held to those of trying everything, identical blocks, growing, reports, commands that are killed."""
import contextlib
import io
import itertools
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import numpy as np
from common import raises, run_tests

import mossc
from mossc.flexi import __main__ as flexi
from mossc.flexi import checkpoint, extend, lowrank, matching, prune, share, stack

# Three blocks of each of two kinds, with experts in both.
SPEC = """\
mossc: 1
name: small
vocab_size: 256
d_model: 16
defaults: {router: {top_k: 2}}
stack:
  - repeat: 3
    blocks:
      - ssm: {d_inner: 16, d_state: 2, dt_rank: 2, experts: {count: 3, per_expert: [x_proj, dt_proj, A, D]}}
      - mlp: {d_ff: 16, experts: {count: 3}}
"""
TEXT = b"It was a dark evening, and the lamps were lit. " * 12


class Small:
    """The model of SPEC in a scratch directory, whose tensors may be changed."""

    def __init__(self, m, seed=1):
        self.m = m
        m.file("small.yaml", SPEC)
        m.file("text", TEXT)
        m.run("init", "small.yaml", "-o", "w", "--seed", str(seed))
        self.tensors = {name: stored.floats() for name, stored in checkpoint.Checkpoint([m.directory / "w"]).tensors.items()}

    def copy(self, of, to, parts=()):
        """Gives block `to` the tensors of block `of`, or some of them."""
        for name in [name for name in self.tensors if name.startswith(f"blocks.{of}.")]:
            part = name.split(".", 2)[2]
            if not parts or part in parts:
                self.tensors[f"blocks.{to}.{part}"] = self.tensors[name].copy()

    def asked(self, kind, **options):
        checkpoint.write(self.m.directory / "w", {name: checkpoint.store(values) for name, values in self.tensors.items()})
        at = self.m.directory
        return kind(spec=str(at / "small.yaml"), weights=[str(at / "w")], text=at / "text", **{"output": at / "out", "rank": 2, **options})

    def logits(self, directory="out"):
        """(of the model itself, of the one that was made)"""
        at, tokens = self.m.directory, np.arange(40) % 251
        made = mossc.Model(at / directory / "spec.yaml", at / directory / "model.safetensors").logits(tokens)
        return mossc.Model(at / "small.yaml", at / "w").logits(tokens), made


# ---- the parts

def test_the_matching_is_the_cheapest_of_all(m):
    random = np.random.default_rng(1)
    for trial in range(60):
        n = 1 + trial % 6
        cost = random.integers(0, 5, (n, n)).astype(float) if trial % 2 else random.normal(size=(n, n))
        order = matching.assign(cost)
        least = min(sum(cost[i, p[i]] for i in range(n)) for p in itertools.permutations(range(n)))
        assert sorted(order) == list(range(n)) and np.isclose(cost[np.arange(n), order].sum(), least), (cost, order, least)


def test_a_matching_of_runs_keeps_them_together(m):
    random = np.random.default_rng(2)
    for _ in range(10):
        cost = random.normal(size=(6, 6))
        order = matching.assign_in_runs(cost, 3)
        allowed = [p for p in itertools.permutations(range(6)) if all(p[i] // 2 == p[i + 1] // 2 for i in (0, 2, 4))]
        assert tuple(order) in allowed
        assert np.isclose(cost[np.arange(6), order].sum(), min(sum(cost[i, p[i]] for i in range(6)) for p in allowed))


def test_what_is_left_is_what_the_factors_miss(m):
    random = np.random.default_rng(3)
    for shape in ((7, 5), (2, 4, 9), (3, 3)):
        x = random.normal(size=shape)
        for rank in (0, 1, 2, 4, 12):
            left = lowrank.left_over(x, rank)
            s = np.linalg.svd(x, compute_uv=False)
            assert left.shape == shape[:-2] and np.allclose(left, (s[..., rank:] ** 2).sum(-1), atol=1e-12)
            a, b = lowrank.factors(x, max(rank, 1))
            assert a.shape[-2:] == (max(rank, 1), shape[-1]) and np.allclose(((x - b @ a) ** 2).sum((-2, -1)), lowrank.left_over(x, max(rank, 1)), atol=1e-5)


def test_numbers_survive_their_dtypes(m):
    values = np.float32([[1.0, -2.5, 1 + 2**-8, 1 + 3 * 2**-8], [0.0, 3e-3, 1e4, -7]])
    for dtype, step in (("F32", 0), ("BF16", 2**-8), ("F16", 2**-11)):
        got = checkpoint.store(values, dtype).floats()
        assert np.abs(got - values).max() <= step * 1e4 and np.all(np.abs(got - values) <= step * np.abs(values)), dtype
    assert np.array_equal(checkpoint.store(values, "BF16").floats()[0, 2:], np.float32([1, 1 + 2**-6]))  # to even


def test_a_stack_knows_what_may_be_shared(m):
    spec = SPEC + "  - parallel: [shortconv, {attention: {n_heads: 2, qkv_bias: true, qk_norm: head}}]\n" \
        "  - {name: first, attention: {n_heads: 2, qkv_bias: true, qk_norm: head, output_scale: 0.5}}\n" \
        "  - mlp: {d_ff: 16, experts: {count: 4, shared: 1, shared_gate: true}, router: {groups: {count: 2, top: 1}}}\n" \
        "  - share: {block: first, out_norm: rms}\n"
    s = stack.Stack(mossc.Spec(spec))
    assert [s.kind(i) for i in (0, 1, 6, 7, 8, 9)] == ["ssm", "mlp", "parallel", "attention", "mlp", "share"]
    assert s.signature(0) == s.signature(4) and s.signature(1) == s.signature(5) != s.signature(8)
    assert [i for i in range(10) if s.is_needed(i)] == [7] and [i for i in range(10) if not s.can_be_shared(i)] == [6, 9]
    assert s.small(0) == ["A", "D", "biases", "conv", "router"] and s.small(1) == ["router"] and s.small(7) == ["biases", "inner_norms"]
    assert list(s.maps(7)) == ["q_proj", "k_proj", "v_proj", "o_proj"] and "shared_up_proj" in s.maps(8) and s.taken(8) == ["shared_gate.weight"]
    assert s.experts(8) == 4 and s.runs_of_experts(8) == 2 and s.experts(7) == 0 and s.runs_of_experts(0) == 1
    assert s.tensors[0]["x_proj.weight"].per_expert and not s.tensors[0]["in_proj.weight"].per_expert
    assert s.name(7) == "first" and s.name(0) == "block-0"
    spread = np.arange(10.0)
    assert share.choose(s, spread, 0.6, drop=True) == [0, 1, 2, 3, 5]
    assert share.choose(s, spread, 0.6, drop=False) == [0, 1, 2, 3]
    assert s.lender(9) == 7
    assert "block 9 is a share of block 7: name that one" in str(raises(mossc.MosscError, extend.check_blocks, s, [9]))
    assert "block 6 is a parallel" in str(raises(mossc.MosscError, extend.check_blocks, s, [6]))


def test_where_no_block_can_go_it_is_said_what_helps(m):
    spec = lambda *sizes: "mossc: 1\nname: s\nvocab_size: 256\nd_model: 16\nstack:\n" + "".join(f"  - mlp: {{d_ff: {n}}}\n" for n in sizes)
    shapes, one = stack.Stack(mossc.Spec(spec(16, 32))), stack.Stack(mossc.Spec(spec(16)))
    told = str(raises(mossc.MosscError, share.choose, shapes, np.arange(2.0), 0.5, drop=False))
    assert "the last of its kind and shape" in told and "--drop" in told, told
    assert share.choose(shapes, np.arange(2.0), 0.5, drop=True) == [0]
    assert "--drop" not in str(raises(mossc.MosscError, share.choose, one, np.arange(1.0), 0.99, drop=False))


# ---- hidden states

def test_hidden_states_lie_between_embedding_and_head(m):
    small = Small(m)
    model, tokens = mossc.Model(m.directory / "small.yaml", m.directory / "w"), np.arange(600) % 251
    hidden, logits = model.hidden(tokens), model.logits(tokens)
    assert hidden.shape == (7, 600, 16) and hidden.dtype == np.float32
    assert np.array_equal(hidden[0], small.tensors["embed.weight"][tokens])
    last = hidden[-1].astype(np.float64)
    normed = last / np.sqrt((last * last).mean(1, keepdims=True) + 1e-5) * small.tensors["final_norm.weight"]
    assert np.abs(normed @ small.tensors["embed.weight"].T - logits).max() < 1e-5
    state = model.state()
    pieces = [model.hidden([token], state) for token in tokens[:5]]
    assert np.array_equal(np.concatenate(pieces, 1), hidden[:, :5])


# ---- pruning

def every_distance(small, block, other, rank):
    """By trying all orders of the experts."""
    parts = ["in_proj", "gate_proj", "out_proj", "x_proj", "dt_proj"] if block % 2 == 0 else ["gate_proj", "up_proj", "down_proj"]
    shared, orders = 0.0, list(itertools.permutations(range(3)))
    costs = np.zeros(len(orders))
    for part in parts:
        ours, theirs = (small.tensors[f"blocks.{i}.{part}.weight"].astype(np.float64) for i in (block, other))
        adapts = rank * sum(ours.shape[-2:]) < ours.shape[-1] * ours.shape[-2]
        left = lambda x: (np.linalg.svd(x, compute_uv=False)[rank if adapts else 0:] ** 2).sum()  # noqa: E731
        if ours.ndim == 2:
            shared += left(ours - theirs)
        else:
            costs += [sum(left(ours[e] - theirs[f]) for f, e in enumerate(p)) for p in orders]
    return shared + costs.min(), list(orders[int(costs.argmin())])


def test_the_nearest_block_is_the_nearest_of_all(m):
    small = Small(m)
    report = prune.prune(small.asked(prune.Prune, rate=0.5))
    influence = report["block_influence"]
    assert len(report["pruned"]) == 3 and len(influence) == 6
    kept = [i for i in range(6) if i not in report["pruned"]]
    assert {i % 2 for i in kept} == {0, 1} and max(influence[i] for i in report["pruned"]) <= max(influence[i] for i in kept)
    for i, by, distance, experts in zip(*(report[key] for key in ("pruned", "replaced_by", "distance", "experts"))):
        found = {j: every_distance(small, i, j, 2) for j in kept if j % 2 == i % 2}
        assert by == min(found, key=lambda j: found[j][0]) and np.isclose(distance, found[by][0], rtol=1e-9), (i, by, found)
        assert experts == found[by][1]


def test_a_report_tells_what_was_done(m):
    report = prune.prune(Small(m).asked(prune.Prune, rate=0.3))
    out = m.directory / "out"
    assert sorted(p.name for p in out.iterdir()) == ["model.safetensors", "report.json", "spec.yaml"]
    assert json.loads((out / "report.json").read_text()) == report
    cost = mossc.Spec(out / "spec.yaml").cost()
    assert report["parameters"]["after"] == cost.parameters < report["parameters"]["before"]
    assert report["bytes"]["after"] == cost.weight_bytes < report["bytes"]["before"]
    assert set(report["bits_per_byte"]) == set(report["speed"]) == {"before", "dropped", "shared", "adapted", "after"}
    scored = m.file("scored", TEXT[len(TEXT) * 4 // 5:])
    for spec, weights, when in (("small.yaml", "w", "before"), (out / "spec.yaml", out / "model.safetensors", "after")):
        bits = json.loads(m.run("eval", spec, "-w", weights, "--text", scored, "--json").stdout)["bits_per_byte"]
        assert np.isclose(bits, report["bits_per_byte"][when], rtol=1e-6), (when, bits, report["bits_per_byte"])


def test_what_is_dropped_leaves_the_rest_as_it_was(m):
    small = Small(m)
    report = prune.prune(small.asked(prune.Prune, rate=0.3, drop=True))
    kept = [i for i in range(6) if i not in report["pruned"]]
    made = checkpoint.Checkpoint([m.directory / "out/model.safetensors"])
    assert len(report["pruned"]) == 2 and report["replaced_by"] == [None, None]
    assert len(mossc.Spec(m.directory / "out/spec.yaml").blocks) == 4
    for new, old in enumerate(kept):
        assert np.array_equal(made.floats(f"blocks.{new}.norm.weight"), small.tensors[f"blocks.{old}.norm.weight"])
    assert set(report["bits_per_byte"]) == {"before", "dropped", "after"}


def test_identical_blocks_change_nothing(m):
    small = Small(m)
    for i in range(2, 6):
        small.copy(i % 2, i)
    report = prune.prune(small.asked(prune.Prune, rate=0.6, out_norm="none"))
    assert len(report["pruned"]) == 4 and report["distance"] == [0.0] * 4
    before, after = small.logits()
    assert np.array_equal(before, after)
    assert np.isclose(report["bits_per_byte"]["before"], report["bits_per_byte"]["after"])


def test_experts_in_another_order_are_found(m):
    small, order = Small(m), [2, 0, 1]
    for i in range(2, 6):
        small.copy(i % 2, i)
        for name, values in small.tensors.items():
            if name.startswith(f"blocks.{i}.") and len(values) == 3:  # experts', and the router's rows
                small.tensors[name] = values[order]
    small.tensors["blocks.4.A_log"] += 0.5
    report = prune.prune(small.asked(prune.Prune, rate=0.3, out_norm="none"))
    assert report["distance"] == [0.0] * 2
    before, after = small.logits()
    assert np.allclose(before, after, atol=1e-5) and not all(e == [0, 1, 2] for e in report["experts"])


def test_the_norm_of_a_share_begins_with_the_size_of_what_was_there(m):
    small = Small(m)
    report = prune.prune(small.asked(prune.Prune, rate=0.2))
    out, tokens = m.directory / "out", list(TEXT[:len(TEXT) * 4 // 5])
    (block,) = report["pruned"]
    sizes = []
    for spec, weights in ((m.directory / "small.yaml", m.directory / "w"), (out / "spec.yaml", out / "model.safetensors")):
        hidden = mossc.Model(spec, weights).hidden(tokens).astype(np.float64)
        sizes.append(((hidden[block + 1] - hidden[block]) ** 2).mean())
    assert np.isclose(*sizes, rtol=1e-2), sizes


def test_words_choose_maps_and_small_tensors(m):
    small = Small(m)
    prune.prune(small.asked(prune.Prune, rate=0.5, targets=("in_proj", "up_proj"), own=("router",), rank=3))
    shares = [entry["share"] for entry in mossc.Spec(m.directory / "out/spec.yaml").resolved["stack"] if "share" in entry]
    assert all(share["adapters"]["rank"] == 3 and share["adapters"]["targets"] in (["in_proj"], ["up_proj"]) for share in shares)
    assert all(share["own"] == ["router"] for share in shares)
    error = raises(mossc.MosscError, prune.prune, small.asked(prune.Prune, rate=0.5, targets=("q_proj",), output=m.directory / "no"))
    assert "--targets: 'q_proj' is none of" in str(error)


# ---- growing

def test_what_is_extended_computes_nearly_the_same(m):
    small = Small(m)
    report = extend.extend(small.asked(extend.Extend, blocks=[2, 3], times=2, start=0.001))
    assert [s["block"] for s in report["stack"]] == [0, 1, 2, 3, 2, 3, 2, 3, 4, 5]
    before, after = small.logits()
    assert np.abs(after - before).max() < 0.01 * np.abs(before).max() and not np.array_equal(before, after)
    assert report["parameters"]["after"] > report["parameters"]["before"]
    assert abs(report["bits_per_byte"]["after"] - report["bits_per_byte"]["before"]) < 0.01
    error = raises(mossc.MosscError, extend.extend, small.asked(extend.Extend, blocks=[6], output=m.directory / "no"))
    assert "block 6 does not exist: the spec has 6" in str(error)


# ---- the commands

def command(m, *arguments):
    """(exit status, standard output, standard error) of the command, in this process."""
    out, error, here = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(m.directory)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = flexi.main(arguments)
    except SystemExit as ended:
        status = ended.code
    finally:
        os.chdir(here)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return status, out.getvalue(), error.getvalue()


def test_columns_of_the_table_stand_below_their_names(m):
    speed, whens = {"prompt_tokens_per_second": 1234.0, "tokens_per_second": 56.7}, ("before", "unrecovered", "recovered", "after")
    report = {"bits_per_byte": dict.fromkeys(whens, 2.5), "speed": dict.fromkeys(whens, speed), "parameters": {"before": 2, "after": 1}, "bytes": {"before": 2, "after": 1}}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        flexi._numbers(report)
    lines = out.getvalue().splitlines()[:4]
    assert "unrecovered" in lines[2] and len({len(line) for line in lines}) == 1, lines


def test_commands_say_what_is_wrong(m):
    Small(m)
    run = ["prune", "small.yaml", "-w", "w", "--text", "text", "-o", "out"]
    cases = [(1, "rate 0.01 of 6 blocks is less than one", [*run, "--rate", "0.01"]),
             (2, "'1.5': expected a number above 0 and below 1", [*run, "--rate", "1.5"]),
             (2, "'abc': expected a number above 0 and below 1", [*run, "--rate", "abc"]),
             (2, "'nan': expected a number at least 0", ["extend", *run[1:], "--blocks", "1", "--start", "nan"]),
             (2, "'-1': expected a number above 0", ["recover", *run[1:], "--lr", "-1"]),
             (2, "the following arguments are required: --rate", run),
             (1, "error: nothing: No such file", [*run[:5], "nothing", *run[6:], "--rate", "0.3"]),
             (1, "weights are needed", ["prune", "small.yaml", "--text", "text", "-o", "out", "--rate", "0.3"]),
             (1, "error: damaged: tensor 'x' has a dtype or a place", [*run[:3], "damaged", *run[4:], "--rate", "0.3"]),
             (1, "w: it exists already", [*run[:-1], "w", "--rate", "0.3"]),
             (1, "no directory", [*run[:-1], "none/out", "--rate", "0.3"]),
             (1, "error: wrong.yaml:5:21: unknown key 'topk'", ["prune", "wrong.yaml", *run[2:], "--rate", "0.3"])]
    checkpoint.write(m.directory / "damaged", {"x": checkpoint.store(np.zeros(3))})
    m.file("damaged", (m.directory / "damaged").read_bytes().replace(b"data_offsets", b"data_0ffsets"))
    m.file("wrong.yaml", SPEC.replace("top_k", "topk").replace("stack:", "stack:\n  - sms"))
    for status, words, arguments in cases:
        done = command(m, *arguments)
        assert done[0] == status and words in done[2], (arguments, done)
    assert not (m.directory / "out").exists()
    done = command(m, *run, "--rate", "0.2", "--rank", "2")
    assert done[0] == 0 and "shares block" in done[1] and "bits per byte" in done[1] and not done[2], done
    done = command(m, *run[:-1], "bare", "--rate", "0.2")
    assert done[0] == 0 and "note: no adapters in the place of" in done[2], done


def test_damaged_headers_are_told(m):
    good = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
    wrong = [[], 3, {"x": 3}, {"x": []}, {"x": {}}] + [{"x": good | change} for change in (
        {"dtype": "F8"}, {"dtype": []}, {"shape": 3}, {"shape": ["3"]}, {"shape": [-3]}, {"shape": [3.0]}, {"shape": [2]}, {"data_offsets": 12},
        {"data_offsets": [0]}, {"data_offsets": [0, "12"]}, {"data_offsets": [-12, 0]}, {"data_offsets": [4, 16]}, {"data_offsets": [12, 0]})]

    def path_of(header):
        return m.directory / m.file("w", len(header).to_bytes(8, "little") + header + bytes(12))

    assert not checkpoint.Checkpoint([path_of(json.dumps({"x": good}).encode())]).floats("x").any()
    for text in [*map(json.dumps, wrong), "{", "[" * 100000]:
        assert raises(mossc.MosscError, checkpoint.Checkpoint, [path_of(text.encode())]).code == "bad_weights", text[:100]


def test_a_full_disk_is_an_error_and_leaves_nothing(m):
    Small(m)
    run = ["prune", "small.yaml", "-w", "w", "--text", "text", "--rate", "0.3", "--drop"]
    assert command(m, *run, "-o", "first")[0] == 0  # its kernels are compiled
    before, limits = sorted(os.listdir(m.directory)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        status, _, said = command(m, *run, "-o", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1 and said.startswith("error: ") and "File too large" in said, (status, said)
    assert sorted(os.listdir(m.directory)) == before


def test_a_model_of_few_positions_is_measured(m):
    m.file("small.yaml", SPEC.replace("d_model: 16", "d_model: 16\nmax_positions: 9") + "  - attention: {n_heads: 2, rope: {}}\n")
    m.file("text", TEXT)
    m.run("init", "small.yaml", "-o", "w")
    at = m.directory
    report = prune.prune(prune.Prune(str(at / "small.yaml"), [str(at / "w")], at / "text", at / "out", 0.3, drop=True))
    assert all(speed["tokens_per_second"] > 0 for speed in report["speed"].values())
    assert 0 < report["bits_per_byte"]["after"] < 16


def test_no_more_of_a_text_is_read_than_is_used(m):
    path = m.directory / m.file("text", TEXT)
    assert prune.read_texts(path, 50, None) == (TEXT[:40], TEXT[40:50]) and prune.read_texts(path, 50, path) == (TEXT[:50], TEXT[:50])
    os.truncate(path, 1 << 40)  # more than memory holds
    assert prune.read_texts(path, 50, path) == (TEXT[:50], TEXT[:50])


def test_killed_half_way_it_leaves_nothing(m):
    """With SIGKILL what no command shows, and the next one removes."""
    Small(m)
    before = sorted(os.listdir(m.directory))
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        process = subprocess.Popen([sys.executable, "-m", "mossc.flexi", "prune", "small.yaml", "-w", "w", "--text", "text", "-o", "out",
                                    "--rate", "0.3", "--progress"], cwd=m.directory, env=m.environment(), stderr=subprocess.PIPE)
        while b"dropped" not in (line := process.stderr.readline()):
            assert line, "it ended too early"
        process.send_signal(number)
        process.stderr.read()
        assert process.wait() == status, process.returncode
        left = set(os.listdir(m.directory)).difference(before)
        assert len(left) == (number == signal.SIGKILL) and all(name.startswith(".out.") for name in left), left


def test_what_a_killed_one_left_is_removed(m):
    small = Small(m)
    left = m.directory / ".out.123.part"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    prune.prune(small.asked(prune.Prune, rate=0.2))
    assert not left.exists() and pathlib.Path(m.directory / "out/report.json").exists()


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
