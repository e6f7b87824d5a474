"""``momkd export predictions``: a run's test predictions in the tables of another tool."""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from momkd.data.conventions.study import make_table
from momkd.errors import ConfigError, DataError, ModelError
from momkd.evaluation.metrics import auroc
from momkd.storage import text_cell, write_folder, write_text
from momkd.workflows.export_tables import ExportReport
from momkd.workflows.model_label import label_in_run
from momkd.workflows.run_folder import read_predictions, read_run

CONVENTIONS = ("stamp", "clam")


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")


def export_predictions(
    run: Path | str,
    output: Path | str,
    *,
    convention: str,
    only: str | None = None,
    force: bool = True,
) -> ExportReport:
    """Write test predictions as STAMP's ``patient-preds.csv`` or CLAM's ``fold_i.csv``.

    With several models or seeds, each has a folder ``<model>/seed-<seed>`` of its own. STAMP:
    ``split-i/patient-preds.csv`` with ``PATIENT, <label>, pred, <label>_<class>..., loss``, a row a
    case, the mean of its slides. CLAM: ``fold_i.csv`` with ``slide_id, Y, Y_hat, p_0, p_1`` and
    ``summary.csv``. ``pred`` and ``Y_hat`` are cut at the threshold of the fold, chosen on
    validation, where these tools take the larger probability. Names that a spreadsheet would take
    for a formula are quoted (:func:`~momkd.storage.text_cell`).

    Parameters
    ----------
    run, output
        Run folder, and the folder to write to.
    convention
        One of :data:`CONVENTIONS`.
    only
        One model of the run, instead of all.
    force
        Write into a folder that holds files already; those of the same name are replaced.

    Raises
    ------
    ConfigError
        G16 no such convention, G08 the folder holds files.
    DataError
        P13, P14 no run or no test predictions.
    ModelError
        P15 no such model.
    """
    if convention not in CONVENTIONS:
        what = f"got {convention!r}, wanted one of {', '.join(CONVENTIONS)}"
        raise ConfigError.of("G16", "--as", what, "see docs/formats.md")
    folder, source = Path(output), Path(run)
    if not force and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError.of("G08", str(folder), "exists already", "pass --force or another -o")
    manifest = read_run(source)
    table = read_predictions(source)
    table = table[table["split"] == "test"]
    if table.empty:
        what = "holds no test predictions: momkd train leaves no case to score"
        raise DataError.of("P14", str(source), what, "give a momkd crossval")
    table = _choose(source, table, only)
    classes, task = list(manifest["class_names"]), str(manifest["task"])
    groups = list(table.groupby(["model", "seed"], sort=True))
    tables: dict[str, str] = {}
    for (model, seed), part in groups:
        place = f"{model}/seed-{seed}/" if len(groups) > 1 else ""
        if convention == "stamp":
            made = _make_stamp(part, task, classes)
        else:
            made = _make_clam(part, classes)
        tables |= {f"{place}{name}": text for name, text in made.items()}
    written = tuple(folder / name for name in tables)
    notes = tuple(str(n) for n in manifest.get("target_notes", ()))
    if notes:
        tables["NOTES.txt"] = "\n".join(notes) + "\n"
    _write(folder, tables)
    return ExportReport(folder=folder, files=written, notes=notes)


def _choose(run: Path, table: pd.DataFrame, only: str | None) -> pd.DataFrame:
    """Give the rows of one model, or of all; their names become folders, and must be names."""
    names = sorted(table["model"].unique())
    only = None if only is None else label_in_run(only, names)
    if only is not None and only not in names:
        what = f"has no test predictions of model {only!r}"
        raise ModelError.of("P15", str(run), what, f"choose one of {', '.join(names)}")
    if odd := [name for name in names if not _NAME.fullmatch(name)]:
        what = f"{odd[0]!r} is no name of a model"
        raise DataError.of("P13", str(run / "predictions.csv"), what, "give a whole run")
    return table if only is None else table[table["model"] == only]


def _write(folder: Path, tables: Mapping[str, str]) -> None:
    """Write a new folder in one step, and into an old one file by file."""
    if not folder.exists():
        write_folder(folder, {name: text.encode() for name, text in tables.items()})
        return
    for name, text in tables.items():
        write_text(folder / name, text)


def _make_stamp(table: pd.DataFrame, task: str, classes: Sequence[str]) -> dict[str, str]:
    probabilities = [f"prob_{c}" for c in classes]
    labels = [text_cell(f"{task}_{c}") for c in classes]
    header = ["PATIENT", text_cell(task), "pred", *labels, "loss"]
    words = [text_cell(c) for c in classes]
    made = {}
    for fold, part in table.groupby("fold", sort=True):
        means = part.groupby("case_id", sort=True).agg(
            {**dict.fromkeys(probabilities, "mean"), "y_true": "first", "threshold": "first"}
        )
        rows = []
        for case in means.reset_index().to_dict("records"):
            p = [float(case[c]) for c in probabilities]
            label, called = int(case["y_true"]), int(p[1] >= case["threshold"])
            loss = -math.log(max(p[label], sys.float_info.min))
            shown = [*map(repr, p), repr(loss)]
            rows.append([text_cell(str(case["case_id"])), words[label], words[called], *shown])
        made[f"split-{fold}/patient-preds.csv"] = make_table(header, rows)
    return made


def _make_clam(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, str]:
    probabilities = [f"prob_{c}" for c in classes]
    header = ["slide_id", "Y", "Y_hat", *(f"p_{i}" for i in range(len(classes)))]
    made, summary = {}, []
    for fold, part in table.groupby("fold", sort=True):
        rows = [
            [text_cell(str(r["slide_id"])), str(r["y_true"]), str(r["y_pred"])]
            + [repr(float(r[c])) for c in probabilities]
            for _, r in part.sort_values("slide_id").iterrows()
        ]
        made[f"fold_{fold}.csv"] = make_table(header, rows)
        labels = part["y_true"].to_numpy(np.int64)
        score = auroc(labels, part[probabilities[1]].to_numpy(np.float64))
        accuracy = float((part["y_true"] == part["y_pred"]).mean())
        summary.append([str(fold), repr(float(score)), repr(accuracy)])
    made["summary.csv"] = make_table(["folds", "test_auc", "test_acc"], summary)
    return made
