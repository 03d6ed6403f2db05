"""mossc export: what is exported is imported as the same spec and the same tensors, to the byte, and what no family can say is refused.

    python3 tests/import/test_export.py --mossc build/release/mossc [NAME…]
"""
import json
import os
import pathlib
import shutil
import sys

import numpy as np

sys.dont_write_bytecode = True
from folders import KEPT, llama_tokenizer  # noqa: E402
from harness import TINY, Skipped, run_tests  # noqa: E402

GOLDEN = pathlib.Path(os.environ.get("MOSSC_GOLDEN") or pathlib.Path(__file__).resolve().parents[3] / "shared" / "golden")
FOLDERS = ["mamba-a", "mamba-a-bias", "mamba2-a", "mamba2-a-dtlimit", "mamba2-a-groups", "llama-a", "llama-a-llama3", "mistral-a", "mixtral-a", "qwen2-a",
           "qwen3-a", "falcon_mamba-a", "jamba-a", "jamba-a-bias", "bamba-a", "bamba-a-dtlimit", "granitemoehybrid-a", "granitemoehybrid-a-dense",
           "granitemoehybrid-a-rope", "falcon_h1-a", "falcon_h1-a-bias", "falcon_h1-a-norm", "falcon_h1-a-normbefore", "lfm2-a", "lfm2-a-bias", "nemotron_h-a",
           "nemotron_h-a-dense", "nemotron_h-a-latent", "nemotron_h-a-moe", "olmoe-a", "olmoe-a-clip", "qwen3_moe-a"]  # fmt: skip
