"""Writes a Mamba-1 checkpoint of mossc as a GGUF file of llama.cpp. Runs in the environment that peers.py makes.

    to_gguf.py W.safetensors OUT.gguf --type f32|bf16|f16 --eps EPS

llama.cpp keeps in_proj and gate_proj as one map, A in place of A_log, and one-dimensional tensors, the convolution and A always in
float32: the same choice as mossc's `weights.dtype`. Sizes follow from the shapes. Only token ids are ever fed, so the file has
no vocabulary, only its size.
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
    "out_proj.weight": "ssm_out.weight",
}
NARROWED = {"embed.weight", "x_proj.weight", "dt_proj.weight", "ssm_in", "out_proj.weight"}
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16}


def as_llama_has_them(tensors):
    """Yields (prefix, key of NAMES, array); a tensor that llama.cpp's mamba has no place for is an error."""
    for name, values in tensors.items():
        block, rest = re.fullmatch(r"(?:(blocks\.\d+)\.)?(.*)", name).groups()
        prefix = block.replace("blocks", "blk") + "." if block else ""
        if rest == "in_proj.weight":
            yield prefix, "ssm_in", np.concatenate([values, tensors[f"{block}.gate_proj.weight"]])
        elif rest == "A_log":
            yield prefix, "A", -np.exp(values)
        elif rest in NAMES:
            yield prefix, rest, values
        elif rest != "gate_proj.weight":
            sys.exit(f"llama.cpp's mamba has no tensor like {name}")


def add_sizes(writer, tensors, eps):
    vocab_size, d_model = tensors["embed.weight"].shape
    d_inner, d_conv = tensors["blocks.0.conv.weight"].shape
    writer.add_block_count(sum(name.endswith(".A_log") for name in tensors))
    writer.add_embedding_length(d_model)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_ssm_conv_kernel(d_conv)
    writer.add_ssm_inner_size(d_inner)
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
    options = parser.parse_args()
    tensors = checkpoint.tensors(options.checkpoint)
    writer = gguf.GGUFWriter(options.output, "mamba")
    add_sizes(writer, tensors, options.eps)
    for prefix, name, values in as_llama_has_them(tensors):
        kind = TYPES[options.type if name in NARROWED else "f32"]
        writer.add_tensor(prefix + NAMES[name], gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
