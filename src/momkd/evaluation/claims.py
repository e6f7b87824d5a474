"""What a comparison allows to be said, and what it does not, in sentences."""

from dataclasses import dataclass

import numpy as np

from momkd.evaluation.comparison import CORRECTED_T, LOWER_IS_BETTER, Comparison, Pair
from momkd.evaluation.corrected_tests import detectable_in_sd

SURE = 0.95
"""Posterior probability from which two models may be called practically equal."""

_WORDS = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier score", "macro_f1": "macro F1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Sentences, each about one comparison or about all of them."""

    may: tuple[str, ...]
    may_not: tuple[str, ...]


def state_claims(comparison: Comparison, *, named_beforehand: bool = False) -> Claims:
    """Say what may be claimed and what may not.

    Parameters
    ----------
    named_beforehand
        Whether it is on record that the method was named before any test result was seen.
    """
    may: list[str] = []
    may_not: list[str] = []
    for pair in comparison.pairs:
        allowed, sentence = _of_pair(comparison, pair)
        (may if allowed else may_not).append(sentence)
    if not may:
        may.append(f"No difference of {comparison.method} from another model, and no equality.")
    return Claims(may=tuple(may), may_not=(*may_not, *_of_all(comparison, named_beforehand)))


def _of_pair(of: Comparison, pair: Pair) -> tuple[bool, str]:
    one, two, name = of.method, pair.other, metric_words(of.metric)
    found = pair.verdict
    if np.isnan(found.p):
        return False, f"Anything about {one} and {two}: {found.why_undefined}."
    figures = (
        f"{found.value:+.3f}, {of.level:.0%} interval {found.low:+.3f} to {found.high:+.3f}, "
        f"Holm-adjusted p {format_p(pair.p_holm)}"
    )
    if pair.p_holm < 1 - of.level:
        higher = "a higher" if found.value > 0 else "a lower"
        good = (found.value < 0) == (of.metric in LOWER_IS_BETTER)
        sentence = (
            f"{one} has {higher} {name} than {two}, which is {'better' if good else 'worse'} "
            f"({figures})"
        )
        return True, sentence + _how_much(of, pair) + "."
    if pair.posterior.within >= SURE:
        return True, (
            f"{one} and {two} are practically equal in {name}: within {of.rope} with "
            f"probability {pair.posterior.within:.2f} ({figures})."
        )
    return False, (
        f"That {one} and {two} differ in {name}, or that they are equal ({figures}; within "
        f"{of.rope} with probability {pair.posterior.within:.2f}): a difference smaller "
        f"than {found.minimum_detectable:.3f} would not have been significant here."
    )


def _how_much(of: Comparison, pair: Pair) -> str:
    beyond = pair.posterior.above if pair.verdict.value > 0 else pair.posterior.below
    if beyond >= SURE:
        return f", by more than {of.rope} with probability {beyond:.2f}"
    return f"; that it matters (more than {of.rope}) has probability {beyond:.2f} only"


def _of_all(of: Comparison, named_beforehand: bool) -> list[str]:
    said = ["Anything of other hospitals, scanners or encoders: these are the cases of one cohort."]
    if not named_beforehand:
        said.insert(
            0,
            f"That {of.method} was the method to be tested, unless it was named before any test "
            "result was seen: a winner picked afterwards needs new cases.",
        )
    if len(of.pairs) > 1:
        rest = f"An order of the models: each was tested against {of.method} only"
        said.insert(0, f"{rest}, {len(of.pairs)} comparisons in all.")
    if of.test != CORRECTED_T:
        said.append(
            "Anything of the methods: the verdict is of these trained models, and training them "
            "again may turn it round; repeated folds on the same splits would tell."
        )
        if of.n_folds > 1:
            said.append(
                "Much from a p near 0.05: tests over cases called 7 to 13 % of simulated null "
                "studies significant when scores were cross-validated "
                "(docs/results/type-one-error.md)."
            )
    elif of.n_repeats == 1:
        said.append(_of_one_repeat(of.n_folds, of.test_over_train or 0.0))
    return said


def _of_one_repeat(n_folds: int, ratio: float) -> str:
    gain = detectable_in_sd(10 * n_folds, ratio) / detectable_in_sd(n_folds, ratio)
    return (
        f"That a method is no better because no difference was seen: {n_folds} folds of one repeat "
        f"see large differences only; ten repeats would see ones {gain:.2f} times as large."
    )


def format_p(p: float) -> str:
    """Write p with three decimals, and a tiny one as a bound."""
    if np.isnan(p):
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def metric_words(metric: str) -> str:
    """Give what people call a metric."""
    return _WORDS.get(metric, metric.replace("_", " "))
