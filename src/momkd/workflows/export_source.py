"""What ``momkd export`` takes a model from: a run, the folder of ``train``, or a predictor."""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momkd.errors import ConfigError, DataError, ModelError
from momkd.predictor import Ensemble
from momkd.workflows.model_label import label_in_run
from momkd.workflows.predict import load_ensembles
from momkd.workflows.run_folder import read_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a run says of the data and of the scores.

    ``metrics`` is the model's entry of ``metrics.json``; None where no case was left to score.
    """

    cases_by_class: Mapping[str, int]
    n_slides: int
    n_sites: int
    n_with_rna: int
    protocol: str
    notes: tuple[str, ...]
    versions: Mapping[str, Any]
    metrics: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """One model, ready to be written in another form; ``study`` None where only it is at hand."""

    label: str
    ensemble: Ensemble
    study: Study | None


def load_source(path: Path, only: str | None = None) -> ExportSource:
    """Load the one model that is to be exported.

    Parameters
    ----------
    path
        A run folder, what ``momkd train`` or ``momkd export --to hub`` wrote, or a predictor.
    only
        The model, where a run has several.

    Raises
    ------
    DataError
        P13 neither a run nor a predictor, P14 a training or a cross-validation that is not
        finished, or a run without metrics.
    ModelError
        P15 several models and none named, or no such model; P10 and C codes as ``predict``.
    """
    if not (path / "run.json").exists():
        (ensemble,) = load_ensembles(path).values()
        label = ensemble.card.model
        if only not in (None, label):
            what = f"is a predictor of model {label}, not of {only!r}"
            raise ModelError.of("P15", str(path), what, "leave --only out")
        return ExportSource(label=label, ensemble=ensemble, study=None)
    run = read_run(path)
    label = _choose(path, run, only)
    _require_finished(path, run, label)
    (ensemble,) = load_ensembles(path, label).values()
    return ExportSource(label=label, ensemble=ensemble, study=_read_study(path, run, label))


def require_free(output: Path, *, force: bool, ours: frozenset[str] | None = None) -> None:
    """Make sure that nothing is overwritten without being asked.

    Parameters
    ----------
    output
        A file, or, with ``ours``, a folder.
    force
        What an earlier export wrote may be replaced.
    ours
        Names in a folder that ``force`` may delete; a folder with others is never replaced.

    Raises
    ------
    ConfigError
        G08 it exists.
    """
    if not output.exists() or (ours is not None and output.is_dir() and not any(output.iterdir())):
        return
    if output.is_dir() != (ours is not None):
        what = f"is a {'folder' if output.is_dir() else 'file'} already"
        raise ConfigError.of("G08", str(output), what, "choose another -o")
    if not force:
        raise ConfigError.of("G08", str(output), "exists already", "pass --force or another -o")
    other = sorted(p.name for p in output.iterdir() if p.name not in ours) if ours else []
    if other:
        what = f"holds more than an earlier export (first: {other[0]}), and is not replaced"
        raise ConfigError.of("G08", str(output), what, "choose another -o")


def _choose(path: Path, run: Mapping[str, Any], only: str | None) -> str:
    unserved = set(run.get("not_served", ()))
    only = None if only is None else label_in_run(only, run["models"])
    served = [name for name in run["models"] if name not in unserved]
    if only is not None and only not in served:
        what = f"{only} reads a table and is no predictor of slides"
        if only not in unserved:
            what = f"has no model {only!r}"
        raise ModelError.of("P15", str(path), what, f"choose one of {', '.join(served)}")
    if only is None and len(served) != 1:
        what = f"holds {len(served)} models of slides: {', '.join(served) or 'none'}"
        raise ModelError.of("P15", str(path), what, "say which: --only NAME")
    return only or served[0]


def _require_finished(path: Path, run: Mapping[str, Any], label: str) -> None:
    jobs = [path / j for j in run["jobs"] if j.split("/")[0] == label] or [path]
    is_open = [job for job in jobs if not (job / "done.json").exists()]
    if is_open:
        what = f"is not finished: {len(is_open)} of {len(jobs)} trainings of {label} are open"
        remedy = "give the command that began it again, it goes on"
        raise DataError.of("P14", str(path), what, remedy)


def _read_study(path: Path, run: Mapping[str, Any], label: str) -> Study:
    try:
        with (path / "cohort.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        cases = {row["case_id"]: row["class_name"] for row in rows}
        slides = {row["slide_id"] for row in rows} - {""}
        sites = {row["site"] for row in rows} - {""}
        taught = {row["case_id"] for row in rows if row["rna_id"]}
    except (OSError, KeyError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or repr(error)}"
        raise DataError.of("P13", str(path / "cohort.csv"), what, "give a whole run") from None
    return Study(
        cases_by_class=Counter(cases.values()),
        n_slides=len(slides),
        n_sites=len(sites),
        n_with_rna=len(taught),
        protocol=str(run.get("proof", {}).get("protocol", "")),
        notes=tuple(map(str, run.get("target_notes", ()))),
        versions=run.get("machine", {}),
        metrics=_read_metrics(path, label) if run["jobs"] else None,
    )


def _read_metrics(path: Path, label: str) -> Mapping[str, Any]:
    try:
        metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        return metrics["models"][label]
    except (OSError, ValueError, KeyError, TypeError):
        what = f"no metrics of {label}: the cross-validation is not finished"
        remedy = f"momkd crossval again, or momkd evaluate {path}"
        raise DataError.of("P14", str(path / "metrics.json"), what, remedy) from None
