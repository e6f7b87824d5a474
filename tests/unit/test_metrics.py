import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from momkd.evaluation import metrics

# scores on a coarse grid, so that ties are common; both classes present
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=40).filter(
    lambda r: {y for y, _ in r} == {0, 1}
)


def arrays(drawn: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    y, p = zip(*drawn, strict=True)
    return np.array(y, dtype=np.int64), (np.array(p) + 0.5) / 10


def sample(n: int, seed: int, slope: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, ...]:
    """Labels drawn from probabilities whose logits are then bent."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, 1.2, n)
    y = (rng.random(n) < expit(slope * x + shift)).astype(np.int64)
    return y, expit(x)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_every_metric_agrees_with_an_independent_one(drawn: list[tuple[int, int]]) -> None:
    y, p = arrays(drawn)
    called = (p >= 0.5).astype(int)
    found = metrics.score_all(y, p, 0.5)
    won = mannwhitneyu(p[y == 1], p[y == 0]).statistic
    assert found["auroc"] == pytest.approx(won / ((y == 1).sum() * (y == 0).sum()))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(y, p))
    assert found["auprc"] == pytest.approx(sk.average_precision_score(y, p))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, called))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(y, called, average="macro"))
    assert found["sensitivity"] == pytest.approx(sk.recall_score(y, called))
    assert found["specificity"] == pytest.approx(sk.recall_score(y, called, pos_label=0))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p))
    assert found["majority_rate"] == pytest.approx(max(y.mean(), 1 - y.mean()))
    assert (found["n"], found["n_positive"]) == (len(y), y.sum())


@settings(max_examples=80, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_ranks_decide_auroc_and_order_decides_nothing(drawn, random) -> None:
    y, p = arrays(drawn)
    area = metrics.auroc(y, p)
    assert metrics.auroc(y, logit(p) ** 3) == pytest.approx(area)
    assert metrics.auroc(y, -p) == pytest.approx(1 - area)
    assert metrics.auroc(1 - y, p) == pytest.approx(1 - area)
    order = np.array(random.sample(range(len(y)), len(y)))
    one, other = metrics.score_all(y, p, 0.5), metrics.score_all(y[order], p[order], 0.5)
    assert one == pytest.approx(other, nan_ok=True, abs=1e-5)


def test_hand_values() -> None:
    y = np.array([0, 0, 1, 1, 1])
    p = np.array([0.1, 0.6, 0.6, 0.8, 0.2])
    found = metrics.score_all(y, p, 0.6)  # at the threshold counts as positive
    assert found["auroc"] == pytest.approx((1 + 0.5 + 1 + 1 + 1 + 0) / 6)
    assert found["auprc"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["majority_rate"] == pytest.approx(3 / 5)
    assert found["macro_f1"] == pytest.approx((2 * 2 / (4 + 1 + 1) + 2 * 1 / (2 + 1 + 1)) / 2)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_undefined_and_says_why(label: int) -> None:
    y, p = np.full(6, label), np.linspace(0.1, 0.9, 6)
    found = metrics.score_all(y, p, 0.5)
    why = metrics.why_undefined(y, p, 0.5)
    assert why["auroc"] == why["calibration_slope"] == why["calibration_intercept"] == "1 class"
    assert set(why) == {name for name, value in found.items() if math.isnan(value)}
    assert ("specificity" in why) == (label == 1)
    assert ("sensitivity" in why) == (label == 0)
    assert found["accuracy"] == 0.5
    assert found["majority_rate"] == 1


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, -0.7), (1.6, 0.4)])
def test_recalibration_is_the_maximum_likelihood_fit(slope: float, shift: float) -> None:
    y, p = sample(800, seed=3, slope=slope, shift=shift)
    found = metrics.recalibrate(y, p)
    free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], y)
    assert found.slope == pytest.approx(free.coef_[0, 0], rel=1e-4)
    assert expit(logit(p) + found.intercept).mean() == pytest.approx(y.mean(), abs=1e-9)


def test_slope_finds_what_was_bent() -> None:
    y, p = sample(40_000, seed=5, slope=0.5)
    assert metrics.calibration_slope(y, p) == pytest.approx(0.5, abs=0.03)
    y, p = sample(40_000, seed=6, shift=-0.7)
    assert metrics.calibration_intercept(y, p) == pytest.approx(-0.7, abs=0.05)
    y, p = sample(40_000, seed=7)
    assert metrics.calibration_slope(y, p) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("p", [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.1, 0.3, 0.3, 0.4]])
def test_separated_classes_have_no_slope(p: list[float]) -> None:
    found = metrics.recalibrate(np.array([0, 0, 1, 1]), np.array(p))
    assert math.isnan(found.slope)
    assert found.why_no_slope == "the classes are separated"
    assert math.isfinite(found.intercept)


def test_equal_probabilities_have_no_slope() -> None:
    found = metrics.recalibrate(np.array([0, 1, 1]), np.full(3, 0.4))
    assert math.isnan(found.slope)
    assert "equal" in found.why_no_slope
    assert found.intercept == pytest.approx(logit(2 / 3) - logit(0.4))


def test_certainties_do_not_explode() -> None:
    y, p = np.array([0, 1, 0, 1, 1]), np.array([0.0, 1.0, 1.0, 0.3, 0.0])
    found = metrics.recalibrate(y, p)
    assert math.isfinite(found.slope)
    assert math.isfinite(found.intercept)
