"""Measure how often tests of equally good methods err, and how often intervals cover.

    python benchmarks/type_one_error.py [--studies 300] [--coverage-studies 500] [--fresh]

Writes docs/results/type-one-error.md. What was measured is kept in
benchmarks/results/type_one_error.json and not measured again, unless --fresh is given.

A null study has nine methods that differ by nothing but chance. Each sees its own features of the
same patients (a part common to all methods, a part of its own), all with the same law, learns the
direction between the class means on the training side of every fold, and scores the test side. So
scores of a fold share its training side, training sides overlap between folds as they do in life,
and no method is better than another by construction. Given its direction, the true AUROC of a
trained model is known exactly.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm, rankdata, ttest_rel, wilcoxon

from momkd.evaluation.comparison import compare_models
from momkd.evaluation.corrected_tests import corrected_t, holm
from momkd.evaluation.delong import auroc_influence, delong_difference, influence_over_folds
from momkd.evaluation.summary import FoldScores, draw_folds, mean_over_folds, percentile_interval

N_CASES, N_POSITIVE, N_METHODS = 800, 224, 9
N_FOLDS, VAL_SHARE = 5, 0.1
TEST_OVER_TRAIN = 0.2 / 0.7

KEPT = Path(__file__).parent / "results" / "type_one_error.json"

# part -> world -> what was counted -> share
Measured = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True, kw_only=True)
class World:
    """How hard the task is, how much training moves a model, how alike the methods are."""

    name: str
    n_features: int = 20
    shift: float = 1.0
    common: float = 0.5


WORLDS = (
    World(name="few features: training moves a model little", n_features=5),
    World(name="many features: training moves a model much", n_features=60),
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Nine methods cross-validated on one cohort, and the true AUROC of every trained model."""

    folds: list[list[FoldScores]]
    true_auroc: np.ndarray  # (methods, folds)

    def auroc(self) -> np.ndarray:
        """Give the AUROC of every method in every fold."""
        return np.array(
            [[auroc_influence(f.labels, f.probabilities)[0] for f in m] for m in self.folds]
        )


def make_study(world: World, seed: int, *, n_methods: int = N_METHODS, repeats: int = 10) -> Study:
    """Draw a cohort, train every method on every fold, score its test side."""
    rng = np.random.default_rng([world.n_features, seed])
    labels = (np.arange(N_CASES) < N_POSITIVE).astype(np.int64)
    shape = (N_CASES, world.n_features)
    own = rng.normal(size=(n_methods, *shape)) * np.sqrt(1 - world.common)
    features = rng.normal(size=shape) * np.sqrt(world.common) + own
    features[..., 0] += world.shift * labels
    ids = np.array([f"case-{i:03d}" for i in range(N_CASES)])
    folds: list[list[FoldScores]] = [[] for _ in range(n_methods)]
    truth = []
    for repeat in range(repeats):
        for fold, (train, test) in enumerate(_splits(labels, rng)):
            yes, no = (features[:, train & (labels == y)].mean(axis=1) for y in (1, 0))
            direction = yes - no  # (methods, features)
            scores = np.einsum("mcf,mf->mc", features[:, test], direction)
            truth.append(
                norm.cdf(
                    world.shift * direction[:, 0] / np.linalg.norm(direction, axis=1) / np.sqrt(2)
                )
            )
            case_ids = tuple(ids[test].tolist())
            for method in range(n_methods):
                folds[method].append(
                    FoldScores(
                        seed=repeat,
                        fold=fold,
                        case_ids=case_ids,
                        labels=labels[test],
                        probabilities=scores[method],
                        threshold=0.0,
                    )
                )
    return Study(folds=folds, true_auroc=np.array(truth).T)


