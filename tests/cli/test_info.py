"""mossc info: every kind of file and directory that it knows, and files that are damaged or lie.

    python3 tests/cli/test_info.py --mossc build/release/mossc [NAME…]
"""
import json
import pathlib
import shutil
import struct
import sys

sys.dont_write_bytecode = True
from harness import TINY, run_tests  # noqa: E402

KEPT = pathlib.Path(__file__).resolve().parents[1] / "golden" / "data"
TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "added_tokens": [], "decoder": {"type": "Fuse"},
             "normalizer": None, "post_processor": None, "pre_tokenizer": None}  # fmt: skip


def tiny(m):
    m.file("tiny.yaml", TINY)
    m.run("init", "tiny.yaml", "-o", "w.safetensors")
    return "tiny.yaml", "w.safetensors"


def tensors(report):
    return {t["name"]: (t["dtype"], t["shape"], t["bytes"]) for t in report["tensors"]}


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors(m):
    header = {"__metadata__": {"format": "pt", "evil": "a\x1b[2Jb"}, "layers.0.w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
              "layers.1.w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [24, 48]}, "conv1d": {"dtype": "I8", "shape": [4], "data_offsets": [48, 52]}}  # fmt: skip
    m.file("a.safetensors", safetensors(header, bytes(52)))
    report = m.json("info", "a.safetensors", "--tensors", "--json")
    assert report["what"] == "safetensors file" and report["metadata"] == header["__metadata__"], report
    assert tensors(report) == {"layers.0.w": ("F32", [2, 3], 24), "layers.1.w": ("F32", [2, 3], 24), "conv1d": ("I8", [4], 4)}
    classes = {c["name"]: (c["tensors"], c["elements"], c["bytes"]) for c in report["classes"]}
    assert classes == {"layers.*.w": (2, 12, 48), "conv1d": (1, 4, 4)}, classes
    text = m.out("info", "a.safetensors", "--tensors")
    assert "\x1b" not in text and "[2, 3]" in text and "layers.1.w" in text, text


def test_shards(m):
    for name in "ab":
        m.file(f"{name}.safetensors", safetensors({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)))
    m.file("model.safetensors.index.json", json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    for path in ("model.safetensors.index.json", "."):
        report = m.json("info", path, "--tensors", "--json")
        assert report["facts"]["files"] == 2 and set(tensors(report)) == {"a", "b"}, report
    shutil.copy(m.directory / "a.safetensors", m.directory / "b.safetensors")
    assert "tensor 'a' is in two files" in m.error("info", ".")


def test_gguf(m):
    report = m.json("info", KEPT / "gguf" / "falcon_mamba-a-eqeps.gguf", "--json", "--tensors")
    assert report["what"] == "GGUF file" and report["facts"]["architecture"] == "mamba", report
    assert report["metadata"]["mamba.ssm.dt_b_c_rms"] is True and report["metadata"]["mamba.block_count"] == 1
    assert report["metadata"]["tokenizer.ggml.tokens"] == "[128 of string]"
    assert tensors(report)["blk.0.ssm_in.weight"] == ("F32", [192, 48], 192 * 48 * 4)
    quantised = m.json("info", KEPT / "gguf-quantised" / "mamba-a-w256" / "Q4_K_M.gguf", "--json")
    assert {"Q4_K", "Q6_K", "F32"} <= {c["dtype"] for c in quantised["classes"]}, quantised["classes"]
    data = (KEPT / "gguf" / "falcon_mamba-a-eqeps.gguf").read_bytes()
    m.file("cut.gguf", data[:-1])
    assert "cut.gguf: error:" in m.error("info", "cut.gguf")


def test_folders(m):
    report = m.json("info", KEPT / "mistral-a", "--json")
    assert report["what"] == "Hugging Face folder" and report["facts"]["mossc import"] == "family mistral", report
    m.run("import", KEPT / "mistral-a", "-o", "out")
    report = m.json("info", "out", "--json")
    assert report["what"] == "directory of mossc import" and report["facts"]["spec"] == "mistral-a", report
    assert report["facts"]["parameters"] == sum(c["elements"] for c in report["classes"])


def test_what_mossc_writes(m):
    spec, weights = tiny(m)
    m.run("pack", spec, "-w", weights, "-o", "p.moss")
    m.run("run", spec, "-w", "p.moss", "--prompt", "abc", "-n", "2", "--state-out", "s.state")
    packed, state, plain = (m.json("info", name, "--json", "--digest") for name in ("p.moss", "s.state", spec))
    assert (packed["what"], state["what"], plain["what"]) == ("packed weights", "state of a sequence", "spec")
    assert packed["facts"]["identity"] == state["facts"]["weights' identity"]
    assert packed["facts"]["spec hash"] == state["facts"]["spec hash"] == plain["facts"]["spec hash"]
    assert packed["bytes"] == (m.directory / "p.moss").stat().st_size and packed["classes"]
    assert state["facts"]["position"] == 5, state
    m.run("compile", spec, "-w", weights, "-o", "art")
    artefact = m.json("info", "art", "--json")
    assert artefact["what"] == "artefact of mossc compile" and artefact["facts"]["identity"] == packed["facts"]["identity"], artefact


def test_tokenizers(m):
    m.file("tokenizer.json", json.dumps(TOKENIZER))
    report = m.json("info", "tokenizer.json", "--json")
    assert report["what"] == "tokenizer" and report["facts"]["tokens"] == 3 and report["facts"]["merges"] == 1, report
    m.file("tokenizer.json", json.dumps({**TOKENIZER, "surprise": 1}))
    assert "surprise" in m.error("info", "tokenizer.json")


def test_damage_is_found(m):
    spec, weights = tiny(m)
    m.run("pack", spec, "-w", weights, "-o", "p.moss")
    m.run("run", spec, "-w", "p.moss", "--prompt", "abc", "-n", "2", "--state-out", "s.state")
    for name, at, options in (("p.moss", 100, ()), ("p.moss", -1, ("--digest",)), ("s.state", 100, ()), ("s.state", -1, ())):
        data = bytearray((m.directory / name).read_bytes())
        data[at] ^= 1
        m.file("damaged", bytes(data))
        assert "file is corrupt" in m.error("info", "damaged", *options), (name, at)
        m.file("damaged", bytes((m.directory / name).read_bytes()[:-1]))
        m.error("info", "damaged")


def test_what_is_none_of_these(m):
    assert "file is none that mossc knows" in m.error("info", m.file("x", "hello"))
    assert "file is none that mossc knows" in m.error("info", m.file("empty", ""))
    assert "neither an index nor a tokenizer" in m.error("info", m.file("config.json", "{}"))
    assert "cannot open" in m.error("info", "missing")
    m.error("info", m.file("lies.safetensors", struct.pack("<Q", 1 << 60) + b"{}"))


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
