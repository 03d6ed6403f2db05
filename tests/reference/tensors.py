"""A spec read from its YAML: defaults, tensors, counts of parameters, what a checkpoint holds. See reference.py."""
import math
from fractions import Fraction

import numpy as np
import yaml
from files import narrow
from functions import GATED
from quant import PARTS, Blocks, quantise_q4, quantise_q8


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


def under(w, prefix):
    """The tensors below a prefix, by what follows it."""
    return {name[len(prefix) :]: value for name, value in w.items() if name.startswith(prefix)}


def map_tensor(name):
    """The weight of a map that adapters name: shared_up_proj is the shared experts' up_proj."""
    return (name.replace("shared_", "shared.") if name.startswith("shared_") else name) + ".weight"


class Tensors:
    """A spec as it is written, with its defaults, and the tensors of its model."""

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
