"""What trainings gave outlives their folder: the record behind docs/results/headroom.md."""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.finished_training import leave_tables

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import headroom  # noqa: E402
from gate_runs import Job, Plan, make_cohorts  # noqa: E402
from gate_verdicts import Outcome  # noqa: E402
from headroom_record import Line, Record, missing  # noqa: E402

PLAN = Plan(
    n_train=4,
    n_new=60,
    world={"grid_side": 4, "dim": 24, "n_genes": 20},
    arms={"abmil": ("model.name=abmil",), "plus": ("model.preset=plus",)},
)
KEPT = headroom.HERE / "results" / "headroom.jsonl"


def truths(value: float) -> dict[str, float]:
    names = ("attention auprc", "attention auroc", "by chance", "share")
    return dict.fromkeys(names, value)


def line(arm: str, seed: int, auroc: float, looked: float = 0.5) -> Line:
    outcome = Outcome(auroc=auroc, best_auroc=0.8, n_positive=20, n_negative=40)
    return Line("default", arm, (seed,), outcome, truths(looked))


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    together = Line("default", "plus", (4, 5), None, truths(0.25))
    Record(PLAN, [line("plus", 1, 0.7), line("abmil", 0, 0.6), together]).save(path)
    again = Record.load(path, PLAN)
    assert again.outcomes() == {
        "default": {
            "abmil": {0: Outcome(0.6, 0.8, 20, 40)},
            "plus": {1: Outcome(0.7, 0.8, 20, 40)},
        }
    }
    before = path.read_text()
    again.save(path)
    assert path.read_text() == before
    assert missing(again.outcomes(), [Job("default", 1, "plus"), Job("null", 1, "plus")]) == [
        Job("null", 1, "plus")
    ]


def test_a_record_of_other_settings_is_refused_and_more_arms_are_not(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    Record(PLAN, [line("plus", 1, 0.7)]).save(path)
    Record.load(path, replace(PLAN, arms=PLAN.arms | {"dsmil": ("model.name=dsmil",)}))
    # an arm of which nothing was recorded may change
    Record.load(path, replace(PLAN, arms=PLAN.arms | {"abmil": ("model.name=abmil", "x=1")}))
    for other in (
        replace(PLAN, arms=PLAN.arms | {"plus": ("model.preset=paper",)}),
        replace(PLAN, n_train=5),
    ):
        with pytest.raises(SystemExit, match="plus: recorded with other settings"):
            Record.load(path, other)


def test_no_seed_counts_twice_in_a_mean() -> None:
    together = Line("default", "plus", (0, 1, 2), None, truths(0.2))
    record = Record(PLAN, [line("plus", 1, 0.7, looked=0.9), line("plus", 3, 0.7, 0.6), together])
    found = record.truths("default")
    assert found["plus"]["attention auprc"] == pytest.approx((3 * 0.2 + 0.6) / 4)
    assert record.truths("null") == {}


def test_finished_trainings_are_added_and_a_figure_that_moved_is_told(tmp_path: Path) -> None:
    make_cohorts("default", 0, tmp_path, PLAN)
    cases = pd.read_csv(tmp_path / "default" / "seed-0" / "new" / "clinical.csv")["case_id"]
    job, record = Job("default", 0, "plus"), Record(PLAN)
    leave_tables(job, tmp_path, {case: i / len(cases) for i, case in enumerate(cases)})
    assert record.add([job], tmp_path) == []
    first = record.outcomes()["default"]["plus"][0]
    assert first.n_positive + first.n_negative == PLAN.n_new
    assert record.truths("default")["plus"]["slide vector first, high by chance"] == 0.2
    assert record.add([job], tmp_path) == []
    leave_tables(job, tmp_path, {case: -i / len(cases) for i, case in enumerate(cases)})
    (said,) = record.add([job], tmp_path)
    what = f"{first.auroc:.4f} recorded, which stands; {1 - first.auroc:.4f} here"
    assert said == f"default seed 0 plus: {what}"
    assert record.outcomes()["default"]["plus"][0] == first


def test_the_page_stands_on_the_record_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    plan = Plan(n_train=1000, n_worlds=2, world={}, budget=headroom.BUDGET, arms=headroom.ARMS)
    record = Record.load(KEPT, plan)
    wanted = [Job("default", seed, arm) for seed in range(5) for arm in ("plus", "abmil")]
    assert headroom.write_page(page, record, [*wanted, Job("default", 99, "plus")], plan) == 1
    text = page.read_text()
    assert "Not run: 1 of 11" in text
    assert "| plus | 10 |" in text
    assert page.with_suffix(".svg").exists()
