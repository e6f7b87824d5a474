"""What may spoil a slide: pen, folds, blur. Measured and recorded; nothing is left out for it."""

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from momkd.slides.colour import extremes

_SHARP = 20.0  # variance of the Laplacian at _SHARP_MPP; tissue in focus has 50 and more
_SHARP_MPP = 1.0
_PEN_SATURATION = 0.35
_FOLD = 0.25  # saturation above brightness: twice the tissue is twice the stain in half the light


def share_of_pen(thumbnail: UInt8[np.ndarray, "height width 3"]) -> float:
    """Give the share of what is not glass that has a marker's colour.

    Green, cyan, bright blue and yellow are colours that haematoxylin and eosin do not have, at any
    strength; black is ink, or a scanner's margin.
    """
    rgb = thumbnail.astype(np.int16)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    high, low = extremes(rgb)
    drawn = (high - low) > _PEN_SATURATION * np.maximum(high, 1)
    cold = (green > red + 10) & (green >= blue - 40)  # green and cyan
    blue_pen = (blue > red + 80) & (green > red + 10) & (blue > 140)  # haematoxylin is darker
    yellow = (red > blue + 60) & (green > blue + 60)
    black = high < 40
    marked = (drawn & (cold | blue_pen | yellow)) | black
    content = (low < 200) | marked
    return float(marked.sum() / max(1, content.sum()))


def share_of_folds(
    thumbnail: UInt8[np.ndarray, "height width 3"], tissue: Bool[np.ndarray, "height width"]
) -> float:
    """Give the share of tissue that is darker and more saturated than a single layer is.

    After Bautista & Yagi, "Improving the visualization and detection of tissue folds in whole
    slide images through color enhancement", J Pathol Inform 1:25 (2010): the difference of
    saturation and brightness is high on folds.
    """
    if not tissue.any():
        return 0.0
    rgb = thumbnail[tissue].astype(np.float32) / 255
    high, low = extremes(rgb)
    saturation = (high - low) / np.maximum(high, 1e-6)
    return float((saturation - high > _FOLD).mean())


def sharpness(view: UInt8[np.ndarray, "side side 3"]) -> float:
    """Give the variance of the Laplacian of green, where both stains show; blur lowers it."""
    grey = view[..., 1].astype(np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())


def is_blurred(view: UInt8[np.ndarray, "side side 3"], mpp: float) -> bool:
    """Tell whether a view has less detail than tissue in focus has.

    Parameters
    ----------
    view
        RGB.
    mpp
        Its um per pixel; views are judged at 1 um per pixel, coarser ones as they are.
    """
    side = round(view.shape[0] * mpp / _SHARP_MPP)
    if side < view.shape[0]:
        small = Image.fromarray(view).resize((max(side, 3),) * 2, Image.Resampling.BOX)
        view = np.asarray(small)
    return view.shape[0] >= 3 and sharpness(view) < _SHARP
