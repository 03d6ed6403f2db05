"""mossc import on GGUF files made here: what the converter changed is changed back, blocks are kept, and what is not understood is named.

    python3 tests/import/test_ggufs.py --mossc build/release/mossc [NAME…]
"""
import shutil
import sys

import numpy as np

sys.dont_write_bytecode = True
from folders import Drawn, make, read_safetensors  # noqa: E402
from ggufs import Blocks, paired, write  # noqa: E402
from harness import run_tests  # noqa: E402

V, D, HEADS, KV, HD, F = 40, 32, 4, 2, 8, 48


def keys_of(arch, **more):
    """Keys of a transformer of one layer; None: without it."""
    keys = {"block_count": 1, "context_length": 64, "embedding_length": D, "feed_forward_length": F, "attention.head_count": HEADS,
            "attention.head_count_kv": KV, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0, **more}
    return {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in keys.items() if value is not None}}


def transformer(w, **more):
    """Tensors of such a one, in the names of GGUF; theirs of Hugging Face are drawn."""
    at = "model.layers.0."
    tensors = {"token_embd.weight": w("model.embed_tokens.weight", V, D), "output_norm.weight": w("model.norm.weight", D, near=1),
               "blk.0.attn_norm.weight": w(at + "input_layernorm.weight", D, near=1), "blk.0.ffn_norm.weight": w(at + "post_attention_layernorm.weight", D, near=1),
               "blk.0.attn_q.weight": paired(w(at + "self_attn.q_proj.weight", HEADS * HD, D), HEADS),
               "blk.0.attn_k.weight": paired(w(at + "self_attn.k_proj.weight", KV * HD, D), KV),
               "blk.0.attn_v.weight": w(at + "self_attn.v_proj.weight", KV * HD, D), "blk.0.attn_output.weight": w(at + "self_attn.o_proj.weight", D, HEADS * HD),
               "blk.0.ffn_gate.weight": w(at + "mlp.gate_proj.weight", F, D), "blk.0.ffn_up.weight": w(at + "mlp.up_proj.weight", F, D),
               "blk.0.ffn_down.weight": w(at + "mlp.down_proj.weight", D, F)}
    return {**tensors, **more}


def imported(m, keys, tensors, *options, out="out"):
    """The text of the spec, and the weights."""
    done = m.run("import", write(m.directory / f"{out}.gguf", keys, tensors), "-o", out, "--verify", *options)
    return (m.directory / out / "spec.yaml").read_text(), read_safetensors(m.directory / out / "model.safetensors"), done.stderr


def refused(m, keys, tensors, *words, options=()):
    error = m.error("import", write(m.directory / "wrong.gguf", keys, tensors), "-o", "wrong", *options)
    for word in words:
        assert word in error, f"{word!r} is not in\n{error}"


def same_as_folder(m, config, w, keys, tensors):
    """The spec and weights of a GGUF file and those of the folder that it would be made of."""
    folder = make(m, "folder", config, w.tensors)
    m.run("import", folder, "-o", "theirs")
    expected = read_safetensors(m.directory / "theirs" / "model.safetensors")
    spec, weights, _ = imported(m, keys, tensors)
    lines = [[line for line in text.splitlines()[1:] if not line.startswith(("#", "name:"))] for text in (spec, (m.directory / "theirs" / "spec.yaml").read_text())]
    assert lines[0] == lines[1], f"{lines[0]}\n{lines[1]}"
    assert set(weights) == set(expected)
    for name, values in expected.items():
        assert np.array_equal(weights[name], values), name
    return spec


CONFIG = {"model_type": "llama", "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV, "intermediate_size": F,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": V, "max_position_embeddings": 64, "hidden_act": "silu", "tie_word_embeddings": True}

# ---------------------------------------------------------------------------------------------- what was changed


def test_rows_of_q_and_k_are_put_back(m):
    w = Drawn(1)
    same_as_folder(m, CONFIG, w, keys_of("llama"), transformer(w))


def test_biases_of_q_and_k_are_put_back_too(m):
    w = Drawn(2)
    at, tensors = "model.layers.0.self_attn.", transformer(w)
    for name, theirs, heads in (("q", "q_proj", HEADS), ("k", "k_proj", KV), ("v", "v_proj", None)):
        bias = w(f"{at}{theirs}.bias", (heads or KV) * HD)
        tensors[f"blk.0.attn_{name}.bias"] = paired(bias, heads) if heads else bias
    tensors["blk.0.attn_output.bias"] = w(at + "o_proj.bias", D)
    same_as_folder(m, {**CONFIG, "attention_bias": True}, w, keys_of("llama"), tensors)


