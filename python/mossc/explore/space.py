"""A space's points as Optuna's trials: a parameter for each axis, an objective for each goal, a constraint for each bound of a budget."""
import math

import optuna


def _value(text: str):
    """The value of an axis as a parameter: a number where it is one."""
    if text == "none":
        return None
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return text


def _distribution(values: list) -> optuna.distributions.BaseDistribution:
    """An integer parameter where the values are a row of whole numbers, else a categorical one."""
    whole = len(values) > 1 and all(isinstance(value, int) for value in values)
    step = values[1] - values[0] if whole else 0
    if step > 0 and all(b - a == step for a, b in zip(values, values[1:])):
        return optuna.distributions.IntDistribution(values[0], values[-1], step=step)
    return optuna.distributions.CategoricalDistribution(values)


class Space:
    """What summary.json of a study says of its space. The index of a point is the mixed-radix number of its choices (docs/explore.md)."""

    def __init__(self, summary: dict):
        self.names = [axis["name"] for axis in summary["axes"]]
        self.values = [[_value(text) for text in axis["values"]] for axis in summary["axes"]]
        for name, values, axis in zip(self.names, self.values, summary["axes"]):
            if len({(type(value), value) for value in values}) < len(values):  # 1.0 and 1.00: texts apart
                self.values[self.names.index(name)] = list(axis["values"])
        self.distributions = {name: _distribution(values) for name, values in zip(self.names, self.values)}
        self.objectives = [goal["metric"] for goal in summary["objectives"]]
        self.directions = ["maximize" if goal["maximise"] else "minimize" for goal in summary["objectives"]]
        self.budgets = summary["budgets"]
        self.on_device = frozenset(summary["on_device"])
        self.command = summary.get("quality_command")
        self.seed = int(summary["seed"])
        self.n_indices = math.prod(map(len, self.values))
        devices = summary["devices"]
        self.host = next((device["name"] for device in devices if device["host"]), None)
        self.device = self.host or devices[0]["name"]
        wanted = {*self.objectives, *self.budgets}
        self.timed = self.host is not None and bool(wanted & self.on_device)
        self.judged = self.command is not None

    def params(self, index: int) -> dict:
        """The parameters of a point."""
        out = {}
        for name, values in zip(reversed(self.names), reversed(self.values)):
            index, choice = divmod(index, len(values))
            out[name] = values[choice]
        return dict(reversed(out.items()))

    def index(self, params: dict) -> int:
        out = 0
        for name, values in zip(self.names, self.values):
            out = out * len(values) + next(i for i, value in enumerate(values) if value == params[name] and type(value) is type(params[name]))
        return out

    def constraints(self, metrics: dict) -> dict[str, float]:
        """By name, above 0 where a budget is broken. Metrics that are not known break none."""
        out = {}
        for name, budget in self.budgets.items():
            if name in metrics:
                out.update({f"{name} <= {budget['high']:g}": metrics[name] - budget["high"]} if "high" in budget else {})
                out.update({f"{name} >= {budget['low']:g}": budget["low"] - metrics[name]} if "low" in budget else {})
        return out

    def surely_over(self, metrics: dict) -> bool:
        """Whether a budget that no measurement could change is broken."""
        fixed = {name: value for name, value in metrics.items() if name not in self.on_device and name != "quality"}
        return any(value > 0 for value in self.constraints(fixed).values())
