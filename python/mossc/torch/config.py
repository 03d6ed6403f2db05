"""What a model is made from: the spec, resolved by the C library."""
from __future__ import annotations

import filecmp
import pathlib
import shutil

from transformers import PretrainedConfig

import mossc
from mossc.files import replace
from mossc.imports import SPEC
from mossc.torch.byte_tokenizer import BOS, byte_tokenizer

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"


def _resolved(spec: mossc.Spec) -> dict:
    """What a spec says, the tokenizer's file by its whole path."""
    out = spec.resolved
    if "file" in out["tokenizer"] and spec.path is not None:
        out["tokenizer"]["file"] = str((spec.path.parent / out["tokenizer"]["file"]).absolute())
    return out


def _with_spec(values: dict, path: pathlib.Path) -> dict:
    """The values of config.json with the spec of this spec.yaml, if it is there."""
    return {**values, "spec": _resolved(mossc.Spec(path))} if path.is_file() else values


def _ends(spec: mossc.Spec) -> dict:
    """Where transformers' generation begins and ends a text; nothing where the tokenizer's file is not there."""
    try:
        tokenizer = mossc.Tokenizer(spec)
    except mossc.MosscError:
        return {}
    return {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.ends or None}


def _specials(spec: mossc.Spec) -> dict[str, int]:
    """Names of a byte tokenizer's tokens that are no bytes."""
    tokenizer = mossc.Tokenizer(spec)
    named = [(BOS, tokenizer.bos)] + [("<eos>" if i == 0 else f"<eos-{i + 1}>", id_) for i, id_ in enumerate(tokenizer.ends)]
    return {name: id_ for name, id_ in named if id_ is not None and id_ >= 256}


def _copy(source: pathlib.Path, to: pathlib.Path) -> None:
    if not to.exists() or not filecmp.cmp(source, to, shallow=False):
        with open(source, "rb") as file:
            replace(to, lambda out: shutil.copyfileobj(file, out))


class MosscConfig(PretrainedConfig):
    """The spec with every value written out (`spec`, as `mossc.Spec.resolved` gives it), and what training adds to it.

    fake_quantise: compute with weights as the spec stores them (quant.py); False: with the trained float32 numbers.
    balance_loss, z_loss: what the routers' losses count beside the text's, in training.
    """

    model_type = "mossc"
    keys_to_ignore_at_inference = ["cache", "text_loss", "balance_loss", "z_loss", "router_loads"]

    def __init__(
        self, spec: dict | None = None, fake_quantise: bool = True, balance_loss: float = 0.01, z_loss: float = 0.0, **kwargs
    ):
        self.spec = spec
        self.fake_quantise, self.balance_loss, self.z_loss = fake_quantise, balance_loss, z_loss
        if spec is not None:
            self.vocab_size, self.hidden_size, self.num_hidden_layers = spec["vocab_size"], spec["d_model"], len(spec["stack"])
        kwargs["tie_word_embeddings"] = False  # a tied head is no tensor of its own
        super().__init__(**kwargs)

    @classmethod
    def from_spec(cls, spec: mossc.Spec | str | pathlib.Path | dict, **kwargs) -> MosscConfig:
        """spec: a mossc.Spec, or what it is made from (a path, a dict, YAML text)."""
        spec = spec if isinstance(spec, mossc.Spec) else mossc.Spec(spec)
        return cls(spec=_resolved(spec), **{**_ends(spec), **kwargs})

    @classmethod
    def get_config_dict(cls, name, **kwargs) -> tuple[dict, dict]:
        """A directory's spec.yaml is the spec, whatever config.json says."""
        path = pathlib.Path(name) / kwargs.get("subfolder", "") / SPEC
        values, kwargs = super().get_config_dict(name, **kwargs)
        return _with_spec(values, path), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs) -> MosscConfig | tuple[MosscConfig, dict]:
        """AutoConfig comes here without get_config_dict of this class, with the directory as name_or_path."""
        name = kwargs.get("name_or_path")
        return super().from_dict(config_dict if name is None else _with_spec(config_dict, pathlib.Path(name) / SPEC), **kwargs)

    def to_dict(self) -> dict:
        """What config.json has: the tokenizer's file by the name that `write_spec` gives it."""
        out = super().to_dict()
        if out.get("spec") and "file" in out["spec"]["tokenizer"]:
            out["spec"]["tokenizer"]["file"] = TOKENIZER
        return out

    def write(self, directory: pathlib.Path) -> None:
        """config.json, spec.yaml and the tokenizer's file; each appears as a whole."""
        self.write_spec(directory)
        replace(directory / CONFIG, self.to_json_string().encode())

    def write_spec(self, directory: pathlib.Path) -> None:
        """spec.yaml, and beside it the tokenizer's file; of bytes, one for transformers, which the spec does not need."""
        spec = {**self.spec, "tokenizer": dict(self.spec["tokenizer"])}
        file = spec["tokenizer"].get("file")
        if file is not None:
            _copy(pathlib.Path(file), directory / TOKENIZER)
            spec["tokenizer"]["file"] = TOKENIZER
        elif spec["tokenizer"]["kind"] == "bytes":
            replace(directory / TOKENIZER, byte_tokenizer(_specials(self.as_spec())))
        replace(directory / SPEC, mossc.Spec(spec).yaml().encode())

    def as_spec(self) -> mossc.Spec:
        return mossc.Spec(self.spec)
