import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from momkd.evaluation.summary import (
    FoldScores,
    draw_case_weights,
    summarise_folds,
    weighted_metrics,
)


def _fold(n: int, seed: int, fold: int = 0, lift: float = 1.0) -> FoldScores:
    rng = np.random.default_rng([seed, fold])
    labels = (np.arange(n) % 3 == 0).astype(np.int64)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + lift * labels)))
    ids = tuple(f"case-{fold}-{i}" for i in range(n))
    return FoldScores(
        seed=seed, fold=fold, case_ids=ids, labels=labels, probabilities=p, threshold=0.6
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=4, max_size=30
    )
)
def test_weights_are_repetitions(rows: list[tuple[bool, int, int]]) -> None:
    labels = np.array([int(r[0]) for r in rows], dtype=np.int64)
    p = np.array([r[1] / 6 for r in rows])
    w = np.array([[r[2] for r in rows]], dtype=np.float64)
    y_long, p_long = np.repeat(labels, w[0].astype(int)), np.repeat(p, w[0].astype(int))
    ours = {k: v[0] for k, v in weighted_metrics(labels, p, 0.5, w).items()}
    if len(set(y_long)) < 2:
        assert np.isnan(ours["auroc"])
        return
    called = (p_long >= 0.5).astype(int)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(y_long, p_long))
    assert ours["auprc"] == pytest.approx(sk.average_precision_score(y_long, p_long))
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y_long, called))
    assert ours["macro_f1"] == pytest.approx(
        sk.f1_score(y_long, called, average="macro", labels=[0, 1], zero_division=0)
    )
    assert ours["sensitivity"] == pytest.approx(sk.recall_score(y_long, called))
    assert ours["brier"] == pytest.approx(np.mean((p_long - y_long) ** 2))


def test_one_class_is_undefined_not_one_half() -> None:
    labels = np.ones(5, dtype=np.int64)
    found = weighted_metrics(labels, np.linspace(0, 1, 5), 0.5, np.ones((1, 5)))
    assert np.isnan(found["auroc"][0])
    assert np.isnan(found["specificity"][0])


def test_draws_are_stratified_and_seeded() -> None:
    labels = np.array([0] * 7 + [1] * 3, dtype=np.int64)
    weights = draw_case_weights(labels, 50, seed=1)
    assert (weights[:, :7].sum(axis=1) == 7).all()
    assert (weights[:, 7:].sum(axis=1) == 3).all()
    assert np.array_equal(weights, draw_case_weights(labels, 50, seed=1))
    assert not np.array_equal(weights, draw_case_weights(labels, 50, seed=2))


def test_repeats_of_the_same_cases_do_not_shrink_the_interval() -> None:
    once = [_fold(60, seed=0)]
    five = once * 5
    a, b = summarise_folds(once)["auroc"], summarise_folds(five)["auroc"]
    assert (a.low, a.high) == pytest.approx((b.low, b.high))
    more = [_fold(60, seed=0, fold=f) for f in range(5)]
    c = summarise_folds(more)["auroc"]
    assert c.high - c.low < 0.7 * (a.high - a.low)


def test_interval_covers_about_as_often_as_it_says() -> None:
    # P(score of a positive > score of a negative) for a shift of 1 in normal scores
    truth, hits, n_studies = 0.7602, 0, 120
    for study in range(n_studies):
        found = summarise_folds([_fold(90, seed=1000 + study)], n_draws=300, seed=study)["auroc"]
        hits += found.low <= truth <= found.high
    assert 0.87 <= hits / n_studies <= 1.0
