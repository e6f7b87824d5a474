"""Print what each receptor rule makes of the GDC table, and how it agrees with published labels.

    python benchmarks/receptor_labels.py --data ../shared/data

``--data`` holds ``gdc-clinical``, ``tcga-brca`` and ``published-predictions``. The figures of
docs/labels.md come from here.
"""

import argparse
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from momkd.data.receptor_status import RULES
from momkd.data.receptor_table import ReceptorCase, read_receptors
from momkd.workflows.tables import make_table

_TABLE = "gdc-clinical/nationwidechildrens.org_clinical_patient_brca.txt.gz"
_PUBLISHED = (
    ("MoMKD", "HER2", 141, 668),
    ("MoMKD", "PR", 649, 351),
    ("SlideGraph thread", "HER2", 172, 700),
    ("SlideGraph thread", "HER2", 131, 451),
    ("SlideGraph thread", "HER2", 101, 608),
)


def count(
    cases: Mapping[str, ReceptorCase], ids: Collection[str], receptor: str, rule: str
) -> tuple[int, int]:
    """Count positive and negative cases among ``ids``."""
    found = Counter(cases[i].judge(receptor, rule).label for i in ids)
    return found["positive"], found["negative"]


def closest(
    cases: Mapping[str, ReceptorCase], cohorts: Mapping[str, Collection[str]]
) -> list[dict[str, Any]]:
    """Give, for each published pair of counts, the rule and cohort that come nearest."""
    rows = []
    for work, receptor, positive, negative in _PUBLISHED:
        tried = [
            (abs(p - positive) + abs(n - negative), rule, name, f"{p}/{n}")
            for name, ids in cohorts.items()
            for rule in RULES
            for p, n in (count(cases, ids, receptor, rule),)
        ]
        distance, rule, name, found = min(tried)
        published = f"{positive}/{negative}"
        rows.append(
            {
                "work": work,
                "label": receptor,
                "published": published,
                "nearest": found,
                "rule": rule,
                "cases": name,
                "apart": distance,
            }
        )
    return rows


def agreement(
    cases: Mapping[str, ReceptorCase], published: pd.DataFrame, receptor: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compare the default rule with published labels; give the disagreements by reason."""
    both, equal, ours_only, theirs_only = 0, 0, 0, 0
    causes: Counter[tuple[str, str]] = Counter()
    for case_id, value in published[receptor].items():
        ruling = cases[str(case_id)].judge(receptor, "asco-cap")
        theirs = {"1.0": "positive", "0.0": "negative"}.get(value)
        both += theirs is not None and ruling.label is not None
        equal += theirs is not None and theirs == ruling.label
        ours_only += theirs is None and ruling.label is not None
        theirs_only += theirs is not None and ruling.label is None
        if theirs is not None and ruling.label is not None and theirs != ruling.label:
            causes[ruling.label, ruling.reason] += 1
    row = {"label": receptor, "both known": both, "agree": equal, "share": equal / both}
    row |= {"known to us only": ours_only, "to them only": theirs_only}
    listed = [
        {"ours": label, "because": reason, "theirs differ in": n}
        for (label, reason), n in sorted(causes.items(), key=lambda item: (-item[1], item[0]))
    ]
    return row, listed


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    cases = {c.case_id: c for c in read_receptors(data / _TABLE).cases}
    cohort = pd.read_csv(
        data / "tcga-brca" / "clinical.csv", dtype=str, keep_default_na=False
    ).set_index("case_id")
    slides = pd.read_csv(
        data / "published-predictions" / "tcga_brca_CTransPath_CLAM.csv", dtype=str
    )
    cohorts = {
        "all": list(cases),
        "with published slide predictions": list(slides["Patient ID"]),
        "shared cohort": list(cohort.index),
    }
    rows = []
    for rule in RULES:
        row: dict[str, Any] = {"rule": rule}
        for name, ids in cohorts.items():
            for receptor in ("HER2", "PR", "ER"):
                positive, negative = count(cases, ids, receptor, rule)
                row[f"{receptor}, {name} ({len(ids)})"] = f"{positive}/{negative}"
        rows.append(row)
    for name, ids in cohorts.items():
        print(f"\npositive/negative, {name}: {len(ids)} cases")
        tail = f", {name} ({len(ids)})"
        kept = [
            {k.removesuffix(tail): v for k, v in r.items() if k == "rule" or k.endswith(tail)}
            for r in rows
        ]
        print(make_table(kept))
    print("\npublished counts, and the rule and cases that come nearest")
    print(make_table(closest(cases, cohorts)))
    compared = {r: agreement(cases, cohort, r) for r in ("HER2", "PR", "ER")}
    print("\nasco-cap against the labels of the shared cohort")
    print(make_table([row for row, _ in compared.values()]))
    print("\nwhere HER2 differs")
    print(make_table(compared["HER2"][1]))


if __name__ == "__main__":
    main()
