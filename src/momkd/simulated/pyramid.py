"""A picture as a slide file: a tiled pyramid with its resolution, as scanners write them."""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from momkd.errors import MachineError

_BLOCK_PX = 256
_QUALITY = 90


def encode_pyramid(picture: UInt8[np.ndarray, "height width 3"], mpp: float) -> bytes:
    """Give a pyramidal TIFF, JPEG-compressed, each level half as wide until one block holds it.

    Parameters
    ----------
    picture
        Level 0.
    mpp
        Micrometres per pixel of level 0; written as resolution tags of every level.

    Raises
    ------
    MachineError
        E01 tifffile, or a codec of it, is not installed.
    """
    try:
        import imagecodecs  # noqa: F401 - tifffile's JPEG
        import tifffile
    except ImportError as error:
        line = "pip install 'momkd[slides]'"
        raise MachineError.of("E01", str(error.name), "not installed", line) from None
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for number, level in enumerate(_levels(picture)):
            per_cm = 10_000 / (mpp * 2**number)
            writer.write(
                level,
                tile=(_BLOCK_PX, _BLOCK_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": _QUALITY},
                subfiletype=int(number > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    return stream.getvalue()


def _levels(picture: np.ndarray) -> list[np.ndarray]:
    levels = [picture]
    while max(levels[-1].shape[:2]) > _BLOCK_PX:
        height, width = (max(1, n // 2) for n in levels[-1].shape[:2])
        image = Image.fromarray(levels[-1])
        levels.append(np.asarray(image.resize((width, height), Image.Resampling.BOX)))
    return levels
