"""mossc import on folders: what it writes, and --verify, which reads it back.

    python3 tests/import/test_written.py --mossc build/release/mossc [NAME…]
"""
import json
import sys

import numpy as np

sys.dont_write_bytecode = True
from folders import KEPT, change, header, imported, kept, put, refused, tensors_of  # noqa: E402
from harness import run_tests  # noqa: E402


# ---------------------------------------------------------------------------------------------- what is written


def test_floats_keep_their_bits(m):
    imported(m, KEPT / "mistral-a")
    entries = header(m.directory / "out" / "model.safetensors")
    assert entries["blocks.0.q_proj.weight"]["dtype"] == "BF16" and entries["blocks.0.norm.weight"]["dtype"] == "F32"
    theirs, ours = tensors_of(KEPT / "mistral-a"), tensors_of(m.directory / "out")
    assert (theirs["model.layers.0.self_attn.q_proj.weight"] == ours["blocks.0.q_proj.weight"]).all()
    assert (theirs["model.norm.weight"] == ours["final_norm.weight"]).all()


def test_other_dtypes_are_those_of_quantize(m):
    imported(m, kept(m, "jamba-a-bias"))
    for dtype in ("q8", "q4"):
        spec = imported(m, "jamba-a-bias", "--dtype", dtype, out=dtype)
        assert f"weights: {{dtype: {dtype}}}" in spec
        m.run("quantize", "out/spec.yaml", "-w", "out/model.safetensors", "--dtype", dtype, "-o", f"{dtype}.safetensors")
        assert (m.directory / f"{dtype}.safetensors").read_bytes() == (m.directory / dtype / "model.safetensors").read_bytes()
    imported(m, "jamba-a-bias", "--dtype", "bf16", out="bf16")
    assert header(m.directory / "bf16" / "model.safetensors")["embed.weight"]["dtype"] == "BF16"


def test_exact_widens_what_a_factor_changes(m):
    folder = kept(m, "falcon_h1-a-bias")
    halves = {name: values.astype(np.float16) for name, values in tensors_of(folder).items()}
    put(folder, halves)
    assert "weights: {dtype: f16}" in imported(m, folder)
    spec = imported(m, folder, "--exact", out="exact")
    assert "overrides" in spec and header(m.directory / "exact" / "model.safetensors")["blocks.1.gate_proj.weight"]["dtype"] == "F32"
    assert header(m.directory / "exact" / "model.safetensors")["blocks.1.up_proj.weight"]["dtype"] == "F16"
    gate, factor = halves["model.layers.0.feed_forward.gate_proj.weight"].astype(np.float32), json.loads((folder / "config.json").read_text())["mlp_multipliers"][0]
    assert (tensors_of(m.directory / "exact")["blocks.1.gate_proj.weight"] == gate * np.float32(factor)).all()


def test_numbers_beyond_the_dtype_are_named(m):
    folder = kept(m, "mistral-a")
    tensors = tensors_of(folder)
    tensors["lm_head.weight"][:] = 1e10
    put(folder, tensors)
    refused(m, folder, "tensor 'lm_head.weight' has numbers beyond q8", options=["--dtype", "q8"])


def test_the_report_counts_every_tensor(m):
    report = m.json("import", KEPT / "mistral-a", "-o", "out", "--json")
    assert report["family"] == "mistral"
    assert sum(part["count"] for part in report["classes"]) == len(header(m.directory / "out" / "model.safetensors")) - ("__metadata__" in header(m.directory / "out" / "model.safetensors"))
    assert all(part["error"] == 0 for part in report["classes"])
    assert "error" in m.out("import", KEPT / "mistral-a", "-o", "table", "--dtype", "q8")


def test_the_same_folder_gives_the_same_bytes_with_any_number_of_threads(m):
    for threads in (1, 3):
        imported(m, KEPT / "mistral-a", "--dtype", "q4", "--threads", threads, out=f"out{threads}")
    assert (m.directory / "out1" / "model.safetensors").read_bytes() == (m.directory / "out3" / "model.safetensors").read_bytes()