OTHERS = ["granitemoehybrid-a-attn"]  # of a family that says the same with fewer keys: granite
EVALUATED = ("--reference", 32)  # the bits of compiled code, and nothing is compiled
TEMPLATES = {
    "mamba2": "mossc: 1\nname: m\nvocab_size: 64\nd_model: 32\nmax_positions: 100\nstack:\n  - repeat: 2\n    blocks: [{ssm: {kind: mamba2, d_inner: 64, head_dim: 16, d_state: 8, bias: true}}]\n",
    "llama": "mossc: 1\nname: l\nvocab_size: 64\nd_model: 64\ntie_embeddings: false\nstack:\n  - repeat: 2\n    blocks: [{attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16, bias: true, rope: {theta: 500}}}, {mlp: {d_ff: 96, activation: geglu_tanh, bias: true}}]\n",
    "mixtral": "mossc: 1\nname: x\nvocab_size: 64\nd_model: 64\nstack:\n  - attention: {n_heads: 4, head_dim: 16, window: 8, rope: {theta: 10000}}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4}, router: {top_k: 2, normalize: true}}\n",
    "falcon_mamba": "mossc: 1\nname: f\nvocab_size: 64\nd_model: 32\nnorm: {kind: rms, eps: 1e-4}\nstack:\n  - repeat: 2\n    blocks: [{ssm: {d_inner: 64, d_state: 8, dt_rank: 2, dt_norm: rms, b_norm: rms, c_norm: rms, inner_norm_eps: 1e-4}}]\n",
    "jamba": "mossc: 1\nname: j\nvocab_size: 64\nd_model: 32\nstack:\n  - ssm: {d_inner: 64, d_state: 8, dt_rank: 2, dt_norm: rms, b_norm: rms, c_norm: rms}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4}, router: {top_k: 2, normalize: false}}\n  - attention: {n_heads: 4, head_dim: 8, rope: none}\n  - mlp: {d_ff: 32, activation: swiglu}\n",
    "bamba": "mossc: 1\nname: b\nvocab_size: 64\nd_model: 32\nstack:\n  - ssm: {kind: mamba2, d_inner: 64, head_dim: 16, d_state: 8}\n  - mlp: {d_ff: 32, activation: swiglu, bias: true}\n  - attention: {n_heads: 4, head_dim: 8, rope: {theta: 500, dim: 4}}\n  - mlp: {d_ff: 32, activation: swiglu, bias: true}\n",
    "granitemoehybrid": "mossc: 1\nname: g\nvocab_size: 64\nd_model: 32\nembedding_scale: 12\nlogit_scale: 0.3333333333333333\nstack:\n  - ssm: {kind: mamba2, d_inner: 64, head_dim: 16, n_groups: 2, d_state: 8, output_scale: 0.22}\n  - mlp: {d_ff: 48, activation: swiglu, output_scale: 0.22}\n  - attention: {n_heads: 4, head_dim: 8, output_scale: 0.22}\n  - mlp: {d_ff: 48, activation: swiglu, output_scale: 0.22}\n",
    "granite": "mossc: 1\nname: g\nvocab_size: 64\nd_model: 32\nembedding_scale: 12\nstack:\n  - attention: {n_heads: 4, head_dim: 8, scale: 0.1, rope: {theta: 1e4}}\n  - mlp: {d_ff: 48, activation: swiglu}\n",
    "granitemoe": "mossc: 1\nname: g\nvocab_size: 64\nd_model: 32\nlogit_scale: 0.25\nstack:\n  - attention: {n_heads: 4, head_dim: 8, rope: {theta: 1e4}}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4}, router: {top_k: 2, normalize: true}}\n",
    "granitemoeshared": "mossc: 1\nname: g\nvocab_size: 64\nd_model: 32\nlogit_scale: 0.25\nstack:\n  - attention: {n_heads: 4, head_dim: 8, rope: {theta: 1e4}}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4, shared: 1, shared_d_ff: 48}, router: {top_k: 2, normalize: true}}\n",
    "falcon_h1": "mossc: 1\nname: h\nvocab_size: 64\nd_model: 32\nstack:\n  - parallel: [{ssm: {kind: mamba2, d_inner: 48, head_dim: 16, n_groups: 1, d_state: 8}}, {attention: {n_heads: 4, head_dim: 8, rope: {theta: 1e4}}}]\n  - mlp: {d_ff: 48, activation: swiglu}\n",
    "lfm2": "mossc: 1\nname: s\nvocab_size: 64\nd_model: 32\nstack:\n  - shortconv: {d_conv: 3, bias: false, conv_bias: false}\n  - mlp: {d_ff: 48, activation: swiglu}\n  - attention: {n_heads: 4, head_dim: 8, qk_norm: head, rope: {theta: 1e6}}\n  - mlp: {d_ff: 48, activation: swiglu}\n",
    "nemotron_h": "mossc: 1\nname: nemotron\nvocab_size: 64\nd_model: 32\nstack:\n  - ssm: {kind: mamba2, d_inner: 64, head_dim: 16, n_groups: 2, d_state: 8}\n  - mlp: {d_ff: 48, activation: relu2}\n  - attention: {n_heads: 4, head_dim: 8, rope: none}\n  - mlp: {d_ff: 32, activation: relu2, experts: {count: 4, shared: 1, shared_d_ff: 48}, router: {top_k: 2, normalize: true, score: sigmoid, select_bias: true, scale: 2.5}}\n",
    "olmoe": "mossc: 1\nname: o\nvocab_size: 64\nd_model: 32\nstack:\n  - attention: {n_heads: 4, head_dim: 8, qk_norm: full, rope: {theta: 1e4}}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4}, router: {top_k: 2, normalize: false}}\n",
    "qwen2_moe": "mossc: 1\nname: q\nvocab_size: 64\nd_model: 32\nstack:\n  - attention: {n_heads: 4, head_dim: 8, qkv_bias: true, rope: {theta: 1e4}}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4, shared: 1, shared_d_ff: 48, shared_gate: true}, router: {top_k: 2, normalize: false}}\n",
    "qwen3_moe": "mossc: 1\nname: q\nvocab_size: 64\nd_model: 32\nstack:\n  - attention: {n_heads: 4, head_dim: 16, qk_norm: head, rope: {theta: 1e4}}\n  - mlp: {d_ff: 48, activation: swiglu}\n  - attention: {n_heads: 4, head_dim: 16, qk_norm: head, rope: {theta: 1e4}}\n  - mlp: {d_ff: 32, activation: swiglu, experts: {count: 4, shared: 0}, router: {top_k: 2, normalize: true}}\n",
}


