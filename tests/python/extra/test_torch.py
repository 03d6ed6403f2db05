"""mossc.torch: against the evaluator that defines the language, over random specs of all of it; gradients; transformers' ways."""
import sys

from torch_common import (ROOT, TINY, MosscConfig, MosscForCausalLM, drawn_model, mossc, np, random_specs, raises, reference_logits, run_tests,
                          torch)
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from mossc.torch.blocks.base import conv_act
from mossc.torch.quant_search import q4_numbers
from mossc.torch.scan import expert_scan

options = {"seed": 1, "count": 60, "gradients": 24}
TOKENS = 32
CLOSE = 1e-7  # a routing decision that float64 may take either way: other weights are drawn

# Every kind of block and way of sharing, quickly compiled.
KINDS = TINY + """\
  - {name: low, ssm: {kind: mamba2, d_inner: 64, head_dim: 16, d_state: 8, experts: {count: 3, per_expert: [bc_proj, dt_proj, A]}}}
  - share: {block: low, adapters: {rank: 2, targets: [in_proj, bc_proj]}, own: [A], out_norm: rms}
  - ssm: {kind: mamba3, d_inner: 32, head_dim: 16, d_state: 8, mimo_rank: 2}
  - parallel: [shortconv, {attention: {n_heads: 2, rope: {}}}]
"""


def model_of(text, seed=1, grown=1.5):
    """A module of a spec with fresh weights, made larger so that they matter."""
    model = MosscForCausalLM(MosscConfig.from_spec(mossc.Spec(text)))
    model.draw_fresh(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(grown)
    return model


def test_the_module_in_double_is_the_reference(m):
    for path in random_specs(m, options["count"], options["seed"]):
        for seed in range(20):
            model, weights = drawn_model(path, seed)
            tokens = np.random.default_rng(seed).integers(0, model.config.vocab_size, TOKENS)
            expected, gap = reference_logits(m, path, weights, tokens)
            if gap is None or gap > CLOSE:
                break
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(tokens)[None]).logits[0].numpy()
        # The file holds float32: half a unit in its last place.
        off = (np.abs(logits - expected) - 6.1e-8 * np.abs(expected)).max() / np.sqrt(np.mean(expected**2))
        assert off <= 1e-9, f"off by {off:.3g} of the rms\n{path.read_text()}"
    print(f"{options['count']} specs")


def test_gradients_are_differences(m):
    """Along random directions, in double, weights as they are (what rounding is has no gradient)."""
    step = 1e-6
    for path in random_specs(m, options["gradients"], options["seed"] + 100):
        model, _ = drawn_model(path, 1)
        model._rounding.active = model._rounding.inputs = False
        generator = torch.Generator().manual_seed(3)
        tokens = torch.randint(0, model.config.vocab_size, (2, 12), generator=generator)
        model.train()

        def loss():
            out = model(tokens, labels=tokens)
            return out.text_loss if out.balance_loss is None else out.loss + 0.1 * out.z_loss

        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss(), trained, allow_unused=True)
        directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * p.detach().abs().mean() for p in trained]
        slope = sum((g * d).sum() for g, d in zip(gradients, directions) if g is not None)

        def moved(by):
            with torch.no_grad():
                for p, d in zip(trained, directions):
                    p.add_(d, alpha=by)
                value = loss()
                for p, d in zip(trained, directions):
                    p.sub_(d, alpha=by)
            return value

        difference = (moved(step) - moved(-step)) / (2 * step)
        assert abs(slope - difference) <= 1e-5 * max(1.0, abs(difference)), f"{slope} is not {difference}\n{path.read_text()}"


