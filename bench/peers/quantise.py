"""A GGUF made into one of another type by llama.cpp's own quantiser. Runs in the environment that peers.py makes.

    quantise.py MODEL.gguf OUT.gguf --type f32|q8_0|q4_0|q4_k_m [--threads N]
"""
import argparse
import ctypes
import sys

import llama_cpp

TYPES = {"f32": llama_cpp.LLAMA_FTYPE_ALL_F32, "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
         "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--type", choices=TYPES, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = TYPES[options.type], options.threads, True
    status = llama_cpp.llama_model_quantize(options.model.encode(), options.output.encode(), ctypes.byref(params))
    return f"llama_model_quantize of {options.model} ended with {status}" if status else 0


if __name__ == "__main__":
    sys.exit(main())
