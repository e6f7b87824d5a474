"""(OME-)TIFF that OpenSlide does not read: strips, SubIFD pyramids, several compressions.

Only the tiles or strips under a box are read and decoded.
"""

import itertools
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from momkd.errors import DataError, MomkdError
from momkd.slides.colour import on_white, require_colour
from momkd.slides.reader import Rgb, Slide, SlideRules, UnreadableRegionError
from momkd.slides.resolution import CONVERT, positive, settle_axes

_UNIT_UM = {2: 25_400.0, 3: 10_000.0}  # ResolutionUnit: inch, centimetre
_OME_UM = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_MAX_SEGMENT_BYTES = 1 << 30


def require_whole(path: Path) -> bool:
    """Refuse a TIFF that ends before its data do; whoever reads it later.

    OpenSlide opens a file cut short and fails, or gives white, only where pixels are wanted.

    Returns
    -------
    bool
        Whether it is an OME-TIFF.

    Raises
    ------
    DataError
        S04 with level and byte.
    """
    size = path.stat().st_size
    try:
        with tifffile.TiffFile(path) as file:
            pages = [p for page in file.pages for p in (page, *(page.pages or ()))]
            for level, page in enumerate(pages):
                ends = np.add(page.dataoffsets, page.databytecounts)
                if len(ends) and int(ends.max()) > size:
                    end = int(ends.max())
                    what = f"truncated: level {level} reaches to byte {end:,} of {size:,}"
                    raise DataError.of("S04", str(path), what, "copy it again")
            return bool(file.is_ome)
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, OSError) as error:
        raise _damaged(path, error) from None