def test_the_scan_in_c_is_the_scan_in_tensors(m):
    """Results and all gradients, float32 beside double. Sizes with and without whole vectors, several segments, one table for all."""
    torch.manual_seed(1)
    for b, T, K, E, I, N, shared in ((3, 70, 2, 4, 40, 16, False), (1, 33, 2, 5, 16, 7, False), (2, 10, 3, 3, 100, 64, False), (1, 65, 1, 3, 7, 1, True)):
        A = -2 * torch.rand(1 if shared else E, I, N)
        inputs = [torch.rand(b, T, K, I), torch.randn(b, T, I), A, torch.randn(b, T, K, N), torch.randn(b, T, K, N), torch.randn(b, E, I, N)]
        gates = torch.rand(b, T, K)
        index = torch.stack([torch.randperm(E)[:K].sort().values for _ in range(b * T)]).view(b, T, K)
        by_y, by_last = torch.randn(b, T, I), torch.randn(b, E, I, N)
        found = []
        for dtype in (torch.float32, torch.float64):
            given = [v.to(dtype).requires_grad_() for v in (*inputs, gates)]
            y, last = expert_scan(*given[:6], index, given[6], False)
            found.append([y, last, *torch.autograd.grad((y * by_y.to(dtype)).sum() + (last * by_last.to(dtype)).sum(), given)])
        for mine, exact in zip(*found):
            assert (mine.double() - exact).abs().max() <= 2e-6 * exact.abs().max(), (b, T, K, E, I, N)


def test_the_convolution_in_c_is_that_in_tensors(m):
    """Results and all gradients, float32 beside double. Channels in whole vectors and not, windows shorter than what came before them."""
    torch.manual_seed(1)
    for b, T, I, W, biased in ((3, 20, 40, 4, True), (1, 2, 7, 4, True), (2, 9, 96, 3, False), (2, 5, 33, 7, True), (1, 6, 16, 2, False)):
        inputs = [3 * torch.randn(b, T, I), 3 * torch.randn(b, W - 1, I), torch.randn(I, W), *([torch.randn(I)] if biased else [])]
        by, found = torch.randn(b, T, I), []
        for dtype in (torch.float32, torch.float64):
            given = [v.to(dtype).requires_grad_() for v in inputs]
            y = conv_act(*given[:3], given[3] if biased else None, "silu")
            found.append([y, *torch.autograd.grad((y * by.to(dtype)).sum(), given)])
        for mine, exact in zip(*found):
            assert (mine.double() - exact).abs().max() <= 2e-6 * exact.abs().max(), (b, T, I, W)


# Mamba1's ways: one state, experts with states, experts that mix parameters, zero-order hold.
SCANS = TINY + """\
  - ssm: {d_state: 8}
  - ssm: {d_state: 8, experts: {count: 3, per_expert: [x_proj, dt_proj, A, D], combine: outputs}}
  - ssm: {d_state: 8, experts: {count: 3, per_expert: [A, D], combine: params}}
  - ssm: {d_state: 8, discretize: zoh}
"""


def test_a_module_in_bf16_computes_and_learns(m):
    """Its numbers are rounded, its scans are in float32."""
    model = model_of(SCANS)
    tokens = torch.randint(0, model.config.vocab_size, (2, 40))
    exact = model(tokens, labels=tokens).loss
    model = model.to(torch.bfloat16)
    out = model(tokens, labels=tokens, use_cache=True)
    assert out.logits.dtype == torch.bfloat16 and abs(out.loss - exact) <= 0.02 * exact, (out.loss, exact)
    assert {unit["s"].dtype for units in out.cache.states for unit in units if "s" in unit} == {torch.float32}
    out.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_autocast_is_near_float32_and_keeps_states_in_it(m):
    model = model_of(SCANS)
    tokens = torch.randint(0, model.config.vocab_size, (2, 40))
    found = []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            out = model(tokens, labels=tokens, use_cache=True)
        gradient = torch.autograd.grad(out.loss, [p for p in model.parameters() if p.requires_grad])
        assert {unit["s"].dtype for units in out.cache.states for unit in units if "s" in unit} == {torch.float32}
        found.append((out.loss, *gradient))
    assert abs(found[1][0] - found[0][0]) <= 0.01 * found[0][0]
    whole = [torch.cat([g.flatten() for g in gradient]) for _, *gradient in found]
    assert torch.nn.functional.cosine_similarity(*whole, dim=0) > 0.98


def test_the_search_for_q4_in_tensors_gives_the_bits_of_c(m):
    torch.manual_seed(1)
    for shape, change in (((7, 300), lambda w: w), ((5, 33), lambda w: w.abs() + 0.1), ((4, 256), lambda w: w * 1e-9), ((3, 40), lambda w: w * 0),
                          ((6, 513), lambda w: torch.where(w > 1, w * 50, w)), ((3, 5), torch.abs)):
        w = change(torch.randn(shape))
        for mine, theirs in zip(q4_numbers(w), mossc.rounding.round_weights("q4", w.numpy())):
            assert (mine.numpy() == theirs).all(), shape


