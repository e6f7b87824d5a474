"""Does RNA help on real slides, for every label and kind of folds? docs/results/real-cohort/rna.md.

    python benchmarks/rna_on_real.py --data ../shared/data/tcga-brca --runs runs/rna

Runs what a user would type; finished trainings are not repeated, and more labels, kinds of folds or
seeds may be asked for later. What the page needs of each run is kept in
`benchmarks/results/rna_on_real/`, which outlives the runs: with `--table-only` the page is written
from those files and from the runs that are there.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from real_cohort import init_command, markdown, name_of, run

from momkd.reporting.figures import svg_of
from momkd.workflows.tables import with_interval

TASKS = ("HER2", "PR", "ER", "ODX85")
FOLDS = {"random": "", "site": " --site-preserved"}
HEADINGS = {"random": "Folds by case", "site": "Folds by whole sites"}
# what is asked of each: the published method and our variant, against everything else
ASKED = ("momkd", "momkd-plus")
MODELS = (
    *("momkd", "momkd:code", "momkd:plus", "momkd+shuffled", "momkd+label", "momkd:plus+shuffled"),
    *("abmil", "dsmil", "transmil", "dtfd_mil", "wikg", "tdc", "mkd", "g_hanet", "mean_logistic"),
)
_RECIPE = Path("recipes/common-budget.yaml")
HERE = Path(__file__).resolve().parent
RECORDS = HERE / "results" / "rna_on_real"
# a run's record: where and when, "models" with their AUROCs, and under "asked" what was compared
Record = dict[str, Any]


def commands(task: str, folds: str, data: str, runs: Path, recipe: Path, seeds: int) -> list[str]:
    """Give the commands of one label and kind of folds, as typed."""
    config, folder = f"{task.lower()}.yaml", folder_of(runs, task, folds)
    return [
        init_command(task, data, config),
        f"momkd crossval -c {config} -c {recipe} --set panel.selector=all "
        f"--model {','.join(MODELS)} --method momkd --seeds {seeds}{FOLDS[folds]} -o {folder}",
        *(f"momkd compare {folder} --method {m} -o {folder / place_of(m)}" for m in ASKED),
    ]


def folder_of(runs: Path, task: str, folds: str) -> Path:
    """Give the run of a label and kind of folds."""
    return runs / f"{task.lower()}-{folds}"


def place_of(model: str) -> str:
    """Give the folder, in a run, of what was asked of a model."""
    return f"asked-{model}"


def record_of(folder: Path) -> Record:
    """Give what the page needs of a finished run."""

    def read(place: Path) -> dict[str, Any]:
        return json.loads(place.read_text(encoding="utf-8"))

    models = read(folder / "metrics.json")["models"]
    pairs = {m: read(folder / place_of(m) / "comparison.json")["pairs"] for m in ASKED}
    return {
        "machine": read(folder / "run.json")["machine"],
        "models": {name: entry["mean_over_folds"]["auroc"] for name, entry in models.items()},
        "asked": {
            m: [
                {k: pair[k] for k in ("other", "difference", "low", "high", "p_holm")} for pair in p
            ]
            for m, p in pairs.items()
        },
    }


def area_rows(runs: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Give a row a model: its AUROC in every run, with case-level bootstrap intervals."""
    rows = []
    for model in next(iter(runs.values()))["models"]:
        row = {"model": name_of(model)}
        for name, record in runs.items():
            area = record["models"][model]
            row[name] = with_interval(area["value"], area["low"], area["high"])
        rows.append(row)
    return rows


def asked_rows(runs: Mapping[str, Record], model: str) -> list[dict[str, Any]]:
    """Give a row another model: how far ``model`` lies above it, corrected interval, Holm p."""
    rows: dict[str, dict[str, Any]] = {}
    for name, record in runs.items():
        for pair in record["asked"][model]:
            row = rows.setdefault(pair["other"], {"over": name_of(pair["other"])})
            span = f"[{pair['low']:+.3f}, {pair['high']:+.3f}]"
            row[name] = f"{pair['difference']:+.3f} {span}, p {pair['p_holm']:.2f}"
    return list(rows.values())


