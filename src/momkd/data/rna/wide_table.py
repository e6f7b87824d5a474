"""Wide tables: samples x genes or genes x samples, recognised by content, read row by row."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import (
    CASE_COLUMNS,
    SITE_COLUMNS,
    SLIDE_COLUMNS,
    find_column,
    is_blank,
    open_table,
    plain_name,
)
from momkd.data.rna.number_cells import NumberReader, is_number
from momkd.data.rna.number_rows import NumberRows
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable, shown
from momkd.errors import DataError

GENE_COLUMNS = (
    *("gene", "gene_id", "gene_name", "hugo_symbol", "symbol", "ensembl_id", "gene_symbol"),
)
SUFFIX = "_rnaseq"
_NO_EXPRESSION = frozenset(
    plain_name(name)
    for name in (
        *(*CASE_COLUMNS, *SLIDE_COLUMNS, *SITE_COLUMNS, *GENE_COLUMNS, "entrez_gene_id", "index"),
        *("age", "sex", "gender", "is_female", "race", "grade", "stage", "oncotree_code"),
        *("survival_months", "survival_days", "censorship", "vital_status", "os_time", "train"),
    )
)
# what tables of genes say of a gene beside its values
_ABOUT_GENES = frozenset(
    plain_name(name)
    for name in (
        *("chr", "chrom", "chromosome", "start", "end", "strand", "length", "gene_length"),
        *("gene_type", "biotype", "gene_biotype", "description", "entrez", "entrez_id", "entrezid"),
        *("chromstart", "chromend", "seqnames", "width", "cytoband"),
    )
)
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


def read_wide_table(path: Path, options: RnaOptions, *, scale: str | None = None) -> RawTable:
    """Read the expression of a wide table and drop, with a note, what is not expression.

    Parameters
    ----------
    scale
        What the form says the values are.

    Raises
    ------
    DataError
        O14 an orientation that cannot be told, O16 no table. Cells that are missing (O06) or no
        numbers (O17) are in ``problems``.
    """
    look = Look(path)
    if not look.rows:
        raise DataError.of("O16", str(path), "holds a header and no row", "check the export")
    case_column = case_column_of(look)
    if case_column is None:
        return _turned(look, options, scale)
    return _upright(look, options, scale, case_column)


def case_column_of(look: Look) -> str | None:
    """Give the column of case ids, or None where samples stand in columns.

    Raises
    ------
    DataError
        O14 neither content nor names tell.
    """
    columns = look.columns
    named = find_column(columns, CASE_COLUMNS)
    ids = [row[columns.index(named or columns[0])] for row in look.rows]
    down = any(map(parse_barcode, ids)) or any(map(is_gene, columns))
    across = any(map(parse_barcode, columns[1:])) or any(is_gene(row[0]) for row in look.rows)
    if not (down or across):  # content says nothing: names decide, unless both speak
        down, across = named is not None, find_column(columns[:1], GENE_COLUMNS) is not None
    if down != across:
        return (named or columns[0]) if down else None
    shape = f"{len(columns)} columns, first column {columns[0]!r}"
    what = f"cannot tell cases from genes ({shape})"
    raise DataError.of("O14", str(look.path), what, "name the id column case_id or gene")


def is_gene(name: str) -> bool:
    """Say whether a name is certainly a gene's: an Ensembl id, a well-known symbol, a suffix."""
    text = name.strip()
    stem = text[: -len(SUFFIX)] if text.lower().endswith(SUFFIX) else text
    return stem != text or stem in _WELL_KNOWN or _ENSEMBL.match(stem) is not None


def is_summary(name: str) -> bool:
    """Say whether a row counts reads outside genes: ``N_unmapped``, ``__no_feature``."""
    return name.casefold().startswith(_SUMMARY_ROWS)


