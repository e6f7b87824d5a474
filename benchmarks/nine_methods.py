"""Nine methods under one budget on a real paired cohort: docs/results/real-cohort/nine-methods.md.

    python benchmarks/nine_methods.py --data ../shared/data/tcga-brca --runs runs

Runs what a user would type; finished trainings are not repeated. With `--table-only` the page is
written from the runs as they are.
"""

import argparse
import json
import time
from pathlib import Path

from real_cohort import init_command, markdown, rows_of, run

_TASKS = ("HER2", "PR")
_RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "common-budget.yaml"


def commands(task: str, data: str, runs: Path, recipe: Path) -> list[str]:
    """Give the commands of one task, as typed."""
    config = f"{task.lower()}.yaml"
    return [
        init_command(task, data, config),
        f"momkd crossval -c {config} -c {recipe} --model all --seeds 3 -o {runs / task.lower()}",
    ]


def page(data: str, runs: Path) -> str:
    """Write the page from finished runs."""
    parts = [(Path(__file__).parent / "nine_methods.md").read_text(encoding="utf-8")]
    for task in _TASKS:
        folder = runs / task.lower()
        manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        machine = manifest["machine"]
        took = json.loads((folder / "minutes.json").read_text(encoding="utf-8"))
        parts.append(
            f"\n## {task}\n\nmomkd {machine['momkd']}, torch {machine['torch']}, "
            f"{machine['system']}, 2 cores, {machine['date']}; {took:.0f} minutes.\n\n"
            + markdown(rows_of(folder))
        )
    lines = [c for t in _TASKS for c in commands(t, data, runs, Path("recipes") / _RECIPE.name)]
    parts.append("\n## Commands\n\n```\n" + "\n".join(lines) + "\n```\n")
    return "".join(parts)


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--runs", type=Path, default=Path("runs/nine"))
    default = Path("docs/results/real-cohort/nine-methods.md")
    parser.add_argument("-o", "--output", type=Path, default=default)
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    for task in _TASKS if not given.table_only else ():
        started_s = time.monotonic()
        run(commands(task, given.data, given.runs, _RECIPE))
        minutes = (time.monotonic() - started_s) / 60
        (given.runs / task.lower() / "minutes.json").write_text(json.dumps(minutes))
    given.output.write_text(page(given.data, given.runs), encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
