"""Do fast products or other kernels change what is learnt? Written to docs/results/precision.md.

    python benchmarks/precision.py --data ../shared/data/tcga-brca --work runs/precision

The same trainings in three ways of computing: exact products by compiled loops, bfloat16 products
by the same loops, exact products by plain torch. Simulated cohorts, a new one a seed, score new
cases of the same world; the real cohort is cross-validated. Finished trainings are not repeated.
"""

import argparse
import csv
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from missing_modalities import SIMULATED_BUDGET, WORLD
from real_cohort import init_command, markdown, run
from scipy.stats import t

import momkd
from momkd.evaluation.corrected_tests import corrected_t
from momkd.evaluation.metrics import auroc
from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.workflows.run_folder import describe_machine, read_predictions, read_run
from momkd.workflows.scored_cases import average_slides, fold_scores

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "common-budget.yaml"
ARMS = {
    "exact": ("fit.kernels=numba",),
    "fast": ("fit.kernels=numba", "fit.precision=fast"),
    "torch": ("fit.kernels=torch",),
}
TASKS = ("HER2", "PR")
N_SEEDS = 10
N_NEW = 600


def simulated_auroc(job: tuple[int, str], work: Path) -> float:
    """Train one arm on one simulated cohort and score new cases of its world, slide only."""
    seed, arm = job
    folder = work / f"seed-{seed}"
    cases = folder / f"{arm}_cases.csv"
    if not cases.exists():
        config = [folder / "momkd.yaml", RECIPE]
        changes = (*SIMULATED_BUDGET, *ARMS[arm])
        trained = momkd.train(config, folder / arm, model="momkd", set_=changes, seed=seed)
        new = folder / "new"
        momkd.predict(
            trained, [new / "features"], folder / f"{arm}.csv", cases=new / "clinical.csv"
        )
    truth = json.loads((folder / "new" / "truth.json").read_text(encoding="utf-8"))["cases"]
    with cases.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([truth[r["case_id"]]["recorded_label"] for r in rows])
    return auroc(labels, np.array([float(r["prob_positive"]) for r in rows]))


def make_cohorts(folder: Path, seed: int) -> None:
    """Simulate the cases to learn from and the new ones, unless they are there."""
    for name, n_cases, draw in (("train", WORLD["n_cases"], seed), ("new", N_NEW, 1000 + seed)):
        if not (folder / name / "truth.json").exists():
            options = WORLD | {"n_cases": n_cases, "seed": draw}
            write_cohort(simulate(SimulationOptions(**options)), folder / name)
    (folder / "momkd.yaml").write_text(
        "data:\n  features: train/features\n  clinical: train/clinical.csv\n"
        "  rna: train/rna.csv.gz\n"
        "  target: {column: biomarker, positive: positive, negative: negative}\n",
        encoding="utf-8",
    )


def simulated_rows(work: Path, n_workers: int) -> list[dict[str, Any]]:
    """Give a row an arm: its AUROC over seeds, and its difference from ``exact``."""
    for seed in range(N_SEEDS):
        make_cohorts(work / f"seed-{seed}", seed)
    jobs = list(product(range(N_SEEDS), ARMS))
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(simulated_auroc, work=work), jobs))
    areas = np.array(found).reshape(N_SEEDS, len(ARMS))
    rows = []
    for place, arm in enumerate(ARMS):
        row = {"way": arm, "AUROC": f"{areas[:, place].mean():.4f}"}
        row["SD over seeds"] = f"{areas[:, place].std(ddof=1):.4f}"
        over = areas[:, place] - areas[:, 0]
        reach = t(N_SEEDS - 1).ppf(0.975) * over.std(ddof=1) / np.sqrt(N_SEEDS)
        row["minus exact"] = "" if not place else _interval(over.mean(), reach)
        rows.append(row)
    return rows


def commands(task: str, data: str, work: Path) -> list[str]:
    """Give the commands of one task on the real cohort, as typed."""
    config = work / f"{task.lower()}.yaml"
    lines = [init_command(task, data, str(config))]
    for arm, changes in ARMS.items():
        line = f"momkd crossval -c {config} -c recipes/{RECIPE.name} --model momkd --seeds 3"
        line += f" -o {work / task.lower() / arm}"
        lines.append(line + "".join(f" --set {change}" for change in changes))
    return lines


def real_rows(folder: Path) -> list[dict[str, Any]]:
    """Give a row an arm: mean AUROC over fits, and its difference by the corrected t."""
    areas = {}
    for arm in ARMS:
        fits = fold_scores(average_slides(read_predictions(folder / arm)))
        areas[arm] = np.array([auroc(f.labels, f.probabilities) for f in fits])
    share = _test_over_train(folder / "exact")
    rows = []
    for arm, values in areas.items():
        row = {"way": arm, "AUROC": f"{values.mean():.4f}"}
        row["SD over fits"] = f"{values.std(ddof=1):.4f}"
        over = corrected_t(values - areas["exact"], share) if arm != "exact" else None
        row["minus exact"] = (
            f"{over.value:+.4f} [{over.low:+.4f}, {over.high:+.4f}]" if over else ""
        )
        rows.append(row)
    return rows


def _test_over_train(folder: Path) -> float:
    sides = read_run(folder)["folds"]
    cases = {
        side: sum(r["cases"] for r in sides if r["side"] == side) for side in ("train", "test")
    }
    return cases["test"] / cases["train"]


def _interval(mean: float, reach: float) -> str:
    return f"{mean:+.4f} [{mean - reach:+.4f}, {mean + reach:+.4f}]"


def main() -> None:
    """Run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--work", type=Path, default=Path("runs/precision"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/precision.md"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    facts = describe_machine()
    text = (Path(__file__).parent / "precision.md").read_text(encoding="utf-8")
    text += (
        f"\nmomkd {facts['momkd']}, torch {facts['torch']}, {facts['system']}, 2 cores, "
        f"{facts['date']}.\n\n## Simulated, {N_SEEDS} seeds\n\n"
    )
    text += markdown(simulated_rows(given.work / "simulated", given.workers))
    lines: list[str] = []
    for task in TASKS:
        these = commands(task, given.data, given.work)
        run(these)
        lines += these
        text += f"\n## {task} on TCGA-BRCA, 5 folds x 3 seeds\n\n"
        text += markdown(real_rows(given.work / task.lower()))
    text += "\n```\n" + "\n".join(lines) + "\n```\n\nThis page: `python benchmarks/precision.py`.\n"
    given.output.write_text(text, encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
