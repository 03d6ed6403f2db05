"""mossc against the NumPy reference: tensors, parameter counts and logits of every kind of block.

usage: test_reference.py --mossc PROGRAM [--all | --compiled N] [--random TEST_RANDOM --seed S --count N] [SPEC…]

Both evaluators run every spec. Compiled code has the bits of eval32, which tests/random checks; here it runs specs with a kind of kernel that
no spec before them has, of N at most, with --all every one.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True
from files import read_safetensors, write_safetensors  # noqa: E402
from kernels import NewKinds  # noqa: E402
from reference import Spec  # noqa: E402

EVALUATOR = [["--reference", 32]]
COMPILED = [["--mode", "decode"], ["--mode", "prefill"], ["--mode", "prefill", "--chunk", 7]]
MIN_GAP = 1e-4  # closer routing decisions may fall either way in float32: other weights are drawn
TOLERANCE = 2e-4  # of float32 logits: largest difference over the root mean square
# Where inputs are rounded, an error of a float may make another integer of one, a step of 1/127 of its group's largest.
ROUNDED_TOLERANCE = 5e-2
TOKENS = 24


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def off(logits, expected):
    """Largest difference over the root mean square."""
    assert logits.shape == expected.shape and logits.dtype == np.float32, (logits.shape, logits.dtype, expected.shape)
    return np.abs(logits - expected).max() / np.sqrt(np.mean(expected**2))


def check_fresh(spec, tensors):
    """What `mossc init` writes: names, shapes and the laws of the page's "Fresh weights"."""
    expected = spec.tensors()

    def taps(name):
        """The width of a convolution: the last of its weight's sizes. A share may own the bias alone."""
        at = name.removesuffix("bias").removesuffix("weight")
        if at + "weight" not in expected:
            other = spec.blocks[int(at.split(".")[1])][1]["block"]
            at = f"blocks.{spec.names[other]}.conv."
        return expected[at + "weight"][0][-1]

    assert set(tensors) == set(expected), sorted(set(tensors) ^ set(expected))
    for name, (shape, _, _) in expected.items():
        values, part = tensors[name], name.split(".")[-2:]
        assert values.shape == shape, (name, values.shape, shape)
        if part == ["dt_proj", "bias"]:
            steps = np.log1p(np.exp(values.astype(np.float64)))
            assert 0.9e-3 < steps.min() and steps.max() < 0.1001, name
        elif part[-1] == "A_log" and spec.is_mamba2(name):
            assert 0 <= values.min() and values.max() <= np.log(16), name
        elif part[-1] == "A_log":
            assert np.allclose(values, np.log(np.arange(1, shape[-1] + 1)), rtol=1e-6), name
        elif part[-1] in ("mimo_x", "mimo_o"):
            assert (values == np.float32(1 / shape[1])).all(), name
        elif part[-1] in ("D", "b_bias", "c_bias", "mimo_z") or name.endswith("norm.weight"):
            assert (values == 1).all(), name
        elif part[-1] == "B":
            assert (values == 0).all(), name
        elif part[0] == "router" and part[1] != "weight" or part[1] == "bias" and part[0] != "conv":
            assert (values == 0).all(), name
        elif part[0] in ("embed", "head", "router", "shared_gate"):
            assert values.size < 64 or 0.01 < values.std() < 0.03, name
        else:
            fan = shape[-1]
            limit = 1 / np.sqrt(fan if part[0] != "conv" else taps(name))
            if part[0] in ("out_proj", "down_proj", "o_proj") and part[-1] != "A":
                limit /= np.sqrt(len(spec.blocks))
            slack = {"f32": 1e-6, "bf16": 2**-8, "f16": 2**-10}.get(spec.dtype, 2**-8)
            assert np.abs(values).max() <= limit * (1 + slack), (name, np.abs(values).max(), limit)
            assert values.size < 64 or np.abs(values).max() > 0.8 * limit, (name, np.abs(values).max(), limit)


def check_logits(mossc, path, weights, spec, tokens, scratch, ways):
    """eval64 and these ways (options of `mossc logits`) against NumPy; None when a routing decision is too close."""
    expected, gap = spec.logits(read_safetensors(weights), tokens)
    if gap < MIN_GAP:
        return None
    (scratch / "tokens.txt").write_text(" ".join(map(str, tokens)) + "\n")

    def logits(*options):
        out = scratch / "logits.npy"
        run(mossc, "logits", path, "-w", weights, "--tokens", scratch / "tokens.txt", "-o", out, *options)
        return np.load(out)

    exact = logits("--reference", 64)
    # The file holds float32: half a unit in its last place, and what double leaves after a few blocks.
    allowed = 6.1e-8 * np.abs(expected) + 1e-9 * np.sqrt(np.mean(expected**2))
    worst = (np.abs(exact - expected) - allowed).max()
    assert worst <= 0, f"eval64 is off by {off(exact, expected):.3g} of the rms"
    for options in ways:
        found = off(logits(*options), expected)
        assert found <= (ROUNDED_TOLERANCE if spec.is_rounded() else TOLERANCE), f"{' '.join(map(str, options))} is off by {found:.3g} of the rms"
    return off(exact, expected)


def check(mossc, path, scratch, ways):
    spec = Spec(path)
    report = json.loads(run(mossc, "check", path, "--json"))
    assert (report["parameters"], report["active_parameters"]) == spec.counts(), (report["parameters"], report["active_parameters"], spec.counts())
    weights = scratch / "w.safetensors"
    run(mossc, "init", path, "--seed", 5, "-o", weights)
    check_fresh(spec, read_safetensors(weights))
    rng = np.random.default_rng(1)
    for seed in range(30):
        write_safetensors(weights, spec.stored(spec.draw(seed)))
        if check_logits(mossc, path, weights, spec, rng.integers(0, spec.V, TOKENS).tolist(), scratch, ways) is not None:
            return
    raise AssertionError("every draw of weights had a close routing decision")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--all", action="store_true", help="compiled code of every spec")
    parser.add_argument("--compiled", type=int, default=1000)
    parser.add_argument("--random", help="test_random: check specs that it draws")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("specs", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    failed, new_kinds = 0, NewKinds(options.mossc, options.all, options.compiled)
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        paths = options.specs
        if options.random:
            run(options.random, "--seed", options.seed, "--count", options.count, "--spec-out", scratch)
            paths = sorted(scratch.glob("*.yaml"))
        for path in paths or sorted((pathlib.Path(__file__).parent / "specs").glob("*.yaml")):
            try:
                is_compiled = new_kinds.has(path)
                check(options.mossc, path, scratch, EVALUATOR + COMPILED * is_compiled)
                print(f"ok      {path.name}{', compiled' * is_compiled}")
            except AssertionError as error:
                failed += 1
                print(f"FAILED  {path.name}: {error}")
                if options.random:
                    print(path.read_text())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