def test_what_is_saved_runs_and_comes_back(m):
    model = model_of(KINDS)
    model.save_pretrained(m.directory / "saved")
    assert m.run("run", "saved/spec.yaml", "-w", "saved/model.safetensors", "--prompt", "It was", "-n", "5").stdout
    for kind in (MosscForCausalLM, AutoModelForCausalLM):
        again = kind.from_pretrained(m.directory / "saved")
        assert type(again) is MosscForCausalLM
        for (name, a), b in zip(model.state_dict().items(), again.state_dict().values()):
            assert torch.equal(a, b), name
    tokens = torch.randint(0, 256, (1, 9))
    assert AutoModel.from_pretrained(m.directory / "saved")(tokens).last_hidden_state.shape == (1, 9, 32)
    mine = model.eval()(tokens).logits[0].detach().numpy()
    theirs = mossc.Model(m.directory / "saved/spec.yaml", m.directory / "saved/model.safetensors").logits(tokens[0].numpy())
    assert np.abs(mine - theirs).max() <= 2e-4 * np.sqrt(np.mean(theirs**2))


def test_a_saved_model_has_its_tokenizer_beside_it(m):
    """config.json names no place of this machine; the directory may be moved."""
    text = TINY.replace("vocab_size: 256", f"vocab_size: 512\ntokenizer: {{kind: bpe, file: {ROOT / 'tests/tokenizer/models/qwen2-a/tokenizer.json'}}}")
    model_of(text).save_pretrained(m.directory / "saved")
    assert str(ROOT) not in (m.directory / "saved/config.json").read_text()
    (m.directory / "saved").rename(m.directory / "moved")
    ids = mossc.Tokenizer(mossc.Spec(text)).encode("It was dark")
    again = MosscForCausalLM.from_pretrained(m.directory / "moved").config
    assert mossc.Tokenizer(again.as_spec()).encode("It was dark") == ids
    again.write(m.directory / "again")
    assert mossc.Tokenizer(mossc.Spec(m.directory / "again/spec.yaml")).encode("It was dark") == ids
    assert sorted(p.name for p in (m.directory / "again").iterdir()) == ["config.json", "spec.yaml", "tokenizer.json"]
    loaded = AutoModelForCausalLM.from_pretrained(m.directory / "moved")
    loaded.save_pretrained(m.directory / "by_auto")
    assert mossc.Tokenizer(mossc.Spec(m.directory / "by_auto/spec.yaml")).encode("It was dark") == ids
    (m.directory / "moved/tokenizer.json").unlink()
    raises(FileNotFoundError, loaded.save_pretrained, m.directory / "half")
    assert not (m.directory / "half").exists() or not list((m.directory / "half").iterdir())


def test_a_model_takes_a_module_and_its_tensors(m):
    """Parameters that want a gradient, and bf16, which NumPy has not."""
    module, tokens = model_of(TINY), np.arange(9)
    module.save_pretrained(m.directory / "saved")
    want = mossc.Model(m.directory / "saved/spec.yaml", m.directory / "saved/model.safetensors").logits(tokens)
    for given in ((module,), (module.config, dict(module.named_parameters())), (mossc.Spec(module), module.state_dict())):
        assert np.array_equal(mossc.Model(*given).logits(tokens), want)
    rounded = {name: value.bfloat16() for name, value in module.state_dict().items()}
    same = {name: value.float().numpy() for name, value in rounded.items()}
    assert np.array_equal(mossc.Model(TINY, rounded).logits(tokens), mossc.Model(TINY, same).logits(tokens))


def test_the_spec_of_a_directory_is_its_spec_yaml(m):
    model_of(KINDS).save_pretrained(m.directory / "saved")
    path = m.directory / "saved/spec.yaml"
    path.write_text(mossc.Spec(path, set={"logit_scale": 0.25}).yaml())
    for kind in (MosscConfig, AutoConfig):
        assert kind.from_pretrained(m.directory / "saved").spec["logit_scale"] == 0.25, kind
    for kind in (MosscForCausalLM, AutoModelForCausalLM, AutoModel):
        assert kind.from_pretrained(m.directory / "saved").config.spec["logit_scale"] == 0.25, kind