def _splits(
    labels: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give training and test sides 7:1:2, stratified; validation cases are in neither."""
    place = np.empty(len(labels), dtype=np.int64)
    for y in (0, 1):
        members = rng.permutation(np.flatnonzero(labels == y))
        place[members] = np.arange(len(members)) % N_FOLDS
    for fold in range(N_FOLDS):
        test = place == fold
        train = ~test
        for y in (0, 1):
            members = rng.permutation(np.flatnonzero(train & (labels == y)))
            train[members[: round(VAL_SHARE * (labels == y).sum())]] = False
        yield train, test


# --- errors of tests


def p_values(study: Study) -> dict[str, float]:
    """Give p of the first method against the second by every test, and the least of families."""
    auroc = study.auroc()
    apart = auroc[0] - auroc[1]
    first = N_FOLDS  # folds of the first repeat
    models = {f"method {i}": folds for i, folds in enumerate(study.folds)}
    compared = compare_models(models, method="method 0", test_over_train=TEST_OVER_TRAIN, n_draws=0)
    best = int(auroc.mean(axis=1).argmax())
    others = [auroc[best] - a for i, a in enumerate(auroc) if i != best]
    return {
        "paired t, 10x5 folds, naive": ttest_rel(auroc[0], auroc[1]).pvalue,
        "paired t, 5 folds, naive": ttest_rel(auroc[0, :first], auroc[1, :first]).pvalue,
        "Wilcoxon, 5 folds": wilcoxon(apart[:first]).pvalue,
        "DeLong, 5 folds, case by case": _delong(study, first),
        "DeLong, ranks within fold, pooled": _delong_of_ranks(study, first),
        "DeLong, 10x5 folds, case by case": _delong(study, len(apart)),
        "Nadeau-Bengio, 5 folds": corrected_t(apart[:first], TEST_OVER_TRAIN).p,
        "**Nadeau-Bengio, 10x5 folds**": compared.pairs[0].verdict.p,
        "pre-named method differs from any of 8: naive t": min(
            ttest_rel(auroc[0], a).pvalue for a in auroc[1:]
        ),
        "**the same, Nadeau-Bengio + Holm (`momkd compare`)**": min(
            pair.p_holm for pair in compared.pairs
        ),
        "winner beats any of 8: naive t": min(ttest_rel(d, 0 * d).pvalue for d in others),
        "the same, Nadeau-Bengio + Holm": min(
            holm([corrected_t(d, TEST_OVER_TRAIN).p for d in others])
        ),
    }


def _delong(study: Study, n: int) -> float:
    one, two = (influence_over_folds(folds[:n]) for folds in study.folds[:2])
    return delong_difference(one, two).p


def _delong_of_ranks(study: Study, n: int) -> float:
    pooled = []
    for folds in study.folds[:2]:
        ranks = [rankdata(f.probabilities) / len(f.labels) for f in folds[:n]]
        pooled.append(
            FoldScores(
                seed=0,
                fold=0,
                case_ids=tuple(c for f in folds[:n] for c in f.case_ids),
                labels=np.concatenate([f.labels for f in folds[:n]]),
                probabilities=np.concatenate(ranks),
                threshold=0.5,
            )
        )
    return delong_difference(*(influence_over_folds([p]) for p in pooled)).p


def error_rates(world: World, n_studies: int) -> dict[str, float]:
    """Give the share of null studies in which each test says p < 0.05."""
    found = [p_values(make_study(world, seed)) for seed in range(n_studies)]
    return {name: float(np.mean([p[name] < 0.05 for p in found])) for name in found[0]}


# --- coverage of intervals


def covered(world: World, seed: int, expected: float) -> dict[str, bool]:
    """Say of every interval whether it holds what it is an interval of."""
    study = make_study(world, seed, n_methods=2)
    auroc = study.auroc()
    as_trained = study.true_auroc.mean(axis=1)
    apart = corrected_t(auroc[0] - auroc[1], TEST_OVER_TRAIN)
    one = corrected_t(auroc[0], TEST_OVER_TRAIN)
    first = [folds[:N_FOLDS] for folds in study.folds]
    drawn = [mean_over_folds(draw_folds(f, n_draws=1000, seed=seed)["auroc"]) for f in first]
    true_first = study.true_auroc[:, :N_FOLDS].mean(axis=1)
    level, difference = (percentile_interval(d) for d in (drawn[0], drawn[0] - drawn[1]))
    delong = delong_difference(*(influence_over_folds(f) for f in study.folds))
    gap, gap_first = as_trained[0] - as_trained[1], true_first[0] - true_first[1]
    return {
        "Nadeau-Bengio, 10x5: difference of the methods": apart.low <= 0 <= apart.high,
        "Nadeau-Bengio, 10x5: AUROC of the method": one.low <= expected <= one.high,
        "bootstrap, 5 folds: AUROC of the models as trained": (
            level.low <= true_first[0] <= level.high
        ),
        "bootstrap, 5 folds: their difference": difference.low <= gap_first <= difference.high,
        "bootstrap, 5 folds: difference of the methods": difference.low <= 0 <= difference.high,
        "DeLong, 10x5: difference of the models as trained": delong.low <= gap <= delong.high,
        "DeLong, 10x5: difference of the methods": delong.low <= 0 <= delong.high,
    }


def expected_auroc(world: World, n_studies: int) -> float:
    """Give what a method reaches on average over cohorts: far more models than a study trains."""
    far = range(100_000, 100_000 + n_studies)
    return float(np.mean([make_study(world, s, repeats=1).true_auroc for s in far]))


def coverage(world: World, n_studies: int) -> dict[str, float]:
    """Give the share of studies in which each 95 % interval covers."""
    expected = expected_auroc(world, n_studies)
    found = [covered(world, seed, expected) for seed in range(n_studies)]
    return {name: float(np.mean([c[name] for c in found])) for name in found[0]}


def covered_by_hold_out(world: World, seed: int) -> dict[str, bool]:
    """Say the same of one test side whose cases have trained nothing: no cross-validation."""
    study = make_study(world, seed, n_methods=2, repeats=1)
    sides = [folds[:1] for folds in study.folds]
    one, other = (mean_over_folds(draw_folds(f, n_draws=1000, seed=seed)["auroc"]) for f in sides)
    level, difference = percentile_interval(one), percentile_interval(one - other)
    delong = delong_difference(*(influence_over_folds(f) for f in sides))
    true, true_other = study.true_auroc[:, 0]
    return {
        "bootstrap, one hold-out: AUROC of the model as trained": level.low <= true <= level.high,
        "bootstrap, one hold-out: difference of the models as trained": (
            difference.low <= true - true_other <= difference.high
        ),
        "DeLong, one hold-out: difference of the models as trained": (
            delong.low <= true - true_other <= delong.high
        ),
    }


def hold_out_coverage(world: World, n_studies: int) -> dict[str, float]:
    """Give the share of studies in which each interval from a hold-out covers."""
    found = [covered_by_hold_out(world, seed) for seed in range(n_studies)]
    return {name: float(np.mean([c[name] for c in found])) for name in found[0]}


# --- the page


def page(measured: Measured, given: argparse.Namespace) -> str:
    """Write the page of measured rates."""
    n, n_cover = given.studies, given.coverage_studies
    covers = {w.name: measured["coverage"][w.name] | measured["hold-out"][w.name] for w in WORLDS}
    head = (
        "# How often the tests err\n\n"
        "Written by `python benchmarks/type_one_error.py"
        f" --studies {n} --coverage-studies {n_cover}` on {time.strftime('%Y-%m-%d')}; "
        f"{platform.system()} {platform.machine()}, one core, Python {platform.python_version()}, "
        f"numpy {np.__version__}. The shares are kept in "
        "benchmarks/results/type_one_error.json.\n\n"
        f"Null studies: {N_CASES} cases, {N_POSITIVE / N_CASES:.0%} positive, nine methods that "
        "differ by nothing but chance, 10 repeats of 5 folds (7:1:2). Each method learns the "
        "direction between the class means of its own features, half of whose variance all "
        "methods share. A test at 5 % should be significant in 5 % of the studies; "
        f"{n} studies measure 5 % to within {1.96 * np.sqrt(0.05 * 0.95 / n):.1%}.\n\n"
        "## Share of null studies called significant (p < 0.05)\n\n"
    )
    worlds = {w.name: f"{w.name} ({w.n_features} features)" for w in WORLDS}
    coverage_head = (
        f"\n## Share of {n_cover} studies in which a 95 % interval covers\n\n"
        '"The method" is what it reaches on average over cohorts of this size; "the models as '
        'trained" what these fold models would reach on endless new cases. '
        f"{n_cover} studies measure 95 % to within "
        f"{1.96 * np.sqrt(0.05 * 0.95 / n_cover):.1%}.\n\n"
    )
    below = (
        "\nIntervals over cases (bootstrap, DeLong) of a **difference** cover less than they say "
        "when scores are cross-validated: a case that one fold tests has trained the others, which "
        "no resampling of cases sees. On a hold-out, where no tested case has trained anything, "
        "the same intervals cover as they should. `momkd compare` takes its verdict from "
        "Nadeau-Bengio wherever folds are shared and the sizes of their sides known.\n"
    )
    errors = _table(measured["errors"], worlds)
    return head + errors + coverage_head + _table(covers, worlds) + below


def _table(columns: dict[str, dict[str, float]], titles: dict[str, str]) -> str:
    names = list(next(iter(columns.values())))
    lines = [["", *(titles[c] for c in columns)], ["---"] * (1 + len(columns))]
    lines += [[name, *(f"{column[name]:.3f}" for column in columns.values())] for name in names]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measure(given: argparse.Namespace) -> Measured:
    """Measure every part in every world, keeping each as soon as it is there."""
    parts = {
        "errors": (error_rates, given.studies),
        "coverage": (coverage, given.coverage_studies),
        "hold-out": (hold_out_coverage, given.coverage_studies),
    }
    kept = {} if given.fresh or not KEPT.exists() else json.loads(KEPT.read_text(encoding="utf-8"))
    measured: Measured = {part: {} for part in parts}
    for world in WORLDS:
        for part, (count, n) in parts.items():
            key = f"{part}, {n} studies, {world.n_features} features"
            if key not in kept:
                kept[key] = count(world, n)
                KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
                print(key, kept[key], flush=True)
            measured[part][world.name] = kept[key]
    return measured


def main() -> None:
    """Simulate, count and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--coverage-studies", type=int, default=500)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/type-one-error.md"))
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept")
    given = parser.parse_args()
    measured = measure(given)
    given.output.write_text(page(measured, given), encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
