"""The part of an atlas about genes: which move with a slot, by intervals that hold all at once."""

from collections.abc import Sequence

import numpy as np

from momkd.evaluation.rank_correlation import Correlations
from momkd.reporting.page import Bounded, Part, Row, Section, Table, Words
from momkd.workflows.atlas.genes import SlotGenes
from momkd.workflows.atlas.sheets import Slot, slot_name

_A_SLOT = 5
_FLAT = "the slot, or every gene, is the same in all cases"


def genes_section(genes: SlotGenes | None, no_genes: str, class_names: Sequence[str]) -> Section:
    """Tell which genes go with which slot, or why that is not known."""
    title = "Genes that move with a slot"
    if genes is None:
        return Section(title=title, parts=[Words(lines=[f"Not known: {no_genes}."])])
    n_classes, n_slots = 2, len(genes.all_cases.rho) // 2
    slots = [(label, k) for label in range(n_classes) for k in range(n_slots)]
    parts: list[Part] = [
        Words(lines=_about(genes)),
        Table(
            caption=f"The gene most correlated with each slot, over {len(genes.case_ids)} training "
            "cases (simultaneous 95 % intervals), and how many genes have an interval without 0",
            rows=[_summary(genes, slot, class_names) for slot in slots],
        ),
        Table(
            caption=f"Up to {_A_SLOT} genes of each slot whose interval leaves out 0, strongest "
            "first; all others stand in slot_genes.csv",
            rows=[row for slot in slots for row in _strong(genes, slot, class_names)],
            folded=True,
        ),
    ]
    return Section(title=title, parts=parts)


def strongest_gene(genes: SlotGenes, slot: Slot) -> str:
    """Give the gene most correlated with a slot, and its rho."""
    rho = genes.all_cases.rho[_row(genes, slot)]
    if not np.isfinite(rho).any():
        return ""
    best = int(np.nanargmax(np.abs(rho)))
    return f"{genes.genes[best]} ({rho[best]:+.2f})"


def _about(genes: SlotGenes) -> list[str]:
    every, within = genes.all_cases, genes.within_class
    return [
        f"Over the {every.n_cases} training cases with slide and RNA of this training: for each "
        "slot, the share of a case's tiles for which it is the nearest of its class, against the "
        f"expression of the {len(genes.genes)} genes that taught the model. Spearman's rank "
        "correlation; intervals by Fisher's z (Bonett and Wright's variance), made to hold all at "
        f"once by Bonferroni's rule: {every.n_tests:,} intervals over all cases, "
        f"{within.n_tests:,} within the classes.",
        "The genes were chosen for telling the classes apart, and so were the slots: much of what "
        "goes together over all cases does so through the class. The column within class shows "
        "what is left of it among cases of one class.",
    ]


def _summary(genes: SlotGenes, slot: Slot, class_names: Sequence[str]) -> Row:
    row = _row(genes, slot)
    rho = genes.all_cases.rho[row]
    if not np.isfinite(rho).any():
        return {"slot": slot_name(slot, class_names), "gene": f"not defined: {_FLAT}"}
    best = int(np.nanargmax(np.abs(rho)))
    return _pair(genes, slot, best, class_names) | {
        "genes without 0, all cases": int(_excludes(genes.all_cases, row).sum()),
        "genes without 0, within class": int(_excludes(genes.within_class, row).sum()),
    }


def _strong(genes: SlotGenes, slot: Slot, class_names: Sequence[str]) -> list[Row]:
    row = _row(genes, slot)
    rho = np.nan_to_num(np.abs(genes.all_cases.rho[row]))
    known = np.flatnonzero(_excludes(genes.all_cases, row))
    best = known[np.argsort(-rho[known], kind="stable")][:_A_SLOT]
    return [_pair(genes, slot, int(column), class_names) for column in best]


def _pair(
    genes: SlotGenes, slot: Slot, column: int, class_names: Sequence[str]
) -> dict[str, object]:
    row = _row(genes, slot)
    return {
        "slot": slot_name(slot, class_names),
        "gene": genes.genes[column],
        "rho, all cases": _bounded(genes.all_cases, row, column),
        "rho, within class": _bounded(genes.within_class, row, column),
        "cases": genes.all_cases.n_cases,
    }


def _bounded(of: Correlations, row: int, column: int) -> Bounded:
    return Bounded(
        value=float(of.rho[row, column]),
        low=float(of.low[row, column]),
        high=float(of.high[row, column]),
        why="it does not vary within the classes",
    )


def _excludes(of: Correlations, row: int) -> np.ndarray:
    return (of.low[row] > 0) | (of.high[row] < 0)


def _row(genes: SlotGenes, slot: Slot) -> int:
    return slot[0] * (len(genes.all_cases.rho) // 2) + slot[1]
