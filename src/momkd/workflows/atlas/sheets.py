"""Slots on tissue: each on the slide of its top tile, from stored scores, beside its top tiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from momkd.reporting.memory_figures import Crop, SlotSheet
from momkd.reporting.tile_layers import slot_layer
from momkd.reporting.words import short
from momkd.types import TileGrid
from momkd.workflows.atlas.slide_pixels import Place, SlidePixels
from momkd.workflows.atlas.slot_reading import Atlas, TopTile
from momkd.workflows.stored_scores import read_scores

Slot = tuple[int, int]
"""Class and number within it, from 0."""


def slot_name(slot: Slot, class_names: Sequence[str]) -> str:
    """Give what a slot is called on pages and in figures: its class, and its number from 1."""
    return f"{class_names[slot[0]]} {slot[1] + 1}"


def shown_slots(atlas: Atlas, most: int) -> list[Slot]:
    """Give the slots that have top tiles, those that carry most of the evidence first."""
    return [slot for slot in atlas.by_evidence if slot in atlas.top][:most]


def slides_shown(atlas: Atlas, slots: Sequence[Slot]) -> dict[str, Path]:
    """Give the slides that top tiles of these slots lie on, with their scores."""
    wanted = {tile.slide_id for slot in slots for tile in atlas.top[slot]}
    return {s.slide_id: s.scores for s in atlas.slides if s.slide_id in wanted}


def places_shown(atlas: Atlas, slots: Sequence[Slot], n_tiles: int) -> list[Place]:
    """Give the places of the top tiles of these slots."""
    return [(t.slide_id, t.x_px0, t.y_px0) for slot in slots for t in atlas.top[slot][:n_tiles]]


def read_grids(scores: Mapping[str, Path]) -> dict[str, TileGrid]:
    """Give the tiles of slides as they were scored."""
    found = {}
    for slide_id, path in scores.items():
        grid = read_scores(path).grid
        assert grid is not None
        found[slide_id] = grid
    return found


def make_sheet(
    atlas: Atlas,
    slot: Slot,
    pixels: SlidePixels,
    class_names: Sequence[str],
    names: Mapping[str, str],
    *,
    n_tiles: int,
) -> SlotSheet:
    """Put together what a picture of one slot needs.

    Parameters
    ----------
    slot
        One that has top tiles.
    names
        Slide -> what it is called in the picture.
    """
    tiles = atlas.top[slot][:n_tiles]
    first = tiles[0].slide_id
    path = next(s.scores for s in atlas.slides if s.slide_id == first)
    stored = read_scores(path)
    assert stored.grid is not None
    assert stored.cosines is not None
    share = atlas.use.evidence[slot]
    title = f"{short(slot_name(slot, class_names), 24)}: {share:.0%} of the evidence\n"
    return SlotSheet(
        title=title + f"on {short(names[first], 40)}",
        grid=stored.grid,
        layer=slot_layer(stored.cosines[:, slot[0], slot[1]], *slot, class_names),
        thumbnail=pixels.thumbnails.get(first),
        marked=[(t.x_px0, t.y_px0) for t in tiles if t.slide_id == first],
        crops=[_crop(t, pixels, names) for t in tiles],
    )


def _crop(tile: TopTile, pixels: SlidePixels, names: Mapping[str, str]) -> Crop:
    place = (tile.slide_id, tile.x_px0, tile.y_px0)
    return Crop(
        pixels=pixels.crops.get(place),
        words=f"{short(names[tile.slide_id], 16)}, cos {tile.cosine:.2f}",
    )
