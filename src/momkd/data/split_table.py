"""A table of splits as somebody wrote it: read, converted to cases, and asked for its faults."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from momkd.data.barcodes import case_of
from momkd.data.conventions.splits import read_any_splits
from momkd.data.conventions.study import SIDES, GivenSplit, SplitRow
from momkd.data.layouts.material import slide_id_of
from momkd.errors import Problem
from momkd.types import Cohort, Fold

__all__ = ["SIDES", "SplitTable"]

_COMPLETE = "complete the table, or set folds.allow_subset: true"


class SplitTable:
    """Who stands on which side of which fold, held against a cohort.

    The methods that look for faults yield a problem each and leave it to the caller which of them
    are refusals.

    Parameters
    ----------
    path
        Splits in any form that :func:`momkd.data.conventions.splits.read_any_splits` knows.
    cohort
        The cohort whose cases are to be split.

    Raises
    ------
    DataError
        K13 no such table; one problem a row at fault.

    Notes
    -----
    Splits of other tools whose test sides overlap (CLAM, Patho-Bench draw each fold anew) are
    repeats, not folds: each then has a seed of its own, the number of its split.
    """

    def __init__(self, path: Path, cohort: Cohort) -> None:
        self._where = str(path)
        self._cases = {c.case_id: c for c in cohort.cases}
        self._with_slide = sorted(c.case_id for c in cohort.cases if c.slide_ids)
        self._owner = {s: c.case_id for c in cohort.cases for s in c.slide_ids}
        splits = read_any_splits(path)
        rows = splits.rows
        self._place(rows)
        self.repeated = splits.foreign and any(self.tested_twice())
        if self.repeated:
            self._place(tuple(r._replace(seed=r.fold, fold=0) for r in rows))

    def _place(self, rows: tuple[SplitRow, ...]) -> None:
        self._rows = rows
        # (seed, fold) -> case -> side -> first row that puts it there
        self._placed: dict[tuple[int, int], dict[str, dict[str, SplitRow]]] = {}
        for row in rows:
            places = self._placed.setdefault((row.seed, row.fold), defaultdict(dict))
            places[self._case_of(row)].setdefault(row.side, row)

    def _slide_owner(self, row: SplitRow) -> str | None:
        """Give the case of the slide that a row names, where the cohort has that slide."""
        if row.by_slide is False or row.name in self._cases:
            return None
        # pandas turns numeric ids into 12.0 where a column is padded with blanks
        names = (row.name, slide_id_of(Path(row.name)), row.name.removesuffix(".0"))
        return next((self._owner[n] for n in names if n in self._owner), None)

    def _case_of(self, row: SplitRow) -> str:
        owner = self._slide_owner(row)
        if owner is not None:
            return owner
        names = (row.name, case_of(row.name), row.name.removesuffix(".0"))
        return next((n for n in names if n in self._cases), row.name)

    def on_two_sides(self) -> Iterator[Problem]:
        """Find cases on more than one side of a fold: K01, in a table of slides K11."""
        for (seed, fold), places in sorted(self._placed.items()):
            for case_id, rows in sorted(places.items()):
                if len(rows) > 1:
                    slides = any(self._is_slide(row) for row in rows.values())
                    held = " and ".join(f"{side} (row {r.line})" for side, r in rows.items())
                    what = (
                        f"case {case_id} stands on two sides of fold {fold} (seed {seed}): {held}"
                    )
                    last = max(rows.values(), key=lambda r: r.line)
                    code = "K11" if slides else "K01"
                    yield self._problem(code, what, "one side a case and fold", last)

    def _is_slide(self, row: SplitRow) -> bool:
        """Say whether a row speaks of a slide: said by its table, or told by the name."""
        if row.by_slide is not None:
            return row.by_slide
        return self._case_of(row) not in (row.name, row.name.removesuffix(".0"))

    def of_another_cohort(self, cohort_digest: str) -> Iterator[Problem]:
        """Compare the digests in the table with this one: K10."""
        for row in self._rows:
            if row.cohort not in ("", cohort_digest):
                what = (
                    f"made for another cohort or version of it (digest {row.cohort[:12]}, "
                    f"now {cohort_digest[:12]}): cases, labels or slides differ"
                )
                remedy = "make new folds, or set folds.allow_subset: true"
                yield self._problem("K10", what, remedy, row)
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
        """Find cases with a slide that the table names and no fold of a seed tests: K02.

        Not asked of repeats, which test a part each.
        """
        if self.repeated:
            return
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
            case = self._cases.get(self._case_of(row))
            # the case of a slide that is not in the cohort may be there with another slide
            known = case is not None and (
                row.name in self._cases or not self._is_slide(row) or bool(self._slide_owner(row))
            )
            if known and case is not None and (case.slide_ids or row.side == "train"):
                continue
            if row.name not in seen:
                why = "has no slide to score" if known else "is not in the cohort"
                kind = "slide" if self._is_slide(row) else "case"
                yield self._problem("K09", f"{kind} {row.name} {why}", _COMPLETE, row)
            seen.add(row.name)

    def missing(self) -> Iterator[Problem]:
        """Find cases with a slide that are absent from a fold: K09."""
        for case_id in self._with_slide:
            absent = [key for key, places in sorted(self._placed.items()) if case_id not in places]
            if absent:
                held = ", ".join(f"{fold} (seed {seed})" for seed, fold in absent)
                what = f"misses case {case_id} in fold {held}"
                yield self._problem("K09", what, _COMPLETE)

    def folds(self, val_fraction: float = 0.1) -> tuple[Fold, ...]:
        """Give the folds, with every case that has no slide in training.

        A fold without a validation side gets one from its training cases: ``val_fraction`` of all
        that it holds, class by class, drawn from the number and the seed of the fold.
        """
        rna_only = set(self._cases) - set(self._with_slide)
        found = []
        for (seed, fold), sides in self._sides().items():
            if not sides["val"]:
                sides["val"] = self._draw_validation(sides, val_fraction, (seed, fold))
                sides["train"] -= sides["val"]
            sides["train"] |= rna_only
            kept = {side: tuple(sorted(members)) for side, members in sides.items()}
            found.append(Fold(index=fold, seed=seed, **kept))
        return tuple(found)

    def given(self) -> tuple[GivenSplit, ...]:
        """Give the splits by case as the table has them, no validation side drawn."""
        return tuple(
            GivenSplit(index=i, **{side: tuple(sorted(members)) for side, members in sides.items()})
            for i, sides in enumerate(self._sides().values())
        )

    def _sides(self) -> dict[tuple[int, int], dict[str, set[str]]]:
        found = {}
        for key, places in sorted(self._placed.items()):
            sides: dict[str, set[str]] = {side: set() for side in SIDES}
            for case_id in places.keys() & set(self._with_slide):
                sides[next(iter(places[case_id]))].add(case_id)
            found[key] = sides
        return found

    def _draw_validation(
        self, sides: Mapping[str, set[str]], val_fraction: float, key: tuple[int, int]
    ) -> set[str]:
        rng = np.random.default_rng([*key, len(self._cases)])
        by_label: dict[int, list[str]] = defaultdict(list)
        for case_id in sorted(sides["train"]):
            by_label[self._cases[case_id].label].append(case_id)
        n_all = {
            g: sum(self._cases[c].label == g for s in sides.values() for c in s) for g in by_label
        }
        drawn: set[str] = set()
        for label, members in sorted(by_label.items()):
            n_val = min(max(1, round(val_fraction * n_all[label])), len(members) - 1)
            drawn.update(members[i] for i in rng.permutation(len(members))[:n_val])
        return drawn

    def _tested(self) -> dict[int, dict[str, list[int]]]:
        """Give the folds that test each case, seed by seed."""
        tested: dict[int, dict[str, list[int]]] = {}
        for (seed, fold), places in sorted(self._placed.items()):
            by_case = tested.setdefault(seed, defaultdict(list))
            for case_id, rows in places.items():
                if "test" in rows:
                    by_case[case_id].append(fold)
        return tested

    def _problem(self, code: str, what: str, remedy: str, row: SplitRow | None = None) -> Problem:
        if row is None:
            return Problem(code=code, where=self._where, what=what, remedy=remedy)
        return Problem(code=code, where=str(row.path), what=what, remedy=remedy, row=row.line)
