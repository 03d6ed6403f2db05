"""python -m mossc.explore, for forked.Server: with all of Optuna that it loads."""
import optuna

import mossc.explore.work  # noqa: F401: the commands load it
from mossc.explore.__main__ import main  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)
# Optuna loads parts of itself when they are first used.
optuna.create_study(storage="sqlite://").optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