def test_what_exists_is_never_overwritten(m):
    m.file("out", "a file")
    assert "path exists and is not a directory" in m.error("import", KEPT / "mistral-a", "-o", "out")
    (m.directory / "full").mkdir()
    (m.directory / "full" / "mine").write_text("mine")
    assert "directory is not empty" in m.error("import", KEPT / "mistral-a", "-o", "full")


def test_what_a_killed_import_left_is_removed(m):
    for name in ("out.mossc-tmp-abcdef", "out2.mossc-tmp-abcdef"):
        (m.directory / name / "within").mkdir(parents=True)
        (m.directory / name / "within" / "spec.yaml").write_text("half")
    imported(m, KEPT / "mistral-a")
    assert [name for name in m.left() if "mossc-tmp" in name and name.startswith("out.")] == []
    assert (m.directory / "out2.mossc-tmp-abcdef" / "within" / "spec.yaml").exists()


def test_a_full_disk_leaves_nothing(m):
    for room in (100, 3000, 60000):
        m.run("import", KEPT / "mistral-a", "-o", "out", status=1, largest_file=room)
        assert not [name for name in m.left() if name.startswith("out")], m.left()


def test_wrong_command_lines(m):
    assert "--exact: --dtype says another thing" in m.error("import", KEPT / "mistral-a", "-o", "out", "--exact", "--dtype", "q8", status=2)
    assert "output" in m.error("import", KEPT / "mistral-a", status=2)


# ---------------------------------------------------------------------------------------------- reading back


def damaged(m, path, tensor, change):
    """Changes a byte of a tensor of out/model.safetensors; gives back what undoes it."""
    data = (m.directory / path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8 : 8 + size])[tensor]["data_offsets"]
    at = 8 + size + begin + change % (end - begin)
    (m.directory / path).write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    return lambda: (m.directory / path).write_bytes(data)


def test_verify_reads_every_number_back(m):
    kept(m, "mistral-a")
    for dtype in ("stored", "f32", "bf16", "q8", "q4"):
        options = () if dtype == "stored" else ("--dtype", dtype)
        out = f"out-{dtype}"
        assert "verified: every number" in m.out("import", "mistral-a", "-o", out, "--verify", *options)
        assert m.json("import", "mistral-a", "-o", out, "--verify", "--json", *options)["verified"] is True
        if dtype not in ("stored", "q4"):
            continue
        names = [t["name"] for t in m.json("info", f"{out}/model.safetensors", "--tensors", "--json")["tensors"]]
        for i, name in enumerate(names[:: 1 if dtype == "stored" else 4]):  # a tensor in q4 is five in a row
            undo = damaged(m, f"{out}/model.safetensors", name, 7919 * i)
            error = m.error("import", "mistral-a", "-o", out, "--verify", *options)
            assert f"tensor '{name.removesuffix('.q8').removesuffix('.q4').rpartition('.')[0]}" in error and ("checkpoint makes" in error or "finite" in error), (name, error)
            undo()
        m.run("import", "mistral-a", "-o", out, "--verify", *options)  # it was left as it was


def test_verify_holds_texts_and_options_too(m):
    imported(m, kept(m, "mistral-a"), "--dtype", "q8")
    assert "spec.yaml: error: this is not what the checkpoint makes" in m.error("import", "mistral-a", "-o", "out", "--verify")
    spec = (m.directory / "out" / "spec.yaml").read_text()
    m.file("out/spec.yaml", spec.replace("theta: ", "theta: 1"))
    assert "spec.yaml: error" in m.error("import", "mistral-a", "-o", "out", "--verify", "--dtype", "q8")
    m.file("out/spec.yaml", spec)
    m.run("import", "mistral-a", "-o", "out", "--verify", "--dtype", "q8")
    made = {path.name for path in (m.directory / "out").iterdir()}
    absent = {"tokenizer.json", "generation.yaml"} - made
    assert absent
    for name in absent:
        m.file(f"out/{name}", "{}")
        assert f"{name}: error: the checkpoint makes no such file" in m.error("import", "mistral-a", "-o", "out", "--verify", "--dtype", "q8")
        (m.directory / "out" / name).unlink()
    change(m.directory / "mistral-a", sliding_window=2)  # another model by now
    assert "spec.yaml: error" in m.error("import", "mistral-a", "-o", "out", "--verify", "--dtype", "q8")


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
