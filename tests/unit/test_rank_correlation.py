"""Rank correlations by hand and by SciPy, and intervals that hold all at once."""

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from momkd.evaluation.rank_correlation import correlate_ranks

RNG = np.random.default_rng(3)
LEFT, RIGHT = RNG.normal(size=(30, 3)), RNG.normal(size=(30, 4)).round(1)  # with ties
LABELS = np.arange(30) % 2


def test_correlations_are_those_of_scipy() -> None:
    found = correlate_ranks(LEFT, RIGHT)
    for i in range(3):
        for j in range(4):
            assert found.rho[i, j] == pytest.approx(spearmanr(LEFT[:, i], RIGHT[:, j]).statistic)
    assert (found.n_cases, found.n_tests) == (30, 12)


def test_an_interval_by_hand() -> None:
    found = correlate_ranks(LEFT[:, :1], RIGHT[:, :1])
    rho = found.rho[0, 0]
    reach = 1.959963985 * np.sqrt((1 + rho**2 / 2) / 27)
    assert found.low[0, 0] == pytest.approx(np.tanh(np.arctanh(rho) - reach))
    assert found.high[0, 0] == pytest.approx(np.tanh(np.arctanh(rho) + reach))
    within = correlate_ranks(LEFT[:, :1], RIGHT[:, :1], LABELS)
    rho = within.rho[0, 0]
    reach = 1.959963985 * np.sqrt((1 + rho**2 / 2) / 26)
    assert within.high[0, 0] == pytest.approx(np.tanh(np.arctanh(rho) + reach))


def test_many_intervals_are_wider_than_one() -> None:
    one, many = correlate_ranks(LEFT[:, :1], RIGHT[:, :1]), correlate_ranks(LEFT, RIGHT)
    spread = np.arctanh(many.high[0, 0]) - np.arctanh(many.rho[0, 0])
    narrow = np.arctanh(one.high[0, 0]) - np.arctanh(one.rho[0, 0])
    assert spread / narrow == pytest.approx(norm.isf(0.05 / 24) / norm.isf(0.025))


def test_what_does_not_vary_has_no_correlation_and_counts_for_none() -> None:
    flat = np.column_stack([LEFT[:, 0], np.full(30, 0.25)])
    found = correlate_ranks(flat, RIGHT)
    assert np.isnan(found.rho[1]).all()
    assert np.isnan(found.low[1]).all()
    assert found.n_tests == 4
    by_class = np.column_stack([LABELS.astype(float), LEFT[:, 0]])
    assert np.isnan(correlate_ranks(by_class, RIGHT, LABELS).rho[0]).all()
    assert correlate_ranks(flat[:, 1:], RIGHT).n_tests == 0


def test_what_goes_with_the_class_alone_vanishes_within_it() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    left, right = (rng.normal(size=(200, 1)) + 3 * labels[:, None] for _ in range(2))
    every, within = correlate_ranks(left, right), correlate_ranks(left, right, labels)
    assert every.low[0, 0] > 0.5
    assert within.low[0, 0] < 0 < within.high[0, 0]
    tied = left + 0.3 * rng.normal(size=left.shape)
    assert correlate_ranks(left, tied, labels).low[0, 0] > 0.5


def test_perfect_agreement_is_1_and_its_interval_too() -> None:
    found = correlate_ranks(LEFT, LEFT)
    assert found.rho[0, 0] == pytest.approx(1)
    assert found.low[0, 0] == pytest.approx(1)
    assert np.isfinite(found.high).all()


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="9 cases, wanted 10"):
        correlate_ranks(LEFT[:9], RIGHT[:9])


def test_all_intervals_hold_together_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        left, right = rng.normal(size=(40, 6)) ** 3, rng.normal(size=(40, 20))
        found = correlate_ranks(left, right)
        wrong += bool(((found.low > 0) | (found.high < 0)).any())
    assert wrong / 300 <= 0.09  # 0.05, and three standard errors of 300 studies
