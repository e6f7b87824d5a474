"""The best epoch, the learning rate's drops, and signs of a collapse."""

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from momkd.fitting.stopping import COLLAPSE_EPOCHS, CollapseWatch, Watch


def _watch(scores: list[float], *, smoothing: float = 0.0, patience: int | None = None) -> Watch:
    watch = Watch()
    for epoch, score in enumerate(scores):
        watch.observe(epoch, score, smoothing=smoothing, plateau_patience=patience)
    return watch


def test_smoothed_by_hand() -> None:
    watch = _watch([0.5, 0.8, 0.7], smoothing=0.4)
    # 0.6 * 0.8 + 0.4 * 0.5 = 0.68; 0.6 * 0.7 + 0.4 * 0.68 = 0.692
    assert watch.smoothed == pytest.approx(0.692)
    assert watch.best_epoch == 2


def test_smoothing_outlives_a_lucky_epoch() -> None:
    # unsmoothed, the lucky epoch 1 wins over the steady rise
    scores = [0.6, 0.8, 0.62, 0.75, 0.78, 0.79]
    assert _watch(scores).best_epoch == 1
    assert _watch(scores, smoothing=0.6).best_epoch == 5


@given(st.floats(0.0, 1.0), st.floats(0.0, 0.99))
def test_a_tie_is_not_better(score: float, smoothing: float) -> None:
    watch = _watch([score] * 4, smoothing=smoothing)
    assert watch.best_epoch == 0
    assert watch.n_since_best == 3


def test_no_number_is_never_best_and_costs_patience() -> None:
    watch = _watch([math.nan, math.nan, 0.4, math.nan, 0.3])
    assert (watch.best, watch.best_epoch) == (0.4, 2)
    assert watch.smoothed == 0.3
    assert watch.n_since_best == 2
    assert _watch([math.nan]).best_epoch is None


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan]), min_size=1, max_size=30),
    st.integers(0, 4),
)
def test_drops_where_torch_does(scores: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.5, patience=patience, threshold=0.0, threshold_mode="abs", eps=0
    )
    ours = Watch()
    for epoch, score in enumerate(scores):
        theirs.step(score)
        ours.observe(epoch, score, smoothing=0.0, plateau_patience=patience)
        assert 0.5**ours.n_drops == optimizer.param_groups[0]["lr"]


def test_constant_schedule_never_drops() -> None:
    assert _watch([0.5] * 50, patience=None).n_drops == 0


def test_goes_on_from_its_state() -> None:
    scores = [0.5, 0.4, 0.4, 0.6, 0.2, 0.1]
    whole = _watch(scores, smoothing=0.3, patience=1)
    half = Watch(**asdict(_watch(scores[:3], smoothing=0.3, patience=1)))
    for epoch, score in enumerate(scores[3:], start=3):
        half.observe(epoch, score, smoothing=0.3, plateau_patience=1)
    assert half == whole


def test_a_collapse_lasts() -> None:
    watch = CollapseWatch()
    seen = [watch.observe(e, {"a": True, "b": e != 3}) for e in range(COLLAPSE_EPOCHS + 4)]
    # epoch 0 does not count; "b" is broken off by epoch 3 and has to last anew
    assert [e for e, names in enumerate(seen) if "a" in names] == [COLLAPSE_EPOCHS]
    assert [e for e, names in enumerate(seen) if "b" in names] == [3 + COLLAPSE_EPOCHS]