class TiffSlide(Slide):
    """A slide behind tifffile."""

    def __init__(self, path: Path, rules: SlideRules) -> None:
        super().__init__(path)
        try:
            self._file = tifffile.TiffFile(path)
            self._pages = _choose_pages(path, self._file, rules)
        except (tifffile.TiffFileError, ValueError, IndexError, KeyError, OSError) as error:
            raise _damaged(path, error) from None
        page = self._pages[0]
        require_colour(path, page.samplesperpixel, int(np.max(page.bitspersample)), rules)
        self.format = "tifffile OME" if self._file.is_ome else "tifffile"
        self.width_px0, self.height_px0 = page.imagewidth, page.imagelength
        self._pages = [p for p in self._pages if p.samplesperpixel == page.samplesperpixel]
        self._pages.sort(key=lambda p: -p.imagewidth)
        self.downsamples = tuple(self.width_px0 / p.imagewidth for p in self._pages)
        self._require_small_segments(rules)
        if rules.mpp is None:
            self._read_mpp()

    def level_size(self, level: int) -> tuple[int, int]:
        """Give (width, height) as the file states them."""
        return self._pages[level].imagewidth, self._pages[level].imagelength

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Decode the segments under a box."""
        page = self._pages[level]
        bands = page.samplesperpixel
        seg_w, seg_h = _segment_size(page)
        across = math.ceil(page.imagewidth / seg_w)
        down = math.ceil(page.imagelength / seg_h)
        out = np.full((height, width, bands), 255, np.uint8)
        planes = range(bands) if page.planarconfig == 2 else range(1)
        rows = range(y // seg_h, (y + height - 1) // seg_h + 1)
        columns = range(x // seg_w, (x + width - 1) // seg_w + 1)
        for plane, row, column in itertools.product(planes, rows, columns):
            index = (plane * down + row) * across + column
            segment = self._segment(page, index)
            if segment is None:
                continue
            left, top = column * seg_w, row * seg_h
            u0, v0 = max(x, left), max(y, top)
            u1 = min(x + width, left + segment.shape[1])
            v1 = min(y + height, top + segment.shape[0])
            part = segment[v0 - top : v1 - top, u0 - left : u1 - left]
            bands_of = slice(plane, plane + 1) if len(planes) > 1 else slice(None)
            out[v0 - y : v1 - y, u0 - x : u1 - x, bands_of] = part
        return on_white(out)

    def _segment(self, page: Any, index: int) -> np.ndarray | None:
        if page.databytecounts[index] == 0:
            self.n_holes += 1
            return None
        handle = self._file.filehandle
        try:
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
            decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except Exception as error:  # noqa: BLE001 - codecs raise kinds of their own
            raise UnreadableRegionError(" ".join(str(error).split())[:120]) from None
        return None if decoded is None else decoded[0]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _require_small_segments(self, rules: SlideRules) -> None:
        page = self._pages[0]
        seg_w, seg_h = _segment_size(page)
        if seg_w * seg_h > rules.max_flat_pixels or (
            seg_w * seg_h * page.samplesperpixel > _MAX_SEGMENT_BYTES
        ):
            what = f"stored as blocks of {seg_w:,} x {seg_h:,} px, which cannot be read in parts"
            raise DataError.of("S09", str(self.path), what, CONVERT)

    def _read_mpp(self) -> None:
        page = self._pages[0]
        ome = _ome_mpp(self._file.ome_metadata) if self._file.is_ome else None
        if ome is not None:
            settle_axes(self, *ome, "OME metadata")
            return
        unit = _UNIT_UM.get(int(getattr(page, "resolutionunit", 1) or 1))
        if unit is None or "XResolution" not in page.tags or "YResolution" not in page.tags:
            return
        per_x, per_y = (_ratio(page.tags[n].value) for n in ("XResolution", "YResolution"))
        # 72 or 96 dots per inch say how to print, not how it was scanned
        if per_x and per_y and unit / per_x < 100:
            settle_axes(self, unit / per_x, unit / per_y, "TIFF resolution tags")


def _segment_size(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip, page.imagelength)


def _choose_pages(path: Path, file: Any, rules: SlideRules) -> list[Any]:
    """Give the levels of the one picture that is meant."""
    pictures = [s for s in file.series if s.name.casefold() not in ("label", "macro", "thumbnail")]
    if not pictures:
        raise ValueError("holds no image")
    first = pictures[0]
    axes = dict(zip(first.axes, first.shape, strict=False))
    n_planes = math.prod(axes.get(axis, 1) for axis in "ZTQI")
    n_scenes = len(pictures) if any(s.shape == first.shape for s in pictures[1:]) else 1
    if n_planes > 1 and n_scenes > 1:
        what = f"holds {n_scenes} scenes of {n_planes} focal planes or times"
        raise DataError.of("S15", str(path), what, "export one plane of one scene")
    n, kind = (n_planes, "focal planes or times") if n_planes > 1 else (n_scenes, "scenes")
    chosen = rules.scene
    if (chosen is None and n > 1) or (chosen or 0) not in range(n):
        remedy = f"pass --scene 0 to {n - 1}" if n > 1 else "leave out --scene"
        raise DataError.of("S15", str(path), f"holds {n} {kind}", remedy)
    if n_planes > 1:
        return [level.pages[chosen or 0].aspage() for level in first.levels]
    return [level.keyframe for level in pictures[chosen or 0].levels]


def _ome_mpp(text: str | None) -> tuple[float, float] | None:
    try:
        root = ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return None
    for node in root.iter():
        if node.tag.rpartition("}")[2] != "Pixels":
            continue
        found = []
        for axis in "XY":
            value = positive(node.get(f"PhysicalSize{axis}"))
            unit = _OME_UM.get(node.get(f"PhysicalSize{axis}Unit", "µm"))
            found.append(None if value is None or unit is None else value * unit)
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def _ratio(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2:
        return positive(value[0] / value[1]) if value[1] else None
    return positive(value)


def _damaged(path: Path, error: Exception) -> MomkdError:
    text = " ".join(str(error).split())[:160]
    return DataError.of("S04", str(path), f"damaged TIFF: {text}", "copy it again")
