"""mossc.torch: against the evaluator that defines the language, over random specs of all of it; gradients; transformers' ways."""
import sys

from torch_common import (ROOT, TINY, MosscConfig, MosscForCausalLM, drawn_model, mossc, np, random_specs, raises, reference_logits, run_tests,
                          torch)
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline

from mossc.torch import MosscModel, native
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


MAMBA2 = "kind: mamba2, d_inner: 64, head_dim: 16, d_state: 8"
MAMBA3 = "kind: mamba3, d_inner: 32, head_dim: 16, d_state: 8"
# A block of each kind and way of computing; the tolerance is of 16 bits, so each stands alone.
BLOCKS = (
    "ssm: {d_state: 8}",
    "ssm: {d_state: 8, discretize: zoh}",
    "ssm: {d_state: 8, experts: {count: 3, per_expert: [x_proj, dt_proj, A, D]}}",
    "ssm: {d_state: 8, experts: {count: 3, per_expert: [in_proj, conv, A, D], combine: params}}",
    f"ssm: {{{MAMBA2}}}",
    f"ssm: {{{MAMBA2}, discretize: zoh}}",
    f"ssm: {{{MAMBA2}, experts: {{count: 3, per_expert: [bc_proj, dt_proj, A]}}}}",
    f"ssm: {{{MAMBA2}, experts: {{count: 3, per_expert: [dt_proj, A, D], idle: update}}}}",
    f"ssm: {{{MAMBA2}, experts: {{count: 3, per_expert: [bc_proj, dt_proj, A, D, conv], combine: params}}}}",
    f"ssm: {{{MAMBA3}}}",
    f"ssm: {{{MAMBA3}, mimo_rank: 2}}",
    "mlp: {d_ff: 48}",
    "mlp: {d_ff: 48, experts: {count: 4, shared: 1}}",
    "attention: {n_heads: 2, rope: {}, window: 8}",
    "shortconv",
)


def of_block(block):
    head = TINY[: TINY.index("stack:")]
    return model_of(f"{head}stack:\n  - {block}\n")


def test_every_block_computes_in_16_bits_and_under_autocast(m):
    """Near float32, with gradients in the parameters' type and float32 sums; in one piece, in pieces, and in generate."""
    tokens = torch.randint(0, 256, (2, 70), generator=torch.Generator().manual_seed(2))
    for block in BLOCKS:
        with torch.no_grad():
            exact = of_block(block).eval()(tokens).logits
        for dtype, bound in ((torch.bfloat16, 2e-2), (torch.float16, 3e-3)):
            for autocast in (False, True):
                model = of_block(block) if autocast else of_block(block).to(dtype)
                with torch.autocast("cpu", dtype, enabled=autocast):
                    out = model.train()(tokens, labels=tokens)
                    out.loss.backward()
                    with torch.no_grad():
                        first = model.eval()(tokens[:, :30], use_cache=True)
                        rest = model(tokens[:, 30:], cache=first.cache).logits
                case = (block, dtype, autocast)
                assert out.logits.dtype == dtype, case
                for logits in (out.logits, torch.cat([first.logits, rest], 1)):
                    assert (logits.float() - exact).norm() <= bound * exact.norm(), case
                assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()), case
                assert {unit["s"].dtype for units in first.cache.states for unit in units if "s" in unit} <= {torch.float32}, case
                if not autocast:
                    assert model.generate(tokens[:, :3], max_new_tokens=2, do_sample=False).shape == (2, 5), case