def test_a_cache_is_cloned_repeated_and_chosen_from(m):
    model = model_of(KINDS).double().eval()
    tokens = torch.randint(0, 256, (2, 7), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        cache = model(tokens[:, :5], use_cache=True).cache
        copy = cache.clone()
        cache.batch_repeat_interleave(3)
        cache.batch_select_indices(torch.tensor([5, 0, 3, 1]))
        copy.batch_select_indices(torch.tensor([1, 0]))
        whole = model(tokens).logits[:, 5:]
        for kept, rows in ((cache, [1, 0, 1, 0]), (copy, [1, 0])):
            assert kept.batch == len(rows)
            assert torch.allclose(model(tokens[rows, 5:], cache=kept).logits, whole[rows], atol=1e-9)


def test_generation_with_a_cache_is_that_without(m):
    model = model_of(KINDS).eval()
    prompts = torch.randint(0, 256, (2, 7), generator=torch.Generator().manual_seed(2))
    for how in ({"do_sample": False}, {"num_beams": 3, "do_sample": False}):
        a, b = (model.generate(prompts, max_new_tokens=10, use_cache=use, **how) for use in (True, False))
        assert torch.equal(a, b), how
    assert model.generate(prompts, max_new_tokens=3, do_sample=True, num_return_sequences=2).shape == (4, 10)


def test_pieces_with_a_cache_are_the_whole(m):
    for text in (KINDS, KINDS.replace("A, D]}", "A, D], idle: update}"), KINDS.replace("dt_proj, A]}", "dt_proj, A], idle: update}")):
        model = model_of(text).double().eval()
        tokens = torch.randint(0, 256, (2, 21), generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            whole, cache, parts = model(tokens).logits, None, []
            for part in tokens.split([5, 1, 1, 9, 5], 1):
                out = model(part, cache=cache, use_cache=True)
                cache = out.cache
                parts.append(out.logits)
        assert (torch.cat(parts, 1) - whole).abs().max() <= 1e-10


def test_checkpointing_changes_no_gradient(m):
    model = model_of(KINDS).train()
    tokens = torch.randint(0, 256, (2, 17), generator=torch.Generator().manual_seed(2))
    found = []
    for enable in (False, True):
        if enable:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(*found))


def test_transformers_trainer_trains_saves_and_goes_on(m):
    from transformers import Trainer, TrainingArguments
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 256, (16, 12), generator=torch.Generator().manual_seed(2)).tolist()]

    def trainer(model, steps):
        arguments = TrainingArguments(str(m.directory / "trained"), max_steps=steps, per_device_train_batch_size=4, save_steps=2, logging_steps=1,
                                      learning_rate=1e-3, report_to=[], use_cpu=True, eval_strategy="steps", eval_steps=2)
        return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:4])

    trainer(model_of(TINY), 2).train()
    model = model_of(TINY, seed=2)
    last = trainer(model, 4)
    last.train(resume_from_checkpoint=True)
    losses = [entry["eval_loss"] for entry in last.state.log_history if "eval_loss" in entry]
    assert len(losses) == 2 and losses[1] < losses[0], losses
    assert m.run("run", "trained/checkpoint-4/spec.yaml", "-w", "trained/checkpoint-4/model.safetensors", "--prompt", "It", "-n", "3").stdout


def test_padding_before_a_sequence_is_refused(m):
    model, tokens = model_of(KINDS).eval(), torch.randint(0, 256, (1, 4))
    model(tokens, attention_mask=torch.tensor([[1, 1, 1, 0]]))
    assert "right" in str(raises(ValueError, model, tokens, attention_mask=torch.tensor([[0, 1, 1, 1]])))


def test_select_bias_moves_towards_what_is_chosen_less(m):
    model = model_of(TINY.replace("router: {top_k: 2}", "router: {top_k: 2, select_bias: true}")).train()
    out = model(torch.randint(0, 256, (2, 30)))
    with torch.no_grad():
        model.blocks[0].router.select_bias.zero_()
    model.balance_experts(out.router_loads, 0.01)
    load, bias = out.router_loads[0], model.blocks[0].router.select_bias
    assert len(out.router_loads) == 2 and torch.equal(bias.sign(), (load.mean() - load).sign())


if __name__ == "__main__":
    sys.exit(run_tests(globals(), options))
