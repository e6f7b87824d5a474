"""How often the tests of momkd err, and how often its intervals cover: measured, not believed."""

import numpy as np
import pytest

from benchmarks.type_one_error import (
    TEST_OVER_TRAIN,
    WORLDS,
    World,
    covered,
    expected_auroc,
    hold_out_coverage,
    make_study,
)
from momkd.evaluation.claims import state_claims
from momkd.evaluation.comparison import compare_models


def test_null_studies_have_no_better_method() -> None:
    """The generator itself: equal methods, exact true AUROCs, folds that test each case once."""
    study = make_study(WORLDS[0], 0, n_methods=3, repeats=2)
    tested = [c for fold in study.folds[0] if fold.seed == 1 for c in fold.case_ids]
    assert len(tested) == len(set(tested)) == 800
    truth = np.array(
        [make_study(WORLDS[1], s, repeats=1).true_auroc.mean(axis=1) for s in range(40)]
    )
    error = truth.std(axis=0, ddof=1) / np.sqrt(len(truth))
    assert (abs(truth.mean(axis=0) - truth.mean()) < 4 * error).all()
    found = [make_study(WORLDS[1], s, n_methods=2, repeats=1) for s in range(40)]
    gap = np.array([(s.auroc() - s.true_auroc).mean() for s in found])
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(len(gap))


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"{w.n_features}-features")
def test_compare_errs_once_in_twenty_null_studies(world: World) -> None:
    single, family, claimed, naive = [], [], [], []
    for seed in range(300):
        models = {str(i): folds for i, folds in enumerate(make_study(world, seed).folds)}
        found = compare_models(models, method="0", test_over_train=TEST_OVER_TRAIN, n_draws=0)
        single.append(found.pairs[0].verdict.p < 0.05)
        family.append(any(pair.p_holm < 0.05 for pair in found.pairs))
        claimed.append(any("better" in s or "worse" in s for s in state_claims(found).may))
        naive.append(found.pairs[0].p_naive < 0.05)
    assert 0.02 <= np.mean(single) <= 0.08
    assert 0 < np.mean(family) <= 0.08  # Holm errs less where all comparisons share a method
    assert family == claimed
    assert np.mean(naive) > 0.4


@pytest.mark.slow
def test_intervals_cover_what_they_are_intervals_of() -> None:
    world = WORLDS[1]  # the harder of the two
    expected = expected_auroc(world, 500)
    found = [covered(world, seed, expected) for seed in range(500)]
    for name in (
        "Nadeau-Bengio, 10x5: difference of the methods",
        "Nadeau-Bengio, 10x5: AUROC of the method",
        "bootstrap, 5 folds: AUROC of the models as trained",
    ):
        assert 0.93 <= np.mean([c[name] for c in found]) <= 0.97, name
    # Falls short of 0.95, as docs/statistics.md says: a case that one fold tests has trained the
    # others, and drawing cases does not see it. DeLong's falls short by as much.
    short = (
        "bootstrap, 5 folds: their difference",
        "DeLong, 10x5: difference of the models as trained",
    )
    for name in short:
        assert 0.88 <= np.mean([c[name] for c in found]) <= 0.94, name


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"{w.n_features}-features")
def test_on_a_hold_out_the_same_intervals_cover(world: World) -> None:
    for name, share in hold_out_coverage(world, 500).items():
        assert 0.93 <= share <= 0.97, name
