"""What do unpaired patients add or cost? Written to docs/results/missing-modalities.md.

    python benchmarks/missing_modalities.py --data ../shared/data/tcga-brca --runs runs/missing

Runs what a user would type; finished trainings are not repeated. With `--table-only` the page is
written from the runs as they are.
"""

import argparse
import json
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from real_cohort import init_command, markdown, run

from momkd.evaluation.summary import FoldScores, draw_case_weights, weighted_metrics
from momkd.simulation import SCENARIOS, SimulationOptions, simulate, write_cohort
from momkd.workflows.run_folder import read_predictions, read_run
from momkd.workflows.scored_cases import average_slides, fold_scores
from momkd.workflows.tables import with_interval

SHARES = (0.0, 0.25, 0.5, 0.75)
# few cases need a plain signal: one tumour tile in two shows it
WORLD: dict[str, Any] = SCENARIOS["easy"] | {
    "rho": 0.5,
    "nu": 3.0,
    "kappa": 2.0,
    "n_genes": 400,
    "dim": 24,
    "grid_side": 8,
    "n_cases": 240,
    "equivocal": 0.0,
}
# few cases are few steps: the common budget's 16 slides a step would end before anything is learnt
SIMULATED_BUDGET = ("fit.batch_size=4", "fit.lr=1e-3")
_N_DRAWS = 2_000


@dataclass(frozen=True)
class Arm:
    """One run: how much RNA is withheld, and what becomes of unpaired cases."""

    share: float
    drop: bool

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return f"{round(100 * self.share)}-{'dropped' if self.drop else 'kept'}"

    @property
    def models(self) -> str:
        """Give what ``--model`` is told."""
        # ABMIL reads no RNA: while nobody is left out, all its rows are one
        if self.share and not self.drop:
            return "momkd"
        return "momkd,abmil" if self.drop else "momkd,momkd+no_rna,abmil"


def arms(drop_whole: bool) -> list[Arm]:
    """Give the runs of a cohort; ``drop_whole``: it has unpaired cases of its own."""
    found = [Arm(share, drop) for share in SHARES for drop in (False, True)]
    return [a for a in found if a.share or not a.drop or drop_whole]


def crossval_command(config: Path, arm: Arm, folder: Path, folds: int, seeds: int) -> str:
    """Give the command of one run, as typed."""
    line = f"momkd crossval -c {config} -c recipes/common-budget.yaml --model {arm.models}"
    line += f" --folds {folds} --seeds {seeds} --workers 1 -o {folder / arm.name}"
    line += f" --set controls.withhold_rna={arm.share:g}" if arm.share else ""
    return line + (" --set controls.drop_unpaired=true" if arm.drop else "")


def simulated_config(folder: Path) -> Path:
    """Simulate the cohort, unless it is there, and write its configuration."""
    if not (folder / "cohort" / "truth.json").exists():
        write_cohort(simulate(SimulationOptions(**WORLD)), folder / "cohort")
    config = folder / "simulated.yaml"
    config.write_text(
        "data:\n  features: cohort/features\n  clinical: cohort/clinical.csv\n"
        "  rna: cohort/rna.csv.gz\n"
        "  target: {column: biomarker, positive: positive, negative: negative}\n",
        encoding="utf-8",
    )
    return config


def compare(folder: Path, ran: Sequence[Arm]) -> list[dict[str, Any]]:
    """Give a row an arm and model."""
    scores = {
        (arm, str(name)): fold_scores(part)
        for arm in ran
        for name, part in average_slides(read_predictions(folder / arm.name)).groupby("model")
    }
    areas = {key: _areas(folds) for key, folds in scores.items()}
    rows = []
    for (arm, model), drawn in areas.items():
        whole = areas[Arm(0.0, False), model.partition("+")[0]]
        left_out = areas.get((Arm(arm.share, True), model)) if not arm.drop else None
        kept = f"{_taught(folder / arm.name, model)}"
        row = {
            "model": model,
            "RNA withheld": f"{arm.share:.0%}",
            "unpaired": "left out" if arm.drop else "kept",
            "training cases (with RNA)": kept,
            "AUROC": _interval(drawn),
            "over all pairs": "" if drawn is whole else _interval(drawn - whole, signed=True),
            "kept over left out": "",
        }
        if left_out is not None:
            row["kept over left out"] = _interval(drawn - left_out, signed=True)
        rows.append(row)
    order = {"momkd": 0, "momkd+no_rna": 1, "abmil": 2}
    return sorted(rows, key=lambda r: order[r["model"]])


