"""The paper's tables and figures on a real paired cohort: docs/results/paper/.

    python benchmarks/paper_on_real.py --data ../shared/data/tcga-brca --runs runs/paper

Runs what a user would type; finished trainings are not repeated. Table 2 asks for a cohort that no
model has seen: here cases of whole sites that are kept out, the other sites teach. With
`--page-only` what is finished is copied, and nothing is run.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from real_cohort import init_command, run

TASKS = ("HER2", "PR")
HELD_OUT = ("A8", "AO", "C8")  # chosen by their counts: large, both classes of either label
KEPT = (".md", ".csv", ".svg", ".tex")
HERE = Path(__file__).resolve().parent


def split_by_site(clinical: Path, folder: Path) -> dict[str, Path]:
    """Write the clinical table twice: without the sites that are kept out, and they alone."""
    with clinical.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in ("taught", "held-out"):
        found[name] = folder / f"{name}.csv"
        with found[name].open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            is_out = name == "held-out"
            writer.writerows(r for r in rows if (r["site"] in HELD_OUT) is is_out)
    return found


def commands(task: str, data: str, runs: Path, tables: dict[str, Path]) -> dict[str, list[str]]:
    """Give the commands of one task, as typed, by the folder that they fill."""
    config, name = f"{task.lower()}.yaml", task.lower()
    halves = {
        part: init_command(task, data, f"{name}-{part}.yaml").replace(
            f"{data}/clinical.csv", str(table)
        )
        for part, table in tables.items()
    }
    return {
        name: [
            init_command(task, data, config),
            f"momkd reproduce all -c {config} -o {runs / name} --seeds 1",
        ],
        f"{name}-sites": [
            *halves.values(),
            f"momkd reproduce table2 -c {name}-taught.yaml --external {name}-held-out.yaml "
            f"-o {runs / name}-sites --seeds 1",
        ],
    }


def copy_pages(source: Path, target: Path) -> None:
    """Copy what a reader looks at; the runs themselves stay where they are."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in KEPT:
            shutil.copyfile(path, target / path.name)


def machine_of(folder: Path) -> str:
    """Say with what and when the arms of a folder were trained."""
    manifests = sorted((folder / "runs").glob("*/run.json"))
    machines = [json.loads(m.read_text(encoding="utf-8"))["machine"] for m in manifests]
    dates = sorted({m["date"] for m in machines})
    one = machines[0]
    return (
        f"{len(machines)} arms; momkd {one['momkd']}, torch {one['torch']}, {one['system']}, "
        f"2 cores, {' and '.join(dates)}"
    )


def main(given: Sequence[str] | None = None) -> None:
    """Run the commands, copy the pages and write the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--tasks", default=",".join(TASKS), help="labels, with commas between")
    parser.add_argument("--parts", default="cohort,sites", help="cohort, sites, or both")
    parser.add_argument("--page-only", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/paper"))
    asked = parser.parse_args(given)
    tables = split_by_site(Path(asked.data) / "clinical.csv", asked.runs / "tables")
    lines, told, missing = [], [], []
    for task in asked.tasks.split(","):
        for place, typed in commands(task, asked.data, asked.runs, tables).items():
            is_sites = place.endswith("-sites")
            part = "sites" if is_sites else "cohort"
            if not asked.page_only and part in asked.parts.split(","):
                run(typed)
            folder = asked.runs / place
            title = f"{task}, table 2 on sites kept out" if is_sites else f"{task}, all cases"
            if not (folder / "index.md").exists():
                missing.append(title)
                continue
            copy_pages(folder, asked.output / place)
            told.append(f"- [{title}]({place}/index.md): {machine_of(folder)}.")
            lines += typed
    text = (HERE / "paper_on_real.md").read_text(encoding="utf-8") + "\n" + "\n".join(told) + "\n"
    if missing:
        text += f"\n**Not run: {'; '.join(missing)}.**\n"
    text += "\n## Commands\n\n```\n" + "\n".join(lines) + "\n```\n"
    (asked.output / "README.md").write_text(text, encoding="utf-8")
    print(f"wrote {asked.output / 'README.md'}")


if __name__ == "__main__":
    main()
