"""Splits of cases into training, validation and test: by case, stratified, repeatable."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from momkd.config import Options
from momkd.errors import DataError, IntegrityError, Problem, Problems
from momkd.storage import write_text
from momkd.types import Case, Cohort, Fold

_SIDES = ("train", "val", "test")


class FoldOptions(Options):
    """How cases are split.

    Parameters
    ----------
    n
        Folds; each case with a slide is tested once a seed.
    val_fraction
        Share of all cases with a slide that stands in validation; 0.1 with 5 folds is 7:1:2.
    seed
        Of the first split; repeats count on from it.
    file
        A ``folds.csv`` to use instead of making splits.
    allow_subset
        The given file may name other cases, and miss some of the cohort.
    """

    n: int = Field(5, ge=2)
    val_fraction: float = Field(0.1, gt=0, lt=0.5)
    seed: int = Field(0, ge=0)
    file: Path | None = None
    allow_subset: bool = False


def make_folds(cohort: Cohort, options: FoldOptions, seed: int) -> tuple[Fold, ...]:
    """Split a cohort, stratified by label over the cases that have a slide.

    Cases with RNA only train in every fold. The split depends on the seed, the case ids and the
    labels, and on no order of rows.

    Raises
    ------
    DataError
        K03 fewer cases of a class than folds, K04 a class missing from a validation or test side.
    """
    groups = _by_label(cohort)
    _require_enough(groups, options, len(cohort.class_names))
    rng = np.random.default_rng([seed, 7])
    tested: list[list[str]] = [[] for _ in range(options.n)]
    start = 0
    for label in sorted(groups):
        shuffled = rng.permutation(groups[label])
        # each class goes on where the last one ended, so that folds differ by one case at most
        for i, case_id in enumerate(shuffled):
            tested[(start + i) % options.n].append(str(case_id))
        start += len(shuffled)
    n_all = sum(len(g) for g in groups.values())
    label_of = {c: label for label, members in groups.items() for c in members}
    folds = []
    for index, test in enumerate(tested):
        rest = sorted(set(label_of) - set(test))
        share = options.val_fraction * n_all / len(rest)
        val = _draw_share(rest, label_of, share, np.random.default_rng([seed, 7, index]))
        folds.append(_fold(cohort, index, seed, rest, val, test))
    return tuple(folds)


def hold_out(cohort: Cohort, options: FoldOptions, seed: int) -> Fold:
    """Hold out ``val_fraction`` of the cases with a slide; no test side.

    Raises
    ------
    DataError
        K04 a class would miss from a side.
    """
    groups = _by_label(cohort)
    _require_enough(groups, options, len(cohort.class_names))
    label_of = {c: label for label, members in groups.items() for c in members}
    rest = sorted(label_of)
    rng = np.random.default_rng([seed, 11])
    val = _draw_share(rest, label_of, options.val_fraction, rng)
    return _fold(cohort, 0, seed, rest, val, [])


def write_folds(path: Path, folds: Sequence[Fold], cohort_digest: str) -> None:
    """Write ``folds.csv``: seed, fold, case_id, split, cohort."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", "fold", "case_id", "split", "cohort"])
    for fold in folds:
        for side in _SIDES:
            for case_id in sorted(getattr(fold, side)):
                writer.writerow([fold.seed, fold.index, case_id, side, cohort_digest])
    write_text(path, text.getvalue())