def test_qwen2moe(m):
    """Rows as they are, a shared expert behind a gate that is a vector, experts one behind the other."""
    w = Drawn(3)
    at, mlp = "model.layers.0.", "model.layers.0.mlp."
    names = {"token_embd": w("model.embed_tokens.weight", V, D), "output": w("lm_head.weight", V, D), "output_norm": w("model.norm.weight", D, near=1)}
    layer = {"attn_norm": w(at + "input_layernorm.weight", D, near=1), "ffn_norm": w(at + "post_attention_layernorm.weight", D, near=1)}
    for name, rows in (("q", HEADS * HD), ("k", KV * HD), ("v", KV * HD)):
        layer[f"attn_{name}"] = w(f"{at}self_attn.{name}_proj.weight", rows, D)
    layer["attn_output"] = w(at + "self_attn.o_proj.weight", D, HEADS * HD)
    for name, shape, shared in (("gate", (16, D), (24, D)), ("up", (16, D), (24, D)), ("down", (D, 16), (D, 24))):
        layer[f"ffn_{name}_exps"] = np.stack([w(f"{mlp}experts.{e}.{name}_proj.weight", *shape) for e in range(6)])
        layer[f"ffn_{name}_shexp"] = w(f"{mlp}shared_expert.{name}_proj.weight", *shared)
    layer["ffn_gate_inp"] = w(mlp + "gate.weight", 6, D)
    layer["ffn_gate_inp_shexp"] = w(mlp + "shared_expert_gate.weight", 1, D)[0]
    tensors = {f"{name}.weight": values for name, values in names.items()} | {f"blk.0.{name}.weight": values for name, values in layer.items()}
    for name, rows in (("q", HEADS * HD), ("k", KV * HD), ("v", KV * HD)):
        tensors[f"blk.0.attn_{name}.bias"] = w(f"{at}self_attn.{name}_proj.bias", rows)
    config = {**CONFIG, "model_type": "qwen2_moe", "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": False,
              "shared_expert_intermediate_size": 24, "tie_word_embeddings": False}
    keys = keys_of("qwen2moe", expert_count=6, expert_used_count=2, expert_feed_forward_length=16, expert_shared_feed_forward_length=24)
    spec = same_as_folder(m, config, w, keys, tensors)
    assert "normalize: false" in spec and "shared_gate: true" in spec, spec


