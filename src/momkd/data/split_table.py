"""A table of splits as somebody wrote it: read, converted to cases, and asked for its faults."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from momkd.errors import DataError, Problem, Problems
from momkd.types import Cohort, Fold

SIDES = ("train", "val", "test")
_COMPLETE = "complete the table, or set folds.allow_subset: true"


class _Row(NamedTuple):
    line: int
    seed: int
    fold: int
    name: str
    side: str
    cohort: str


class SplitTable:
    """Rows of ``seed, fold, case_id (or slide_id), split, cohort`` held against a cohort.

    The methods that look for faults yield a problem each and leave it to the caller which of them
    are refusals.

    Parameters
    ----------
    path
        A CSV file; ``seed`` (0 where absent) and ``cohort`` are optional columns.
    cohort
        The cohort whose cases are to be split.

    Raises
    ------
    DataError
        K13 not such a table; one problem a row at fault.
    """

    def __init__(self, path: Path, cohort: Cohort) -> None:
        self._where = str(path)
        self._cases = {c.case_id: c for c in cohort.cases}
        self._with_slide = sorted(c.case_id for c in cohort.cases if c.slide_ids)
        self._column, self._rows = _read_rows(path)
        self._owner = {s: c.case_id for c in cohort.cases for s in c.slide_ids}
        # (seed, fold) -> case -> side -> first line that puts it there
        self._placed: dict[tuple[int, int], dict[str, dict[str, int]]] = {}
        for row in self._rows:
            places = self._placed.setdefault((row.seed, row.fold), defaultdict(dict))
            places[self._case_of(row.name)].setdefault(row.side, row.line)

    def _case_of(self, name: str) -> str:
        return self._owner.get(name, name) if self._column == "slide_id" else name

    def on_two_sides(self) -> Iterator[Problem]:
        """Find cases on more than one side of a fold: K01, in a table of slides K11."""
        code = "K11" if self._column == "slide_id" else "K01"
        for (seed, fold), places in sorted(self._placed.items()):
            for case_id, lines in sorted(places.items()):
                if len(lines) > 1:
                    held = " and ".join(f"{side} (row {line})" for side, line in lines.items())
                    what = (
                        f"case {case_id} stands on two sides of fold {fold} (seed {seed}): {held}"
                    )
                    yield self._problem(code, what, "one side a case and fold", max(lines.values()))

    def of_another_cohort(self, cohort_digest: str) -> Iterator[Problem]:
        """Compare the digests in the table with this one: K10."""
        for row in self._rows:
            if row.cohort not in ("", cohort_digest):
                what = (
                    f"made for another cohort or version of it (digest {row.cohort[:12]}, "
                    f"now {cohort_digest[:12]}): cases, labels or slides differ"
                )
                remedy = "make new folds, or set folds.allow_subset: true"
                yield self._problem("K10", what, remedy, row.line)
                return

    def tested_twice(self) -> Iterator[Problem]:
        """Find cases on the test side of several folds of one seed: K02."""
        for seed, tested in self._tested().items():
            for case_id, folds in sorted(tested.items()):
                if len(folds) > 1:
                    held = ", ".join(str(f) for f in folds)
                    what = f"case {case_id} is tested in folds {held} of seed {seed}"
                    yield self._problem("K02", what, "test each case once a seed")

    def never_tested(self) -> Iterator[Problem]:
        """Find cases with a slide that the table names and no fold of a seed tests: K02."""
        for seed, tested in self._tested().items():
            named = {c for key, places in self._placed.items() if key[0] == seed for c in places}
            for case_id in self._with_slide:
                if case_id in named and case_id not in tested:
                    what = f"case {case_id} is never tested (seed {seed})"
                    remedy = "test each case once a seed, or set folds.allow_subset: true"
                    yield self._problem("K02", what, remedy)

    def unknown(self) -> Iterator[Problem]:
        """Find names that are not in the cohort, and cases without a slide held out: K09."""
        seen: set[str] = set()
        for row in self._rows:
            case = self._cases.get(self._case_of(row.name))
            if case is not None and (case.slide_ids or row.side == "train"):
                continue
            if row.name not in seen:
                why = "is not in the cohort" if case is None else "has no slide to score"
                what = f"{self._column.removesuffix('_id')} {row.name} {why}"
                yield self._problem("K09", what, _COMPLETE, row.line)
            seen.add(row.name)

    def missing(self) -> Iterator[Problem]:
        """Find cases with a slide that are absent from a fold: K09."""
        for case_id in self._with_slide:
            absent = [key for key, places in sorted(self._placed.items()) if case_id not in places]
            if absent:
                held = ", ".join(f"{fold} (seed {seed})" for seed, fold in absent)
                what = f"misses case {case_id} in fold {held}"
                yield self._problem("K09", what, _COMPLETE)

    def folds(self) -> tuple[Fold, ...]:
        """Give the folds, with every case that has no slide in training."""
        rna_only = set(self._cases) - set(self._with_slide)
        found = []
        for (seed, fold), places in sorted(self._placed.items()):
            sides: dict[str, set[str]] = {"train": set(rna_only), "val": set(), "test": set()}
            for case_id in places.keys() & set(self._with_slide):
                sides[next(iter(places[case_id]))].add(case_id)
            kept = {side: tuple(sorted(members)) for side, members in sides.items()}
            found.append(Fold(index=fold, seed=seed, **kept))
        return tuple(found)

    def _tested(self) -> dict[int, dict[str, list[int]]]:
        """Give the folds that test each case, seed by seed."""
        tested: dict[int, dict[str, list[int]]] = {}
        for (seed, fold), places in sorted(self._placed.items()):
            by_case = tested.setdefault(seed, defaultdict(list))
            for case_id, lines in places.items():
                if "test" in lines:
                    by_case[case_id].append(fold)
        return tested

    def _problem(self, code: str, what: str, remedy: str, line: int | None = None) -> Problem:
        return Problem(code=code, where=self._where, what=what, remedy=remedy, row=line)


def _read_rows(path: Path) -> tuple[str, tuple[_Row, ...]]:
    """Give the name of the id column, and the rows."""
    where = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = f"cannot be read: {error}"
        raise DataError.of("K13", where, what, "folds.file is a CSV table") from None
    column = next((c for c in ("case_id", "slide_id") if c in columns), None)
    if column is None or not {"fold", "split"} <= set(columns) or not lines:
        got = f"{len(lines)} rows of {', '.join(columns) or 'no column'}"
        what = f"got {got}, wanted rows of fold, split and case_id (or slide_id)"
        raise DataError.of("K13", where, what, "write one row a fold and case")
    problems = Problems()
    rows = []
    for line, raw in lines:
        cell = {c: (raw.get(c) or "").strip() for c in columns}
        faults = list(_faults(cell, column))
        for name, wanted in faults:
            got = cell[name]
            what = f"got {got!r}, wanted {wanted}"
            fault = Problem(code="K13", where=where, what=what, row=line, column=name, value=got)
            problems.add(fault)
        if not faults:
            seed, fold = int(cell.get("seed") or 0), int(cell["fold"])
            digest = cell.get("cohort", "")
            rows.append(_Row(line, seed, fold, cell[column], cell["split"], digest))
    problems.refuse(DataError)
    return column, tuple(rows)


def _faults(cell: dict[str, str], column: str) -> Iterator[tuple[str, str]]:
    """Give the columns of a row that cannot be used, and what was wanted there."""
    if not cell[column]:
        yield column, "an id"
    if cell["split"] not in SIDES:
        yield "split", f"one of {', '.join(SIDES)}"
    if not cell["fold"].isdecimal():
        yield "fold", "a whole number"
    if cell.get("seed") and not cell["seed"].isdecimal():
        yield "seed", "a whole number"
