"""What commands are given: files of other kinds as weights, shards, byte-order marks, texts that are too long. Standard library only.

    python3 tests/cli/test_inputs.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import json
import pathlib
import pickle
import struct
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, read_safetensors, run_tests, write_safetensors  # noqa: E402

BOUNDED = TINY.replace("vocab_size: 256", "vocab_size: 256\nmax_positions: 20").replace(", window: 8", "")
TEXT = "It was a dark evening in November, and the rain fell on the roofs."


def tiny(m, text=TINY):
    spec = m.file("tiny.yaml", text)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    m.file("t.txt", "1 2 3 4")
    return spec


# ------------------------------------------------------------------------------------------------ weights


def test_other_files_as_weights_are_named_with_what_to_do(m):
    spec = tiny(m)
    with zipfile.ZipFile(m.directory / "zip", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    kinds = {
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 10856448\n", "is a Git LFS pointer", "git lfs pull"),
        "html": (b"\n<!DOCTYPE html><html><title>Access denied</title>" + b"x" * 3000, "file is an HTML page", "download the file itself"),
        "html2": (b"<HTML><body>" + b"x" * 3000, "file is an HTML page", "download the file itself"),
        "pickle": (pickle.dumps({"a": list(range(100))}), "is a pickle", "safetensors.torch.save_file"),
        "zip": ((m.directory / "zip").read_bytes(), "is a zip archive", "safetensors.torch.save_file"),
        "gguf": (b"GGUF" + struct.pack("<IQQ", 3, 10, 10) + bytes(100), "file is a GGUF file", "mossc import"),
        "config": (json.dumps({"model_type": "mamba"}).encode(), "is JSON without a weight_map", "index.json"),
    }
    for name, (content, what, hint) in kinds.items():
        m.file(name, content)
        for command in (["run", spec, "--prompt", "a"], ["eval", spec, "--text", "t.txt"], ["pack", spec, "-o", "p"],
                        ["logits", spec, "--tokens", "t.txt", "-o", "x", "--reference", "32"]):
            text = m.error(*command, "-w", name)
            assert f"{name}: " in text and what in text and hint in text, text
    (m.directory / "empty").mkdir()
    assert "directory has neither model.safetensors.index.json nor model.safetensors" in m.error("run", spec, "--prompt", "a", "-w", "empty")
    assert "x" not in m.left() and "p" not in m.left()


def test_metadata_that_is_null_is_absent(m):
    spec = tiny(m)
    header, data = read_safetensors(m.directory / "w.safetensors")
    write_safetensors(m.directory / "null", {"__metadata__": None, **header}, data)
    common = ["run", spec, "--prompt", "It", "-n", 5]
    assert m.run(*common, "-w", "null").stdout == m.run(*common, "-w", "w.safetensors").stdout


def test_shards_are_found_by_their_index_and_directory(m):
    spec = tiny(m)
    header, data = read_safetensors(m.directory / "w.safetensors")
    header.pop("__metadata__", None)
    (m.directory / "model").mkdir()
    weight_map = {}
    for half in range(2):
        shard, part = {}, b""
        for i, (name, entry) in enumerate(header.items()):
            if i % 2 == half:
                begin, end = entry["data_offsets"]
                shard[name] = {**entry, "data_offsets": [len(part), len(part) + end - begin]}
                part += data[begin:end]
                weight_map[name] = f"model-{half + 1}.safetensors"
        write_safetensors(m.directory / f"model/model-{half + 1}.safetensors", shard, part)
    m.file("model/model.safetensors.index.json", json.dumps({"metadata": {"total_size": len(data)}, "weight_map": weight_map}, indent=1))
    (m.directory / "one").mkdir()
    m.file("one/model.safetensors", (m.directory / "w.safetensors").read_bytes())
    common = ["run", spec, "--prompt", "It", "-n", 5]
    wanted = m.run(*common, "-w", "w.safetensors").stdout
    for weights in ("model/model.safetensors.index.json", "model", "model/", "one"):
        assert m.run(*common, "-w", weights).stdout == wanted, weights
    m.run("pack", spec, "-w", "w.safetensors", "-o", "p1")
    m.run("pack", spec, "-w", "model", "-o", "p2")
    assert (m.directory / "p1").read_bytes() == (m.directory / "p2").read_bytes()
    (m.directory / "model/model-2.safetensors").unlink()
    assert "model/model-2.safetensors: error: cannot open" in m.error(*common, "-w", "model")
    m.file("model/model.safetensors.index.json", json.dumps({"weight_map": {"a": "../../w.safetensors"}}))
    assert "weight_map: 'a': expected the name of a file in the same directory" in m.error(*common, "-w", "model")
    for index, what in (('{"weight_map": {"a": 1', "file is not valid JSON: error near byte"), ("{" + "\"a\": {" * 20, "nested deeper than 16"),
                        ('{"weight_map": {"a\\u0000": "b"}}', "NUL character in a string at byte 18")):
        m.file("model/model.safetensors.index.json", index)
        assert what in m.error(*common, "-w", "model")


# ------------------------------------------------------------------------------------------------ values that are not finite


def test_logits_that_are_not_finite_are_an_error_that_says_where(m):
    """Weights so large that what block 1 makes of a token overflows; a router would be told of by itself."""
    spec = tiny(m, "mossc: 1\nname: tiny\nvocab_size: 256\nd_model: 32\nstack:\n  - ssm: {d_state: 4}\n  - mlp: {d_ff: 48}\n")
    header, data = read_safetensors(m.directory / "w.safetensors")
    data = bytearray(data)
    names = [name for name in header if name.startswith("blocks.1.") and len(header[name].get("shape", [])) == 2]
    for name in names:
        begin, end = header[name]["data_offsets"]
        values = struct.unpack_from(f"<{(end - begin) // 4}f", data, begin)
        struct.pack_into(f"<{len(values)}f", data, begin, *(3e38 if v > 0 else -3e38 for v in values))
    write_safetensors(m.directory / "bad", header, bytes(data))
    m.file("text.txt", TEXT)
    common = [spec, "-w", "bad"]
    commands = {
        "run": ["run", *common, "--prompt", "It", "-n", 5, "--no-echo"],
        "eval": ["eval", *common, "--text", "text.txt"],
        "logits": ["logits", *common, "--tokens", "t.txt", "-o", "x.npy"],
    }
    for name, command in commands.items():
        for threads in (1, 2):
            text = m.run(*command, "--threads", threads, status=1).stderr
            assert "logits are non-finite: first at position 0, in blocks.1." in text and "of block 1 (line 7 of the spec)" in text, (name, text)
            assert "x.npy" not in m.left()
        m.run(*command, "--allow-non-finite", status=1 if name == "run" else 0)  # there may be no logit to pick
    text = m.error(*commands["logits"], "--reference", "32")
    assert "logits at position 0 are non-finite" in text, text


# ------------------------------------------------------------------------------------------------ texts

BOM = b"\xef\xbb\xbf"


def test_a_byte_order_mark_is_skipped_with_a_note(m):
    spec = tiny(m)
    m.file("plain.txt", TEXT)
    m.file("bom.txt", BOM + TEXT.encode())
    m.file("ids.txt", BOM + b"1 2 3 4")
    common = [spec, "-w", "w.safetensors"]
    note = "byte-order mark at the start of the text was skipped"
    run = ["run", *common, "-n", 5, "--no-echo"]
    wanted = m.run(*run, "--prompt", TEXT)
    assert note not in wanted.stderr
    for prompt in (["--prompt-file", "bom.txt"], ["--prompt", (BOM + TEXT.encode()).decode()]):
        done = m.run(*run, *prompt)
        assert done.stdout == wanted.stdout and note in done.stderr, done.stderr
    wanted = m.run("eval", *common, "--text", "plain.txt")
    done = m.run("eval", *common, "--text", "bom.txt")
    assert done.stdout == wanted.stdout and f"bom.txt: note: {note}" in done.stderr
    assert m.json("eval", *common, "--text", "bom.txt", "--keep-bom", "--json")["bytes"] == len(TEXT) + 3
    assert m.json(*run, "--prompt-file", "bom.txt", "--keep-bom", "--json")["prompt_tokens"] == len(TEXT) + 3
    for name in ("t.txt", "ids.txt"):
        m.run("logits", *common, "--tokens", name, "-o", f"{name}.npy")
    assert m.npy("t.txt.npy") == m.npy("ids.txt.npy")


def test_a_text_longer_than_max_positions_is_refused_at_once(m):
    spec = tiny(m, BOUNDED)
    m.file("long.txt", TEXT)
    (m.directory / "w.safetensors").unlink()  # looked at later
    text = m.error("eval", spec, "-w", "w.safetensors", "--text", "long.txt")
    assert f"expected a text of at most 21 tokens, as max_positions allows, got {len(TEXT)} tokens" in text and "--window" in text, text


def nats(m, *arguments):
    report = m.json("eval", *arguments, "--json")
    return report["nats_per_token"] * report["scored_tokens"], report


def test_windows_score_every_token_once(m):
    spec = tiny(m, BOUNDED)
    common = [spec, "-w", "w.safetensors", "--text", "text.txt"]
    for window, stride, text in ((20, 5, TEXT), (21, 20, TEXT), (8, 1, TEXT[:24]), (10, 7, TEXT)):
        m.file("text.txt", text)
        found, report = nats(m, *common, "--window", window, "--stride", stride)
        assert report["scored_tokens"] == len(text) - 1
        wanted, scored, first = 0, 1, 0
        while scored < len(text):  # by the definition: what a window scores is the whole of it less the beginning
            end = min(first + window, len(text))
            m.file("part.txt", text[first:end])
            wanted += nats(m, spec, "-w", "w.safetensors", "--text", "part.txt")[0]
            if scored - first >= 2:
                m.file("part.txt", text[first:scored])
                wanted -= nats(m, spec, "-w", "w.safetensors", "--text", "part.txt")[0]
            scored, first = end, first + stride
        assert abs(found - wanted) < 1e-9 * wanted + 1e-9, (window, stride, found, wanted)
    free = tiny(m)
    whole = m.out("eval", free, "-w", "w.safetensors", "--text", "text.txt")
    assert m.out("eval", free, "-w", "w.safetensors", "--text", "text.txt", "--window", 1000) == whole
    tiny(m, BOUNDED)
    assert "expected at most 21 tokens" in m.error("eval", *common, "--window", 22)
    assert "--stride needs --window" in m.error("eval", *common, "--stride", 2, status=2)
    assert "expected less than the window" in m.error("eval", *common, "--window", 4, "--stride", 4, status=2)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
