import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from momkd.evaluation.delong import (
    delong,
    delong_difference,
    delong_folds,
    delong_paired,
    influence_over_folds,
)
from momkd.evaluation.summary import FoldScores


def slow_components(yes: list[float], no: list[float]) -> tuple[list[float], list[float]]:
    """The definition, pair by pair: a win 1, a tie one half."""

    def win(a: float, b: float) -> float:
        return 1.0 if a > b else 0.5 if a == b else 0.0

    return (
        [sum(win(a, b) for b in no) / len(no) for a in yes],
        [sum(win(a, b) for a in yes) / len(yes) for b in no],
    )


def slow_covariance(one: list[float], two: list[float]) -> float:
    mean_one, mean_two = sum(one) / len(one), sum(two) / len(two)
    products = [(a - mean_one) * (b - mean_two) for a, b in zip(one, two, strict=True)]
    return sum(products) / (len(one) - 1)


def slow_delong(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """AUROC, variance of each and covariance, by loops (DeLong et al. 1988, equations 4 to 6)."""
    parts = [slow_components(s[y == 1].tolist(), s[y == 0].tolist()) for s in (a, b)]
    n_yes, n_no = int((y == 1).sum()), int((y == 0).sum())

    def cov(i: int, j: int) -> float:
        of_yes = slow_covariance(parts[i][0], parts[j][0]) / n_yes
        return of_yes + slow_covariance(parts[i][1], parts[j][1]) / n_no

    area = sum(parts[0][0]) / n_yes
    return area, cov(0, 0), cov(1, 1), cov(0, 1)


def table(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A small table of two scores, with ties in every second one."""
    rng = np.random.default_rng(seed)
    y = (rng.random(12 + 5 * seed) < 0.35).astype(np.int64)
    y[:4] = [0, 1, 0, 1]
    a = rng.normal(size=len(y)) + y
    b = 0.6 * a + rng.normal(size=len(y))
    return (y, a, b) if seed % 2 else (y, np.round(a), np.round(b))


@pytest.mark.parametrize("seed", range(10))
def test_ten_tables_against_the_definition(seed: int) -> None:
    y, a, b = table(seed)
    area, var_a, var_b, cov = slow_delong(y, a, b)
    one = delong(y, a)
    assert one.value == pytest.approx(area)
    assert one.value == pytest.approx(roc_auc_score(y, a))
    assert one.standard_error**2 == pytest.approx(var_a)
    pair = delong_paired(y, a, b)
    assert pair.value == pytest.approx(area - roc_auc_score(y, b))
    assert pair.standard_error**2 == pytest.approx(var_a + var_b - 2 * cov)
    assert pair.high - pair.value == pytest.approx(1.959964 * pair.standard_error)
    assert pair.minimum_detectable == pytest.approx(1.959964 * pair.standard_error)


def test_the_ct_ratings_of_hanley_and_mcneil() -> None:
    """109 CT images (Radiology 143:29, 1982); SE and interval as Stata's roctab prints them."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    y = np.repeat([0, 1], [sum(normal), sum(abnormal)])
    rating = np.concatenate([np.repeat(np.arange(5), normal), np.repeat(np.arange(5), abnormal)])
    found = delong(y, rating.astype(np.float64))
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    assert found.standard_error == pytest.approx(0.0307, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((0.83295, 0.95339), abs=1e-5)


def test_by_hand() -> None:
    # positives 3, 2 win 1 and 1/2 of the pairs against 2, 1 ... (3: 2 of 2; 2: 1.5 of 2)
    found = delong(np.array([1, 1, 0, 0]), np.array([3.0, 2.0, 2.0, 1.0]))
    assert found.value == pytest.approx(3.5 / 4)
    # components 1, .75 and .75, 1: sample variance .03125 each, over 2 cases each
    assert found.standard_error**2 == pytest.approx(0.03125 / 2 + 0.03125 / 2)
    assert found.high == 1  # cut


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=25
    ).filter(lambda r: min(sum(y for y, *_ in r), sum(1 - y for y, *_ in r)) >= 2)
)
def test_swapping_and_bending_change_nothing_but_the_sign(rows) -> None:
    y, a, b = (np.array(c, dtype=np.float64) for c in zip(*rows, strict=True))
    y = y.astype(np.int64)
    one, other = delong_paired(y, a, b), delong_paired(y, b, a)
    assert one.value == pytest.approx(-other.value)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    bent = delong_paired(y, np.exp(a), b**3)
    assert bent.standard_error == pytest.approx(one.standard_error, nan_ok=True)


def side(seed: int, fold: int, y: np.ndarray, score: np.ndarray, first: int = 0) -> FoldScores:
    ids = tuple(f"c{first + i}" for i in range(len(y)))
    return FoldScores(
        seed=seed, fold=fold, case_ids=ids, labels=y, probabilities=score, threshold=0.5
    )


def test_folds_of_other_cases_are_independent_and_repeats_are_not() -> None:
    y, a, b = table(9)
    once = delong_folds([side(0, 0, y, a)])
    assert once.standard_error == pytest.approx(delong(y, a).standard_error)
    repeated = delong_folds([side(s, 0, y, a) for s in range(10)])
    assert repeated.standard_error == pytest.approx(once.standard_error)
    y2, a2, b2 = table(7)
    apart = [side(0, 0, y, a), side(0, 1, y2, a2, first=500)]
    wanted = (delong(y, a).standard_error ** 2 + delong(y2, a2).standard_error ** 2) / 4
    assert delong_folds(apart).standard_error ** 2 == pytest.approx(wanted)
    others = [side(0, 0, y, b), side(0, 1, y2, b2, first=500)]
    pair = delong_difference(influence_over_folds(apart), influence_over_folds(others))
    each = [delong_paired(y, a, b), delong_paired(y2, a2, b2)]
    assert pair.value == pytest.approx(np.mean([e.value for e in each]))
    assert pair.standard_error**2 == pytest.approx(sum(e.standard_error**2 for e in each) / 4)


def test_models_in_other_folds_are_paired_by_case() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(200) % 4 == 0).astype(np.int64)
    score = rng.normal(size=200) + y

    def cut(places: list[np.ndarray]) -> list[FoldScores]:
        return [
            FoldScores(
                seed=0,
                fold=i,
                case_ids=tuple(f"c{j}" for j in at),
                labels=y[at],
                probabilities=score[at],
                threshold=0.5,
            )
            for i, at in enumerate(places)
        ]

    one = cut(np.array_split(np.arange(200), 4))
    two = cut(np.array_split(rng.permutation(200), 4))
    pair = delong_difference(influence_over_folds(one), influence_over_folds(two))
    alone = delong_folds(one)
    # the same scores of the same cases: only whom a case was measured against is left to vary
    assert 0 < pair.standard_error < 0.5 * alone.standard_error


def test_what_cannot_be_known_is_nan_and_says_why() -> None:
    y = np.array([0, 0, 1, 1])
    parted = delong(y, np.array([1.0, 2.0, 3.0, 4.0]))
    assert parted.value == 1
    assert np.isnan(parted.low)
    assert "separated" in parted.why_undefined
    same = delong_paired(y, y + 0.5, y + 0.5)
    assert (same.value, np.isnan(same.p)) == (0, True)
    assert "alike" in same.why_undefined
    few = delong(np.array([0, 0, 1]), np.array([1.0, 3.0, 2.0]))
    assert few.value == 0.5
    assert "fewer than 2" in few.why_undefined
    assert np.isnan(delong(np.zeros(3, dtype=np.int64), np.arange(3.0)).value)
