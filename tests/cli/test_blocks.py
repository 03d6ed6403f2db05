"""Checkpoints whose tensors stand in parts of blocks (T.q8 and T.d; T.q4, T.d, T.m, T.s, T.t), from the command line."""
import json
import struct
import sys

sys.dont_write_bytecode = True
from harness import TINY, run_tests  # noqa: E402

TEXT = "It was a dark and stormy night."


def spec_of(weights):
    return TINY.replace("defaults", f"weights: {weights}\ndefaults")


def read(path):
    """name -> [dtype, shape, bytes]."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header, data = json.loads(data[8 : 8 + size]), data[8 + size :]
    return {name: [entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]] for name, entry in header.items() if name != "__metadata__"}


def write(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def float16(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def in_parts(tensors, name):
    """The same checkpoint with one tensor as q8: d = f16(max|w|/127), q = rint(w/d), in float32."""
    out = dict(tensors)
    _, shape, content = out.pop(name)
    w, K = struct.unpack(f"<{len(content) // 4}f", content), shape[-1]
    q, d = [], []
    for row in range(len(w) // K):
        for first in range(0, K, 32):
            group = w[row * K + first : row * K + min(first + 32, K)]
            step = float16(float32(max(map(abs, group)) / 127))
            d.append(step)
            q += [max(-127, min(127, round(float32(x / step)))) if step else 0 for x in group]
    out[name + ".q8"] = ["I8", shape, struct.pack(f"<{len(q)}b", *q)]
    out[name + ".d"] = ["F16", [*shape[:-1], -(-K // 32)], struct.pack(f"<{len(d)}e", *d)]
    return out


def prepare(m):
    m.file("q8.yaml", spec_of("{dtype: q8}"))
    m.run("init", "q8.yaml", "--seed", 3, "-o", "w.safetensors")
    tensors = read(m.directory / "w.safetensors")
    parts = tensors
    for name in ("embed.weight", "blocks.0.in_proj.weight", "blocks.1.down_proj.weight"):
        parts = in_parts(parts, name)
    write(m.directory / "parts", parts)
    return tensors, parts


def test_parts_are_what_loading_makes(m):
    prepare(m)
    for weights in ("w.safetensors", "parts"):
        m.run("pack", "q8.yaml", "-w", weights, "-o", weights + ".weights")
    packed = (m.directory / "w.safetensors.weights").read_bytes()
    assert packed == (m.directory / "parts.weights").read_bytes()
    m.file("t.txt", "1 50 200 7 7 99")
    m.run("logits", "q8.yaml", "-w", "parts", "--tokens", "t.txt", "--reference", 32, "-o", "reference.npy")
    for weights in ("w.safetensors", "parts", "parts.weights"):
        m.run("logits", "q8.yaml", "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
        assert m.npy("x.npy")[1] == m.npy("reference.npy")[1], weights


def test_minus_128_is_told_and_read_as_minus_127(m):
    _, parts = prepare(m)
    name = "blocks.0.in_proj.weight.q8"
    at = parts[name][2].index(0x81)  # -127, which every group has or its opposite
    low = bytearray(parts[name][2])
    low[at] = 0x80
    write(m.directory / "low", {**parts, name: [*parts[name][:2], bytes(low)]})
    told = "tensor 'blocks.0.in_proj.weight.q8' holds -128, which is read as -127"
    assert told in m.run("pack", "q8.yaml", "-w", "low", "-o", "low.weights").stderr
    m.run("pack", "q8.yaml", "-w", "parts", "-o", "parts.weights")
    assert (m.directory / "low.weights").read_bytes() == (m.directory / "parts.weights").read_bytes()
    common = ["run", "q8.yaml", "--prompt", TEXT, "-n", 3]
    done, plain = m.run(*common, "-w", "low"), m.run(*common, "-w", "parts")
    assert told in done.stderr and done.stdout == plain.stdout and "-128" not in plain.stderr


def test_what_a_file_holds_must_be_what_the_spec_says(m):
    tensors, parts = prepare(m)
    common = ["run", "--prompt", TEXT, "-n", 1]
    for weights, what in (("{dtype: bf16}", "tensor 'blocks.0.in_proj.weight' is stored as q8, but it is bf16 in the spec"),
                          ("{dtype: q4}", "tensor 'blocks.0.in_proj.weight' is stored as q8, but it is q4 in the spec")):
        m.file("other.yaml", spec_of(weights))
        text = m.error(*common, "other.yaml", "-w", "parts")
        assert what in text and "weights.dtype or weights.overrides" in text, text
    write(m.directory / "both", {**parts, "embed.weight": tensors["embed.weight"]})
    assert "tensor 'embed.weight' is there twice: also as 'embed.weight.q8'" in m.error(*common, "q8.yaml", "-w", "both")
    write(m.directory / "half", {name: tensor for name, tensor in parts.items() if name != "embed.weight.d"})
    assert "tensor 'embed.weight.d' is missing; expected F16 [256, 1] beside 'embed.weight.q8'" in m.error(*common, "q8.yaml", "-w", "half")


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