def test_a_saved_model_is_loaded_in_16_bits(m):
    model_of(KINDS).save_pretrained(m.directory / "saved")
    model = MosscForCausalLM.from_pretrained(m.directory / "saved", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.generate(torch.randint(0, 256, (1, 5)), max_new_tokens=3, do_sample=False).shape == (1, 8)


def test_weights_of_few_bits_have_gradients(m):
    for dtype in ("q8", "q4"):
        model = model_of(TINY + f"weights: {{dtype: {dtype}}}\n")
        model(torch.randint(0, 256, (1, 9)), labels=torch.randint(0, 256, (1, 9))).loss.backward()
        assert model.blocks[1].up_proj.weight.grad.abs().sum() > 0


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


def test_a_model_of_bytes_has_a_tokenizer_for_transformers(m):
    text = "It was \u00e9 dark \u4e2d evening\n\0 x"
    for given, ids in (("{kind: bytes}", []), ("{kind: bytes, bos: 256, eos: [10, 258]}", [256])):
        model = model_of(TINY.replace("vocab_size: 256", f"vocab_size: 260\ntokenizer: {given}"))
        model.save_pretrained(m.directory / "bytes")
        tokenizer = AutoTokenizer.from_pretrained(m.directory / "bytes")
        assert tokenizer.encode(text) == ids + list(text.encode()) and tokenizer.decode(list(text.encode())) == text
        assert tokenizer.encode(text) == mossc.Tokenizer(mossc.Spec(m.directory / "bytes/spec.yaml")).encode(text)
        again = AutoModelForCausalLM.from_pretrained(m.directory / "bytes")
        assert again.generation_config.eos_token_id == ([10, 258] if ids else None)
    assert tokenizer.convert_tokens_to_ids(["<bos>", "<eos-2>"]) == [256, 258]
    made = pipeline("text-generation", model=str(m.directory / "bytes"))("It was", max_new_tokens=4, do_sample=False)
    assert made[0]["generated_text"].startswith("It was")


def test_inputs_are_checked(m):
    model = model_of(TINY).eval()
    ids = torch.zeros(1, 4, dtype=torch.long)
    for given, words in ((ids[0], "[B, T] of int64"), (ids.to(torch.uint8), "uint8"), (ids + 256, "got 256 to 256"), (ids - 1, "got -1")):
        assert words in str(raises(ValueError, model, given)), given
    assert model(ids, labels=ids.int()).loss > 0


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


def test_a_cache_of_other_sequences_is_refused(m):
    model = model_of(KINDS).eval()
    with torch.no_grad():
        cache = model(torch.zeros(1, 4, dtype=torch.long), use_cache=True).cache
        assert "1 sequences, the input has 64" in str(raises(ValueError, model, torch.zeros(64, 8, dtype=torch.long), cache=cache))
    for change in ({"state": (2, 1, 64, 4)}, {"C": (1, 5, 1, 3)}, {"dt": (1, 4, 1, 64)}, {"A": (2, 64, 4)}):
        shapes = {"x": (1, 5, 64), "dt": (1, 5, 1, 64), "B": (1, 5, 1, 4), "C": (1, 5, 1, 4), "A": (1, 64, 4), "state": (1, 1, 64, 4), **change}
        assert next(iter(change)) in str(raises(ValueError, native.expert_scan, *map(torch.zeros, shapes.values()), None, None))
    assert "past" in str(raises(ValueError, native.conv_silu, torch.zeros(4, 5, 64), torch.zeros(1, 3, 64), torch.zeros(64, 4), None))


def test_no_sequence_is_longer_than_the_spec_says(m):
    model = model_of(TINY.replace(", window: 8", "") + "max_positions: 8\n").eval()
    tokens = torch.zeros(1, 9, dtype=torch.long)
    with torch.no_grad():
        cache = model(tokens[:, :8], use_cache=True).cache
        for given in ({"input_ids": tokens}, {"input_ids": tokens[:, :1], "cache": cache}):
            assert "max_positions is 8" in str(raises(ValueError, model, **given))


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


def gradients_of(model, parts):
    """The gradient of a batch that comes in parts (tokens, labels)."""
    items = sum((labels[:, 1:] != -100).sum() for _, labels in parts)
    model.zero_grad()
    for tokens, labels in parts:
        model(tokens, labels=labels, num_items_in_batch=items).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_parts_of_a_batch_have_the_gradient_of_the_whole(m):
    """Parts route the same tokens, since a balance loss depends on what is routed together; their labels differ in number."""
    model = model_of(TINY).double().train()
    model.config.balance_loss, model.config.z_loss = 1.0, 0.1
    tokens = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(2))
    few = tokens.clone()
    few[:, 5:] = -100
    whole = gradients_of(model, [(torch.cat([tokens, tokens]), torch.cat([tokens, few]))])
    alone = model(torch.cat([tokens, tokens]), labels=torch.cat([tokens, few]))
    assert alone.balance_loss > 0.5 and abs(alone.loss - alone.text_loss - alone.balance_loss - 0.1 * alone.z_loss) < 1e-12
    parts = gradients_of(model, [(tokens, tokens), (tokens, few)])
    for name, gradient in whole.items():
        assert torch.allclose(parts[name], gradient, rtol=1e-6, atol=1e-9), name  # a share is float32