def said(path):
    """What a spec says, without comments and name."""
    return [line for line in path.read_text().splitlines() if not line.startswith(("#", "name:"))]


def comes_back(m, spec, weights):
    """Exports, imports; the directory of the import."""
    m.run("export", spec, "-w", weights, "-o", "exported")
    m.run("import", "exported", "-o", "back", "--verify")
    return m.directory / "back"


def same(m, folder):
    m.run("import", folder, "-o", "first")
    first = m.directory / "first"
    back = comes_back(m, "first/spec.yaml", "first/model.safetensors")
    assert said(back / "spec.yaml") == said(first / "spec.yaml"), folder
    for name in ("model.safetensors", "tokenizer.json"):
        assert (first / name).exists() == (back / name).exists(), (folder, name)
        assert not (first / name).exists() or (first / name).read_bytes() == (back / name).read_bytes(), (folder, name)


def test_a_kept_folder_comes_back(m):
    same(m, KEPT / "mistral-a")


def test_names_and_shapes_are_those_of_the_folder_that_was_imported(m):
    m.run("import", KEPT / "mistral-a", "-o", "first")
    m.run("export", "first/spec.yaml", "-w", "first/model.safetensors", "-o", "exported")
    theirs, ours = (m.json("info", path, "--tensors", "--json")["tensors"] for path in (KEPT / "mistral-a", "exported"))
    theirs, ours = ([(t["name"], t["shape"]) for t in tensors] for tensors in (theirs, ours))  # norms are float32 here
    assert sorted(theirs) == sorted(ours), (theirs, ours)
    assert json.loads((m.directory / "exported" / "config.json").read_text())["architectures"] == ["MistralForCausalLM"]


def test_golden_folders_come_back(m):
    if not GOLDEN.is_dir():
        raise Skipped(f"no folder {GOLDEN}")
    for number, name in enumerate(FOLDERS + OTHERS):
        work = m.directory / str(number)
        work.mkdir()
        home, m.directory = m.directory, work
        same(m, GOLDEN / name)
        if name.startswith("mamba"):
            names = {tuple(t["shape"]) for t in m.json("info", "exported", "--tensors", "--json")["tensors"] if t["name"].endswith("conv1d.weight")}
            assert all(len(shape) == 3 and shape[1] == 1 for shape in names) and names, names
        m.directory = home


def test_folders_are_as_transformers_wrote_them(m):
    """Names, shapes, and what both configs say: golden folders were saved by transformers, and export must come to the same."""
    if not GOLDEN.is_dir():
        raise Skipped(f"no folder {GOLDEN}")
    # Of one layer any period is right; a factor of the gate is part of its matrix since the import.
    said_otherwise = {"architectures", "torch_dtype", "attn_layer_period", "expert_layer_period", "mlp_multipliers", "time_step_min"}
    for name in FOLDERS:
        for folder in ("first", "exported", "back"):
            shutil.rmtree(m.directory / folder, ignore_errors=True)
        m.run("import", GOLDEN / name, "-o", "first")
        m.run("export", "first/spec.yaml", "-w", "first/model.safetensors", "-o", "exported")
        theirs, ours = ({t["name"]: t["shape"] for t in m.json("info", path, "--tensors", "--json")["tensors"]} for path in (GOLDEN / name, "exported"))
        assert theirs == ours, (name, {key: (theirs.get(key), ours.get(key)) for key in theirs.keys() ^ ours.keys()})
        older = GOLDEN / name / "config-v4.json"
        wanted = json.loads((older if older.exists() else GOLDEN / name / "config.json").read_text())
        config = json.loads((m.directory / "exported" / "config.json").read_text())
        # lfm2's width before it was adjusted; that of dense layers where there are none.
        unsaid = {"block_auto_adjust_ff_dim", "block_ff_dim", "intermediate_size"} if name in ("lfm2-a-bias", "nemotron_h-a-latent", "nemotron_h-a-moe", "qwen3_moe-a") else set()
        for key in config.keys() & wanted.keys() - said_otherwise - unsaid:
            assert config[key] == wanted[key] or wanted[key] is None or key == "time_step_limit", (name, key, config[key], wanted[key])


