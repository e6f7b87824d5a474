"""Size and scale: possible ones only; um per pixel is stated or given, never guessed in silence."""

import math
from typing import Any

from momkd.errors import DataError
from momkd.slides.reader import Slide, SlideRules

_MAX_ANISOTROPY = 0.05
_MPP_RANGE = (0.02, 20.0)
CONVERT = "convert it: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"


def require_size(slide: Slide, rules: SlideRules) -> None:
    """Refuse dimensions that no slide has.

    Raises
    ------
    DataError
        S07 no pixels, or more than ``max_pixels``.
    """
    n = slide.width_px0 * slide.height_px0
    size = f"{slide.width_px0:,} x {slide.height_px0:,} px"
    if n <= 0 or n > rules.max_pixels:
        what = f"declares {size}, more than any slide has"
        raise DataError.of("S07", str(slide.path), what, "scan it again, or raise max_pixels")


def settle_mpp(slide: Slide, rules: SlideRules) -> None:
    """Take the given resolution over the file's, and refuse a slide without a possible one.

    Raises
    ------
    DataError
        S01 no resolution; S02 an impossible one.
    """
    where = str(slide.path)
    if rules.mpp is not None:
        stated = "" if math.isnan(slide.mpp) else f" (the file says {slide.mpp:g})"
        slide.mpp, slide.mpp_source = rules.mpp, f"given{stated}"
    if math.isnan(slide.mpp):
        what = "states no resolution (um per pixel)"
        raise DataError.of("S01", where, what, "pass --mpp 0.25, or the right value")
    if not _MPP_RANGE[0] <= slide.mpp <= _MPP_RANGE[1]:
        what = f"resolution {slide.mpp:g} um per px ({slide.mpp_source}) is none of a slide"
        raise DataError.of("S02", where, what, "pass the right one: --mpp 0.25")


def settle_axes(slide: Slide, x: float, y: float, source: str) -> None:
    """Take the resolution along x and y as one; a difference is recorded, or refused over 5 %.

    Raises
    ------
    DataError
        S02 the two differ by more than 5 %.
    """
    off = abs(x / y - 1)
    if off > _MAX_ANISOTROPY:
        what = f"resolution {x:g} um per px along x and {y:g} along y"
        raise DataError.of("S02", str(slide.path), what, "pass --mpp if one of them is right")
    if off > 1e-3:
        slide.notes.append(f"resolution {x:g} um per px along x, {y:g} along y: the mean is taken")
    slide.mpp, slide.mpp_source = (x + y) / 2, source


def positive(value: Any) -> float | None:
    """Give a positive finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
