"""The part of a report about training: what each fit did, epoch by epoch, and the memory in it."""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from momkd.errors import DataError
from momkd.reporting.charts import Axis, Line, draw_lines
from momkd.reporting.page import Bounded, Chart, Charts, Heading, Part, Row, Section, Table, Words
from momkd.workflows.report_slots import read_slots, tables_of_slots

MOST_FITS = 60
_SMALL = {"width": 270, "height": 200}
_CURVES = {
    "loss": "training loss (no unit)",
    "val_loss": "validation loss (nats)",
    "val_auroc": "validation AUROC",
}
_MEMORY = {
    "active_ratio": "share of slots in use",
    "perplexity": "perplexity (slots)",
}
_ENDS = {
    "patience": "no better on validation for a while",
    "epochs": "all epochs done",
    "nothing to train": "nothing to train by epochs",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """One training as it left its folder: the columns of its history, and how it ended.

    ``slots`` are those of its predictor, (class, slot, dimension), if it has a memory.
    """

    model: str
    name: str
    history: Mapping[str, Sequence[float]]
    best_epoch: int | None
    stop_reason: str
    has_panel: bool
    slots: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainings:
    """The finished trainings of a run, those not done, and what could not be read."""

    fits: Sequence[Fit]
    open_jobs: Sequence[str]
    unreadable: Sequence[str]

    @property
    def n_jobs(self) -> int:
        """How many trainings the run consists of."""
        return len(self.fits) + len(self.open_jobs)

    def n_open(self) -> Mapping[str, int]:
        """Count what is not done, by model."""
        return Counter(job.split("/")[0] for job in self.open_jobs)


def read_trainings(run: Path, jobs: Sequence[str]) -> Trainings:
    """Read what the trainings of a run left behind.

    Raises
    ------
    DataError
        P13 ``run.json`` names a training outside the run folder.
    """
    fits: list[Fit] = []
    still: list[str] = []
    unreadable: list[str] = []
    root = run.resolve()
    for job in jobs:
        folder = run / job
        if not folder.resolve().is_relative_to(root):
            what = f"names a training outside the run: {job!r}"
            raise DataError.of("P13", str(run / "run.json"), what, "mend run.json")
        if not (folder / "done.json").exists():
            still.append(job)
            continue
        try:
            fits.append(_read_fit(folder, job))
        except (ValueError, OSError) as error:
            unreadable.append(f"{job}: {error}")
            fits.append(_unknown(job))
    return Trainings(fits=fits, open_jobs=still, unreadable=unreadable)


def training_section(trainings: Trainings, models: Sequence[str]) -> Section | None:
    """Draw loss and validation AUROC by epoch, and tell how trainings ended."""
    by_model = {name: [f for f in trainings.fits if f.model == name] for name in models}
    by_model = {name: fits for name, fits in by_model.items() if fits}
    if not by_model:
        return None
    parts: list[Part] = [
        Table(
            caption="How trainings ended; the epoch kept is the best on validation, from 0",
            rows=[_ended(name, fits) for name, fits in by_model.items()],
        )
    ]
    if trainings.unreadable:
        parts.append(Words(lines=trainings.unreadable, is_list=True, warns=True))
    shown = 0
    for name, fits in by_model.items():
        charts = [
            _by_epoch(fits, key, label, name)
            for key, label in _CURVES.items()
            if any(len(f.history.get(key, ())) > 1 for f in fits)
        ]
        if charts:
            folded = f"Training curves of {name}" if shown else ""
            parts += [] if folded else [Heading(text=f"Training curves of {name}")]
            parts.append(Charts(charts=charts, folded=folded))
            shown += 1
    return Section(title="Training", parts=parts)


def memory_section(trainings: Trainings, class_names: Sequence[str]) -> Section | None:
    """Draw how the memory of each model that has one was used; None where none has."""
    parts: list[Part] = []
    for name in dict.fromkeys(f.model for f in trainings.fits):
        fits = [f for f in trainings.fits if f.model == name and "perplexity_0" in f.history]
        if not fits:
            continue
        charts = [_memory_chart(fits, key, label, class_names) for key, label in _MEMORY.items()]
        charts.append(_by_epoch(fits, "cos_class_means", "cosine between class means", name))
        parts += [
            Heading(text=f"Memory of {name}"),
            Charts(charts=charts, legend=[(c, look) for look, c in enumerate(class_names)]),
            Table(
                caption=f"Memory of {name} at the epoch kept, median (least to most) over "
                f"{len(fits)} trainings; revived: slots started anew in the whole training",
                rows=[_memory_row(fits, i, c) for i, c in enumerate(class_names)],
            ),
            *tables_of_slots([(f.name, f.slots) for f in fits if f.slots is not None], class_names),
        ]
    if not parts:
        return None
    about = (
        "The memory holds learnt patterns (slots) of each class. A slot is in use with at least a "
        "tenth of an even share of what is assigned to its class; perplexity is how many slots "
        "would be used if all were used evenly. Both fall and rise in sound trainings too: they "
        "describe the memory and are no measure of quality."
    )
    return Section(title="Memory", parts=[Words(lines=[about]), *parts])


def _read_fit(folder: Path, job: str) -> Fit:
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    if not hasattr(done, "get"):
        raise ValueError("done.json holds no mapping")
    path = folder / "history.csv"
    best = done.get("best_epoch")
    return Fit(
        model=job.split("/")[0],
        name=job,
        history=_read_history(path) if path.exists() else {},
        best_epoch=None if best is None else int(best),
        stop_reason=str(done.get("stop_reason", "")),
        has_panel=(folder / "panel.json").exists(),
        slots=read_slots(folder / "predictor" / "model.safetensors"),
    )


def _read_history(path: Path) -> dict[str, list[float]]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    columns: dict[str, list[float]] = {str(name): [] for name in reader.fieldnames or ()}
    for line, row in enumerate(rows, start=2):
        for name, values in columns.items():
            cell = row.get(name) or "nan"
            try:
                values.append(float(cell))
            except ValueError:
                what = f"history.csv row {line} column {name}: got {cell!r}, wanted a number"
                raise ValueError(what) from None
    return columns


def _unknown(job: str) -> Fit:
    return Fit(
        model=job.split("/")[0],
        name=job,
        history={},
        best_epoch=None,
        stop_reason="unreadable",
        has_panel=False,
    )


def _ended(name: str, fits: Sequence[Fit]) -> Row:
    epochs = [float(len(f.history["epoch"])) for f in fits if "epoch" in f.history]
    kept = [float(f.best_epoch) for f in fits if f.best_epoch is not None]
    reasons = Counter(_ENDS.get(f.stop_reason, f.stop_reason or "no epochs") for f in fits)
    return {
        "model": name,
        "trainings": len(fits),
        "epochs, median (least to most)": _median(epochs, ".0f"),
        "epoch kept, median (least to most)": _median(kept, ".0f"),
        "ended by": ", ".join(f"{n} {reason}" for reason, n in reasons.most_common()),
    }


def _median(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{np.median(values):{form}} ({low:{form}} to {high:{form}})"


def _by_epoch(fits: Sequence[Fit], key: str, label: str, model: str) -> Chart:
    """Draw one column of every training by epoch; the epoch kept is a dot."""
    chosen = [f for f in _some(fits) if key in f.history]
    lines = []
    for fit in chosen:
        epochs, values = list(fit.history["epoch"]), list(fit.history[key])
        lines.append(Line(x=epochs, y=values, look=0, weight="faint"))
        kept = [(e, v) for e, v in zip(epochs, values, strict=True) if e == fit.best_epoch]
        if kept:
            (x, y), *_ = kept
            lines.append(Line(x=[x], y=[y], look=0, marked=True))
    told = [f.history[key] for f in chosen]
    first = _finite(v[0] for v in told if len(v))
    last = _finite(v[-1] for v in told if len(v))
    alt = f"{label} of {model} by epoch, {len(chosen)} trainings"
    if first and last:
        alt += f": median {np.median(first):.3f} at the first, {np.median(last):.3f} at the last"
    return Chart(
        svg=draw_lines(lines, x=_epochs(chosen), y=_axis(label, told), alt=alt, **_SMALL),
        caption=f"{label[:1].upper()}{label[1:]}{_said(fits)}, a line a training; dot: epoch kept.",
    )


def _memory_chart(fits: Sequence[Fit], key: str, label: str, class_names: Sequence[str]) -> Chart:
    chosen = _some(fits)
    lines: list[Line] = []
    told: list[Sequence[float]] = []
    ends = []
    for look, name in enumerate(class_names):
        columns = [f.history.get(f"{key}_{look}", ()) for f in chosen]
        for fit, values in zip(chosen, columns, strict=True):
            if len(values):
                line = Line(x=fit.history["epoch"], y=values, look=look, weight="faint")
                lines.append(line)
        told += columns
        last = _finite(v[-1] for v in columns if len(v))
        if last:
            ends.append(f"{name} {np.median(last):.2f}")
    alt = f"{label} by epoch, medians at the last epoch: " + ", ".join(ends)
    return Chart(
        svg=draw_lines(
            lines, x=_epochs(chosen), y=_axis(label, told, start=0.0), alt=alt, **_SMALL
        ),
        caption=f"{label[:1].upper()}{label[1:]}{_said(fits)}, a line a training and class.",
    )


def _memory_row(fits: Sequence[Fit], label: int, name: str) -> Row:
    row: dict[str, Any] = {"class": name}
    for key, heading in _MEMORY.items():
        values = [_kept(f, f"{key}_{label}") for f in fits]
        known = _finite(values)
        row[heading] = (
            Bounded(value=float(np.median(known)), low=min(known), high=max(known))
            if known
            else None
        )
    revived = [sum(_finite(f.history.get(f"revived_{label}", ()))) for f in fits]
    row["slots revived"] = _median(revived, ".0f")
    return row


def _kept(fit: Fit, key: str) -> float:
    """Give a column's value at the epoch that was kept."""
    for epoch, value in zip(fit.history["epoch"], fit.history.get(key, ()), strict=False):
        if epoch == fit.best_epoch:
            return value
    return math.nan


def _some(fits: Sequence[Fit]) -> list[Fit]:
    """Leave at most so many trainings as a chart can show, evenly over all of them."""
    if len(fits) <= MOST_FITS:
        return list(fits)
    return [fits[round(i * (len(fits) - 1) / (MOST_FITS - 1))] for i in range(MOST_FITS)]


def _said(fits: Sequence[Fit]) -> str:
    return f" ({MOST_FITS} of {len(fits)} trainings)" if len(fits) > MOST_FITS else ""


def _epochs(fits: Sequence[Fit]) -> Axis:
    last = max((max(_finite(f.history["epoch"]), default=0.0) for f in fits), default=0.0)
    return Axis(label="epoch, from 0", low=0.0, high=max(1.0, last))


def _axis(label: str, told: Sequence[Sequence[float]], start: float | None = None) -> Axis:
    return Axis.around(label, [v for values in told for v in values], start=start)


def _finite(values: Any) -> list[float]:
    return [float(v) for v in values if math.isfinite(v)]
