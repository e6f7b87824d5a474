"""Clinical covariates (age, stage ...): read as text, turned into numbers inside each fold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import CASE_COLUMNS, TextTable, find_column, is_blank, read_table
from momkd.errors import DataError, IntegrityError, Problem, Problems
from momkd.storage import canonical_json, digest_bytes
from momkd.types import Covariates


def read_covariates(
    path: Path,
    names: Sequence[str],
    *,
    case_column: str | None,
    target_column: str,
    aliases: Mapping[str, str] | None = None,
) -> Covariates:
    """Read columns of a clinical table, as stated; a blank cell is unknown.

    Parameters
    ----------
    names
        Columns wanted, whatever their case and separators.
    case_column
        Column of case ids; None to recognise it.
    target_column
        The label, which cannot be one of them.
    aliases
        Cases that other ids stand for.

    Raises
    ------
    DataError
        L06 a case with two values, L07 no such column (all at once), L13 the label itself, O16 no
        table.
    """
    table = read_table(path)
    problems = Problems()
    places = [_place(table, name, "covariates", problems) for name in names]
    wanted_case = case_column or find_column(table.columns, CASE_COLUMNS)
    if wanted_case is None:
        what = f"no column of case ids (has {', '.join(table.columns[:6])})"
        remedy = "set data.columns.case"
        problems.add(Problem(code="L07", where=str(path), what=what, remedy=remedy))
        wanted_case = ""
    case_place = _place(table, wanted_case, "columns.case", problems) if wanted_case else -1
    target = find_column(table.columns, (target_column,))
    for place in places:
        if target is not None and place >= 0 and table.columns[place] == target:
            what = f"covariate {target!r} is the label itself"
            remedy = "take it out of data.covariates"
            problems.add(Problem(code="L13", where=str(path), what=what, remedy=remedy))
    problems.refuse(DataError)
    values: dict[str, tuple[str, ...]] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        barcode = parse_barcode(row[case_place])
        if barcode is not None and not barcode.is_primary:
            continue
        case_id = row[case_place].strip() if barcode is None else barcode.case_id
        stated = tuple("" if is_blank(row[p]) else row[p].strip() for p in places)
        case_id = (aliases or {}).get(case_id, case_id)
        before = values.setdefault(case_id, stated)
        merged = tuple(a or b for a, b in zip(before, stated, strict=True))
        for name, kept, new in zip(names, merged, stated, strict=True):
            if new and kept != new:
                what = f"case {case_id} has {name} {kept!r} and {new!r}"
                remedy = "one value a case: mend the table"
                fault = Problem(code="L06", where=str(path), what=what, remedy=remedy, row=line)
                problems.add(fault)
        values[case_id] = merged
    problems.refuse(DataError)
    return Covariates(names=tuple(names), values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """How one covariate becomes numbers: ``words`` empty for a number."""

    name: str
    words: tuple[str, ...]
    median: float
    centre: float
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CovariateCoder:
    """What turns stated covariates into columns, learnt from training cases alone.

    A number is standardised, and the training median stands where it is unknown; of anything else
    each word is a column, and a word that training has not seen is none of them. A further column
    says that the value is unknown, where training has such cases.

    Parameters
    ----------
    columns
        One a covariate.
    names
        Of the columns of the result.
    fitted_on
        Short SHA-256 of the id of each case it was fitted on.
    """

    columns: tuple[_Column, ...]
    tells_unknown: tuple[bool, ...]
    names: tuple[str, ...]
    fitted_on: tuple[str, ...]

    def transform(
        self, covariates: Covariates, case_ids: Sequence[str]
    ) -> Float64[np.ndarray, "n_cases n_columns"]:
        """Give the columns of cases; a case that the table does not name is unknown throughout."""
        blank = ("",) * len(self.columns)
        stated = [covariates.values.get(c, blank) for c in case_ids]
        parts: list[list[float]] = []
        for i, (column, tells) in enumerate(zip(self.columns, self.tells_unknown, strict=True)):
            cells = [row[i] for row in stated]
            if column.words:
                parts += [[float(cell.casefold() == w) for cell in cells] for w in column.words]
                is_known = [bool(cell) for cell in cells]
            else:
                numbers = [_number(cell) for cell in cells]
                is_known = [x is not None for x in numbers]
                filled = [column.median if x is None else x for x in numbers]
                parts.append([(x - column.centre) / column.scale for x in filled])
            if tells:
                parts.append([float(not known) for known in is_known])
        return np.array(parts, dtype=np.float64).reshape(len(parts), len(case_ids)).T

    def require_disjoint(self, case_ids: Iterable[str]) -> None:
        """Make sure that none of these cases had a part in the fit.

        Raises
        ------
        IntegrityError
            K07 leakage; the cases are named.
        """
        leaked = sorted({c for c in case_ids if _short_digest(c) in set(self.fitted_on)})
        if leaked:
            what = f"were fitted on {len(leaked)} held-out cases: {', '.join(leaked[:5])}"
            raise IntegrityError.of("K07", "covariates", what, "fit on the training cases alone")


def fit_covariates(covariates: Covariates, case_ids: Sequence[str]) -> CovariateCoder:
    """Learn kinds, medians, scales and words from training cases.

    A covariate is a number where every value that training states is one.

    Raises
    ------
    DataError
        L15 a covariate that no training case states, or that is the same in all.
    """
    ids = sorted(case_ids)
    blank = ("",) * len(covariates.names)
    stated = [covariates.values.get(c, blank) for c in ids]
    columns, tells, names, problems = [], [], [], Problems()
    for i, name in enumerate(covariates.names):
        cells = [row[i] for row in stated]
        known = [cell for cell in cells if cell]
        if len({cell.casefold() for cell in known}) < 2:
            what = f"covariate {name!r} has {len(set(known))} value(s) in {len(ids)} training cases"
            remedy = "take it out of data.covariates"
            problems.add(Problem(code="L15", where="covariates", what=what, remedy=remedy))
            continue
        numbers = [x for cell in known if (x := _number(cell)) is not None]
        if len(numbers) == len(known):
            spread = float(np.std(numbers))
            columns.append(
                _Column(
                    name=name,
                    words=(),
                    median=float(np.median(numbers)),
                    centre=float(np.mean(numbers)),
                    scale=spread if spread > 0 else 1.0,
                )
            )
            names.append(name)
        else:
            words = tuple(sorted({cell.casefold() for cell in known}))
            columns.append(_Column(name=name, words=words, median=0.0, centre=0.0, scale=1.0))
            names += [f"{name}={word}" for word in words]
        tells.append(len(known) < len(cells))
        names += [f"{name} unknown"] if tells[-1] else []
    problems.refuse(DataError)
    return CovariateCoder(
        columns=tuple(columns),
        tells_unknown=tuple(tells),
        names=tuple(names),
        fitted_on=tuple(sorted(_short_digest(c) for c in ids)),
    )


def coder_digest(coder: CovariateCoder) -> str:
    """SHA-256 of what was learnt."""
    content = [[c.name, list(c.words), c.median, c.centre, c.scale] for c in coder.columns]
    return digest_bytes(canonical_json([content, list(coder.fitted_on)]).encode())


def _place(table: TextTable, name: str, key: str, problems: Problems) -> int:
    exact = name if name in table.columns else find_column(table.columns, (name,))
    if exact is not None:
        return table.columns.index(exact)
    spelt = {c.casefold(): c for c in table.columns}
    near = [spelt[c] for c in get_close_matches(name.casefold(), spelt, n=3, cutoff=0)]
    what, remedy = f"no column {name!r}", f"nearest: {', '.join(near)}; set data.{key}"
    problems.add(Problem(code="L07", where=str(table.path), what=what, remedy=remedy))
    return -1


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _short_digest(case_id: str) -> str:
    return digest_bytes(case_id.encode())[:16]