def test_specs_of_ours_come_back(m):
    for family, text in TEMPLATES.items():
        for dtype in ("f32", "bf16"):
            spec = m.file("s.yaml", text + f"weights: {{dtype: {dtype}}}\n")
            for name in ("exported", "back"):
                for path in sorted((m.directory / name).glob("*")):
                    path.unlink()
            m.run("init", spec, "-o", "w", "--seed", "5")
            back = comes_back(m, spec, "w")
            assert json.loads((m.directory / "exported" / "config.json").read_text())["model_type"] == family
            m.file("tokens.txt", "1 5 7 60 3 2 9 11 4")
            for directory, weights in ((spec, "w"), (back / "spec.yaml", back / "model.safetensors")):
                m.run("logits", directory, "-w", weights, "--tokens", "tokens.txt", "-o", f"{pathlib.Path(directory).stem}.npy", *EVALUATED)
            assert m.npy("s.npy")[1] == m.npy("spec.npy")[1], (family, dtype)


def test_specs_of_ours_come_back_from_gguf(m):
    """With the same logits, to the bit but for -exp of A's logarithm."""
    for family, text in TEMPLATES.items():
        if family in ("llama", "bamba"):
            continue  # what is special about them has no place in GGUF
        if family == "qwen3_moe":  # all of its layers have experts there
            text = text.replace("mlp: {d_ff: 48, activation: swiglu}", "mlp: " + text.rpartition("mlp: ")[2].strip())
        spec = m.file("s.yaml", text)
        m.run("init", spec, "-o", "w", "--seed", "5")
        gguf_comes_back(m, spec, "w")
        m.file("tokens.txt", "1 5 7 60 3 2 9 11 4")
        for place, out in (((spec, "-w", "w"), "a.npy"), (("again",), "b.npy")):
            m.run("logits", *place, "--tokens", "tokens.txt", "-o", out, *EVALUATED)
        a, b = (np.array(m.npy(name)[0]) for name in ("a.npy", "b.npy"))
        assert np.abs(a - b).max() <= (1e-5 * np.sqrt((a * a).mean()) if "ssm" in text else 0), family


def test_norms_of_falcon_mamba_must_be_ones(m):
    spec = m.file("s.yaml", TEMPLATES["falcon_mamba"])
    m.run("init", spec, "-o", "w", "--seed", "5")
    data, at = bytearray((m.directory / "w").read_bytes()), 0
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    at = 8 + int.from_bytes(data[:8], "little") + header["blocks.1.b_norm.weight"]["data_offsets"][0] + 4 * 3
    data[at : at + 4] = np.float32(0.5).tobytes()
    (m.directory / "w").write_bytes(data)
    error = m.error("export", spec, "-w", "w", "-o", "exported")
    assert "tensor 'blocks.1.b_norm.weight': the family falcon_mamba has no such weights: expected 1, got 0.5 at 3" in error, error
    assert "exported" not in m.left()


def test_q8_becomes_the_floats_that_it_means(m):
    spec = m.file("s.yaml", TEMPLATES["llama"])
    m.run("init", spec, "-o", "w", "--seed", "5")
    m.run("quantize", spec, "-w", "w", "-o", "q", "--dtype", "q8")
    quantised = m.file("q.yaml", TEMPLATES["llama"] + "weights: {dtype: q8, activations: f32}\n")
    back = comes_back(m, quantised, "q")
    m.file("tokens.txt", "1 5 7 60 3 2 9 11 4")
    m.run("logits", quantised, "-w", "q", "--tokens", "tokens.txt", "-o", "a.npy", "--reference", "64")
    m.run("logits", back / "spec.yaml", "-w", back / "model.safetensors", "--tokens", "tokens.txt", "-o", "b.npy", "--reference", "64")
    a, b = (m.npy(name)[0] for name in ("a.npy", "b.npy"))
    assert max(abs(x - y) for one, two in zip(a, b) for x, y in zip(one, two)) < 1e-5


