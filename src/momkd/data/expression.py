"""RNA tables become one row a case and one column a gene, on a known scale."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.barcodes import parse_barcode
from momkd.data.rna_scale import LINEAR, find_scale
from momkd.data.wide_table import WideTable, read_wide_table
from momkd.errors import DataError, Problem, Problems
from momkd.types import Expression

_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_EXCEL_DATE = re.compile(
    rf"^(\d{{1,2}}-{_MONTH}(-\d+)?|{_MONTH}-\d{{1,2}}|\d{{4}}-\d\d-\d\d)$", re.I
)
_ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*G\d{11})\.\d+$")
# Oncotype DX: 16 cancer genes and 5 reference genes (Paik et al., NEJM 2004), as HGNC names them
_ODX = (
    "MKI67 AURKA BIRC5 CCNB1 MYBL2 GRB7 ERBB2 ESR1 PGR BCL2 SCUBE2 MMP11 CTSV GSTM1 CD68 BAG1 "
    "ACTB GAPDH RPLP0 GUSB TFRC"
)
_DEFINING = {
    **dict.fromkeys(("her2", "erbb2"), ("ERBB2",)),
    **dict.fromkeys(("pr", "pgr"), ("PGR",)),
    **dict.fromkeys(("er", "esr1"), ("ESR1",)),
    **dict.fromkeys(("odx", "oncotype", "oncotypedx"), tuple(_ODX.split())),
}
_SHOWN = 3


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
        ``refuse``, ``sum`` (of the linear values) or ``mean``.
    target_column
        The label's name: it must not be in the table.

    Returns
    -------
    tuple
        The table with one row a case, linear scales as log2(x + 1), and notes with counts.

    Raises
    ------
    DataError
        O02 several aliquots of a case that differ, O03 no primary tumour left, O04 rows without
        case id, O06 missing and O17 unreadable values, O07, O08 a scale that does not fit, O10 gene
        names that a spreadsheet made dates, O13 duplicate genes, O14 an orientation that cannot be
        told, O16 no table, O18 the label in the table. Those of O04, O06, O10, O17 and O18 come
        together.
    """
    table = read_wide_table(path)
    problems = Problems(table.problems)
    problems.found += _strange_names(table, target_column)
    problems.refuse(DataError)
    notes = list(table.notes)
    case_ids, values = _one_row_a_case(path, table.ids, table.values, notes)
    found = find_scale(path, values, scale)
    genes, values = _one_column_a_gene(
        path, table.genes, values, duplicate_genes, scale=found, notes=notes
    )
    how = "declared" if scale != "auto" else "detected"
    shape = f"{len(case_ids):,} cases x {len(genes):,} genes"
    notes.insert(0, f"RNA: {shape}, scale {found} ({how})")
    if found in LINEAR:
        values, found = np.log2(values + 1), "log2"
        notes.append("RNA: log2(x + 1) taken")
    notes += _defining_genes(target_column, genes)
    expression = Expression(
        case_ids=tuple(case_ids), genes=tuple(genes), values=values, scale=found
    )
    return expression, notes


def _strange_names(table: WideTable, target_column: str | None) -> list[Problem]:
    found: list[Problem] = []
    where = str(table.path)
    target = (target_column or "").strip().casefold()
    if target and target in {n.strip().casefold() for n in (*table.header, *table.genes)}:
        what = f"holds the label column {target_column!r}"
        remedy = "remove it: the teacher must not see the label"
        found.append(Problem(code="O18", where=where, what=what, remedy=remedy))
    dates = [g for g in table.genes if _EXCEL_DATE.match(g)]
    if dates:
        what = f"{len(dates)} gene names were turned into dates ({', '.join(dates[:_SHOWN])})"
        remedy = "restore the symbols, for example SEPTIN2, MARCHF1"
        found.append(Problem(code="O10", where=where, what=what, remedy=remedy, value=dates[0]))
    nameless = [i for i, text in enumerate(table.ids) if not text]
    if nameless:
        what = f"{len(nameless)} of {len(table.ids)} cases have no id"
        remedy = f"the first is number {nameless[0] + 1}"
        found.append(Problem(code="O04", where=where, what=what, remedy=remedy))
    return found


