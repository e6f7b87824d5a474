"""Site-preserved folds of the real cohort: how long they take, how even they are.

python benchmarks/site_folds.py --data ../shared/data/tcga-brca
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
from real_cohort import markdown

from momkd.data.folds import FoldOptions, make_splits
from momkd.types import Case, Cohort, SlideFile

_TASKS = ("HER2", "PR", "ER", "ODX85")


def cohort_of(table: Path, task: str) -> Cohort:
    """Give the cases with a slide and a label; nothing is read but the table."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r[task] and r["has_features"] == "1"]
    cases = tuple(
        Case(case_id=c, slide_ids=(c,), label=int(float(r[task])), site=r["site"])
        for r in rows
        for c in [r["case_id"]]
    )
    slides = {
        c.case_id: SlideFile(
            slide_id=c.case_id, path=Path(c.case_id), sha256=c.case_id, n_tiles=1, dim=1
        )
        for c in cases
    }
    return Cohort(task=task, class_names=("negative", "positive"), cases=cases, slides=slides)


def measure(cohort: Cohort, options: FoldOptions, seeds: int) -> dict[str, Any]:
    """Split with several seeds; give the worst of each figure."""
    site = {c.case_id: c.site for c in cohort.cases}
    label = {c.case_id: c.label for c in cohort.cases}
    total = np.bincount(list(label.values()))
    took_s, shares, positives, shared, apart, proved = [], [], [], 0, 0, 0
    for seed in range(seeds):
        start = time.process_time()
        splits = make_splits(cohort, options, seed)
        took_s.append(time.process_time() - start)
        proved += not splits.notes
        for fold in splits.folds:
            held = np.bincount([label[c] for c in fold.test], minlength=2)
            shares.append(held / total)
            positives.append(held[1] / held.sum())
            train, val, test = ({site[c] for c in s} for s in (fold.train, fold.val, fold.test))
            shared += len(test & (train | val))
            apart += not val & train
    off = 100 * np.abs(np.array(shares) - 1 / options.n).max()
    return {
        "label": cohort.task,
        "cases": len(label),
        "sites": len(set(site.values())),
        "sites on two sides": shared,
        "worst class share, points from 20 %": f"{off:.1f}",
        "positives of a side, %": f"{100 * min(positives):.1f} to {100 * max(positives):.1f}",
        "of all, %": f"{100 * total[1] / total.sum():.1f}",
        "validation by whole sites": f"{apart} of {len(shares)}",
        "proved best": f"{proved} of {seeds}",
        "CPU s a split, worst": f"{max(took_s):.1f}",
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tcga-brca"))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    options = FoldOptions(site_preserved=True)
    rows = [
        measure(cohort_of(given.data / "clinical.csv", task), options, given.seeds)
        for task in _TASKS
    ]
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