def _upright(look: Look, options: RnaOptions, scale: str | None, case_column: str) -> RawTable:
    columns, notes = look.columns, list[str]()
    kept = _expression_columns(look, case_column, notes)
    genes = [re.sub(f"{SUFFIX}$", "", columns[i], flags=re.I) for i in kept]
    if sum(is_number(g) and not g.isdigit() for g in genes) * 2 > len(genes):
        what = f"has numbers for column names ({', '.join(genes[:3])})"
        raise DataError.of("O16", str(look.path), what, "give it a header")
    reader = NumberReader(look.path)
    ids: list[str] = []
    values: list[NDArray[np.float32]] = []
    for name, numbers in NumberRows(
        table=open_table(look.path),
        name_at=columns.index(case_column),
        kept=kept,
        reader=reader,
        genes=genes,
    ):
        ids.append(name)
        values.append(numbers)
    return RawTable(
        path=look.path,
        header=columns,
        ids=ids,
        genes=genes,
        values=np.stack(values),
        scale=scale,
        notes=notes,
        problems=reader.problems(options.impute),
    )


def _turned(look: Look, options: RnaOptions, scale: str | None) -> RawTable:
    notes = ["RNA: genes in rows, samples in columns: turned"]
    kept = _sample_columns(look, notes)
    reader = NumberReader(look.path)
    genes: list[str] = []
    values: list[NDArray[np.float32]] = []
    summary: list[str] = []
    n_nameless = 0
    for name, numbers in NumberRows(
        table=open_table(look.path), name_at=0, kept=kept, reader=reader, genes=None
    ):
        if is_summary(name):
            summary.append(name)
        elif not name:
            n_nameless += 1
        else:
            genes.append(name)
            values.append(numbers)
    if summary:
        notes.append(f"RNA: {len(summary)} summary rows left out: {shown(summary)}")
    if n_nameless:
        notes.append(f"RNA: {n_nameless} rows without a gene's name left out")
    if not genes:
        raise DataError.of("O16", str(look.path), "holds no gene", "check the table")
    return RawTable(
        path=look.path,
        header=look.columns,
        ids=[look.columns[i] for i in kept],
        genes=genes,
        values=np.ascontiguousarray(np.stack(values).T),
        scale=scale,
        notes=notes,
        problems=reader.problems(options.impute),
    )


def _sample_columns(look: Look, notes: list[str]) -> list[int]:
    """Choose the columns of samples where genes stand in rows: all that hold numbers."""
    kept: list[int] = []
    left: list[str] = []
    for i, name in enumerate(look.columns[1:], start=1):
        plain = plain_name(name)
        is_sample = plain not in _NO_EXPRESSION | _ABOUT_GENES and _UNNAMED.match(name) is None
        if is_sample and (
            parse_barcode(name) is not None or _holds_numbers(row[i] for row in look.rows)
        ):
            kept.append(i)
        else:
            left.append(name or "(unnamed)")
    if left:
        notes.append(f"RNA: {len(left)} columns are not samples and are left out: {shown(left)}")
    if not kept:
        raise DataError.of("O16", str(look.path), "holds no case", "check the table")
    return kept


def _expression_columns(look: Look, case_column: str, notes: list[str]) -> list[int]:
    """Choose the columns of genes: the suffixed ones, or else those that hold numbers."""
    columns = look.columns
    suffixed = any(c.lower().endswith(SUFFIX) for c in columns)
    kept: list[int] = []
    left: list[str] = []
    for i, name in enumerate(columns):
        if name == case_column:
            continue
        if suffixed:
            stays = name.lower().endswith(SUFFIX)
        else:
            named = _UNNAMED.match(name) is None and plain_name(name) not in _NO_EXPRESSION
            other = name.lower().endswith(_OTHER_OMICS)
            numbers = is_gene(name) or _holds_numbers(row[i] for row in look.rows)
            stays = named and not other and numbers
        if stays:
            kept.append(i)
        else:
            left.append(name or "(unnamed)")
    if left:
        text = f"RNA: {len(left)} columns are not expression and are left out"
        notes.append(f"{text}: {shown(left)}")
    if not kept:
        raise DataError.of("O16", str(look.path), "holds no column of numbers", "check the table")
    return kept


def _holds_numbers(cells: Iterable[str]) -> bool:
    """Say whether most stated cells are meant as numbers: other columns are clinical.

    A cell such as ``1,234`` or ``<0.01`` is meant as one, and will be refused as O17.
    """
    stated = [c.strip() for c in cells if not is_blank(c)]
    n_numbers = sum(is_number(c) or _MEANT_AS_NUMBER.match(c) is not None for c in stated)
    return not stated or n_numbers * 2 > len(stated)
