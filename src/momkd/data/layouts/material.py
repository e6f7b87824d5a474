"""What every layout of feature files yields: the same raw material, whatever wrote it.

Nothing here, or in the layouts, imports torch or pandas at its top: files are read in a process
that is started for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".h5", ".hdf5", ".pt", ".npy", ".zarr", ".pack")
_SLIDE_SUFFIXES = {"svs", "tif", "tiff", "ndpi", "mrxs", "scn", "svslide", "bif", "vms", "dcm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What is refused before it is read: declared bytes, and declared over stored bytes."""

    max_bytes: int = 32 << 30
    max_expansion: int = 1000
    max_zero_share: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRules:
    """How a file is to be read.

    Parameters
    ----------
    feature_key
        Dataset (or, in a WSIData store, table) of the embeddings, instead of the layout's own.
    drop_nonfinite
        Leave out rows with NaN or infinite values, instead of refusing the file.
    coords_dir
        Folder of the files with tile coordinates, where the features lie apart from them (CLAM's
        ``patches``, torchmil's ``coords``); None: looked for beside the features.
    mpp0
        Micrometres per level-0 pixel, of every slide or by slide; needed to place micrometre
        coordinates (STAMP) on level 0, used for nothing else.
    """

    feature_key: str | None = None
    drop_nonfinite: bool = False
    coords_dir: Path | None = None
    mpp0: float | Mapping[str, float] | None = None

    def mpp0_of(self, slide_id: str) -> float | None:
        """Give the resolution of one slide's level 0, if it was told."""
        return self.mpp0.get(slide_id) if isinstance(self.mpp0, Mapping) else self.mpp0


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What a file says of its tiles.

    ``tile_px0`` is the side of a tile on level 0, ``tile_px`` that of the view before the encoder
    resizes it, ``overlap_px`` how much of the latter two neighbours share; ``mpp`` and
    ``magnification`` belong to the view. ``is_level0`` is False where places are known in
    micrometres only: then a level-0 pixel stands for one pixel of the view.
    """

    tile_px0: float | None = None
    tile_px: int | None = None
    overlap_px: int | None = None
    mpp: float | None = None
    magnification: float | None = None
    width_px0: int | None = None
    height_px0: int | None = None
    is_level0: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """What a layout found in a file, in the order of the file, not yet examined.

    ``key`` is what the file calls its embeddings; ``coords_px0`` the corners as found, of whatever
    dtype; ``parts`` the SHA-256 of everything it was read from, by role; ``origin_sha256`` that of
    the file that a packed one was made from.
    """

    layout: str
    why: str
    key: str
    embeddings: NDArray[Any]
    coords_px0: NDArray[Any] | None
    geometry: Geometry
    parts: Mapping[str, str]
    encoder: str | None = None
    encoder_sha256: str | None = None
    origin_sha256: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawFeatures:
    """What a feature file holds, examined, in the order of the file."""

    slide_id: str
    layout: str
    why: str
    embeddings: NDArray[Any]
    coords_px0: NDArray[np.int64] | None
    geometry: Geometry
    sha256: str
    encoder: str | None = None
    encoder_sha256: str | None = None
    origin_sha256: str | None = None
    n_same_place: int = 0
    pitch_px0: float | None = None
    notes: tuple[str, ...] = ()


def slide_id_of(path: Path) -> str:
    """Give the slide of a feature file: its name without its own and a slide's extension."""
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    stem, dot, last = name.rpartition(".")
    return stem if dot and last.lower() in _SLIDE_SUFFIXES else name
