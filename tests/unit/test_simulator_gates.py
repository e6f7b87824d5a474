"""The hard gates of the simulator: they stand for honest models, and fall for what they catch."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from momkd.models.table import MODELS
from momkd.simulation import SimulationOptions, simulate, slide_probabilities
from tests.unit.finished_training import leave_tables

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import simulator_gates  # noqa: E402
from gate_runs import Job, Plan, all_jobs, claim, make_cohorts, read_scored, run_all  # noqa: E402
from gate_verdicts import (  # noqa: E402
    Outcome,
    Scored,
    at_chance,
    below_ceiling,
    judge,
    no_gain,
)

N_SEEDS = 6


def draw(quality: float, seed: int, n: int = 400) -> Scored:
    """Give cases whose posterior is known, and a score that is it with noise, or better."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-1, 1.2, n))
    labels = (rng.random(n) < p).astype(np.int64)
    # above 1, the score has seen the label
    noise = max(1 - quality, 0) * rng.random(n)
    score = min(quality, 1) * p + max(quality - 1, 0) * labels + noise
    return Scored(labels=labels, score=score, ceiling=p)


def drawn(quality: float, first: int = 0, n_seeds: int = N_SEEDS) -> list[Scored]:
    return [draw(quality, first + seed) for seed in range(n_seeds)]


def outcomes(seeds: Sequence[Scored]) -> list[Outcome]:
    return [one.outcome() for one in seeds]


@pytest.mark.parametrize("quality", [0.0, 0.4, 1.0])
def test_what_is_no_better_than_the_posterior_passes_the_ceiling(quality: float) -> None:
    verdict = below_ceiling("m", drawn(quality))
    assert verdict.passed
    assert verdict.n_seeds == N_SEEDS
    if quality == 1.0:
        assert verdict.value == verdict.error == 0


def test_a_score_that_has_seen_the_label_breaks_the_ceiling() -> None:
    verdict = below_ceiling("m", drawn(1.1))
    assert not verdict.passed
    assert verdict.value > 3 * verdict.error


def test_the_ceiling_s_error_is_delong_s_over_seeds() -> None:
    one = [below_ceiling("m", [draw(0.4, seed)]) for seed in range(4)]
    together = below_ceiling("m", drawn(0.4, n_seeds=4))
    assert together.value == pytest.approx(np.mean([v.value for v in one]))
    assert together.error == pytest.approx(np.sqrt(np.sum([v.error**2 for v in one])) / 4)


def test_a_score_without_information_passes_the_null_and_another_does_not() -> None:
    assert at_chance("m", outcomes(drawn(0.0))).passed
    better = at_chance("m", outcomes(drawn(0.5)))
    assert better.value > 0
    assert not better.passed
    worse = [Scored(labels=s.labels, score=-s.score, ceiling=s.ceiling) for s in drawn(0.5)]
    assert not at_chance("m", outcomes(worse)).passed


def test_the_null_s_error_is_that_of_the_rank_sum() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(60) < 20).astype(np.int64)
    found = outcomes(
        [Scored(labels=labels, score=rng.random(60), ceiling=rng.random(60)) for _ in range(2000)]
    )
    areas = [at_chance("m", [one]).value for one in found]
    assert at_chance("m", found[:1]).error == pytest.approx(np.std(areas), rel=0.06)


def test_rna_of_others_that_helps_is_caught() -> None:
    alone = drawn(0.3)
    assert no_gain("m", alone, alone).passed
    assert no_gain("m", drawn(0.0), alone).passed
    gain = no_gain("m", drawn(0.9), alone)
    assert not gain.passed
    # one pair cannot tell what training adds
    assert no_gain("m", drawn(0.9)[:1], alone[:1]).passed


def test_honest_models_rarely_fail() -> None:
    falls = [
        verdict.passed
        for start in range(0, 1000, 10)
        for verdict in (
            below_ceiling("m", drawn(1.0, start, 3)),
            at_chance("m", outcomes(drawn(0.0, start, 3))),
            no_gain("m", drawn(0.4, start, 3), drawn(0.4, start + 5000, 3)),
        )
    ]
    assert np.mean(falls) > 0.98


def test_the_exact_posterior_stands_at_its_own_ceiling_and_the_true_label_above() -> None:
    cohort = simulate(
        SimulationOptions(n_cases=200, n_genes=20, dim=24, grid_side=8, eta=0.0, two_slides=0.0)
    )
    p, labels = slide_probabilities(cohort), cohort.labels.astype(np.int64)
    rng = np.random.default_rng(0)
    noisy = Scored(labels=labels, score=p + 0.1 * rng.random(len(p)), ceiling=p)
    known = Scored(labels=labels, score=cohort.programmes @ cohort.options.a, ceiling=p)
    assert below_ceiling("m", [noisy]).passed
    assert not below_ceiling("m", [known]).passed


