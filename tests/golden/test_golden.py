"""mossc against Hugging Face transformers and mamba_ssm: tiny models of many families with the logits that those gave for one sequence.

usage: test_golden.py --mossc PROGRAM [--kept] [--all] [FOLDER…]

Every folder (config.json, model*.safetensors, tokens.txt, logits.npy) is imported (`mossc import`) and run, and imported with the
config of transformers 4, where there is one (config-v4.json), it gives the same spec. The folders lie beside the repository, in ../shared/golden or where MOSSC_GOLDEN says; --kept runs the few that are kept here, in data/.
The evaluator in double runs every model. Compiled code, which tests/random compares with an evaluator, runs those whose programs have a kind of
kernel that none before them has, with --all every one.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "reference"))
from golden import SKIPPED, TOLERANCE, off, root_of, run  # noqa: E402
from kernels import NewKinds  # noqa: E402

# Of the evaluator in double: the expected logits are rounded to float32, and so are folded multipliers and dt biases.
TOLERANCE_OF_DOUBLE = 2e-6
EVALUATOR = {"evaluator": (["--reference", 64], TOLERANCE_OF_DOUBLE)}
COMPILED = {"compiled, prefill": ([], TOLERANCE), "compiled, decode": (["--mode", "decode"], TOLERANCE)}

# Folders that must be there.
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
REFUSED = {"zamba2-a": "zamba2 is not in the language"}  # and the words of the refusal


def imported(mossc, folder, out):
    """The spec of a folder, imported to `out`; or the message of a refusal that is expected."""
    done = run(mossc, "import", folder, "-o", out, "--verify")
    words = REFUSED.get(folder.name)
    if words is not None:
        assert done.returncode == 1 and words in done.stderr and not out.exists(), f"expected a refusal, got {done.returncode}:\n{done.stderr}"
        return None
    assert done.returncode == 0, f"mossc import ended with {done.returncode}:\n{done.stderr}"
    return (out / "spec.yaml").read_text(encoding="utf-8")


def older(folder, scratch):
    """The same folder with the config of transformers 4; None where there is none."""
    if not (folder / "config-v4.json").exists():
        return None
    made = scratch / "older" / folder.name
    made.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name != "config.json":
            (made / ("config.json" if path.name == "config-v4.json" else path.name)).symlink_to(path)
    return made


def compare(mossc, folder, scratch, new_kinds):
    out, logits = scratch / "imported", scratch / "logits.npy"
    spec = imported(mossc, folder, out)
    other = older(folder, scratch)
    if other is not None:
        assert imported(mossc, other, scratch / "other") == spec, "the config of transformers 4 gives another spec"
    if spec is None:
        print(f"refused {folder.name}: {REFUSED[folder.name]}", flush=True)
        return
    expected = np.load(folder / "logits.npy")
    found, runs = {}, {**EVALUATOR, **(COMPILED if new_kinds.has(out / "spec.yaml") else {})}
    for name, (options, _) in runs.items():
        done = run(mossc, "logits", out / "spec.yaml", "-w", out / "model.safetensors", "--tokens", folder / "tokens.txt", "-o", logits, *options)
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stderr}\n{spec}"
        found[name] = off(np.load(logits), expected)
    shown = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
    assert all(found[name] <= tolerance for name, (_, tolerance) in runs.items()), f"off by, of the rms: {shown}\n{spec}"
    print(f"ok      {folder.name}: off by, of the rms: {shown}", flush=True)


def folders(options):
    """Those to run; None where the folder beside the repository is missing."""
    root = root_of(options.kept)
    if not root.is_dir():
        print(f"skipped: no folder {root}")
        return None
    found = {path.parent.name: path.parent for path in sorted(root.glob("*/config.json")) if (path.parent / "logits.npy").exists()}
    wanted = options.folders or (found if options.kept else set(found) | REQUIRED | set(REFUSED))
    missing = sorted(set(wanted) - set(found))
    assert found and not missing, f"{root} lacks {', '.join(missing) or 'every model'}"
    return [found[name] for name in sorted(wanted)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--kept", action="store_true", help="run the folders in the repository")
    parser.add_argument("--all", action="store_true", help="compiled code of every model")
    parser.add_argument("folders", nargs="*")
    options = parser.parse_args()
    chosen = folders(options)
    if chosen is None:
        return SKIPPED
    failed, new_kinds = [], NewKinds(options.mossc, options.all)
    for folder in chosen:
        with tempfile.TemporaryDirectory() as directory:
            try:
                compare(options.mossc, folder, pathlib.Path(directory), new_kinds)
            except AssertionError as error:
                failed.append(folder.name)
                print(f"FAILED  {folder.name}: {error}", flush=True)
    print(f"{len(chosen)} models, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
