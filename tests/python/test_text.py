"""Model.generate and Model.score: the text is that of `mossc run`, however it is asked for."""
import os
import signal
import sys
import threading
import time

import numpy as np
from common import PROMPT, SPEC, TINY, WEIGHTS, raises, run_tests

import mossc


def moss_tiny():
    return mossc.Model(SPEC, WEIGHTS)


def text_of_program(m, *options):
    return m.run("run", SPEC, "-w", WEIGHTS, "--prompt", PROMPT, *options).stdout.decode()[len(PROMPT):]


def test_a_text_is_that_of_the_program(m):
    model = moss_tiny()
    options = {"max_tokens": 60, "seed": 5, "temperature": 0.7, "top_p": 0.9, "repeat_penalty": 1.1, "frequency_penalty": 0.1,
               "logit_bias": {101: -0.5}}
    want = text_of_program(m, "-n", 60, "--seed", 5, "--temp", 0.7, "--top-p", 0.9, "--repeat-penalty", 1.1, "--frequency-penalty", 0.1,
                           "--logit-bias", "101=-0.5")
    generation = model.generate(PROMPT, **options)
    pieces = list(generation)
    assert "".join(piece.text for piece in pieces) == want and generation.stop == "count"
    assert generation.state.position == len(PROMPT) + 60 and len(pieces) == 60
    assert model.generate(PROMPT, max_tokens=60).text() == text_of_program(m, "-n", 60)


def test_a_stop_string_ends_it_and_is_not_given(m):
    model = moss_tiny()
    whole = model.generate(PROMPT, max_tokens=80, temperature=0).text()
    stop = whole[30:34]
    generation = model.generate(PROMPT, max_tokens=80, temperature=0, stop=["no such text", stop])
    assert generation.text() == whole[:whole.index(stop)] and generation.stop == "text"


def test_logprobs_are_those_of_the_logits(m):
    model = moss_tiny()
    state = model.state()
    model.feed(state, PROMPT)
    logits = state.logits.astype(np.float64)
    [piece] = model.generate(state=state, max_tokens=1, temperature=0, logprobs=3)
    logprobs = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    assert piece.token == logits.argmax() and abs(piece.logprob - logprobs.max()) < 1e-5
    assert [token for token, _ in piece.top] == list(np.argsort(-logprobs)[:3])
    [piece] = model.generate(PROMPT, max_tokens=1, logprobs=0)
    assert piece.logprob is not None and piece.top == ()


def test_numbers_out_of_their_range_are_refused(m):
    model = moss_tiny()
    state = model.state()
    for options in ({"stop": ""}, {"logit_bias": {999: 1}}, {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 1.5}, {"top_k": -1}, {"min_p": -1}, {"repeat_penalty": -1}):
        assert raises(mossc.MosscError, model.generate, PROMPT, state=state, **options).code == "bad_input", options
    for name in ("max_tokens", "logprobs"):
        assert name in str(raises(ValueError, model.generate, PROMPT, state=state, **{name: -1}))
    for stop in ("g\0zzz", ["x", "\0"]):  # C would stop at "g"
        assert "stop: expected texts without NUL" in str(raises(ValueError, model.generate, PROMPT, state=state, stop=stop))
    assert state.position == 0  # nothing was fed


def test_penalties_count_what_a_state_has_seen(m):
    model, options = moss_tiny(), {"max_tokens": 20, "temperature": 0, "repeat_penalty": 1.5, "penalty_window": -1}
    for seen in (PROMPT, list(PROMPT.encode())):
        state = model.state()
        model.feed(state, PROMPT)
        assert model.generate(state=state, seen=seen, **options).text() == model.generate(PROMPT, **options).text()
    state = model.state()
    model.feed(state, PROMPT)
    assert model.generate(state=state, **options).text() != model.generate(PROMPT, **options).text()


def test_a_score_is_the_softmax_of_the_logits(m):
    model = moss_tiny()
    logits = model.logits(PROMPT).astype(np.float64)
    score = model.score(PROMPT)
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids = np.frombuffer(PROMPT.encode(), np.uint8)
    assert np.isnan(score.logprobs[0]) and score.best[0] == -1
    assert np.allclose(score.logprobs[1:], logprobs[np.arange(20), ids[1:]], atol=1e-9)
    assert np.array_equal(score.best[1:], logits[:-1].argmax(1))
    state = model.state()
    model.feed(state, PROMPT[:7])
    assert np.array_equal(model.score(PROMPT[7:], state).logprobs, score.logprobs[7:])