def test_granitemoe(m):
    """Gate and up of the experts apart, and of a shared one where a key says so."""
    for shared in (False, True):
        w, E, inner = Drawn(8), 3, 12
        at = "model.layers.0."
        tensors = {name: values for name, values in transformer(w).items() if "ffn_" not in name or "norm" in name}
        for name in ("gate", "up", "down"):
            del w.tensors[f"{at}mlp.{name}_proj.weight"]
        both = w(at + "block_sparse_moe.input_linear.weight", E, 2 * inner, D)
        tensors |= {"blk.0.ffn_gate_inp.weight": w(at + "block_sparse_moe.router.layer.weight", E, D), "blk.0.ffn_gate_exps.weight": both[:, :inner],
                    "blk.0.ffn_up_exps.weight": both[:, inner:], "blk.0.ffn_down_exps.weight": w(at + "block_sparse_moe.output_linear.weight", E, D, inner)}  # fmt: skip
        config = {**CONFIG, "model_type": "granitemoe", "num_local_experts": E, "num_experts_per_tok": 2, "intermediate_size": inner, "attention_multiplier": 0.25,
                  "embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 4.0}  # fmt: skip
        keys = keys_of("granitemoe", **{"expert_count": E, "expert_used_count": 2, "feed_forward_length": inner, "attention.scale": 0.25, "embedding_scale": 2.0,
                                        "residual_scale": 0.5, "logit_scale": 4.0})  # fmt: skip
        if shared:
            both = w(at + "shared_mlp.input_linear.weight", 20, D)
            tensors |= {"blk.0.ffn_gate_shexp.weight": both[:10], "blk.0.ffn_up_shexp.weight": both[10:], "blk.0.ffn_down_shexp.weight": w(at + "shared_mlp.output_linear.weight", D, 10)}
            config |= {"model_type": "granitemoeshared", "shared_intermediate_size": 10}
            keys["granitemoe.expert_shared_feed_forward_length"] = 10
        for name in ("folder", "theirs", "out"):
            shutil.rmtree(m.directory / name, ignore_errors=True)
        spec = same_as_folder(m, config, w, keys, tensors)
        assert ("shared" in spec) == shared, spec


def test_rope_turns_by_10000_where_no_key_says_how(m):
    """llama.cpp's default, whatever the family's own is."""
    w = Drawn(9)
    for arch, model_type in (("llama", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")):
        tensors = transformer(w)
        for name, heads in (("q", HEADS), ("k", KV)) if arch != "llama" else ():
            tensors[f"blk.0.attn_{name}.weight"] = w(f"model.layers.0.self_attn.{name}_proj.weight", heads * HD, D)  # not in pairs
        if arch == "qwen2":
            tensors |= {f"blk.0.attn_{n}.bias": w(f"b{n}", h * HD) for n, h in (("q", HEADS), ("k", KV), ("v", KV))}
        if arch == "qwen3":
            tensors |= {f"blk.0.attn_{n}_norm.weight": w(f"n{n}", HD, near=1) for n in "qk"}
        for given, theta in ((None, "10000"), (500.0, "500")):
            shutil.rmtree(m.directory / "out", ignore_errors=True)
            spec, _, _ = imported(m, keys_of(arch, **{"rope.freq_base": given}), tensors)
            assert f"theta: {theta}" in spec, (model_type, given, spec)


def test_qwen3moe_normalises_its_experts(m):
    """norm_topk_prob, which a GGUF file does not say; qwen2moe and olmoe have it off."""
    for arch, normal in (("qwen3moe", "true"), ("olmoe", "false")):
        w, E, inner, at = Drawn(10), 3, 12, "model.layers.0."
        tensors = {name: values for name, values in transformer(w).items() if "ffn_" not in name or "norm" in name}
        tensors["blk.0.attn_q.weight"], tensors["blk.0.attn_k.weight"] = (w(f"{at}self_attn.{n}_proj.weight", h * HD, D) for n, h in (("q", HEADS), ("k", KV)))
        width = (lambda heads: HD) if arch == "qwen3moe" else (lambda heads: heads * HD)
        tensors |= {f"blk.0.attn_{n}_norm.weight": w(f"n{n}{arch}", width(h), near=1) for n, h in (("q", HEADS), ("k", KV))}
        tensors |= {"blk.0.ffn_gate_inp.weight": w("r", E, D), "blk.0.ffn_gate_exps.weight": w("g", E, inner, D), "blk.0.ffn_up_exps.weight": w("u", E, inner, D),
                    "blk.0.ffn_down_exps.weight": w("d", E, D, inner)}  # fmt: skip
        more = {"expert_feed_forward_length": inner} if arch == "qwen3moe" else {"feed_forward_length": inner}
        shutil.rmtree(m.directory / "out", ignore_errors=True)
        spec, _, _ = imported(m, keys_of(arch, **{"expert_count": E, "expert_used_count": 2, **more}), tensors)
        assert f"normalize: {normal}" in spec and "d_ff: 12" in spec, (arch, spec)


def test_a_part_of_a_head_turns(m):
    w = Drawn(4)
    spec, _, _ = imported(m, keys_of("llama", **{"rope.dimension_count": 4}), transformer(w))
    assert "dim: 4" in spec, spec


def divisors(factor, low, high, original, theta, size):
    """Those of Llama 3's scaling, by its definition."""
    length = 2 * np.pi * theta ** (np.arange(0, size, 2) / size)
    share = np.clip((original / length - low) / (high - low), 0, 1)
    return 1 / ((1 - share) / factor + share)


def test_divisors_of_rope_are_llama3_scaling(m):
    w = Drawn(5)
    for number, (factor, low, high, original, theta, size) in enumerate([
        (8.0, 1.0, 4.0, 8192, 500000.0, 128), (32.0, 1.0, 4.0, 8192, 500000.0, 64), (8.0, 1.0, 4.0, 32, 10000.0, 16), (4.0, 1.5, 3.0, 1000, 10000.0, 64),
    ]):
        rows = size * HEADS
        tensors = transformer(w, **{"blk.0.attn_q.weight": np.ones((rows, D)), "blk.0.attn_k.weight": np.ones((rows // 2, D)), "blk.0.attn_v.weight": np.ones((rows // 2, D)),
                                    "blk.0.attn_output.weight": np.ones((D, rows)), "rope_freqs.weight": divisors(factor, low, high, original, theta, size)})
        keys = keys_of("llama", **{"attention.key_length": size, "attention.value_length": size, "rope.freq_base": theta})
        spec, _, _ = imported(m, keys, tensors, out=f"out{number}")
        if low == 1:
            said = f"factor: {factor:g}, low_freq_factor: 1, high_freq_factor: {high:g}, original_max_positions: {original}"
            assert said in spec, spec
            continue
        words = spec.replace("{", " ").replace("}", " ").replace(",", " ").split()
        found = {word: float(words[words.index(word + ":") + 1]) for word in ("factor", "low_freq_factor", "high_freq_factor", "original_max_positions")}
        again = divisors(*found.values(), theta, size)
        assert np.allclose(again, divisors(factor, low, high, original, theta, size), rtol=1e-5), spec


def test_scaling_that_the_language_has_not_is_refused(m):
    w = Drawn(6)
    refused(m, keys_of("llama"), transformer(w, **{"rope_freqs.weight": np.array([1, 3, 2, 8.0])}), "rope_freqs.weight", "not those of a scaling")
    refused(m, keys_of("llama", **{"rope.scaling.type": "yarn"}), transformer(w), "llama.rope.scaling.type: expected none or linear")
    spec, _, _ = imported(m, keys_of("llama", **{"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}), transformer(w))
    assert "scaling: {kind: linear, factor: 4}" in spec, spec
    spec, _, _ = imported(m, keys_of("llama", **{"rope.scaling.factor": 4.0}), transformer(w), out="untyped")
    assert "scaling: {kind: linear, factor: 4}" in spec, spec
    freqs = {"rope_freqs.weight": np.array([1, 1, 1, 1.0])}
    refused(m, keys_of("llama", **{"rope.scaling.factor": 4.0}), transformer(w, **freqs), "llama.rope.scaling.factor: expected 1 beside the tensor 'rope_freqs.weight'")
    refused(m, keys_of("llama"), transformer(w, **{"rope_freqs.weight": np.array([1, 1, 1.0])}), "'rope_freqs.weight': expected 4 numbers, got 3")


def test_attention_of_granite_is_scaled_by_its_own_size_of_heads(m):
    w = Drawn(12)
    tensors = transformer(w, **{"blk.0.attn_q.weight": np.ones((64, D)), "blk.0.attn_k.weight": np.ones((32, D)), "blk.0.attn_v.weight": np.ones((32, D)),
                                "blk.0.attn_output.weight": np.ones((D, 64))})
    spec, _, _ = imported(m, keys_of("granite", **{"attention.key_length": 16, "attention.value_length": 16}), tensors)
    assert "scale: 0.25" in spec, spec


def test_eps_of_nemotron_by_either_name_or_both(m):
    tensors = {"token_embd.weight": np.ones((V, D)), "output_norm.weight": np.ones(D), "blk.0.attn_norm.weight": np.ones(D),
               "blk.0.ffn_up.weight": np.ones((F, D)), "blk.0.ffn_down.weight": np.ones((D, F))}
    ssm = {f"ssm.{key}": value for key, value in (("inner_size", 32), ("time_step_rank", 4), ("state_size", 8), ("group_count", 2), ("conv_kernel", 4))}
    names = ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon")
    for number, values in enumerate([(1e-3, None), (None, 1e-3), (1e-3, 1e-3)]):
        keys = keys_of("nemotron_h", **ssm, **{"rope.freq_base": None, "attention.key_length": 8}, **dict(zip(names, values, strict=True)))
        assert "eps: 0.001" in imported(m, keys, tensors, out=f"out{number}")[0]
    keys = keys_of("nemotron_h", **ssm, **{"rope.freq_base": None, "attention.key_length": 8}, **dict(zip(names, (1e-3, 1e-5), strict=True)))
    refused(m, keys, tensors, "nemotron_h.attention.layer_norm_epsilon: expected that of")


# ---------------------------------------------------------------------------------------------- blocks


def in_blocks(w, forms, columns=256):
    """A model of that width whose maps have the forms, one after the other; others are Q8_0."""
    tensors = {"token_embd.weight": Blocks("Q8_0", V, columns), "output_norm.weight": np.ones(columns)}
    for layer in range(2):
        at = f"blk.{layer}."
        tensors.update({at + "attn_norm.weight": np.ones(columns), at + "ffn_norm.weight": np.ones(columns)})
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            tensors[at + name + ".weight"] = Blocks(forms.get((name, layer), "Q8_0"), columns, columns, seed=layer + 7)
    return keys_of("llama", block_count=2, embedding_length=columns, feed_forward_length=columns, **{"attention.head_count_kv": HEADS}), tensors


def test_blocks_are_kept(m):
    """Q4_0 as q8, and Q4_K as q4: the very numbers."""
    w = Drawn(7)
    forms = {(name, layer): "Q4_K" for name in ("ffn_up", "ffn_gate") for layer in range(2)} | {("ffn_down", 0): "Q4_0"}
    keys, tensors = in_blocks(w, forms)
    spec, weights, errors = imported(m, keys, tensors)
    assert not errors and "weights: {dtype: q8, overrides: {gate_proj: q4, up_proj: q4}}" in spec, (spec, errors)
    blocks = tensors["blk.0.ffn_down.weight"].bytes
    q = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.int8) - 8
    assert np.array_equal(weights["blocks.1.down_proj.weight.q8"], q.reshape(256, 256))
    assert np.array_equal(weights["blocks.1.up_proj.weight.d"].reshape(-1), tensors["blk.0.ffn_up.weight"].bytes[:, :2].copy().view(np.float16)[:, 0].astype(np.float32))


def test_a_mixture_of_forms_is_what_holds_all(m):
    w = Drawn(8)
    keys, tensors = in_blocks(w, {("ffn_down", 0): "Q4_K", ("ffn_down", 1): "Q6_K"})
    assert "weights: {dtype: q8}" in imported(m, keys, tensors)[0]
    spec, _, _ = imported(m, keys, tensors, "--exact", out="exact")
    assert "overrides: {down_proj: f32}, activations: f32" in spec, spec


def test_a_least_number_of_q8_0_is_said(m):
    w = Drawn(9)
    keys, tensors = in_blocks(w, {})
    tensors["blk.1.ffn_up.weight"].bytes[5, 3] = 0x80
    spec, weights, errors = imported(m, keys, tensors)
    assert "tensor 'model.layers.1.mlp.up_proj.weight' has a -128 in 1 of 256 rows, which became -127" in errors, errors
    assert weights["blocks.3.up_proj.weight.q8"].min() == -127
    assert "overrides: {up_proj: f32}" in imported(m, keys, tensors, "--exact", out="exact")[0]


# ---------------------------------------------------------------------------------------------- what is refused


def test_what_is_not_known_is_named(m):
    w = Drawn(10)
    refused(m, keys_of("llama", **{"attention.sinks": 4}), transformer(w), "llama.attention.sinks: the key is not known")
    refused(m, keys_of("llama"), transformer(w, **{"blk.0.attn_sinks.weight": np.ones(4)}), "tensor 'blk.0.attn_sinks.weight' is no part of the model")
    refused(m, keys_of("llama"), transformer(w, **{"blk.1.ffn_up.weight": np.ones((F, D))}), "tensor 'blk.1.ffn_up.weight' is no part of the model")
    refused(m, keys_of("gemma7"), transformer(w), "general.architecture: 'gemma7' is none that is imported")
    refused(m, {**keys_of("llama"), "general.type": "adapter"}, transformer(w), "general.type: expected a model")


def test_keys_that_do_not_fit_are_refused(m):
    w = Drawn(11)
    refused(m, keys_of("llama", vocab_size=V + 1), transformer(w), "llama.vocab_size: expected as many as token_embd.weight has rows")
    refused(m, keys_of("llama", **{"attention.head_count_kv": [2, 4]}), transformer(w), "llama.attention.head_count_kv: expected a whole number")
    refused(m, keys_of("llama", **{"attention.key_length": 8, "attention.value_length": 16}), transformer(w), "llama.attention.value_length")
    refused(m, keys_of("llama", **{"rope.dimension_count": 16}), transformer(w), "llama.rope.dimension_count: expected 1 to 8")
    refused(m, keys_of("llama", **{"rope.dimension_count": 4.0}), transformer(w), "llama.rope.dimension_count: expected a whole number")
    refused(m, keys_of("llama", **{"rope.scaling.factor": 4}), transformer(w), "llama.rope.scaling.factor: expected a finite number")
    refused(m, keys_of("llama", context_length=float("inf")), transformer(w), "llama.context_length: expected a whole number")
    refused(m, keys_of("llama", block_count=0), transformer(w), "llama.block_count: expected a whole number from 1")
    refused(m, keys_of("llama", **{"attention.layer_norm_rms_epsilon": float("nan")}), transformer(w), "expected a finite number")
    refused(m, keys_of("llama", **{"attention.head_count": 3, "attention.head_count_kv": 3}), transformer(w), "expected rows of 3 heads")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