def test_transformers_trainer_counts_router_losses_once(m):
    from transformers import Trainer, TrainingArguments
    row = torch.randint(0, 256, (12,), generator=torch.Generator().manual_seed(2)).tolist()

    def trained(rows, parts):
        model = model_of(TINY)
        model.config.balance_loss, model.config.z_loss = 1.0, 0.1
        arguments = TrainingArguments(str(m.directory / "trained"), max_steps=1, per_device_train_batch_size=rows, gradient_accumulation_steps=parts,
                                      learning_rate=0.1, max_grad_norm=0, optim="sgd", report_to=[], use_cpu=True, save_strategy="no")
        Trainer(model, arguments, train_dataset=[{"input_ids": row, "labels": row}] * 4).train()
        return model.state_dict()

    whole = trained(4, 1)
    for name, value in trained(1, 4).items():
        assert torch.allclose(value, whole[name], rtol=1e-4, atol=1e-6), name


def test_padding_before_a_sequence_is_refused(m):
    model, tokens = model_of(KINDS).eval(), torch.randint(0, 256, (1, 4))
    model(tokens, attention_mask=torch.tensor([[1, 1, 1, 0]]))
    assert "right" in str(raises(ValueError, model, tokens, attention_mask=torch.tensor([[0, 1, 1, 1]])))


def test_hidden_states_and_tuples_are_as_in_transformers(m):
    model, tokens = model_of(KINDS).eval(), torch.randint(0, 256, (2, 7))
    with torch.no_grad():
        out = model(tokens, labels=tokens, output_hidden_states=True)
        seen = out.hidden_states
        assert len(seen) == len(model.blocks) + 1 and torch.equal(model._logits(seen[-1]), out.logits)
        assert torch.equal(seen[0], model.embed.weight[tokens]) and torch.equal(seen[-2], model.blocks[-2](seen[-3], None, 0)[0])
        loss, logits, *_ = model(tokens, labels=tokens, return_dict=False)
        assert torch.equal(loss, out.loss) and torch.equal(logits, out.logits)
        model.config.return_dict = False
        assert torch.equal(model(tokens)[0], out.logits) and torch.equal(model(tokens, return_dict=True).logits, out.logits)
        base = MosscModel(MosscConfig.from_spec(mossc.Spec(TINY))).eval()
        assert torch.equal(base(tokens, return_dict=False)[0], base(tokens).last_hidden_state)


def test_inputs_that_cannot_be_meant_are_refused(m):
    model, tokens = model_of(KINDS).eval(), torch.randint(0, 256, (2, 7))
    for wrong in (tokens[:, :0], tokens[:0]):
        assert "at least one token, not an input of shape" in str(raises(ValueError, model, wrong))
    assert "neither" in str(raises(ValueError, model)) and "both" in str(raises(ValueError, model, tokens, inputs_embeds=model.embed.weight[tokens]))
    running = torch.arange(7).expand(2, 7)
    with torch.no_grad():
        whole = model(tokens).logits
        assert torch.equal(model(tokens, position_ids=running).logits, whole) and torch.equal(model(tokens, position_ids=running[:1]).logits, whole)
        padded, mask = running.clone(), torch.ones(2, 7)
        padded[1, 5:], mask[1, 5:] = 1, 0
        model(tokens, position_ids=padded, attention_mask=mask)
        cache = model(tokens[:, :4], use_cache=True).cache
        model(tokens[:, 4:], position_ids=running[:, 4:], attention_mask=mask, cache=cache.clone())
    for ids, more in ((padded, {}), (torch.tensor([[0, 1, 2, 0, 1, 2, 3]]), {}), (running[:, :3], {"cache": cache})):
        assert "position_ids: expected" in str(raises(ValueError, model, tokens[:, : ids.shape[1]], position_ids=ids, **more))


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
