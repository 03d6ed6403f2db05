"""mossc.torch against the evaluator that defines the language, over random specs of all of it."""
import sys

from torch_common import drawn_model, np, random_specs, reference_logits, run_tests, torch

options = {"seed": 1, "count": 60}
TOKENS = 32
CLOSE = 1e-7  # a routing decision that float64 may take either way: other weights are drawn


def test_the_module_in_double_is_the_reference(m):
    worst = 0.0
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
        worst = max(worst, off)
    print(f"{options['count']} specs")


if __name__ == "__main__":
    sys.exit(run_tests(globals(), options))
