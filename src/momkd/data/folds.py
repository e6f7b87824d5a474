"""Splits of a cohort into training, validation and test: by case, stratified, repeatable.

Ours are made from the case ids, the labels, a seed and, where sites are to be kept together, the
sites. A table made elsewhere passes the same checks: no case on two sides, each tested once, both
classes on each side.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from momkd.data.fold_options import FoldOptions
from momkd.data.site_folds import (
    deal_sites,
    group_sites,
    hold_out_sites,
    keep_sites_apart,
    require_sites_apart,
)
from momkd.data.split_table import SIDES, SplitTable
from momkd.errors import DataError, IntegrityError, Problem, Problems
from momkd.storage import write_text
from momkd.types import Cohort, Fold

__all__ = [
    "FoldOptions",
    "Splits",
    "hold_out",
    "make_folds",
    "make_splits",
    "read_folds",
    "require_no_twins",
    "write_folds",
]

_COLUMNS = ("seed", "fold", "case_id", "split", "cohort")


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Folds, and what was said while they were made."""

    folds: tuple[Fold, ...]
    notes: tuple[str, ...] = ()


def make_folds(cohort: Cohort, options: FoldOptions, seed: int) -> tuple[Fold, ...]:
    """Give the folds of :func:`make_splits`."""
    return make_splits(cohort, options, seed).folds


def make_splits(cohort: Cohort, options: FoldOptions, seed: int) -> Splits:
    """Split a cohort into folds, stratified by label.

    Each class is dealt evenly over the test sides (counts differ by one case at most, or as little
    as whole sites allow), and gives its share of the validation side. Cases without a slide train
    in every fold; where sites are kept together, not in those that hold their site out. The order
    of rows in the cohort plays no part.

    Raises
    ------
    DataError
        K03 fewer cases of a class than folds, K04 too few to stand on all three sides; with sites
        kept together K06 sites too large, too small or too few, K14 cases without a site.
    IntegrityError
        K12 one slide file under two cases.
    """
    require_no_twins(cohort)
    groups = _by_label(cohort)
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    if options.scheme == "leave_one_site_out":
        refuse = options.small_sites == "refuse"
        named = group_sites(cohort, min_cases=options.min_site_cases, refuse_small=refuse)
        tests = [members for _, members in named]
        notes.append("folds test, in their order: " + ", ".join(name for name, _ in named))
    else:
        _require_enough(cohort, groups, options.n)
        if options.site_preserved:
            tests, notes = deal_sites(cohort, options.n, rng)
        else:
            tests = _deal(groups, options.n, rng)
    folds = tuple(
        _complete(cohort, groups, options, rng, Fold(index=i, seed=seed, train=(), val=(), test=t))
        for i, t in enumerate(tests)
    )
    return Splits(folds=folds, notes=tuple(notes))


def hold_out(cohort: Cohort, options: FoldOptions, seed: int) -> Fold:
    """Hold ``val_fraction`` of the cases with a slide out for decisions; test nobody.

    Raises
    ------
    DataError
        K04 a class with fewer than two cases.
    IntegrityError
        K12 one slide file under two cases.
    """
    require_no_twins(cohort)
    groups = _by_label(cohort)
    _require_enough(cohort, groups, n=1)
    start = Fold(index=0, seed=seed, train=(), val=(), test=())
    return _complete(cohort, groups, options, np.random.default_rng(seed), start)


def require_no_twins(cohort: Cohort) -> None:
    """Make sure that no two cases hold the same slide, told by the bytes of its file.

    Raises
    ------
    IntegrityError
        K12, one problem a pair: one of the two could stand in training, the other in test.
    """
    first: dict[str, tuple[str, str]] = {}
    problems = Problems()
    for case in sorted(cohort.cases, key=lambda c: c.case_id):
        for slide_id in sorted(case.slide_ids):
            sha256 = cohort.slides[slide_id].content_sha256
            other_case, other_slide = first.setdefault(sha256, (case.case_id, slide_id))
            if other_case != case.case_id:
                what = f"case {case.case_id} and {other_slide} of case {other_case} are one file"
                remedy = "keep it under its case; two ids of one patient: data.patient_alias"
                problems.add(Problem(code="K12", where=slide_id, what=what, remedy=remedy))
    problems.refuse(IntegrityError)


