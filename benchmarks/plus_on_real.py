"""The preset plus beside ABMIL on a real paired cohort: docs/results/real-cohort/plus.md.

    python benchmarks/plus_on_real.py --data ../shared/data/tcga-brca --runs runs/plus --seeds 3

Runs what a user would type; finished trainings are not repeated, and more seeds may be asked for
later. With `--table-only` the page is written from the runs as they are.
"""

import argparse
import json
from pathlib import Path

from real_cohort import init_command, markdown, rows_of, run

_TASKS = ("HER2", "PR")
_MODELS = "momkd:plus,momkd:plus+no_rna,momkd:plus+shuffled,momkd,abmil"
_RECIPE = Path("recipes/common-budget.yaml")
HERE = Path(__file__).resolve().parent


def commands(task: str, data: str, runs: Path, recipe: Path, n_seeds: int) -> list[str]:
    """Give the commands of one task, as typed."""
    config, folder = f"{task.lower()}.yaml", runs / task.lower()
    return [
        init_command(task, data, config),
        f"momkd crossval -c {config} -c {recipe} --set panel.selector=all --model {_MODELS} "
        f"--method momkd:plus --seeds {n_seeds} -o {folder}",
        f"momkd compare {folder}",
    ]


def page(data: str, runs: Path, n_seeds: int) -> str:
    """Write the page from finished runs."""
    text = (HERE / "plus_on_real.md").read_text(encoding="utf-8")
    for task in _TASKS:
        folder = runs / task.lower()
        machine = json.loads((folder / "run.json").read_text(encoding="utf-8"))["machine"]
        compared = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        text += (
            f"\n## {task}\n\nmomkd {machine['momkd']}, torch {machine['torch']}, "
            f"{machine['system']}, 2 cores, {machine['date']}.\n\n{markdown(rows_of(folder))}\n"
        )
        said = [*compared["may_claim"], *compared["may_not_claim"]]
        text += "What `momkd compare` lets be said:\n\n" + "".join(f"- {line}\n" for line in said)
    lines = [c for task in _TASKS for c in commands(task, data, runs, _RECIPE, n_seeds)]
    return text + "\n## Commands\n\n```\n" + "\n".join(lines) + "\n```\n"


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--runs", type=Path, default=Path("runs/plus"))
    parser.add_argument("--seeds", type=int, default=3)
    default = Path("docs/results/real-cohort/plus.md")
    parser.add_argument("-o", "--output", type=Path, default=default)
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    for task in _TASKS if not given.table_only else ():
        run(commands(task, given.data, given.runs, HERE.parent / _RECIPE, given.seeds))
    given.output.write_text(page(given.data, given.runs, given.seeds), encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