def test_controls_belong_to_models_that_learn_from_rna() -> None:
    jobs = all_jobs(list(MODELS), ["default", "null"], 2)
    names = {job.model for job in jobs if job.scenario == "default"}
    assert names == {*MODELS} | {
        f"{m}{c}" for m in ("momkd", "tdc", "mkd", "g_hanet") for c in ("+no_rna", "+shuffled")
    }
    assert {job.model for job in jobs if job.scenario == "null"} == {*MODELS}
    assert jobs[0].model == "transmil"
    assert len(jobs) == len(set(jobs)) == 2 * (18 + 10)


def test_each_scenario_has_its_gates() -> None:
    found = {m: dict(enumerate(drawn(0.3))) for m in ("momkd", "momkd+no_rna", "momkd+shuffled")}
    gates = [(v.gate, v.model) for v in judge("default", found)]
    assert gates == [*(("ceiling", m) for m in found), ("shuffled", "momkd+shuffled")]
    assert [v.gate for v in judge("null", {"momkd": found["momkd"]})] == ["null"]


def test_a_folder_holds_results_of_one_plan(tmp_path: Path) -> None:
    claim(tmp_path, Plan())
    claim(tmp_path, Plan())
    with pytest.raises(SystemExit, match="another plan"):
        claim(tmp_path, Plan(n_train=10))


JOBS = all_jobs(["abmil", "dsmil"], ["default", "null"], 2)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohorts of a work folder, before anything was trained."""
    work = tmp_path_factory.mktemp("gates")
    plan = Plan(n_train=4, n_new=50, world={"grid_side": 4, "dim": 24, "n_genes": 20})
    for scenario, seed in sorted({(job.scenario, job.seed) for job in JOBS}):
        make_cohorts(scenario, seed, work, plan)
    return work


def finish(work: Path, jobs: list[Job], leak: bool) -> None:
    """Leave tables as trainings do, of models that score by the posterior or by the label."""
    for job in jobs:
        truth = json.loads((job.folder(work) / "new" / "truth.json").read_text())
        score = {
            slide["case_id"]: truth["cases"][slide["case_id"]]["recorded_label"]
            if leak
            else slide["bayes_probability"]
            for slide in truth["slides"].values()
        }
        leave_tables(job, work, score)


@pytest.mark.parametrize("leak", [False, True])
def test_the_page_says_what_failed_and_what_was_not_run(
    cohorts: Path, tmp_path: Path, leak: bool
) -> None:
    finish(cohorts, JOBS[:-1], leak)
    page = tmp_path / "page.md"
    verdicts, missing = simulator_gates.write_page(page, JOBS, cohorts, Plan())
    text = page.read_text()
    assert missing == JOBS[-1:]
    assert "Not run: 1 of 8" in text
    assert len(verdicts) == 4
    assert [v.passed for v in verdicts] == [not leak] * 4
    assert ("**failed**" in text) == leak
    assert "| abmil | 0.300 | 0.200 | 0.100 | 0.600 | 0.50 (0.20), 0.10 (0.20) |" in text
    assert "Exact posterior: AUROC 0.500. " in text.partition("`null`")[2]


# a signal that few cases show: half of the tumour is niche, and plain
_EASY = {"rho": 0.5, "nu": 3.0, "kappa": 2.0, "grid_side": 6, "dim": 24, "n_genes": 100}


@pytest.mark.slow
def test_models_pass_the_gates_on_small_cohorts(tmp_path: Path) -> None:
    changes = ("fit.epochs=12", "fit.batch_size=4", "panel.n_genes=60")
    plan = Plan(n_train=240, n_new=400, world=_EASY, budget=(*simulator_gates.BUDGET, *changes))
    jobs = all_jobs(["momkd", "abmil"], ["default", "null"], 2)
    claim(tmp_path, plan)
    run_all(jobs, tmp_path, plan, 1)
    verdicts, missing = simulator_gates.write_page(tmp_path / "page.md", jobs, tmp_path, plan)
    assert not missing
    assert len(verdicts) == 4 + 1 + 2
    assert [v for v in verdicts if not v.passed] == []
    found = read_scored(jobs, tmp_path)["default"]
    # the gates have something to stand against: each of them learnt
    for model in ("momkd", "abmil"):
        assert not at_chance(model, outcomes(list(found[model].values()))).passed
    # what is done is not done again
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*_done.csv")}
    run_all(jobs, tmp_path, plan, 1)
    assert {p: p.stat().st_mtime_ns for p in before} == before
