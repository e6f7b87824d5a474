"""The tables of an atlas: a row a slot, a top tile, a slot and gene, a point of the map.

Every text cell that a spreadsheet would take for a formula is quoted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from momkd.data.conventions.study import make_table
from momkd.evaluation.rank_correlation import Correlations
from momkd.storage import text_cell
from momkd.workflows.atlas.genes import SlotGenes
from momkd.workflows.atlas.map import MemoryMap
from momkd.workflows.atlas.slot_reading import Atlas


def slots_csv(atlas: Atlas, class_names: Sequence[str]) -> str:
    """Set a row a slot; shares are means over cases."""
    header = [
        *("class_name", "slot", "share_of_tiles_in_class", "share_of_votes", "share_of_evidence"),
        *("share_of_attention", "dead", "nearest_own_slot", "cosine_own", "duplicate"),
        *("nearest_other_slot", "cosine_other", "twin", "n_slides", "n_cases"),
    ]
    like, use, rows = atlas.likeness, atlas.use, []
    n_cases = str(atlas.n_cases)
    for label, slot in np.ndindex(*use.use.shape):
        own = int(like.own_slot[label, slot])
        rows.append(
            [
                text_cell(class_names[label]),
                str(slot + 1),
                *(_number(v[label, slot]) for v in (use.use, use.votes, use.evidence)),
                _number(use.attention[label, slot]),
                _yes(use.dead[label, slot]),
                str(own + 1) if own >= 0 else "",
                _number(like.own[label, slot]),
                _yes(like.duplicate[label, slot]),
                str(int(like.other_slot[label, slot]) + 1),
                _number(like.other[label, slot]),
                _yes(like.twin[label, slot]),
                str(len(atlas.slides)),
                n_cases,
            ]
        )
    return make_table(header, rows)


def top_tiles_csv(atlas: Atlas, class_names: Sequence[str]) -> str:
    """Set a row a top tile: which slot, its rank, where it lies (level-0 px), its cosine."""
    header = ["class_name", "slot", "rank", "case_id", "slide_id", "x_px0", "y_px0", "side_px0"]
    rows = [
        [
            text_cell(class_names[label]),
            str(slot + 1),
            str(rank),
            text_cell(tile.case_id),
            text_cell(tile.slide_id),
            str(tile.x_px0),
            str(tile.y_px0),
            "" if tile.side_px0 is None else f"{tile.side_px0:g}",
            _number(tile.cosine),
        ]
        for (label, slot), tiles in sorted(atlas.top.items())
        for rank, tile in enumerate(tiles, start=1)
    ]
    return make_table([*header, "cosine"], rows)


def slot_genes_csv(genes: SlotGenes, class_names: Sequence[str]) -> str:
    """Set a row a slot and gene whose correlation is defined, strongest first within a slot."""
    header = ["class_name", "slot", "gene", "rho", "low", "high", "excludes_0", "n_cases"]
    header += ["n_tests", "rho_within_class", "low_within_class", "high_within_class"]
    header += ["excludes_0_within_class", "n_tests_within_class"]
    every, within = genes.all_cases, genes.within_class
    n_slots = len(every.rho) // 2
    rows: list[list[str]] = []
    for number, rho in enumerate(every.rho):
        known = np.flatnonzero(np.isfinite(rho))
        order = known[np.argsort(-np.abs(rho[known]), kind="stable")].tolist()
        rows += [
            [
                text_cell(class_names[number // n_slots]),
                str(number % n_slots + 1),
                text_cell(genes.genes[column]),
                *_bounded(every, number, column),
                str(every.n_cases),
                str(every.n_tests),
                *_bounded(within, number, column),
                str(within.n_tests),
            ]
            for column in order
        ]
    return make_table(header, rows)


def map_csv(found: MemoryMap, class_names: Sequence[str]) -> str:
    """Set a row a point of the map: slot, slide or RNA of a case, and its two coordinates."""
    rows = [
        [
            point.kind,
            text_cell(class_names[point.label]) if point.label >= 0 else "",
            text_cell(point.name),
            _number(point.x),
            _number(point.y),
        ]
        for point in found.points
    ]
    return make_table(["kind", "class_name", "name", "first", "second"], rows)


def _bounded(of: Correlations, row: int, column: int) -> list[str]:
    low, high = of.low[row, column], of.high[row, column]
    excludes = bool(np.isfinite(low)) and (low > 0 or high < 0)
    return [_number(of.rho[row, column]), _number(low), _number(high), _yes(excludes)]


def _number(value: Any) -> str:
    return f"{float(value):.6g}" if np.isfinite(value) else ""


def _yes(value: Any) -> str:
    return "yes" if value else "no"
