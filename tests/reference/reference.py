"""The spec language in NumPy, float64, written from docs/language.md alone and as plainly as it reads.

It shares nothing with mossc: it reads the YAML, applies the defaults, lists the tensors, counts parameters and computes logits.
Where it and mossc disagree, one of them (or the page) has a bug. Use: spec = Spec(path); logits, gap = spec.logits(tensors, tokens).
"""
import math
from fractions import Fraction

import numpy as np
import yaml
from files import narrow
from quant import PARTS, Blocks, quantise_q4, quantise_q8

# ------------------------------------------------------------------------------------------------ functions


def sigmoid(v):
    return np.where(v >= 0, 1 / (1 + np.exp(-np.abs(v))), np.exp(-np.abs(v)) / (1 + np.exp(-np.abs(v))))


def softplus(v):
    return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


ACTIVATIONS = {
    "silu": lambda v: v * sigmoid(v),
    "gelu": lambda v: v / 2 * (1 + np.vectorize(math.erf, otypes=[float])(v / math.sqrt(2))),
    "gelu_tanh": lambda v: v / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    "relu2": lambda v: np.maximum(0, v) ** 2,
}
GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}


def heavy_tail(v):
    return np.where(v >= 0, 1 + v, 1 / (1 + np.abs(v)))


def rms(x, eps, w):
    return x / np.sqrt(np.mean(x * x) + eps) * w


def layer(x, eps, w, b):
    mean = np.mean(x)
    return (x - mean) / np.sqrt(np.mean((x - mean) ** 2) + eps) * w + b


def scaled(rates, scaling):
    """Frequencies of rope under a scaling."""
    if scaling is None:
        return rates
    factor = float(scaling["factor"])
    if scaling["kind"] == "linear":
        return rates / factor
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    original = int(scaling["original_max_positions"])
    out = []
    for rate in rates:
        length = 2 * math.pi / rate
        part = (original / length - low) / (high - low)
        if length < original / high:
            out.append(rate)
        elif length > original / low:
            out.append(rate / factor)
        else:
            out.append(rate * ((1 - part) / factor + part))
    return np.array(out)


# ------------------------------------------------------------------------------------------------ the spec


def merge(weak, strong):
    """Maps merge, everything else replaces; an empty value over a map is an empty map."""
    if isinstance(weak, dict) and strong is None:
        return weak
    if not (isinstance(weak, dict) and isinstance(strong, dict)):
        return strong
    out = dict(weak)
    for key, value in strong.items():
        out[key] = merge(weak[key], value) if key in weak else value
    return out


def resolve(kind, given, defaults):
    """A block's keys over its defaults; a default width gives way to the other way of giving it."""
    weak = dict(defaults.get(kind) or {})
    router = merge(merge(defaults.get("router") or {}, weak.pop("router", None) or {}), (given or {}).get("router") or {})
    width = {"ssm": ("expand", "d_inner"), "mlp": ("expand", "d_ff")}.get(kind, ())
    if any(key in (given or {}) for key in width):
        for key in width:
            weak.pop(key, None)
    out = merge(weak, given or {})
    out["router"] = router
    for part, keys in (
        (out, ("experts", "window", "rope", "qk_norm", "qkv_clip", "dt_norm", "b_norm", "c_norm", "out_norm")),
        (out.get("experts"), ("latent",)),
        (router, ("groups",)),
        (out.get("rope"), ("scaling",)),
    ):
        for key in keys:
            if isinstance(part, dict) and part.get(key) == "none":
                del part[key]
    return out


def held_input(b, step, A):
    """What the input of a state-space block is multiplied with: the step, or what zero-order hold makes of it."""
    if b["discretize"] == "euler":
        return step + 0 * A
    v = step * A
    series = 1 + v / 2 + v**2 / 6 + v**3 / 24 + v**4 / 120 + v**5 / 720
    return step * np.where(v < -0.25, np.expm1(v) / np.minimum(v, -0.25), series)


def under(w, prefix):
    """The tensors below a prefix, by what follows it."""
    return {name[len(prefix) :]: value for name, value in w.items() if name.startswith(prefix)}


def map_tensor(name):
    """The weight of a map that adapters name: shared_up_proj is the shared experts' up_proj."""
    return (name.replace("shared_", "shared.") if name.startswith("shared_") else name) + ".weight"


