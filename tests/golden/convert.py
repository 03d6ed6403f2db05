"""A checkpoint of Hugging Face transformers or mamba_ssm as a spec and tensors of mossc: enough for the tests, one function a family.

A layer's kinds and widths follow from the tensors that it has; what tensors cannot say is in config.json. Every tensor is used once, and one
that stays unused is an error, so that nothing is overlooked. Use: write(folder, spec_path, weights_path).
"""
import json
import math
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "reference"))
from files import read_safetensors, write_safetensors  # noqa: E402


class CannotSay(Exception):
    """The language has no words for this model."""


class Source:
    """Tensors of a folder, each given out once."""

    def __init__(self, folder):
        self.left = {}
        for path in sorted(folder.glob("model*.safetensors")):
            for name, values in read_safetensors(path).items():
                assert name not in self.left, f"{name} is in two files"
                self.left[name] = values

    def __contains__(self, name):
        return name in self.left

    def take(self, name):
        return self.left.pop(name)

    def linear(self, source, name):
        """Weight and, where there is one, bias of a linear layer, under mossc's name."""
        parts = [part for part in ("weight", "bias") if f"{source}.{part}" in self]
        assert "weight" in parts, f"{source}.weight is missing"
        return {f"{name}.{part}": self.take(f"{source}.{part}") for part in parts}

    def experts(self, source, names):
        """The linear layers `source`.0, .1 … stacked; names: theirs -> mossc's."""
        count = 0
        while any(name.startswith(f"{source}.{count}.") for name in self.left):
            count += 1
        return {f"{ours}.weight": np.stack([self.take(f"{source}.{e}.{theirs}.weight") for e in range(count)]) for theirs, ours in names.items()}


class Model:
    """The spec and the tensors, block by block."""

    def __init__(self, name, source, d_model, eps):
        self.source = source
        self.spec = {"mossc": 1, "name": name, "vocab_size": 0, "d_model": d_model, "norm": {"kind": "rms", "eps": eps}}
        self.stack, self.tensors = [], {}

    def block(self, norm, kind, keys, tensors):
        """norm: the source's name of the norm before it."""
        at = f"blocks.{len(self.stack)}."
        self.tensors[at + "norm.weight"] = self.source.take(norm + ".weight")
        self.tensors.update({at + name: values for name, values in tensors.items()})
        self.stack.append({kind: keys})

    def ends(self, embed, norm, tied):
        """Embedding, last norm and head. A tied head may be stored all the same."""
        table = self.source.take(embed + ".weight")
        if "lm_head.weight" in self.source:
            head = self.source.take("lm_head.weight")
            assert not tied or (head == table).all(), "a tied head differs from the embedding"
            if not tied:
                self.tensors["head.weight"] = head
        self.tensors["embed.weight"] = table
        self.tensors["final_norm.weight"] = self.source.take(norm + ".weight")
        self.spec.update(vocab_size=len(table), tie_embeddings=tied)

    def text(self):
        """YAML, a key or a block a line."""
        lines = [f"{key}: {json.dumps(value)}" for key, value in self.spec.items()]
        return "\n".join(lines + ["stack:"] + [f"  - {json.dumps(block)}" for block in self.stack]) + "\n"


# ------------------------------------------------------------------------------------------------ blocks: each gives (kind, keys, tensors)


def rope_of(c, dim=None):
    """`rope` of a config; dim: how many components turn, if not all."""
    given = c["rope_parameters"]
    keys = {"theta": given["rope_theta"]}
    if dim is not None:
        keys["dim"] = dim
    kind = given["rope_type"]
    if kind == "llama3":
        keys["scaling"] = {"kind": kind, "factor": given["factor"], "low_freq_factor": given["low_freq_factor"],
                           "high_freq_factor": given["high_freq_factor"], "original_max_positions": given["original_max_position_embeddings"]}
    elif kind == "linear":
        keys["scaling"] = {"kind": kind, "factor": given["factor"]}
    elif kind != "default":
        raise CannotSay(f"rope_type {kind}")
    return keys


def head_dim_of(c):
    return c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]


