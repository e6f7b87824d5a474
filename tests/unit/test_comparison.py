import itertools
import math

import numpy as np
import pytest
from scipy import stats

from momkd.evaluation.bayesian import posterior_of
from momkd.evaluation.claims import state_claims
from momkd.evaluation.comparison import BOOTSTRAP, CORRECTED_T, DELONG, compare_models
from momkd.evaluation.corrected_tests import corrected_t, detectable_in_sd, holm, naive_t
from momkd.evaluation.estimate import bootstrap_estimate
from momkd.evaluation.summary import FoldScores

RATIO = 0.2 / 0.7


def slow_corrected_t(d: list[float], ratio: float) -> tuple[float, float, float]:
    """Nadeau and Bengio by loops: t, its standard error, and p from a t table by integration."""
    n = len(d)
    mean = sum(d) / n
    variance = sum((x - mean) ** 2 for x in d) / (n - 1)
    error = math.sqrt((1 / n + ratio) * variance)
    grid = np.linspace(-abs(mean / error), abs(mean / error), 20_001)
    df = n - 1
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    inside = np.trapezoid(scale * (1 + grid**2 / df) ** (-(df + 1) / 2), grid)
    return mean / error, error, 1 - inside


@pytest.mark.parametrize(("n", "seed"), [(5, 0), (25, 1), (50, 2)])
def test_corrected_t_by_loops(n: int, seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.01, 0.03, n)
    found = corrected_t(d, RATIO)
    t, error, p = slow_corrected_t(d.tolist(), RATIO)
    assert found.standard_error == pytest.approx(error)
    assert found.p == pytest.approx(p, abs=1e-6)
    assert found.value / found.standard_error == pytest.approx(t)
    significant = abs(found.value) > found.minimum_detectable
    assert significant == (found.p < 0.05) == (not found.low <= 0 <= found.high)


