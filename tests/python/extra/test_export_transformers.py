"""Folders that mossc export makes, read by transformers: logits within 1e-4, the ids of texts, chat templates, what ends a text.

    python3 tests/python/extra/test_export_transformers.py --mossc build/release/mossc [NAME…]
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import need, run_tests  # noqa: E402

need("numpy", "tokenizers", "torch", "transformers")
import tokenizers  # noqa: E402
import torch  # noqa: E402
from exports import CHAT, MODELS, TEXTS, make, off  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: E402

TOLERANCE = 1e-4


def check(m, name):
    folder, tokens, wanted = make(m, name)
    m.run("export", folder, "-o", f"{name}-hf")
    exported = m.directory / f"{name}-hf"
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    with torch.no_grad():
        got = model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()
    assert off(got, wanted) < TOLERANCE, (name, off(got, wanted))
    tokenizer = AutoTokenizer.from_pretrained(exported)
    ours = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False) == ours.encode(text, add_special_tokens=False).ids, (name, text)
    talk = [{"role": "user", "content": "hé"}]
    ends = "<|im_start|>user\nhé<|im_end|>\n<|im_start|>assistant"  # Jinja leaves out the last end of a line
    assert tokenizer.apply_chat_template(talk, tokenize=False) == ends, name
    assert tokenizer.chat_template == CHAT, (name, tokenizer.chat_template)
    spec = (folder / "spec.yaml").read_text()
    eos = [0, 2] if '"eos": [0, 2]' in spec else 2
    assert model.config.eos_token_id == eos and model.config.bos_token_id == (1 if eos == 2 else 0), (name, model.config.eos_token_id)
    assert tokenizer.eos_token_id == (eos if eos == 2 else 0) and tokenizer.bos_token_id == model.config.bos_token_id, name
    generation = GenerationConfig.from_pretrained(exported)
    assert (generation.temperature, generation.top_p, generation.do_sample) == (0.5, 0.25, True), generation
    assert generation.eos_token_id == (eos if isinstance(eos, list) else [eos]), generation
    print(f"{name}: {off(got, wanted):.2g}")


for name in MODELS:
    globals()[f"test_{name.replace('-', '_')}"] = lambda m, name=name: check(m, name)

if __name__ == "__main__":
    sys.exit(run_tests(globals()))
