"""Models of others: mossc.import_model and paths of folders, with the results of `mossc import`."""
import os
import shutil
import sys

import numpy as np
from common import raises, run_tests

import mossc

LLAMA = """\
mossc: 1
name: tiny
vocab_size: 64
d_model: 32
stack:
  - attention: {n_heads: 2, rope: {theta: 10000}}
  - mlp: {d_ff: 64}
"""


def folder_of(m):
    """A Hugging Face folder, by mossc export."""
    m.file("llama.yaml", LLAMA)
    m.run("init", "llama.yaml", "-o", "w", "--seed", "3")
    m.run("export", "llama.yaml", "-w", "w", "-o", "folder")
    return m.directory / "folder"


def test_a_folder_is_a_spec_and_a_model(m):
    folder = folder_of(m)
    m.run("import", "folder", "-o", "program")
    made = mossc.import_model(folder, m.directory / "package")
    assert made == m.directory / "package"
    for name in ("spec.yaml", "model.safetensors"):
        assert (made / name).read_bytes() == (m.directory / "program" / name).read_bytes()
    want = mossc.Model(LLAMA, m.directory / "w").logits([1, 2, 3])
    for path in (folder, made, made / "spec.yaml"):
        assert np.array_equal(mossc.Model(path).logits([1, 2, 3]), want)
    assert mossc.Spec(folder) == mossc.Spec(made) and mossc.Spec(made).weights == made / "model.safetensors"
    assert not np.array_equal(mossc.Model(made, seed=4).logits([1, 2, 3]), want)


def test_options_of_an_import_are_those_of_the_program(m):
    folder = folder_of(m)
    made = mossc.import_model(folder, m.directory / "q8", dtype="q8", verify=True)
    assert mossc.Spec(made).resolved["weights"]["dtype"] == "q8"
    assert "'q5'" in str(raises(mossc.MosscError, mossc.import_model, folder, m.directory / "no", dtype="q5"))
    error = raises(mossc.MosscError, mossc.import_model, folder, m.directory / "no", dtype="q8", exact=True)
    assert error.code == "bad_weights" and not (m.directory / "no").exists()
    error = raises(mossc.MosscError, mossc.import_model, m.directory / "nothing", m.directory / "no")
    assert "nothing" in str(error)


def test_a_model_of_the_cache_stays_and_is_verified(m):
    folder, before = folder_of(m), dict(os.environ)
    m.kernels = m.directory / "cache"
    os.environ.update(MOSSC_CACHE_DIR=str(m.kernels), MOSSC_MODELS_SIZE="0")
    try:
        made = mossc.import_model(folder)
        assert mossc.import_model(folder, verify=True) == made
        descriptors = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
        assert descriptors.count(os.path.realpath(made)) == 1
        assert m.json("cache", "--keep-size", "0", "--json")["removed_models"] == 0 and made.is_dir()
        shutil.copytree(folder, m.directory / "second")
        mossc.import_model(m.directory / "second")  # there is no room for both, but the first is used
        assert mossc.Model(made).logits([1, 2, 3]).size
        weights = bytearray((made / "model.safetensors").read_bytes())
        weights[-4] ^= 1
        (made / "model.safetensors").write_bytes(weights)
        error = raises(mossc.MosscError, mossc.import_model, folder, verify=True)
        assert error.code == "bad_weights" and "checkpoint makes" in str(error), error
        assert mossc.import_model(folder) == made  # it was not looked at
        shutil.rmtree(made)
        assert mossc.import_model(folder) == made == mossc.import_model(folder, verify=True)
        assert m.json("cache", "--keep-size", "0", "--json")["removed_models"] == 0 and made.is_dir()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_generation_yaml_gives_the_defaults(m):
    made = mossc.import_model(folder_of(m), m.directory / "made")
    assert mossc.Model(made).defaults == mossc.Defaults(0.8, 40, 1.0, 0.0, 1.0, (), None)
    (made / "generation.yaml").write_text("temperature: 0.25\ntop_k: 7\nstop: [5, 6]\nchat_template: \"{{ messages }}\"\n")
    assert mossc.Model(made).defaults == mossc.Defaults(0.25, 7, 1.0, 0.0, 1.0, (5, 6), "{{ messages }}")
    (made / "generation.yaml").write_text("temperature: hot\n")
    error = raises(mossc.MosscError, mossc.Model, made)
    assert error.code == "bad_input" and error.line == 1 and "generation.yaml" in error.path


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
