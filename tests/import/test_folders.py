"""mossc import on folders: what it reads and what it refuses, most of it on copies of those in tests/golden/data.

    python3 tests/import/test_folders.py --mossc build/release/mossc [NAME…]
"""
import json
import shutil
import sys
import time

import numpy as np

sys.dont_write_bytecode = True
from folders import KEPT, TOKENIZER, Drawn, change, header, imported, kept, make, put, refused, tensors_of  # noqa: E402
from harness import run_tests  # noqa: E402


# ---------------------------------------------------------------------------------------------- config.json


def test_an_unknown_key_is_named(m):
    refused(m, kept(m, "jamba-a-bias", attention_sink=4), "config.json: error: attention_sink: the key is not known")


def test_an_unknown_key_of_a_map_within_is_named(m):
    folder = kept(m, "mistral-a", rope_parameters={"rope_theta": 10000.0, "rope_type": "default", "mscale": 2.0})
    refused(m, folder, "rope_parameters.mscale: the key is not known")


def test_a_key_with_another_meaning_than_ours_is_refused(m):
    for number, (name, keys, words) in enumerate([
        ("mistral-a", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0}}, "rope_parameters.rope_type: the language has no RoPE of the kind 'yarn'"),
        ("mistral-a", {"hidden_act": "relu"}, "hidden_act: the language has no activation 'relu'"),
        ("mistral-a", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config: the key is not known"),
        ("jamba-a-bias", {"mamba_inner_layernorms": False}, "mamba_inner_layernorms: expected true"),
        ("mamba2-groups-a", {"attn_layer_idx": [0], "attn_cfg": {"num_heads": 4, "causal": True, "d_conv": 4}}, "attn_cfg.d_conv: a convolution before attention"),
        ("mamba2-groups-a", {"attn_layer_idx": [0], "attn_cfg": {"num_heads": 4}}, "attn_cfg.causal: expected true"),
        ("granitemoehybrid-a-attn", {"position_embedding_type": "alibi"}, "position_embedding_type: expected nope, got 'alibi'"),
        ("falcon_h1-a-bias", {"projectors_bias": False}, "projectors_bias: expected the value of mamba_proj_bias"),
    ]):
        folder = kept(m, name, **keys)
        refused(m, folder, words)
        shutil.move(folder, m.directory / f"done-{number}")


def test_an_mlp_within_a_mixer_is_refused(m):
    folder = kept(m, "mamba2-groups-a")
    given = json.loads((folder / "config.json").read_text())["ssm_cfg"]
    change(folder, ssm_cfg={**given, "d_ssm": 32})
    refused(m, folder, "ssm_cfg.d_ssm: an MLP within the mixer is not in the language")


def test_a_key_that_is_missing_or_no_number_is_named(m):
    folder = kept(m, "mistral-a", num_hidden_layers=None)
    refused(m, folder, "num_hidden_layers: the key is missing")
    change(folder, num_hidden_layers="three")
    refused(m, folder, "num_hidden_layers: expected an integer from 1")
    change(folder, num_hidden_layers=3, rms_norm_eps=[1])
    refused(m, folder, "rms_norm_eps: expected a number")


def test_a_key_twice_is_an_error(m):
    folder = kept(m, "mistral-a")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("{", '{"hidden_size": 48, ', 1))
    refused(m, folder, "hidden_size: the key is there twice")


def test_families_without_words_in_the_language_are_named(m):
    refused(m, kept(m, "mistral-a", model_type="zamba"), "model_type: zamba is not in the language")


def test_an_unknown_family_gets_the_nearest(m):
    refused(m, kept(m, "mistral-a", model_type="mistal"), "'mistal' is no family that is imported; the nearest is mistral")


