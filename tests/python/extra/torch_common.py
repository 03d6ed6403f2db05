"""What tests of mossc.torch share: specs drawn from the whole language, weights for them, and what mossc computes."""
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent.parent / "reference")]
from common import ROOT, SPEC, TINY, WEIGHTS, Skipped, need, raises, run_tests  # noqa: E402, F401

need("torch", "transformers", "safetensors")

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is compared is a CPU's
import numpy as np  # noqa: E402
import torch  # noqa: E402
from files import write_safetensors  # noqa: E402
from reference import Spec as Reference  # noqa: E402

import mossc  # noqa: E402, F401
import mossc.rounding  # noqa: E402, F401
from mossc.torch import MosscConfig, MosscForCausalLM  # noqa: E402

torch.set_num_threads(1)  # the models are small, and ctest runs several scripts at once


def random_specs(m, count, seed):
    """Paths of specs that the C test's generator draws; with the seed they differ in everything."""
    program = pathlib.Path(m.program).parent / "tests/random/test_random"
    if not program.exists():
        raise Skipped(f"{program} is not built")
    subprocess.run([program, "--seed", str(seed), "--count", str(count), "--spec-out", m.directory], check=True, capture_output=True)
    return sorted(m.directory.glob("[0-9]*.yaml"))


def drawn_model(path, seed, dtype=torch.float64):
    """A module of the spec with weights of useful sizes, and those weights."""
    weights = Reference(path).draw(seed)
    model = MosscForCausalLM(MosscConfig.from_spec(path)).to(dtype)
    model.load_state_dict({name: torch.from_numpy(np.array(values)).to(dtype) for name, values in weights.items()})
    return model, weights


def reference_logits(m, path, weights, tokens):
    """(logits [T, V] of `mossc logits --reference 64`, the smallest gap of a routing decision; None: there is none)."""
    write_safetensors(m.directory / "w.safetensors", weights)
    m.file("tokens.txt", " ".join(map(str, tokens)))
    said = m.json("logits", path, "-w", "w.safetensors", "--tokens", "tokens.txt", "-o", "out.npy", "--reference", 64, "--json")
    return np.load(m.directory / "out.npy").astype(np.float64), said["min_gap"]
