"""Reads a mossc spec into a flat list of blocks with every default filled in.

This is the small sibling of the compiler's own front end: it resolves `define`,
`repeat` and `defaults`, and trusts the file otherwise. Run `mossc check` for
real error messages.
"""

import math
from dataclasses import dataclass, field

import yaml

KINDS = ("ssm", "mlp", "attention")
ROUTER = {"top_k": 2, "score": "softmax", "normalize": True, "scale": 1.0,
          "select_bias": False, "bias": False, "input": "block"}
BLOCK = {
    "ssm": {"d_state": 16, "d_conv": 4, "dt_rank": "auto", "conv_bias": True, "bias": False,
            "activation": "silu", "dt_norm": "none", "b_norm": "none", "c_norm": "none"},
    "mlp": {"activation": "swiglu", "bias": False},
    "attention": {"window": "none", "rope": "none", "bias": False},
}

# Keys without a default of their own. What else the language has is refused, not ignored.
MORE = {
    "ssm": {"kind", "d_inner", "expand", "inner_norm_eps", "experts", "router"},
    "mlp": {"d_ff", "expand", "experts", "router"},
    "attention": {"n_heads", "n_kv_heads", "head_dim"},
}


@dataclass
class Block:
    """One block of the stack: its kind, its settings, its sizes."""
    kind: str
    index: int
    keys: dict
    router: dict = field(default_factory=dict)

    def __getattr__(self, name):  # block.d_state reads keys["d_state"]
        try:
            return self.__dict__["keys"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def count(self):
        """Number of experts; 0 where there are none."""
        return self.keys["experts"]["count"] if self.keys.get("experts") else 0

    def name(self, tensor):
        return f"blocks.{self.index}.{tensor}"


@dataclass
class Spec:
    name: str
    vocab: int
    d_model: int
    norm: dict
    final_norm: dict
    tied: bool
    embedding_scale: float
    logit_scale: float
    dtype: str
    blocks: list


def load(path):
    """The spec in the file at `path`."""
    with open(path, encoding="utf-8") as f:
        return resolve(yaml.safe_load(f))


def resolve(doc):
    """The spec of a parsed file."""
    norm = {"kind": "rms", "eps": 1e-5, **doc.get("norm", {})}
    flat = _flatten(doc["stack"], doc.get("define", {}))
    blocks = [_block(i, entry, doc) for i, entry in enumerate(flat)]
    return Spec(doc["name"], doc["vocab_size"], doc["d_model"], norm,
                {**norm, **doc.get("final_norm", {})}, doc.get("tie_embeddings", True),
                float(doc.get("embedding_scale", 1)), float(doc.get("logit_scale", 1)),
                doc.get("weights", {}).get("dtype", "f32"), blocks)


def _flatten(entries, define):
    flat = []
    for entry in entries:
        if isinstance(entry, str):
            entry = define.get(entry, {entry: {}})
        if "repeat" in entry:
            flat += _flatten(entry["blocks"], define) * entry["repeat"]
        elif entry.keys() & define.keys():
            raise ValueError(f"a defined name is a word, not a key: {entry}")
        else:
            flat.append(entry)
    return flat


def _merge(weak, strong):
    """Maps merge recursively, anything else is replaced."""
    if not isinstance(weak, dict) or not isinstance(strong, dict):
        return strong
    out = dict(weak)
    for key, value in strong.items():
        out[key] = _merge(weak[key], value) if key in weak else value
    return out


def _block(index, entry, doc):
    kind = next((k for k in KINDS if k in entry), None)
    if kind is None:
        raise ValueError(f"blocks of this kind are not trained here: {entry}")
    defaults, own = doc.get("defaults", {}), entry[kind] or {}
    unknown = sorted((own.keys() | defaults.get(kind, {}).keys()) - BLOCK[kind].keys() - MORE[kind])
    if unknown:
        raise ValueError(f"{kind} blocks with {', '.join(unknown)} are not trained here")
    weak = _merge(BLOCK[kind], defaults.get(kind, {}))
    for one, other in (("expand", "d_inner"), ("expand", "d_ff")):
        for mine, theirs in ((one, other), (other, one)):
            if mine in own:
                weak.pop(theirs, None)
    keys = _merge(weak, own)
    router = _merge(_merge(ROUTER, defaults.get("router", {})), keys.pop("router", {}) or {})
    if keys.get("experts") == "none":
        del keys["experts"]
    {"ssm": _ssm_sizes, "mlp": _mlp_sizes, "attention": _attention_sizes}[kind](keys, doc["d_model"])
    return Block(kind, index, keys, router if keys.get("experts") else {})


def _ssm_sizes(keys, d_model):
    keys.setdefault("d_inner", round(float(keys.get("expand", 2)) * d_model))
    if keys["dt_rank"] == "auto":
        keys["dt_rank"] = math.ceil(d_model / 16)
    if keys.get("experts"):
        keys["experts"] = {"combine": "outputs", "idle": "hold", **keys["experts"]}


def _mlp_sizes(keys, d_model):
    if "d_ff" not in keys:
        keys["d_ff"] = round(float(keys["expand"]) * d_model)
    if keys.get("experts"):
        keys["experts"] = {"shared": 0, "shared_d_ff": keys["d_ff"], **keys["experts"]}


def _attention_sizes(keys, d_model):
    keys.setdefault("n_kv_heads", keys["n_heads"])
    keys.setdefault("head_dim", d_model // keys["n_heads"])
    if keys["rope"] != "none":
        keys["rope"] = {"theta": 10000.0, "dim": keys["head_dim"], **(keys["rope"] or {})}