def tensors_of_file(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return {name: data[8 + size + t["data_offsets"][0] : 8 + size + t["data_offsets"][1]] for name, t in header.items() if name != "__metadata__"}


def gguf_comes_back(m, spec, weights):
    """Exports to GGUF and imports; what the spec says, and the tensors."""
    for name in ("out.gguf", "again"):
        shutil.rmtree(m.directory / name, ignore_errors=True)
    m.run("export", spec, "-w", weights, "--format", "gguf", "-o", "out.gguf")
    m.run("import", "out.gguf", "-o", "again")
    return [line for line in said(m.directory / "again" / "spec.yaml") if not line.startswith("tokenizer")], tensors_of_file(m.directory / "again" / "model.safetensors")


GGUF_FOLDERS = ["llama-a", "llama-a-llama3", "mistral-a", "mixtral-a", "qwen2-a", "qwen3-a", "mamba-a", "mamba-a-bias", "mamba2-a", "mamba2-a-groups",
                "falcon_mamba-a-eqeps", "jamba-a", "jamba-a-bias", "granitemoehybrid-a", "granitemoehybrid-a-attn", "granitemoehybrid-a-dense",
                "granitemoehybrid-a-rope", "lfm2-a", "lfm2-a-bias", "nemotron_h-a", "nemotron_h-a-dense", "nemotron_h-a-latent", "nemotron_h-a-moe", "olmoe-a",
                "qwen3_moe-a"]  # fmt: skip
GGUF_FILES = ["falcon_h1-a", "falcon_h1-a-norm"]  # of llama.cpp's, whose factors are part of the matrices; those of the folders have no place in GGUF


def with_tokenizer(m, tokenizer):
    """KEPT's model with a tokenizer, imported as `first`."""
    shutil.copytree(KEPT / "mistral-a", m.directory / "model", dirs_exist_ok=True)
    m.file("model/tokenizer.json", json.dumps(tokenizer))
    shutil.rmtree(m.directory / "first", ignore_errors=True)
    m.run("import", "model", "-o", "first")
    return m.directory / "first"


def meaning(tokenizer):
    """What a tokenizer.json says, in one spelling."""
    data = json.loads(tokenizer.read_text(encoding="utf-8"))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in data["model"]["merges"]]
    added = sorted((t["id"], t["content"], t["special"]) for t in data["added_tokens"])
    return {**data["model"]["vocab"], **{text: number for number, text, _ in added}}, merges, added  # some files have them in one place alone


def same_gguf(m, folder):
    """Spec, tensors and tokenizer come back, and so do the logits: bits, but for Mamba's A, of which a file has -exp."""
    shutil.rmtree(m.directory / "first", ignore_errors=True)
    m.run("import", folder, "-o", "first")
    first = m.directory / "first"
    text, tensors = gguf_comes_back(m, "first/spec.yaml", "first/model.safetensors")
    assert text == [line for line in said(first / "spec.yaml") if not line.startswith("tokenizer")], (folder, text)
    before = tensors_of_file(first / "model.safetensors")
    assert before.keys() == tensors.keys(), folder
    for key, data in before.items():
        if key.endswith(".A_log"):
            a, b = (np.frombuffer(part, "<f4") for part in (data, tensors[key]))
            assert np.abs(a - b).max() < 1e-6, (folder, key)
        else:
            assert data == tensors[key], (folder, key)
    assert meaning(first / "tokenizer.json") == meaning(m.directory / "again" / "tokenizer.json"), folder
    bos = [line.partition("bos: ")[2].partition(",")[0] for line in said(first / "spec.yaml") + said(m.directory / "again" / "spec.yaml") if line.startswith("tokenizer")]
    assert bos[0] == bos[1], (folder, bos)
    m.file("tokens.txt", "1 5 7 60 3 2 9 11 4 17 33 21 8 8 1 90 44 23 12 66")
    for name in ("first", "again"):
        m.run("logits", name, "--tokens", "tokens.txt", "-o", f"{name}.npy", *EVALUATED)
    if not any(key.endswith(".A_log") for key in before):
        assert m.npy("first.npy")[1] == m.npy("again.npy")[1], folder