def attention(c, w, at, rope=None, **extra):
    """at: the prefix of its tensors. extra: keys of the block."""
    keys = {"n_heads": c["num_attention_heads"], "n_kv_heads": c["num_key_value_heads"], "head_dim": head_dim_of(c), **extra}
    if rope is not None:
        keys["rope"] = rope
    if c.get("sliding_window") and c.get("use_sliding_window", True):
        keys["window"] = c["sliding_window"]
    tensors = {}
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        tensors.update(w.linear(at + ("out_proj" if name == "o_proj" and at + "out_proj.weight" in w else name), name))
    if "o_proj.bias" in tensors:
        keys["bias"] = True
    elif "q_proj.bias" in tensors:
        keys["qkv_bias"] = True
    for name in ("q_norm", "k_norm"):
        for theirs in (name, name[0] + "_layernorm"):
            if f"{at}{theirs}.weight" in w:
                tensors[name + ".weight"] = w.take(f"{at}{theirs}.weight")
                keys["qk_norm"] = "head" if len(tensors[name + ".weight"]) == keys["head_dim"] else "full"
    return "attention", keys, tensors


def mlp(w, at, names=("gate_proj", "up_proj", "down_proj"), **extra):
    """A dense gated MLP; names: theirs of gate, up and down."""
    tensors = {}
    for theirs, ours in zip(names, ("gate_proj", "up_proj", "down_proj")):
        tensors.update(w.linear(at + theirs, ours))
    return mlp_of(tensors, "swiglu", **extra)


def mlp_of(tensors, activation, **extra):
    keys = {"d_ff": tensors["up_proj.weight"].shape[-2], "activation": activation, **extra}
    if "up_proj.bias" in tensors:
        keys["bias"] = True
    return "mlp", keys, tensors


def moe(w, at, gate, experts, names, router, activation="swiglu", shared=None, **extra):
    """Routed experts at `at`+experts; shared: the tensors of one shared expert."""
    tensors = w.experts(at + experts, names)
    tensors["router.weight"] = w.take(at + gate + ".weight")
    counts = {"count": len(tensors["router.weight"])}
    if shared:
        counts.update(shared=1, shared_d_ff=shared["up_proj.weight"].shape[0])
        tensors.update({"shared." + name: values[None] for name, values in shared.items()})
    return mlp_of(tensors, activation, experts={**counts, **extra}, router=router)


def halves(values):
    """Rows of gate and up in one matrix, gate first: [..., 2F, D] -> two of [..., F, D]."""
    return np.split(values, 2, axis=-2)


def mamba1(w, at, conv, rank, state, **extra):
    """Mamba-1: in_proj's rows are x, then the gate."""
    tensors = {}
    for name, values in w.linear(at + "in_proj", "in_proj").items():
        tensors[name], tensors[name.replace("in_proj", "gate_proj")] = np.split(values, 2)
    tensors.update(w.linear(at + "conv1d", "conv"))
    tensors["conv.weight"] = tensors["conv.weight"][:, 0]
    for name in ("x_proj", "dt_proj", "out_proj"):
        tensors.update(w.linear(at + name, name))
    for name in ("A_log", "D"):
        tensors[name] = w.take(at + name)
    keys = {"d_inner": len(tensors["D"]), "d_state": state, "d_conv": conv, "dt_rank": rank, "conv_bias": "conv.bias" in tensors,
            "bias": "in_proj.bias" in tensors, **extra}
    for name in ("dt", "b", "c"):
        if f"{at}{name}_layernorm.weight" in w:
            tensors[name + "_norm.weight"] = w.take(f"{at}{name}_layernorm.weight")
            keys[name + "_norm"] = "rms"
    return "ssm", keys, tensors


