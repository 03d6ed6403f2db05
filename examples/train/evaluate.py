"""Bits per byte of a text under a model.

    python evaluate.py SPEC WEIGHTS TEXT [--bytes N] [--streams S] [--window L]

With one stream (the default) the text is read from its first byte to its last,
the state of every block carried from window to window; the first byte, which
nothing predicts, is not counted. More streams cut the text into that many
pieces, each starting from nothing: faster, a little pessimistic.
"""

import argparse
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

import checkpoint
import model
import spec as spec_file


@functools.partial(jax.jit, static_argnums=1)
def _nats(params, spec_id, tokens, state):
    """Summed loss of tokens[:, 1:] after tokens[:, :-1]."""
    logits, state, _ = model.forward(params, SPECS[spec_id], tokens[:, :-1], state)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)
    return -picked.sum(), state


SPECS = {}  # jit wants hashable static arguments: specs go by name


def bits_per_byte(params, spec, text, streams=1, window=4096):
    """text: uint8 array."""
    SPECS[spec.name] = spec
    length = len(text) // streams
    rows = text[:length * streams].reshape(streams, length).astype(np.int32)
    state, nats = model.empty_state(spec, streams), 0.0
    for at in range(0, length - 1, window):
        part, state = _nats(params, spec.name, jnp.asarray(rows[:, at:at + window + 1]), state)
        nats += float(part)
    return nats / math.log(2) / (streams * (length - 1))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("spec")
    ap.add_argument("weights")
    ap.add_argument("text")
    ap.add_argument("--bytes", type=int, default=None, help="only the first N bytes")
    ap.add_argument("--streams", type=int, default=1)
    ap.add_argument("--window", type=int, default=4096)
    args = ap.parse_args()
    spec = spec_file.load(args.spec)
    text = np.fromfile(args.text, np.uint8)[:args.bytes]
    bits = bits_per_byte(checkpoint.read_safetensors(args.weights), spec, text, args.streams, args.window)
    print(f"{spec.name}: {bits:.4f} bits per byte over {len(text)} bytes")


if __name__ == "__main__":
    main()
