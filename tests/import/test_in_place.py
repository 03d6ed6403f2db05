"""Folders and GGUF files in the place of a spec, and the cache of imported models.

    python3 tests/import/test_in_place.py --mossc build/release/mossc [NAME…]
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from folders import KEPT, change, imported, kept  # noqa: E402
from harness import run_tests  # noqa: E402

EVALUATED = ("--reference", 32)  # nothing is compiled


# ---------------------------------------------------------------------------------------------- in the place of a spec


def logits_of(m, *given):
    m.file("tokens.txt", "1 2 3 4 5")
    done = m.run("logits", *given, "--tokens", "tokens.txt", "-o", "logits.npy")
    return (m.directory / "logits.npy").read_bytes(), done.stderr


def test_what_import_made_stands_for_spec_and_weights(m):
    imported(m, kept(m, "mistral-a"))
    both, _ = logits_of(m, "out/spec.yaml", "-w", "out/model.safetensors")
    assert logits_of(m, "out")[0] == both
    imported(m, "mistral-a", "--dtype", "q8", out="other")
    assert "tensor" in m.error("logits", "out", "-w", "other/model.safetensors", "--tokens", "tokens.txt", "-o", "x")  # -w still counts
    assert "(--weights) is needed" in m.error("logits", "out/spec.yaml", "--tokens", "tokens.txt", "-o", "x", status=2)


def test_a_checkpoint_is_imported_once(m):
    m.kernels = m.directory / "cache"
    imported(m, kept(m, "mistral-a"))
    both, _ = logits_of(m, "out")
    first, said = logits_of(m, "mistral-a")
    assert first == both and "was imported to" in said, said
    again, said = logits_of(m, "mistral-a/")
    assert again == both and not said, said
    change(m.directory / "mistral-a", sliding_window=2)  # another model
    other, said = logits_of(m, "mistral-a")
    assert other != both and "was imported to" in said
    assert len(list((m.kernels / "models").iterdir())) == 2
    m.run("logits", "mistral-a", "-w", "out/model.safetensors", "--tokens", "tokens.txt", "-o", "logits.npy")  # other weights for its spec
    assert (m.directory / "logits.npy").read_bytes() == other
    change(m.directory / "mistral-a", sliding_window="two")
    error = m.error("logits", "mistral-a", "--tokens", "tokens.txt", "-o", "x")
    assert "sliding_window: expected an integer" in error and "mossc import mistral-a -o DIR" in error, error
    assert len(list((m.kernels / "models").iterdir())) == 2


def test_a_gguf_file_is_imported_once(m):
    m.kernels = m.directory / "cache"
    shutil.copy(KEPT / "gguf" / "granitemoehybrid-a-attn.gguf", m.directory / "model.gguf")
    first, said = logits_of(m, "model.gguf")
    assert "was imported to" in said
    assert logits_of(m, "model.gguf") == (first, "")




def test_commands_that_make_things_take_a_checkpoint(m):
    m.kernels = m.directory / "cache"
    imported(m, kept(m, "mistral-a"))
    both, _ = logits_of(m, "out")
    for given in ("out", "mistral-a"):
        m.run("pack", given, "-o", f"{given}.weights")
        assert logits_of(m, given, "-w", f"{given}.weights")[0] == both
        m.run("pack", given, "-w", f"{given}.weights", "--verify")
        assert "kernels" in m.out("warm", given, "out")
        m.run("compile", given, "-o", f"{given}-compiled")
        assert list((m.directory / f"{given}-compiled").glob("*.h"))
        m.run("export", given, "-o", f"{given}-exported")
    first, second = ((m.directory / f"{given}-exported" / "model.safetensors").read_bytes() for given in ("out", "mistral-a"))
    assert first == second
    assert len(list((m.kernels / "models").iterdir())) == 1
    shutil.copy(KEPT / "gguf" / "granitemoehybrid-a-attn.gguf", m.directory / "model.gguf")
    m.run("pack", "model.gguf", "-o", "model.weights")
    assert logits_of(m, "model.gguf", "-w", "model.weights")[0] == logits_of(m, "model.gguf")[0]


# ---------------------------------------------------------------------------------------------- the cache of imported models


def models_of(m):
    return [model["name"].rpartition("-")[0] for model in m.json("cache", "--json")["models"]]


def several(m, names):
    """Models that are imported by use, one after the other, each of its own size."""
    m.kernels = m.directory / "cache"
    m.file("tokens.txt", "1 2 3")
    kept(m, "mistral-a").rename(m.directory / names[0])
    for name in names[1:]:
        shutil.copytree(m.directory / names[0], m.directory / name)
    for name in names:
        m.run("logits", name, "--tokens", "tokens.txt", "-o", "x", *EVALUATED)


def used_long_ago(m, name, days):
    for path in (m.kernels / "models").glob(f"{name}-*"):
        then = time.time() - 86400 * days
        os.utime(path, (then, then))


def test_the_cache_of_models_is_bounded(m):
    several(m, ["a", "b", "c"])
    assert models_of(m) == ["a", "b", "c"]
    said = m.json("cache", "--json")
    assert said["models_bytes"] == sum(model["bytes"] for model in said["models"]) and said["most_models_bytes"] == 64 << 30, said
    assert m.out("cache", "--models").count("mistral-a") == 0 and m.out("cache", "--models").count("KiB") > 3
    used_long_ago(m, "c", 3)
    used_long_ago(m, "a", 2)
    used_long_ago(m, "b", 1)
    m.run("logits", "c", "--tokens", "tokens.txt", "-o", "x", *EVALUATED)  # found, and used last now
    assert models_of(m) == ["a", "b", "c"]
    m.variables["MOSSC_MODELS_SIZE"] = "0"
    shutil.copytree(m.directory / "a", m.directory / "d")
    m.run("logits", "d", "--tokens", "tokens.txt", "-o", "x", *EVALUATED)  # no room at all, but for what is in use
    assert models_of(m) == ["d"]
    m.variables["MOSSC_MODELS_SIZE"] = "x"
    assert "MOSSC_MODELS_SIZE: expected a number of MiB" in m.run("cache").stderr


def test_models_are_removed_by_age_and_size(m):
    several(m, ["a", "b", "c"])
    used_long_ago(m, "b", 40)
    assert m.json("cache", "--keep-days", "30", "--json")["removed_models"] == 1 and models_of(m) == ["a", "c"]
    m.run("cache", "--keep-size", "1000")
    assert models_of(m) == ["a", "c"]
    (m.kernels / "models" / "mine").mkdir()  # none of ours
    (m.kernels / "models" / "e-0123456789abcdef.mossc-tmp-abcdef").mkdir()  # of a killed import
    assert m.json("cache", "--keep-size", "0", "--json")["removed_models"] == 2
    assert [path.name for path in (m.kernels / "models").iterdir()] == ["mine"]


def test_a_model_in_use_stays(m):
    several(m, ["a", "b"])
    read, write = os.pipe()
    process = subprocess.Popen([m.program, "chat", "a", "--template", "chatml", "-n", "1"], cwd=m.directory, env=m.environment(), stdin=read, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.time() + 60
    while time.time() < deadline and not any("/a-" in os.readlink(f) for f in pathlib.Path(f"/proc/{process.pid}/fd").iterdir() if f.is_symlink() and f.exists()):
        time.sleep(0.02)
    try:
        assert m.json("cache", "--keep-size", "0", "--json")["removed_models"] == 1 and models_of(m) == ["a"]
    finally:
        os.close(write)
        process.communicate(timeout=60)
        os.close(read)
    assert m.json("cache", "--keep-size", "0", "--json")["removed_models"] == 1 and models_of(m) == []


def test_a_model_is_found_or_made_while_others_remove_it(m):
    several(m, ["a"])
    removers = [subprocess.Popen(["sh", "-c", f"for i in $(seq 40); do '{m.program}' cache --keep-size 0; done"], env=m.environment(), stdout=subprocess.DEVNULL) for _ in range(2)]
    first = (m.directory / "x").read_bytes()
    for _ in range(12):
        m.run("logits", "a", "--tokens", "tokens.txt", "-o", "x", *EVALUATED)
        assert (m.directory / "x").read_bytes() == first
    for remover in removers:
        assert remover.wait() == 0
    m.run("cache", "--keep-size", "0")
    assert not list((m.kernels / "models").iterdir())


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
