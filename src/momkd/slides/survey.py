"""What is learned of a slide before its tiles are read, and the pictures that show it."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from momkd.errors import DataError
from momkd.slides.colour import require_look
from momkd.slides.quality import share_of_folds, share_of_pen
from momkd.slides.reader import Slide, SlideRules
from momkd.slides.tiling import TilingOptions, lay_tiles
from momkd.slides.tissue import TissueMask, find_tissue, read_tissue
from momkd.slides.views import ViewPlan
from momkd.types import TileGrid

_THUMBNAIL_PX = 2048
_GREEN, _BLUE = (0, 110, 60), (40, 70, 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """What is wanted of one slide.

    Parameters
    ----------
    path, rules
        The slide, and how it is opened.
    tiling
        How it is cut.
    tissue
        A mask brought by the user; None finds tissue.
    plan
        What is done to views before they are sent.
    batch_size
        Views sent at a time.
    """

    path: Path
    rules: SlideRules
    tiling: TilingOptions
    tissue: Path | None = None
    plan: ViewPlan = field(default_factory=ViewPlan)
    batch_size: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Pictures of a slide that is refused after it was seen; as those of :class:`SlideFacts`."""

    slide_id: str
    thumbnail: bytes
    picture: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideFacts:
    """What is known of a slide once its tiles are laid.

    Parameters
    ----------
    slide_id, format, width_px0, height_px0, mpp, mpp_source
        As of the slide.
    view_level
        Level that views are read from.
    grid
        Its tiles.
    tissue
        Where tissue is.
    pen_share, fold_share
        What may spoil it; see ``slides.quality``.
    thumbnail, picture
        JPEG of the slide, and the same with tissue and kept tiles drawn.
    notes
        What a user should know of the file.
    """

    slide_id: str
    format: str
    width_px0: int
    height_px0: int
    mpp: float
    mpp_source: str
    view_level: int
    grid: TileGrid
    tissue: TissueMask
    pen_share: float
    fold_share: float
    thumbnail: bytes
    picture: bytes
    notes: tuple[str, ...]


def survey(
    slide: Slide,
    request: ReadRequest,
    on_refusal: Callable[[Preview], None],
    on_block: Callable[[], None] | None = None,
) -> SlideFacts:
    """Look at a slide as a whole: tissue, tiles, colour.

    Parameters
    ----------
    slide, request
        The slide, and what is wanted of it.
    on_refusal
        Given the pictures of a slide that is refused for what is, or is not, on it.
    on_block
        Called while the thumbnail is made.

    Raises
    ------
    DataError
        S08 no tissue; S11 no H&E by its look; S17 the mask is not its own; S18 too many tiles.
    """
    thumbnail = slide.thumbnail(_THUMBNAIL_PX, on_block)
    shape = (thumbnail.shape[0], thumbnail.shape[1])
    um_per_pixel = slide.mpp * slide.width_px0 / shape[1]
    if request.tissue is None:
        tissue = find_tissue(thumbnail, um_per_pixel)
    else:
        size = (slide.width_px0, slide.height_px0)
        tissue = read_tissue(request.tissue, shape, *size, um_per_pixel)
    try:
        require_look(slide.path, thumbnail, tissue.mask, request.rules)
        grid = lay_tiles(slide, tissue, request.tiling)
    except DataError:
        pictures = (jpeg(thumbnail, slide), jpeg(_draw(thumbnail, tissue), slide))
        on_refusal(Preview(slide_id=slide.slide_id, thumbnail=pictures[0], picture=pictures[1]))
        raise
    assert grid.tile_px0 is not None
    return SlideFacts(
        slide_id=slide.slide_id,
        format=slide.format,
        width_px0=slide.width_px0,
        height_px0=slide.height_px0,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        view_level=slide.level_for(grid.tile_px0 / request.tiling.tile_px),
        grid=grid,
        tissue=tissue,
        pen_share=share_of_pen(thumbnail),
        fold_share=share_of_folds(thumbnail, tissue.mask),
        thumbnail=jpeg(thumbnail, slide),
        picture=jpeg(_draw(thumbnail, tissue, grid, slide.width_px0), slide),
        notes=(*slide.notes, *_scale_notes(slide, request.tiling)),
    )


def _scale_notes(slide: Slide, tiling: TilingOptions) -> list[str]:
    if tiling.mpp >= slide.mpp / 1.01:
        return []
    return [
        f"scanned at {slide.mpp:g} um per px, coarser than the view ({tiling.mpp:g}): "
        "views are enlarged"
    ]


def _draw(
    thumbnail: UInt8[np.ndarray, "height width 3"],
    tissue: TissueMask,
    grid: TileGrid | None = None,
    width_px0: int = 1,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the outline of the tissue and the kept tiles over the slide."""
    image = Image.fromarray(thumbnail)
    if grid is not None:
        draw = ImageDraw.Draw(image)
        scale = image.width / width_px0
        side = (grid.tile_px0 or 0.0) * scale
        for x, y in (grid.coords_px0 * scale).tolist():
            draw.rectangle((x, y, x + side, y + side), outline=_GREEN)
    picture = np.asarray(image).copy()
    mask = tissue.mask
    edge = mask.copy()
    edge[1:-1, 1:-1] &= ~(mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:])
    picture[edge] = _BLUE
    return picture


def jpeg(picture: UInt8[np.ndarray, "height width 3"], slide: Slide) -> bytes:
    """Encode a picture of a whole slide; its comment says of which, for who draws over it."""
    facts = {"slide": slide.slide_id, "width_px0": slide.width_px0, "height_px0": slide.height_px0}
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=85, comment=json.dumps(facts))
    return stream.getvalue()
