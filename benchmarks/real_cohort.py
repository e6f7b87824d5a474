"""Cross-validate on a real paired cohort and write docs/results/real-cohort/<task>.md.

    python benchmarks/real_cohort.py --data ../shared/data/tcga-brca --runs runs [--task PR]

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

_TASKS = ("HER2", "PR", "ODX85")
_MODELS = "momkd,abmil,mean_logistic"
_SHOWN = ("auroc", "auprc", "accuracy", "majority_rate", "macro_f1", "brier")
_NAMES = {
    "momkd": "MoMKD, preset `paper`",
    "momkd-code": "MoMKD, preset `code`",
    "momkd-plus": "MoMKD, preset `plus`",
    "momkd+shuffled": "`paper`, RNA shuffled within class",
    "momkd+label": "`paper`, the label in the place of RNA",
    "momkd-plus+no_rna": "`plus` without RNA",
    "momkd-plus+shuffled": "`plus`, RNA shuffled within class",
    "abmil": "ABMIL (gated)",
    "dsmil": "DSMIL",
    "transmil": "TransMIL",
    "dtfd_mil": "DTFD-MIL (AFS)",
    "wikg": "WiKG",
    "tdc": "TDC",
    "mkd": "MKD",
    "g_hanet": "G-HANet",
    "mean_logistic": "logistic regression on the mean embedding",
}


def commands(task: str, data: str, runs: Path) -> list[str]:
    """Give the commands of one task, as typed."""
    config, run = f"{task.lower()}.yaml", runs / task.lower()
    return [
        init_command(task, data, config),
        f"momkd check -c {config}",
        f"momkd crossval -c {config} --model {_MODELS} --seeds 3 -o {run}",
        f"momkd crossval -c {config} --model momkd:code --seeds 1 -o {run}-code",
    ]


def init_command(task: str, data: str, config: str) -> str:
    """Give the command that writes the configuration of one task."""
    return (
        f"momkd init --features {data}/features --clinical {data}/clinical.csv "
        f"--rna {data}/rna.csv.gz --target {task} --positive 1 --negative 0 -o {config} --force"
    )


def run(lines: Sequence[str]) -> None:
    """Run commands, stopping at the first that fails."""
    for line in lines:
        print(f"$ {line}", flush=True)
        subprocess.run([sys.executable, "-m", "momkd.cli", *shlex.split(line)[1:]], check=True)


def name_of(model: str) -> str:
    """Give a model's name as the pages have it."""
    return _NAMES[model]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Give a row a model of a run."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rows = []
    for name, entry in metrics["models"].items():
        row = {"model": name_of(name), "cases": entry["n_cases"], "fits": entry["n_fits"]}
        for key in _SHOWN:
            found = entry["mean_over_folds"][key]
            row[key] = with_interval(found["value"], found["low"], found["high"])
        row["SD over fits"] = f"{entry['auroc_sd_over_folds']:.3f}"
        row["calibration slope"] = f"{entry['pooled']['calibration_slope']['value']:.2f}"
        rows.append(row)
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Set rows as a Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(r[k]) for k in head] for r in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(task: str, data: str, runs: Path) -> str:
    """Write the page of one task from its finished runs."""
    folder = runs / task.lower()
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    counts = {row["what"]: row["n"] for row in manifest["counts"]}
    negative, positive = manifest["class_names"]
    machine = manifest["machine"]
    return (
        f"# {task} on TCGA-BRCA\n\n"
        f"{counts[f'cases {positive}']} positive and {counts[f'cases {negative}']} negative cases: "
        f"{counts['cases with slide and RNA']} with slide and RNA, "
        f"{counts['cases with slide only']} with slide only, "
        f"{counts['cases with RNA only']} with RNA only. momkd {machine['momkd']}, torch "
        f"{machine['torch']}, {machine['system']}, 2 cores, {machine['date']}. "
        "[What the data are and how to read this](README.md).\n\n"
        + markdown(rows_of(folder) + rows_of(runs / f"{task.lower()}-code"))
        + "\n```\n"
        + "\n".join(commands(task, data, runs))
        + "\n```\n"
    )


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--task", action="append", choices=_TASKS, help="default: all")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/real-cohort"))
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    for task in given.task or _TASKS:
        if not given.table_only:
            run(commands(task, given.data, given.runs))
        path = given.output / f"{task.lower()}.md"
        path.write_text(page(task, given.data, given.runs), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