def test_infinity_in_both_spellings(m):
    """Text of Python's, where Infinity is a bare word: also one within a text stays."""
    folder = kept(m, "falcon_h1-a-bias", time_step_limit=[0.0, {"__float__": "Infinity"}], _name_or_path="Infinity")
    spec = imported(m, folder)
    text = (folder / "config.json").read_text().replace('{"__float__": "Infinity"}', "Infinity")
    assert "[0.0, Infinity]" in text
    (folder / "config.json").write_text(text)
    assert imported(m, folder, out="other") == spec and "dt_limit" not in spec
    (folder / "config.json").write_text(text.replace("[0.0, Infinity]", "[0.001, Infinity]"))
    assert "dt_limit: [0.001, none]" in imported(m, folder, out="third")


def test_files_that_are_no_config(m):
    folder = kept(m, "mistral-a")
    for text, words in [("[1, 2]", "expected a JSON object"), ("{", "is not valid JSON"), ("[" * 100, "is nested deeper"), ('{"a": NaN}', "is not valid JSON"),
                        ("{" + ", ".join(f'"k{i}": {i}' for i in range(5000)) + "}", "at most 4096 keys")]:
        (folder / "config.json").write_text(text)
        refused(m, folder, words)


def test_numbers_beyond_reason_end_at_once(m):
    begin = time.monotonic()
    folder = kept(m, "mistral-a", num_hidden_layers=2000000000)
    refused(m, folder, "num_hidden_layers: expected at most 4096")
    change(folder, num_hidden_layers=4000)
    refused(m, folder, "tensor 'model.layers.3.input_layernorm.weight' is missing")
    change(folder, num_hidden_layers=3, num_attention_heads=2000000000, head_dim=2000000000)
    refused(m, folder, "error: ")
    assert time.monotonic() - begin < 20


# ---------------------------------------------------------------------------------------------- tensors


def test_every_tensor_is_used_or_named(m):
    folder = kept(m, "mistral-a")
    tensors = tensors_of(folder)
    put(folder, {**tensors, "model.layers.0.self_attn.sink": np.zeros(6, np.float32)})
    refused(m, folder, "tensor 'model.layers.0.self_attn.sink' is no part of the model")
    put(folder, {**tensors, **{f"more.{i}": np.zeros(1, np.float32) for i in range(20)}})
    refused(m, folder, "tensor 'more.0' is no part", "and 12 tensors more")
    put(folder, {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32)})
    imported(m, folder)


def test_a_missing_or_misshapen_tensor_is_named(m):
    folder = kept(m, "mistral-a")
    tensors = tensors_of(folder)
    name = "model.layers.1.mlp.up_proj.weight"
    put(folder, {**tensors, name: tensors[name][:-1]})
    refused(m, folder, f"tensor '{name}' has shape [79, 48]: by the config 'blocks.3.up_proj.weight' has [80, 48]")
    put(folder, {**tensors, name: tensors[name].T.copy()})
    refused(m, folder, f"tensor '{name}': expected rows of 48 numbers, got shape [48, 80]")
    put(folder, {other: values for other, values in tensors.items() if other != name})
    refused(m, folder, f"tensor '{name}' is missing")


def mixtral(m, name, **changed):
    """One layer, two experts of 16 · 32 numbers a map; changed: name of a tensor's end -> shape."""
    w, hidden, at = Drawn(4), 32, "model.layers.0."
    config = {"model_type": "mixtral", "hidden_size": hidden, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16,
              "num_local_experts": 2, "num_experts_per_tok": 1, "vocab_size": 40, "tie_word_embeddings": True}
    shapes = {"model.embed_tokens.weight": (40, hidden), "model.norm.weight": (hidden,), at + "input_layernorm.weight": (hidden,), at + "post_attention_layernorm.weight": (hidden,),
              at + "block_sparse_moe.gate.weight": (2, hidden)}
    shapes |= {f"{at}self_attn.{part}_proj.weight": (rows, hidden) for part, rows in (("q", 32), ("k", 16), ("v", 16), ("o", 32))}
    for expert in range(2):
        shapes |= {f"{at}block_sparse_moe.experts.{expert}.{part}.weight": (hidden, 16) if part == "w2" else (16, hidden) for part in ("w1", "w2", "w3")}
    for end, shape in changed.items():
        shapes[next(name for name in shapes if name.endswith(end.replace("_", ".") + ".weight"))] = shape
    for tensor, shape in shapes.items():
        w(tensor, *shape)
    return make(m, name, config, w.tensors)


