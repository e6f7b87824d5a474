"""What a training of the benchmarks leaves, without the training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd


def leave_tables(job: Any, work: Path, score: Mapping[str, float]) -> None:
    """Write the tables of a job: the score of each case, and what was looked at and kept."""
    rows = [{"case_id": case, "prob_positive": p} for case, p in score.items()]
    pd.DataFrame(rows).to_csv(job.table(work, "done"), index=False)
    niche = {"auprc": 0.3, "by_chance": 0.2, "share": 0.1, "auroc": 0.6}
    pd.DataFrame([niche]).to_csv(job.table(work, "attention"), index=False)
    kept = {"what": "slide vector", "first": 0.5, "second": 0.1}
    kept |= {"first_high_by_chance": 0.2, "second_high_by_chance": 0.2}
    pd.DataFrame([kept]).to_csv(job.table(work, "morphology"), index=False)
