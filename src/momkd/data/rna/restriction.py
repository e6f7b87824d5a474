"""Only genes that another table has too: settled before any fold chooses its genes."""

from pathlib import Path

import numpy as np

from momkd.data.delimited import open_table
from momkd.data.rna.annotated import AnnotatedMatrix
from momkd.data.rna.forms import recognise_rna
from momkd.data.rna.gene_names import (
    is_ensembl,
    mangled_copies,
    read_gene_list,
    read_gene_map,
    without_version,
)
from momkd.data.rna.genes import GeneChange
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look
from momkd.errors import DataError, MomkdError
from momkd.types import Expression


def restrict_genes(
    expression: Expression, options: RnaOptions, notes: list[str], changes: list[GeneChange]
) -> Expression:
    """Leave out the genes that ``restrict_genes_to`` lacks.

    No label and no value of either table has a part in it, so nothing can leak.

    Raises
    ------
    DataError
        O05 no gene is left, O09 one side holds Ensembl ids and the other symbols.
    """
    path = options.restrict_genes_to
    if path is None:
        return expression
    other = _genes_of(path, options)
    kept = [i for i, gene in enumerate(expression.genes) if gene in other]
    if not kept:
        here, there = (sum(map(is_ensembl, g)) * 2 > len(g) for g in (expression.genes, other))
        what = f"shares none of its {len(other):,} genes with the RNA table"
        if here != there:
            what += f" (one holds Ensembl ids, the other symbols: {min(other)})"
            raise DataError.of("O09", str(path), what, "set data.gene_map: a probemap")
        raise DataError.of("O05", str(path), what, "check that it lists genes")
    left = [g for g in expression.genes if g not in other]
    text = f"RNA: {len(kept):,} genes that {path.name} has too are kept, {len(left):,} left out"
    notes.append(text)
    said = f"left out: not in {path.name}"
    changes += [GeneChange(name=g, gene="", what=said) for g in left]
    return Expression(
        case_ids=expression.case_ids,
        genes=tuple(expression.genes[i] for i in kept),
        values=np.ascontiguousarray(expression.values[:, kept]),
        scale=expression.scale,
        has_missing=expression.has_missing,
    )


def _genes_of(path: Path, options: RnaOptions) -> frozenset[str]:
    """Give the genes of a list or table, under the names that the user's own table gets."""
    symbols: dict[str, str] = {}
    if _is_list(path):
        names = [without_version(gene) for gene in read_gene_list(path)]
    else:
        lenient = options.model_copy(update={"impute": "train_median", "rna_scale": "auto"})
        raw = recognise_rna(path).form.read(path, lenient)
        copies = mangled_copies(raw.genes)
        names = [copies.get(i, without_version(gene)) for i, gene in enumerate(raw.genes)]
        symbols |= raw.symbols
    if options.gene_ids == "ensembl":
        return frozenset(names)
    if options.gene_map is not None:
        symbols |= read_gene_map(options.gene_map)
    return frozenset(symbols.get(name, name) for name in names)


def _is_list(path: Path) -> bool:
    """Say whether a file has one column: then it is a list, with or without a header."""
    if path.is_dir() or AnnotatedMatrix().recognise(Look(path)) is not None:
        return False
    try:
        return len(open_table(path).columns) < 2
    except MomkdError:
        return True
