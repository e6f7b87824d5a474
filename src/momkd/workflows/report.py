"""``momkd report``: the page of a run, from what its folder holds; nothing is trained for it.

Of a run that is not finished, the page says so first, and shows figures of those models only that
were tested on every fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from momkd.errors import ConfigError, DataError, Problem, Problems
from momkd.workflows.checklists import require_folder, write_checklists
from momkd.workflows.comparison_page import read_comparison
from momkd.workflows.evaluate import read_metrics, score_run
from momkd.workflows.frozen_protocol import open_protocol
from momkd.workflows.report_atlas import atlas_section
from momkd.workflows.report_examples import MOST_EXAMPLES, examples_section, first_model
from momkd.workflows.report_pictures import find_pictures
from momkd.workflows.report_sources import PageSources
from momkd.workflows.report_training import Trainings, read_trainings
from momkd.workflows.run_folder import read_predictions, read_rows, read_run
from momkd.workflows.run_report import tell_unfinished, write_page
from momkd.workflows.scored_cases import average_slides

MOST_CASES = 1000
_KEYS = (
    *("task", "class_names", "models", "cohort", "settings", "counts", "folds", "notes"),
    *("machine", "started"),
)
_NO_TESTS = (
    "No case was kept for testing (momkd train): nothing here says how good the predictor is. "
    "Score it on an external cohort, or cross-validate."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """Where the page is, what it says before anything else, and the checklists beside it."""

    path: Path
    alarms: tuple[str, ...]
    checklists: tuple[Path, ...] = ()


def report(
    run: Path | str,
    *,
    output: Path | str | None = None,
    n_cases: int = 0,
    n_examples: int = 0,
    checklists: Path | str | None = None,
) -> WrittenReport:
    """Write the page of a run, and reporting guidelines filled in from it.

    Parameters
    ----------
    run
        Run folder, finished or not.
    output
        The page, ``*.html``, or a folder for it; default ``report.html`` in the run folder.
    n_cases
        List so many of the worst predicted cases, by their ids; none by default.
    n_examples
        Show so many tested slides of each class that were called right, and so many wrong, with
        where the model looked; needs the features of the run. Slides are numbered, unless
        ``n_cases`` lets cases be named.
    checklists
        Folder for reporting guidelines, the leakage sheet and the flow chart; none by default.

    Returns
    -------
    WrittenReport
        The page, and its alarms: trainings that are missing, say.

    Raises
    ------
    DataError
        P13 no run folder, or one that lacks what every run holds.
    ConfigError
        G07 an output that is no page, a number of cases or examples out of range, or checklists
        that are to be written to a file.
    IntegrityError
        K16, K17 the run is no longer what its protocol laid down.
    """
    folder = Path(run)
    path = _page(folder, output)
    if not 0 <= n_cases <= MOST_CASES:
        what = f"got {n_cases}, wanted 0 to {MOST_CASES}"
        raise ConfigError.of("G07", "--cases", what, "all cases are in predictions.csv")
    if checklists is not None:
        require_folder(Path(checklists))
    if not 0 <= n_examples <= MOST_EXAMPLES:
        what = f"got {n_examples}, wanted 0 to {MOST_EXAMPLES}"
        raise ConfigError.of("G07", "--examples", what, "momkd serve shows every slide")
    manifest = read_run(folder)
    _require_whole(folder, manifest)
    frozen = open_protocol(folder, manifest)
    trainings = read_trainings(folder, manifest.get("jobs", ()))
    table = _tested(folder, manifest, trainings)
    alarms = [] if trainings.n_jobs else [_NO_TESTS]
    has_table = (folder / "predictions.csv").exists()
    comparison = read_comparison(folder) if has_table else None
    sources = PageSources(
        manifest=manifest,
        metrics=None if table is None else _score(folder, manifest, trainings, table),
        cases=None if table is None else average_slides(table),
        dropped=folder / "dropped.csv",
        configuration=folder / "config.yaml",
        cohort=folder / "cohort.csv",
        trainings=trainings,
        comparison=comparison,
        examples=None
        if table is None
        else examples_section(
            folder,
            table,
            model=first_model(manifest, comparison),
            class_names=manifest["class_names"],
            n=n_examples,
            names=n_cases > 0,
        ),
        atlas=atlas_section(folder, manifest["class_names"]),
        pictures=find_pictures(folder),
        alarms=tuple(alarms),
        protocol=frozen,
        n_cases=n_cases,
    )
    write_page(path, sources)
    alarms += tell_unfinished(trainings)
    lists = [] if checklists is None else write_checklists(Path(checklists), sources, alarms)
    return WrittenReport(path=path, alarms=tuple(alarms), checklists=tuple(lists))


def _page(folder: Path, output: Path | str | None) -> Path:
    if output is None:
        return folder / "report.html"
    path = Path(output)
    if path.is_dir():
        return path / "report.html"
    if path.suffix.lower() not in (".html", ".htm"):
        what = f"got {path.name!r}, wanted a name that ends in .html"
        raise ConfigError.of("G07", "--output", what, "a page is written there and nowhere else")
    return path


def _require_whole(folder: Path, manifest: Mapping[str, Any]) -> None:
    problems = Problems()

    def add(name: str, what: str) -> None:
        remedy = "momkd crossval with the same -c and -o writes it again"
        problems.add(Problem(code="P13", where=str(folder / name), what=what, remedy=remedy))

    lacking = [key for key in _KEYS if key not in manifest]
    if lacking:
        add("run.json", f"lacks {', '.join(lacking)}")
    for name in ("config.yaml", "dropped.csv"):
        if not (folder / name).is_file():
            add(name, "is missing: every run folder holds it")
    if not problems.found:
        try:
            yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError) as error:
            add("config.yaml", f"is damaged: {' '.join(str(error).split())}")
    problems.refuse(DataError)


def _tested(folder: Path, manifest: Mapping[str, Any], trainings: Trainings) -> pd.DataFrame | None:
    """Give the test predictions of every model that was tested on every fold; None without any."""
    if not trainings.open_jobs and (folder / "predictions.csv").exists():
        table = read_predictions(folder)
        return table if (table["split"] == "test").any() else None
    complete = [m for m in manifest["models"] if m not in trainings.n_open()]
    jobs = [j for j in manifest.get("jobs", ()) if j.split("/")[0] in complete]
    parts = [_read_job(folder / job / "predictions.csv") for job in jobs]
    return pd.concat(parts, ignore_index=True) if parts else None


def _read_job(path: Path) -> pd.DataFrame:
    try:
        return read_rows(path)
    except (FileNotFoundError, ValueError) as error:
        what = f"cannot be read: {error}"
        remedy = f"delete {path.parent.name} and run again"
        raise DataError.of("P14", str(path), what, remedy) from None


def _score(
    folder: Path, manifest: Mapping[str, Any], trainings: Trainings, table: pd.DataFrame
) -> Mapping[str, Any]:
    """Give the figures as they were written, or make them where they are missing or old."""
    if not trainings.open_jobs and (folder / "predictions.csv").exists():
        metrics = read_metrics(folder)
        if metrics is not None:
            return metrics
    return score_run(manifest, table, folds_of=folder)


def tell_report(written: WrittenReport) -> Sequence[str]:
    """Give the lines that a user reads."""
    lines = [*written.alarms, f"report: {written.path}"]
    if written.checklists:
        folder, names = written.checklists[0].parent, [p.name for p in written.checklists]
        lines.append(f"checklists: {folder}: {', '.join(names)}")
    return lines
