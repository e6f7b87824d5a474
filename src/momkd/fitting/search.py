"""A search for options: what a trial is, what is tried next, what is best.

Trial 0 is the options as they stand. What is tried next is a function of the seed and of the
trials before it, so a search that was stopped goes on as if it had not been. The proposals come
from Optuna's TPE (Bergstra et al., NeurIPS 2011): a study in memory, made anew from the trials
each time.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from momkd.config import Options
from momkd.errors import MachineError, ModelError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value: TypeAlias = bool | int | float | str | None


class Range(Options):
    """All numbers from ``low`` to ``high``; ``log``: evenly by ratio; ``whole``: integers only."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.low}")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("the ends of a range of integers are integers")
        return self


Dimension: TypeAlias = list[Value] | Range
Space: TypeAlias = Mapping[str, Dimension]


class SearchOptions(Options):
    """A search for options on the training and validation side of each fold.

    Parameters
    ----------
    trials
        Trainings of each model on each fold before the one that counts; the first is of the options
        as they stand. 0: no search.
    seed
        Of what is tried.
    spaces
        By model: ``fit.KEY`` or ``model.KEY`` (``model.weights.ce``) and its values, a list or a
        :class:`Range`; instead of the space that comes with the model.
    """

    trials: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)
    spaces: dict[str, dict[str, list[Value] | Range]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial and how it ended.

    Parameters
    ----------
    number
        From 0.
    options
        Every key of the space and its value.
    score
        Best validation score, higher is better; None where the training failed.
    epoch
        The epoch of that score, from 0; None where it failed.
    seconds
        Wall time; of a trial that was interrupted, since it went on.
    failure
        Why it failed; empty where it did not.
    """

    number: int
    options: Mapping[str, Value]
    score: float | None
    epoch: int | None
    seconds: float
    failure: str = ""


def require_optuna() -> None:
    """Make sure that proposals can be made.

    Raises
    ------
    MachineError
        G21 Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        what, remedy = (
            "a search needs Optuna, which is not installed",
            "pip install 'momkd[search]'",
        )
        raise MachineError.of("G21", "search.trials", what, remedy)


def propose(
    space: Space, defaults: Mapping[str, Value], seed: int, finished: Sequence[Trial]
) -> dict[str, Value]:
    """Give the options of the next trial.

    Parameters
    ----------
    defaults
        The options as they stand, for every key of the space: trial 0.
    finished
        All trials so far, in order.
    """
    if not finished:
        return {key: defaults[key] for key in space}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    here = {key: _distribution(dimension) for key, dimension in space.items()}
    # a sampler of its own for each trial: it has no state that a stop could lose
    start = int(np.random.SeedSequence([seed, len(finished)]).generate_state(1)[0])
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=start)
    )
    for trial in finished:
        if _lies_in(space, trial.options):
            study.add_trial(_as_study_trial(trial, here))
    found = study.ask(here).params
    return {key: _plain(found[key]) for key in space}


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Give the trial with the best score, the first of equals.

    Raises
    ------
    ModelError
        T21 every one has failed.
    """
    scored = [t for t in trials if t.score is not None]
    if not scored:
        what = f"all {len(trials)} trials failed; the first: {trials[0].failure}"
        raise ModelError.of("T21", "search", what, "lower fit.lr, or narrow search.spaces")
    return max(scored, key=lambda t: (t.score, -t.number))


def budget_curve(trials: Sequence[Trial]) -> dict[int, float]:
    """Give the best score after 1, 2, 4, ... trials, and after all; NaN where all had failed."""
    sizes = [1]
    while sizes[-1] * 2 < len(trials):
        sizes.append(sizes[-1] * 2)
    found = {}
    for size in dict.fromkeys([*sizes, len(trials)]):
        scores = [t.score for t in trials[:size] if t.score is not None]
        found[size] = max(scores, default=float("nan"))
    return found


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna import distributions

    if isinstance(dimension, list):
        return distributions.CategoricalDistribution(tuple(dimension))
    if dimension.whole:
        return distributions.IntDistribution(
            int(dimension.low), int(dimension.high), log=dimension.log
        )
    return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _as_study_trial(trial: Trial, here: Mapping[str, Any]) -> Any:
    """Tell a study of a trial; one that failed counts as worse than any that did not."""
    from optuna.trial import TrialState, create_trial

    failed = trial.score is None
    return create_trial(
        state=TrialState.PRUNED if failed else TrialState.COMPLETE,
        value=None if failed else trial.score,
        params=dict(trial.options),
        distributions=dict(here),
    )


def _lies_in(space: Space, options: Mapping[str, Value]) -> bool:
    """Whether all values are such as the space can give; defaults need not be."""
    for key, dimension in space.items():
        value = options[key]
        if isinstance(dimension, list):
            if value not in dimension:
                return False
        elif isinstance(value, bool | str | None) or not dimension.low <= value <= dimension.high:
            return False
    return True


def _plain(value: Any) -> Value:
    """Give a value as JSON will give it back."""
    if value is None or isinstance(value, bool | str):
        return value
    return int(value) if isinstance(value, int) else float(value)
