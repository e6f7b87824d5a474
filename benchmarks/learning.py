"""Does every model learn? Nine methods on the simulator's `easy` scenario against its ceiling.

    python benchmarks/learning.py -o docs/results/learning.md --work learning-run

Each model is trained once, under the common budget, on simulated cases, and scores new ones of the
same world, slide only. Finished trainings are not repeated.
"""

import argparse
import csv
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import momkd
from momkd.evaluation.metrics import auroc
from momkd.models.table import MODELS
from momkd.simulation import SCENARIOS, SimulationOptions, simulate, write_cohort
from momkd.workflows.run_folder import describe_machine

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "common-budget.yaml"
CONTROL = "mean_logistic"
# the scenario as it is; recorded labels for all, so that every new case counts
WORLD = {"equivocal": 0.0}
# the common budget's plateau would lower the rate before the signal is found
BUDGET = ("fit.lr=1e-3", "fit.schedule=cosine", "fit.epochs=20", "fit.patience=20")
# what a method needs beside it; why stands in learning.md
OWN: dict[str, tuple[str, ...]] = {
    "dsmil": ("fit.epochs=15",),
    "transmil": ("model.dim=64", "model.n_landmarks=32", "fit.epochs=10"),
    "wikg": ("model.dim=64", "model.dropout=0", "fit.epochs=15"),
    "tdc": ("fit.epochs=15",),
    "g_hanet": (
        *("model.dim=128", "model.dim_hidden=256", "model.dim_attention=64"),
        *("model.dim_token=64", "fit.epochs=10"),
    ),
    "mkd": (
        *("model.weights.relations=0.01", "model.weights.alignment=0.01"),
        *("model.weights.orthogonality=0.01", "model.weights.divergence=0.1"),
    ),
}
# a method that needs more cases is held against a control that had as many
CASES = {"dsmil": 4000, "transmil": 4000}
SLOW_FIRST = ("transmil", "tdc", "g_hanet")
HEAD = (
    *("model", "cases", "auroc", "above ceiling", "its SE"),
    *("over mean pooling", "SE", "settings"),
)
_DRAWS = 2_000


@dataclass(frozen=True, kw_only=True)
class Pupil:
    """A model, and how many cases it learns from."""

    name: str
    n_cases: int

    @property
    def label(self) -> str:
        """What rows, folders and tables of its trainings are called."""
        return f"{self.name}-{self.n_cases}"


def pupils(n_train: int) -> list[Pupil]:
    """Give every model with the cases it learns from, and the control with each of these numbers.

    Those that take longest come first.
    """
    names = [*SLOW_FIRST, *(name for name in MODELS if name not in SLOW_FIRST)]
    found = [Pupil(name=name, n_cases=CASES.get(name, n_train)) for name in names]
    extra = sorted({p.n_cases for p in found} - {n_train})
    return [*found, *(Pupil(name=CONTROL, n_cases=n) for n in extra)]


def make_cohorts(work: Path, sizes: Sequence[int], n_new: int) -> None:
    """Simulate the cases to learn from and the new ones, unless they are there."""
    cohorts = [("new", n_new, 1), *((f"train-{n}", n, 0) for n in sizes)]
    for name, n_cases, seed in cohorts:
        if not (work / name / "truth.json").exists():
            options = SCENARIOS["easy"] | WORLD | {"n_cases": n_cases, "seed": seed}
            write_cohort(simulate(SimulationOptions(**options)), work / name)
    for n in sizes:
        cohort, config = work / f"train-{n}", work / f"momkd-{n}.yaml"
        if not config.exists():
            momkd.init(
                features=[cohort / "features"],
                clinical=cohort / "clinical.csv",
                rna=cohort / "rna.csv.gz",
                target="biomarker",
                output=config,
            )


def settings_of(name: str) -> list[str]:
    """Give the settings a model is trained with, beside the common budget's file."""
    return [f"model.name={name}", *BUDGET, *OWN.get(name, ())]


