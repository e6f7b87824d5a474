"""Does every model learn? Nine methods on the simulator's `easy` scenario against its ceiling.

    python benchmarks/learning.py -o docs/results/learning.md --work learning-run

Each model is trained once, under the common budget, on simulated cases, and scores new ones of the
same world, slide only. Finished trainings are not repeated.
"""

import argparse
import csv
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
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
# 86 tiles a slide, because TransMIL's pseudo-inverse on 154 takes hours on two cores; 24 numbers a
# tile instead of 64: the signal is the same, and fewer cases drown the rest
WORLD = {"grid_side": 12, "dim": 24, "equivocal": 0.0}
# the common budget's plateau would lower the rate before the signal is found
BUDGET = ("fit.lr=3e-4", "fit.schedule=cosine", "fit.epochs=8", "fit.patience=8")
SLOW_FIRST = ("transmil", "tdc", "g_hanet")
_DRAWS = 2_000


def make_cohorts(work: Path, n_train: int, n_new: int) -> None:
    """Simulate the cases to learn from and the new ones, unless they are there."""
    for name, n_cases, seed in (("train", n_train, 0), ("new", n_new, 1)):
        if not (work / name / "truth.json").exists():
            options = SCENARIOS["easy"] | WORLD | {"n_cases": n_cases, "seed": seed}
            write_cohort(simulate(SimulationOptions(**options)), work / name)
    config = work / "momkd.yaml"
    if not config.exists():
        cohort = work / "train"
        momkd.init(
            features=[cohort / "features"],
            clinical=cohort / "clinical.csv",
            rna=cohort / "rna.csv.gz",
            target="biomarker",
            output=config,
        )


def train_and_score(name: str, work: Path, set_: Sequence[str]) -> dict[str, float]:
    """Train one model and give its probability of each new case."""
    table = work / f"{name}.csv"
    cases = work / f"{name}_cases.csv"
    if not cases.exists():
        folder = momkd.train([work / "momkd.yaml", RECIPE], work / name, model=name, set_=set_)
        new = work / "new"
        momkd.predict(folder, [new / "features"], table, cases=new / "clinical.csv")
    with cases.open(encoding="utf-8", newline="") as file:
        return {row["case_id"]: float(row["prob_positive"]) for row in csv.DictReader(file)}


def compare(work: Path, scores: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Set every model's AUROC on the new cases beside the ceiling and the control.

    Standard errors of differences are those of a bootstrap over cases, the same cases for both.
    """
    truth = json.loads((work / "new" / "truth.json").read_text(encoding="utf-8"))
    best: dict[str, list[float]] = {}
    for slide in truth["slides"].values():
        best.setdefault(slide["case_id"], []).append(slide["bayes_probability"])
    cases = sorted(best)
    labels = np.array([truth["cases"][c]["recorded_label"] for c in cases])
    columns = {"ceiling": np.array([np.mean(best[c]) for c in cases])}
    columns |= {name: np.array([p[c] for c in cases]) for name, p in scores.items()}
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(cases), size=len(cases)) for _ in range(_DRAWS)]
    draws = [d for d in draws if 0 < labels[d].sum() < len(d)]
    drawn = {name: np.array([auroc(labels[d], p[d]) for d in draws]) for name, p in columns.items()}
    rows = []
    for name, p in columns.items():
        above = drawn[name] - drawn["ceiling"]
        over = drawn[name] - drawn[CONTROL]
        value = auroc(labels, p)
        rows.append(
            {
                "model": name,
                "auroc": value,
                "above ceiling": value - auroc(labels, columns["ceiling"]),
                "its SE": float(above.std()),
                "over mean pooling": value - auroc(labels, columns[CONTROL]),
                "SE": float(over.std()),
            }
        )
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Set rows as a Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head)]
    lines += [[r["model"], *(f"{r[k]:.3f}" for k in head[1:])] for r in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measure(
    work: Path, n_train: int, n_new: int, n_workers: int, set_: Sequence[str] = BUDGET
) -> list[dict[str, Any]]:
    """Train every model of the table and compare."""
    make_cohorts(work, n_train, n_new)
    context = multiprocessing.get_context("spawn")
    names = [*SLOW_FIRST, *(name for name in MODELS if name not in SLOW_FIRST)]
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        found = pool.map(partial(train_and_score, work=work, set_=set_), names)
        scores = dict(zip(names, found, strict=True))
    return compare(work, scores)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("learning-run"))
    parser.add_argument("--train-cases", type=int, default=2000)
    parser.add_argument("--new-cases", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/learning.md"))
    given = parser.parse_args()
    rows = measure(given.work, given.train_cases, given.new_cases, given.workers)
    facts = describe_machine()
    text = (Path(__file__).parent / "learning.md").read_text(encoding="utf-8")
    text += (
        f"\n{given.train_cases} cases to learn from, {given.new_cases} new ones. momkd "
        f"{facts['momkd']}, torch {facts['torch']}, {facts['system']}, 2 cores, "
        f"{facts['date']}.\n\n"
    )
    text += markdown(rows) + "\n```\npython benchmarks/learning.py\n```\n"
    given.output.write_text(text, encoding="utf-8")
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
