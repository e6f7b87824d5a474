"""Cross-validate on a real paired cohort and write the table of docs/results/real-cohort.md.

    python benchmarks/real_cohort.py --data ../shared/data/tcga-brca --runs runs

Runs what a user would type, command by command; finished trainings are not repeated. With
`--table-only` the page is written from the runs as they are.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from momkd.workflows.tables import with_interval

_TASKS = {"HER2": 3, "PR": 3, "ODX85": 1}  # label -> seeds
_MODELS = "momkd,abmil,mean_logistic"
_SHOWN = ("auroc", "auprc", "accuracy", "majority_rate", "macro_f1", "brier")
_NAMES = {
    "momkd": "MoMKD, preset `paper`",
    "momkd-code": "MoMKD, preset `code`",
    "abmil": "ABMIL (gated)",
    "mean_logistic": "logistic regression on the mean embedding",
}


def commands(data: str, runs: Path) -> list[str]:
    """Give the commands, as typed."""
    lines = []
    for task, seeds in _TASKS.items():
        config = f"{task.lower()}.yaml"
        lines += [
            f"momkd init --features {data}/features --clinical {data}/clinical.csv "
            f"--rna {data}/rna.csv.gz --target {task} --positive 1 --negative 0 "
            f"-o {config} --force",
            f"momkd check -c {config}",
            f"momkd crossval -c {config} --model {_MODELS} --seeds {seeds} "
            f"-o {runs / task.lower()}",
            f"momkd crossval -c {config} --model momkd:code --seeds 1 "
            f"-o {runs / task.lower()}-code",
        ]
    return lines


def run(lines: Sequence[str]) -> None:
    """Run commands, stopping at the first that fails."""
    for line in lines:
        print(f"$ {line}", flush=True)
        subprocess.run([sys.executable, "-m", "momkd.cli", *shlex.split(line)[1:]], check=True)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Give a row a model of a run, or none where the run is not finished."""
    path = folder / "metrics.json"
    if not path.exists():
        return []
    metrics = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, entry in metrics["models"].items():
        row = {"model": _NAMES[name], "cases": entry["n_cases"], "fits": entry["n_fits"]}
        for key in _SHOWN:
            found = entry["mean_over_folds"][key]
            row[key] = with_interval(found["value"], found["low"], found["high"])
        row["SD over fits"] = f"{entry['auroc_sd_over_folds']:.3f}"
        row["calibration slope"] = f"{entry['pooled']['calibration_slope']['value']:.2f}"
        rows.append(row)
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Set rows as a Markdown table."""
    if not rows:
        return "not run\n"
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(r[k]) for k in head] for r in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(data: str, runs: Path) -> str:
    """Write the page from finished runs."""
    parts = [(Path(__file__).parent / "real_cohort.md").read_text(encoding="utf-8")]
    for task in _TASKS:
        folder = runs / task.lower()
        manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        counts = {row["what"]: row["n"] for row in manifest["counts"]}
        negative, positive = manifest["class_names"]
        machine = manifest["machine"]
        parts.append(
            f"\n## {task}\n\n{counts[f'cases {positive}']} positive and "
            f"{counts[f'cases {negative}']} negative cases: "
            f"{counts['cases with slide and RNA']} with slide and RNA, "
            f"{counts['cases with slide only']} with slide only, "
            f"{counts['cases with RNA only']} with RNA only. momkd {machine['momkd']}, torch "
            f"{machine['torch']}, {machine['system']}, 2 cores, {machine['date']}.\n\n"
        )
        parts.append(markdown(rows_of(folder) + rows_of(runs / f"{task.lower()}-code")))
    parts.append("\n## Commands\n\n```\n" + "\n".join(commands(data, runs)) + "\n```\n")
    return "".join(parts)


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/real-cohort.md"))
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    if not given.table_only:
        run(commands(given.data, given.runs))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(page(given.data, given.runs), encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
