"""The blocks of a model, flat and in order: what each is, what of it could be shared, and the specs that are made of them."""
from __future__ import annotations

import copy
import json
import typing

from mossc.spec import ENDS, Spec, TensorInfo, word_of

class Stack:
    """A spec, taken apart."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self._resolved = spec, spec.resolved
        self.entries: list[dict] = self._resolved["stack"]
        self.tensors: list[dict[str, TensorInfo]] = [{} for _ in self.entries]  # of each block, without "blocks.3."
        for tensor in spec.tensors:
            if tensor.block >= 0:
                self.tensors[tensor.block][tensor.name.split(".", 2)[2]] = tensor

    def __len__(self) -> int:
        return len(self.entries)

    def kind(self, i: int) -> str:
        """"ssm", "mlp", …, "parallel", "share"."""
        return word_of(self.entries[i])

    def body(self, i: int) -> dict:
        """The map of its kind."""
        body = self.entries[i][self.kind(i)]
        return body if isinstance(body, dict) else {}

    def signature(self, i: int) -> str:
        """Equal where one block could be a share of the other: of one kind, with every key the same that a share inherits."""
        body = {key: value for key, value in self.body(i).items() if key not in ENDS}
        return json.dumps([self.kind(i), body], sort_keys=True)

    def can_be_shared(self, i: int) -> bool:
        """Whether a share may name it."""
        return self.kind(i) not in ("share", "parallel")

    def lender(self, i: int) -> int:
        """The block whose weights a share has."""
        return next(j for j in range(len(self)) if self.entries[j].get("name") == self.body(i)["block"])

    def is_needed(self, i: int) -> bool:
        """Whether a share of the spec has its weights, so that it must stay."""
        return any(self.kind(j) == "share" and self.lender(j) == i for j in range(len(self)))

    def experts(self, i: int) -> int:
        """How many, of a block that chooses among them; else 0."""
        experts = self.body(i).get("experts")
        return experts["count"] if isinstance(experts, dict) else 0

    def runs_of_experts(self, i: int) -> int:
        """In how many groups its router keeps them; 1: in none."""
        groups = self.body(i).get("router", {}).get("groups", "none")
        return groups["count"] if isinstance(groups, dict) else 1

    def maps(self, i: int) -> dict[str, str]:
        """The linear maps that adapters may name, each with the tensor that is its weight: {"in_proj": "in_proj.weight"}."""
        return {tensor.map: part for part, tensor in self.tensors[i].items() if tensor.map}

    def small(self, i: int) -> list[str]:
        """The words of share.own that fit it."""
        return sorted({tensor.own for tensor in self.tensors[i].values() if tensor.own})

    def taken(self, i: int) -> list[str]:
        """Tensors that a share has to take from the other block as they are: neither adapters nor `own` reach them."""
        return [part for part, tensor in self.tensors[i].items()
                if not tensor.map and not tensor.own and not part.startswith(("norm.", "out_norm.", "adapters."))]

    def name(self, i: int) -> str:
        """What a share may call it: its name, or one that no other block has."""
        taken = {entry.get("name") for entry in self.entries}
        name = self.entries[i].get("name") or f"block-{i}"
        while name in taken and not self.entries[i].get("name"):
            name += "-0"
        return name

    def named(self, i: int) -> dict:
        """Its entry with that name."""
        return {"name": self.name(i), **{key: value for key, value in self.entries[i].items() if key != "name"}}

    def with_entries(self, entries: typing.Sequence[dict], suffix: str) -> Spec:
        """A spec of this one's rest and other blocks. The files that it names are found where this one's are."""
        spec = copy.deepcopy(self._resolved)
        spec["stack"] = [copy.deepcopy(entry) for entry in entries]
        if not spec["name"].endswith(suffix):
            spec["name"] += suffix
        return Spec(spec, name=str(self.spec.path or "spec"))
