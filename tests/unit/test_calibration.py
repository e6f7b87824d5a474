import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from momkd.errors import DataError
from momkd.evaluation.calibration import Calibration, choose_thresholds, fit_calibration
from momkd.evaluation.metrics import auroc, calibration_slope


def logits(n: int, seed: int, temperature: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose right temperature and offset are known."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1.5, n)
    y = (rng.random(n) < expit(z)).astype(np.int64)
    margin = (z - offset) * temperature
    both = np.stack([-0.3 * margin, 0.7 * margin], axis=1) + rng.normal(size=(n, 1))
    return both.astype(np.float32), y


def log_loss(calibration: Calibration, x: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(calibration.probabilities(x)[np.arange(len(y)), y]).mean())


@pytest.mark.parametrize(("temperature", "offset"), [(1, 0), (3, -1.2), (0.4, 0.8)])
def test_finds_a_known_temperature_and_offset(temperature: float, offset: float) -> None:
    x, y = logits(30_000, 1, temperature, offset)
    found = fit_calibration(x, y)
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.offset == pytest.approx(offset, abs=0.06)
    assert calibration_slope(y, found.probabilities(x)[:, 1]) == pytest.approx(1, abs=0.02)


def test_undoes_class_balanced_sampling() -> None:
    x, y = logits(4_000, 2, 1.0, 0.0)
    shifted = x + np.array([0, np.log(4)], dtype=np.float32)  # as if positives counted four times
    found = fit_calibration(shifted, y)
    assert found.offset == pytest.approx(-np.log(4), abs=0.15)
    assert found.probabilities(shifted)[:, 1].mean() == pytest.approx(y.mean(), abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_fourteen_positives_improve_and_do_not_explode(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = (np.arange(65) < 14).astype(np.int64)
    x = np.stack([np.zeros(65), 6 * (rng.normal(size=65) + y)], axis=1)
    found = fit_calibration(x, y)
    assert log_loss(found, x, y) < log_loss(Calibration(), x, y)
    assert 1 < found.temperature < 40


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["separable", "reversed", "one class", "constant"])
def test_hopeless_validation_sides_stay_finite(kind: str, scale: float) -> None:
    margin, y = np.linspace(-1, 1, 20), (np.arange(20) >= 10).astype(np.int64)
    if kind == "reversed":
        margin = -margin
    if kind == "one class":
        y = np.zeros(20, dtype=np.int64)
    if kind == "constant":
        margin = np.zeros(20)
    found = fit_calibration(np.stack([np.zeros(20), scale * margin], axis=1), y)
    assert 1e-3 < found.temperature < 1.2e3
    assert abs(found.offset) < 6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=20),
    st.floats(0.01, 50),
    st.floats(-10, 10),
)
def test_probabilities_are_probabilities(
    rows: list[tuple[float, float]], temperature: float, offset: float
) -> None:
    x = np.array(rows)
    p = Calibration(temperature=temperature, offset=offset).probabilities(x)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-12)
    wanted = expit((x[:, 1] - x[:, 0]) / temperature + offset)
    assert p[:, 1] == pytest.approx(wanted)


def test_ranks_are_kept() -> None:
    x, y = logits(200, 3, 2.0, 1.0)
    p = fit_calibration(x, y).probabilities(x)[:, 1]
    assert auroc(y, p) == pytest.approx(auroc(y, (x[:, 1] - x[:, 0]).astype(np.float64)), abs=1e-3)


def test_thresholds_by_hand() -> None:
    y = np.array([0, 0, 0, 1, 0, 1, 1])
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8])
    found = choose_thresholds(p, y)
    # F1: top 2 give 2*2/(2+3) = 0.8; top 4 give 2*3/(4+3) = 0.857
    assert found["max_f1"].value == pytest.approx(0.35)
    assert found["max_f1"].specificity == pytest.approx(3 / 4)
    assert found["sensitivity_95"].value == pytest.approx(0.35)
    assert found["sensitivity_95"].sensitivity == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=40).filter(
        lambda r: {y for y, _ in r} == {0, 1}
    )
)
def test_no_cut_is_better_than_the_chosen(rows: list[tuple[int, int]]) -> None:
    y = np.array([r[0] for r in rows])
    p = np.array([r[1] for r in rows]) / 12
    found = choose_thresholds(p, y)

    def f1(cut: float) -> float:
        called = p >= cut
        return 2 * (called & (y == 1)).sum() / (called.sum() + (y == 1).sum())

    def rates(cut: float) -> tuple[float, float]:
        called = p >= cut
        return called[y == 1].mean(), 1 - called[y == 0].mean()

    cuts = np.linspace(0, 1, 49)
    assert f1(found["max_f1"].value) >= max(f1(c) for c in cuts) - 1e-12
    chosen = found["sensitivity_95"]
    assert rates(chosen.value) == pytest.approx((chosen.sensitivity, chosen.specificity))
    assert chosen.sensitivity >= 0.95
    assert chosen.specificity >= max(rates(c)[1] for c in cuts if rates(c)[0] >= 0.95) - 1e-12


def test_one_class_has_no_threshold() -> None:
    with pytest.raises(DataError, match="K04"):
        choose_thresholds(np.array([0.1, 0.2]), np.array([1, 1]))