def train_and_score(pupil: Pupil, work: Path) -> dict[str, float]:
    """Train one model and give its probability of each new case."""
    table = work / f"{pupil.label}.csv"
    cases = work / f"{pupil.label}_cases.csv"
    if not cases.exists():
        configs = [work / f"momkd-{pupil.n_cases}.yaml", RECIPE]
        folder = momkd.train(configs, work / pupil.label, set_=settings_of(pupil.name))
        new = work / "new"
        momkd.predict(folder, [new / "features"], table, cases=new / "clinical.csv")
    with cases.open(encoding="utf-8", newline="") as file:
        return {row["case_id"]: float(row["prob_positive"]) for row in csv.DictReader(file)}


def compare(work: Path, scores: dict[Pupil, dict[str, float]]) -> list[dict[str, Any]]:
    """Set every model's AUROC on the new cases beside the ceiling and the control.

    Standard errors of differences are those of a bootstrap over cases, the same cases for both.
    """
    truth = json.loads((work / "new" / "truth.json").read_text(encoding="utf-8"))
    best: dict[str, list[float]] = {}
    for slide in truth["slides"].values():
        best.setdefault(slide["case_id"], []).append(slide["bayes_probability"])
    cases = sorted(best)
    labels = np.array([truth["cases"][c]["recorded_label"] for c in cases])
    columns = {pupil.label: np.array([p[c] for c in cases]) for pupil, p in scores.items()}
    columns["ceiling"] = np.array([np.mean(best[c]) for c in cases])
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(cases), size=len(cases)) for _ in range(_DRAWS)]
    draws = [d for d in draws if 0 < labels[d].sum() < len(d)]
    drawn = {name: np.array([auroc(labels[d], p[d]) for d in draws]) for name, p in columns.items()}
    value = {name: auroc(labels, p) for name, p in columns.items()}
    rows: list[dict[str, Any]] = [{"model": "ceiling", "auroc": value["ceiling"]}]
    for pupil in scores:
        own, control = pupil.label, Pupil(name=CONTROL, n_cases=pupil.n_cases).label
        row = {"model": pupil.name, "cases": pupil.n_cases, "auroc": value[own]}
        row |= {"above ceiling": value[own] - value["ceiling"]}
        row |= {"its SE": float((drawn[own] - drawn["ceiling"]).std())}
        if own != control:
            row |= {"over mean pooling": value[own] - value[control]}
            row |= {"SE": float((drawn[own] - drawn[control]).std())}
        rows.append(row | {"settings": " ".join(OWN.get(pupil.name, ()))})
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Set rows as a Markdown table."""
    lines = [list(HEAD), ["---"] * len(HEAD)]
    for row in rows:
        cells = [row.get(key, "") for key in HEAD]
        lines.append([f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measure(work: Path, n_train: int, n_new: int, n_workers: int) -> list[dict[str, Any]]:
    """Train every model of the table and compare."""
    wanted = pupils(n_train)
    make_cohorts(work, sorted({p.n_cases for p in wanted}), n_new)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        found = pool.map(partial(train_and_score, work=work), wanted)
        scores = dict(zip(wanted, found, strict=True))
    return compare(work, scores)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("learning-run"))
    parser.add_argument("--train-cases", type=int, default=1000)
    parser.add_argument("--new-cases", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/learning.md"))
    given = parser.parse_args()
    rows = measure(given.work, given.train_cases, given.new_cases, given.workers)
    facts = describe_machine()
    text = (Path(__file__).parent / "learning.md").read_text(encoding="utf-8")
    text += (
        f"\n{given.new_cases} new cases. momkd {facts['momkd']}, torch {facts['torch']}, "
        f"{facts['system']}, {os.cpu_count()} cores, "
        f"{facts['date']}.\n\n"
    )
    text += markdown(rows) + "\n```\npython benchmarks/learning.py\n```\n"
    given.output.write_text(text, encoding="utf-8")
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
