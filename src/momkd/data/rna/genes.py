"""One column a gene: versions stripped, copies joined by a stated rule, ids turned to symbols."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.rna.gene_names import (
    is_ensembl,
    is_par_copy,
    mangled_copies,
    read_gene_map,
    without_version,
)
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import shown
from momkd.errors import DataError

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneChange:
    """A name of the table that does not stand for itself alone: joined with others, or left out."""

    name: str
    gene: str
    what: str


@dataclass(slots=True, kw_only=True, eq=False)
class GeneTable:
    """Columns on their way to one a gene, and what happened to them."""

    path: Path
    names: list[str]
    values: NDArray[np.float32]
    scale: str
    notes: list[str] = field(default_factory=list)
    changes: list[GeneChange] = field(default_factory=list)


def harmonise_genes(table: GeneTable, symbols: Mapping[str, str], options: RnaOptions) -> None:
    """Bring a table to one column a gene, in place.

    In this order: the copies of pseudo-autosomal genes on Y go; versions are stripped; columns of
    one name are joined by ``duplicate_genes``; ids get their symbols, from ``gene_map`` or the
    table's own, and ids that share a symbol are summed (signed values averaged).

    Parameters
    ----------
    symbols
        The table's own: Ensembl id, without version, to symbol.

    Raises
    ------
    DataError
        O09 ids and options that do not go together, O13 duplicate genes.
    """
    _leave_out_par_copies(table)
    _strip_versions(table)
    _join_duplicates(table, options.duplicate_genes)
    if options.gene_ids == "ensembl":
        _require_ids(table, wanted_ensembl=True)
        return
    given = read_gene_map(options.gene_map) if options.gene_map is not None else {}
    _take_symbols(table, {**symbols, **given}, options)
    if options.gene_ids == "symbol":
        _require_ids(table, wanted_ensembl=False)


def _leave_out_par_copies(table: GeneTable) -> None:
    copies = [i for i, name in enumerate(table.names) if is_par_copy(name)]
    if copies:
        gone = [table.names[i] for i in copies]
        said = "copies of pseudo-autosomal genes on Y"
        table.notes.append(f"RNA: {len(gone)} {said} left out: {shown(gone, _SHOWN)}")
        table.changes += [GeneChange(name=g, gene="", what=f"left out: {said}") for g in gone]
        table.values = np.delete(table.values, copies, axis=1)
        table.names = [n for n in table.names if not is_par_copy(n)]


def _strip_versions(table: GeneTable) -> None:
    plain = [without_version(name) for name in table.names]
    n_changed = sum(a != b for a, b in zip(plain, table.names, strict=True))
    if n_changed:
        table.notes.append(f"RNA: version stripped from {n_changed:,} Ensembl ids")
        table.names = plain


def _join_duplicates(table: GeneTable, rule: str) -> None:
    copies = mangled_copies(table.names)
    names = [copies.get(i, name) for i, name in enumerate(table.names)]
    places = _places(names)
    repeated = [g for g, p in places.items() if len(p) > 1]
    if not repeated:
        return
    signed = table.scale == "zscore" or bool(np.nanmin(table.values) < 0)
    if rule == "refuse" or (rule == "sum" and signed):
        what = f"{len(repeated)} genes stand in it more than once ({shown(repeated, _SHOWN)})"
        remedy = "set data.duplicate_genes: sum or mean"
        if rule == "sum":
            what, remedy = f"{what}; signed values have no sum", "set data.duplicate_genes: mean"
        raise DataError.of("O13", str(table.path), what, remedy)
    counted = _counted(places)
    table.notes.append(f"RNA: {len(repeated)} genes stood more than once ({counted}): {rule}")
    _join(table, places, rule)


def _take_symbols(table: GeneTable, symbols: Mapping[str, str], options: RnaOptions) -> None:
    n_known = sum(name in symbols for name in table.names)
    if not n_known:
        if options.gene_map is not None:
            what = f"knows none of the {len(table.names):,} genes (first: {table.names[0]})"
            raise DataError.of("O09", str(options.gene_map), what, "give the map of these ids")
        return
    source = "the table itself" if options.gene_map is None else options.gene_map.name
    kept = len(table.names) - n_known
    text = f"RNA: {n_known:,} genes named by {source}"
    table.notes.append(f"{text}; {kept:,} that it does not know keep their name" if kept else text)
    places = _places([symbols.get(name, name) for name in table.names])
    shared = [g for g, p in places.items() if len(p) > 1]
    signed = table.scale == "zscore" or bool(np.nanmin(table.values) < 0)
    rule = "mean" if signed else "sum"
    if shared:
        text = (
            f"RNA: {len(shared):,} symbols are shared by several ids ({_counted(places)}): {rule}"
        )
        table.notes.append(text)
    _join(table, places, rule)


def _require_ids(table: GeneTable, *, wanted_ensembl: bool) -> None:
    n = sum(map(is_ensembl, table.names))
    if (n * 2 >= len(table.names)) == wanted_ensembl:
        return
    wanted, got = ("Ensembl ids", "symbols") if wanted_ensembl else ("symbols", "Ensembl ids")
    what = f"holds {got} (first: {table.names[0]}), wanted {wanted}"
    remedy = "set data.gene_ids: auto" if wanted_ensembl else "set data.gene_map: a probemap"
    raise DataError.of("O09", str(table.path), what, remedy)


def _places(names: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        places[name].append(i)
    return places


def _join(table: GeneTable, places: Mapping[str, Sequence[int]], rule: str) -> None:
    """Join the columns of each gene; those that stand alone are left as they are."""
    if any(len(p) > 1 for p in places.values()):
        joined = table.values[:, [p[0] for p in places.values()]]
        for column, (gene, p) in enumerate(places.items()):
            if len(p) > 1:
                joined[:, column] = _joined(table.values[:, list(p)], rule, table.scale)
                table.changes += [
                    GeneChange(name=table.names[i], gene=gene, what=f"joined: {rule} of {len(p)}")
                    for i in p
                ]
        table.values = joined
    table.names = list(places)


def _joined(columns: NDArray[np.float32], rule: str, scale: str) -> NDArray[np.float64]:
    wide = columns.astype(np.float64)
    if rule == "mean":
        return wide.mean(axis=1)
    if scale != "log2":
        return wide.sum(axis=1)
    # a sum of logs would be a product: add what the logs stand for, log2(x + 1)
    return np.log2((np.exp2(wide) - 1).sum(axis=1) + 1)


def _counted(places: Mapping[str, Sequence[int]]) -> str:
    often = [f"{gene} {len(p)} times" for gene, p in places.items() if len(p) > 1]
    return shown(often, _SHOWN)
