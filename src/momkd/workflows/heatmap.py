"""``momkd heatmap``: pictures and QuPath polygons from stored scores; nothing is computed again."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from momkd.errors import DataError
from momkd.reporting.geojson import tiles_as_geojson
from momkd.reporting.heatmap import draw_attention, draw_over_slide
from momkd.storage import write_bytes, write_text
from momkd.types import TileGrid

_DPI = 150


def heatmap(
    inputs: Sequence[Path | str], output: Path | str, *, thumbnails: Path | str | None = None
) -> list[Path]:
    """Draw what ``momkd predict --attention`` stored.

    Parameters
    ----------
    inputs
        Attention files (h5), or folders of them.
    output
        Folder: ``<slide>.png`` and ``<slide>.geojson``, in a folder a model where inputs are so;
        no ``.geojson`` where places are not in level-0 pixels.
    thumbnails
        Folder of ``<slide>.jpg``, pictures of whole slides as ``momkd extract`` writes them;
        without it, tiles are drawn alone.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    DataError
        P09 no attention file; P18 a file that holds no scores and places; S16 tiles that lie
        beyond the slide, or a thumbnail of another slide.
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
    return [_draw(path, folder / inside, found) for path, inside in files]


def _draw(path: Path, folder: Path, thumbnails: Path | None) -> Path:
    grid, attention, title = _read(path)
    picture = None if thumbnails is None else thumbnails / f"{grid.slide_id}.jpg"
    if picture is not None and picture.exists() and grid.width_px0 is not None:
        _require_within(path, grid)
        thumbnail = _read_thumbnail(picture, path, grid)
        figure = draw_over_slide(grid, attention, thumbnail, title=title)
    else:
        figure = draw_attention(grid, attention, title=title)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    target = folder / f"{grid.slide_id}.png"
    write_bytes(target, stream.getvalue())
    if grid.tile_px0 is not None and grid.is_level0:
        shares = attention * len(attention)
        text = tiles_as_geojson(grid, {"attention": attention, "attention (x even share)": shares})
        write_text(folder / f"{grid.slide_id}.geojson", text)
    return target


def _require_within(path: Path, grid: TileGrid) -> None:
    assert grid.width_px0 is not None
    assert grid.height_px0 is not None
    far = grid.coords_px0.max(axis=0)
    if far[0] >= grid.width_px0 or far[1] >= grid.height_px0:
        what = f"tiles reach ({far[0]}, {far[1]}), the slide ends at "
        what += f"({grid.width_px0}, {grid.height_px0})"
        raise DataError.of("S16", str(path), what, "give the thumbnails of these slides")


def _read_thumbnail(picture: Path, scores: Path, grid: TileGrid) -> np.ndarray:
    """Read a picture of the slide that scores are of, by what it says of itself, or its form."""
    assert grid.width_px0 is not None
    assert grid.height_px0 is not None
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


def _read(path: Path) -> tuple[TileGrid, np.ndarray, str]:
    remedy = "give a file that momkd predict --attention wrote"
    try:
        with h5py.File(path, "r") as file:
            attention = file["attention"][:].astype(np.float64)
            coords = file["coords_px0"]
            facts = dict(coords.attrs)
            grid = TileGrid(
                slide_id=str(file.attrs["slide_id"]),
                coords_px0=coords[:].astype(np.int64),
                tile_px0=_float(facts.get("tile_px0")),
                tile_px=_int(facts.get("tile_px")),
                mpp=_float(facts.get("mpp")),
                width_px0=_int(facts.get("width_px0")),
                height_px0=_int(facts.get("height_px0")),
                is_level0=bool(facts.get("is_level0", True)),
            )
            title = f"{grid.slide_id}: {file.attrs['model']}"
            title += _said(dict(file.attrs))
    except (OSError, KeyError, ValueError, TypeError) as error:
        brief = " ".join(str(error).split())[:100]
        raise DataError.of("P18", str(path), f"no stored scores: {brief}", remedy) from None
    if len(attention) != len(grid):
        what = f"{len(attention)} scores for {len(grid)} tiles"
        raise DataError.of("P18", str(path), what, remedy)
    return grid, attention, title


def _said(facts: dict[str, Any]) -> str:
    """Give the probability as a title says it, where it was stored."""
    if "probability" not in facts:
        return ""
    p, low, high = (float(facts[k]) for k in ("probability", "low", "high"))
    spread = f" ({low:.2f} to {high:.2f})" if high > low else ""
    return f", P({facts['class_name']}) = {p:.2f}{spread}"


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