def write_folds(path: Path, folds: Sequence[Fold], cohort_digest: str) -> None:
    """Write ``folds.csv``: a row a case, fold and seed, with the digest of the cohort."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for fold in folds:
        for side in SIDES:
            for case_id in sorted(getattr(fold, side)):
                writer.writerow([fold.seed, fold.index, case_id, side, cohort_digest])
    write_text(path, text.getvalue())


def read_folds(
    path: Path,
    cohort: Cohort,
    *,
    cohort_digest: str,
    allow_subset: bool = False,
    val_fraction: float = 0.1,
    ours: bool = False,
    site_preserved: bool = False,
) -> tuple[Fold, ...]:
    """Read splits, ours or another's (the forms: docs/formats.md).

    Columns ``fold``, ``split`` (train, val, test) and ``case_id``; ``seed`` and ``cohort`` may be
    absent. In a table of slides a case stands where its slides do. Cases without a slide, which
    such tables rarely name, train in every fold.

    Parameters
    ----------
    cohort_digest
        Digest of ``cohort``; compared with the column ``cohort`` where there is one.
    allow_subset
        Lift K09, K10 and the half of K02 that wants every case tested.
    val_fraction
        Share of a fold's cases that validates where the table has no such side.
    ours
        It is the ``folds.csv`` of a run, which was checked before it was written: only K01, K10 and
        K12 are asked again.
    site_preserved
        Sites must be kept together; cases without a slide do not train where their site is held
        out.

    Raises
    ------
    IntegrityError
        K01 a case on two sides (K11 in a table of slides), K05 a site on the test side and
        elsewhere in a fold, K10 made for another version of the cohort, K12 one slide file under
        two cases.
    DataError
        K02 a case tested twice or never, K04 a side that lacks a class, K09 unknown or missing
        cases, K13 not such a table; all that were found.
    """
    require_no_twins(cohort)
    table = SplitTable(path, cohort)
    integrity = Problems(table.on_two_sides())
    if not allow_subset:
        integrity.found += table.of_another_cohort(cohort_digest)
    integrity.refuse(IntegrityError)
    if ours:
        folds = table.folds()
        return tuple(keep_sites_apart(f, cohort) for f in folds) if site_preserved else folds
    problems = Problems(table.tested_twice())
    if not allow_subset:
        problems.found += [*table.never_tested(), *table.unknown(), *table.missing()]
    problems.refuse(DataError)
    folds = table.folds(val_fraction)
    Problems(_one_sided(folds, cohort, path)).refuse(DataError)
    if site_preserved:
        folds = tuple(keep_sites_apart(fold, cohort) for fold in folds)
        require_sites_apart(folds, cohort, str(path))
    return folds


def _by_label(cohort: Cohort) -> dict[int, list[str]]:
    """Give the cases with a slide, class by class, in the order of their ids."""
    groups: dict[int, list[str]] = {label: [] for label in range(len(cohort.class_names))}
    for case in sorted(cohort.cases, key=lambda c: c.case_id):
        if case.slide_ids:
            groups[case.label].append(case.case_id)
    return groups


def _require_enough(cohort: Cohort, groups: Mapping[int, list[str]], n: int) -> None:
    label = min(groups, key=lambda g: len(groups[g]))
    least = len(groups[label])
    if _is_possible(least, n):
        return
    largest = next((k for k in range(least, 1, -1) if _is_possible(least, k)), None)
    what = f"class {cohort.class_names[label]} has {least} cases with a slide, for {n} folds"
    remedy = f"folds.n: {largest} at most" if largest else "add cases of that class"
    if n > least:
        raise DataError.of("K03", "folds", what, remedy)
    what += ": one of its three sides would go without"
    raise DataError.of("K04", "folds", what, remedy)


def _is_possible(n_members: int, n: int) -> bool:
    """Say whether a class reaches every test side, and two are left to train and validate."""
    most_tested = math.ceil(n_members / n) if n > 1 else 0
    return n_members >= n and n_members - most_tested >= 2


def _deal(
    groups: Mapping[int, list[str]], n: int, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    # A class goes on where the last one ended, so that whole folds differ by one case at most.
    hands: list[list[str]] = [[] for _ in range(n)]
    place = 0
    for label in sorted(groups):
        for i in rng.permutation(len(groups[label])):
            hands[place % n].append(groups[label][i])
            place += 1
    return [tuple(sorted(hand)) for hand in hands]


def _complete(
    cohort: Cohort,
    groups: Mapping[int, list[str]],
    options: FoldOptions,
    rng: np.random.Generator,
    fold: Fold,
) -> Fold:
    """Draw the validation side among the cases not tested; the others train."""
    tested = set(fold.test)
    quota = _apportion({g: len(members) for g, members in groups.items()}, options.val_fraction)
    if options.keeps_sites:
        whole = hold_out_sites(cohort, fold.test, quota, rng)
        if whole is not None:
            kept = {c.case_id for c in cohort.cases} - tested - set(whole)
            sides = {"train": tuple(sorted(kept)), "val": whole, "test": fold.test}
            return keep_sites_apart(Fold(index=fold.index, seed=fold.seed, **sides), cohort)
    val: list[str] = []
    train = [c.case_id for c in cohort.cases if not c.slide_ids]
    for label in sorted(groups):
        rest = [c for c in groups[label] if c not in tested]
        n_val = min(max(1, quota[label]), len(rest) - 1)
        drawn = set(rng.permutation(len(rest))[:n_val].tolist())
        for i, case_id in enumerate(rest):
            (val if i in drawn else train).append(case_id)
    sides = {"train": tuple(sorted(train)), "val": tuple(sorted(val)), "test": fold.test}
    complete = Fold(index=fold.index, seed=fold.seed, **sides)
    return keep_sites_apart(complete, cohort) if options.keeps_sites else complete


def _apportion(counts: Mapping[int, int], share: float) -> dict[int, int]:
    """Divide ``round(share * total)`` places over the classes by largest remainder."""
    quota = {g: math.floor(share * n) for g, n in counts.items()}
    left = round(share * sum(counts.values())) - sum(quota.values())
    by_remainder = sorted(counts, key=lambda g: (quota[g] - share * counts[g], g))
    for label in by_remainder[:left]:
        quota[label] += 1
    return quota


def _one_sided(folds: Sequence[Fold], cohort: Cohort, path: Path) -> Iterator[Problem]:
    cases = {c.case_id: c for c in cohort.cases}
    for fold in folds:
        for side in SIDES:
            labels = [cases[c].label for c in getattr(fold, side) if cases[c].slide_ids]
            counts = {name: labels.count(g) for g, name in enumerate(cohort.class_names)}
            if not all(counts.values()):
                held = ", ".join(f"{n} {name}" for name, n in counts.items())
                what = f"{side} of fold {fold.index} (seed {fold.seed}) holds {held}"
                remedy = "put cases of every class on each side"
                yield Problem(code="K04", where=str(path), what=what, remedy=remedy)