def _one_row_a_case(
    path: Path, ids: Sequence[str], values: NDArray[np.float32], notes: list[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """Keep primary tumours, cut barcodes to the case, collapse equal rows, refuse others."""
    rows: dict[str, list[int]] = defaultdict(list)
    other_types: Counter[str] = Counter()
    for i, text in enumerate(ids):
        barcode = parse_barcode(text)
        if barcode is None or barcode.is_primary:
            rows[text if barcode is None else barcode.case_id].append(i)
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
        shown = ", ".join(differing[:_SHOWN])
        what = f"{len(differing)} cases have several samples that differ ({shown}"
        what += f"{', ...' if len(differing) > _SHOWN else ''}; id lengths {lengths})"
        raise DataError.of("O02", str(path), what, "keep one aliquot a case")
    n_extra = sum(len(r) - 1 for r in rows.values())
    if n_extra:
        notes.append(f"RNA: {n_extra} rows repeat a case with equal values: collapsed")
    return list(rows), values[[r[0] for r in rows.values()]]


def _one_column_a_gene(
    path: Path,
    names: Sequence[str],
    values: NDArray[np.float32],
    rule: str,
    *,
    scale: str,
    notes: list[str],
) -> tuple[list[str], NDArray[np.float32]]:
    """Strip Ensembl versions and join columns of one gene by ``rule``."""
    plain = [_ENSEMBL_VERSION.sub(r"\1", name) for name in names]
    n_changed = sum(a != b for a, b in zip(plain, names, strict=True))
    if n_changed:
        notes.append(f"RNA: version stripped from {n_changed} Ensembl ids")
    places: dict[str, list[int]] = defaultdict(list)
    for i, gene in enumerate(plain):
        places[gene].append(i)
    repeated = [g for g, p in places.items() if len(p) > 1]
    if not repeated:
        return plain, values
    signed = scale == "zscore" or bool(values.min() < 0)
    if rule == "refuse" or (rule == "sum" and signed):
        what = f"{len(repeated)} genes stand in it more than once ({', '.join(repeated[:_SHOWN])})"
        remedy = "set data.duplicate_genes: sum or mean"
        if rule == "sum":
            what, remedy = f"{what}; signed values have no sum", "set data.duplicate_genes: mean"
        raise DataError.of("O13", str(path), what, remedy)
    notes.append(f"RNA: {len(repeated)} genes stood more than once ({_counted(places)}): {rule}")
    joined = [_join(values[:, p], rule, scale) for p in places.values()]
    return list(places), np.stack(joined, axis=1).astype(np.float32)


def _join(columns: NDArray[np.float32], rule: str, scale: str) -> NDArray[np.float64]:
    wide = columns.astype(np.float64)
    if columns.shape[1] == 1:
        return wide[:, 0]
    if rule == "mean":
        return wide.mean(axis=1)
    if scale != "log2":
        return wide.sum(axis=1)
    # a sum of logs would be a product: add what the logs stand for, log2(x + 1)
    return np.log2((np.exp2(wide) - 1).sum(axis=1) + 1)


def _counted(places: Mapping[str, Sequence[int]]) -> str:
    shown = [f"{gene} {len(p)} times" for gene, p in places.items() if len(p) > 1]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")


def _defining_genes(target_column: str | None, genes: Sequence[str]) -> list[str]:
    """Say which genes measure what the label is about: ``her2_status_by_ihc`` -> ERBB2."""
    words = re.findall("[a-z]+[12]?|[0-9]+", (target_column or "").casefold())
    wanted = {gene for word in words for gene in _DEFINING.get(word, ())}
    there = [g for g in _ODX.split() if g in wanted and g in set(genes)]
    if not there:
        return []
    return [f"RNA: holds genes that define the label ({', '.join(there)})"]
