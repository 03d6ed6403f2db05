"""mossc.Model and mossc.State: the numbers are those of `mossc logits`."""
import copy
import gc
import sys
import weakref

import numpy as np
from common import PROMPT, SPEC, TINY, WEIGHTS, raises, run_tests

import mossc


def tiny(**options):
    return mossc.Model(TINY, seed=3, **options)


def test_logits_are_those_of_the_program(m):
    m.run("logits", SPEC, "-w", WEIGHTS, "--tokens", m.file("ids", " ".join(map(str, PROMPT.encode()))), "-o", "out.npy")
    with mossc.Model(SPEC, WEIGHTS) as model:
        got = model.logits(PROMPT)
        assert got.dtype == np.float32 and np.array_equal(got, np.load(m.directory / "out.npy"))
        assert np.array_equal(model.logits(PROMPT, last_only=True), got[-1:])
        assert model.logits([]).shape == (0, 256)


def test_pieces_give_the_bits_of_the_whole(m):
    model, tokens = tiny(), np.arange(700) % 251
    whole = model.logits(tokens)
    state = model.state()
    model.feed(state, tokens[:600])
    assert state.position == 600 and np.array_equal(state.logits, whole[599])
    assert np.array_equal(model.logits(tokens[600:], state), whole[600:]) and state.position == 700


def test_weights_come_from_a_dict_and_a_seed(m):
    m.file("tiny.yaml", TINY)
    m.run("init", "tiny.yaml", "-o", "w", "--seed", "3")
    want = mossc.Model(TINY, m.directory / "w").logits([1, 2, 3])
    assert np.array_equal(tiny().logits([1, 2, 3]), want)
    from harness import read_safetensors
    header, data = read_safetensors(m.directory / "w")
    header.pop("__metadata__", None)
    given = {name: np.frombuffer(data[slice(*about["data_offsets"])], np.float32).reshape(about["shape"]) for name, about in header.items()}
    assert given.keys() == tiny().tensors.keys()
    assert np.array_equal(mossc.Model(TINY, given).logits([1, 2, 3]), want)
    given["blocks.0.in_proj.weight"] = given["blocks.0.in_proj.weight"][1:]
    given["surplus"] = given.pop("blocks.1.up_proj.weight")
    error = raises(mossc.MosscError, mossc.Model, TINY, given)
    assert error.code == "bad_weights" and "'blocks.0.in_proj.weight' has shape" in str(error), error
    assert "'blocks.1.up_proj.weight' is missing" in str(error) and "'surplus' has no place" in str(error), error


def test_errors_in_weights_of_a_dict_are_raised(m):
    given = {name: np.zeros(shape, np.float64) for name, shape in tiny().tensors.items()}
    first = next(iter(given))

    class Broken:
        shape = given[first].shape

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("a tensor that cannot be read")

    before = dict(given)
    given[first] = Broken()
    assert "cannot be read" in str(raises(RuntimeError, mossc.Model, TINY, given))
    assert mossc.Model(TINY, before).logits([1]).shape == (1, 256)


def test_copies_of_weights_go_with_the_call(m):
    from mossc import weights
    kept, original = [], weights.Elements.__init__

    def watched(self, *arguments):
        original(self, *arguments)
        kept.append(weakref.ref(self))

    given = {name: np.zeros(shape, np.float64) for name, shape in tiny().tensors.items()}
    gc.disable() # without it, only what is in no cycle is gone
    weights.Elements.__init__ = watched
    try:
        model = mossc.Model(TINY, given)
        assert [reference() for reference in kept] == [None] and model.logits([1]).shape == (1, 256)
    finally:
        weights.Elements.__init__ = original
        gc.enable()


def test_states_are_cloned_saved_and_taken_back(m):
    model = tiny()
    state = model.state()
    model.feed(state, [1, 2, 3])
    clone, copied = state.clone(), copy.deepcopy(state)
    state.save(m.directory / "state")
    state.checkpoint()
    want = model.logits([4, 5], state)
    state.rewind(2)
    assert state.position == 3
    for other in (state, clone, copied, model.load_state(m.directory / "state")):
        assert np.array_equal(model.logits([4, 5], other), want)
    assert raises(mossc.MosscError, state.rewind, 9).code == "bad_input"
    state.reset()
    assert state.position == 0 and state.logits is None


def test_a_model_lasts_as_long_as_its_states(m):
    model = tiny()
    state, text = model.state(), model.tokenizer
    assert text.decode(text.encode("Zoë 😀")) == "Zoë 😀"
    model.close()
    assert str(raises(ValueError, model.state)) == "the model was closed"
    assert repr(model) == "<mossc.Model tiny, closed>"
    state.close()
    assert str(raises(ValueError, state.clone)) == "the state was closed"
    del model, state
    for order in range(2): # cycles are collected in an order of Python's own
        model = tiny()
        state = model.state()
        ring = [model, state] if order else [state, model]
        ring.append(ring)
        del model, state, ring
        gc.collect()


def test_wrong_input_is_refused(m):
    model = tiny()
    assert raises(mossc.MosscError, model.logits, [256]).code == "bad_input"
    assert "shape" in str(raises(ValueError, model.logits, [[1, 2]]))
    raises(TypeError, model.logits, [0.5])
    assert raises(mossc.MosscError, mossc.Model, TINY, m.directory / "nothing").code in ("no_file", "bad_weights")
    assert raises(mossc.MosscError, mossc.Model, TINY, device="abacus").code == "bad_spec"
    assert "threads" in str(raises(ValueError, mossc.Model, TINY, threads=-1))
    assert "'all', 'last' or None" in str(raises(ValueError, model.step, [(model.state(), [1], "some")]))
    raises(TypeError, model.tokenizer.encode, 5)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