def mamba2(w, at, head_dim, groups, state, limit=None, multipliers=(1, 1, 1, 1, 1), **extra):
    """Mamba-2: in_proj's rows are gate, x, B, C, dt; multipliers: of these five."""
    heads = len(w.left[at + "A_log"])
    inner, shared = heads * head_dim, groups * state
    parts = ("gate_proj", "in_proj", "b", "c", "dt_proj")
    ends = np.cumsum([inner, inner, shared, shared])
    tensors = {}
    for name, values in w.linear(at + "in_proj", "in_proj").items():
        assert len(values) == ends[-1] + heads, f"{at}{name} has {len(values)} rows, not {ends[-1] + heads}"
        rows = {part: piece * np.float32(m) for part, piece, m in zip(parts, np.split(values, ends), multipliers)}
        rows["bc_proj"] = np.concatenate([rows.pop("b"), rows.pop("c")])
        tensors.update({f"{part}.{name.split('.')[1]}": piece for part, piece in rows.items()})
    tensors["dt_proj.bias"] = w.take(at + "dt_bias") + tensors.get("dt_proj.bias", 0)
    tensors.update(w.linear(at + "conv1d", "conv"))
    tensors["conv.weight"] = tensors["conv.weight"][:, 0]
    tensors.update(w.linear(at + "out_proj", "out_proj"))
    assert ("in_proj.bias" in tensors) == ("out_proj.bias" in tensors), f"{at} has a bias on one side"
    for name in ("A_log", "D"):
        tensors[name] = w.take(at + name)
    keys = {"kind": "mamba2", "d_inner": inner, "head_dim": head_dim, "n_groups": groups, "d_state": state, "d_conv": tensors["conv.weight"].shape[-1],
            "conv_bias": "conv.bias" in tensors, "bias": "in_proj.bias" in tensors, "gated_norm": "none", **extra}
    if len(tensors["D"]) == inner and head_dim > 1:
        keys["d_per_channel"] = True
    if at + "norm.weight" in w:
        tensors["gated_norm.weight"] = w.take(at + "norm.weight")
        keys["gated_norm"] = "rms"
    low, high = limit or (0, math.inf)
    if low > 0 or high < math.inf:
        keys["dt_limit"] = [low, high if high < math.inf else "none"]
    return "ssm", keys, tensors


def shortconv(w, at):
    """LFM2: in_proj's rows are B, C, x."""
    tensors = {}
    for name, values in w.linear(at + "in_proj", "in_proj").items():
        part = name.split(".")[1]
        for ours, rows in zip(("b_proj", "c_proj", "in_proj"), np.split(values, 3)):
            tensors[f"{ours}.{part}"] = rows
    tensors.update(w.linear(at + "conv", "conv"))
    tensors["conv.weight"] = tensors["conv.weight"][:, 0]
    tensors.update(w.linear(at + "out_proj", "out_proj"))
    return "shortconv", {"d_conv": tensors["conv.weight"].shape[-1], "d_inner": len(tensors["conv.weight"]), "bias": "in_proj.bias" in tensors,
                         "conv_bias": "conv.bias" in tensors}, tensors


def parallel(*branches):
    keys = [{kind: own} for kind, own, _ in branches]
    return "parallel", keys, {f"branches.{j}.{name}": values for j, (_, _, tensors) in enumerate(branches) for name, values in tensors.items()}


# ------------------------------------------------------------------------------------------------ families: (config, source, name) -> Model


def started(name, c, w):
    model = Model(name, w, c["hidden_size"], c.get("rms_norm_eps") or c.get("layer_norm_epsilon") or c["norm_eps"])
    if "max_position_embeddings" in c:
        model.spec["max_positions"] = c["max_position_embeddings"]
    return model


def layers(c, prefix):
    return [f"{prefix}.layers.{i}." for i in range(c["num_hidden_layers"])]


# Names of an expert's maps: theirs -> mossc's.
GATED = {"gate_proj": "gate_proj", "up_proj": "up_proj", "down_proj": "down_proj"}
PLAIN = {"up_proj": "up_proj", "down_proj": "down_proj"}


