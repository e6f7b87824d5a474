"""The flow of patients in figures: listed, left out by cause, used by class, and on which side.

Counts of what was listed, used and left out are those of ``run.json``; classes and sides are
counted from ``cohort.csv`` and ``folds.csv``, causes from ``dropped.csv``.
"""

import csv
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from momkd.reporting.flow_chart import LONGEST_LINE, Box, Flow
from momkd.reporting.words import short

KINDS = {"case": "patients (cases)", "slide": "slides", "rna": "RNA profiles"}
SIDES = {"train": "training", "val": "validation", "test": "test"}
_MOST_CAUSES = 12
_CAUSE_LINES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How many things of a kind were left out for one reason."""

    kind: str
    code: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCount:
    """Cases, slides and cases with RNA of a class on a side, least and most over all folds."""

    side: str
    class_name: str
    cases: tuple[int, int]
    slides: tuple[int, int]
    rna: tuple[int, int]


def read_left_out(path: Path) -> list[LeftOut]:
    """Count the rows of ``dropped.csv`` by kind, code and reason, the commonest first."""
    with path.open(encoding="utf-8", newline="") as stream:
        found = Counter((r["kind"], r["code"], r["reason"]) for r in csv.DictReader(stream))
    return [LeftOut(kind=k, code=c, reason=r, n=n) for (k, c, r), n in found.most_common()]


def read_cohort(path: Path) -> pd.DataFrame | None:
    """Read ``cohort.csv`` as text; None where there is none."""
    if not path.exists():
        return None
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def count_sides(path: Path, cohort: pd.DataFrame | None) -> list[SideCount]:
    """Count by class what ``folds.csv`` puts on each side; nothing where either is missing."""
    if cohort is None or not path.exists():
        return []
    folds = pd.read_csv(path, dtype=str, keep_default_na=False)
    has = cohort.assign(slides=cohort["slide_id"] != "", rna=cohort["rna_id"] != "")
    by_case = has.groupby("case_id").agg(
        {"class_name": "first", "label": "first", "slides": "sum", "rna": "max"}
    )
    by_case["rna"] = by_case["rna"].astype(int)
    classes = by_case.sort_values("label")["class_name"].unique()
    rows = folds.join(by_case, on="case_id", how="inner").assign(cases=1)
    every = pd.MultiIndex.from_product(
        [rows["seed"].unique(), rows["fold"].unique(), SIDES, classes],
        names=["seed", "fold", "split", "class_name"],
    )
    held = [tuple(one) for one in rows[["seed", "fold"]].drop_duplicates().to_numpy()]
    columns = ["cases", "slides", "rna"]
    sums = rows.groupby(["seed", "fold", "split", "class_name"])[columns].sum()
    sums = sums.reindex(every, fill_value=0)
    sums = sums[[tuple(key[:2]) in held for key in sums.index]]
    return [
        SideCount(side=side, class_name=name, **{k: _span(part[k]) for k in columns})
        for side in SIDES
        for name in classes
        for part in [sums.xs((side, name), level=("split", "class_name"))]
    ]


def participants_rows(counts: Sequence[SideCount]) -> list[dict[str, Any]]:
    """Give the table of participants by side and class."""
    return [
        {
            "side": SIDES[one.side],
            "class": one.class_name,
            "cases": say_span(one.cases),
            "slides": say_span(one.slides),
            "cases with RNA": say_span(one.rna),
        }
        for one in counts
    ]


def make_flow(
    counts: Sequence[Mapping[str, Any]],
    left: Sequence[LeftOut],
    cohort: pd.DataFrame | None,
    sides: Sequence[SideCount],
    n_folds: int,
) -> Flow | None:
    """Put the flow into boxes; None where ``run.json`` holds no counts."""
    number = {str(row["what"]): int(row["n"]) for row in counts}
    if not number:
        return None
    return Flow(
        listed=Box(title="Listed", lines=_numbers(number, "listed")),
        left_out=Box(title="Left out", lines=_causes(number, left)),
        used=Box(
            title="Used",
            lines=[*_numbers(number, "used"), *_classes(cohort), *_mix(number)],
        ),
        sides=[_side_box(side, sides, n_folds) for side in SIDES] if sides else [],
    )


def count_folds(manifest: Mapping[str, Any]) -> int:
    """Give the number of folds of a run, those of every seed."""
    return len({(row["seed"], row["fold"]) for row in manifest["folds"]})


def say_span(span: tuple[int, int]) -> str:
    """Write a least and a most, once where they are equal."""
    low, high = span
    return str(low) if low == high else f"{low} to {high}"


def _span(values: "pd.Series[int]") -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _numbers(number: Mapping[str, int], what: str) -> list[str]:
    return [f"{name}: {number.get(f'{kind}s {what}', 0)}" for kind, name in KINDS.items()]


def _causes(number: Mapping[str, int], left: Sequence[LeftOut]) -> list[str]:
    lines: list[str] = []
    shown = 0
    for kind, name in KINDS.items():
        of_kind = [one for one in left if one.kind == kind]
        lines.append(f"{name}: {number.get(f'{kind}s left out', 0)}")
        for one in of_kind[: max(0, _MOST_CAUSES - shown)]:
            text = f"{one.n} x [{one.code}] {' '.join(short(one.reason, 200).split())}"
            folded = textwrap.wrap(text, LONGEST_LINE - 4, break_long_words=True)
            if len(folded) > _CAUSE_LINES:
                folded = [*folded[: _CAUSE_LINES - 1], f"{folded[_CAUSE_LINES - 1][:-1]}…"]
            lines += [f"  {folded[0]}", *(f"    {rest}" for rest in folded[1:])]
            shown += 1
    rest = len([one for one in left if one.kind in KINDS]) - shown
    return [*lines, f"{rest} further causes, in dropped.csv"] if rest > 0 else lines


def _classes(cohort: pd.DataFrame | None) -> list[str]:
    if cohort is None:
        return []
    lines = []
    for (_, name), part in cohort.groupby(["label", "class_name"]):
        n_cases, n_slides = part["case_id"].nunique(), int((part["slide_id"] != "").sum())
        lines.append(f"{short(str(name), 18)}: {n_cases} cases, {n_slides} slides")
    return lines


def _mix(number: Mapping[str, int]) -> list[str]:
    found = {k.removeprefix("cases with "): n for k, n in number.items() if "cases with " in k}
    return [f"  with {what}: {n}" for what, n in found.items()]


def _side_box(side: str, sides: Sequence[SideCount], n_folds: int) -> Box:
    lines = [f"of each of {n_folds} folds"]
    for one in sides:
        if one.side == side:
            counts = f"{say_span(one.cases)} cases, {say_span(one.slides)} slides"
            lines += [f"{short(one.class_name, 30)}:", f"  {counts}"]
    return Box(title=SIDES[side].capitalize(), lines=lines)