def test_a_kept_folder_comes_back_from_gguf(m):
    with_tokenizer(m, llama_tokenizer())
    same_gguf(m, m.directory / "model")


def test_golden_folders_come_back_from_gguf(m):
    if not GOLDEN.is_dir():
        raise Skipped(f"no folder {GOLDEN}")
    for name in GGUF_FOLDERS:
        same_gguf(m, GOLDEN / name)
    for name in GGUF_FILES:
        same_gguf(m, GOLDEN / "gguf" / f"{name}.gguf")


def test_gguf_says_llama_3_s_rope_whatever_its_low_factor(m):
    rope = "rope: {theta: 500000, scaling: {kind: llama3, factor: 8, low_freq_factor: 2, high_freq_factor: 6, original_max_positions: 64}}"
    spec = m.file("s.yaml", TEMPLATES["llama"].replace("bias: true, rope: {theta: 500}", rope).replace(", bias: true", "").replace("geglu_tanh", "swiglu"))
    m.run("init", spec, "-o", "w", "--seed", "5")
    gguf_comes_back(m, spec, "w")
    m.file("tokens.txt", " ".join(str(7 * i % 64) for i in range(200)))
    m.run("logits", spec, "-w", "w", "--tokens", "tokens.txt", "-o", "a.npy", *EVALUATED)
    m.run("logits", "again", "--tokens", "tokens.txt", "-o", "b.npy", *EVALUATED)
    a, b = (np.array(m.npy(name)[0]) for name in ("a.npy", "b.npy"))
    assert np.abs(a - b).max() < 1e-4 * np.sqrt((a * a).mean())


def test_gguf_says_windows_and_warns_of_those_who_do_not_read_them(m):
    spec = m.file("s.yaml", TEMPLATES["mixtral"].replace("experts: {count: 4}, router: {top_k: 2, normalize: true}", "").replace(", }", "}"))
    m.run("init", spec, "-o", "w", "--seed", "5")
    text, _ = gguf_comes_back(m, spec, "w")
    assert any("window: 8" in line for line in text), text
    done = m.run("export", spec, "-w", "w", "--format", "gguf", "-o", "other.gguf")
    assert "attention.window: llama.cpp reads none" in done.stderr, done.stderr


def test_gguf_warns_of_files_that_llama_cpp_cannot_read(m):
    spec = m.file("s.yaml", TEMPLATES["olmoe"])
    m.run("init", spec, "-o", "w", "--seed", "5")
    done = m.run("export", spec, "-w", "w", "--format", "gguf", "-o", "out.gguf")
    assert "tie_embeddings: llama.cpp reads no file of this architecture without a head of its own" in done.stderr, done.stderr


def test_bytes_are_a_tokenizer_of_gguf(m):
    spec = m.file("s.yaml", TEMPLATES["llama"].replace(", bias: true", "").replace("geglu_tanh", "swiglu").replace("vocab_size: 64", "vocab_size: 264")
                  + "tokenizer: {kind: bytes, bos: 256, eos: [257, 258]}\n")  # fmt: skip
    m.run("init", spec, "-o", "w", "--seed", "5")
    m.run("export", spec, "-w", "w", "--format", "gguf", "-o", "out.gguf")
    m.run("import", "out.gguf", "-o", "again")
    assert any("bos: 256, eos: [257, 258]" in line for line in said(m.directory / "again" / "spec.yaml"))
    options = ["--prompt", "Grüße\n\t<0x00>", "--temp", "0", "-n", "40"]
    (ours, theirs) = (m.run("run", *given, *options).stdout for given in ((spec, "-w", "w"), ("again",)))
    assert ours.decode(errors="replace") == theirs.decode(), (ours, theirs)


