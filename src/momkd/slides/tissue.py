"""Where tissue is: a mask over the thumbnail, computed or brought by the user."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, UnidentifiedImageError
from scipy import ndimage

from momkd.errors import DataError
from momkd.slides.colour import extremes

_MIN_PIECE_UM2 = 40_000.0  # smaller pieces are dust
_MAX_HOLE_UM2 = 160_000.0  # smaller holes are lumina and fat, part of the tissue
_CLOSING_UM = 80.0
_WHITE, _BLACK = 0.92, 0.08
_MIN_SATURATION = 0.04  # below it, glass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueMask:
    """Tissue over a picture of the whole slide.

    Parameters
    ----------
    mask
        True where tissue is.
    um_per_pixel
        Micrometres a pixel of the mask.
    source
        ``otsu``, or the file it was read from.
    """

    mask: Bool[np.ndarray, "height width"]
    um_per_pixel: float
    source: str

    @property
    def area_mm2(self) -> float:
        """Area of the tissue."""
        return float(self.mask.sum()) * self.um_per_pixel**2 / 1e6


def find_tissue(thumbnail: UInt8[np.ndarray, "height width 3"], um_per_pixel: float) -> TissueMask:
    """Find stained tissue: Otsu's threshold on saturation, cleaned by size in um2.

    Black (pen, borders) and white are never tissue. On a slide without contrast, where Otsu would
    split the glass itself, a floor on saturation keeps the mask empty.
    """
    high, low = (v.astype(np.float32) / 255 for v in extremes(thumbnail))
    saturation = (high - low) / np.maximum(high, 1e-6)
    size = 3 if min(saturation.shape) >= 3 else 1
    saturation = ndimage.median_filter(saturation, size=size)
    usable = (low < _WHITE) & (high > _BLACK)
    cut = max(_otsu(saturation[high > _BLACK]), _MIN_SATURATION)
    mask = usable & (saturation > cut)
    mask = _closed(mask, _CLOSING_UM / um_per_pixel)
    mask = _without_small(mask, _MIN_PIECE_UM2 / um_per_pixel**2)
    mask |= _small_holes(mask, _MAX_HOLE_UM2 / um_per_pixel**2)
    return TissueMask(mask=mask, um_per_pixel=um_per_pixel, source="otsu")


def read_tissue(
    path: Path, shape: tuple[int, int], width_px0: int, height_px0: int, um_per_pixel: float
) -> TissueMask:
    """Read a mask: GeoJSON in level-0 pixels (TRIDENT, QuPath), or a picture (not black = tissue).

    Parameters
    ----------
    path
        The file.
    shape
        (height, width) of the mask to make.
    width_px0, height_px0
        Size of the slide.
    um_per_pixel
        Of the mask to make.

    Raises
    ------
    DataError
        S17 it cannot be read, has other proportions than the slide, or lies beyond it.
    """
    if path.suffix.lower() in (".geojson", ".json"):
        mask = _draw_polygons(path, shape, width_px0, height_px0)
    else:
        mask = _read_picture(path, shape, width_px0 / height_px0)
    return TissueMask(mask=mask, um_per_pixel=um_per_pixel, source=path.name)


def _read_picture(path: Path, shape: tuple[int, int], wanted: float) -> np.ndarray:
    try:
        with Image.open(path) as image:
            got = image.width / image.height
            if abs(got / wanted - 1) > 0.02:
                what = f"mask is {got:.3f} times as wide as high, the slide {wanted:.3f}"
                raise DataError.of("S17", str(path), what, "give the mask of this slide")
            grey = image.convert("L").point(lambda v: 255 if v else 0)
            return np.asarray(grey.resize(shape[::-1], Image.Resampling.BOX)) >= 128
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise DataError.of("S17", str(path), f"no mask can be read: {error}") from None


def _draw_polygons(
    path: Path, shape: tuple[int, int], width_px0: int, height_px0: int
) -> np.ndarray:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rings = list(_rings(content))
        flat = [p for _, ring in rings for p in ring]
        reach = np.array(flat, dtype=np.float64).reshape(-1, 2)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError.of("S17", str(path), f"no GeoJSON of polygons: {error}") from None
    if len(reach) and (reach.max(axis=0) > np.array([width_px0, height_px0]) * 1.02 + 2).any():
        far = reach.max(axis=0)
        end = f"the slide ends at ({width_px0}, {height_px0})"
        what = f"polygons reach ({far[0]:.0f}, {far[1]:.0f}), {end}"
        raise DataError.of("S17", str(path), what, "give the polygons of this slide")
    height, width = shape
    scale = np.array([width / width_px0, height / height_px0])
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for fill, ring in rings:
        points = [tuple(p) for p in np.asarray(ring, dtype=np.float64) * scale]
        if len(points) >= 3:
            draw.polygon(points, fill=fill)
    return np.asarray(canvas, dtype=bool)


def _rings(content: Any) -> Any:
    """Give (1, outline) and (0, hole), in the order to draw them."""
    kind = content["type"]
    if kind == "FeatureCollection":
        for feature in content["features"]:
            yield from _rings(feature["geometry"])
    elif kind == "Feature":
        yield from _rings(content["geometry"])
    elif kind in ("Polygon", "MultiPolygon"):
        polygons = [content["coordinates"]] if kind == "Polygon" else content["coordinates"]
        for outline, *holes in polygons:
            yield 1, [p[:2] for p in outline]
            for hole in holes:
                yield 0, [p[:2] for p in hole]
    else:
        raise ValueError(f"geometry {kind!r}")


def _otsu(values: np.ndarray) -> float:
    """Give the threshold of largest variance between its sides (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=256, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = total / below, (total[-1] - total) / above
        between = below * above * (low - high) ** 2
    best = np.nanargmax(np.where(np.isfinite(between), between, -1.0))
    # midway between the means of both sides: there the optimum lies, and unlike the edge of a bin
    # it moves smoothly with the picture
    middle = (low[best] + high[best]) / 2
    return float(middle if np.isfinite(middle) else centres[best])


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """Close gaps up to twice the radius; by distances, whose cost does not grow with the radius."""
    margin = int(np.ceil(radius)) + 1
    padded = np.pad(mask, margin)
    if radius < 1 or not padded.any():
        return mask
    grown = ndimage.distance_transform_edt(~padded) <= radius
    shrunk = ndimage.distance_transform_edt(grown) > radius
    return shrunk[margin:-margin, margin:-margin] | mask


def _without_small(mask: np.ndarray, n_pixels: float) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    keep = sizes >= n_pixels
    keep[0] = False
    return keep[labels]


def _small_holes(mask: np.ndarray, n_pixels: float) -> np.ndarray:
    """Give what tissue encloses: glass that reaches the border is no hole, however small."""
    labels, _ = ndimage.label(~mask)
    small = np.bincount(labels.ravel()) < n_pixels
    small[0] = False
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[side] = False
    return small[labels]
