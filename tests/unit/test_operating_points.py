import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from momkd.evaluation.calibration_intervals import calibration_with_intervals
from momkd.evaluation.decision import RANGE, decision_curve
from momkd.evaluation.summary import FoldScores, fold_metrics, summarise_folds

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30)), min_size=2, max_size=60).filter(
    lambda r: {y for y, _ in r} == {0, 1}
)


def side(y: np.ndarray, p: np.ndarray, seed: int = 0) -> FoldScores:
    ids = tuple(f"c{i}" for i in range(len(y)))
    return FoldScores(seed=seed, fold=0, case_ids=ids, labels=y, probabilities=p, threshold=0.5)


def sample(n: int, seed: int, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, 1.2, n)
    return (rng.random(n) < expit(slope * x)).astype(np.int64), expit(x)


@settings(max_examples=80, deadline=None)
@given(rows)
def test_fixed_rates_against_the_roc_curve_of_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    y = np.array([r[0] for r in drawn], dtype=np.int64)
    p = np.array([r[1] for r in drawn]) / 30
    found = fold_metrics(side(y, p))
    alarms, hits, _ = roc_curve(y, p, drop_intermediate=False)
    best = max(h for h, a in zip(hits, alarms, strict=True) if a <= 0.1 + 1e-9)
    least = min(a for h, a in zip(hits, alarms, strict=True) if h >= 0.95 - 1e-9)
    assert found["sensitivity_at_specificity_90"] == pytest.approx(best)
    assert found["specificity_at_sensitivity_95"] == pytest.approx(1 - least)


def test_fixed_rates_by_hand() -> None:
    y = np.array([0] * 10 + [1] * 4)
    p = np.array([*np.arange(10) / 20, 0.1, 0.43, 0.44, 0.9])
    found = fold_metrics(side(y, p))  # one false alarm in ten is allowed: the case at 0.45
    assert found["sensitivity_at_specificity_90"] == pytest.approx(3 / 4)
    assert found["specificity_at_sensitivity_95"] == pytest.approx(2 / 10)  # ties with 0.1
    one_class = fold_metrics(side(np.ones(4, dtype=np.int64), p[:4]))
    assert math.isnan(one_class["sensitivity_at_specificity_90"])
    interval = summarise_folds([side(*sample(200, 1))], n_draws=300)[
        "sensitivity_at_specificity_90"
    ]
    assert 0 <= interval.low < interval.value < interval.high <= 1


def test_calibration_intervals_are_the_sandwich() -> None:
    y, p = sample(400, 2, slope=0.7)
    found = calibration_with_intervals([side(y, p)])
    x = np.stack([np.ones(400), logit(p)], axis=1)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000, fit_intercept=False).fit(x, y)
    beta = fit.coef_[0]
    meat, bread = np.zeros((2, 2)), np.zeros((2, 2))
    for row, label in zip(x, y, strict=True):
        q = expit(row @ beta)
        bread += q * (1 - q) * np.outer(row, row)
        meat += (label - q) ** 2 * np.outer(row, row)
    error = np.sqrt((np.linalg.inv(bread) @ meat @ np.linalg.inv(bread))[1, 1])
    slope = found["calibration_slope"]
    assert slope.value == pytest.approx(beta[1], rel=1e-4)
    assert slope.high - slope.value == pytest.approx(1.959964 * error, rel=1e-3)
    large = found["calibration_intercept"]
    q = expit(logit(p) + large.value)
    wanted = np.sqrt(((y - q) ** 2).sum()) / (q * (1 - q)).sum()
    assert large.high - large.value == pytest.approx(1.959964 * wanted, rel=1e-6)


def test_calibration_of_repeats_does_not_count_cases_twice() -> None:
    y, p = sample(300, 3)
    once = calibration_with_intervals([side(y, p)])
    again = calibration_with_intervals([side(y, p, seed=s) for s in range(5)])
    for name, interval in once.items():
        assert again[name].low == pytest.approx(interval.low)
        assert again[name].high == pytest.approx(interval.high)


def test_calibration_interval_covers_about_as_often_as_it_says() -> None:
    hits = [
        (found.low <= 1 <= found.high)
        for seed in range(200)
        for found in [
            calibration_with_intervals([side(*sample(300, 100 + seed))])["calibration_slope"]
        ]
    ]
    assert 0.90 <= np.mean(hits) <= 0.99


def test_calibration_that_does_not_exist_is_nan() -> None:
    found = calibration_with_intervals(
        [side(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))]
    )
    assert math.isnan(found["calibration_slope"].value)
    assert math.isnan(found["calibration_slope"].low)
    assert math.isfinite(found["calibration_intercept"].high)


def test_decision_curve_by_loops() -> None:
    y, p = sample(200, 4)
    curve = decision_curve(y, p)
    assert (curve.thresholds[0], curve.thresholds[-1]) == RANGE
    for t, benefit, everyone in zip(
        curve.thresholds, curve.net_benefit, curve.treat_all, strict=True
    ):
        right = sum(1 for a, b in zip(y, p, strict=True) if b >= t and a == 1)
        needless = sum(1 for a, b in zip(y, p, strict=True) if b >= t and a == 0)
        assert benefit == pytest.approx(right / 200 - needless / 200 * t / (1 - t))
        assert everyone == pytest.approx(y.mean() - (1 - y.mean()) * t / (1 - t))


def test_decision_curve_by_hand() -> None:
    y, p = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.3, 0.6, 0.2, 0.1])
    curve = decision_curve(y, p, within=(0.25, 0.5))
    assert curve.net_benefit[0] == pytest.approx(2 / 5 - 1 / 5 / 3)
    assert curve.net_benefit[-1] == pytest.approx(1 / 5 - 1 / 5)
    assert curve.treat_all[0] == pytest.approx(2 / 5 - 3 / 5 / 3)
    nobody = decision_curve(y, np.zeros(5))
    assert (nobody.net_benefit == 0).all()
