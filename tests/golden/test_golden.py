"""mossc against Hugging Face transformers and mamba_ssm: tiny models of many families with the logits that those gave for one sequence.

usage: test_golden.py --mossc PROGRAM [--kept] [FOLDER…]

Every folder (config.json, model*.safetensors, tokens.txt, logits.npy) becomes a spec and weights of mossc (convert.py) and is run. The folders
lie beside the repository, in ../shared/golden or where MOSSC_GOLDEN says; --kept runs the few that are kept here, in data/.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True
import convert  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77
TOLERANCE = 1e-4  # largest difference over the root mean square; transformers itself is off by up to 1e-5 in float32
# Of the evaluator in double: the expected logits are rounded to float32, and so are folded multipliers and dt biases.
TOLERANCE_OF_DOUBLE = 2e-6
RUNS = {"compiled, prefill": ([], TOLERANCE), "compiled, decode": (["--mode", "decode"], TOLERANCE), "evaluator": (["--reference", 64], TOLERANCE_OF_DOUBLE)}

# Folders that must pass. Others pass or are refused by `mossc check` as beyond this version.
REQUIRED = {
    "bamba-a",
    "bamba-a-dtlimit",
    "falcon_h1-a",
    "falcon_h1-a-bias",
    "falcon_h1-a-norm",
    "falcon_h1-a-normbefore",
    "falcon_mamba-a",
    "falcon_mamba-a-eqeps",
    "granitemoehybrid-a",
    "granitemoehybrid-a-attn",
    "granitemoehybrid-a-dense",
    "granitemoehybrid-a-rope",
    "jamba-a",
    "jamba-a-bias",
    "lfm2-a",
    "lfm2-a-bias",
    "llama-a",
    "llama-a-llama3",
    "mamba-a",
    "mamba-a-bias",
    "mamba2-a",
    "mamba2-a-dtlimit",
    "mamba2-a-groups",
    "mamba2-groups-a",
    "mamba_ssm-mamba1-a",
    "mamba_ssm-mamba2-a",
    "mistral-a",
    "mixtral-a",
    "nemotron_h-a",
    "nemotron_h-a-dense",
    "nemotron_h-a-latent",
    "nemotron_h-a-moe",
    "olmoe-a",
    "olmoe-a-clip",
    "qwen2-a",
    "qwen3-a",
    "qwen3_moe-a",
}
BEYOND = {"unknown-key", "not-in-version"}  # codes of `mossc check --json`


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def refusal(mossc, spec):
    """What this version of mossc lacks for a spec; None if it has everything. A message of another kind is an error of the conversion."""
    done = run(mossc, "check", spec, "--json")
    errors = [message for message in json.loads(done.stdout)["messages"] if message["severity"] == "error"]
    wrong = [message["message"] for message in errors if message["code"] not in BEYOND]
    assert not wrong, f"mossc check: {'; '.join(wrong)}\n{spec.read_text()}"
    assert (done.returncode == 0) == (not errors), done.stderr
    return errors[0]["message"] if errors else None


def off(logits, expected):
    """Largest difference over the root mean square."""
    assert logits.shape == expected.shape and logits.dtype == np.float32, (logits.shape, logits.dtype, expected.shape)
    expected = expected.astype(np.float64)
    return np.abs(logits - expected).max() / np.sqrt(np.mean(expected**2))


def compare(mossc, folder, scratch):
    """Why a folder is beyond this version, or None when every run gave its logits."""
    spec, weights, out = scratch / "spec.yaml", scratch / "w.safetensors", scratch / "logits.npy"
    try:
        convert.write(folder, spec, weights)
    except convert.CannotSay as reason:
        return str(reason)
    reason = refusal(mossc, spec)
    if reason is not None:
        return reason
    expected = np.load(folder / "logits.npy")
    found = {}
    for name, (options, _) in RUNS.items():
        done = run(mossc, "logits", spec, "-w", weights, "--tokens", folder / "tokens.txt", "-o", out, *options)
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stderr}\n{spec.read_text()}"
        found[name] = off(np.load(out), expected)
    shown = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
    assert all(found[name] <= tolerance for name, (_, tolerance) in RUNS.items()), f"off by, of the rms: {shown}\n{spec.read_text()}"
    print(f"ok      {folder.name}: off by, of the rms: {shown}", flush=True)
    return None


def folders(options):
    """Those to run; None where the folder beside the repository is missing."""
    root = HERE / "data" if options.kept else pathlib.Path(os.environ.get("MOSSC_GOLDEN") or HERE.parents[2] / "shared" / "golden")
    if not root.is_dir():
        print(f"skipped: no folder {root}")
        return None
    found = {path.parent.name: path.parent for path in sorted(root.glob("*/config.json")) if (path.parent / "logits.npy").exists()}
    wanted = options.folders or (found if options.kept else set(found) | REQUIRED)
    missing = sorted(set(wanted) - set(found))
    assert found and not missing, f"{root} lacks {', '.join(missing) or 'every model'}"
    return [found[name] for name in sorted(wanted)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--kept", action="store_true", help="run the folders in the repository")
    parser.add_argument("folders", nargs="*")
    options = parser.parse_args()
    chosen = folders(options)
    if chosen is None:
        return SKIPPED
    failed, beyond = [], []
    with tempfile.TemporaryDirectory() as directory:
        for folder in chosen:
            try:
                reason = compare(options.mossc, folder, pathlib.Path(directory))
                assert reason is None or folder.name not in REQUIRED, reason
                if reason is not None:
                    beyond.append(f"{folder.name} ({reason})")
            except AssertionError as error:
                failed.append(folder.name)
                print(f"FAILED  {folder.name}: {error}", flush=True)
    if beyond:
        print(f"cannot be said yet: {', '.join(beyond)}")
    print(f"{len(chosen)} models, {len(failed)} failed, {len(beyond)} cannot be said")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
