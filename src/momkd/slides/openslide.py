"""Vendor formats and tiled pyramids, through OpenSlide."""

from pathlib import Path

import numpy as np
import openslide

from momkd.errors import DataError, MomkdError
from momkd.slides.colour import on_white
from momkd.slides.reader import Rgb, Slide, SlideRules, UnreadableRegionError
from momkd.slides.resolution import CONVERT, positive, settle_axes

_POWER_UM = 10.0  # an objective of power p is taken as 10 / p um per pixel


def vendor_of(path: Path) -> str | None:
    """Give OpenSlide's word for the format; None where it knows none."""
    try:
        return openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None


def require_companions(path: Path) -> None:
    """Refuse a MIRAX file without its folder: alone it is a small JPEG, and would pass for one.

    Raises
    ------
    DataError
        S13 the companion that is missing.
    """
    if path.suffix.lower() != ".mrxs":
        return
    for wanted in (path.with_suffix(""), path.with_suffix("") / "Slidedat.ini"):
        if not wanted.exists():
            what = f"{wanted.name} is missing beside it ({wanted})"
            raise DataError.of("S13", str(path), what, "copy the file with its whole folder")


class OpenSlideSlide(Slide):
    """A slide behind OpenSlide; label and macro images are never opened."""

    def __init__(self, path: Path, rules: SlideRules) -> None:
        super().__init__(path)
        try:
            self._handle = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise _refusal(path, error) from None
        facts = self._handle.properties
        vendor = facts.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.format = f"openslide {vendor}"
        self.width_px0, self.height_px0 = self._handle.dimensions
        self.downsamples = tuple(self._handle.level_downsamples)
        self._sizes = self._handle.level_dimensions
        self._require_small_blocks(rules)
        x = positive(facts.get(openslide.PROPERTY_NAME_MPP_X))
        y = positive(facts.get(openslide.PROPERTY_NAME_MPP_Y))
        power = positive(facts.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
        if rules.mpp is None and x is not None and y is not None:
            settle_axes(self, x, y, "the file")
        elif x is not None and y is not None:
            self.mpp = (x + y) / 2
        elif rules.mpp_from_power and power is not None:
            self.mpp, self.mpp_source = _POWER_UM / power, f"objective {power:g}x (estimated)"
            self.notes.append(f"resolution estimated from the objective ({power:g}x)")

    def level_size(self, level: int) -> tuple[int, int]:
        """Give (width, height) as the file states them."""
        return self._sizes[level]

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box; after an error OpenSlide refuses all, so the file is opened again."""
        d = self.downsamples[level]
        try:
            corner = (round(x * d), round(y * d))
            pixels = np.asarray(self._handle.read_region(corner, level, (width, height)))
        except openslide.OpenSlideError as error:
            self._handle.close()
            self._handle = openslide.OpenSlide(str(self.path))
            raise UnreadableRegionError(str(error)) from None
        # formats leave out empty tiles by design, and a lost tile looks the same: transparent
        self.n_holes += int((pixels[..., 3] == 0).any())
        return on_white(pixels)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def _require_small_blocks(self, rules: SlideRules) -> None:
        facts = self._handle.properties
        for level in range(len(self._sizes)):
            sides = [facts.get(f"openslide.level[{level}].tile-{s}") for s in ("width", "height")]
            width, height = (int(s) if s is not None else 0 for s in sides)
            if width * height > rules.max_flat_pixels:
                self._handle.close()
                what = f"level {level} is stored in blocks of {width:,} x {height:,} px"
                raise DataError.of("S09", str(self.path), what, CONVERT)


def _refusal(path: Path, error: Exception) -> MomkdError:
    text = " ".join(str(error).split())[:160]
    if path.suffix.lower() in (".mrxs", ".vms", ".vmu") or "No such file" in text:
        what = f"a companion file is missing or damaged: {text}"
        return DataError.of("S13", str(path), what, "copy the whole folder")
    return DataError.of("S04", str(path), f"damaged slide: {text}", "copy it again")