def _areas(folds: Sequence[FoldScores]) -> np.ndarray:
    """Give the mean AUROC over folds: as is, then for every draw of cases."""
    label = {c: y for f in folds for c, y in zip(f.case_ids, f.labels, strict=True)}
    order = sorted(label)
    weights = draw_case_weights(np.array([label[c] for c in order]), _N_DRAWS, seed=0)
    place = {c: i for i, c in enumerate(order)}
    found = []
    for fold in folds:
        columns = [place[c] for c in fold.case_ids]
        drawn = np.concatenate([np.ones((1, len(columns))), weights[:, columns]])
        found.append(weighted_metrics(fold.labels, fold.probabilities, 0.5, drawn)["auroc"])
    return np.mean(found, axis=0)


def _interval(values: np.ndarray, *, signed: bool = False) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    text = with_interval(float(values[0]), float(low), float(high))
    return f"+{text}" if signed and values[0] >= 0 else text


def _taught(run_folder: Path, model: str) -> str:
    """Give the mean number of training cases, and of those with RNA, over folds."""
    counts = []
    for job in read_run(run_folder)["jobs"]:
        if job.split("/")[0] == model:
            card = json.loads((run_folder / job / "predictor" / "config.json").read_text("utf-8"))
            counts.append([card["provenance"][k] for k in ("n_train", "n_train_rna")])
    n, n_rna = np.mean(counts, axis=0)
    return f"{n:.0f} ({n_rna:.0f})" if model.startswith("momkd") else f"{n:.0f}"


def section(title: str, folder: Path, ran: Sequence[Arm], lines: Sequence[str]) -> str:
    """Write one cohort's part of the page."""
    done = [arm for arm in ran if (folder / arm.name / "metrics.json").exists()]
    gone = [arm.name for arm in ran if arm not in done]
    lines = [x for x in lines if not any(f"{folder / name} " in f"{x} " for name in gone)]
    manifest = read_run(folder / done[0].name)
    machine = manifest["machine"]
    counts = {row["what"]: row["n"] for row in manifest["counts"]}
    path = folder / "minutes.json"
    took = (
        f"; {json.loads(path.read_text('utf-8')):.0f} minutes of that core" if path.exists() else ""
    )
    took += f". **Not run: {', '.join(gone)}**" if gone else ""
    return (
        f"\n## {title}\n\n{counts['cases used']} cases: {counts['cases with slide and RNA']} with "
        f"slide and RNA, {counts['cases with slide only']} with slide only, "
        f"{counts['cases with RNA only']} with RNA only. {manifest['proof']['protocol']}. momkd "
        f"{machine['momkd']}, torch {machine['torch']}, {machine['system']}, one core, "
        f"{machine['date']}{took}.\n\n"
        + markdown(compare(folder, done))
        + "\n```\n"
        + "\n".join(lines)
        + "\n```\n"
    )


def timed(lines: Sequence[str], folder: Path) -> None:
    """Run commands, and add the core time they took to what is on record."""
    path = folder / "minutes.json"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(lines)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    known = json.loads(path.read_text("utf-8")) if path.exists() else 0.0
    path.write_text(json.dumps(known + took / 60), encoding="utf-8")


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--task", default="HER2")
    parser.add_argument("--runs", type=Path, default=Path("runs/missing"))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--simulated-folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", choices=("real", "simulated"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    real, made = given.runs / given.task.lower(), given.runs / "simulated"
    real.mkdir(parents=True, exist_ok=True)
    made.mkdir(parents=True, exist_ok=True)
    plan = {}
    if given.only != "simulated":
        config = real / "momkd.yaml"
        ran = arms(drop_whole=True)
        lines = [init_command(given.task, given.data, str(config))]
        lines += [crossval_command(config, a, real, given.folds, given.seeds) for a in ran]
        plan[f"{given.task} on TCGA-BRCA"] = (real, ran, lines)
    if given.only != "real":
        config, ran = simulated_config(made), arms(drop_whole=False)
        budget = "".join(f" --set {change}" for change in SIMULATED_BUDGET)
        lines = [
            crossval_command(config, a, made, given.simulated_folds, given.seeds) + budget
            for a in ran
        ]
        plan["Simulated"] = (made, ran, lines)
    text = (Path(__file__).parent / "missing_modalities.md").read_text(encoding="utf-8")
    for title, (folder, ran, lines) in plan.items():
        if not given.table_only:
            timed(lines, folder)
        text += section(title, folder, ran, lines)
    text += "\nThis page: `python benchmarks/missing_modalities.py`.\n"
    path = given.output / "missing-modalities.md"
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
