"""Where tiles lie, measured from their corners, and compared with what a file says of them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.material import Geometry

TOLERANCE = 0.05
_OFF_LATTICE = 0.02


def pitch_px0(coords_px0: NDArray[np.number]) -> float | None:
    """Measure the usual step between tile corners along an axis; None with fewer than 2 places."""
    steps = []
    for axis in (0, 1):
        other = coords_px0[:, 1 - axis]
        order = np.lexsort((coords_px0[:, axis], other))
        same_line = np.diff(other[order]) == 0
        gaps = np.diff(coords_px0[order, axis])[same_line]
        steps.append(gaps[gaps > 0])
    found = np.concatenate(steps)
    return float(np.median(found)) if len(found) else None


def complete(geometry: Geometry, pitch: float | None) -> tuple[Geometry, tuple[str, ...]]:
    """Give a geometry its tile side from the pitch, where the file states none.

    Returns
    -------
    Geometry
        The same where the side is stated.
    tuple of str
        What has to be said.
    """
    if geometry.tile_px0 is not None or pitch is None:
        return geometry, ()
    said = "tile side not stated: the measured step between tiles is taken for it"
    return replace(geometry, tile_px0=pitch), (said,)


def compare(geometry: Geometry, pitch: float | None) -> tuple[str, ...]:
    """Say so where the step between tiles is not the one that the attributes declare.

    A note and no refusal: the graph is made from the coordinates alone, a sparse or strided tiling
    is legal, and the declared side is used to draw, not to compute.
    """
    side = geometry.tile_px0
    if side is None or pitch is None:
        return ()
    declared = side
    if geometry.overlap_px and geometry.tile_px:
        declared = side * (1 - geometry.overlap_px / geometry.tile_px)
    ratio = pitch / declared
    if abs(ratio - 1) <= TOLERANCE:
        return ()
    found = f"{ratio:.3g} of the declared side: " + (
        "tiles overlap" if ratio < 1 else "gaps between tiles, or a side not in level-0 px"
    )
    return (f"step between tiles is {found}",)


def place_on_view(
    coords_um: NDArray[np.floating], unit_um: float
) -> tuple[NDArray[np.float64], bool]:
    """Express micrometres in whole units of ``unit_um``, keeping a lattice a lattice.

    Rounding each corner by itself would make equal distances unequal by a unit, and so change who
    is near whom; where corners lie on a lattice, its cells are rounded instead.

    Returns
    -------
    numpy.ndarray
        Whole numbers, float64 (n_tiles, 2).
    bool
        The corners lie on a lattice.
    """
    corners = coords_um.astype(np.float64)
    pitch = pitch_px0(coords_um)
    if pitch is None:
        return np.round(corners / unit_um), len(corners) < 2
    start = corners.min(axis=0)
    extent = float((corners.max(axis=0) - start).max())
    # a pitch measured over one step drifts; the whole extent fixes it
    pitch = extent / max(round(extent / pitch), 1)
    cells = (corners - start) / pitch
    whole = np.round(cells)
    if np.abs(cells - whole).max() > _OFF_LATTICE:
        return np.round(corners / unit_um), False
    step = max(round(pitch / unit_um), 1)
    return np.round(start / unit_um) + step * whole, True
