"""RNA tables become one row a case and one column a gene, on a known scale."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.known_genes import defining_genes, spellings
from momkd.data.rna.aliquots import LeftOutSample, choose_samples
from momkd.data.rna.forms import recognise_rna
from momkd.data.rna.genes import GeneChange, GeneTable, harmonise_genes
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import RawTable
from momkd.data.rna.restriction import restrict_genes
from momkd.data.rna.scale import LINEAR, doubt, find_scale
from momkd.errors import DataError, Problem, Problems
from momkd.types import Expression

_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_EXCEL_DATE = re.compile(
    rf"^(\d{{1,2}}-{_MONTH}(-\d+)?|{_MONTH}-\d{{1,2}}|\d{{4}}-\d\d-\d\d)$", re.I
)
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RnaReading:
    """An RNA table as it is used, and how it came to be so.

    Parameters
    ----------
    expression
        One row a case, linear scales as log2(x + 1).
    form, why
        The form that was recognised, and by what.
    notes
        What was decided and left out, with counts.
    left_out
        Samples that do not stand for a case.
    gene_changes
        Genes that were joined or left out.
    sample_types
        How many samples of each TCGA type the source holds.
    """

    expression: Expression
    form: str
    why: str
    notes: tuple[str, ...]
    left_out: tuple[LeftOutSample, ...]
    gene_changes: tuple[GeneChange, ...]
    sample_types: dict[str, int]


def read_expression(
    path: Path, options: RnaOptions | None = None, *, target_column: str | None = None
) -> RnaReading:
    """Read RNA in any form of :data:`momkd.data.rna.forms.FORMS`.

    Parameters
    ----------
    path
        File or folder.
    options
        How it is read.
    target_column
        The label's name: it must not be in the table.

    Raises
    ------
    DataError
        O02 samples of a case that differ without a rule to choose by, O03 no tumour sample left,
        O04 rows or files without case, O06 missing and O17 unreadable values, O07, O08 a scale that
        does not fit, O09 ids that do not go with the options, O10 gene names that a spreadsheet
        made dates, O13 duplicate genes, O14 an orientation that cannot be told, O16 nothing
        readable, O18 the label in the table, O26 to O28 as the forms say. Those of O04, O06, O10,
        O17 and O18 come together.
    IntegrityError
        O22 pickled objects; F21 to F24 a hostile HDF5 file.
    """
    options = options or RnaOptions()
    recognised = recognise_rna(path)
    raw = recognised.form.read(path, options)
    problems = Problems(raw.problems)
    problems.found += _strange_names(raw, target_column)
    problems.refuse(DataError)
    chosen = choose_samples(raw, options)
    scale, how = _scale(path, chosen.values, options, raw.scale, chosen.case_ids)
    table = GeneTable(path=path, names=raw.genes, values=chosen.values, scale=scale)
    harmonise_genes(table, raw.symbols, options)
    values = _logged(table)
    notes = [
        f"RNA: {recognised.form.name} ({recognised.why})",
        f"RNA: {len(chosen.case_ids):,} cases x {len(table.names):,} genes, scale {scale} ({how})",
        *raw.notes,
        *chosen.notes,
        *table.notes,
        *_missing(values),
    ]
    expression = Expression(
        case_ids=tuple(chosen.case_ids),
        genes=tuple(table.names),
        values=values,
        scale="log2" if scale in LINEAR else scale,
        has_missing=bool(np.isnan(values).any()),
    )
    if options.restrict_genes_to is not None:
        expression = restrict_genes(expression, options, notes, table.changes)
    notes += _defining_genes(target_column, expression.genes)
    return RnaReading(
        expression=expression,
        form=recognised.form.name,
        why=recognised.why,
        notes=tuple(notes),
        left_out=tuple(chosen.left_out),
        gene_changes=tuple(table.changes),
        sample_types=chosen.types,
    )


def _scale(
    path: Path,
    values: NDArray[np.float32],
    options: RnaOptions,
    of_form: str | None,
    case_ids: Sequence[str],
) -> tuple[str, str]:
    """Give the scale, and who says so; a declared one is believed if it can be true."""
    filled = np.nan_to_num(values, nan=0.0) if np.isnan(values).any() else values
    if options.rna_scale != "auto":
        return find_scale(path, filled, options.rna_scale, case_ids), "declared"
    if of_form is not None:
        return find_scale(path, filled, of_form, case_ids), "by its form"
    return find_scale(path, filled, "auto", case_ids), "detected"


def _logged(table: GeneTable) -> NDArray[np.float32]:
    """Take the logarithm of linear values, once."""
    if table.scale in LINEAR:
        table.notes.append("RNA: log2(x + 1) taken")
        return np.log2(table.values + 1)
    why = doubt(np.nan_to_num(table.values, nan=0.0), table.scale)
    table.notes += [why] if why else []
    return table.values


def _missing(values: NDArray[np.float32]) -> list[str]:
    gaps = np.isnan(values)
    if not gaps.any():
        return []
    n_genes, n_cases = int(gaps.any(axis=0).sum()), int(gaps.any(axis=1).sum())
    text = f"RNA: {int(gaps.sum()):,} values are missing in {n_genes:,} genes of {n_cases:,} cases"
    return [f"{text}: each fold takes the median of its training cases"]


def _strange_names(table: RawTable, target_column: str | None) -> list[Problem]:
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


def _defining_genes(target_column: str | None, genes: Sequence[str]) -> list[str]:
    """Say which genes measure what the label is about."""
    there = set(genes)
    named = [
        next((n for n in spellings(g) if n in there), "") for g in defining_genes(target_column)
    ]
    if not any(named):
        return []
    return [f"RNA: holds genes that define the label ({', '.join(n for n in named if n)})"]
