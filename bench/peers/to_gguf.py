"""Writes a Mamba or Mamba-2 checkpoint of mossc as a GGUF file of llama.cpp. Runs in the environment that peers.py makes.

    to_gguf.py W.safetensors OUT.gguf --type f32|bf16|f16 --eps EPS [--groups G]

llama.cpp keeps the maps of a block's input as one (in_proj and gate_proj; of Mamba-2 gate_proj, in_proj, bc_proj and dt_proj), A in
place of A_log, and one-dimensional tensors, the convolution and A always in float32: the same choice as mossc's `weights.dtype`.
Sizes follow from the shapes, but for the groups of Mamba-2. Only token ids are ever fed, so the file has no vocabulary, only its size.
"""
import argparse
import re
import sys

import gguf
import numpy as np

import checkpoint

NAMES = {
    "embed.weight": "token_embd.weight",
    "final_norm.weight": "output_norm.weight",
    "norm.weight": "attn_norm.weight",
    "conv.weight": "ssm_conv1d.weight",
    "conv.bias": "ssm_conv1d.bias",
    "x_proj.weight": "ssm_x.weight",
    "dt_proj.weight": "ssm_dt.weight",
    "dt_proj.bias": "ssm_dt.bias",
    "ssm_in": "ssm_in.weight",
    "A": "ssm_a",
    "D": "ssm_d",
    "gated_norm.weight": "ssm_norm.weight",
    "out_proj.weight": "ssm_out.weight",
}
# What llama.cpp has as one map, in its order.
JOINED = {
    "mamba": ("in_proj.weight", "gate_proj.weight"),
    "mamba2": ("gate_proj.weight", "in_proj.weight", "bc_proj.weight", "dt_proj.weight"),
}
NARROWED = {"embed.weight", "x_proj.weight", "dt_proj.weight", "ssm_in", "out_proj.weight"}
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16}


def architecture(tensors):
    return "mamba2" if "blocks.0.bc_proj.weight" in tensors else "mamba"


def as_llama_has_them(tensors, groups):
    """Yields (prefix, key of NAMES, array); a tensor that llama.cpp's architecture has no place for is an error."""
    kind = architecture(tensors)
    joined = JOINED[kind]
    for name, values in tensors.items():
        block, rest = re.fullmatch(r"(?:(blocks\.\d+)\.)?(.*)", name).groups()
        prefix = block.replace("blocks", "blk") + "." if block else ""
        if rest == joined[0]:
            yield prefix, "ssm_in", np.concatenate([tensors[f"{block}.{part}"] for part in joined])
        elif rest in joined:
            continue
        elif rest in ("A_log", "D") and kind == "mamba2":
            yield prefix, rest.removesuffix("_log"), (values if rest == "D" else -np.exp(values)).reshape(-1, 1)
        elif rest == "A_log":
            yield prefix, "A", -np.exp(values)
        elif rest == "gated_norm.weight":
            yield prefix, rest, values.reshape(groups, -1)
        elif rest in NAMES:
            yield prefix, rest, values
        else:
            sys.exit(f"llama.cpp's {kind} has no tensor like {name}")


def add_sizes(writer, tensors, eps, groups):
    vocab_size, d_model = tensors["embed.weight"].shape
    writer.add_block_count(sum(name.endswith(".A_log") for name in tensors))
    writer.add_embedding_length(d_model)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_ssm_conv_kernel(tensors["blocks.0.conv.weight"].shape[1])
    writer.add_ssm_inner_size(tensors["blocks.0.in_proj.weight"].shape[0])
    if architecture(tensors) == "mamba2":
        writer.add_ssm_state_size(tensors["blocks.0.bc_proj.weight"].shape[0] // (2 * groups))
        writer.add_ssm_time_step_rank(tensors["blocks.0.dt_proj.weight"].shape[0])  # its name for the number of heads
        writer.add_ssm_group_count(groups)
    else:
        writer.add_ssm_state_size(tensors["blocks.0.A_log"].shape[1])
        writer.add_ssm_time_step_rank(tensors["blocks.0.dt_proj.weight"].shape[1])
        writer.add_ssm_dt_b_c_rms(False)
    # Wanted by the loader and without meaning for a model that has neither attention nor a limit of length.
    writer.add_context_length(1 << 20)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(vocab_size)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("output")
    parser.add_argument("--type", choices=TYPES, required=True)
    parser.add_argument("--eps", type=float, required=True)
    parser.add_argument("--groups", type=int, default=1, help="of heads that share B and C (Mamba-2)")
    options = parser.parse_args()
    tensors = checkpoint.tensors(options.checkpoint)
    writer = gguf.GGUFWriter(options.output, architecture(tensors))
    add_sizes(writer, tensors, options.eps, options.groups)
    for prefix, name, values in as_llama_has_them(tensors, options.groups):
        kind = TYPES[options.type if name in NARROWED else "f32"]
        writer.add_tensor(prefix + NAMES[name], gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
