"""Colour: RGB of 8 bits on white, and whether a slide looks like H&E at all."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from momkd.errors import DataError
from momkd.slides.reader import Rgb, SlideRules

_REMEDY = "convert it to RGB; or pass --stain any, at your own risk"
# of the pixels that are stained, the share from which a slide is taken for something else
_MUCH = 0.3
_BLACK_SHARE = 0.5
_GREY_SATURATION = 0.06


def require_colour(path: Path, bands: int, bits: int, rules: SlideRules) -> None:
    """Let through RGB(A) of 8 bits.

    Raises
    ------
    DataError
        S11 grey, 16 bits, or other channels.
    """
    if (bands in (3, 4) or rules.stain == "any") and bits == 8:
        return
    what = f"{bands} channel(s) of {bits} bits, wanted RGB of 8 bits"
    remedy = "convert it to 8 bits; fluorescence is not supported" if bits != 8 else _REMEDY
    raise DataError.of("S11", str(path), what, remedy)


def require_look(
    path: Path,
    thumbnail: UInt8[np.ndarray, "height width 3"],
    tissue: Bool[np.ndarray, "height width"],
    rules: SlideRules,
) -> None:
    """Refuse what is plainly no H&E: on black, without colour, or brown.

    Rough by intent: bounds lie far from any H&E slide, pale or over-stained.

    Raises
    ------
    DataError
        S11 fluorescence, grey, or immunohistochemistry by its look.
    """
    if rules.stain == "any":
        return
    what = _other_look(thumbnail, tissue)
    if what is not None:
        remedy = "give H&E slides; or pass --stain any, at your own risk"
        raise DataError.of("S11", str(path), what, remedy)


def _other_look(thumbnail: np.ndarray, tissue: np.ndarray) -> str | None:
    high, low = (v.astype(np.float32) for v in extremes(thumbnail))
    # a scanner's black margin has no colour; what glows on black has
    black = (high < 60) & (high > 0)
    glow = (high >= 60) & (low < 60) & (high - low > 40)
    if black.mean() > _BLACK_SHARE and glow.sum() > 0 and (low > 150).mean() < 0.02:
        return f"looks like fluorescence: {black.mean():.0%} of it is near black"
    saturation = (high - low) / np.maximum(high, 1)
    content = low < 200
    if content.mean() > 0.01 and np.quantile(saturation[content], 0.95) < _GREY_SATURATION:
        return "looks grey: what is dark on it has no colour"
    stained = tissue & (saturation > 0.15)
    if stained.sum() >= 100:
        red, green, blue = (thumbnail[..., i][stained].astype(np.int16) for i in range(3))
        # haematoxylin and eosin both leave blue above green; DAB takes blue away first
        brown = float(((red > green + 10) & (green > blue + 10)).mean())
        if brown > _MUCH:
            return f"looks like immunohistochemistry: {brown:.0%} of what is stained is brown"
    return None


def extremes(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the strongest and the weakest channel of each pixel; several times faster than max."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    high = np.maximum(np.maximum(red, green), blue)
    return high, np.minimum(np.minimum(red, green), blue)


def on_white(pixels: np.ndarray) -> Rgb:
    """Flatten grey, RGB or RGBA pixels of 8 bits to RGB on white."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] in (1, 2):
        return np.repeat(pixels[..., :1], 3, axis=2)
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    alpha = pixels[..., 3:].astype(np.uint16)
    if (alpha == 255).all():
        return np.ascontiguousarray(pixels[..., :3])
    blended = pixels[..., :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
