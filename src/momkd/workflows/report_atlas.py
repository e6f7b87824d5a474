"""What the slots of one training see, in the report of its run: from an atlas in the run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from momkd.errors import DataError
from momkd.reporting.figures import png_of
from momkd.reporting.heatmap import draw_layer
from momkd.reporting.page import Bounded, Part, Picture, Row, Section, Table, Words
from momkd.reporting.tile_layers import slot_layer
from momkd.reporting.words import short
from momkd.storage import plain_cell
from momkd.workflows.console import say
from momkd.workflows.stored_scores import find_scores, read_scores

_DPI = 90
_PICTURED = 2
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
    slots = _read(folder / "slots.csv")
    genes = _read(folder / "slot_genes.csv") if (folder / "slot_genes.csv").is_file() else None
    order = slots["share_of_evidence"].astype(float).sort_values(ascending=False, kind="stable")
    rows = [_row(slots.loc[i].to_dict(), genes) for i in order.index]
    n_slides, n_cases = slots["n_slides"].iloc[0], slots["n_cases"].iloc[0]
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
                rows=rows,
            ),
            *_pictures(folder, slots.loc[order.index], class_names),
        ],
    )


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.map(plain_cell)


def _row(slot: Mapping[str, str], genes: pd.DataFrame | None) -> Row:
    notes = [n for n in ("dead", "duplicate", "twin") if slot[n] == "yes"]
    row = {"slot": f"{slot['class_name']} {slot['slot']}"}
    row |= {heading: float(slot[key]) for key, heading in _SHARES.items()}
    row |= {"notes": ", ".join(notes)}
    return row if genes is None else row | _gene(slot, genes)


def _gene(slot: Mapping[str, str], genes: pd.DataFrame) -> Row:
    is_own = (genes["class_name"] == slot["class_name"]) & (genes["slot"] == slot["slot"])
    own = genes[is_own & (genes["rho_within_class"] != "")]
    if own.empty:
        return {"gene": "", "rho within class": None}
    first = own.loc[own["rho_within_class"].astype(float).abs().idxmax()]
    rho, low, high = (float(first[f"{k}_within_class"] or "nan") for k in ("rho", "low", "high"))
    return {"gene": first["gene"], "rho within class": Bounded(value=rho, low=low, high=high)}


def _pictures(folder: Path, slots: pd.DataFrame, class_names: Sequence[str]) -> list[Part]:
    """Draw, of each class, the slots that carry most of the evidence, each on its best slide."""
    top = _read(folder / "top_tiles.csv")
    first = top[top["rank"] == "1"]
    parts: list[Part] = []
    for label, name in enumerate(class_names):
        ours = slots[slots["class_name"] == name]
        pictured = 0
        for number in ours["slot"]:
            best = first[(first["class_name"] == name) & (first["slot"] == number)]
            if best.empty or pictured == _PICTURED:
                continue
            path = find_scores(folder / "scores", best["slide_id"].iloc[0])
            parts.append(_picture(path, label, int(number) - 1, class_names))
            pictured += 1
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