def test_a_tokenizer_that_gguf_cannot_say_is_left_out(m):
    path = with_tokenizer(m, llama_tokenizer()) / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))

    def changed(change):
        other = json.loads(json.dumps(data))
        change(other)
        path.write_text(json.dumps(other), encoding="utf-8")
        done = m.run("export", "first", "--format", "gguf", "-o", "out.gguf")
        m.run("import", "out.gguf", "-o", "again")
        there = (m.directory / "again" / "tokenizer.json").exists()
        shutil.rmtree(m.directory / "again")
        (m.directory / "out.gguf").unlink()
        return done.stderr, there

    cases = {
        "the added token 1 has lstrip": lambda t: t["added_tokens"][1].update(lstrip=True),
        "its merges are not those that scores mean": lambda t: t["model"]["merges"].pop(),
        "normalizer: beside scores": lambda t: t["normalizer"]["normalizers"].insert(0, {"type": "NFC"}),
        "pre_tokenizer: beside scores": lambda t: t.update(pre_tokenizer={"type": "Digits", "individual_digits": True}),
    }
    for words, change in cases.items():
        said_there, there = changed(change)
        assert f"the GGUF file has no tokenizer: {words}" in said_there and not there, (words, said_there)
    assert changed(lambda t: None) == changed(lambda t: t["added_tokens"].reverse()) and changed(lambda t: None)[1]


def test_a_chat_template_goes_along(m):
    m.run("import", KEPT / "mistral-a", "-o", "first")
    template = "{% for m in messages %}[INST] é \"q\" \\n{{ m }}[/INST]\n{% endfor %}"
    m.file("first/generation.yaml", "chat_template: " + json.dumps(template) + "\n")
    m.run("export", "first", "--format", "gguf", "-o", "out.gguf")
    m.run("import", "out.gguf", "-o", "again")
    m.run("export", "first", "-o", "folder")
    m.run("import", "folder", "-o", "other")
    for name in ("again", "other"):
        assert json.dumps(template, ensure_ascii=False) in (m.directory / name / "generation.yaml").read_text(encoding="utf-8"), name


def test_blocks_stay_blocks_in_gguf(m):
    text = TEMPLATES["llama"].replace("d_model: 64", "d_model: 256").replace("d_ff: 96", "d_ff: 256").replace("head_dim: 16", "head_dim: 64").replace("geglu_tanh", "swiglu")
    for dtype, form in (("q8", "Q8_0"), ("q4", "Q4_K")):
        m.run("init", m.file("s.yaml", text), "-o", "w", "--seed", "5")
        (m.directory / "q").unlink(missing_ok=True)
        m.run("quantize", "s.yaml", "-w", "w", "-o", "q", "--dtype", dtype)
        spec = m.file("q.yaml", text + f"weights: {{dtype: {dtype}}}\n")
        _, tensors = gguf_comes_back(m, spec, "q")
        forms = {c["name"]: c["dtype"] for c in m.json("info", "out.gguf", "--json")["classes"]}
        assert forms["blk.*.attn_k.weight"] == forms["blk.*.ffn_down.weight"] == form and forms["blk.*.attn_norm.weight"] == "F32", forms
        before = tensors_of_file(m.directory / "q")
        assert before.keys() == tensors.keys() and all(data == tensors[key] for key, data in before.items()), dtype


def test_a_tied_head_of_nemotron_h_is_a_warning(m):
    spec = m.file("s.yaml", TEMPLATES["nemotron_h"])
    m.run("init", spec, "-o", "w", "--seed", "5")
    done = m.run("export", spec, "-w", "w", "-o", "exported")
    assert "tie_embeddings: transformers reads no head of nemotron_h but one of its own" in done.stderr, done.stderr
    assert '"routed_scaling_factor":\t2.5' in (m.directory / "exported" / "config.json").read_text()