def read_folds(
    path: Path, cohort: Cohort, *, cohort_digest: str, allow_subset: bool = False
) -> tuple[Fold, ...]:
    """Read splits made before, by us or by hand.

    Columns ``fold``, ``split`` and ``case_id`` (or ``slide_id``, converted and checked by case);
    ``seed`` and ``cohort`` may be absent.

    Raises
    ------
    IntegrityError
        K01 a case on two sides (K11 through its slides), K10 made for another cohort.
    DataError
        K02 a case tested twice or never, K04 a side with one class, K09 cases unknown or missing,
        K13 not such a table.
    """
    rows = _read_rows(path)
    if "case_id" not in rows[0]:
        rows = _slides_to_cases(path, rows, cohort)
    digests = {r["cohort"] for r in rows if r.get("cohort")}
    if digests - {cohort_digest} and not allow_subset:
        what = "was made for another cohort (cases, labels or slides differ)"
        remedy = "make new folds, or set folds.allow_subset: true"
        raise IntegrityError.of("K10", str(path), what, remedy)
    sides = _collect_sides(path, rows)
    problems = Problems(_coverage(path, sides, cohort, allow_subset))
    problems.refuse(DataError)
    known = {c.case_id for c in cohort.cases}
    folds = []
    for (seed, index), by_side in sorted(sides.items()):
        kept = {side: tuple(sorted(set(by_side[side]) & known)) for side in _SIDES}
        folds.append(Fold(index=index, seed=seed, **kept))
    _require_classes(path, folds, cohort)
    return tuple(folds)


def describe_folds(folds: Iterable[Fold], cohort: Cohort) -> list[dict[str, Any]]:
    """Count cases, slides, positives and sites of every side: the proof of a protocol."""
    cases = {c.case_id: c for c in cohort.cases}
    rows = []
    for fold in folds:
        for side in _SIDES:
            members = [cases[c] for c in getattr(fold, side)]
            rows.append(
                {
                    "seed": fold.seed,
                    "fold": fold.index,
                    "side": side,
                    "cases": len(members),
                    "slides": sum(len(c.slide_ids) for c in members),
                    "positive": sum(c.label for c in members),
                    "rna": sum(c.has_rna for c in members),
                    "sites": len({c.site for c in members if c.site is not None}),
                }
            )
    return rows


def _by_label(cohort: Cohort) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = defaultdict(list)
    for case in cohort.cases:
        if case.slide_ids:
            groups[case.label].append(case.case_id)
    return {label: sorted(members) for label, members in groups.items()}


def _require_enough(groups: dict[int, list[str]], options: FoldOptions, n_classes: int) -> None:
    counts = [len(groups.get(label, [])) for label in range(n_classes)]
    least = min(counts)
    if not _possible(least, options.n):
        what = f"{least} cases with a slide in the smaller class, {options.n} folds asked"
        largest = next((k for k in range(least, 1, -1) if _possible(least, k)), None)
        remedy = f"folds.n: {largest} at most" if largest else "more cases are needed"
        raise DataError.of("K03", "folds", what, remedy)


def _possible(n_members: int, n_folds: int) -> bool:
    """Say whether a class reaches every test side, and still validation and training."""
    return n_members >= n_folds and n_members - math.ceil(n_members / n_folds) >= 2


def _draw_share(
    members: Sequence[str], label_of: dict[str, int], share: float, rng: np.random.Generator
) -> list[str]:
    groups: dict[int, list[str]] = defaultdict(list)
    for case_id in members:
        groups[label_of[case_id]].append(case_id)
    drawn: list[str] = []
    for label in sorted(groups):
        # at least one of each class on either side, else no score is defined
        n_drawn = min(max(1, round(share * len(groups[label]))), len(groups[label]) - 1)
        drawn += [str(c) for c in rng.permutation(groups[label])[:n_drawn]]
    return drawn


def _fold(
    cohort: Cohort, index: int, seed: int, rest: Sequence[str], val: list[str], test: list[str]
) -> Fold:
    rna_only = [c.case_id for c in cohort.cases if not c.slide_ids]
    train = sorted([*(set(rest) - set(val)), *rna_only])
    return Fold(
        index=index,
        seed=seed,
        train=tuple(train),
        val=tuple(sorted(val)),
        test=tuple(sorted(test)),
    )


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError.of("K13", str(path), f"cannot be read: {error}", "folds.file") from None
    columns = set(rows[0]) if rows else set()
    if not {"fold", "split"} <= columns or not columns & {"case_id", "slide_id"}:
        what = f"wanted columns fold, split and case_id, got {', '.join(sorted(columns)) or 'none'}"
        raise DataError.of("K13", str(path), what, "see docs/formats.md")
    for number, row in enumerate(rows, start=2):
        if row["split"] not in _SIDES or not row["fold"].isdigit():
            what = f"row {number}: fold {row['fold']!r}, split {row['split']!r}"
            raise DataError.of("K13", str(path), what, "want a number and train, val or test")
    return rows


