"""mossc: state-space language models with experts, compiled for exactly their shapes.

    import mossc

    with mossc.Model("specs/moss-tiny.yaml", "models/moss-tiny.safetensors") as model:
        state = model.state()
        model.feed(state, "It was a dark evening")
        print(model.logits("It was")[-1].argmax())

A Spec is read, checked and priced; a Model runs it; a State is one sequence. Errors are MosscError, with line, column and hint.
"""
from mossc._c import lib as _lib
from mossc._c import text_of as _text_of
from mossc.chat import Chat
from mossc.errors import Message, MosscError
from mossc.generate import Batch, Defaults, Generation, Mask, Piece
from mossc.imports import import_model, pull
from mossc.model import Model, Score
from mossc.spec import Block, Cost, Spec, TensorInfo
from mossc.state import State
from mossc.tokenizer import Decoder, Tokenizer

__version__ = _text_of(_lib.mossc_version())
__all__ = ["Batch", "Block", "Chat", "Cost", "Decoder", "Defaults", "Generation", "Mask", "Message", "Model", "MosscError", "Piece", "Score", "Spec",
           "State", "TensorInfo", "Tokenizer", "import_model", "pull"]
