"""mossc.flexi recover: what is trained and what stays, that it helps, and that the compiled model has what was trained."""
import json
import sys

from torch_common import ROOT, mossc, np, raises, run_tests, torch

from mossc.flexi import checkpoint, prune, recover

SPEC = """\
mossc: 1
name: small
vocab_size: 256
d_model: 32
defaults: {router: {top_k: 2}}
stack:
  - repeat: 3
    blocks:
      - ssm: {d_inner: 32, d_state: 4, experts: {count: 3, per_expert: [x_proj, dt_proj, A, D]}}
      - mlp: {d_ff: 32, experts: {count: 3}}
"""
TEXT = (ROOT / "README.md").read_bytes()[:4000]


def pruned(m):
    """A directory of a small model whose blocks were replaced, and the report; beside it the model itself."""
    m.file("small.yaml", SPEC)
    m.file("text", TEXT)
    m.run("init", "small.yaml", "-o", "w", "--seed", "1")
    at = m.directory
    return prune.prune(prune.Prune(str(at / "small.yaml"), [str(at / "w")], at / "text", at / "pruned", 0.5, rank=4))


def asked(m, **options):
    at = m.directory
    return recover.Recover(str(at / "pruned"), [], at / "text", **{"output": at / "out", "steps": 12, "batch": 2, "length": 48, "rate": 1e-2,
                                                                   **options})


def changed(m, directory):
    """Names of tensors that are not those of the pruned model."""
    before, after = (checkpoint.Checkpoint([m.directory / d / "model.safetensors"]).tensors for d in ("pruned", directory))
    assert before.keys() == after.keys()
    return {name for name in before if bytes(before[name].data) != bytes(after[name].data)}


def test_adapters_and_norms_are_trained_and_nothing_else(m):
    earlier = pruned(m)
    report = recover.recover(asked(m, teacher=str(m.directory / "small.yaml"), teacher_weights=[str(m.directory / "w")]))
    names = changed(m, "out")
    assert names and all(".adapters." in name or name.split(".")[-2].endswith("norm") for name in names), names
    assert any(".adapters." in name for name in names) and "final_norm.weight" in names
    assert json.loads((m.directory / "out/report.json").read_text()) == report
    assert report["pruned"] == earlier["pruned"] and report["recovery"]["tokens"] == 12 * 2 * 48
    assert report["bits_per_byte"]["unrecovered"] == earlier["bits_per_byte"]["after"]
    assert report["bits_per_byte"]["after"] == report["bits_per_byte"]["recovered"]
    assert report["parameters"] == earlier["parameters"]


def test_all_is_trained_by_the_text_alone(m):
    pruned(m)
    report = recover.recover(asked(m, train="all", steps=40))
    assert "embed.weight" in changed(m, "out")
    bits = report["bits_per_byte"]
    assert report["recovery"]["last_text_loss"] < report["recovery"]["first_text_loss"] - 1
    assert bits["recovered"] < bits["unrecovered"] - 1, bits  # fresh weights know nothing


def test_the_module_is_the_compiled_model(m):
    pruned(m)
    spec = mossc.Spec(m.directory / "pruned/spec.yaml")
    weights = m.directory / "pruned/model.safetensors"
    tokens = np.frombuffer(TEXT[:100], np.uint8).astype(np.int64)
    got = recover.module(spec, checkpoint.Checkpoint([weights])).eval()(torch.from_numpy(tokens)[None]).logits[0].detach().numpy()
    assert np.abs(got - mossc.Model(spec, weights).logits(tokens)).max() < 1e-4


def test_a_teacher_draws_the_student_to_it(m):
    pruned(m)
    random = np.random.default_rng(1)
    student, teacher, targets = (torch.from_numpy(a) for a in (random.normal(size=(2, 3, 7)), random.normal(size=(2, 3, 7)),
                                                                       random.integers(0, 7, (2, 3))))
    p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(-1, keepdims=True) for x in (teacher, student))
    loss, text = recover.loss_of(student, teacher, targets, 0.75)
    nll = -np.log(np.take_along_axis(q, targets.numpy()[..., None], -1)).mean()
    assert np.isclose(float(text), nll) and np.isclose(float(loss), 0.75 * (p * np.log(p / q)).sum(-1).mean() + 0.25 * nll)
    error = raises(mossc.MosscError, recover.recover, asked(m, length=20000))
    assert "expected more than --length 20000" in str(error) and not (m.directory / "out").exists()


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
