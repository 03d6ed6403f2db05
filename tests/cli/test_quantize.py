"""mossc quantize: what it writes, what it reports, and what it refuses. Standard library only.

    python3 tests/cli/test_quantize.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import json
import pathlib
import random
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, run_tests  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]

Q4 = TINY.replace("d_model: 32", "d_model: 32\nweights: {dtype: q4}")
TEXT = "".join(random.Random(3).choices("It was a dark evening in November, and the rain fell.\n", k=9000))


def tiny(m, text=Q4):
    """A spec, weights of floats for it, and a text."""
    spec = m.file("tiny.yaml", text)
    m.run("init", spec, "--seed", 7, "-o", "w")
    m.file("text.txt", TEXT)
    return spec


def data(m, name):
    return (m.directory / name).read_bytes()


def header(m, name):
    """The entries of a safetensors file, and where its data begins."""
    content = data(m, name)
    (size,) = struct.unpack_from("<Q", content)
    entries = json.loads(content[8 : 8 + size])
    entries.pop("__metadata__", None)
    return entries, 8 + size


def set_value(m, name, tensor, index, value):
    """Changes element `index` of a float32 tensor."""
    entries, begin = header(m, name)
    content = bytearray(data(m, name))
    assert entries[tensor]["dtype"] == "F32"
    struct.pack_into("<f", content, begin + entries[tensor]["data_offsets"][0] + 4 * index, value)
    m.file(name, bytes(content))


def test_every_part_has_its_type_and_shape(m):
    spec = tiny(m)
    m.run("quantize", spec, "-w", "w", "-o", "out")
    entries, begin = header(m, "out")
    there = {name: (entry["dtype"], entry["shape"]) for name, entry in entries.items()}
    assert there["blocks.1.up_proj.weight.q4"] == ("U8", [4, 48, 16]), there
    assert there["blocks.1.down_proj.weight.q4"] == ("U8", [4, 32, 32])  # 48 inputs: two groups, the second half full
    assert there["blocks.1.down_proj.weight.s"] == there["blocks.1.down_proj.weight.t"] == ("U8", [4, 32, 2])
    assert there["blocks.1.down_proj.weight.d"] == there["blocks.1.down_proj.weight.m"] == ("F16", [4, 32, 1])
    assert there["embed.weight.q8"] == ("I8", [256, 32]) and there["embed.weight.d"] == ("F16", [256, 1])
    assert there["blocks.0.dt_proj.weight"][0] == "BF16" and there["blocks.0.norm.weight"][0] == "F32"
    assert "blocks.1.up_proj.weight" not in there and "embed.weight" not in there
    assert max(entry["data_offsets"][1] for entry in entries.values()) == len(data(m, "out")) - begin


def test_floats_that_are_quantised_when_loaded_are_the_same(m):
    spec = tiny(m)
    m.file("t.txt", "1 2 3 4 5 6 7 8 9")
    m.run("quantize", spec, "-w", "w", "-o", "out")
    m.run("logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "loaded.npy")
    m.run("logits", spec, "-w", "out", "--tokens", "t.txt", "-o", "made.npy")
    assert data(m, "loaded.npy") == data(m, "made.npy")


def test_a_text_calibrates_and_is_scored(m):
    spec = tiny(m)
    plain = m.json("quantize", spec, "-w", "w", "-o", "plain", "--json")
    report = m.json("quantize", spec, "-w", "w", "-o", "out", "--text", "text.txt", "--json")
    assert "scored_tokens" not in plain and "weighted_error" not in plain["classes"][0]
    assert data(m, "plain") != data(m, "out")
    for before, after in zip(plain["classes"], report["classes"]):
        assert (before["tensors"], before["dtype"], before["bytes"]) == (after["tensors"], after["dtype"], after["bytes"])
        if after["dtype"] == "q4":
            assert 0.02 < before["error"] <= after["error"] < 0.15, (before, after)
            assert after["weighted_error"] < after["error"], after
        else:
            assert before["error"] == after["error"] < 0.01
    assert {entry["dtype"] for entry in report["classes"]} == {"q8", "q4"}
    fed = len(TEXT) - len(TEXT) // 5
    assert report["calibrated_tokens"] == fed - 1 and report["scored_tokens"] == report["scored_bytes"] == len(TEXT) // 5 - 1, report
    assert abs(report["bits_per_byte_after"] - report["bits_per_byte_before"]) < 0.05 and 0 < report["kl_nats_per_token"] < 0.05, report
    entries, begin = header(m, "out")
    assert report["bytes_after"] == len(data(m, "out")) - begin
    scored = m.file("scored.txt", TEXT[fed:])
    floats = m.file("floats.yaml", Q4.replace("{dtype: q4}", "{dtype: f32, overrides: {dt_proj: bf16}}"))
    exact = m.json("eval", floats, "-w", "w", "--text", scored, "--json")
    assert abs(exact["bits_per_byte"] - report["bits_per_byte_before"]) < 1e-9
    after = m.json("eval", spec, "-w", "out", "--text", scored, "--json")
    assert abs(after["bits_per_byte"] - report["bits_per_byte_after"]) < 1e-9


def test_trained_weights_lose_little(m):
    model = [ROOT / "specs/moss-tiny.yaml", "-w", ROOT / "models/moss-tiny.safetensors", "--text", ROOT / "docs/language.md", "--json"]
    for dtype, most in (("q8", 0.002), ("q4", 0.02)):
        report = m.json("quantize", *model, "--dtype", dtype, "-o", "out", "--text-bytes", 8192)
        assert report["bits_per_byte_after"] - report["bits_per_byte_before"] < most, report
        assert report["bytes_after"] < report["bytes_before"] * (0.6 if dtype == "q8" else 0.4)


def test_the_file_does_not_depend_on_threads(m):
    spec = tiny(m)
    for threads in (1, 3):
        m.run("quantize", spec, "-w", "w", "-o", f"out{threads}", "--text", "text.txt", "--threads", threads)
    assert data(m, "out1") == data(m, "out3")


def test_another_text_is_scored_whole(m):
    spec = tiny(m)
    other = m.file("other.txt", TEXT[:700])
    report = m.json("quantize", spec, "-w", "w", "-o", "out", "--text", "text.txt", "--text-bytes", 1000, "--eval", other, "--json")
    assert report["calibrated_tokens"] == 999 and report["scored_tokens"] == 699, report


def test_dtype_is_that_of_the_option(m):
    spec = tiny(m, TINY)
    assert "nothing to quantise" in m.error("quantize", spec, "-w", "w", "-o", "out")
    report = m.json("quantize", spec, "-w", "w", "-o", "out", "--dtype", "q8", "--json")
    assert {entry["dtype"] for entry in report["classes"]} == {"q8"}
    assert "mossc help" not in m.error("quantize", spec, "-w", "w", "-o", "out", "--dtype", "q5", status=2)


def test_what_cannot_be_quantised_is_an_error_and_leaves_no_file(m):
    spec = tiny(m)
    for value, words in ((float("nan"), "is NaN: expected finite weights"), (3e9, "row [0, 1]: weights are too large for q4: a scale is out of range for f16")):
        m.run("init", spec, "--seed", 7, "-o", "bad")
        set_value(m, "bad", "blocks.1.up_proj.weight", 40, value)
        before = m.left()
        message = m.error("quantize", spec, "-w", "bad", "-o", "out")
        assert words in message and "blocks.1.up_proj.weight" in message, message
        assert m.left() == before
    m.file("out", "old")
    m.error("quantize", spec, "-w", "bad", "-o", "out")
    assert data(m, "out") == b"old"


def test_wrong_files_are_found_before_the_work(m):
    spec = tiny(m)
    m.run("pack", spec, "-w", "w", "--set", "weights.dtype=bf16", "-o", "packed")
    assert "packed again, quantised or used" in m.error("quantize", spec, "-w", "packed", "-o", "out")
    assert "cannot" in m.error("quantize", spec, "-w", "w", "-o", "no/out")
    assert "cannot" in m.error("quantize", spec, "-w", "none", "-o", "out")
    assert "too short" in m.error("quantize", spec, "-w", "w", "-o", "out", "--text", m.file("short.txt", "It"))
    assert "tensor" in m.error("quantize", spec, "-w", "w", "-o", "out", "--set", "d_model=48")
    assert "out" not in m.left()


def test_the_output_is_none_of_the_inputs(m):
    spec = tiny(m)
    floats = data(m, "w")
    entries, _ = header(m, "w")
    for name in ("directory", "sharded"):
        (m.directory / name).mkdir()
    m.file("directory/model.safetensors", floats)
    m.file("sharded/shard", floats)
    m.file("sharded/model.safetensors.index.json", json.dumps({"weight_map": {name: "shard" for name in entries}}))
    (m.directory / "link").symlink_to("w")
    index = "sharded/model.safetensors.index.json"
    for weights, output in (("w", "w"), ("w", "link"), ("link", "w"), ("directory", "directory/model.safetensors"),
                            ("sharded", "sharded/shard"), (index, "sharded/shard"), (index, index), ("sharded", index)):
        for text in ([], ["--text", "text.txt"]):
            message = m.error("quantize", spec, "-w", weights, "-o", output, *text)
            assert "the output is one of the inputs" in message, message
    for name in ("w", "directory/model.safetensors", "sharded/shard"):
        assert data(m, name) == floats, name
    for name in (spec, "text.txt", m.file("other.txt", TEXT)):
        before = data(m, name)
        message = m.error("quantize", spec, "-w", "w", "-o", name, "--text", "text.txt", "--eval", "other.txt")
        assert "the output is one of the inputs" in message and data(m, name) == before, message
    m.run("quantize", spec, "-w", "directory", "-o", "directory/out")


def test_what_is_quantised_already_is_an_error(m):
    spec = tiny(m)
    m.run("quantize", spec, "-w", "w", "-o", "out")
    message = m.error("quantize", spec, "-w", "out", "-o", "again")
    assert "tensor 'embed.weight' is q8 already: expected floats" in message, message
    assert "tensor 'blocks.1.up_proj.weight' is q4 already: expected floats" in message, message
    assert "give the checkpoint that it was made from" in message and "in the spec" not in message, message
    message = m.error("quantize", spec, "-w", "out", "-o", "again", "--dtype", "q8")
    assert "tensor 'blocks.1.up_proj.weight' is stored as q4, but it is q8 in the spec" in message, message
    assert "again" not in m.left()


def test_costs_are_those_of_the_file(m):
    for dtype in ("q8", "q4"):
        spec = tiny(m, TINY.replace("d_model: 32", f"d_model: 40\nweights: {{dtype: {dtype}}}").replace("d_ff: 48", "d_ff: 300"))
        report = m.json("quantize", spec, "-w", "w", "-o", "out", "--json")
        cost = m.json("check", spec, "--json")
        assert cost["weight_bytes"] == report["bytes_after"], (cost, report)


def test_wrong_usage(m):
    spec = tiny(m)
    command = ["quantize", spec, "-w", "w"]
    assert "--eval needs --text" in m.error(*command, "-o", "out", "--eval", "text.txt", status=2)
    assert "expected a file" in m.error(*command, "-o", "-", status=2)
    assert "expected a file" in m.error(*command, "-o", "out", "--text", "-", status=2)
    assert "CPU" in m.error(*command, "-o", "out", "--device", "cuda", status=2)
    m.error(*command, status=2)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
