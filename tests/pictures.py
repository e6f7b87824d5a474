"""Small H&E-like slides with tissue at known places, in the formats that users have."""

import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

MPP = 1.0
SIDE = 1024
# (x, y, radius) of round pieces of tissue, in level-0 px
PIECES = ((350, 400, 240), (750, 700, 165))


def tissue_truth(side: int = SIDE) -> np.ndarray:
    """Give where tissue is, a pixel a level-0 pixel."""
    y, x = np.mgrid[:side, :side]
    truth = np.zeros((side, side), dtype=bool)
    for px, py, radius in PIECES:
        truth |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return truth


def paint_slide(seed: int = 0, *, dark: float = 0.0) -> np.ndarray:
    """Paint pink tissue with purple nuclei on glass; ``dark`` is the share of further nuclei."""
    rng = np.random.default_rng(seed)
    picture = np.full((SIDE, SIDE, 3), 243.0)
    truth = tissue_truth()
    picture[truth] = (226, 160, 190)
    nuclei = rng.random((SIDE // 4, SIDE // 4)) < 0.06 + dark
    nuclei = np.kron(nuclei, np.ones((4, 4), dtype=bool)) & truth
    picture[nuclei] = (96, 60, 140)
    coarse = rng.normal(0, 5, (SIDE // 2, SIDE // 2, 1))
    picture += np.kron(coarse, np.ones((2, 2, 1)))
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_pyramid(
    path: Path, picture: np.ndarray, *, mpp: float | None = MPP, compression: str = "jpeg"
) -> Path:
    """Write a tiled pyramid with resolution tags, as OpenSlide's ``generic-tiff``."""
    with tifffile.TiffWriter(path) as writer:
        level = picture
        options = {"tile": (128, 128), "photometric": "rgb", "compression": compression}
        for i in range(3):
            tags = {}
            if mpp is not None:
                per_cm = 10_000 / (mpp * 2**i)
                tags = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            writer.write(level, subfiletype=int(i > 0), **options, **tags)
            side = level.shape[0] // 2
            level = np.asarray(Image.fromarray(level).resize((side, side), Image.Resampling.BOX))
    return path


def write_aperio(path: Path, picture: np.ndarray, label: np.ndarray, mpp: str = "1.0") -> Path:
    """Write what OpenSlide takes for an Aperio slide, with a label and a macro image."""
    side = len(picture)
    head = "Aperio Image Library v11.0.0\r\n"
    about = f"{head}{side}x{side} [0,0 {side}x{side}] (128x128) JPEG/RGB Q=90|AppMag = 10"
    if mpp:
        about += f"|MPP = {mpp}"
    tiled = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    flat = {"photometric": "rgb", "metadata": None, "rowsperstrip": 16}
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, description=about, **tiled)
        writer.write(picture[::8, ::8], description=f"{head}{side} -> 128x128 - |", **flat)
        writer.write(picture[::4, ::4], description=about, subfiletype=1, **tiled)
        for number, name in ((1, "label"), (9, "macro")):
            size = f"{label.shape[1]}x{label.shape[0]}"
            writer.write(label, description=f"{head}{name} {size}", subfiletype=number, **flat)
    return path


def write_ome(path: Path, picture: np.ndarray) -> Path:
    """Write an OME-TIFF with one SubIFD level and the resolution in its XML."""
    meta = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    meta |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(picture, subifds=1, metadata=meta, **options)
        writer.write(picture[::2, ::2], subfiletype=1, **options)
    return path


def write_strips(path: Path, picture: np.ndarray) -> Path:
    """Write a TIFF in strips, which OpenSlide does not open."""
    per_cm = 10_000 / MPP
    tags = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture, rowsperstrip=64, photometric="rgb", compression="zlib", **tags)
    return path


def write_geojson(path: Path, rings: list[list[list[float]]]) -> Path:
    """Write polygons in level-0 px: the first ring is the outline, others are holes."""
    geometry = {"type": "Polygon", "coordinates": rings}
    content = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]}
    path.write_text(json.dumps(content))
    return path
