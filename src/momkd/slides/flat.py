"""JPEG and PNG: pictures without levels or resolution, held whole, so bounded in size."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from momkd.errors import DataError
from momkd.slides.colour import on_white, require_colour
from momkd.slides.reader import Rgb, Slide, SlideRules
from momkd.slides.resolution import CONVERT, require_size


class FlatSlide(Slide):
    """A picture read whole on opening; its resolution must be given."""

    def __init__(self, path: Path, rules: SlideRules) -> None:
        super().__init__(path)
        try:
            with _our_own_limit(), Image.open(path) as image:
                self.width_px0, self.height_px0 = image.size
                require_size(self, rules)
                self._require_small(rules)
                bits = 16 if image.mode in ("I;16", "I", "F", "I;16B") else 8
                mode = "RGBA" if image.mode in ("P", "PA", "LA") else image.mode
                require_colour(path, len(Image.new(mode, (1, 1)).getbands()), bits, rules)
                mode = "RGB" if mode == "CMYK" else mode
                self._pixels = on_white(np.asarray(image.convert(mode)))
                self.format = f"picture {image.format or path.suffix}"
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            brief = " ".join(str(error).split())[:120]
            what = f"damaged picture (level 0, file of {path.stat().st_size:,} bytes): {brief}"
            raise DataError.of("S04", str(path), what, "copy it again") from None
        if mode == "RGBA":
            self.notes.append("transparency flattened on white")

    def _require_small(self, rules: SlideRules) -> None:
        if self.width_px0 * self.height_px0 > rules.max_flat_pixels:
            what = (
                f"{self.width_px0:,} x {self.height_px0:,} px in a format that can only be read "
                f"whole (limit {rules.max_flat_pixels:,} px)"
            )
            raise DataError.of("S09", str(self.path), what, CONVERT)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Cut the box out of the picture."""
        return self._pixels[y : y + height, x : x + width]

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels = self._pixels[:0]


@contextmanager
def _our_own_limit() -> Iterator[None]:
    """Put aside Pillow's limit on pixels: ours are higher, and are checked before decoding."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