def test_each_expert_has_its_own_size(m):
    """One that is larger by as much as another is smaller makes no model."""
    imported(m, mixtral(m, "good"))
    vectors = mixtral(m, "vectors", **{"0_w1": (16 * 32 + 32,), "1_w1": (16 * 32 - 32,)})
    refused(m, vectors, "experts.0.w1.weight' has shape [544]: expected a multiple of 512 numbers", "experts.1.w1.weight' has shape [480]", options=["--verify"])
    refused(m, mixtral(m, "rows", **{"0_w1": (17, 32), "1_w1": (15, 32)}), "experts.0.w1.weight' has shape [17, 32]: expected a multiple of 512 numbers")


def test_rope_and_windows_that_no_key_says_are_the_family_s(m):
    assert "theta: 1e+06" in imported(m, mixtral(m, "mixtral"))
    folder = kept(m, "mistral-a", sliding_window=None)
    assert "window: 4096" in imported(m, folder, out="mistral")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sliding_window": None}))
    assert "window" not in imported(m, folder, out="null")
    refused(m, kept(m, "falcon_mamba-a-eqeps", intermediate_size=None, expand=1e300), "expand: makes a width that is not between 1 and")
    change(folder, model_type="qwen2_moe", use_sliding_window=True, sliding_window=64, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8, shared_expert_intermediate_size=8)
    refused(m, folder, "use_sliding_window: expected layer_types beside it")


def test_heads_of_a_mixer_that_are_none_are_refused(m):
    refused(m, kept(m, "granitemoehybrid-a-attn", mamba_n_heads=0), "mamba_n_heads: expected at least 1")


def test_an_entry_of_blackmamba_that_ends_in_no_number_is_refused(m):
    config = {"hidden_size": 32, "expansion_factor": 2, "state_size": 8, "conv_dimension": 4, "num_layers": 1, "mamba_moe_layers": ["1r"], "vocab_size": 40}
    refused(m, make(m, "blackmamba", config, {"x": np.zeros(1, np.float32)}), "mamba_moe_layers: the language has no layer '1r'")


def test_every_name_is_a_text(m):
    shutil.copytree(KEPT / "mistral-a", m.directory / "null")
    assert '\nname: "null"\n' in imported(m, m.directory / "null")


def test_a_map_of_several_parts_must_have_their_rows(m):
    folder = kept(m, "jamba-a-bias")
    tensors = tensors_of(folder)
    name = "model.layers.0.mamba.in_proj.weight"
    put(folder, {**tensors, name: tensors[name][:-2]})
    refused(m, folder, f"tensor '{name}': expected 128 rows, got 126")


def test_a_type_that_is_not_read_is_named(m):
    folder = kept(m, "mistral-a")
    tensors = tensors_of(folder)
    put(folder, {**tensors, "lm_head.weight": np.zeros((288, 48), np.int8)})
    refused(m, folder, "tensor 'lm_head.weight' has the type I8")


def test_a_number_that_is_not_finite_is_named(m):
    for options in ((), ("--dtype", "q8"), ("--dtype", "bf16")):
        folder = kept(m, "mistral-a")
        tensors = tensors_of(folder)
        tensors["model.layers.2.mlp.down_proj.weight"][3, 5] = np.nan
        put(folder, tensors)
        refused(m, folder, "tensor 'model.layers.2.mlp.down_proj.weight' has a number that is not finite", options=options)
        shutil.rmtree(folder)


def test_padding_of_the_vocabulary_stays_and_is_said(m):
    folder = kept(m, "mistral-a", vocab_size=281)
    spec = imported(m, folder)
    assert "# The last 7 tokens are padding of the vocabulary." in spec and "vocab_size: 288" in spec
    change(folder, vocab_size=300)
    refused_folder = m.error("import", folder, "-o", "other")
    assert "tensor 'model.embed_tokens.weight': expected 300 rows" in refused_folder
    change(folder, vocab_size=20)
    assert "expected 20 rows, the vocabulary and perhaps padding, got 288" in m.error("import", folder, "-o", "other")


