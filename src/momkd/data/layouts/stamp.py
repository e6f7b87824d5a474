"""STAMP's feature files: halves, and corners in micrometres.

Three forms are read (``stamp.modeling.data``): today's attributes ``tile_size_um``,
``tile_size_px`` and ``unit``; the older ``tile_size`` with ``unit`` "um"; and the oldest without
any, whose tiles stand 224 apart, a unit being 256/224 um.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.checks import require_numbers
from momkd.data.layouts.encoder_names import known_name
from momkd.data.layouts.geometry import pitch_px0, place_on_view
from momkd.data.layouts.hdf5_file import HDF5File, number, text, whole
from momkd.data.layouts.material import Geometry, Material, ReadRules, slide_id_of
from momkd.errors import DataError

FEATURE_KEYS = ("feats", "patch_embeddings")
_MARKS = ("stamp_version", "tile_size_um", "unit", "tile_size")
_OLD_UM, _OLD_PX = 256.0, 224
_NEAR_WHOLE_PX0 = 0.1
# a view of unknown pixels is placed as if it had these; only ratios of distances are then meant
_STAND_IN_PX = 256


def recognise(file: HDF5File, rules: ReadRules) -> str | None:
    """Give the reason to read a file as STAMP's, or None."""
    key = _key(file, rules)
    if key is None:
        return None
    marks = [f"attribute '{name}'" for name in _MARKS if name in file.attributes]
    if marks:
        return ", ".join([f"dataset '{key}'", *marks[:2]])
    # the oldest form has no mark: only the name of its dataset, and corners without attributes
    bare = "coords" in file.keys and not len(file.dataset("coords").attrs)
    return f"dataset '{key}', 'coords' without attributes" if key == "feats" and bare else None


def read(file: HDF5File, rules: ReadRules, why: str) -> Material:
    """Read features and corners; on level 0 where the slide's resolution is told.

    Raises
    ------
    DataError
        F33 embeddings of slides or patients; F13 corners whose unit cannot be told.
    """
    key = _key(file, rules)
    assert key is not None
    data, attributes = file.dataset(key), file.attributes
    kind = text(attributes.get("feat_type")) or "tile"
    if kind != "tile":
        what = f"'{key}' holds features of a {kind} (attribute 'feat_type')"
        raise DataError.of("F33", str(file.path), what, "give tile features")
    require_numbers(file.path, key, data.shape, data.dtype)
    encoder, said = known_name(text(attributes.get("extractor")))
    coords, geometry, notes = None, Geometry(), list(said)
    if "coords" in file.keys:
        corners = file.dataset("coords")
        coords_um, tile_um, tile_px = _in_um(file, corners[()], attributes)
        mpp0 = rules.mpp0_of(slide_id_of(file.path))
        coords, geometry, told = _place(coords_um, tile_um, tile_px, mpp0)
        notes += told
    return Material(
        layout="stamp",
        why=why,
        key=key,
        embeddings=data[()],
        coords_px0=coords,
        geometry=geometry,
        parts={"features": file.sha256},
        encoder=encoder,
        notes=tuple(notes),
    )


def _key(file: HDF5File, rules: ReadRules) -> str | None:
    wanted = FEATURE_KEYS if rules.feature_key is None else (rules.feature_key,)
    return next((key for key in wanted if key in file.keys), None)


def _in_um(
    file: HDF5File, corners: NDArray[Any], attributes: Mapping[str, Any]
) -> tuple[NDArray[np.float64], float, int | None]:
    """Give corners in micrometres, the side of a tile in micrometres and in pixels of its view."""
    if corners.dtype.kind not in "iuf" or corners.ndim != 2 or corners.shape[1] != 2:
        what = f"'coords' is {corners.dtype} of shape {corners.shape}, wanted (n_tiles, 2)"
        raise DataError.of("F13", str(file.path), what, "write (x, y) of each tile's corner")
    values, tile_px = corners.astype(np.float64), whole(attributes, "tile_size_px")
    is_um = text(attributes.get("unit")) == "um"
    side = number(attributes, "tile_size_um") or (is_um and number(attributes, "tile_size")) or None
    if side is not None:
        return values, float(side), tile_px
    step = number(attributes, "tile_size") or pitch_px0(values)
    if step is not None and round(step) == _OLD_PX:
        return values * (_OLD_UM / _OLD_PX), _OLD_UM, _OLD_PX
    what = "the unit of 'coords' cannot be told: no 'tile_size_um', and steps are not 224"
    raise DataError.of("F13", str(file.path), what, "extract this slide again with STAMP 2")


def _place(
    coords_um: NDArray[np.float64], tile_um: float, tile_px: int | None, mpp0: float | None
) -> tuple[NDArray[np.float64], Geometry, list[str]]:
    """Put micrometres on level 0, or on a grid of the view's pixels, and say which."""
    mpp = None if tile_px is None else tile_um / tile_px
    if mpp0 is not None:
        exact = coords_um / mpp0
        coords = np.round(exact)
        off = np.abs(exact - coords)
        notes = []
        if len(off) and float(np.quantile(off, 0.9)) > _NEAR_WHOLE_PX0:
            notes.append(f"corners are no whole level-0 px at {mpp0:g} um/px: is it this slide's?")
        return coords, Geometry(tile_px0=tile_um / mpp0, tile_px=tile_px, mpp=mpp), notes
    unit_um = mpp or tile_um / _STAND_IN_PX
    coords, lattice = place_on_view(coords_um, unit_um)
    notes = [
        "corners in micrometres and the slide's mpp not told (data.slide_mpp): distances and graph "
        "are right, places on the slide are not in level-0 px"
    ]
    if not lattice:
        notes.append("corners lie on no lattice: equal distances may differ by rounding")
    side = tile_um / unit_um
    return coords, Geometry(tile_px0=side, tile_px=tile_px, mpp=mpp, is_level0=False), notes
