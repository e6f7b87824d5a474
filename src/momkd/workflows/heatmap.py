"""``momkd heatmap``: pictures and QuPath polygons from stored scores; nothing is computed again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from momkd.errors import DataError
from momkd.file_names import file_name
from momkd.reporting.figures import png_of, svg_of
from momkd.reporting.geojson import tiles_as_geojson
from momkd.reporting.heatmap import draw_layer, draw_layer_over_slide
from momkd.storage import require_inside, write_bytes, write_text
from momkd.types import TileGrid
from momkd.workflows.stored_scores import read_scores


def heatmap(
    inputs: Sequence[Path | str],
    output: Path | str,
    *,
    thumbnails: Path | str | None = None,
    slots: bool = False,
) -> list[Path]:
    """Draw what ``momkd predict --attention`` or ``momkd memory`` stored.

    Parameters
    ----------
    inputs
        Files of scores (h5), or folders of them.
    output
        Folder: ``<slide>.png`` of the attention, ``<slide>.evidence.png`` where class evidence was
        stored, each also as ``.svg``, and ``<slide>.geojson`` with everything; in a folder a model
        where inputs are so. No ``.geojson`` where places are not in level-0 pixels.
    thumbnails
        Folder of ``<slide>.jpg``, pictures of whole slides as ``momkd extract`` writes them;
        without it, tiles are drawn alone.
    slots
        Draw the similarity to every slot of the memory too, ``<slide>.slot-CLASS-NUMBER.png``,
        where it was stored.

    Returns
    -------
    list of Path
        The pictures of attention, one a slide.

    Raises
    ------
    DataError
        P09 no attention file; P18 a file that holds no scores and places; S16 tiles that lie
        beyond the slide, or a thumbnail of another slide.
    MachineError
        R04 a link in the output folder leads out of it.
    """
    files: list[tuple[Path, Path]] = []
    for root in map(Path, inputs):
        if root.is_dir():
            files += [(p, p.relative_to(root).parent) for p in sorted(root.rglob("*.h5"))]
        else:
            files.append((root, Path()))
    if not files:
        what = "no attention file among the inputs"
        raise DataError.of("P09", "inputs", what, "run momkd predict with --attention")
    folder = Path(output)
    found = None if thumbnails is None else Path(thumbnails)
    return [_draw(path, folder, inside, found, slots) for path, inside in files]


def _draw(path: Path, root: Path, inside: Path, thumbnails: Path | None, slots: bool) -> Path:
    folder = root / inside
    require_inside(root, folder)
    scores = read_scores(path)
    grid = scores.grid
    assert grid is not None
    # files are called as the scores are: what stands inside a file names no place on this disk
    picture = None if thumbnails is None else thumbnails / f"{path.stem}.jpg"
    slide = None
    if picture is not None and picture.exists() and grid.width_px0 is not None:
        slide = read_thumbnail(picture, path, grid)
    for layer in scores.layers(slots=slots):
        title = scores.title
        if slide is None:
            figure = draw_layer(grid, layer, title=title)
        else:
            figure = draw_layer_over_slide(grid, layer, slide, title=title)
        ending = "" if layer.name == "attention" else f".{layer.name}"
        write_bytes(folder / file_name(path.stem, f"{ending}.png"), png_of(figure))
        write_text(folder / file_name(path.stem, f"{ending}.svg"), svg_of(figure))
    if grid.tile_px0 is not None and grid.is_level0:
        text = tiles_as_geojson(grid, scores.measurements())
        write_text(folder / file_name(path.stem, ".geojson"), text)
    return folder / file_name(path.stem, ".png")


def _require_within(path: Path, grid: TileGrid) -> None:
    assert grid.width_px0 is not None
    assert grid.height_px0 is not None
    far = grid.coords_px0.max(axis=0)
    if far[0] >= grid.width_px0 or far[1] >= grid.height_px0:
        what = f"tiles reach ({far[0]}, {far[1]}), the slide ends at "
        what += f"({grid.width_px0}, {grid.height_px0})"
        raise DataError.of("S16", str(path), what, "give the thumbnails of these slides")


def read_thumbnail(picture: Path, scores: Path, grid: TileGrid) -> np.ndarray:
    """Read a picture of the slide that scores are of, by what it says of itself, or its form.

    Raises
    ------
    DataError
        S16 tiles that lie beyond the slide, or a picture of another slide.
    """
    assert grid.width_px0 is not None
    assert grid.height_px0 is not None
    _require_within(scores, grid)
    with Image.open(picture) as image:
        told = _told_size(image.info.get("comment", b""))
        size = told or (image.width, image.height)
        pixels = np.asarray(image.convert("RGB"))
    wanted = (grid.width_px0, grid.height_px0)
    same = told == wanted if told else abs(size[0] * wanted[1] / (size[1] * wanted[0]) - 1) < 0.02
    if not same:
        what = f"is of a slide of {wanted[0]} x {wanted[1]} px, {picture.name} of one of "
        what += f"{size[0]} x {size[1]}" if told else "other proportions"
        raise DataError.of("S16", str(scores), what, "give the thumbnails of these slides")
    return pixels


def _told_size(comment: Any) -> tuple[int, int] | None:
    """Give the size of the slide that a thumbnail of ``momkd extract`` states."""
    try:
        facts = json.loads(comment)
        return int(facts["width_px0"]), int(facts["height_px0"])
    except (ValueError, TypeError, KeyError):
        return None
