"""Reads slides in a process that may crash or hang without harm to the run.

Native decoders crash on hostile or damaged files; then one slide is lost, not the run. The child
also decodes while the parent embeds.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from momkd.errors import DataError, MomkdError, Problem
from momkd.slides.reader import Slide, SlideRules, UnreadableRegionError, open_slide
from momkd.slides.tiling import TilingOptions, lay_tiles
from momkd.slides.tissue import TissueMask, find_tissue, read_tissue
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
    view_px
        Side of the views that are sent; the tile's own side by default.
    batch_size
        Views sent at a time.
    """

    path: Path
    rules: SlideRules
    tiling: TilingOptions
    tissue: Path | None = None
    view_px: int | None = None
    batch_size: int = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideFacts:
    """What is known of a slide once its tiles are laid.

    ``thumbnail`` is a JPEG of the slide, ``picture`` the same with tissue and kept tiles drawn.
    """

    slide_id: str
    format: str
    width_px0: int
    height_px0: int
    mpp: float
    mpp_source: str
    grid: TileGrid
    tissue_mm2: float
    tissue_source: str
    thumbnail: bytes
    picture: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """Some tiles of the grid, by row, as pixels; ``bad`` are rows that cannot be decoded."""

    rows: tuple[int, ...]
    pixels: UInt8[np.ndarray, "n side side 3"]
    bad: tuple[int, ...]


class ViewReader:
    """A child process that reads one slide after another; a new one follows one that died.

    Use it as a context manager.

    Parameters
    ----------
    timeout_s
        A child silent for longer is given up.
    """

    def __init__(self, timeout_s: float = 300.0) -> None:
        self._timeout_s = timeout_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "ViewReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, request: ReadRequest) -> Iterator[SlideFacts | Views]:
        """Give the facts of a slide, then its tiles in order.

        Raises
        ------
        DataError
            S codes of the slide; S14 the reader crashed or stayed silent; S05 too many bad tiles.
        """
        pipe = self._pipe or self._start()
        finished = False
        try:
            pipe.send(request)
            while True:
                if not pipe.poll(self._timeout_s):
                    raise _lost(request.path, f"was silent for {self._timeout_s:g} s")
                answer = pipe.recv()
                if answer is None or isinstance(answer, Problem):
                    finished = True
                    break
                yield answer
        except (EOFError, OSError):
            raise _lost(request.path, "crashed") from None
        finally:
            if not finished:  # dead, silent, or in the middle of a slide that nobody wants
                self._stop()
        if answer is not None:
            raise DataError(answer)

    def _start(self) -> Connection:
        context = get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child,), daemon=True)
        self._process.start()
        child.close()
        return self._pipe

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _lost(path: Path, what: str) -> MomkdError:
    remedy = "open it in another viewer; scan or convert it again"
    return DataError.of("S14", str(path), f"the slide reader {what}", remedy)


def _serve(pipe: Connection) -> None:
    parent = parent_process()
    while parent is not None and parent.is_alive():
        try:
            if not pipe.poll(1.0):
                continue
            pipe.send(_answer(pipe, pipe.recv()))
        except (EOFError, OSError, KeyboardInterrupt):
            return


def _answer(pipe: Connection, request: ReadRequest) -> Problem | None:
    try:
        with open_slide(request.path, request.rules) as slide:
            facts = _survey(slide, request)
            pipe.send(facts)
            _send_views(pipe, slide, facts.grid, request)
    except MomkdError as error:
        return error.problems[0]
    except MemoryError:
        what = "does not fit into memory"
        return Problem(code="S07", where=str(request.path), what=what, remedy="free memory")
    return None


def _survey(slide: Slide, request: ReadRequest) -> SlideFacts:
    thumbnail = slide.thumbnail(_THUMBNAIL_PX)
    shape = thumbnail.shape[:2]
    um_per_pixel = slide.mpp * slide.width_px0 / shape[1]
    if request.tissue is None:
        tissue = find_tissue(thumbnail, um_per_pixel)
    else:
        size = (slide.width_px0, slide.height_px0)
        tissue = read_tissue(request.tissue, (shape[0], shape[1]), *size, um_per_pixel)
    grid = lay_tiles(slide, tissue, request.tiling)
    notes = list(slide.notes)
    if request.tiling.mpp < slide.mpp / 1.01:
        notes.append(
            f"scanned at {slide.mpp:g} um per px, coarser than the view ({request.tiling.mpp:g}): "
            "views are enlarged"
        )
    return SlideFacts(
        slide_id=slide.slide_id,
        format=slide.format,
        width_px0=slide.width_px0,
        height_px0=slide.height_px0,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        grid=grid,
        tissue_mm2=tissue.area_mm2,
        tissue_source=tissue.source,
        thumbnail=_jpeg(thumbnail),
        picture=_jpeg(_draw(thumbnail, tissue, grid, slide.width_px0)),
        notes=tuple(notes),
    )


def _send_views(pipe: Connection, slide: Slide, grid: TileGrid, request: ReadRequest) -> None:
    assert grid.tile_px0 is not None
    side_px = request.view_px or request.tiling.tile_px
    n_bad = 0
    for start in range(0, len(grid), request.batch_size):
        rows, pixels, bad = [], [], []
        for row in range(start, min(start + request.batch_size, len(grid))):
            x, y = grid.coords_px0[row].tolist()
            try:
                pixels.append(slide.read_view(x, y, grid.tile_px0, side_px))
                rows.append(row)
            except UnreadableRegionError:
                bad.append(row)
        n_bad += len(bad)
        if n_bad > request.rules.max_bad_share * len(grid):
            x, y = grid.coords_px0[bad[-1]].tolist()
            what = f"{n_bad} of {len(grid)} tiles cannot be decoded (last at {x}, {y})"
            raise DataError.of("S05", str(slide.path), what, "copy or scan it again")
        stack = np.stack(pixels) if pixels else np.zeros((0, side_px, side_px, 3), np.uint8)
        pipe.send(Views(rows=tuple(rows), pixels=stack, bad=tuple(bad)))


def _draw(
    thumbnail: UInt8[np.ndarray, "height width 3"],
    tissue: TissueMask,
    grid: TileGrid,
    width_px0: int,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the outline of the tissue and the kept tiles over the slide."""
    image = Image.fromarray(thumbnail)
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


def _jpeg(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=85)
    return stream.getvalue()