def _slides_to_cases(
    path: Path, rows: list[dict[str, str]], cohort: Cohort
) -> list[dict[str, str]]:
    owner = {s: c.case_id for c in cohort.cases for s in c.slide_ids}
    unknown = sorted({r["slide_id"] for r in rows} - set(owner))
    if unknown:
        what = f"{len(unknown)} slides are not in the cohort (first: {unknown[0]})"
        raise DataError.of("K09", str(path), what, "leave them out of the table")
    return [{**r, "case_id": owner[r["slide_id"]]} for r in rows]


def _collect_sides(
    path: Path, rows: list[dict[str, str]]
) -> dict[tuple[int, int], dict[str, list[str]]]:
    sides: dict[tuple[int, int], dict[str, list[str]]] = {}
    seen: dict[tuple[int, int, str], str] = {}
    twice: list[str] = []
    for row in rows:
        key = (int(row.get("seed") or 0), int(row["fold"]))
        case_id, side = row["case_id"], row["split"]
        before = seen.setdefault((*key, case_id), side)
        if before != side:
            twice.append(f"{case_id} ({before} and {side} of fold {key[1]})")
            continue
        by_side = sides.setdefault(key, {s: [] for s in _SIDES})
        if case_id not in by_side[side]:
            by_side[side].append(case_id)
    if twice:
        code = "K11" if "slide_id" in rows[0] else "K01"
        what = f"{len(twice)} cases stand on two sides: {', '.join(twice[:3])}"
        raise IntegrityError.of(code, str(path), what, "one side a case and fold")
    return sides


def _coverage(
    path: Path,
    sides: dict[tuple[int, int], dict[str, list[str]]],
    cohort: Cohort,
    allow_subset: bool,
) -> Iterable[Problem]:
    with_slide = {c.case_id for c in cohort.cases if c.slide_ids}
    known = {c.case_id for c in cohort.cases}
    seeds = sorted({seed for seed, _ in sides})
    for seed in seeds:
        folds = {key: s for key, s in sides.items() if key[0] == seed}
        tests = Counter(c for s in folds.values() for c in s["test"])
        often = sorted(c for c, n in tests.items() if n > 1)
        if often:
            what = f"seed {seed}: {len(often)} cases are tested twice (first: {often[0]})"
            yield Problem(code="K02", where=str(path), what=what, remedy="test each case once")
        named = {c for s in folds.values() for side in _SIDES for c in s[side]}
        unknown, missing = sorted(named - known), sorted(with_slide - named)
        if (unknown or missing) and not allow_subset:
            first = (unknown or missing)[0]
            what = f"seed {seed}: names {len(unknown)} unknown cases and misses {len(missing)}"
            remedy = "complete it, or set folds.allow_subset: true"
            yield Problem(
                code="K09", where=str(path), what=f"{what} (first: {first})", remedy=remedy
            )
        never = sorted((with_slide & named) - set(tests))
        if never and not allow_subset:
            what = f"seed {seed}: {len(never)} cases are never tested (first: {never[0]})"
            yield Problem(code="K02", where=str(path), what=what, remedy="test each case once")


def _require_classes(path: Path, folds: Sequence[Fold], cohort: Cohort) -> None:
    cases: dict[str, Case] = {c.case_id: c for c in cohort.cases}
    problems = Problems()
    for fold in folds:
        for side in ("train", "val", "test"):
            members = [cases[c] for c in getattr(fold, side)]
            labels = {c.label for c in members if c.slide_ids}
            if len(labels) < len(cohort.class_names):
                what = f"fold {fold.index} (seed {fold.seed}): {side} holds {len(labels)} class(es)"
                remedy = "put cases of every class on each side"
                problems.add(Problem(code="K04", where=str(path), what=what, remedy=remedy))
    problems.refuse(DataError)
