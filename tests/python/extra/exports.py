"""Small models of every family that mossc export knows, as specs of ours with random weights, for other readers than our own."""
import json
import pathlib
import sys

import numpy as np

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[3]
for directory in ("tests/cli", "tests/import"):
    sys.path.insert(0, str(ROOT / directory))
from folders import bytes_tokenizer, llama_tokenizer  # noqa: E402

V, D, T = 288, 64, 48
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
TOKENIZERS = {"bytes": bytes_tokenizer(), "llama3": bytes_tokenizer(LLAMA3), "qwen2": {**bytes_tokenizer(QWEN2), "normalizer": {"type": "NFC"}}, "llama": llama_tokenizer()}
TEXTS = ["the state and the water", " 12345 1 23", "Grüße, thé\n\n  'S it's", "日本語 🦙\t<0x41>", "<|im_start|>user\nhé<|im_end|>\n", "", " ", "ab abc  ca"]
CHAT = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def attention(**keys):
    return {"n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "rope": {"theta": 10000}, **keys}


SCALED = {"theta": 500000, "scaling": {"kind": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_positions": 128}}
EXPERTS = {"d_ff": 48, "activation": "swiglu", "experts": {"count": 4}, "router": {"top_k": 2, "normalize": True}}
MLP = {"d_ff": 96, "activation": "swiglu"}
INNER = {"dt_norm": "rms", "b_norm": "rms", "c_norm": "rms"}
MAMBA2 = {"kind": "mamba2", "d_inner": 128, "head_dim": 32, "d_state": 16}
FACTORS = {"embedding_scale": 3, "logit_scale": 0.25}
UNTIED = {"tie_embeddings": False}


def experts(normalize, **keys):
    return {"experts": {"count": 4, **keys}, "router": {"top_k": 2, "normalize": normalize}}


SHARED = {**MLP, **experts(True, shared=1, shared_d_ff=64)}
SCORED = {"d_ff": 48, "activation": "relu2", "experts": {"count": 4, "shared": 1, "shared_d_ff": 64},
          "router": {"top_k": 2, "normalize": True, "score": "sigmoid", "select_bias": True, "scale": 2.5}}  # fmt: skip
# name: (blocks, tokenizer, further keys of the spec)
MODELS = {
    "mamba": ([{"ssm": {"kind": "mamba1", "d_inner": 128, "d_state": 8, "dt_rank": 4}}], "bytes", {}),
    "mamba2": ([{"ssm": {"kind": "mamba2", "d_inner": 128, "head_dim": 32, "d_state": 16}}], "bytes", {}),
    "llama": ([{"attention": attention()}, {"mlp": MLP}], "llama", {"tie_embeddings": False}),
    "llama-3": ([{"attention": attention(rope=SCALED)}, {"mlp": MLP}], "llama3", {"max_positions": 1024}),
    "llama-bias": ([{"attention": attention(bias=True)}, {"mlp": {**MLP, "bias": True}}], "llama", {}),
    "llama-linear": ([{"attention": attention(rope={"theta": 10000, "scaling": {"kind": "linear", "factor": 4}})}, {"mlp": MLP}], "llama", {}),
    "mistral": ([{"attention": attention(window=16)}, {"mlp": MLP}], "llama", {}),
    "mixtral": ([{"attention": attention()}, {"mlp": EXPERTS}], "llama", {}),
    "qwen2": ([{"attention": attention(qkv_bias=True)}, {"mlp": MLP}], "qwen2", {}),
    "qwen3": ([{"attention": attention(qk_norm="head")}, {"mlp": MLP}], "qwen2", {}),
    "falcon-mamba": ([{"ssm": {"kind": "mamba1", "d_inner": 128, "d_state": 8, "dt_rank": 4, **INNER}}], "bytes", {}),
    "jamba": ([{"ssm": {"kind": "mamba1", "d_inner": 128, "d_state": 8, "dt_rank": 4, **INNER}}, {"mlp": MLP},
               {"attention": attention(rope="none")}, {"mlp": {**MLP, **experts(normalize=False)}}], "bytes", {}),
    "bamba": ([{"ssm": MAMBA2}, {"mlp": MLP}, {"attention": attention(rope={"theta": 10000, "dim": 8})}, {"mlp": MLP}], "bytes", {}),
    "granite-h": ([{"ssm": MAMBA2}, {"mlp": MLP}, {"attention": attention(rope="none", scale=0.2)}, {"mlp": MLP}], "bytes", FACTORS),
    "granite-h-moe": ([{"ssm": MAMBA2}, {"mlp": SHARED}, {"attention": attention(scale=0.2)}, {"mlp": SHARED}], "bytes", FACTORS),
    "granite": ([{"attention": attention(scale=0.2, output_scale=0.5)}, {"mlp": {**MLP, "output_scale": 0.5}}], "bytes", {}),
    "granite-moe": ([{"attention": attention()}, {"mlp": EXPERTS}], "bytes", FACTORS),
    "falcon-h1": ([{"parallel": [{"ssm": {**MAMBA2, "gated_norm": "none"}}, {"attention": attention()}]}, {"mlp": MLP}], "bytes", {}),
    "lfm2": ([{"shortconv": {"d_conv": 3, "bias": False, "conv_bias": False}}, {"mlp": MLP}, {"attention": attention(qk_norm="head")}, {"mlp": MLP}], "bytes", {}),
    "nemotron-h": ([{"ssm": {**MAMBA2, "n_groups": 2}}, {"mlp": {"d_ff": 96, "activation": "relu2"}}, {"attention": attention(rope="none")}], "bytes", UNTIED),
    "nemotron-h-moe": ([{"ssm": {**MAMBA2, "n_groups": 2}}, {"mlp": SCORED}, {"attention": attention(rope="none")}], "bytes", UNTIED),
    "olmoe": ([{"attention": attention(n_kv_heads=4, qk_norm="full")}, {"mlp": {**MLP, **experts(normalize=False)}}], "bytes", UNTIED),
    "qwen2-moe": ([{"attention": attention(qkv_bias=True)}, {"mlp": {**MLP, **experts(normalize=False, shared=1, shared_d_ff=64, shared_gate=True)}}], "qwen2", UNTIED),
    "qwen3-moe": ([{"attention": attention(qk_norm="head")}, {"mlp": EXPERTS}], "qwen2", {}),
}


def make(m, name):
    """The directory of a model, as an import would have made it, and its ids."""
    blocks, tokenizer, keys = MODELS[name]
    eos = 2 if tokenizer == "llama" else [0, 2]
    spec = {"mossc": 1, "name": name, "vocab_size": V, "d_model": D, "max_positions": 256, **keys, "stack": [{"repeat": 2, "blocks": blocks}],
            "tokenizer": {"kind": "bpe", "file": "tokenizer.json", "bos": 1 if tokenizer == "llama" else 0, "eos": eos}}  # fmt: skip
    folder = m.directory / name
    folder.mkdir()
    (folder / "spec.yaml").write_text(json.dumps(spec))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZERS[tokenizer]))
    (folder / "generation.yaml").write_text("temperature: 0.5\ntop_p: 0.25\nchat_template: " + json.dumps(CHAT) + "\n")
    m.run("init", folder / "spec.yaml", "-o", folder / "model.safetensors", "--seed", "3")
    tokens = np.random.default_rng(1).integers(0, V, T)
    m.file("tokens.txt", " ".join(map(str, tokens)))
    m.run("logits", folder, "--tokens", "tokens.txt", "-o", "logits.npy")
    return folder, [int(token) for token in tokens], np.array(m.npy("logits.npy")[0])


def off(got, wanted):
    """The largest difference, over the root mean square."""
    return float(np.abs(np.asarray(got, np.float64) - wanted).max() / np.sqrt(np.mean(wanted**2)))
