"""Wide tables: cases x genes or genes x cases, recognised by content, read row by row."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import (
    CASE_COLUMNS,
    SITE_COLUMNS,
    SLIDE_COLUMNS,
    TextRows,
    find_column,
    is_blank,
    plain_name,
    scan_table,
)
from momkd.data.number_cells import NumberReader, is_number
from momkd.errors import DataError, Problem

GENE_COLUMNS = ("gene", "gene_id", "gene_name", "hugo_symbol", "symbol", "ensembl_id")
_NO_EXPRESSION = frozenset(
    plain_name(name)
    for name in (
        *(*CASE_COLUMNS, *SLIDE_COLUMNS, *SITE_COLUMNS, *GENE_COLUMNS, "entrez_gene_id", "index"),
        *("age", "sex", "gender", "is_female", "race", "grade", "stage", "oncotree_code"),
        *("survival_months", "survival_days", "censorship", "vital_status", "os_time", "train"),
    )
)
_SUFFIX = "_rnaseq"
_OTHER_OMICS = ("_cnv", "_mut")
_UNNAMED = re.compile(r"^(unnamed: \d+)?$", re.I)
_SUMMARY_ROWS = ("n_unmapped", "n_multimapping", "n_nofeature", "n_ambiguous", "__")
# symbols that nearly every RNA table holds: where they stand, genes stand
_COMMON_GENES = (
    "A1BG A2M ACTB AKT1 BRAF BRCA1 BRCA2 CD8A CDH1 EGFR ERBB2 ESR1 GAPDH GATA3 KRAS MKI67 MYC "
    "NRAS PGR PIK3CA PTEN RB1 STAT3 TP53 TSPAN6 VEGFA"
)
_WELL_KNOWN = frozenset(_COMMON_GENES.split())
_ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{11}")
_MEANT_AS_NUMBER = re.compile(r"^[<>~]?\s*[+-]?[\d.,' ]*\d([eE][+-]?\d+)?%?$", re.A)
_PEEK_ROWS = 50
_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WideTable:
    """Numbers as they stand in the file, cases in rows.

    ``ids`` and ``genes`` may repeat. Cells without a usable number are NaN and told in
    ``problems``; ``header`` holds all names of the first line.
    """

    path: Path
    header: tuple[str, ...]
    ids: list[str]
    genes: list[str]
    values: NDArray[np.float32]  # (n_cases, n_genes)
    notes: list[str]
    problems: list[Problem]


def read_wide_table(path: Path) -> WideTable:
    """Read the expression of a wide table and drop, with a note, what is not expression.

    Raises
    ------
    DataError
        O14 an orientation that cannot be told, O16 no table. Cells that are missing (O06) or no
        numbers (O17) are in ``problems``.
    """
    table = scan_table(path)
    head = list(islice(table.rows, _PEEK_ROWS))
    rows = chain(head, table.rows)
    sample = [row for _, row in head]
    case_column = _case_column(table, sample)
    if case_column is None:
        return _turned(table, rows, sample)
    return _upright(table, rows, sample, case_column)


def _case_column(table: TextRows, sample: Sequence[list[str]]) -> str | None:
    """Give the column of case ids, or None where cases stand in columns."""
    columns = table.columns
    named = find_column(columns, CASE_COLUMNS)
    ids = [row[columns.index(named or columns[0])] for row in sample]
    down = any(map(parse_barcode, ids)) or any(map(_is_gene, columns))
    across = any(map(parse_barcode, columns[1:])) or any(_is_gene(row[0]) for row in sample)
    if not (down or across):  # content says nothing: names decide, unless both speak
        down, across = named is not None, find_column(columns[:1], GENE_COLUMNS) is not None
    if down != across:
        return (named or columns[0]) if down else None
    n_rows = len(sample) + sum(1 for _ in table.rows)
    shape = f"{n_rows} rows x {len(columns)} columns, first column {columns[0]!r}"
    what = f"cannot tell cases from genes ({shape})"
    raise DataError.of("O14", str(table.path), what, "name the id column case_id or gene")


def _is_gene(name: str) -> bool:
    text = name.strip()
    stem = text[: -len(_SUFFIX)] if text.lower().endswith(_SUFFIX) else text
    return stem != text or stem in _WELL_KNOWN or _ENSEMBL.match(stem) is not None


def _upright(
    table: TextRows,
    rows: Iterator[tuple[int, list[str]]],
    sample: Sequence[list[str]],
    case_column: str,
) -> WideTable:
    columns, notes = table.columns, list[str]()
    kept = _expression_columns(table, sample, case_column, notes)
    genes = [re.sub(f"{_SUFFIX}$", "", columns[i], flags=re.I) for i in kept]
    if sum(is_number(g) and not g.isdigit() for g in genes) * 2 > len(genes):
        what = f"has numbers for column names ({', '.join(genes[:3])})"
        raise DataError.of("O16", str(table.path), what, "give it a header")
    place, names = columns.index(case_column), [columns[i] for i in kept]
    reader = NumberReader(table.path)
    ids: list[str] = []
    values: list[NDArray[np.float32]] = []
    for line, row in rows:
        ids.append(row[place].strip())
        values.append(reader.read(line, [row[i] for i in kept], genes, names))
    return WideTable(
        path=table.path,
        header=columns,
        ids=ids,
        genes=genes,
        values=np.stack(values),
        notes=notes,
        problems=reader.problems(),
    )


def _turned(
    table: TextRows, rows: Iterator[tuple[int, list[str]]], sample: Sequence[list[str]]
) -> WideTable:
    notes = ["RNA: genes in rows, cases in columns: turned"]
    kept = _case_columns(table, sample, notes)
    ids = [table.columns[i] for i in kept]
    reader = NumberReader(table.path)
    genes: list[str] = []
    values: list[NDArray[np.float32]] = []
    summary: list[str] = []
    n_nameless = 0
    for line, row in rows:
        gene = row[0].strip()
        if gene.casefold().startswith(_SUMMARY_ROWS):
            summary.append(gene)
        elif not gene:
            n_nameless += 1
        else:
            genes.append(gene)
            values.append(reader.read(line, [row[i] for i in kept], [gene] * len(kept), ids))
    if summary:
        notes.append(f"RNA: {len(summary)} summary rows left out: {_shown(summary)}")
    if n_nameless:
        notes.append(f"RNA: {n_nameless} rows without a gene's name left out")
    if not genes:
        raise DataError.of("O16", str(table.path), "holds no gene", "check the table")
    return WideTable(
        path=table.path,
        header=table.columns,
        ids=ids,
        genes=genes,
        values=np.stack(values, axis=1),
        notes=notes,
        problems=reader.problems(),
    )


def _case_columns(table: TextRows, sample: Sequence[list[str]], notes: list[str]) -> list[int]:
    """Choose the columns of cases where genes stand in rows: all that hold numbers."""
    kept: list[int] = []
    left: list[str] = []
    for i, name in enumerate(table.columns[1:], start=1):
        is_case = plain_name(name) not in _NO_EXPRESSION and _UNNAMED.match(name) is None
        if is_case and _holds_numbers(row[i] for row in sample):
            kept.append(i)
        else:
            left.append(name or "(unnamed)")
    if left:
        notes.append(f"RNA: {len(left)} columns are not cases and are left out: {_shown(left)}")
    if not kept:
        raise DataError.of("O16", str(table.path), "holds no case", "check the table")
    return kept


def _expression_columns(
    table: TextRows, sample: Sequence[list[str]], case_column: str, notes: list[str]
) -> list[int]:
    """Choose the columns of genes: the suffixed ones, or else those that hold numbers."""
    columns = table.columns
    suffixed = any(c.lower().endswith(_SUFFIX) for c in columns)
    kept: list[int] = []
    left: list[str] = []
    for i, name in enumerate(columns):
        if name == case_column:
            continue
        if suffixed:
            is_gene = name.lower().endswith(_SUFFIX)
        else:
            named = _UNNAMED.match(name) is None and plain_name(name) not in _NO_EXPRESSION
            other = name.lower().endswith(_OTHER_OMICS)
            numbers = _is_gene(name) or _holds_numbers(row[i] for row in sample)
            is_gene = named and not other and numbers
        if is_gene:
            kept.append(i)
        else:
            left.append(name or "(unnamed)")
    if left:
        text = f"RNA: {len(left)} columns are not expression and are left out"
        notes.append(f"{text}: {_shown(left)}")
    if not kept:
        raise DataError.of("O16", str(table.path), "holds no column of numbers", "check the table")
    return kept


def _holds_numbers(cells: Iterator[str]) -> bool:
    """Say whether most stated cells are meant as numbers: other columns are clinical.

    A cell such as ``1,234`` or ``<0.01`` is meant as one, and will be refused as O17.
    """
    stated = [c.strip() for c in cells if not is_blank(c)]
    n_numbers = sum(_MEANT_AS_NUMBER.match(c) is not None for c in stated)
    return not stated or n_numbers * 2 > len(stated)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