def transformer(c, w, name):
    """llama, mistral, qwen2, qwen3; mixtral, olmoe and qwen3_moe with experts."""
    model = started(name, c, w)
    clip = {"qkv_clip": c["clip_qkv"]} if c.get("clip_qkv") else {}
    router = {"top_k": c.get("num_experts_per_tok"), "normalize": c.get("norm_topk_prob", c["model_type"] == "mixtral")}
    for at in layers(c, "model"):
        model.block(at + "input_layernorm", *attention(c, w, at + "self_attn.", rope_of(c), **clip))
        if at + "mlp.gate.weight" in w:
            feed = moe(w, at + "mlp.", "gate", "experts", GATED, router)
        elif at + "block_sparse_moe.gate.weight" in w:
            feed = moe(w, at + "block_sparse_moe.", "gate", "experts", {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}, router)
        else:
            feed = mlp(w, at + "mlp.")
        model.block(at + "post_attention_layernorm", *feed)
    model.ends("model.embed_tokens", "model.norm", c["tie_word_embeddings"])
    return model


def mamba(c, w, name):
    """mamba, and falcon_mamba, where dt, B and C pass an RMS norm without a weight."""
    model = started(name, c, w)
    for at in layers(c, "backbone"):
        kind, keys, tensors = mamba1(w, at + "mixer.", c["conv_kernel"], c["time_step_rank"], c["state_size"])
        if c["model_type"] == "falcon_mamba":
            keys.update(dt_norm="rms", b_norm="rms", c_norm="rms", inner_norm_eps=c["mixer_rms_eps"])
            for norm, size in (("dt_norm", keys["dt_rank"]), ("b_norm", keys["d_state"]), ("c_norm", keys["d_state"])):
                tensors[norm + ".weight"] = np.ones(size, np.float32)
        model.block(at + "norm", kind, keys, tensors)
    model.ends("backbone.embeddings", "backbone.norm_f", c["tie_word_embeddings"])
    return model


def mamba2_alone(c, w, name):
    model = started(name, c, w)
    for at in layers(c, "backbone"):
        model.block(at + "norm", *mamba2(w, at + "mixer.", c["head_dim"], c["n_groups"], c["state_size"], c["time_step_limit"]))
    model.ends("backbone.embeddings", "backbone.norm_f", c["tie_word_embeddings"])
    return model