def draw(path: Path, found: Mapping[str, Mapping[str, Record]]) -> None:
    """Draw every model's AUROC and its interval, a label a panel, a kind of folds a colour."""
    from matplotlib.figure import Figure

    tasks = [task for task in TASKS if any(task in runs for runs in found.values())]
    figure = Figure(figsize=(3.4 + 2.2 * len(tasks), 4.6), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharex=True, sharey=True, squeeze=False)[0]
    names: list[str] = []
    for ax, task in zip(axes, tasks, strict=True):
        for kind, colour, shift in (("random", "#0072b2", -0.15), ("site", "#d55e00", 0.15)):
            if task not in found[kind]:
                continue
            models = found[kind][task]["models"]
            names = list(models)
            for row, name in enumerate(names):
                area = models[name]
                label = HEADINGS[kind].lower() if row == 0 else None
                ax.plot([area["low"], area["high"]], [row + shift] * 2, color=colour, lw=1)
                ax.plot(area["value"], row + shift, "o", ms=4, color=colour, label=label)
        ax.axvline(0.5, color="grey", lw=0.8)
        ax.set(title=task, xlabel="AUROC")
        ax.set_yticks(range(len(names)), [name_of(name).replace("`", "") for name in names])
    axes[0].invert_yaxis()
    told = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(told.values(), told.keys(), loc="outside lower center", ncols=2, frameon=False)
    path.write_text(svg_of(figure), encoding="utf-8")


def keep(runs: Path, records: Path) -> None:
    """Keep what the page needs of every run that was carried to its end."""
    records.mkdir(parents=True, exist_ok=True)
    for folds in FOLDS:
        for task in TASKS:
            if is_compared(folder := folder_of(runs, task, folds)):
                text = json.dumps(record_of(folder), indent=1) + "\n"
                (records / f"{folder.name}.json").write_text(text, encoding="utf-8")


def kept(records: Path) -> dict[str, dict[str, Record]]:
    """Give the records of every kind of folds, by their labels."""
    return {
        folds: {
            task: json.loads(path.read_text(encoding="utf-8"))
            for task in TASKS
            if (path := records / f"{folder_of(records, task, folds).name}.json").exists()
        }
        for folds in FOLDS
    }


def is_compared(folder: Path) -> bool:
    """Whether a run was carried to its end."""
    return all((folder / place_of(m) / "comparison.json").exists() for m in ASKED)


def page(data: str, runs: Path, seeds: int, picture: str, found: Mapping[str, Any]) -> str:
    """Write the page from the records of finished runs."""
    text = (HERE / "rna_on_real.md").read_text(encoding="utf-8")
    lines, missing = [], []
    text += f"\n![AUROC of every model, with 95 % intervals]({picture})\n"
    for folds, done in found.items():
        missing += [f"{task} ({folds})" for task in TASKS if task not in done]
        for task in done:
            lines += commands(task, folds, data, runs, _RECIPE, seeds)
        if not done:
            continue
        machines = dict.fromkeys(_told(record["machine"]) for record in done.values())
        text += f"\n## {HEADINGS[folds]}\n\n{'; '.join(machines)}.\n\n"
        text += markdown(area_rows(done))
        for model in ASKED:
            title = name_of(model)
            text += f"\nHow far {title} lies above the others:\n\n"
            text += markdown(asked_rows(done, model))
    if missing:
        text += f"\n**Not run: {', '.join(missing)}.**\n"
    return text + "\n## Commands\n\n```\n" + "\n".join(lines) + "\n```\n"


def _told(machine: Mapping[str, str]) -> str:
    software = f"momkd {machine['momkd']}, torch {machine['torch']}, {machine['system']}"
    return f"{software}, 2 cores, {machine['date']}"


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tcga-brca")
    parser.add_argument("--runs", type=Path, default=Path("runs/rna"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tasks", default=",".join(TASKS), help="labels, with commas between")
    parser.add_argument("--folds", default=",".join(FOLDS), help="random, site, or both")
    default = Path("docs/results/real-cohort/rna.md")
    parser.add_argument("-o", "--output", type=Path, default=default)
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--records", type=Path, default=RECORDS)
    given = parser.parse_args()
    for folds in given.folds.split(",") if not given.table_only else ():
        for task in given.tasks.split(","):
            recipe = HERE.parent / _RECIPE
            run(commands(task, folds, given.data, given.runs, recipe, given.seeds))
    keep(given.runs, given.records)
    found = kept(given.records)
    picture = given.output.with_suffix(".svg")
    text = page(given.data, given.runs, given.seeds, picture.name, found)
    given.output.write_text(text, encoding="utf-8")
    draw(picture, found)
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
