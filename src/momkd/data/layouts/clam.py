"""CLAM's feature files: bare features and corners; the side of a tile stands in ``patches``.

CLAM (``create_patches_fp.py``, ``extract_features_fp.py``) writes ``patches/<slide>.h5`` with
corners in level-0 pixels and the attributes of the tiling, ``h5_files/<slide>.h5`` with features
and the same corners without attributes, and ``pt_files/<slide>.pt`` with the features alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts import trident
from momkd.data.layouts.checks import require_numbers
from momkd.data.layouts.hdf5_file import HDF5File, number, open_hdf5, whole
from momkd.data.layouts.material import Geometry, Material, ReadLimits, ReadRules, slide_id_of
from momkd.data.layouts.plain_file import read_bytes
from momkd.errors import DataError

FEATURE_KEY = trident.FEATURE_KEY


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corners:
    """What a file of tile corners says."""

    path: Path
    coords_px0: NDArray[Any]
    geometry: Geometry
    sha256: str


def recognise(file: HDF5File, rules: ReadRules) -> str | None:
    """Give the reason to read a file as CLAM's, or None."""
    key = rules.feature_key or FEATURE_KEY
    if key.strip("/").split("/")[0] not in file.keys or "coords" not in file.keys:
        return None
    return f"datasets '{key}' and 'coords' without TRIDENT's attributes"


def read(file: HDF5File, rules: ReadRules, why: str, limits: ReadLimits) -> Material:
    """Read features and corners; the side of a tile comes from the file of corners, if found.

    Raises
    ------
    DataError
        F37 the file of corners is of another tiling.
    """
    key = rules.feature_key or FEATURE_KEY
    data, corners = file.dataset(key), file.dataset("coords")
    require_numbers(file.path, key, data.shape, data.dtype)
    own = _geometry(dict(corners.attrs))
    coords, parts, notes = corners[()], {"features": file.sha256}, []
    if own.tile_px0 is None:
        companion = find_corners(file.path, rules, limits)
        if companion is None:
            notes.append("no patches file found: name its folder with data.coords or --coords-dir")
        elif _same_tiles(coords, companion.coords_px0):
            own, parts = companion.geometry, parts | {"corners": companion.sha256}
            why += f"; tile side from {shown(companion.path)}"
        elif rules.coords_dir is None:
            notes.append("the patches file beside it is of another tiling and not used")
        else:
            n_theirs = len(companion.coords_px0)
            what = f"its {len(coords)} tiles are not the {n_theirs} of {shown(companion.path)}"
            remedy = "name the patches folder it was made from: data.coords or --coords-dir"
            raise DataError.of("F37", str(file.path), what, remedy)
    return Material(
        layout="clam",
        why=why,
        key=key,
        embeddings=data[()],
        coords_px0=coords,
        geometry=own,
        parts=parts,
        notes=tuple(notes),
    )


def find_corners(path: Path, rules: ReadRules, limits: ReadLimits) -> Corners | None:
    """Read the file of tile corners that belongs to a feature file; None if there is none.

    Looked for in ``coords_dir``, else in folders called ``patches`` up to three levels above.

    Raises
    ------
    DataError
        F38 ``coords_dir`` has no file for this slide; F codes of the file itself.
    """
    for place in _places(path, rules):
        if place.is_file():
            return _read_corners(place, limits)
    if rules.coords_dir is not None:
        what = f"has no file of corners for slide {slide_id_of(path)}"
        remedy = "complete it, or leave data.coords out"
        raise DataError.of("F38", str(rules.coords_dir), what, remedy)
    return None


def _places(path: Path, rules: ReadRules) -> Iterator[Path]:
    slide_id = slide_id_of(path)
    if rules.coords_dir is not None:
        folders = [rules.coords_dir, rules.coords_dir / "patches"]
    else:
        folders = [parent / "patches" for parent in list(path.absolute().parents)[:3]]
    for folder in folders:
        yield folder / f"{slide_id}.h5"
        yield folder / f"{slide_id}_patches.h5"  # TRIDENT's name for the same


def _read_corners(path: Path, limits: ReadLimits) -> Corners:
    content = read_bytes(path)
    with open_hdf5(path, content, limits) as file:
        data = file.dataset("coords")
        attributes = dict(data.attrs)
        return Corners(
            path=path,
            coords_px0=data[()],
            geometry=_geometry(attributes),
            sha256=hashlib.sha256(content).hexdigest(),
        )


def _geometry(attributes: dict[str, Any]) -> Geometry:
    """Read CLAM's attributes, or TRIDENT's: side = patch_size x downsample of patch_level."""
    if number(attributes, "patch_size_level0") or number(attributes, "target_magnification"):
        return trident.geometry_of(attributes)
    side = whole(attributes, "patch_size")
    factor = _downsample(attributes)
    if side is None or factor is None:
        return Geometry(tile_px=side)
    size = np.asarray(attributes.get("level_dim", ())).ravel()
    known = size.dtype.kind in "iuf" and len(size) == 2 and bool((size > 0).all())
    return Geometry(
        tile_px0=side * factor,
        tile_px=side,
        width_px0=round(float(size[0]) * factor) if known else None,
        height_px0=round(float(size[1]) * factor) if known else None,
    )


def _downsample(attributes: dict[str, Any]) -> float | None:
    """Give the factor of the level that was read: of one level (x, y), or a list a level."""
    factors = np.asarray(attributes.get("downsample", ())).ravel()
    level = np.asarray(attributes.get("patch_level", 0)).ravel()
    if factors.dtype.kind not in "iuf" or not len(factors) or level.dtype.kind not in "iu":
        return None
    # CLAM stores the factors of the level itself along x and y; some forks the list of all levels
    at = int(level[0]) if len(factors) > 2 and level[0] < len(factors) else 0
    factor = float(factors[at])
    return factor if np.isfinite(factor) and factor > 0 else None


def _same_tiles(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    return ours.shape == theirs.shape and np.array_equal(_sorted(ours), _sorted(theirs))


def _sorted(coords: NDArray[Any]) -> NDArray[Any]:
    if coords.ndim != 2 or coords.shape[1] != 2:
        return coords
    return coords[np.lexsort((coords[:, 0], coords[:, 1]))]


def shown(path: Path) -> str:
    """Give a file with the folder it lies in."""
    return f"{path.parent.name}/{path.name}"
