"""New points by Optuna's samplers. A sampler proposes within a copy of the study in memory; what is no point, was proposed before, or is
over a budget that no measurement could change, is refused there, so that a trial of the study is always a point of its own."""
import random

import optuna
from optuna.trial import FrozenTrial, TrialState

from mossc.explore.errors import ExploreError
from mossc.explore.program import Program
from mossc.explore.space import Space

MOST_PROPOSALS = 60  # of a sampler; then points at random
MOST_RANDOM = 2000
AT_ONCE = 50  # points that the program is asked about at once

SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "qmc": lambda seed: optuna.samplers.QMCSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name not in SAMPLERS:
        raise ExploreError(f"--sampler: expected one of {', '.join(SAMPLERS)}, got {name}")
    return SAMPLERS[name](seed)


class Proposer:
    """Called with the trials of a study: the index of a new point, or None where there is none left."""

    def __init__(self, program: Program, directory, space: Space, sampler: str):
        self.program, self.directory, self.space, self.sampler = program, directory, space, sampler

    def __call__(self, trials: list[FrozenTrial]) -> int | None:
        taken = {trial.user_attrs["index"] for trial in trials}
        seed = self.space.seed * 1_000_003 + len(trials)
        index = self._sampled(trials, taken, seed % (1 << 32))
        return index if index is not None else self._random(taken, random.Random(seed))

    def _fit(self, about: dict) -> bool:
        if about["state"] != "point":
            return False
        return not self.space.surely_over(about["devices"][self.space.device]["metrics"])

    def _points(self, indices: list[int]) -> list[dict]:
        """What is known of points; of a twin, of its point."""
        if not indices:
            return []
        abouts = self.program.points(self.directory, *(f"--point={index}" for index in indices))
        twins = [about["twin_of"] for about in abouts if about["state"] == "twin"]
        others = iter(self._points(twins))
        return [next(others) if about["state"] == "twin" else about for about in abouts]

    def _sampled(self, trials: list[FrozenTrial], taken: set[int], seed: int) -> int | None:
        memory = optuna.create_study(directions=self.space.directions, sampler=make_sampler(self.sampler, seed))
        memory.add_trials([trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.RUNNING)])
        for _ in range(MOST_PROPOSALS):
            trial = memory.ask(self.space.distributions)
            (about,) = self._points([self.space.index(trial.params)])
            if about["index"] not in taken and self._fit(about):
                return about["index"]
            memory.tell(trial, state=TrialState.FAIL)
        return None

    def _random(self, taken: set[int], draw: random.Random) -> int | None:
        """Small spaces are gone through to the end, large ones as far as it is worth it."""
        n = self.space.n_indices
        order = draw.sample(range(n), n) if n <= MOST_RANDOM else [draw.randrange(n) for _ in range(MOST_RANDOM)]
        left = [index for index in order if index not in taken]
        for begin in range(0, len(left), AT_ONCE):
            for about in self._points(left[begin : begin + AT_ONCE]):
                if about["index"] not in taken and self._fit(about):
                    return about["index"]
        return None