def test_without_the_correction_it_is_the_paired_t() -> None:
    a, b = np.random.default_rng(3).normal(0.7, 0.03, (2, 10))
    assert naive_t(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_detectable_differences_are_those_of_the_specification() -> None:
    found = [detectable_in_sd(n, RATIO) for n in (5, 25, 50)]
    assert found == pytest.approx([1.93, 1.18, 1.11], abs=0.006)
    d = np.random.default_rng(4).normal(0, 0.03, 25)
    least = corrected_t(d, RATIO).minimum_detectable
    assert least == pytest.approx(detectable_in_sd(25, RATIO) * d.std(ddof=1))


def test_folds_without_the_metric_are_left_out_and_nothing_is_made_up() -> None:
    d = np.array([0.1, np.nan, 0.2, 0.15])
    assert corrected_t(d, RATIO).p == pytest.approx(corrected_t(d[[0, 2, 3]], RATIO).p)
    one = corrected_t(np.array([0.1, np.nan]), RATIO)
    assert one.value == 0.1
    assert np.isnan(one.p)
    assert "1 folds" in one.why_undefined
    same = corrected_t(np.zeros(5), RATIO)
    assert np.isnan(same.p)
    assert "same in every fold" in same.why_undefined


def slow_holm(p: list[float]) -> list[float]:
    """By its definition: the least level at which the stepwise procedure rejects each."""

    def rejected(level: float) -> set[int]:
        gone: set[int] = set()
        for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[i] > level / (len(p) - step):
                break
            gone.add(i)
        return gone

    levels = sorted({min(1.0, p[i] * k) for i in range(len(p)) for k in range(1, len(p) + 1)})
    return [
        min([x for x in levels if i in rejected(x + 1e-12)], default=1.0) for i in range(len(p))
    ]


@pytest.mark.parametrize("seed", range(5))
def test_holm_by_its_definition(seed: int) -> None:
    p = (np.random.default_rng(seed).random(8) ** 3).tolist()
    assert holm(p) == pytest.approx(slow_holm(p))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_gap = holm([0.01, math.nan, 0.02])  # the undefined one was still made
    assert with_gap[0] == pytest.approx(0.03)
    assert math.isnan(with_gap[1])
    assert with_gap[2] == pytest.approx(0.04)
    assert holm([]) == []


def test_practical_equivalence_is_the_correlated_t_test() -> None:
    d = np.random.default_rng(5).normal(0.004, 0.02, 50)
    found = posterior_of(corrected_t(d, RATIO), df=49.0, rope=0.01)
    # Corani and Benavoli 2015, equation 8: scale (1/n + rho/(1 - rho)) s^2, rho = test share
    rho = 0.2 / (0.2 + 0.7)
    draws = stats.t.rvs(
        49,
        loc=d.mean(),
        scale=np.sqrt((1 / 50 + rho / (1 - rho)) * d.var(ddof=1)),
        size=400_000,
        random_state=np.random.default_rng(6),
    )
    assert found.below == pytest.approx((draws < -0.01).mean(), abs=0.003)
    assert found.within == pytest.approx((abs(draws) <= 0.01).mean(), abs=0.003)
    assert found.below + found.within + found.above == pytest.approx(1)


def test_bootstrap_p_belongs_to_its_interval() -> None:
    draws = np.random.default_rng(7).normal(0.05, 0.03, 4000)
    found = bootstrap_estimate(np.concatenate([[0.05], draws]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    assert found.p == pytest.approx(2 * (draws <= 0).mean(), abs=0.001)
    assert bootstrap_estimate(np.array([1.0, *np.ones(99)])).p == pytest.approx(2 / 100)
    assert bootstrap_estimate(np.array([0.1])).why_undefined == "no draws"


# --- whole comparisons


def run_of(
    lifts: dict[str, float], *, seeds: int = 3, n: int = 300, noise: float = 0.3
) -> dict[str, list[FoldScores]]:
    """Models over the same cases and folds; a lift parts the classes."""
    rng = np.random.default_rng(11)
    y = (np.arange(n) % 3 == 0).astype(np.int64)
    own = {name: rng.normal(size=n) for name in lifts}
    shared = rng.normal(size=n)
    models: dict[str, list[FoldScores]] = {name: [] for name in lifts}
    for seed, name in itertools.product(range(seeds), lifts):
        order = np.random.default_rng(seed).permutation(n)
        for fold, at in enumerate(np.array_split(order, 5)):
            z = shared[at] + 0.5 * own[name][at] + lifts[name] * y[at]
            z = z + noise * np.random.default_rng([seed, fold]).normal(size=len(at))
            models[name].append(
                FoldScores(
                    seed=seed,
                    fold=fold,
                    case_ids=tuple(f"c{i:03d}" for i in at),
                    labels=y[at],
                    probabilities=1 / (1 + np.exp(-z)),
                    threshold=0.5,
                )
            )
    return models


def test_a_clear_winner_an_equal_and_a_copy() -> None:
    models = run_of({"momkd": 2.0, "abmil": 0.5, "wikg": 1.95})
    models["copy"] = models["momkd"]
    found = compare_models(models, method="momkd", test_over_train=RATIO, n_draws=300)
    assert found.test == CORRECTED_T
    assert (found.n_cases, found.n_positive, found.n_folds, found.n_repeats) == (300, 100, 15, 3)
    by_name = {pair.other: pair for pair in found.pairs}
    assert list(by_name) == ["abmil", "wikg", "copy"]
    worse = by_name["abmil"]
    assert worse.p_holm >= worse.verdict.p
    assert worse.p_holm < 0.05
    assert worse.verdict.value == pytest.approx(worse.score - worse.score_other)
    assert worse.posterior.above > 0.95
    assert worse.bootstrap.low < worse.verdict.value < worse.bootstrap.high
    assert worse.delong is not None
    assert worse.delong.value == pytest.approx(worse.verdict.value)
    assert worse.p_naive < worse.verdict.p
    assert by_name["copy"].verdict.value == 0
    assert np.isnan(by_name["copy"].p_holm)
    claims = state_claims(found)
    assert [s for s in claims.may if "abmil" in s and "higher AUROC" in s and "better" in s]
    assert not [s for s in claims.may if "wikg" in s and "better" in s]
    assert [s for s in claims.may_not if "copy" in s and "same in every fold" in s]
    assert [s for s in claims.may_not if "order of the models" in s]
    assert [s for s in claims.may_not if "named before" in s]


def test_lower_is_better_for_brier() -> None:
    models = run_of({"momkd": 2.0, "abmil": 0.0})
    found = compare_models(
        models, method="abmil", metric="brier", test_over_train=RATIO, n_draws=200
    )
    (sentence,) = state_claims(found).may
    assert "higher Brier score" in sentence
    assert "worse" in sentence


def test_equality_is_claimed_only_when_it_is_known() -> None:
    models = run_of({"a": 1.0, "b": 1.0}, n=3000, noise=0.05)
    near = {"a": models["a"], "b": [_nudged(f) for f in models["a"]]}
    found = compare_models(near, method="a", test_over_train=RATIO, n_draws=0)
    assert [s for s in state_claims(found).may if "practically equal" in s]
    unsure = compare_models(
        run_of({"a": 1.0, "b": 1.1}, n=60, seeds=1), method="a", test_over_train=RATIO, n_draws=0
    )
    claims = state_claims(unsure)
    assert claims.may == ("No difference of a from another model, and no equality.",)
    assert [s for s in claims.may_not if "would not have been significant here" in s]
    assert [s for s in claims.may_not if "one repeat" in s and "0.57 times" in s]


def _nudged(fold: FoldScores) -> FoldScores:
    rng = np.random.default_rng([fold.seed, fold.fold])
    return FoldScores(
        seed=fold.seed,
        fold=fold.fold,
        case_ids=fold.case_ids,
        labels=fold.labels,
        probabilities=np.clip(fold.probabilities + rng.normal(0, 0.004, len(fold.labels)), 0, 1),
        threshold=fold.threshold,
    )


def test_without_sizes_of_sides_the_cases_decide() -> None:
    models = run_of({"a": 1.5, "b": 1.0}, seeds=1)
    by_rank = compare_models(models, method="a", n_draws=200)
    assert by_rank.test == DELONG
    assert by_rank.pairs[0].verdict == by_rank.pairs[0].delong
    by_error = compare_models(models, method="a", metric="brier", n_draws=200)
    assert by_error.test == BOOTSTRAP
    assert by_error.pairs[0].delong is None
    assert [s for s in state_claims(by_rank).may_not if "these trained models" in s]
    assert [s for s in state_claims(by_rank).may_not if "p near 0.05" in s]
    hold_out = {name: folds[:1] for name, folds in models.items()}
    alone = state_claims(compare_models(hold_out, method="a", n_draws=200))
    assert not [s for s in alone.may_not if "p near 0.05" in s]


def test_bootstrap_of_a_pair_is_that_of_cases_drawn_together() -> None:
    models = run_of({"a": 1.5, "b": 1.2}, seeds=2, n=180)
    found = compare_models(models, method="a", n_draws=400, seed=3).pairs[0].bootstrap
    y = {c: v for f in models["a"] for c, v in zip(f.case_ids, f.labels, strict=True)}
    rng = np.random.default_rng(0)
    yes, no = ([c for c in sorted(y) if y[c] == v] for v in (1, 0))
    drawn = []
    for _ in range(400):
        picked = [*rng.choice(yes, len(yes)), *rng.choice(no, len(no))]
        gaps = []
        for one, two in zip(models["a"], models["b"], strict=True):
            at = [one.case_ids.index(c) for c in picked if c in one.case_ids]
            areas = [_area(f.labels[at], f.probabilities[at]) for f in (one, two)]
            gaps.append(areas[0] - areas[1])
        drawn.append(np.mean(gaps))
    assert found.standard_error == pytest.approx(np.std(drawn, ddof=1), rel=0.15)


def _area(y: np.ndarray, p: np.ndarray) -> float:
    wins = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
    return float(wins.mean())