def mamba_ssm(c, w, name):
    """The format of the mamba_ssm package, whose config leaves out what has its default."""
    model = Model(name, w, c["d_model"], 1e-5)
    given = c["ssm_cfg"]
    for i in range(c["n_layer"]):
        at = f"backbone.layers.{i}."
        if given.get("layer", "Mamba1") == "Mamba1":
            block = mamba1(w, at + "mixer.", given.get("d_conv", 4), given.get("dt_rank", -(-c["d_model"] // 16)), given.get("d_state", 16))
        else:
            block = mamba2(w, at + "mixer.", given.get("headdim", 64), given.get("ngroups", 1), given.get("d_state", 128))
        model.block(at + "norm", *block)
    model.ends("backbone.embedding", "backbone.norm_f", c.get("tie_embeddings", True))
    return model


def jamba(c, w, name):
    model = started(name, c, w)
    for at in layers(c, "model"):
        if at + "self_attn.q_proj.weight" in w:
            model.block(at + "input_layernorm", *attention(c, w, at + "self_attn."))
        else:
            model.block(at + "input_layernorm", *mamba1(w, at + "mamba.", c["mamba_d_conv"], c["mamba_dt_rank"], c["mamba_d_state"]))
        if at + "feed_forward.router.weight" in w:
            router = {"top_k": c["num_experts_per_tok"], "normalize": False}
            model.block(at + "pre_ff_layernorm", *moe(w, at + "feed_forward.", "router", "experts", GATED, router))
        else:
            model.block(at + "pre_ff_layernorm", *mlp(w, at + "feed_forward."))
    model.ends("model.embed_tokens", "model.final_layernorm", c["tie_word_embeddings"])
    return model


def mamba2_of(c, w, at, **extra):
    """Mamba-2 with the keys of bamba, granitemoehybrid and falcon_h1."""
    return mamba2(w, at, c["mamba_d_head"], c["mamba_n_groups"], c["mamba_d_state"], c.get("time_step_limit"), **extra)


def bamba(c, w, name):
    model = started(name, c, w)
    turned = int(head_dim_of(c) * c["rope_parameters"]["partial_rotary_factor"])
    for at in layers(c, "model"):
        if at + "self_attn.q_proj.weight" in w:
            model.block(at + "input_layernorm", *attention(c, w, at + "self_attn.", rope_of(c, turned)))
        else:
            model.block(at + "input_layernorm", *mamba2_of(c, w, at + "mamba."))
        model.block(at + "pre_ff_layernorm", *mlp(w, at + "feed_forward."))
    model.ends("model.embed_tokens", "model.final_layernorm", c["tie_word_embeddings"])
    return model


def granitemoehybrid(c, w, name):
    """Experts beside a shared MLP, or that alone; the softmax over the chosen experts' logits is the language's default."""
    model = started(name, c, w)
    model.spec.update(embedding_scale=c["embedding_multiplier"], logit_scale=1 / c["logits_scaling"])
    scaled = {"output_scale": c["residual_multiplier"]}
    rope = rope_of(c) if c["position_embedding_type"] == "rope" else None
    for at in layers(c, "model"):
        if at + "self_attn.q_proj.weight" in w:
            model.block(at + "input_layernorm", *attention(c, w, at + "self_attn.", rope, scale=c["attention_multiplier"], **scaled))
        else:
            model.block(at + "input_layernorm", *mamba2_of(c, w, at + "mamba.", **scaled))
        gate, up = halves(w.take(at + "shared_mlp.input_linear.weight"))
        tensors = {"gate_proj.weight": gate, "up_proj.weight": up, "down_proj.weight": w.take(at + "shared_mlp.output_linear.weight")}
        keys = {}
        if c["num_local_experts"] > 0:
            keys["experts"] = {"count": c["num_local_experts"], "shared": 1, "shared_d_ff": len(up)}
            keys["router"] = {"top_k": c["num_experts_per_tok"]}
            tensors = {"shared." + part: values[None] for part, values in tensors.items()}
            tensors["gate_proj.weight"], tensors["up_proj.weight"] = halves(w.take(at + "block_sparse_moe.input_linear.weight"))
            tensors["down_proj.weight"] = w.take(at + "block_sparse_moe.output_linear.weight")
            tensors["router.weight"] = w.take(at + "block_sparse_moe.router.layer.weight")
        model.block(at + "post_attention_layernorm", *mlp_of(tensors, "swiglu", **keys, **scaled))
    model.ends("model.embed_tokens", "model.norm", c["tie_word_embeddings"])
    return model


def fold(tensors, layer, factor):
    """A factor on a map's output becomes part of the map."""
    for part in ("weight", "bias"):
        if f"{layer}.{part}" in tensors:
            tensors[f"{layer}.{part}"] = tensors[f"{layer}.{part}"] * np.float32(factor)


def falcon_h1(c, w, name):
    """Mamba-2 and attention side by side on one norm. Multipliers inside a block are folded into its maps."""
    model = started(name, c, w)
    model.spec.update(embedding_scale=c["embedding_multiplier"], logit_scale=c["lm_head_multiplier"])
    for at in layers(c, "model"):
        before = {"norm_before_gate": True} if c["mamba_rms_norm"] and c["mamba_norm_before_gate"] else {}
        ssm = mamba2_of(c, w, at + "mamba.", multipliers=c["ssm_multipliers"], input_scale=c["ssm_in_multiplier"],
                        output_scale=c["ssm_out_multiplier"], **before)
        beside = attention(c, w, at + "self_attn.", rope_of(c), input_scale=c["attention_in_multiplier"], output_scale=c["attention_out_multiplier"])
        fold(beside[2], "k_proj", c["key_multiplier"])
        model.block(at + "input_layernorm", *parallel(ssm, beside))
        gate, down = c["mlp_multipliers"]
        feed = mlp(w, at + "feed_forward.", output_scale=down)
        fold(feed[2], "gate_proj", gate)
        model.block(at + "pre_ff_layernorm", *feed)
    model.ends("model.embed_tokens", "model.final_layernorm", c["tie_word_embeddings"])
    return model


def nemotron_h(c, w, name):
    """One mixer a layer: Mamba-2, attention without positions, MLP or experts, both of them with the square of ReLU."""
    model = started(name, c, w)
    for i in range(len(c["layers_block_type"])):
        at = f"backbone.layers.{i}."
        mixer = at + "mixer."
        if mixer + "A_log" in w:
            block = mamba2(w, mixer, c["mamba_head_dim"], c["n_groups"], c["ssm_state_size"], c["time_step_limit"])
        elif mixer + "q_proj.weight" in w:
            block = attention(c, w, mixer)
        elif mixer + "gate.weight" in w:
            block = nemotron_moe(c, w, mixer)
        else:
            block = mlp_of({**w.linear(mixer + "up_proj", "up_proj"), **w.linear(mixer + "down_proj", "down_proj")}, "relu2")
        model.block(at + "norm", *block)
    model.ends("backbone.embeddings", "backbone.norm_f", c["tie_word_embeddings"])
    return model


def nemotron_moe(c, w, at):
    router = {"top_k": c["num_experts_per_tok"], "score": "sigmoid", "normalize": c["norm_topk_prob"], "scale": c["routed_scaling_factor"],
              "select_bias": True}
    if c["n_group"] > 1:
        router["groups"] = {"count": c["n_group"], "top": c["topk_group"]}
    shared = {**w.linear(at + "shared_experts.up_proj", "up_proj"), **w.linear(at + "shared_experts.down_proj", "down_proj")}
    latent = {"latent": c["moe_latent_size"]} if c.get("moe_latent_size") else {}
    kind, keys, tensors = moe(w, at, "gate", "experts", PLAIN, router, "relu2", shared, **latent)
    tensors["router.select_bias"] = w.take(at + "gate.e_score_correction_bias")
    if latent:
        tensors.update(w.linear(at + "fc1_latent_proj", "latent_down_proj"))
        tensors.update(w.linear(at + "fc2_latent_proj", "latent_up_proj"))
    return kind, keys, tensors


def lfm2(c, w, name):
    """The MLP's width may be adjusted by a rule of its own: the tensors have it."""
    model = started(name, c, w)
    for at in layers(c, "model"):
        if at + "conv.in_proj.weight" in w:
            model.block(at + "operator_norm", *shortconv(w, at + "conv."))
        else:
            model.block(at + "operator_norm", *attention(c, w, at + "self_attn.", rope_of(c)))
        model.block(at + "ffn_norm", *mlp(w, at + "feed_forward.", ("w1", "w3", "w2")))
    model.ends("model.embed_tokens", "model.embedding_norm", c["tie_word_embeddings"])
    return model


def zamba2(c, w, name):
    raise CannotSay("a shared block over the concatenation of hidden state and embedding")


FAMILIES = {
    "bamba": bamba,
    "falcon_h1": falcon_h1,
    "falcon_mamba": mamba,
    "granitemoehybrid": granitemoehybrid,
    "jamba": jamba,
    "lfm2": lfm2,
    "llama": transformer,
    "mamba": mamba,
    "mamba2": mamba2_alone,
    "mistral": transformer,
    "mixtral": transformer,
    "nemotron_h": nemotron_h,
    "olmoe": transformer,
    "qwen2": transformer,
    "qwen3": transformer,
    "qwen3_moe": transformer,
    "zamba2": zamba2,
}


def plain(value):
    """Transformers 5 writes infinity as a map."""
    if isinstance(value, dict):
        return float(value["__float__"]) if set(value) == {"__float__"} else {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def convert(folder):
    """The Model of a folder with config.json and model*.safetensors."""
    config = plain(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    source = Source(folder)
    name = "".join(letter if letter.isalnum() else "-" for letter in folder.name.lower())
    model = (FAMILIES[config["model_type"]] if "model_type" in config else mamba_ssm)(config, source, name)
    assert not source.left, f"unused tensors: {', '.join(sorted(source.left))}"
    return model


def write(folder, spec_path, weights_path):
    model = convert(pathlib.Path(folder))
    pathlib.Path(spec_path).write_text(model.text(), encoding="utf-8")
    write_safetensors(weights_path, model.tensors)