def test_a_tied_head_may_be_stored(m):
    folder = kept(m, "mistral-a", tie_word_embeddings=True)
    tensors = tensors_of(folder)
    refused(m, folder, "tensor 'lm_head.weight' differs from 'model.embed_tokens.weight'")
    put(folder, {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert "tie_embeddings: true" in imported(m, folder)
    assert "head.weight" not in header(m.directory / "out" / "model.safetensors")
    change(folder, tie_word_embeddings=None)  # then the tensors say
    assert "tie_embeddings: true" in imported(m, folder, out="other")
    put(folder, tensors)
    assert "tie_embeddings: false" in imported(m, folder, out="third")
    del tensors["lm_head.weight"]
    put(folder, tensors)
    assert "tie_embeddings: true" in imported(m, folder, out="fourth")
    change(folder, tie_word_embeddings=False)
    assert "tensor 'lm_head.weight' is missing" in m.error("import", folder, "-o", "fifth")


# ---------------------------------------------------------------------------------------------- files of weights


def sharded(m):
    folder = kept(m, "mistral-a")
    tensors = tensors_of(folder)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, mine in shards.items():
        put(folder, {name: tensors[name] for name in mine})
        (folder / "model.safetensors").rename(folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, mine in shards.items() for name in mine}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder, index, list(shards)


def test_shards_are_one_checkpoint(m):
    folder, _, _ = sharded(m)
    imported(m, folder)
    put(folder, tensors_of(KEPT / "mistral-a"))
    (folder / "model.safetensors.index.json").unlink()
    imported(m, folder, out="whole")
    assert (m.directory / "out" / "model.safetensors").read_bytes() == (m.directory / "whole" / "model.safetensors").read_bytes()


def test_an_index_that_lies_is_refused(m):
    folder, index, (first, second) = sharded(m)
    some = next(name for name, file in index["weight_map"].items() if file == first)
    for change_map, words in [({some: second}, f"weight_map: '{some}' is not in {second}, but in {first}"), ({"ghost": first}, f"weight_map: 'ghost' is not in {first}"),
                              ({some: "model.safetensors.index.json"}, "index.json: error: "), ({some: "../config.json"}, "expected the name of a file in the same directory"),
                              ({some: "absent.safetensors"}, "absent.safetensors"), ({some: 7}, "expected the name of a file")]:
        changed = {**index, "weight_map": {**index["weight_map"], **change_map}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(changed))
        refused(m, folder, words)


def test_a_tensor_in_two_shards_is_refused(m):
    folder, index, (first, second) = sharded(m)
    shutil.copy(folder / first, folder / second)
    index["weight_map"] = {name: second if file == second else first for name, file in index["weight_map"].items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(m, folder, "is there twice, also in")


def test_a_pickle_is_refused_with_the_command_that_converts_it(m):
    folder = kept(m, "mistral-a")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(m, folder, "pytorch_model.bin: error: a pickle of PyTorch is not read", "save_file", "weights_only=True")


def test_folders_without_a_part(m):
    folder = kept(m, "mistral-a")
    (folder / "model.safetensors").unlink()
    refused(m, folder, "directory has neither model.safetensors.index.json nor model.safetensors")
    (folder / "config.json").unlink()
    refused(m, folder, "config.json")
    refused(m, m.directory / "absent", "absent")


# ---------------------------------------------------------------------------------------------- traps of families


def test_falcon_mamba_trusts_intermediate_size(m):
    spec = imported(m, kept(m, "falcon_mamba-a-eqeps", expand=16))
    assert "d_inner: 96" in spec


def test_jamba_without_expert_layers_is_dense(m):
    """A layer that the periods make dense has no experts to take: theirs stay over."""
    refused(m, kept(m, "jamba-a-bias", expert_layer_offset=7, expert_layer_period=8), "feed_forward.gate_proj.weight' is missing")


def test_a_mamba2_config_with_norm_before_gate_is_read_as_transformers_does(m):
    """Codestral's config has that key, and the code that runs it does not look at it."""
    w = Drawn(1)
    heads, dim, groups, state, inner, hidden = 4, 16, 2, 8, 64, 32
    config = {"model_type": "mamba2", "hidden_size": hidden, "num_heads": heads, "head_dim": dim, "n_groups": groups, "state_size": state, "conv_kernel": 4,
              "num_hidden_layers": 1, "norm_before_gate": True, "rms_norm": True, "intermediate_size": inner, "expand": 2, "vocab_size": 40,
              "time_step_limit": [0.0, {"__float__": "Infinity"}], "time_step_rank": 2, "tie_word_embeddings": True}
    at = "backbone.layers.0."
    w("backbone.embeddings.weight", 40, hidden), w("backbone.norm_f.weight", hidden), w(at + "norm.weight", hidden), w(at + "mixer.norm.weight", inner)
    w(at + "mixer.in_proj.weight", 2 * inner + 2 * groups * state + heads, hidden), w(at + "mixer.conv1d.weight", inner + 2 * groups * state, 1, 4)
    w(at + "mixer.conv1d.bias", inner + 2 * groups * state), w(at + "mixer.out_proj.weight", hidden, inner)
    for name in ("dt_bias", "A_log", "D"):
        w(f"{at}mixer.{name}", heads)
    spec = imported(m, make(m, "codestral", config, w.tensors))
    assert "norm_before_gate" not in spec and "n_groups: 2" in spec
    w.tensors[at + "mixer.D"] = np.ones((heads, dim), np.float32)  # of mamba_ssm with D_has_hdim
    assert "d_per_channel: true" in imported(m, make(m, "wide-d", config, w.tensors), out="wide")


def nemotron(m, name, **extra):
    w = Drawn(2)
    config = {"model_type": "nemotron_h", "hidden_size": 32, "hybrid_override_pattern": "-*", "intermediate_size": 24, "mlp_hidden_act": "relu2", "vocab_size": 40,
              "num_attention_heads": 4, "num_key_value_heads": 2, "attention_head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8,
              "n_group": 1, "n_groups": 2, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False, "rope_theta": 10000, **extra}
    w("backbone.embeddings.weight", 40, 32), w("lm_head.weight", 40, 32), w("backbone.norm_f.weight", 32), w("backbone.layers.0.norm.weight", 32)
    w("backbone.layers.0.mixer.up_proj.weight", 24, 32), w("backbone.layers.0.mixer.down_proj.weight", 32, 24), w("backbone.layers.1.norm.weight", 32)
    w("backbone.layers.1.mixer.q_proj.weight", 64, 32), w("backbone.layers.1.mixer.k_proj.weight", 32, 32), w("backbone.layers.1.mixer.v_proj.weight", 32, 32)
    w("backbone.layers.1.mixer.o_proj.weight", 32, 64), w("mtp.layers.0.norm.weight", 32), w("mtp.layers.0.mixer.up_proj.weight", 24, 32)
    return make(m, name, config, w.tensors)


def test_nemotron_leaves_out_what_predicts_several_tokens_and_says_so(m):
    spec = imported(m, nemotron(m, "nemotron"))
    assert "# 2 tensors mtp.* are left out" in spec and "head_dim: 16" in spec and "rope" not in spec.split("stack:")[1]


def test_nemotron_with_other_numbers_of_layers_or_letters_is_refused(m):
    refused(m, nemotron(m, "long", num_hidden_layers=3), "num_hidden_layers: expected 2, as the other keys say")
    refused(m, nemotron(m, "letters", hybrid_override_pattern="-X"), "hybrid_override_pattern: expected M, *, - or E for each layer, got 'X'")


def test_nemotron_takes_the_width_of_shared_experts_from_their_tensors(m):
    keys = {"hybrid_override_pattern": "-E", "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "moe_shared_expert_intermediate_size": 12, "n_shared_experts": 2}
    for width in (12, 24):
        folder = nemotron(m, f"nemotron{width}", **keys)
        tensors = {name: values for name, values in tensors_of(folder).items() if "_proj" not in name or ".layers.1." not in name}
        at, w = "backbone.layers.1.mixer.", Drawn(5)
        for e in range(4):
            w(f"{at}experts.{e}.up_proj.weight", 8, 32), w(f"{at}experts.{e}.down_proj.weight", 32, 8)
        w(at + "shared_experts.up_proj.weight", width, 32), w(at + "shared_experts.down_proj.weight", 32, width), w(at + "gate.weight", 4, 32), w(at + "gate.e_score_correction_bias", 4)
        put(folder, {**tensors, **w.tensors})
        assert f"shared_d_ff: {width}" in imported(m, folder, out=f"out{width}")
    change(folder, mlp_bias=True)
    refused(m, folder, "mlp_bias: expected false: the language has no experts with biases")


def lfm2(m, name, width, **keys):
    """One layer of attention; its MLP is `width` wide."""
    w, hidden = Drawn(3), 32
    config = {"model_type": "lfm2", "hidden_size": hidden, "num_hidden_layers": 1, "full_attn_idxs": [0], "num_attention_heads": 4, "num_key_value_heads": 2,
              "conv_L_cache": 3, "conv_bias": False, "norm_eps": 1e-5, "vocab_size": 40, "rope_theta": 1e6, "tie_embedding": True, **keys}
    at = "model.layers.0."
    w("model.embed_tokens.weight", 40, hidden), w("model.embedding_norm.weight", hidden), w(at + "operator_norm.weight", hidden), w(at + "ffn_norm.weight", hidden)
    for part, rows in (("q_proj", 32), ("k_proj", 16), ("v_proj", 16), ("out_proj", 32)):
        w(f"{at}self_attn.{part}.weight", rows, hidden)
    w(at + "self_attn.q_layernorm.weight", 8), w(at + "self_attn.k_layernorm.weight", 8)
    w(at + "feed_forward.w1.weight", width, hidden), w(at + "feed_forward.w3.weight", width, hidden), w(at + "feed_forward.w2.weight", hidden, width)
    return make(m, name, config, w.tensors)


def test_lfm2_adjusts_the_width_of_its_mlp(m):
    given = {"block_ff_dim": 100, "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.5, "block_multiple_of": 16}
    assert "d_ff: 112" in imported(m, lfm2(m, "adjusted", 112, **given))  # 2/3 of 100, times 1.5, is 99
    assert "d_ff: 100" in imported(m, lfm2(m, "plain", 100, **{**given, "block_auto_adjust_ff_dim": False}), out="plain-out")


def test_lfm2_has_two_names_for_theta(m):
    plain = {"block_ff_dim": 32, "block_auto_adjust_ff_dim": False}
    folder = lfm2(m, "both", 32, theta=50000, **plain)
    refused(m, folder, "theta: expected that of rope_theta")
    change(folder, rope_theta=None)
    assert "theta: 50000" in imported(m, folder, out="a")
    folder = lfm2(m, "none", 32, **plain)
    change(folder, rope_theta=None)
    assert "theta: 1e+06" in imported(m, folder, out="b")


# ---------------------------------------------------------------------------------------------- texts


def test_tokens_that_end_a_text_come_from_both_configs(m):
    folder = kept(m, "mistral-a", eos_token_id=2)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 2, 9999], "do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 40}))
    spec = imported(m, folder)
    assert "eos: [7, 2]" in spec and "# Token 9999 is said to end a text, but is not in the vocabulary." in spec, spec
    generation = (m.directory / "out" / "generation.yaml").read_text()
    assert "temperature: 0.6\ntop_k: 40\ntop_p: 0.9\nstop: [7, 2, 9999]\n" in generation, generation
    change(folder, eos_token_id=list(range(2000, 4000)))
    assert "# 1022 tokens are said to end a text, but are not in the vocabulary; the first is 9999." in imported(m, folder, out="many")


def test_numbers_of_sampling_count_only_where_the_checkpoint_samples(m):
    folder = kept(m, "mistral-a")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "do_sample": False, "temperature": 0.6}))
    imported(m, folder)
    assert "temperature" not in (m.directory / "out" / "generation.yaml").read_text()


def test_a_chat_template_is_kept_letter_by_letter(m):
    template = "{% for m in messages %}\n\t\"{{ m['content'] }}\" \\ é \u2028{% endfor %}"
    folder = kept(m, "mistral-a")
    settings = {"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}], "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    imported(m, folder)
    line = next(line for line in (m.directory / "out" / "generation.yaml").read_text().split("\n") if line.startswith("chat_template: "))
    assert json.loads(line.split(": ", 1)[1]) == template
    (folder / "chat_template.jinja").write_text("from a file of its own")
    imported(m, folder, out="other")
    assert '"from a file of its own"' in (m.directory / "other" / "generation.yaml").read_text()


def test_a_text_begins_with_what_the_tokenizer_puts_in_front(m):
    folder = kept(m, "mistral-a")
    tokenizer = {**TOKENIZER, "post_processor": None}
    (folder / "tokenizer_config.json").write_text("{}")
    for processor, words in [(None, "file: tokenizer.json, eos"), ({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}], "special_tokens": {}}, "tokenizer.json, eos"),
                             ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<b>"}}],
                                                                                         "special_tokens": {"<b>": {"id": "<b>", "ids": [5]}}}]}, "bos: 5")]:
        (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": processor}))
        shutil.rmtree(m.directory / "out", ignore_errors=True)
        spec = imported(m, folder)
        assert words in spec, spec
    assert json.loads((m.directory / "out" / "tokenizer.json").read_text())["post_processor"] == processor


def test_a_flag_against_the_token_in_front(m):
    """Llama's tokenizers are made anew by their flags; of others the flag means nothing."""
    folder = kept(m, "mistral-a")
    processor = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<b>"}}], "special_tokens": {"<b>": {"id": "<b>", "ids": [5]}}}
    (folder / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "post_processor": processor}))
    for number, (kind, bos, warns) in enumerate([("LlamaTokenizerFast", False, False), ("PreTrainedTokenizerFast", True, True)]):
        (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False, "tokenizer_class": kind}))
        done = m.run("import", folder, "-o", f"out{number}")
        spec = (m.directory / f"out{number}" / "spec.yaml").read_text()
        assert ("bos: 5" in spec) == bos and ("add_bos_token is false" in str(done.stderr)) == warns, (kind, spec, done.stderr)


def test_texts_that_cannot_be_used_are_left_out(m):
    folder = kept(m, "mistral-a")
    for number, (name, content, words) in enumerate([("tokenizer.json", b'{"model": {"type": "Unigram"}}', "there will be no tokenizer: tokenizer.json: "), ("tokenizer.json", b"{", "there will be no tokenizer"),
                                                     ("chat_template.jinja", b"{{ \xff }}", "the chat template is left out: it is no UTF-8"), ("chat_template.jinja", b"a\0b", "it has the character NUL"),
                                                     ("chat_template.jinja", b"\n" * (3 << 20), "the chat template is left out: it is larger")]):
        (folder / name).write_bytes(content)
        done, out = m.run("import", folder, "-o", f"out{number}", "--verify"), m.directory / f"out{number}"
        assert words in str(done.stderr), done.stderr
        assert not (out / "tokenizer.json").exists() and "chat_template" not in (out / "generation.yaml").read_text()
        (folder / name).unlink()


def test_without_a_tokenizer_the_spec_says_so(m):
    folder = kept(m, "mistral-a")
    assert "# There is no tokenizer.json" in imported(m, folder) and not (m.directory / "out" / "tokenizer.json").exists()


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
