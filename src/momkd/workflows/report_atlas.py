"""What the slots of one training see, in the report of its run: from an atlas in the run folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momkd.errors import DataError
from momkd.file_names import find_named
from momkd.reporting.figures import png_of
from momkd.reporting.heatmap import draw_layer
from momkd.reporting.page import Bounded, Part, Picture, Row, Section, Table, Words
from momkd.reporting.tile_layers import slot_layer
from momkd.reporting.words import short
from momkd.storage import plain_cell
from momkd.workflows.console import say
from momkd.workflows.stored_scores import read_scores

_DPI = 90
_PICTURED = 2
_Rows = list[dict[str, str]]
_SHARES = {
    "share_of_evidence": "share of the evidence",
    "share_of_attention": "share of the attention",
    "share_of_tiles_in_class": "share of tiles (nearest of its class)",
}


def atlas_section(run: Path, class_names: Sequence[str]) -> Section | None:
    """Show the first atlas that ``momkd memory RUN -o RUN/NAME`` left in a run; None without one.

    Its tables and stored scores are read; nothing is computed. An atlas that cannot be read is
    said on the terminal and passed over.
    """
    for path in sorted(run.glob("*/slots.csv")):
        folder = path.parent
        if not path.resolve().is_relative_to(run.resolve()):
            continue
        try:
            return _section(folder, class_names)
        except (OSError, KeyError, ValueError, IndexError, DataError) as error:
            brief = " ".join(str(error).split())[:200]
            say(f"left out of the report: {folder} is no atlas that can be read: {brief}")
    return None


def _section(folder: Path, class_names: Sequence[str]) -> Section:
    genes = _read(folder / "slot_genes.csv") if (folder / "slot_genes.csv").is_file() else None
    slots = sorted(
        _read(folder / "slots.csv"), key=lambda slot: float(slot["share_of_evidence"]), reverse=True
    )
    n_slides, n_cases = slots[0]["n_slides"], slots[0]["n_cases"]
    told = "Gene: the one that goes with the slot most strongly within the classes, Spearman's rho "
    told += "with its interval; intervals of all pairs hold together with 95 % probability. "
    return Section(
        title="Memory atlas",
        parts=[
            Words(
                lines=[
                    f"The slots of one training on {n_slides} slides of {n_cases} cases; what they "
                    f"see tile by tile stands in {folder.name}/memory.html. A slot enters the "
                    "evidence of a tile where it is the nearest of its class. These figures "
                    "describe what was learnt and test nothing."
                ]
            ),
            Table(
                caption="Slots, those that carry most of the evidence first; shares from 0 to 1, "
                f"means over {n_cases} cases. {told if genes is not None else ''}Dead: hardly any "
                "tile; duplicate, twin: the same as another slot of its own class, of the other",
                rows=[_row(slot, genes) for slot in slots],
            ),
            *_pictures(folder, slots, class_names),
        ],
    )


def _read(path: Path) -> _Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            {key: plain_cell(cell or "") for key, cell in row.items()}
            for row in csv.DictReader(stream)
        ]


def _row(slot: Mapping[str, str], genes: _Rows | None) -> Row:
    notes = [n for n in ("dead", "duplicate", "twin") if slot[n] == "yes"]
    row: dict[str, Any] = {"slot": f"{slot['class_name']} {slot['slot']}"}
    row |= {heading: float(slot[key]) for key, heading in _SHARES.items()}
    row["notes"] = ", ".join(notes)
    return row if genes is None else row | _gene(slot, genes)


def _gene(slot: Mapping[str, str], genes: _Rows) -> dict[str, Any]:
    own = [g for g in genes if _is_of(g, slot["class_name"], slot["slot"]) and _rho(g) is not None]
    if not own:
        return {"gene": "", "rho within class": None}
    first = max(own, key=lambda g: abs(_rho(g) or 0.0))
    low, high = (float(first[f"{k}_within_class"] or "nan") for k in ("low", "high"))
    found = Bounded(value=_rho(first), low=low, high=high)
    return {"gene": first["gene"], "rho within class": found}


def _rho(gene: Mapping[str, str]) -> float | None:
    cell = gene["rho_within_class"]
    return float(cell) if cell else None


def _is_of(row: Mapping[str, str], class_name: str, slot: str) -> bool:
    return (row["class_name"], row["slot"]) == (class_name, slot)


def _pictures(folder: Path, slots: _Rows, class_names: Sequence[str]) -> list[Part]:
    """Draw, of each class, the slots that carry most of the evidence, each on its best slide."""
    first = [tile for tile in _read(folder / "top_tiles.csv") if tile["rank"] == "1"]
    parts: list[Part] = []
    for label, name in enumerate(class_names):
        numbers = [slot["slot"] for slot in slots if slot["class_name"] == name]
        best = [(n, tile) for n in numbers for tile in first if _is_of(tile, name, n)]
        for number, tile in best[:_PICTURED]:
            path = find_named(folder / "scores", tile["slide_id"], ".h5")
            if path is None:
                raise ValueError(f"no scores of slide {tile['slide_id']!r}")
            parts.append(_picture(path, label, int(number) - 1, class_names))
    return parts


def _picture(path: Path, label: int, slot: int, class_names: Sequence[str]) -> Picture:
    stored = read_scores(path)
    if stored.grid is None or stored.cosines is None:
        raise ValueError(f"{path.name} holds no cosines to slots")
    layer = slot_layer(stored.cosines[:, label, slot], label, slot, class_names)
    name = f"{short(class_names[label])} {slot + 1}"
    low, high = float(layer.values.min()), float(layer.values.max())
    return Picture(
        figure=png_of(draw_layer(stored.grid, layer, title=f"Slot {name}"), dpi=_DPI),
        caption=f"Slot {name} on the slide of its top tile: how like the slot each tile is "
        "(cosine; 1: the same direction).",
        alt=f"Map of {len(stored.grid)} tiles: cosine to slot {name}, {low:.2f} to {high:.2f}",
    )
