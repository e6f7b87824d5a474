"""The hard gates: what no honest model does on simulated cases, as functions of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momkd.evaluation.delong import auroc_influence

ALLOWED_SE = 3.0


@dataclass(frozen=True, eq=False)
class Scored:
    """New cases of one seed: recorded labels, a model's score, and the exact posterior."""

    labels: np.ndarray
    score: np.ndarray
    ceiling: np.ndarray

    def outcome(self) -> "Outcome":
        """Give what tables and the test of chance need of it."""
        return Outcome(
            auroc=auroc_influence(self.labels, self.score)[0],
            best_auroc=auroc_influence(self.labels, self.ceiling)[0],
            n_positive=int((self.labels == 1).sum()),
            n_negative=int((self.labels == 0).sum()),
        )


@dataclass(frozen=True)
class Outcome:
    """AUROC of a model and of the exact posterior on the new cases of one seed."""

    auroc: float
    best_auroc: float
    n_positive: int
    n_negative: int


@dataclass(frozen=True)
class Verdict:
    """What a gate says: a mean over seeds, its standard error, and whether it may stand."""

    gate: str
    model: str
    n_seeds: int
    value: float
    error: float
    passed: bool


def below_ceiling(model: str, seeds: Sequence[Scored]) -> Verdict:
    """No mean AUROC more than 3 SE above that of the exact posterior on the same cases.

    A trained model cannot beat the posterior but by the luck of the cases it is scored on. So the
    SE is DeLong's, of the difference, seeds being independent.
    """
    over, variance = [], []
    for one in seeds:
        area, moved = auroc_influence(one.labels, one.score)
        best, moved_best = auroc_influence(one.labels, one.ceiling)
        over.append(area - best)
        variance.append(float(np.square(moved - moved_best).sum()))
    mean, error = float(np.mean(over)), float(np.sqrt(np.sum(variance))) / len(seeds)
    return Verdict("ceiling", model, len(seeds), mean, error, mean <= ALLOWED_SE * error)


def at_chance(model: str, seeds: Sequence[Outcome]) -> Verdict:
    """Where nothing tells the label, a mean AUROC within 3 SE of 0.5.

    The SE is that of Mann and Whitney's U of an order that has nothing to do with the labels.
    """
    away = [one.auroc - 0.5 for one in seeds]
    counts = [(one.n_positive, one.n_negative) for one in seeds]
    variance = sum((p + n + 1) / (12 * p * n) for p, n in counts)
    mean, error = float(np.mean(away)), float(np.sqrt(variance)) / len(seeds)
    return Verdict("null", model, len(seeds), mean, error, abs(mean) <= ALLOWED_SE * error)


def no_gain(model: str, seeds: Sequence[Scored], alone: Sequence[Scored]) -> Verdict:
    """RNA of other cases of the class must not lift a student above itself without RNA.

    Both are trained, so the SE holds what training adds: the larger of the spread over seeds and
    of DeLong's, that of the cases, because a spread of few seeds may be small by chance.
    """
    gain, variance = [], []
    for one, other in zip(seeds, alone, strict=True):
        area, moved = auroc_influence(one.labels, one.score)
        area_alone, moved_alone = auroc_influence(other.labels, other.score)
        gain.append(area - area_alone)
        variance.append(float(np.square(moved - moved_alone).sum()))
    of_cases = float(np.sqrt(np.sum(variance))) / len(gain)
    of_seeds = float(np.std(gain, ddof=1)) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    mean, error = float(np.mean(gain)), max(of_cases, float(of_seeds))
    return Verdict("shuffled", model, len(gain), mean, error, mean <= ALLOWED_SE * error)


def judge(scenario: str, found: Mapping[str, Mapping[int, Scored]]) -> list[Verdict]:
    """Apply every gate of a scenario to the models: name -> seed -> scores."""
    verdicts = []
    for model, seeds in found.items():
        if scenario == "null":
            verdicts.append(at_chance(model, [one.outcome() for one in seeds.values()]))
        else:
            verdicts.append(below_ceiling(model, list(seeds.values())))
    for model, seeds in found.items():
        name, _, control = model.partition("+")
        alone = found.get(f"{name}+no_rna", {})
        both = sorted(set(seeds) & set(alone))
        if control == "shuffled" and both:
            verdicts.append(no_gain(model, [seeds[s] for s in both], [alone[s] for s in both]))
    return verdicts
