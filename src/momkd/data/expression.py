"""Wide RNA tables: cases x genes or genes x cases, recognised by content, never half understood."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import TextTable, find_column, is_blank, read_table
from momkd.errors import DataError, Problem, Problems
from momkd.types import Expression

CASE_COLUMNS = ("case_id", "case", "patient_id", "patient", "submitter_id", "sample", "sample_id")
GENE_COLUMNS = ("gene", "gene_id", "gene_name", "hugo_symbol", "symbol", "ensembl_id")
_SUFFIX = "_rnaseq"
_OTHER_OMICS = ("_cnv", "_mut")
_SUMMARY_ROWS = ("n_unmapped", "n_multimapping", "n_nofeature", "n_ambiguous", "__")
_EXCEL_DATE = re.compile(
    r"^(\d{1,2}-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-\d{1,2})$",
    re.I,
)
_DEFINING = {"HER2": ("ERBB2",), "PR": ("PGR",), "ER": ("ESR1",)}
_LINEAR = ("counts", "tpm", "rsem")
_SHOWN = 3

Cells = Shaped[np.ndarray, "n_cases n_genes"]
Place = Callable[[int, int], tuple[int, str]]
"""Where a cell (case, gene) stands in the file: line and column."""


def read_expression(
    path: Path,
    *,
    scale: str = "auto",
    duplicate_genes: str = "refuse",
    target_column: str | None = None,
) -> tuple[Expression, list[str]]:
    """Read a wide RNA table.

    Parameters
    ----------
    path
        csv or tsv, gzipped or not; cases in rows or in columns.
    scale
        What the values are (``counts``, ``tpm``, ``rsem``, ``log2``, ``zscore``), or ``auto``.
    duplicate_genes
        ``refuse``, ``sum`` or ``mean``.
    target_column
        The label's name: it must not be among the genes.

    Returns
    -------
    tuple
        The table with one row a case, linear scales as log2(x + 1), and notes with counts.

    Raises
    ------
    DataError
        O02 several aliquots of a case that differ, O06 missing and O17 unreadable values, O07, O08
        a scale that does not fit, O10 gene names that a spreadsheet made dates, O13 duplicate
        genes, O14 an orientation that cannot be told, O16 no table, O18 the label in the table.
    """
    table = read_table(path)
    notes: list[str] = []
    ids, genes, cells, place = _orient(table, notes)
    problems = Problems()
    if target_column is not None and target_column.casefold() in {g.casefold() for g in genes}:
        what = f"holds the label column {target_column!r} among the genes"
        problems.add(Problem(code="O18", where=str(path), what=what, remedy="remove that column"))
    dates = [g for g in genes if _EXCEL_DATE.match(g)]
    if dates:
        what = f"{len(dates)} gene names were turned into dates ({', '.join(dates[:_SHOWN])})"
        remedy = "restore the symbols, for example SEPTIN2, MARCHF1"
        problems.add(Problem(code="O10", where=str(path), what=what, remedy=remedy))
    values = _numbers(path, cells, place, problems)
    problems.refuse(DataError)
    genes, values = _strip_versions(genes, values, notes)
    genes, values = _collapse_genes(path, genes, values, duplicate_genes, notes)
    case_ids, values = _collapse_cases(path, ids, values, notes)
    found = _check_scale(path, values, scale)
    how = "declared" if scale != "auto" else "detected"
    notes.insert(0, f"RNA: {len(case_ids)} cases x {len(genes)} genes, scale {found} ({how})")
    if found in _LINEAR:
        values, found = np.log2(values + 1), "log2"
        notes.append("RNA: log2(x + 1) taken")
    defining = [g for g in _DEFINING.get((target_column or "").upper(), ()) if g in genes]
    if defining:
        notes.append(f"RNA: holds the gene that defines the label ({', '.join(defining)})")
    expression = Expression(
        case_ids=tuple(case_ids), genes=tuple(genes), values=values, scale=found
    )
    return expression, notes


def _orient(table: TextTable, notes: list[str]) -> tuple[list[str], list[str], Cells, Place]:
    """Bring cases into rows; drop what is not expression; say so."""
    columns, path = table.columns, table.path
    case_column = find_column(columns, CASE_COLUMNS)
    first = [row[0].strip() for row in table.rows]
    across = sum(parse_barcode(c) is not None for c in columns[1:])
    down = sum(parse_barcode(c) is not None for c in first)
    suffixed = any(c.endswith(_SUFFIX) for c in columns)
    gene_column = find_column(columns[:1], GENE_COLUMNS)
    if across and down:
        what = "has TCGA barcodes both across and down"
        raise DataError.of("O14", str(path), what, "give cases x genes or genes x cases")
    transposed = bool(across) or (gene_column is not None and not down)
    if not transposed and case_column is None and not down:
        shape = f"{len(table.rows)} rows x {len(columns)} columns"
        what = f"cannot tell cases from genes ({shape}, first column {columns[0]!r})"
        raise DataError.of("O14", str(path), what, "name the id column case_id or gene")
    if transposed:
        notes.append("RNA: genes in rows, cases in columns: turned")
        return _turn(table, first, notes)
    ids = table.column(case_column or columns[0])
    kept = _expression_columns(table, case_column or columns[0], suffixed, notes)
    cells = np.array([[row[i] for i in kept] for row in table.rows], dtype=np.str_)
    genes = [columns[i].removesuffix(_SUFFIX) for i in kept]

    def place(case: int, gene: int) -> tuple[int, str]:
        return table.lines[case], columns[kept[gene]]

    return ids, genes, cells.reshape(len(ids), len(genes)), place


def _turn(
    table: TextTable, first: list[str], notes: list[str]
) -> tuple[list[str], list[str], Cells, Place]:
    text_columns = [
        i
        for i, name in enumerate(table.columns)
        if i == 0 or find_column((name,), ("entrez_gene_id", *GENE_COLUMNS)) is not None
    ]
    summary = [i for i, g in enumerate(first) if g.casefold().startswith(_SUMMARY_ROWS)]
    if summary:
        notes.append(f"RNA: {len(summary)} summary rows left out ({first[summary[0]]} ...)")
    rows = [i for i in range(len(first)) if i not in set(summary)]
    places = [i for i in range(len(table.columns)) if i not in text_columns]
    cells = np.array([[table.rows[r][i] for r in rows] for i in places], dtype=np.str_)
    ids = [table.columns[i] for i in places]

    def place(case: int, gene: int) -> tuple[int, str]:
        return table.lines[rows[gene]], ids[case]

    return ids, [first[r] for r in rows], cells.reshape(len(ids), len(rows)), place


def _expression_columns(
    table: TextTable, case_column: str, suffixed: bool, notes: list[str]
) -> list[int]:
    kept: list[int] = []
    left: list[int] = []
    for i, name in enumerate(table.columns):
        if name == case_column:
            continue
        other = name.casefold().endswith(_OTHER_OMICS)
        is_gene = name.endswith(_SUFFIX) if suffixed else not other and _has_numbers(table, i)
        (kept if is_gene else left).append(i)
    if left:
        names = [table.columns[i] for i in left]
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        notes.append(f"RNA: {len(left)} columns are not expression and are left out: {shown}")
    if not kept:
        raise DataError.of("O16", str(table.path), "holds no column of numbers", "check the table")
    return kept


def _has_numbers(table: TextTable, column: int) -> bool:
    """Say whether any of a column's first cells reads as a number: text columns are clinical."""
    return any(_is_number(row[column].strip()) for row in table.rows[:50])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, cells: Cells, place: Place, problems: Problems) -> NDArray[np.float32]:
    try:
        values = cells.astype(np.float64)
    except ValueError:
        values = np.array([[_value(c) for c in row] for row in cells], dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    bad = ~np.isfinite(narrow)
    blank = bad.copy()
    blank[bad] = [is_blank(str(c)) for c in cells[bad]]
    unreadable, missing = np.argwhere(bad & ~blank), np.argwhere(blank)
    if len(unreadable):
        first = tuple(unreadable[0].tolist())
        cell, (row, column) = str(cells[first]), place(*first)
        hint = "decimal comma" if re.match(r"^-?\d+,\d+$", cell) else "a number is wanted"
        problems.add(
            Problem(
                code="O17",
                where=str(path),
                what=f"{len(unreadable)} cells are no numbers (first: {cell!r})",
                remedy=f"{hint}: mend it",
                row=row,
                column=column,
                value=cell,
            )
        )
    if len(missing):
        row, column = place(*missing[0].tolist())
        n_genes = len(np.unique(missing[:, 1]))
        what = f"{len(missing)} values are missing in {n_genes} genes (the first is named)"
        remedy = "remove these genes or cases; nothing is imputed across folds"
        problems.add(
            Problem(
                code="O06",
                where=str(path),
                what=what,
                remedy=remedy,
                row=row,
                column=column,
            )
        )
    return narrow


def _value(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _strip_versions(
    genes: list[str], values: NDArray[np.float32], notes: list[str]
) -> tuple[list[str], NDArray[np.float32]]:
    plain = [re.sub(r"^(ENS[A-Z]*G\d{11})\.\d+$", r"\1", g) for g in genes]
    n_changed = sum(a != b for a, b in zip(plain, genes, strict=True))
    if n_changed:
        notes.append(f"RNA: version stripped from {n_changed} Ensembl ids")
    return plain, values


def _collapse_genes(
    path: Path,
    genes: list[str],
    values: NDArray[np.float32],
    rule: str,
    notes: list[str],
) -> tuple[list[str], NDArray[np.float32]]:
    counts = Counter(genes)
    repeated = [g for g, n in counts.items() if n > 1]
    if not repeated:
        return genes, values
    if rule == "refuse":
        what = f"{len(repeated)} genes stand in it more than once ({', '.join(repeated[:_SHOWN])})"
        remedy = "set data.duplicate_genes: sum or mean"
        raise DataError.of("O13", str(path), what, remedy)
    places: dict[str, list[int]] = defaultdict(list)
    for i, gene in enumerate(genes):
        places[gene].append(i)
    join = np.sum if rule == "sum" else np.mean
    columns = [join(values[:, p], axis=1, dtype=np.float64) for p in places.values()]
    notes.append(f"RNA: {len(repeated)} genes stood more than once: {rule} taken")
    return list(places), np.stack(columns, axis=1).astype(np.float32)


def _collapse_cases(
    path: Path, ids: Sequence[str], values: NDArray[np.float32], notes: list[str]
) -> tuple[list[str], NDArray[np.float32]]:
    rows: dict[str, list[int]] = defaultdict(list)
    other_types: Counter[str] = Counter()
    blank = [i for i, text in enumerate(ids) if not text.strip()]
    if blank:
        what = f"{len(blank)} rows have no case id"
        raise DataError.of("O04", str(path), what, f"first: line {blank[0] + 2}")
    for i, text in enumerate(ids):
        barcode = parse_barcode(text)
        if barcode is None:
            rows[text.strip()].append(i)
        elif barcode.is_primary:
            rows[barcode.case_id].append(i)
        else:
            other_types[barcode.sample_type or ""] += 1
    if other_types:
        shown = ", ".join(f"{n} of type {t}" for t, n in sorted(other_types.items()))
        notes.append(f"RNA: samples that are not primary tumour are left out: {shown}")
    if not rows:
        what = "no primary tumour sample is left"
        raise DataError.of("O03", str(path), what, "give samples of type 01")
    differing = [c for c, r in rows.items() if (values[r] != values[r[0]]).any()]
    if differing:
        lengths = ", ".join(str(n) for n in sorted({len(t) for t in ids}))
        what = (
            f"{len(differing)} cases have several samples that differ (first: {differing[0]}; "
            f"id lengths {lengths})"
        )
        raise DataError.of("O02", str(path), what, "keep one aliquot a case")
    n_extra = sum(len(r) - 1 for r in rows.values())
    if n_extra:
        notes.append(f"RNA: {n_extra} rows repeat a case with equal values: collapsed")
    return list(rows), values[[r[0] for r in rows.values()]]


def _check_scale(path: Path, values: NDArray[np.float32], scale: str) -> str:
    low, high = float(values.min()), float(values.max())
    if scale == "auto":
        return _detect_scale(path, values, low, high)
    if scale in _LINEAR and low < 0:
        what = f"declared {scale}, but holds negative values (least {low:g})"
        remedy = "already log or z-scored? set data.rna_scale"
        raise DataError.of("O07", str(path), what, remedy)
    if scale == "log2" and high > 100:
        what = f"declared log2, but reaches {high:g}"
        raise DataError.of("O08", str(path), what, "not logged yet? set data.rna_scale")
    return scale


def _detect_scale(path: Path, values: NDArray[np.float32], low: float, high: float) -> str:
    """Tell z-scores, logs, TPM and counts apart, case by case, so that a mixture is found."""
    if low < 0:
        return "zscore" if abs(float(np.median(values))) < 1.5 else "log2"
    if high <= 30:
        return "log2"
    logged = values.max(axis=1) <= 30
    if values.shape[1] >= 50 and 0 < logged.sum() < len(logged):
        what = f"{int(logged.sum())} cases look logged and {int((~logged).sum())} do not"
        raise DataError.of("O08", str(path), what, "bring all cases to one scale")
    sums = values.sum(axis=1, dtype=np.float64)
    if np.all(np.abs(sums / 1e6 - 1) < 0.2):
        return "tpm"
    return "counts" if bool((values == np.floor(values)).all()) else "rsem"
