"""GGUF files that mossc export makes, read by PyPI's gguf and imported again; and by llama.cpp (llama-cpp-python, which takes minutes to
compile and is not in the environment of ./dev test python): logits within 1e-4, the ids of texts.

    python3 tests/python/extra/test_export_llama.py --mossc build/release/mossc [NAME…]
"""
import importlib.util
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Skipped, need, run_tests  # noqa: E402

need("numpy", "gguf")
import numpy as np  # noqa: E402
from exports import CHAT, MODELS, TEXTS, TOKENIZERS, V, make, off  # noqa: E402
from gguf import GGUFReader  # noqa: E402

TOLERANCE = 1e-4
F32 = 0  # GGML_TYPE_F32, of the cache of keys and values


def exported(m, name):
    folder, tokens, wanted = make(m, name)
    m.run("export", folder, "--format", "gguf", "-o", f"{name}.gguf")
    return folder, m.directory / f"{name}.gguf", tokens, wanted


def check_file(m, name):
    """Pairs and tensors as PyPI's reader sees them, and the model that `mossc import` makes of it."""
    _, path, _, wanted = exported(m, name)
    reader = GGUFReader(path)
    value = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tokenizer = TOKENIZERS[MODELS[name][1]]
    assert len(value["tokenizer.ggml.tokens"]) == len(value["tokenizer.ggml.token_type"]) == V, name
    for text, number in tokenizer["model"]["vocab"].items():
        assert value["tokenizer.ggml.tokens"][number] == text, (name, text)
    assert value["tokenizer.chat_template"] == CHAT, name
    assert all(np.isfinite(np.asarray(t.data, np.float32)).all() for t in reader.tensors) and any(t.name == "token_embd.weight" for t in reader.tensors)
    m.run("import", path, "-o", f"{name}-back")
    m.run("logits", f"{name}-back", "--tokens", "tokens.txt", "-o", "back.npy")
    back = np.array(m.npy("back.npy")[0])
    assert (back == wanted).all() or (name.startswith("mamba") and off(back, wanted) < 1e-5), name  # A is rounded once


def check_llama(m, name):
    """Logits and ids."""
    if not importlib.util.find_spec("llama_cpp"):
        raise Skipped("llama_cpp is not here: the extra `peers` of python/pyproject.toml, which is not installed by default")
    from llama_cpp import Llama

    folder, path, tokens, wanted = exported(m, name)
    n = 16 if name == "mistral" else len(tokens)  # llama.cpp reads no window of this architecture
    model = Llama(str(path), n_ctx=256, logits_all=True, verbose=False, type_k=F32, type_v=F32, n_threads=2)
    model.eval(tokens[:n])
    got = np.array(model.scores[:n])
    assert off(got, wanted[:n]) < TOLERANCE, (name, off(got, wanted[:n]))
    for text in TEXTS:
        ids = expected(folder, text)
        if ids is not None:
            got = model.tokenize(text.encode(), add_bos=False, special=True)
            assert got == ids, (name, text, got, ids)
    assert model.token_eos() == (2 if MODELS[name][1] == "llama" else 0) and model.token_bos() == (1 if MODELS[name][1] == "llama" else 0), name
    print(f"{name}: {off(np.array(model.scores[:n]), wanted[:n]):.2g}")


def expected(folder, text):
    """Ids by Hugging Face's tokenizers, where they are here too. llama.cpp normalises nothing: texts are composed already."""
    try:
        import tokenizers
    except ImportError:
        return None
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids


for name in MODELS.keys() - {"bamba"}:  # of which GGUF has no architecture
    globals()[f"test_{name.replace('-', '_')}_file"] = lambda m, name=name: check_file(m, name)
    globals()[f"test_{name.replace('-', '_')}_llama"] = lambda m, name=name: check_llama(m, name)

if __name__ == "__main__":
    sys.exit(run_tests(globals()))
