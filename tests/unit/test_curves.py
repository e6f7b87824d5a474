import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from momkd.evaluation.curves import GRID, calibration_bins, mean_precision, mean_roc, wilson
from momkd.evaluation.summary import FoldScores, summarise_folds


def fold_of(labels: np.ndarray, p: np.ndarray, fold: int = 0, seed: int = 0) -> FoldScores:
    return FoldScores(
        seed=seed,
        fold=fold,
        case_ids=tuple(f"c{fold}-{i}" for i in range(len(labels))),
        labels=labels.astype(np.int64),
        probabilities=p,
        threshold=0.5,
    )


def drawn(n: int, seed: int, *, ties: bool = False, fold: int = 0) -> FoldScores:
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(np.int64)
    p = 1 / (1 + np.exp(-rng.normal(size=n) - y))
    return fold_of(y, np.round(p, 1) if ties else p, fold)


@pytest.mark.parametrize("ties", [False, True])
def test_roc_goes_through_the_points_of_an_independent_one(ties: bool) -> None:
    fold = drawn(240, 1, ties=ties)
    curve = mean_roc([fold])
    assert curve is not None
    assert np.trapezoid(curve, GRID) == pytest.approx(
        roc_auc_score(fold.labels, fold.probabilities), abs=0.01
    )
    x, y, _ = roc_curve(fold.labels, fold.probabilities, drop_intermediate=False)
    on_grid = np.isclose(x[:, None], GRID[None, :], atol=1e-12).any(axis=1)
    for at in np.unique(x[on_grid]):
        assert curve[np.argmin(np.abs(GRID - at))] == pytest.approx(y[x == at].max())


def test_curves_are_means_over_the_folds_that_have_one() -> None:
    folds = [drawn(60, seed, fold=seed) for seed in range(3)]
    one_class = fold_of(np.zeros(5), np.linspace(0, 1, 5), 9)
    for curve_of in (mean_roc, mean_precision):
        alone = [curve_of([f]) for f in folds]
        assert curve_of([*folds, one_class]) == pytest.approx(np.mean(alone, axis=0))
        assert curve_of([one_class]) is None


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_of_the_precision_curve_is_the_stated_average_precision(ties: bool) -> None:
    folds = [drawn(150, seed, ties=ties, fold=seed) for seed in range(2)]
    curve = mean_precision(folds)
    assert curve is not None
    fine = curve[1:].mean()  # 50 positives: each step of sensitivity is two of the grid
    stated = summarise_folds(folds, n_draws=1)["auprc"].value
    assert fine == pytest.approx(stated, abs=1e-9)
    own = [average_precision_score(f.labels, f.probabilities) for f in folds]
    assert fine == pytest.approx(np.mean(own), abs=1e-9)


def test_calibration_bins_hold_shares_and_different_cases() -> None:
    y = np.repeat([0, 1, 0, 1], [30, 10, 10, 30])
    p = np.repeat([0.25, 0.25, 0.75, 0.75], [30, 10, 10, 30])
    once = calibration_bins([fold_of(y, p)], n_bins=2)
    assert once.probability == pytest.approx([0.25, 0.75])
    assert once.share == pytest.approx([0.25, 0.75])
    assert once.n_cases.tolist() == [40, 40]
    twice = calibration_bins([fold_of(y, p), fold_of(y, p, seed=1)], n_bins=2)
    assert twice.share == pytest.approx(once.share)
    assert twice.n_cases.tolist() == [40, 40]
    assert twice.low == pytest.approx(once.low), "repeats passed for more patients"
    few = calibration_bins([fold_of(np.array([1, 0]), np.array([0.9, 0.2]))])
    assert few.share.tolist() == [0, 1]


def test_wilson_is_the_root_of_its_definition() -> None:
    share, n = np.array([0.0, 0.1, 0.5, 1.0]), np.array([7, 20, 50, 9])
    for bound in wilson(share, n):
        distance = (share - bound) ** 2 - 1.959963984540054**2 * bound * (1 - bound) / n
        assert distance == pytest.approx(np.zeros(4), abs=1e-12)
