"""The kinds of block, by what the spec calls them. A new kind is a file here and a row below."""
from .attention import Attention
from .base import Context, Kind, Result, State
from .mamba1 import Mamba1
from .mamba2 import Mamba2
from .mamba3 import Mamba3
from .mlp import Mlp
from .shortconv import Shortconv

SSM = {"mamba1": Mamba1, "mamba2": Mamba2, "mamba3": Mamba3}
KINDS = {"ssm": lambda keys, context: SSM[keys["kind"]](keys, context), "mlp": Mlp, "attention": Attention, "shortconv": Shortconv}

__all__ = ["KINDS", "SSM", "Context", "Kind", "Result", "State"]
