"""Figure 4 of MoMKD's paper: slots on tissue with their top tiles, from a predictor and slides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from momkd.errors import ConfigError
from momkd.reporting.figures import pdf_of, png_of, svg_of
from momkd.reporting.memory_figures import draw_sheets
from momkd.storage import write_bytes, write_text
from momkd.workflows.atlas.sheets import Slot, make_sheet, slot_name
from momkd.workflows.atlas.slot_reading import Atlas
from momkd.workflows.memory import read_atlas, see_slots

if TYPE_CHECKING:
    from momkd.slides.reader import SlideRules

_MOST = 12
_PNG_DPI = 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure4:
    """The figure, and what belongs in its caption.

    Parameters
    ----------
    figure
        A row a slot: the slide of its top tile, and its top tiles.
    caption
        What it shows, which training, which slides.
    records
        A row a top tile that is shown: class, slot, rank, case, slide, corner, cosine.
    """

    figure: Figure
    caption: str
    records: Sequence[dict[str, object]]


def draw_figure4(
    source: Path | str,
    work: Path | str,
    *,
    slides: Sequence[Path | str] = (),
    features: Sequence[Path | str] = (),
    training: str | None = None,
    n_slots: int = 2,
    n_tiles: int = 6,
    names: bool = False,
    rules: "SlideRules | None" = None,
    device: str = "cpu",
    workers: int = 1,
) -> Figure4:
    """Draw the slots of each class that carry most of the evidence, with their top tiles.

    Parameters
    ----------
    source
        A run, one training in it, or a predictor.
    work
        Folder where scores, and features if they must be made, are kept.
    slides, features, training, rules, device, workers
        As of :func:`momkd.workflows.memory.memory`, but that of a run's slides those are used
        whose pixels are given; without ``slides`` no tile is seen closely.
    n_slots, n_tiles
        Slots of each class, and tiles of each, 1 to 12.
    names
        Call slides by their names instead of numbering them.

    Raises
    ------
    MomkdError
        As :func:`momkd.workflows.memory.memory`.
    """
    for key, value in (("n_slots", n_slots), ("n_tiles", n_tiles)):
        if not 1 <= value <= _MOST:
            raise ConfigError.of("G07", f"figure4 {key}", f"got {value}, wanted 1 to {_MOST}")
    found, inputs, atlas = read_atlas(
        source,
        Path(work),
        features=features,
        slides=slides,
        training=training,
        n_top=n_tiles,
        rules=rules,
        device=device,
        workers=workers,
        only_seen=True,
    )
    class_names = found.card.class_names
    chosen = _chosen(atlas, n_slots)
    pixels = see_slots(atlas, inputs, chosen, n_tiles, rules)
    ids = [s.slide_id for s in atlas.slides]
    called = {s: s if names else f"slide {i}" for i, s in enumerate(ids, start=1)}
    sheets = [
        make_sheet(atlas, slot, pixels, class_names, called, n_tiles=n_tiles) for slot in chosen
    ]
    rows: list[dict[str, object]] = [
        {
            "class": class_names[slot[0]],
            "slot": slot[1] + 1,
            "share_of_evidence": float(atlas.use.evidence[slot]),
            "rank": rank,
            "case_id": tile.case_id,
            "slide_id": tile.slide_id,
            "x_px0": tile.x_px0,
            "y_px0": tile.y_px0,
            "cosine": tile.cosine,
        }
        for slot in chosen
        for rank, tile in enumerate(atlas.top[slot], start=1)
    ]
    shown = ", ".join(slot_name(slot, class_names) for slot in chosen)
    caption = (
        f"Slots of the memory of {found.name} ({found.choice}): {shown}. Left: cosine of each tile "
        "to the slot, on the slide of its top tile; frames: top tiles. Right: the tiles most like "
        f"the slot among {sum(s.n_tiles for s in atlas.slides):,} tiles of {len(atlas.slides)} "
        f"slides of {atlas.n_cases} cases ({inputs.which}). Slots are those of each class that "
        "carry most of the evidence (eq. 7)."
    )
    n_crops = n_tiles if pixels.crops else 0
    return Figure4(figure=draw_sheets(sheets, n_crops=n_crops), caption=caption, records=rows)


def write_figure4(made: Figure4, folder: Path | str) -> list[Path]:
    """Write the figure as ``figure4.pdf``, ``.svg``, ``.png`` and its caption, ``figure4.txt``.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it.
    """
    paths = [Path(folder) / f"figure4.{ending}" for ending in ("pdf", "svg", "png", "txt")]
    write_bytes(paths[0], pdf_of(made.figure))
    write_text(paths[1], svg_of(made.figure))
    write_bytes(paths[2], png_of(made.figure, dpi=_PNG_DPI))
    write_text(paths[3], made.caption + "\n")
    return paths


def _chosen(atlas: Atlas, n_slots: int) -> list[Slot]:
    """Give the slots of each class that carry most of the evidence, the positive class first."""
    order = [slot for slot in atlas.by_evidence if slot in atlas.top]
    return [slot for label in (1, 0) for slot in [s for s in order if s[0] == label][:n_slots]]