def test_reals_of_configs_are_written_as_reals(m):
    spec = m.file("s.yaml", TEMPLATES["falcon_h1"])
    m.run("init", spec, "-o", "w", "--seed", "5")
    m.run("export", spec, "-w", "w", "-o", "exported")
    config = json.loads((m.directory / "exported" / "config.json").read_text())
    for key in ("lm_head_multiplier", "embedding_multiplier", "key_multiplier", "rope_theta"):
        assert isinstance(config[key], float), (key, config[key])
    assert all(isinstance(x, float) for x in config["mlp_multipliers"]) and isinstance(config["hidden_size"], int), config


def test_gguf_is_refused_by_key(m):
    cases = [
        (TEMPLATES["mamba2"].replace("d_state: 8", "d_state: 8, dt_limit: [0.1, 0.5]"), "ssm.dt_limit: GGUF has no key for it"),
        (TEMPLATES["bamba"], "GGUF files have no architecture of the family bamba"),
        (TEMPLATES["falcon_mamba"].replace("inner_norm_eps: 1e-4", "inner_norm_eps: 1e-6"), "stack[0].ssm.inner_norm_eps: 1e-06: the family falcon_mamba has 0.0001 there"),
        (TEMPLATES["falcon_h1"].replace("name: h", "logit_scale: 2\nname: h"), "logit_scale: 2: the family falcon_h1 has 1 there"),
        (TEMPLATES["olmoe"].replace("qk_norm: full", "qk_norm: full, qkv_clip: 3"), "stack[0].attention.qkv_clip: 3"),
        (TEMPLATES["qwen3_moe"], "mlp.experts: GGUF files of the family qwen3_moe have experts in all layers"),
    ]
    for text, words in cases:
        m.run("init", m.file("s.yaml", text.replace(", }", "}")), "-o", "w", "--seed", "5")
        error = m.error("export", "s.yaml", "-w", "w", "--format", "gguf", "-o", "out.gguf")
        assert words in error and "out.gguf" not in m.left(), error


def test_what_no_family_says_is_refused_by_key(m):
    cases = [
        (TINY, "stack[2]: attention: no family that is exported has this"),
        (TEMPLATES["mamba2"].replace("kind: mamba2", "kind: mamba3").replace(", bias: true", ""), "ssm.kind: mamba3: no family that is exported has this"),
        (TEMPLATES["mixtral"].replace("window", "scale: 0.5, window"), 'stack[0].attention.window: 8: the family granitemoe has "none" there'),
        (TEMPLATES["llama"].replace("bias: true, rope", "input_scale: 0.5, rope"), "stack[0].attention.input_scale: 0.5"),
        (TEMPLATES["mamba2"] + "embedding_scale: 2\n", "embedding_scale: 2"),
        (TEMPLATES["mamba2"].replace("bias: true}}", "bias: true}}, {mlp: {d_ff: 32, activation: swiglu}}"), "stack: no attention beside mlp: no family"),
        (TEMPLATES["llama"].replace("geglu_tanh", "gelu"), "mlp.activation: gelu: no family that is exported has this"),
        (TEMPLATES["jamba"].replace("mlp: {d_ff: 32,", "mlp: {d_ff: 48,", 1), "stack[1].mlp.d_ff: 48: the family jamba has 32 there"),
        (TEMPLATES["qwen3_moe"].replace("shared: 0", "shared: 1"), "stack[3].mlp.experts.shared: 1"),
        (TEMPLATES["llama"] + "norm: {kind: layer}\n", 'norm.kind: "layer": the family llama has "rms" there'),
        (TEMPLATES["mamba2"].replace("d_state: 8", "d_state: 8, gated_norm: none"), "stack[0].ssm.gated_norm"),
        (TEMPLATES["mixtral"].replace("top_k: 2", "top_k: 2, score: sigmoid"), "stack[1].mlp.router.score"),
        (TEMPLATES["llama"].replace("theta: 500", "theta: 500, pairing: interleaved"), "stack[0].attention.rope.pairing"),
    ]
    for text, words in cases:
        spec = m.file("s.yaml", text)
        m.run("init", spec, "-o", "w", "--seed", "5")
        error = m.error("export", spec, "-w", "w", "-o", "exported")
        assert words in error, (words, error)
        assert "exported" not in m.left()


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