class Spec:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            top = yaml.safe_load(file)
        self.V, self.D = int(top["vocab_size"]), int(top["d_model"])
        norm = merge({"kind": "rms", "eps": 1e-5}, top.get("norm") or {})
        self.norm, self.final_norm = norm, merge(norm, top.get("final_norm") or {})
        self.tied = top.get("tie_embeddings", True)
        self.embedding_scale = float(top.get("embedding_scale", 1.0))
        self.logit_scale = float(top.get("logit_scale", 1.0))
        weights = top.get("weights") or {}
        self.dtype = weights.get("dtype", "f32")
        self.overrides = weights.get("overrides") or {}
        self.rounds = weights.get("activations", "q8") == "q8"
        self.blocks = []
        self.names = {}  # of blocks: their numbers
        self._flatten(top["stack"], top.get("define") or {}, top.get("defaults") or {})

    def _flatten(self, entries, define, defaults):
        for entry in entries:
            if "repeat" in entry:
                for _ in range(int(entry["repeat"])):
                    self._flatten(entry["blocks"], define, defaults)
                continue
            if isinstance(entry, dict) and "name" in entry:
                self.names[entry["name"]] = len(self.blocks)
            self.blocks.append(self._entry(entry, define, defaults))

    def _entry(self, entry, define, defaults):
        """(kind, keys) of one block; a share keeps its own keys, a parallel its branches."""
        if isinstance(entry, str):
            entry = define.get(entry, {entry: {}})
        ((kind, given),) = [(k, v) for k, v in entry.items() if k != "name"]
        if kind == "share":
            return kind, {key: value for key, value in given.items() if value != "none"}
        if kind == "parallel":
            return kind, {"branches": [self._entry(branch, define, defaults) for branch in given]}
        return kind, self._complete(kind, resolve(kind, given, defaults))

    def _shared(self, b):
        """(number, kind, keys) of the block that a share repeats, with the share's own ends."""
        i = self.names[b["block"]]
        kind, other = self.blocks[i]
        ends = ("input_scale", "output_scale", "out_norm")
        keys = {key: value for key, value in other.items() if key not in ends}
        return i, kind, keys | {key: b[key] for key in ends if key in b}

    def is_mamba2(self, tensor):
        """Whether a tensor of an ssm block is one of mamba2."""
        parts = tensor.split(".")
        kind, b = self.blocks[int(parts[1])]
        if kind == "share":
            _, kind, b = self._shared(b)
        if kind == "parallel":
            kind, b = b["branches"][int(parts[3])]
        return kind == "ssm" and b["kind"] == "mamba2"

    def _complete(self, kind, b):
        """Fills in what the tables give as defaults."""

        def width(key, otherwise):
            if key in b:
                return int(b[key])
            if "expand" in b:
                whole = Fraction(str(b["expand"])) * self.D
                assert whole.denominator == 1
                return int(whole)
            return otherwise

        router = {"top_k": 2, "score": "softmax", "normalize": True, "scale": 1.0, "select_bias": False, "bias": False, "input": "block"}
        b["router"] = merge(router, b["router"])
        b["bias"] = b.get("bias", False)
        if b.get("experts") is not None:
            b["experts"] = dict(b["experts"])
        if kind == "ssm":
            b["I"] = width("d_inner", 2 * self.D)
            b["kind"], b["discretize"] = b.get("kind", "mamba1"), b.get("discretize", "euler")
            b["N"], b["W"] = int(b.get("d_state", 16 if b["kind"] == "mamba1" else 128)), int(b.get("d_conv", 4))
            b["P"], b["G"] = int(b.get("head_dim", 64)), int(b.get("n_groups", 1))
            b["runs"] = int(b.get("norm_groups", b["G"]))
            if b.get("dt_limit", "none") == "none":
                b["dt_limit"] = [0, "none"]
            rank = b.get("dt_rank", "auto")
            b["R"] = -(-self.D // 16) if rank == "auto" else int(rank)
            b["conv_bias"] = b.get("conv_bias", True)
            b["activation"] = b.get("activation", "silu")
            b["inner_norm_eps"] = float(b.get("inner_norm_eps", 1e-5 if b["kind"] == "mamba3" else self.norm["eps"]))
            if b["kind"] == "mamba3":
                b.pop("experts", None)
                b["mimo"] = b.get("mimo_rank", "none") != "none"
                b["ranks"] = int(b["mimo_rank"]) if b["mimo"] else 1
                b["S"] = int(b["N"] * float(b.get("rope_fraction", 0.5))) // 2
            if "experts" in b:
                b["experts"].setdefault("combine", "outputs")
                b["experts"].setdefault("idle", "hold")
        if kind == "mlp":
            b["F"] = width("d_ff", None)
            b["activation"] = b.get("activation", "swiglu")
            if "experts" in b:
                b["experts"].setdefault("shared", 0)
                b["experts"].setdefault("shared_d_ff", b["F"])
                b["experts"].setdefault("shared_gate", False)
                b["experts"].setdefault("latent", None)
        if kind == "attention":
            b["H"] = int(b["n_heads"])
            b["Hkv"] = int(b.get("n_kv_heads", b["H"]))
            b["hd"] = int(b.get("head_dim", self.D // b["H"]))
            if "rope" in b:
                b["rope"] = merge({"theta": 10000.0, "dim": b["hd"], "pairing": "half"}, b["rope"])
            b["qkv_bias"] = b.get("qkv_bias", False) or b["bias"]
            b["scale"] = float(b.get("scale", 1 / math.sqrt(b["hd"])))
        if kind == "shortconv":
            b["I"], b["W"] = int(b.get("d_inner", self.D)), int(b.get("d_conv", 3))
            b["conv_bias"] = b.get("conv_bias", False)
        return b

    # -------------------------------------------------------------------------------------------- tensors

    def tensors(self):
        """name -> (shape, is narrowed, share of it that is active per token), in the order of the page's table."""
        out = {}

        def add(name, shape, narrowed=False, active=Fraction(1)):
            out[name] = (tuple(int(n) for n in shape), narrowed, active)

        def add_norm(name, norm):
            add(name + ".weight", [self.D])
            if norm["kind"] == "layer":
                add(name + ".bias", [self.D])

        add("embed.weight", [self.V, self.D], True, Fraction(1) if self.tied else Fraction(1, self.V))
        for i, (kind, b) in enumerate(self.blocks):
            at = f"blocks.{i}."
            add_norm(at + "norm", self.norm)
            if kind == "parallel":
                for j, branch in enumerate(b["branches"]):
                    self._block_tensors(*branch, f"{at}branches.{j}.", add)
            elif kind == "share":
                self._share_tensors(b, at, add)
            else:
                self._block_tensors(kind, b, at, add)
        add_norm("final_norm", self.final_norm)
        if not self.tied:
            add("head.weight", [self.V, self.D], True)
        return out

    def _share_tensors(self, b, at, add):
        _, kind, keys = self._shared(b)
        lent = {}

        def lend(name, shape, narrowed=False, active=Fraction(1)):
            lent[name] = (shape, narrowed, active)

        self._block_tensors(kind, keys, "", lend)
        owns = {
            "A": lambda name: name == "A_log",
            "D": lambda name: name == "D",
            "conv": lambda name: name in ("conv.weight", "conv.bias"),
            "router": lambda name: name.startswith("router."),
            "biases": lambda name: name.endswith("bias"),
            "inner_norms": lambda name: name.endswith("_norm.weight"),
        }
        for name, tensor in lent.items():
            if name == "out_norm.weight" or any(owns[item](name) for item in b.get("own", [])):
                add(at + name, *tensor)
        for name in b.get("adapters", {}).get("targets", []):
            shape, _, active = lent[map_tensor(name)]
            rank = int(b["adapters"]["rank"])
            add(f"{at}adapters.{name}.A", [*shape[:-2], rank, shape[-1]], True, active)
            add(f"{at}adapters.{name}.B", [*shape[:-2], shape[-2], rank], True, active)

    def _block_tensors(self, kind, b, at, add):
        """All but the norm before it."""
        experts = b.get("experts")
        count = int(experts["count"]) if experts else 0
        active = Fraction(int(b["router"]["top_k"]), count) if experts else Fraction(1)
        if experts:
            add(at + "router.weight", [count, b["I"] if b["router"]["input"] == "inner" and kind == "ssm" else self.D])
            for extra in ("bias", "select_bias"):
                if b["router"][extra]:
                    add(at + "router." + extra, [count])
        getattr(self, "_" + kind + "_tensors")(b, at, add, experts, count, active)
        if "out_norm" in b:
            add(at + "out_norm.weight", [self.D])

    def _mamba2_tensors(self, b, at, add):
        I, N, W, D, H = b["I"], b["N"], b["W"], self.D, b["I"] // b["P"]
        GN, experts = b["G"] * N, b.get("experts")
        count = int(experts["count"]) if experts else 0
        busy = int(b["router"]["top_k"]) if not experts or experts["combine"] == "params" or experts["idle"] == "hold" else count

        def part(name, tensor, shape, narrowed=False):
            own = experts and name in experts["per_expert"]
            add(at + tensor, ([count] if own else []) + shape, narrowed, Fraction(busy, count) if own else Fraction(1))

        def linear(name, rows, columns, bias=b["bias"]):
            part(name, name + ".weight", [rows, columns], True)
            if bias:
                part(name, name + ".bias", [rows])

        for name, rows in (("in_proj", I), ("gate_proj", I), ("bc_proj", 2 * GN)):
            linear(name, rows, D)
        linear("dt_proj", H, D, True)
        part("conv", "conv.weight", [I + 2 * GN, W])
        if b["conv_bias"]:
            part("conv", "conv.bias", [I + 2 * GN])
        part("A", "A_log", [H])
        part("D", "D", [I if b.get("d_per_channel") else H])
        if b.get("gated_norm", "rms") == "rms":
            add(at + "gated_norm.weight", [I])
        linear("out_proj", D, I)

    def _mamba3_tensors(self, b, at, add):
        I, N, P, R, D, H = b["I"], b["N"], b["P"], b["ranks"], self.D, b["I"] // b["P"]
        rows = {"in_proj": I, "gate_proj": I, "bc_proj": 2 * R * b["G"] * N, "dt_proj": H, "a_proj": H, "trap_proj": H, "angle_proj": b["S"]}
        for name, count in rows.items():
            add(at + name + ".weight", [count, D], True)
            if name == "dt_proj":
                add(at + "dt_proj.bias", [H])
        for name in ("b", "c"):
            add(at + name + "_norm.weight", [N])
        for name in ("b", "c"):
            add(at + name + "_bias", [H, R, N])
        add(at + "D", [H])
        for name in ("mimo_x", "mimo_z", "mimo_o") if b["mimo"] else ():
            add(at + name, [H, R, P])
        if b.get("out_norm_heads", "none") == "rms":
            add(at + "head_norm.weight", [I])
        add(at + "out_proj.weight", [D, I], True)

    def _ssm_tensors(self, b, at, add, experts, count, active):
        if b["kind"] == "mamba3":
            self._mamba3_tensors(b, at, add)
            return
        if b["kind"] == "mamba2":
            self._mamba2_tensors(b, at, add)
            return
        I, N, R, W, D = b["I"], b["N"], b["R"], b["W"], self.D
        if experts and experts["combine"] == "outputs" and experts["idle"] == "update":
            active = Fraction(1)

        def part(name, tensor, shape, narrowed=False):
            own = experts and name in experts["per_expert"]
            add(at + tensor, ([count] if own else []) + shape, narrowed, active if own else Fraction(1))

        for name in ("in_proj", "gate_proj"):
            part(name, name + ".weight", [I, D], True)
            if b["bias"]:
                part(name, name + ".bias", [I])
        part("conv", "conv.weight", [I, W])
        if b["conv_bias"]:
            part("conv", "conv.bias", [I])
        part("x_proj", "x_proj.weight", [R + 2 * N, I], True)
        part("dt_proj", "dt_proj.weight", [I, R], True)
        part("dt_proj", "dt_proj.bias", [I])
        for name, size in (("dt_norm", R), ("b_norm", N), ("c_norm", N)):
            if name in b:
                add(at + name + ".weight", [size])
        part("A", "A_log", [I, N])
        part("D", "D", [I])
        part("out_proj", "out_proj.weight", [D, I], True)
        if b["bias"]:
            part("out_proj", "out_proj.bias", [D])

    def _mlp_tensors(self, b, at, add, experts, count, active):
        maps = (["gate_proj"] if b["activation"] in GATED else []) + ["up_proj", "down_proj"]
        latent = experts and experts["latent"]

        def maps_of(prefix, leading, D, F, share):
            for name in maps:
                out, into = (D, F) if name == "down_proj" else (F, D)
                add(at + prefix + name + ".weight", leading + [out, into], True, share)
                if b["bias"]:
                    add(at + prefix + name + ".bias", leading + [out], False, share)

        maps_of("", [count] if experts else [], latent or self.D, b["F"], active)
        if latent:
            add(at + "latent_down_proj.weight", [latent, self.D], True)
            add(at + "latent_up_proj.weight", [self.D, latent], True)
        if experts and experts["shared"]:
            maps_of("shared.", [experts["shared"]], self.D, experts["shared_d_ff"], Fraction(1))
            if experts["shared_gate"]:
                add(at + "shared_gate.weight", [1, self.D])

    def _attention_tensors(self, b, at, add, experts, count, active):
        q, kv = b["H"] * b["hd"], b["Hkv"] * b["hd"]
        if "qk_norm" in b:
            add(at + "q_norm.weight", [b["hd"] if b["qk_norm"] == "head" else q])
            add(at + "k_norm.weight", [b["hd"] if b["qk_norm"] == "head" else kv])
        for name, shape in (("q_proj", [q, self.D]), ("k_proj", [kv, self.D]), ("v_proj", [kv, self.D]), ("o_proj", [self.D, q])):
            add(at + name + ".weight", shape, True)
            if b["bias"] if name == "o_proj" else b["qkv_bias"]:
                add(at + name + ".bias", shape[:1])

    def _shortconv_tensors(self, b, at, add, experts, count, active):
        I, W, D = b["I"], b["W"], self.D
        for name, shape in (("b_proj", [I, D]), ("c_proj", [I, D]), ("in_proj", [I, D]), ("out_proj", [D, I])):
            add(at + name + ".weight", shape, True)
            if b["bias"]:
                add(at + name + ".bias", shape[:1])
        add(at + "conv.weight", [I, W])
        if b["conv_bias"]:
            add(at + "conv.bias", [I])

    def dtype_of(self, name):
        """Of a tensor that is narrowed."""
        quantised, parts = self.dtype in PARTS, name.split(".")
        if "adapters" in parts:
            return "bf16" if quantised else self.dtype
        part = parts[-2]  # embed, head or a map
        if part in self.overrides:
            return self.overrides[part]
        if quantised and part in ("embed", "head"):
            return "q8"
        if quantised and part in ("dt_proj", "a_proj", "trap_proj", "angle_proj"):
            return "bf16"
        return "q8" if self.dtype == "q4" and part in ("x_proj", "bc_proj") else self.dtype

    def is_rounded(self):
        return self.rounds and any(narrowed and self.dtype_of(name) in PARTS for name, (_, narrowed, _) in self.tensors().items())

    def stored(self, drawn):
        """As a checkpoint holds it: q4 in parts, every other q8 too, the rest as float32."""
        out = {}
        for i, (name, values) in enumerate(drawn.items()):
            dtype = self.dtype_of(name) if self.tensors()[name][1] else "f32"
            if dtype == "q4" or dtype == "q8" and i % 2:
                parts = (quantise_q4 if dtype == "q4" else quantise_q8)(values)
                out |= {f"{name}.{part}": numbers for part, numbers in parts.items()}
            else:
                out[name] = values
        return out

    def _weight(self, tensors, name, narrowed):
        """A tensor of a checkpoint in float64, or in blocks."""
        dtype = self.dtype_of(name) if narrowed else "f32"
        if dtype not in PARTS:
            return narrow(tensors[name], dtype).astype(np.float64)
        K = self.tensors()[name][0][-1]
        parts = {part: tensors[f"{name}.{part}"] for part in PARTS[dtype]} if name not in tensors else quantise_q8(tensors[name])
        return Blocks.of(parts, K, self.rounds)

    def counts(self):
        """(parameters in all, active per token)."""
        sizes = [(math.prod(shape), active) for shape, _, active in self.tensors().values()]
        return sum(size for size, _ in sizes), int(sum(size * active for size, active in sizes))

    def draw(self, seed):
        """Random tensors of useful sizes: everything differs from expert to expert and from 0 and 1."""
        rng = np.random.default_rng(seed)
        out = {}
        for name, (shape, _, _) in self.tensors().items():
            n = rng.standard_normal(shape)
            if name.endswith("norm.weight"):
                n = 1 + 0.2 * n
            elif name.endswith("A_log"):
                n = rng.uniform(-1.5, 2, shape)
            elif name.endswith("dt_proj.bias"):
                n = rng.uniform(-4, 0.5, shape)
            elif name.endswith("router.weight"):
                n = 1.5 * n / math.sqrt(shape[-1])
            elif name.endswith("bias"):
                n = 0.3 * n
            elif name != "embed.weight" and not name.endswith(".D"):
                n = 0.8 * n / math.sqrt(shape[-1])
            out[name] = n.astype(np.float32)
        return out

    # -------------------------------------------------------------------------------------------- the model

    def logits(self, tensors, tokens):
        """[T, V], and the smallest gap between a chosen and an unchosen expert."""
        self.gap = math.inf
        w = {}
        for name, (shape, narrowed, _) in self.tensors().items():
            assert name not in tensors or tensors[name].shape == shape, (name, tensors[name].shape, shape)
            w[name] = self._weight(tensors, name, narrowed)
        x = self.embedding_scale * w["embed.weight"][np.asarray(tokens)]
        for i, (kind, b) in enumerate(self.blocks):
            at = f"blocks.{i}."
            u = np.array([self._normed(row, w, at + "norm", self.norm) for row in x])
            if kind == "parallel":
                y = sum(self._block(*branch, under(w, f"{at}branches.{j}."), u) for j, branch in enumerate(b["branches"]))
            elif kind == "share":
                y = self._share(b, w, at, u)
            else:
                y = self._block(kind, b, under(w, at), u)
            x = x + y
        head = w["embed.weight"] if self.tied else w["head.weight"]
        x = np.array([self._normed(row, w, "final_norm", self.final_norm) for row in x])
        return self.logit_scale * (x @ head.T), self.gap

    def _share(self, b, w, at, u):
        i, kind, keys = self._shared(b)
        mine = under(w, at)
        parts = under(w, f"blocks.{i}.") | mine
        for name in b.get("adapters", {}).get("targets", []):
            product = mine[f"adapters.{name}.B"] @ mine[f"adapters.{name}.A"]
            parts[map_tensor(name)] = parts[map_tensor(name)] + product
        return self._block(kind, keys, parts, u)

    def _block(self, kind, b, w, u):
        y = getattr(self, "_" + kind)(b, w, float(b.get("input_scale", 1.0)) * u)
        if "out_norm" in b:
            y = np.array([rms(row, float(self.norm["eps"]), w["out_norm.weight"]) for row in y])
        return float(b.get("output_scale", 1.0)) * y

    @staticmethod
    def _normed(x, w, name, norm):
        if norm["kind"] == "rms":
            return rms(x, float(norm["eps"]), w[name + ".weight"])
        return layer(x, float(norm["eps"]), w[name + ".weight"], w[name + ".bias"])

    def _route(self, b, w, rho):
        """The chosen experts, rising, and their gates."""
        router = b["router"]
        r = w["router.weight"] @ rho + w.get("router.bias", 0)
        p = softmax(r) if router["score"] == "softmax" else sigmoid(r)
        key = p + w["router.select_bias"] if router["select_bias"] else r
        order = np.argsort(-key, kind="stable")
        if "groups" in router:
            n, m = int(router["groups"]["count"]), int(router["groups"]["top"])
            score = np.sort(key.reshape(n, -1))[:, -2:].sum(axis=1)
            runs = np.argsort(-score, kind="stable")
            if m < n:
                self.gap = min(self.gap, score[runs[m - 1]] - score[runs[m]])
            order = order[np.isin(order // (len(key) // n), runs[:m])]
        k = int(router["top_k"])
        if k < len(order):
            self.gap = min(self.gap, key[order[k - 1]] - key[order[k]])
        S = np.sort(order[:k])
        g = p[S]
        if router["normalize"]:
            g = g / (g.sum() + 1e-20)
        return S, float(router["scale"]) * g

    def _mamba2(self, b, w, u):
        I, N, P, G, W = b["I"], b["N"], b["P"], b["G"], b["W"]
        H, act, experts = I // P, ACTIVATIONS[b["activation"]], b.get("experts")
        own = set(experts["per_expert"]) if experts else set()
        params, outputs = bool(experts) and experts["combine"] == "params", bool(experts) and experts["combine"] == "outputs"
        low, high = b["dt_limit"]
        group, A_all = np.arange(H) * G // H, -np.exp(w["A_log"])

        def norm(y):
            if "gated_norm.weight" not in w:
                return y
            runs = [rms(run, b["inner_norm_eps"], 1) for run in np.split(y, b["runs"])]
            return np.concatenate(runs) * w["gated_norm.weight"]

        def step(s, delta, bc, x, A, D):
            """The heads' states and outputs after a token."""
            B, C = bc.reshape(2, G, N)
            steps = np.clip(softplus(delta), float(low), None if high == "none" else float(high))
            held = held_input(b, steps, A)
            s = np.exp(steps * A)[:, None, None] * s + (held[:, None] * x)[:, :, None] * B[group][:, None, :]
            return s, ((s * C[group][:, None, :]).sum(axis=2) + D.reshape(H, -1) * x).reshape(I)

        many = int(experts["count"]) if outputs else 1
        states, past = np.zeros([many, H, P, N]), np.zeros([W - 1, I])
        pasts = np.zeros([many if outputs and "bc_proj" in own else 1, W - 1, 2 * G * N])
        out = np.zeros_like(u)
        for t in range(len(u)):
            S = g = None

            def P_of(part, tensor, e=None):
                """The value of a parameter of this token: an expert's, the mixture of the chosen, or the only one."""
                value = A_all if tensor == "A_log" else w.get(tensor, 0)
                if part not in own or tensor not in (w.keys()):
                    return value
                return value[e] if outputs else sum(gk * value[k] for k, gk in zip(S, g))

            def linear(part, v, e=None):
                return P_of(part, part + ".weight", e) @ v + P_of(part, part + ".bias", e)

            def conv(history, v, channels):
                seen = np.vstack([history, v[None]])
                bias = P_of("conv", "conv.bias")
                y = (P_of("conv", "conv.weight")[channels] * seen.T).sum(axis=1) + (bias[channels] if np.ndim(bias) else bias)
                return seen[1:], act(y)

            if experts and b["router"]["input"] == "block":
                S, g = self._route(b, w, u[t])
            past, x = conv(past, linear("in_proj", u[t]), slice(0, I))
            if experts and b["router"]["input"] == "inner":
                S, g = self._route(b, w, x)
            z, x = act(linear("gate_proj", u[t])), x.reshape(H, P)
            y = np.zeros(I)
            moving = range(many) if not outputs or experts["idle"] == "update" else S
            own_bc = outputs and "bc_proj" in own
            if not own_bc:
                pasts[0], bc = conv(pasts[0], linear("bc_proj", u[t]), slice(I, None))
            for e in moving:
                if own_bc:
                    pasts[e], bc = conv(pasts[e], linear("bc_proj", u[t], e), slice(I, None))
                states[e], ye = step(states[e], linear("dt_proj", u[t], e), bc, x, P_of("A", "A_log", e), P_of("D", "D", e))
                if not outputs:
                    y = ye
                elif e in S:
                    y = y + g[list(S).index(e)] * ye
            y = norm(y) * z if b.get("norm_before_gate") else norm(y * z)
            out[t] = linear("out_proj", y)
        return out

    def _mamba3(self, b, w, u):
        """Scalars first: one head and one rank after the other, the angles as complex numbers."""
        I, N, P, G, R, S, eps = b["I"], b["N"], b["P"], b["G"], b["ranks"], b["S"], b["inner_norm_eps"]
        H, silu = I // P, ACTIVATIONS["silu"]
        f = softplus if b.get("a_activation") == "softplus" else heavy_tail
        none = np.ones([H, R, P])
        mx, mz, mo = (w.get("mimo_" + name, none) for name in "xzo")
        state, angle = np.zeros([H, P, N]), np.zeros([H, S])
        v_last, k_last = np.zeros([H, R, P]), np.zeros([H, R, N])
        out = np.zeros_like(u)
        for t in range(len(u)):
            x, z = ((w[name] @ u[t]).reshape(H, P) for name in ("in_proj.weight", "gate_proj.weight"))
            B, C = (w["bc_proj.weight"] @ u[t]).reshape(2, R, G, N)
            step = softplus(w["dt_proj.weight"] @ u[t] + w["dt_proj.bias"])
            decay = np.minimum(-f(w["a_proj.weight"] @ u[t]), -float(b.get("a_floor", 1e-4)))
            part = sigmoid(w["trap_proj.weight"] @ u[t])
            angle = angle + math.pi * np.tanh(w["angle_proj.weight"] @ u[t])[None, :] * step[:, None]
            y = np.zeros([H, P])

            def turned(X, norm, bias, h, r):
                v = rms(X[r, h * G // H], eps, w[norm]) + w[bias][h, r]
                pairs = (v[: 2 * S : 2] + 1j * v[1 : 2 * S : 2]) * np.exp(1j * angle[h])
                v[: 2 * S : 2], v[1 : 2 * S : 2] = pairs.real, pairs.imag
                return v

            for h in range(H):
                alpha = np.exp(decay[h] * step[h])
                beta, gamma = (1 - part[h]) * step[h] * alpha, part[h] * step[h]
                k = np.array([turned(B, "b_norm.weight", "b_bias", h, r) for r in range(R)])
                v = x[h] * mx[h]
                state[h] = alpha * state[h] + beta * v_last[h].T @ k_last[h] + gamma * v.T @ k
                v_last[h], k_last[h] = v, k
                for r in range(R):
                    q = turned(C, "c_norm.weight", "c_bias", h, r)
                    of_rank = state[h] @ q + w["D"][h] * v[r]
                    if "head_norm.weight" in w:
                        of_rank = rms(of_rank, eps, w["head_norm.weight"].reshape(H, P)[h])
                    y[h] += mo[h, r] * of_rank * silu(z[h] * mz[h, r])
            out[t] = w["out_proj.weight"] @ y.reshape(I)
        return out

    def _ssm(self, b, w, u):
        if b["kind"] == "mamba3":
            return self._mamba3(b, w, u)
        if b["kind"] == "mamba2":
            return self._mamba2(b, w, u)
        I, N, R, W = b["I"], b["N"], b["R"], b["W"]
        act = ACTIVATIONS[b["activation"]]
        experts = b.get("experts")
        own = set(experts["per_expert"]) if experts else set()
        params = bool(experts) and experts["combine"] == "params"
        outputs = bool(experts) and not params
        A = -np.exp(w["A_log"])
        history = np.zeros([W, I])
        s = np.zeros([int(experts["count"]), I, N]) if outputs else np.zeros([I, N])
        out = np.zeros_like(u)
        for t in range(len(u)):
            S = g = None

            def P(part, tensor):
                """The value of a parameter of this token, None if it does not exist."""
                value = A if tensor == "A" else w.get(tensor)
                if value is not None and params and part in own:
                    value = sum(gk * value[k] for k, gk in zip(S, g))
                return value

            def linear(part, v):
                bias = P(part, part + ".bias")
                return P(part, part + ".weight") @ v + (0 if bias is None else bias)

            if experts and b["router"]["input"] == "block":
                S, g = self._route(b, w, u[t])
            history = np.vstack([history[1:], linear("in_proj", u[t])])
            bias = P("conv", "conv.bias")
            c = act((P("conv", "conv.weight") * history.T).sum(axis=1) + (0 if bias is None else bias))
            if experts and b["router"]["input"] == "inner":
                S, g = self._route(b, w, c)
            z = linear("gate_proj", u[t])

            def scan(state, x_proj, dt_weight, dt_bias, a, d):
                delta, B, C = np.split(x_proj @ c, [R, R + N])
                if "dt_norm" in b:
                    delta = rms(delta, b["inner_norm_eps"], w["dt_norm.weight"])
                if "b_norm" in b:
                    B = rms(B, b["inner_norm_eps"], w["b_norm.weight"])
                if "c_norm" in b:
                    C = rms(C, b["inner_norm_eps"], w["c_norm.weight"])
                step = softplus(dt_weight @ delta + dt_bias)
                held = held_input(b, step[:, None], a)
                state = np.exp(step[:, None] * a) * state + held * np.outer(c, B)
                return state, state @ C + d * c

            if outputs:
                y = np.zeros(I)
                for e in range(len(s)):
                    if e not in S and experts["idle"] == "hold":
                        continue

                    def mine(part, value):
                        return value[e] if part in own else value

                    s[e], ye = scan(s[e], mine("x_proj", w["x_proj.weight"]), mine("dt_proj", w["dt_proj.weight"]),
                                    mine("dt_proj", w["dt_proj.bias"]), mine("A", A), mine("D", w["D"]))
                    if e in S:
                        y = y + g[list(S).index(e)] * ye
            else:
                s, y = scan(s, P("x_proj", "x_proj.weight"), P("dt_proj", "dt_proj.weight"), P("dt_proj", "dt_proj.bias"),
                            P("A", "A"), P("D", "D"))
            out[t] = linear("out_proj", y * act(z))
        return out

    def _mlp(self, b, w, u):
        experts = b.get("experts")

        def f(v, prefix="", e=None):
            def linear(name, x):
                weight, bias = w[prefix + name + ".weight"], w.get(prefix + name + ".bias")
                if e is not None:
                    weight, bias = weight[e], None if bias is None else bias[e]
                return weight @ x + (0 if bias is None else bias)

            if b["activation"] in GATED:
                hidden = ACTIVATIONS[GATED[b["activation"]]](linear("gate_proj", v)) * linear("up_proj", v)
            else:
                hidden = ACTIVATIONS[b["activation"]](linear("up_proj", v))
            return linear("down_proj", hidden)

        if not experts:
            return np.array([f(v) for v in u])
        out = np.zeros_like(u)
        for t, v in enumerate(u):
            inner = w["latent_down_proj.weight"] @ v if experts["latent"] else v
            routed = sum(gate * f(inner, "", e) for e, gate in zip(*self._route(b, w, v)))
            shared = sum(f(v, "shared.", j) for j in range(experts["shared"]))
            if experts["shared_gate"] and experts["shared"]:
                shared = shared * sigmoid(w["shared_gate.weight"] @ v)
            out[t] = (w["latent_up_proj.weight"] @ routed if experts["latent"] else routed) + shared
        return out

    def _attention(self, b, w, u):
        H, Hkv, hd = b["H"], b["Hkv"], b["hd"]

        def linear(name, x):
            return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)

        def rotated(x):
            if "rope" not in b:
                return x
            dim, theta = int(b["rope"]["dim"]), float(b["rope"]["theta"])
            half = dim // 2
            a = np.arange(len(x))[:, None, None] * scaled(theta ** (-2 * np.arange(half) / dim), b["rope"].get("scaling"))
            near, far = slice(0, half), slice(half, dim)
            if b["rope"]["pairing"] == "interleaved":
                near, far = slice(0, dim, 2), slice(1, dim, 2)
            out = x.copy()
            out[..., near] = x[..., near] * np.cos(a) - x[..., far] * np.sin(a)
            out[..., far] = x[..., far] * np.cos(a) + x[..., near] * np.sin(a)
            return out

        def normed(name, x):
            """[T, heads, hd]: over each head, or over all of them."""
            if "qk_norm" not in b:
                return x
            rows = x if b["qk_norm"] == "head" else x.reshape(len(x), 1, -1)
            eps = float(self.norm["eps"])
            return np.array([[rms(row, eps, w[name + ".weight"]) for row in heads] for heads in rows]).reshape(x.shape)

        def clipped(x):
            return np.clip(x, -float(b["qkv_clip"]), float(b["qkv_clip"])) if "qkv_clip" in b else x

        q = rotated(clipped(normed("q_norm", linear("q_proj", u).reshape(-1, H, hd))))
        k = rotated(clipped(normed("k_norm", linear("k_proj", u).reshape(-1, Hkv, hd))))
        v = clipped(linear("v_proj", u).reshape(-1, Hkv, hd))
        out = np.zeros([len(u), H * hd])
        for t in range(len(u)):
            first = max(0, t - int(b["window"]) + 1) if "window" in b else 0
            for h in range(H):
                kv = h * Hkv // H
                p = softmax(k[first : t + 1, kv] @ q[t, h] * b["scale"])
                out[t, h * hd : (h + 1) * hd] = p @ v[first : t + 1, kv]
        return linear("o_proj", out)

    def _shortconv(self, b, w, u):
        def linear(name, x):
            return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)

        gated = linear("b_proj", u) * linear("in_proj", u)
        padded = np.vstack([np.zeros([b["W"] - 1, b["I"]]), gated])
        y = np.array([(w["conv.weight"] * padded[t : t + b["W"]].T).sum(axis=1) for t in range(len(u))])
        return linear("out_proj", linear("c_proj", u) * (y + w.get("conv.bias", 0)))
