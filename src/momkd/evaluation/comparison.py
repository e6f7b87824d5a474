"""One pre-named method against the others, on the same cases.

Which test gives the verdict follows from what is there. With folds that the methods share and known
sizes of their sides, it is the corrected resampled t: it allows for models that would come out
otherwise if trained again. Without, it is DeLong's (AUROC) or the bootstrap over cases (every other
metric), and the verdict holds for these trained models only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from momkd.evaluation.bayesian import ROPE, Posterior, posterior_of
from momkd.evaluation.corrected_tests import corrected_t, holm, naive_t
from momkd.evaluation.delong import delong_difference, influence_over_folds
from momkd.evaluation.estimate import LEVEL, Estimate, bootstrap_estimate, undefined
from momkd.evaluation.summary import METRICS, FoldScores, draw_folds, mean_over_folds

COMPARABLE = tuple(m for m in METRICS if m != "majority_rate")
LOWER_IS_BETTER = frozenset({"brier"})

CORRECTED_T = "Nadeau-Bengio corrected t"
DELONG = "DeLong"
BOOTSTRAP = "case bootstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The pre-named method against one other; differences are method minus other.

    Parameters
    ----------
    score, score_other
        Means over folds.
    verdict
        What the test of the comparison says; its interval is not adjusted for the number of
        comparisons, ``p_holm`` is.
    posterior
        Of the true difference, against the region of practical equivalence.
    corrected, delong, bootstrap
        All that could be computed, the verdict's among them; None where a test does not apply.
    p_naive
        Of the uncorrected paired t over folds: shown as a warning only. NaN without shared folds.
    n_folds
        Folds in which both have the metric.
    """

    other: str
    score: float
    score_other: float
    verdict: Estimate
    p_holm: float
    posterior: Posterior
    corrected: Estimate | None
    delong: Estimate | None
    bootstrap: Estimate
    p_naive: float
    n_folds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All comparisons of one method, in the order the others were given."""

    method: str
    metric: str
    test: str
    level: float
    rope: float
    n_cases: int
    n_positive: int
    n_folds: int
    n_repeats: int
    test_over_train: float | None
    pairs: tuple[Pair, ...]


def compare_models(
    models: Mapping[str, Sequence[FoldScores]],
    *,
    method: str,
    metric: str = "auroc",
    test_over_train: float | None = None,
    level: float = LEVEL,
    rope: float = ROPE,
    n_draws: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare one model with every other.

    Parameters
    ----------
    models
        Name -> its scored folds; all of them over the same cases with the same labels.
    method
        The one named before results were seen.
    metric
        One of :data:`COMPARABLE`.
    test_over_train
        Cases tested over cases trained on in a fold; None where that is not known, or where the
        models do not share their folds.
    n_draws
        Of the bootstrap; 0 leaves it out.
    """
    folds = models[method]
    by_fold = {n: draw_folds(f_, n_draws=n_draws, seed=seed)[metric] for n, f_ in models.items()}
    drawn = {n: mean_over_folds(values) for n, values in by_fold.items()}
    moved = {n: influence_over_folds(f_) for n, f_ in models.items()} if metric == "auroc" else {}
    corrects = test_over_train is not None and len(folds) > 1
    test = CORRECTED_T if corrects else DELONG if metric == "auroc" else BOOTSTRAP
    found = []
    for name, theirs in models.items():
        if name == method:
            continue
        apart = (by_fold[method] - by_fold[name])[:, 0] if _same_folds(folds, theirs) else None
        found.append(
            _Tests(
                other=name,
                score=float(drawn[method][0]),
                score_other=float(drawn[name][0]),
                apart=apart,
                corrected=None
                if apart is None or test_over_train is None
                else corrected_t(apart, test_over_train, level=level),
                delong=delong_difference(moved[method], moved[name], level=level)
                if moved
                else None,
                bootstrap=bootstrap_estimate(drawn[method] - drawn[name], level),
            )
        )
    adjusted = holm([tests.verdict(test).p for tests in found])
    labels = {c: y for f in folds for c, y in zip(f.case_ids, f.labels.tolist(), strict=True)}
    return Comparison(
        method=method,
        metric=metric,
        test=test,
        level=level,
        rope=rope,
        n_cases=len(labels),
        n_positive=sum(labels.values()),
        n_folds=len(folds),
        n_repeats=len({f.seed for f in folds}),
        test_over_train=test_over_train,
        pairs=tuple(t.pair(test, p, rope) for t, p in zip(found, adjusted, strict=True)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tests:
    """Every test of one pair, before the number of comparisons is allowed for."""

    other: str
    score: float
    score_other: float
    apart: Float64[np.ndarray, " folds"] | None
    corrected: Estimate | None
    delong: Estimate | None
    bootstrap: Estimate

    def verdict(self, test: str) -> Estimate:
        chosen = {CORRECTED_T: self.corrected, DELONG: self.delong, BOOTSTRAP: self.bootstrap}[test]
        if chosen is None:
            return undefined(self.score - self.score_other, "the folds are not the same")
        return chosen

    def pair(self, test: str, p_holm: float, rope: float) -> Pair:
        verdict = self.verdict(test)
        n_folds = 0 if self.apart is None else int((~np.isnan(self.apart)).sum())
        df = n_folds - 1.0 if test == CORRECTED_T else np.inf
        return Pair(
            other=self.other,
            score=self.score,
            score_other=self.score_other,
            verdict=verdict,
            p_holm=p_holm,
            posterior=posterior_of(verdict, df=df, rope=rope),
            corrected=self.corrected,
            delong=self.delong,
            bootstrap=self.bootstrap,
            p_naive=float("nan") if n_folds < 2 or self.apart is None else naive_t(self.apart),
            n_folds=n_folds,
        )


def _same_folds(one: Sequence[FoldScores], two: Sequence[FoldScores]) -> bool:
    places = [[(f.seed, f.fold, frozenset(f.case_ids)) for f in folds] for folds in (one, two)]
    return places[0] == places[1]
