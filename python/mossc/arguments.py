"""Numbers of a command line, each within its bounds: types for argparse, whose messages say what was expected."""
from __future__ import annotations

import argparse
import math
import typing


def count(least: int = 1) -> typing.Callable[[str], int]:
    """A whole number from `least` on; as 2000, 2e3 or 2_000."""
    def read(text: str) -> int:
        value = _number(text)
        if not (value >= least and value == math.floor(value)):
            raise argparse.ArgumentTypeError(f"'{text}': expected a whole number, at least {least}")
        return int(value)
    return read


def number(least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf) -> typing.Callable[[str], float]:
    """A finite number, at least `least`, at most `most`, more than `above` and less than `below`."""
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", least), ("above", above), ("at most", most), ("below", below)) if math.isfinite(bound)]
    expected = " ".join(["expected a number", " and ".join(bounds)]).strip()

    def read(text: str) -> float:
        value = _number(text)
        if not (least <= value <= most and above < value < below):
            raise argparse.ArgumentTypeError(f"'{text}': {expected}")
        return value
    return read


def _number(text: str) -> float:
    """NaN for what is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