def test_a_mask_says_what_may_come(m):
    model = moss_tiny()
    told = []

    class Digits:
        def allow(self, bits, limit):
            for id in range(48, 58):
                bits[id // 32] |= np.uint32(1 << id % 32)
            return len(told) < 6

        def commit(self, token):
            told.append(token)

        def rollback(self, count):
            raise AssertionError

    generation = model.generate(PROMPT, mask=Digits())
    text = generation.text()
    assert len(text) == 6 and text.isdigit() and generation.stop == "eos" and bytes(told).decode() == text

    def broken(*_):
        raise RuntimeError("a bug of a grammar")

    for method in ("allow", "commit"):
        mask = Digits()
        setattr(mask, method, broken)
        told.clear()
        generation = model.generate(PROMPT, mask=mask)
        assert "a bug of a grammar" in str(raises(RuntimeError, generation.text))
        assert generation.stop == "error" and list(generation) == [] # it has ended
    assert "at most" in str(raises(ValueError, model.generate, PROMPT, mask=Digits(), regex="[0-9]"))


def test_a_mask_that_is_empty_is_one(m):
    class Nothing(list):
        def allow(self, bits, limit):
            return False

    generation = moss_tiny().generate(PROMPT, mask=Nothing())
    assert generation.text() == "" and generation.stop == "eos"


def test_characters_come_whole(m):
    model = mossc.Model(TINY, seed=1)
    bias = {token: 1000 for token in "ä".encode()}
    pieces = list(model.generate("x", max_tokens=9, temperature=0, logit_bias=bias, frequency_penalty=1, penalty_window=1))
    assert "".join(piece.text for piece in pieces).count("ä") >= 3, pieces
    assert any(piece.text == "" for piece in pieces)


def test_batches_give_the_bits_of_one_by_one(m):
    model = moss_tiny()
    prompts = ["It was", "He said nothing", "x"]
    states = [model.state() for _ in prompts]
    first, nothing, last = model.step([(state, text, want) for state, text, want in zip(states, prompts, ("all", None, "last"))])
    assert np.array_equal(first, model.logits("It was")) and nothing is None and np.array_equal(last[0], model.logits("x")[0])
    first[0] = 0 # the caller's memory
    assert np.array_equal(states[2].logits, last[0])
    assert np.array_equal(model.logits("!", states[1]), model.logits("He said nothing!")[-1:])


def test_texts_made_together_are_those_made_alone(m):
    model = moss_tiny()
    prompts, seeds = ["It was", "He said nothing", "x", "The evening"], [3, 1, 4, 1]
    ends = model.generate("x", seed=4, max_tokens=30).text()[10:12] # one of them ends earlier than the others
    for options in ({}, {"stop": ends}, {"repeat_penalty": 1.2, "logprobs": 2}, {"logit_bias": {10: 2}, "ignore_eos": True}):
        batch = model.generate_batch(prompts, seeds=seeds, max_tokens=30, **options)
        texts = batch.texts()
        for prompt, seed, text, together in zip(prompts, seeds, texts, batch.generations):
            alone = model.generate(prompt, seed=seed, max_tokens=30, **options)
            assert alone.text() == text and alone.stop == together.stop and alone.state.position == together.state.position
    assert model.generate_batch([]).texts() == [] and model.generate_batch(["x"], max_tokens=0).texts() == [""]


def test_texts_together_go_on_from_one_state(m):
    model = moss_tiny()
    state = model.state()
    model.feed(state, PROMPT)
    texts = model.generate_batch([None] * 3, state=state, seed=7, max_tokens=20).texts()
    assert texts == [model.generate(PROMPT, seed=seed, max_tokens=20).text() for seed in (7, 8, 9)] and len(set(texts)) == 3
    assert state.position == len(PROMPT)
    ends = [" and", " but"]
    got = model.generate_batch(ends, state=state, seeds=[4, 4], max_tokens=20).texts()
    assert got == [model.generate(PROMPT + end, seed=4, max_tokens=20).text() for end in ends]
    for wrong in ([1], [1, 2, 3]):
        assert f"expected 2, one for each prompt, not {len(wrong)}" in str(raises(ValueError, model.generate_batch, ends, seeds=wrong))
    raises(TypeError, model.generate_batch, "one text")


def test_options_of_a_wrong_kind_are_told(m):
    model = moss_tiny()
    assert model.generate(PROMPT, stop=None, max_tokens=5).text() == model.generate(PROMPT, max_tokens=5).text()
    assert "stop: expected texts, not 46" in str(raises(TypeError, model.generate, PROMPT, stop=[46]))
    assert "logit_bias: expected ids of tokens as keys, not 'e'" in str(raises(TypeError, model.generate, PROMPT, logit_bias={"e": 1}))
    assert "seed: expected an integer or None, not 1.5" in str(raises(TypeError, model.generate, PROMPT, seed=1.5))
    assert len({model.generate(PROMPT, seed=None, temperature=1, max_tokens=40).text() for _ in range(3)}) == 3
    assert model.generate(PROMPT, seed=np.int64(-1), max_tokens=5).text() == model.generate(PROMPT, seed=-1, max_tokens=5).text()
    assert str(raises(mossc.MosscError, model.generate, "")) == "prompt is empty and the spec has no bos"
    assert "prompt" in str(raises(mossc.MosscError, model.generate))
    assert model.generate("", state=model.generate(PROMPT, max_tokens=0).state, max_tokens=5).text()
    assert "expected Jinja" in str(raises(ValueError, model.chat, template="smollm2"))


def test_texts_may_be_made_in_turns(m):
    model = moss_tiny()
    a, b = (model.generate(prompt, max_tokens=20, seed=2) for prompt in ("It was", "She said"))
    texts = ["".join(piece.text for piece in pieces) for pieces in zip(*zip(a, b, strict=True))]
    assert texts == [model.generate(prompt, max_tokens=20, seed=2).text() for prompt in ("It was", "She said")]


def test_texts_that_end_leave_the_others(m):
    model = mossc.Model(mossc.Spec(SPEC, set={"tokenizer.eos": 32}), WEIGHTS) # a blank
    prompts = ["It was", "He said noth", "x", "The even"]
    batch = model.generate_batch(prompts, seeds=range(4), max_tokens=40)
    texts = batch.texts()
    assert texts == [model.generate(prompt, seed=seed, max_tokens=40).text() for seed, prompt in enumerate(prompts)]
    assert {g.stop for g in batch.generations} == {"eos"} and len({len(text) for text in texts}) > 1, texts


def test_an_error_of_one_text_leaves_the_others(m):
    model = moss_tiny()
    prompts = ["It was", "He said nothing", "x"]

    class Ends:
        def __init__(self, after):
            self.left = after

        def allow(self, bits, limit):
            bits[:] = 0xFFFFFFFF
            return True

        def commit(self, token):
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("a bug of a grammar")

        def rollback(self, count):
            raise AssertionError

    batch = mossc.Batch([model.generate(prompt, max_tokens=20, seed=2, mask=Ends(7 if i == 1 else 100)) for i, prompt in enumerate(prompts)])
    texts, errors = [""] * len(prompts), []
    while True:
        try:
            i, piece = next(batch)
        except StopIteration:
            break
        except RuntimeError as error:
            errors.append((str(error), [g.state.position - len(prompt) for g, prompt in zip(batch.generations, prompts)]))
            continue
        texts[i] += piece.text
    want = [model.generate(prompt, max_tokens=20, seed=2).text() for prompt in prompts]
    assert texts == [want[0], want[1][:6], want[2]] and errors == [("a bug of a grammar", [7, 7, 7])], (texts, errors)
    assert [g.stop for g in batch.generations] == ["count", "error", "count"]


def test_arrays_outlive_their_model(m):
    model = moss_tiny()
    logits, want = model.logits(PROMPT), model.logits(PROMPT).copy()
    model.logits("something else")
    model.close()
    del model
    assert np.array_equal(logits, want)


def test_ctrl_c_ends_a_long_prompt_between_steps(m):
    model, state = moss_tiny(), None
    tokens = np.full(400 * model.max_rows, 65)
    state = model.state()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts a command in the background has it ignored
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    begin = time.monotonic()
    timer.start()
    raises(KeyboardInterrupt, model.feed, state, tokens)
    assert 0 < state.position < len(tokens) and state.position % model.max_rows == 0 and time.monotonic() - begin < 60
    assert model.logits("x", state).shape == (1, 256)


def test_other_threads_run_meanwhile(m):
    model, counted = moss_tiny(), [0]

    def count():
        while True:
            counted[0] += 1
            time.sleep(0)

    state, tokens = model.state(), np.full(model.max_rows, 65, np.int32)
    threading.Thread(target=count, daemon=True).start()
    before = counted[0]
    model.step([(state, tokens, None)]) # one call of C: the count moves on only without the GIL
    assert counted[0] - before > 10, counted


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
