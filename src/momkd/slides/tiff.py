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
from momkd.slides.reader import (
    Rgb,
    Slide,
    SlideRules,
    UnreadableRegionError,
    on_white,
    positive,
    require_colour,
    settle_axes,
)

_UNIT_UM = {2: 25_400.0, 3: 10_000.0}  # ResolutionUnit: inch, centimetre
_OME_UM = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_MAX_SEGMENT_BYTES = 1 << 30


class TiffSlide(Slide):
    """A slide behind tifffile."""

    def __init__(self, path: Path, rules: SlideRules) -> None:
        super().__init__(path)
        try:
            self._file = tifffile.TiffFile(path)
            series = _choose_series(path, self._file, rules)
            self._pages = [level.keyframe for level in series.levels]
        except (tifffile.TiffFileError, ValueError, IndexError, KeyError, OSError) as error:
            raise _damaged(path, error) from None
        page = self._pages[0]
        require_colour(path, page.samplesperpixel, int(np.max(page.bitspersample)), rules)
        self.format = "tifffile OME" if self._file.is_ome else "tifffile"
        self.width_px0, self.height_px0 = page.imagewidth, page.imagelength
        self._pages = [p for p in self._pages if p.samplesperpixel == page.samplesperpixel]
        self._pages.sort(key=lambda p: -p.imagewidth)
        self.downsamples = tuple(self.width_px0 / p.imagewidth for p in self._pages)
        self._require_whole()
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

    def _require_whole(self) -> None:
        size = self.path.stat().st_size
        for level, page in enumerate(self._pages):
            ends = np.add(page.dataoffsets, page.databytecounts)
            if len(ends) and int(ends.max()) > size:
                what = f"truncated: level {level} reaches to byte {int(ends.max()):,} of {size:,}"
                raise DataError.of("S04", str(self.path), what, "copy it again")

    def _require_small_segments(self, rules: SlideRules) -> None:
        page = self._pages[0]
        seg_w, seg_h = _segment_size(page)
        if seg_w * seg_h > rules.max_flat_pixels or (
            seg_w * seg_h * page.samplesperpixel > _MAX_SEGMENT_BYTES
        ):
            what = f"stored as blocks of {seg_w:,} x {seg_h:,} px, which cannot be read in parts"
            remedy = "convert it: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"
            raise DataError.of("S09", str(self.path), what, remedy)

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


def _choose_series(path: Path, file: Any, rules: SlideRules) -> Any:
    pictures = [s for s in file.series if s.name.casefold() not in ("label", "macro", "thumbnail")]
    if not pictures:
        raise ValueError("holds no image")
    chosen = pictures[rules.scene or 0] if (rules.scene or 0) < len(pictures) else None
    same = [s for s in pictures if s.shape == pictures[0].shape]
    axes = dict(zip(pictures[0].axes, pictures[0].shape, strict=False))
    depth = axes.get("Z", 1) * axes.get("T", 1)
    if chosen is None or depth > 1 or (len(same) > 1 and rules.scene is None):
        n = depth if depth > 1 else len(pictures)
        kind = "focal planes or times" if depth > 1 else "scenes"
        what = f"holds {n} {kind}"
        remedy = "export one plane" if depth > 1 else f"pass --scene 0 to {n - 1}"
        raise DataError.of("S15", str(path), what, remedy)
    return chosen


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
