"""What a fold's predictions look like as rows and columns, whoever made them."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from momkd.evaluation.calibration import Calibration
from momkd.training import Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided on validation, and whose word it is about."""

    model: str
    seed: int
    fold: int
    class_names: tuple[str, ...]
    calibration: Calibration
    threshold: float


def prediction_row(decision: Decision, scored: Scored, split: str) -> dict[str, Any]:
    """Give the row of one slide (or case) in ``predictions.csv``."""
    probabilities = decision.calibration.probabilities(scored.logits[None])[0]
    row: dict[str, Any] = {
        "case_id": scored.case_id,
        "slide_id": scored.slide_id,
        "fold": decision.fold,
        "split": split,
        "model": decision.model,
        "seed": decision.seed,
        "y_true": scored.label,
    }
    for name, p in zip(decision.class_names, probabilities, strict=True):
        row[f"prob_{name}"] = repr(float(p))
    row["y_pred"] = int(probabilities[1] >= decision.threshold)
    row["threshold"] = repr(float(decision.threshold))
    return row


def by_case(
    scored: Sequence[Scored], probabilities: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Average the probabilities of each case's slides: label and score belong to the case."""
    order = list(dict.fromkeys(s.case_id for s in scored))
    place = {c: i for i, c in enumerate(order)}
    owner = np.array([place[s.case_id] for s in scored])
    total = np.zeros((len(order), probabilities.shape[1]))
    np.add.at(total, owner, probabilities)
    labels = np.zeros(len(order), dtype=np.int64)
    labels[owner] = [s.label for s in scored]
    return order, labels, total / np.bincount(owner)[:, None]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV, columns in the order of their first appearance."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
