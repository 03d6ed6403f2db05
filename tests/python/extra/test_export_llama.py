"""GGUF files that mossc export makes, read by PyPI's gguf and by llama.cpp (llama-cpp-python): logits within 1e-4, the ids of texts.

    python3 tests/python/extra/test_export_llama.py --mossc build/release/mossc [NAME…]
"""
import pathlib
import sys

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from exports import CHAT, MODELS, TEXTS, TOKENIZERS, V, make, off  # noqa: E402
from harness import SKIPPED, run_tests  # noqa: E402

try:
    from gguf import GGUFReader
    from llama_cpp import Llama
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(SKIPPED)

TOLERANCE = 1e-4
F32 = 0  # GGML_TYPE_F32, of the cache of keys and values


def check_file(path, name):
    """Pairs and tensors as PyPI's reader sees them."""
    reader = GGUFReader(path)
    value = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tokenizer = TOKENIZERS[MODELS[name][1]]
    assert len(value["tokenizer.ggml.tokens"]) == len(value["tokenizer.ggml.token_type"]) == V, name
    for text, number in tokenizer["model"]["vocab"].items():
        assert value["tokenizer.ggml.tokens"][number] == text, (name, text)
    assert value["tokenizer.chat_template"] == CHAT, name
    assert all(np.isfinite(np.asarray(t.data, np.float32)).all() for t in reader.tensors) and any(t.name == "token_embd.weight" for t in reader.tensors)


def check(m, name):
    folder, tokens, wanted = make(m, name)
    m.run("export", folder, "--format", "gguf", "-o", f"{name}.gguf")
    path = m.directory / f"{name}.gguf"
    check_file(path, name)
    n = 16 if name == "mistral" else len(tokens)  # llama.cpp reads no window of this architecture
    model = Llama(str(path), n_ctx=256, logits_all=True, verbose=False, type_k=F32, type_v=F32, n_threads=2)
    model.eval(tokens[:n])
    got = np.array(model.scores[:n])
    assert off(got, wanted[:n]) < TOLERANCE, (name, off(got, wanted[:n]))
    m.run("import", path, "-o", f"{name}-back")
    m.run("logits", f"{name}-back", "--tokens", "tokens.txt", "-o", "back.npy")
    back = np.array(m.npy("back.npy")[0])
    assert (back == wanted).all() or (name.startswith("mamba") and off(back, wanted) < 1e-5), name  # A is rounded once
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


for name in MODELS:
    globals()[f"test_{name.replace('-', '_')}"] = lambda m, name=name: check(m, name)

if __name__ == "__main__":
    sys.exit(run_tests(globals()))
