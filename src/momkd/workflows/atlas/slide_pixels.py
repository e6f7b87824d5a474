"""Pixels for an atlas: the slides as a whole, and the tiles that stand for a slot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from momkd.errors import DataError, Problem
from momkd.types import TileGrid
from momkd.workflows.console import say
from momkd.workflows.heatmap import read_thumbnail

if TYPE_CHECKING:
    from momkd.slides.crops import Crops
    from momkd.slides.reader import SlideRules

CROP_PX = 160
_THUMBNAIL_PX = 1024

Place = tuple[str, int, int]
"""A tile: slide, and corner in level-0 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlidePixels:
    """Pictures of slides, by slide, and of tiles, by place; and what could not be read."""

    thumbnails: Mapping[str, UInt8[np.ndarray, "height width 3"]] = field(default_factory=dict)
    crops: Mapping[Place, UInt8[np.ndarray, "side side 3"]] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


def read_pixels(
    slides: Mapping[str, Path],
    grids: Mapping[str, TileGrid],
    tiles: Sequence[Place],
    rules: "SlideRules | None" = None,
) -> SlidePixels:
    """Read crops and pictures of slides, each slide in a process that may crash.

    A slide that cannot be read, or is not the one that was scored, is told and left out.

    Parameters
    ----------
    slides
        Slide -> its file; others are passed over.
    grids
        The tiles of each slide, as they were scored; their places must be level-0 pixels.
    tiles
        What is to be seen closely.
    rules
        How slides are opened.
    """
    from momkd.slides.crops import CropRequest, Crops
    from momkd.slides.reader import SlideRules
    from momkd.slides.reading_process import Finished, ViewReaders

    wanted: dict[Path, tuple[str, list[Place]]] = {}
    for slide_id, grid in grids.items():
        if slide_id in slides and grid.is_level0:
            own = [t for t in tiles if t[0] == slide_id and grid.tile_px0 is not None]
            wanted[slides[slide_id]] = (slide_id, list(dict.fromkeys(own)))
    requests = [
        CropRequest(
            path=path,
            rules=rules or SlideRules(),
            boxes=tuple((x, y, grids[slide_id].tile_px0 or 1.0) for _, x, y in own),
            crop_px=CROP_PX,
            thumbnail_px=_THUMBNAIL_PX,
        )
        for path, (slide_id, own) in wanted.items()
    ]
    thumbnails: dict[str, np.ndarray] = {}
    crops: dict[Place, np.ndarray] = {}
    problems: list[Problem] = []
    if not requests:
        return SlidePixels()
    with ViewReaders(1) as readers:
        for request, answer in readers.read(requests):
            slide_id, own = wanted[request.path]
            if isinstance(answer, Finished) and answer.problem is not None:
                problems.append(answer.problem)
            elif isinstance(answer, Crops):
                if (fault := _of_another(answer, grids[slide_id], request.path)) is not None:
                    problems.append(fault)
                    continue
                thumbnails[slide_id] = answer.thumbnail
                for row, place in enumerate(own):
                    if row not in answer.bad:
                        crops[place] = answer.pixels[row]
    for problem in problems:
        say(f"no pixels: {problem.line()}")
    return SlidePixels(thumbnails=thumbnails, crops=crops, problems=problems)


def find_thumbnails(
    files: Mapping[str, Path], grids: Mapping[str, TileGrid], scores: Mapping[str, Path]
) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    """Find the pictures that ``momkd extract`` left beside feature files, of just these slides.

    Parameters
    ----------
    files
        Slide -> feature file.
    grids, scores
        Slide -> its tiles as they were scored, and the file of the scores, for messages.
    """
    found = {}
    for slide_id, grid in grids.items():
        path = files[slide_id]
        picture = path.parent / "thumbnails" / f"{path.stem}.jpg"
        if grid.width_px0 is None or grid.height_px0 is None or not picture.is_file():
            continue
        try:
            found[slide_id] = read_thumbnail(picture, scores[slide_id], grid)
        except (DataError, OSError) as error:
            say(f"no picture of slide {slide_id}: {error}")
    return found


def _of_another(crops: "Crops", grid: TileGrid, path: Path) -> Problem | None:
    size = (crops.width_px0, crops.height_px0)
    far = grid.coords_px0.max(axis=0)
    stated = (grid.width_px0 or size[0], grid.height_px0 or size[1])
    if size == stated and far[0] < size[0] and far[1] < size[1]:
        return None
    what = f"is {size[0]} x {size[1]} px; tiles were scored on a slide of {stated[0]} x {stated[1]}"
    what += f" px and reach ({far[0]}, {far[1]})"
    remedy = "give the slide that the features were made from"
    return Problem(code="S16", where=str(path), what=what, remedy=remedy)
