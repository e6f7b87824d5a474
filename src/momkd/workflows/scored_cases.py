"""Long-form predictions brought to the case, where label and score belong."""

import numpy as np
import pandas as pd

from momkd.evaluation.summary import FoldScores

_KEYS = ["model", "seed", "fold", "case_id"]


def average_slides(table: pd.DataFrame) -> pd.DataFrame:
    """Average a case's slides as probabilities, on the test side only.

    Returns
    -------
    pandas.DataFrame
        ``model, seed, fold, case_id, y_true, probability`` of the positive class, ``threshold``.
    """
    if "split" in table.columns:
        table = table[table["split"] == "test"]
    positive = [c for c in table.columns if c.startswith("prob_")][1]
    table = table.rename(columns={positive: "probability"})
    columns = {"y_true": "first", "probability": "mean", "threshold": "first"}
    return table.groupby(_KEYS, sort=False).agg(columns).reset_index()


def fold_scores(cases: pd.DataFrame) -> list[FoldScores]:
    """Give one :class:`FoldScores` a seed and fold, of one model's cases."""
    return [scores_of(part) for _, part in cases.groupby(["seed", "fold"], sort=True)]


def scores_of(part: pd.DataFrame) -> FoldScores:
    """Give the scores of rows that belong together."""
    return FoldScores(
        seed=int(part["seed"].iloc[0]),
        fold=int(part["fold"].iloc[0]),
        case_ids=tuple(part["case_id"]),
        labels=part["y_true"].to_numpy(np.int64),
        probabilities=part["probability"].to_numpy(np.float64),
        threshold=float(part["threshold"].iloc[0]),
    )
