"""Clinical tables: which case has which slides, which label, and which site."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from momkd.config import Options
from momkd.data.delimited import TextTable, find_column, is_blank, read_table
from momkd.data.expression import CASE_COLUMNS
from momkd.errors import DataError, Problem, Problems

SLIDE_COLUMNS = ("slide_id", "slide", "filename", "image_id", "wsi", "slide_name")
SITE_COLUMNS = ("site", "tissue_source_site", "tss", "center", "centre", "institution", "hospital")
_SURVIVAL = ("survival", "days_to", "os_time", "pfs", "_time", "months", "futime")
_MANY_VALUES = 10


class TargetOptions(Options):
    """What the label column is called and what its values mean.

    Compared as text, trimmed, whatever the case; 1, 1.0 and true are one value. A blank cell is
    unknown. Any other value must stand under ``exclude``, where it is unknown too.
    """

    column: str
    positive: list[str] = Field(min_length=1)
    negative: list[str] = Field(min_length=1)
    exclude: list[str] = Field(default_factory=list)

    @field_validator("positive", "negative", "exclude", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        return [str(v) for v in values]

    @property
    def class_names(self) -> tuple[str, str]:
        """Words for the classes: the values themselves, unless they are mere codes."""
        names = self.negative[0], self.positive[0]
        if {normalise(n) for n in names} <= {"0", "1"}:
            return "negative", "positive"
        return names


class ColumnOptions(Options):
    """Names of the columns, where they are not recognised by themselves."""

    case: str | None = None
    slide: str | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalRow:
    """A case as the table states it; ``label`` None with the reason in ``why_unknown``."""

    case_id: str
    slide_ids: tuple[str, ...]
    label: int | None
    site: str | None
    why_unknown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalTable:
    """All cases of a table; ``names_slides`` tells whether it has a slide column."""

    path: Path
    rows: tuple[ClinicalRow, ...]
    names_slides: bool
    notes: tuple[str, ...]


def normalise(value: str) -> str:
    """Bring equal statements to one form: ``Positive `` -> ``positive``, ``1.0`` -> ``1``."""
    text = value.strip().casefold()
    if text in ("true", "false"):
        return str(int(text == "true"))
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


def list_values(path: Path, target: str) -> tuple[str, dict[str, int]]:
    """Give a target column's exact name and its stated values with their counts.

    Raises
    ------
    DataError
        L07 no such column, O16 no table.
    """
    table = read_table(path)
    column = _target_column(table, target)
    shown: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for cell in table.column(column):
        if not is_blank(cell):
            key = normalise(cell)
            shown.setdefault(key, cell if not _is_code(key) else key)
            counts[key] += 1
    return column, {shown[key]: n for key, n in sorted(counts.items())}


def read_clinical(path: Path, target: TargetOptions, columns: ColumnOptions) -> ClinicalTable:
    """Read cases, slides, labels and sites.

    Raises
    ------
    DataError
        All at once: L01 values that are neither positive, negative nor excluded, L04 slides of a
        case with different labels, L06 conflicting rows of a case, L07 no such column, L10 a side
        that never occurs, L12 a slide under two cases, L13 a number passed as label.
    """
    table = read_table(path)
    label_column = _target_column(table, target.column)
    case_column = _named(table, columns.case, CASE_COLUMNS, "case")
    slide_column = _optional(table, columns.slide, SLIDE_COLUMNS)
    site_column = _optional(table, columns.site, SITE_COLUMNS)
    problems = Problems()
    labels = _labels(table, label_column, target, problems)
    cases = table.column(case_column)
    slides = [""] * len(cases) if slide_column is None else table.column(slide_column)
    sites = [""] * len(cases) if site_column is None else table.column(site_column)
    places: dict[str, list[int]] = defaultdict(list)
    for i, case_id in enumerate(cases):
        if is_blank(case_id):
            what = "a row without case id"
            problems.add(Problem(code="L05", where=str(path), what=what, row=table.lines[i]))
        else:
            places[case_id].append(i)
    notes: list[str] = []
    rows = [_row(table, c, p, labels, slides, sites, problems) for c, p in places.items()]
    _require_owner(path, rows, problems)
    problems.refuse(DataError)
    n_equal = _equal_rows(places, slides)
    if n_equal:
        notes.append(f"clinical: {n_equal} rows repeat a case and slide: collapsed")
    if slide_column is None:
        notes.append("clinical: no slide column: slides are matched to cases by their names")
    return ClinicalTable(
        path=path, rows=tuple(rows), names_slides=slide_column is not None, notes=tuple(notes)
    )


def _row(
    table: TextTable,
    case_id: str,
    places: Sequence[int],
    labels: Sequence[tuple[int | None, str | None]],
    slides: Sequence[str],
    sites: Sequence[str],
    problems: Problems,
) -> ClinicalRow:
    where = str(table.path)
    stated = {labels[i][0] for i in places if labels[i][0] is not None}
    if len(stated) > 1:
        one_slide = len({slides[i] for i in places}) == 1
        code = "L06" if one_slide else "L04"
        what = f"case {case_id} is both positive and negative"
        remedy = "one label a case: mend the table"
        problems.add(
            Problem(code=code, where=where, what=what, remedy=remedy, row=table.lines[places[-1]])
        )
    named_sites = {sites[i] for i in places if not is_blank(sites[i])}
    if len(named_sites) > 1:
        what = f"case {case_id} stands at several sites ({', '.join(sorted(named_sites))})"
        problems.add(Problem(code="L06", where=where, what=what, row=table.lines[places[-1]]))
    owned = [s.strip() for i in places for s in slides[i].split(";") if not is_blank(s)]
    label = next(iter(stated)) if len(stated) == 1 else None
    return ClinicalRow(
        case_id=case_id,
        slide_ids=tuple(dict.fromkeys(owned)),
        label=label,
        site=min(named_sites) if named_sites else None,
        why_unknown=None if label is not None else labels[places[0]][1],
    )


def _labels(
    table: TextTable, column: str, target: TargetOptions, problems: Problems
) -> list[tuple[int | None, str | None]]:
    sides = {normalise(v): 0 for v in target.negative} | {normalise(v): 1 for v in target.positive}
    both = {normalise(v) for v in target.negative} & {normalise(v) for v in target.positive}
    excluded = {normalise(v) for v in target.exclude}
    where = f"{table.path} column {column}"
    if both:
        what = f"{', '.join(sorted(both))} is given as positive and as negative"
        problems.add(Problem(code="L02", where=where, what=what, remedy="data.target"))
    found: list[tuple[int | None, str | None]] = []
    strange: Counter[str] = Counter()
    for cell in table.column(column):
        value = normalise(cell)
        if value in sides:
            found.append((sides[value], None))
        elif value in excluded:
            found.append((None, f"{column} is {cell!r}, which is excluded"))
        elif is_blank(cell):
            found.append((None, f"{column} is blank"))
        else:
            strange[cell] += 1
            found.append((None, None))
    if strange:
        problems.add(_strange(where, column, strange))
    for word, side in (("positive", 1), ("negative", 0)):
        if not any(label == side for label, _ in found) and not strange:
            wanted = ", ".join(target.positive if side else target.negative)
            what = f"the {word} value ({wanted}) never occurs: one class only"
            remedy = f"mend data.target.{word}"
            problems.add(Problem(code="L10", where=where, what=what, remedy=remedy))
    return found


def _strange(where: str, column: str, strange: Counter[str]) -> Problem:
    shown = ", ".join(f"{v!r} ({n})" for v, n in strange.most_common(5))
    survival = any(word in column.casefold() for word in _SURVIVAL)
    numbers = all(_is_code(normalise(v)) or "." in v for v in strange)
    if survival or (numbers and len(strange) > _MANY_VALUES):
        what = f"{len(strange)} distinct values: a time or a measurement, not a class ({shown})"
        return Problem(code="L13", where=where, what=what, remedy="give a column of classes")
    what = f"{sum(strange.values())} cells are neither positive nor negative: {shown}"
    remedy = "add them to data.target.exclude (unknown), or to positive or negative"
    return Problem(code="L01", where=where, what=what, remedy=remedy)


def _require_owner(path: Path, rows: Sequence[ClinicalRow], problems: Problems) -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for slide_id in row.slide_ids:
            owners[slide_id].append(row.case_id)
    for slide_id, cases in owners.items():
        if len(cases) > 1:
            what = f"slide {slide_id} stands under {len(cases)} cases ({', '.join(cases[:3])})"
            problems.add(
                Problem(code="L12", where=str(path), what=what, remedy="a slide has one case")
            )


def _equal_rows(places: dict[str, list[int]], slides: Sequence[str]) -> int:
    return sum(len(p) - len({slides[i] for i in p}) for p in places.values())


def _target_column(table: TextTable, target: str) -> str:
    if target in table.columns:
        return target
    found = find_column(table.columns, (target,))
    if found is not None:
        return found
    near = get_close_matches(target, table.columns, n=3, cutoff=0) or list(table.columns[:3])
    what = f"no column {target!r}"
    raise DataError.of("L07", str(table.path), what, f"nearest: {', '.join(near)}")


def _named(table: TextTable, given: str | None, names: tuple[str, ...], word: str) -> str:
    found = _optional(table, given, names)
    if found is None:
        what = f"no column of {word} ids (has {', '.join(table.columns[:6])})"
        raise DataError.of("L07", str(table.path), what, f"set data.columns.{word}")
    return found


def _optional(table: TextTable, given: str | None, names: tuple[str, ...]) -> str | None:
    if given is not None:
        return _target_column(table, given)
    return find_column(table.columns, names)


def _is_code(value: str) -> bool:
    return value.lstrip("-").isdigit()
