"""From a tile's pixels to what an encoder sees: resized, then cut, as its publisher says.

Done in the process that reads, so that a tile of 896 px travels to the encoder as 224 px.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from momkd.slides.encoders.recipe import Resample

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """How a view becomes an encoder's input.

    Parameters
    ----------
    resize_px
        Side after resizing; None leaves the view as it is.
    crop_px
        Side of the part kept, centred; None keeps all.
    resample
        Filter of the resizing; Pillow's, which looks at every pixel when it shrinks.
    """

    resize_px: int | None = None
    crop_px: int | None = None
    resample: Resample = "bicubic"

    def prepare(self, view: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "out out 3"]:
        """Resize and cut one view."""
        side = self.resize_px or view.shape[0]
        if view.shape[0] != side:
            image = Image.fromarray(view).resize((side, side), _FILTERS[self.resample])
            view = np.asarray(image)
        crop = self.crop_px or side
        start = round((side - crop) / 2)
        return np.ascontiguousarray(view[start : start + crop, start : start + crop])

    def side_px(self, view_px: int) -> int:
        """Give the side of what comes out of a view of ``view_px``."""
        return self.crop_px or self.resize_px or view_px
