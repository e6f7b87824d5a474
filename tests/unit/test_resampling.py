import time

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_curve

from momkd.evaluation.metrics import auroc, brier
from momkd.evaluation.resampling import bootstrap_interval, draw_weights, roc_band


def cases(n: int, seed: int, folds: int = 5, lift: float = 1.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(np.int64)
    p = expit(rng.normal(size=n) + lift * y)
    return y, p, (np.arange(n) // 3 % folds).astype(np.int64)


def area_by_hand(y: np.ndarray, p: np.ndarray) -> float:
    pairs = p[y == 1][:, None] - p[y == 0][None, :]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


@pytest.mark.parametrize("estimand", ["mean_over_folds", "pooled"])
def test_fast_path_equals_the_plain_one(estimand: str) -> None:
    y, p, folds = cases(60, seed=1, folds=3)
    p = p.round(1)
    fast = bootstrap_interval(auroc, y, p, folds, n_draws=200, estimand=estimand)
    slow = bootstrap_interval(area_by_hand, y, p, folds, n_draws=200, estimand=estimand)
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))
    assert fast.n_draws == slow.n_draws == 200


def test_the_two_estimands_are_what_they_say() -> None:
    y, p, folds = cases(90, seed=2, folds=3)
    shifted = p + folds  # folds whose scores do not mean the same: pooling suffers, the mean not
    mean = bootstrap_interval(auroc, y, shifted, folds)
    pooled = bootstrap_interval(auroc, y, shifted, folds, estimand="pooled")
    by_fold = [auroc(y[folds == f], p[folds == f]) for f in range(3)]
    assert mean.value == pytest.approx(np.mean(by_fold))
    assert pooled.value == pytest.approx(auroc(y, shifted))
    assert pooled.value < mean.value - 0.05
    assert mean.low < mean.value < mean.high


def test_draws_stay_within_fold_and_class() -> None:
    y, _, folds = cases(50, seed=3, folds=4)
    weights = draw_weights(y, folds, 30, seed=0)
    assert (weights[0] == 1).all()
    for fold in range(4):
        for label in (0, 1):
            side = (folds == fold) & (y == label)
            assert (weights[:, side].sum(axis=1) == side.sum()).all()
    assert (weights[1:].std(axis=0) > 0).any()


def test_seed_decides() -> None:
    y, p, folds = cases(60, seed=4)
    same = [bootstrap_interval(auroc, y, p, folds, n_draws=100, seed=7) for _ in range(2)]
    assert same[0] == same[1]
    assert bootstrap_interval(auroc, y, p, folds, n_draws=100, seed=8) != same[0]


def test_any_metric_and_level() -> None:
    y, p, folds = cases(60, seed=5)
    wide = bootstrap_interval(brier, y, p, folds, n_draws=300, level=0.95)
    narrow = bootstrap_interval(brier, y, p, folds, n_draws=300, level=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_undefined_stays_undefined() -> None:
    found = bootstrap_interval(auroc, np.ones(5, dtype=np.int64), np.linspace(0, 1, 5))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.n_draws == 0


def test_a_fold_with_one_class_is_left_out_of_the_mean() -> None:
    y, p, folds = cases(60, seed=6, folds=3)
    y = np.where(folds == 2, 0, y)
    found = bootstrap_interval(auroc, y, p, folds, n_draws=50)
    wanted = np.mean([auroc(y[folds == f], p[folds == f]) for f in (0, 1)])
    assert found.value == pytest.approx(wanted)


def test_two_thousand_draws_of_650_cases_take_under_a_second() -> None:
    y, p, folds = cases(650, seed=7)
    started = time.process_time()
    bootstrap_interval(auroc, y, p, folds)
    assert time.process_time() - started < 1


def test_interval_covers_about_as_often_as_it_says() -> None:
    # a shift of 1 between unit normals: P(positive above negative) = Phi(1 / sqrt 2) = 0.7602
    hits = 0
    for study in range(150):
        y, p, folds = cases(150, seed=1000 + study)
        found = bootstrap_interval(auroc, y, p, folds, n_draws=300, seed=study)
        hits += found.low <= 0.7602 <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_band_holds_the_mean_curve() -> None:
    y, p, folds = cases(240, seed=8, folds=3)
    y = np.where(folds == 2, 0, y)  # a fold with one class has no curve
    band = roc_band(y, p, folds, n_draws=200)
    curves = []
    for fold in (0, 1):
        fpr, tpr, _ = roc_curve(y[folds == fold], p[folds == fold], drop_intermediate=False)
        curves.append(np.interp(band.false_positive_rate, fpr, tpr))
    mean = np.mean(curves, axis=0)
    inside = (band.low - 0.03 <= mean) & (mean <= band.high + 0.03)
    assert inside.mean() > 0.95
    assert (np.diff(band.low) >= -1e-12).all()
    assert 0.05 < (band.high - band.low).max() < 0.5
