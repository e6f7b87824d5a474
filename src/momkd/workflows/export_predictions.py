"""``momkd export predictions``: a run's test predictions in the tables of another tool."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from momkd.data.conventions.study import write_table
from momkd.errors import ConfigError, DataError
from momkd.evaluation.metrics import auroc
from momkd.storage import write_text
from momkd.workflows.export_tables import ExportReport
from momkd.workflows.run_folder import read_predictions, read_run

CONVENTIONS = ("stamp", "clam")


def export_predictions(run: Path | str, output: Path | str, *, convention: str) -> ExportReport:
    """Write test predictions as STAMP's ``patient-preds.csv`` or CLAM's ``fold_i.csv``.

    With several models or seeds, each has a folder ``<model>/seed-<seed>`` of its own. STAMP:
    ``split-i/patient-preds.csv`` with ``PATIENT, <label>, pred, <label>_<class>..., loss``, a row a
    case, the mean of its slides. CLAM: ``fold_i.csv`` with ``slide_id, Y, Y_hat, p_0, p_1`` and
    ``summary.csv``. ``pred`` and ``Y_hat`` are cut at the threshold of the fold, chosen on
    validation, where these tools take the larger probability.

    Raises
    ------
    ConfigError
        G16 no such convention.
    DataError
        P13, P14 no run or no test predictions.
    """
    if convention not in CONVENTIONS:
        what = f"got {convention!r}, wanted one of {', '.join(CONVENTIONS)}"
        raise ConfigError.of("G16", "--as", what, "see docs/formats.md")
    folder, source = Path(output), Path(run)
    manifest = read_run(source)
    table = read_predictions(source)
    table = table[table["split"] == "test"]
    if table.empty:
        what = "holds no test predictions: momkd train leaves no case to score"
        raise DataError.of("P14", str(source), what, "give a momkd crossval")
    classes, task = list(manifest["class_names"]), str(manifest["task"])
    groups = list(table.groupby(["model", "seed"], sort=True))
    written: list[Path] = []
    for (model, seed), part in groups:
        place = folder / str(model) / f"seed-{seed}" if len(groups) > 1 else folder
        if convention == "stamp":
            written += _write_stamp(place, part, task, classes)
        else:
            written += _write_clam(place, part, classes)
    notes = tuple(str(n) for n in manifest.get("target_notes", ()))
    if notes:
        write_text(folder / "NOTES.txt", "\n".join(notes) + "\n")
    return ExportReport(folder=folder, files=tuple(written), notes=notes)


def _write_stamp(
    folder: Path, table: pd.DataFrame, task: str, classes: Sequence[str]
) -> list[Path]:
    probabilities = [f"prob_{c}" for c in classes]
    header = ["PATIENT", task, "pred", *(f"{task}_{c}" for c in classes), "loss"]
    written = []
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
            rows.append([str(case["case_id"]), classes[label], classes[called], *shown])
        written.append(write_table(folder / f"split-{fold}" / "patient-preds.csv", header, rows))
    return written


def _write_clam(folder: Path, table: pd.DataFrame, classes: Sequence[str]) -> list[Path]:
    probabilities = [f"prob_{c}" for c in classes]
    header = ["slide_id", "Y", "Y_hat", *(f"p_{i}" for i in range(len(classes)))]
    written, summary = [], []
    for fold, part in table.groupby("fold", sort=True):
        rows = [
            [str(r["slide_id"]), str(r["y_true"]), str(r["y_pred"])]
            + [repr(float(r[c])) for c in probabilities]
            for _, r in part.sort_values("slide_id").iterrows()
        ]
        written.append(write_table(folder / f"fold_{fold}.csv", header, rows))
        labels = part["y_true"].to_numpy(np.int64)
        score = auroc(labels, part[probabilities[1]].to_numpy(np.float64))
        accuracy = float((part["y_true"] == part["y_pred"]).mean())
        summary.append([str(fold), repr(float(score)), repr(accuracy)])
    written.append(write_table(folder / "summary.csv", ["folds", "test_auc", "test_acc"], summary))
    return written
