"""Scores against what is hidden: by hand, against chance, and on representations made to order."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from momkd.simulated.truth_scores import (
    auprc_by_chance,
    canonical_correlations,
    score_niche,
    score_representation,
)


def mask(*places: int, n: int) -> np.ndarray:
    return np.isin(np.arange(n), places)


def test_attention_by_hand() -> None:
    # order 2, 0, 3, 1: niche tiles 2 and 3 stand first and third
    got = score_niche(np.array([0.3, 0.05, 0.5, 0.15]), mask(2, 3, n=4))
    assert got.auprc == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert got.auroc == pytest.approx(3 / 4)
    assert got.share == 0.5


def test_even_attention_scores_the_share_of_the_niche() -> None:
    got = score_niche(np.full(10, 0.1), mask(1, 4, n=10))
    assert got.auprc == pytest.approx(0.2)
    assert got.auroc == pytest.approx(0.5)
    assert got.by_chance > 0.2


@pytest.mark.parametrize("places", [(), (0, 1, 2)])
def test_a_slide_without_contrast_has_no_score(places: tuple[int, ...]) -> None:
    got = score_niche(np.array([0.2, 0.3, 0.5]), mask(*places, n=3))
    assert np.isnan([got.auprc, got.by_chance, got.auroc]).all()
    assert got.share == len(places) / 3


@pytest.mark.parametrize(("n", "n_niche"), [(2, 1), (4, 1), (5, 2), (6, 5)])
def test_the_level_of_chance_is_the_mean_over_all_orders(n: int, n_niche: int) -> None:
    niche = np.arange(n) < n_niche
    found = [score_niche(np.array(order) / n, niche) for order in permutations(range(n))]
    assert np.mean([f.auprc for f in found]) == pytest.approx(auprc_by_chance(n, n_niche))
    assert found[0].by_chance == pytest.approx(auprc_by_chance(n, n_niche))


def test_canonical_correlations_by_hand() -> None:
    # x1 and y1 share half of their variance, x2 and y2 nothing; all columns are orthogonal
    a, b, c, d, e = np.eye(6)[:5] - np.eye(6)[:5].mean(axis=1, keepdims=True)
    q, _ = np.linalg.qr(np.stack([a, b, c, d, e]).T)
    a, b, c, d, e = q.T
    x, y = np.stack([a, d], axis=1), np.stack([a + b, e], axis=1)
    np.testing.assert_allclose(canonical_correlations(x, y), [np.sqrt(0.5), 0], atol=1e-12)
    mixed = canonical_correlations(x @ [[1.0, 2.0], [0.5, -1.0]] + 3, y @ [[2.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(mixed, [np.sqrt(0.5), 0], atol=1e-12)


def test_canonical_correlations_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5))
    y = x[:, :2] @ [[1.0, 0.3], [0.0, 0.5]] + rng.standard_normal((300, 2))
    left, right = CCA(2, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = [np.corrcoef(left[:, i], right[:, i])[0, 1] for i in range(2)]
    np.testing.assert_allclose(canonical_correlations(x, y), expected, atol=1e-5)


def made(n: int = 240, dim: int = 40, *, signal: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Give m, and a representation that holds its first component only, among noise."""
    rng = np.random.default_rng(seed)
    m = rng.standard_normal((n, 2))
    return signal * m[:, :1] * rng.standard_normal(dim) + rng.standard_normal((n, dim)), m


def test_what_is_kept_of_m_is_found_and_what_is_not_stays_at_chance() -> None:
    x, m = made(signal=1.0)
    got = score_representation(x, m, n_permutations=40)
    assert got.correlations[0] > 0.9 > got.high_by_chance[0]
    assert abs(got.correlations[1]) < 0.2
    assert abs(got.by_chance[0]) < 0.1 < got.high_by_chance[0] < 0.3


def test_what_holds_nothing_of_m_stays_at_chance_however_wide() -> None:
    x, m = made(n=120, dim=200, signal=0.0)
    assert canonical_correlations(x[:100], m[:100])[0] > 0.99  # by chance alone
    below = [
        (s := score_representation(x, rows, n_permutations=20)).correlations[0]
        <= s.high_by_chance[0]
        for rows in (np.random.default_rng(i).permutation(m) for i in range(10))
    ]
    assert np.mean(below) >= 0.7


def test_a_representation_that_never_varies_scores_nothing() -> None:
    _, m = made(signal=1.0)
    got = score_representation(np.ones((len(m), 3), dtype=np.float32), m, n_permutations=5)
    assert got.correlations == got.high_by_chance == (0.0, 0.0)


def test_rotating_and_scaling_a_representation_changes_little() -> None:
    x, m = made(signal=0.5)
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 40)))
    plain, turned = (
        score_representation(r.astype(np.float32), m, n_permutations=3).correlations
        for r in (x, 7 * x @ q + 100)
    )
    np.testing.assert_allclose(plain, turned, atol=1e-3)
