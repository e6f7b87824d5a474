"""Who is near whom in the slide plane: exact nearest neighbours by a grid hash.

Ties are broken by (distance, y, x) of the neighbour, then by row, in integer arithmetic: the same
tiles give the same neighbours in whatever order they stand in the file. Where numba works the
search is compiled; it and the search with arrays here give the same rows.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64
from numpy.typing import NDArray

from momkd.compilation import numba_fault

_MAX_RING = 12
_CANDIDATES = 4_000_000


def nearest_neighbours(
    coords_px0: Int64[np.ndarray, "n_tiles 2"], k: int
) -> Int32[np.ndarray, "n_tiles k"]:
    """Find each tile's k nearest other tiles, nearest first.

    Parameters
    ----------
    coords_px0
        (x, y) in level-0 pixels; several tiles may share a place, and are then neighbours at
        distance 0.
    k
        Neighbours a tile; a bag of fewer than k + 1 tiles has n - 1, the rest is -1.

    Returns
    -------
    numpy.ndarray
        Row numbers of the neighbours, int32.
    """
    n_tiles = len(coords_px0)
    near = np.full((n_tiles, k), -1, dtype=np.int32)
    k_eff = min(k, n_tiles - 1)
    if k_eff < 1:
        return near
    xy = np.ascontiguousarray(coords_px0 - coords_px0.min(axis=0), dtype=np.int64)
    compiled = compiled_search()
    near[:, :k_eff] = search_arrays(xy, k_eff) if compiled is None else compiled(xy, k_eff)
    return near


@functools.cache
def compiled_search() -> Callable[[Any, int], Any] | None:
    """Give the compiled search, tried on a few tiles; None where numba is absent or fails."""
    if numba_fault() is not None:
        return None
    places = np.arange(25, dtype=np.int64)
    xy = np.stack([places % 5, places // 5], axis=1)
    try:
        from momkd.data.loops.neighbours import nearest

        # a lattice with a lonely tile, and one where tiles share a place: every loop there is
        trials = [xy + (places == 24)[:, None] * 30, xy // 2]
        well = all(np.array_equal(nearest(t, 3), search_arrays(t, 3)) for t in trials)
    except Exception:  # noqa: BLE001  whatever a compiler raises: the other search has the same answer
        return None
    return nearest if well else None


def search_arrays(xy: Int64[np.ndarray, "n_tiles 2"], k: int) -> Int32[np.ndarray, "n_tiles k"]:
    """Find each tile's k nearest others, with arrays; places from (0, 0), 1 <= k < n_tiles."""
    n_tiles = len(xy)
    near = np.empty((n_tiles, k), dtype=np.int32)
    hashed = _GridHash(xy, _cell_px0(xy))
    open_rows = np.arange(n_tiles)
    ring = 1
    while len(open_rows):
        whole = ring > _MAX_RING
        left = []
        for rows in _portions(open_rows, hashed.count(open_rows, ring, whole)):
            found, covered = hashed.search(rows, ring, k, whole)
            near[rows[covered]] = found[covered]
            left.append(rows[~covered])
        open_rows = np.concatenate(left)
        ring += 2
    return near


class _GridHash:
    """Tiles sorted by the square cell they lie in; a row of cells is one contiguous range."""

    def __init__(self, xy: NDArray[np.int64], cell_px0: int) -> None:
        self._xy = xy
        self._cell_px0 = cell_px0
        self._cells = xy // cell_px0
        self._width = int(self._cells[:, 0].max()) + 1
        keys = self._cells[:, 1] * self._width + self._cells[:, 0]
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def count(self, rows: NDArray[np.int64], ring: int, whole: bool) -> NDArray[np.int64]:
        """Count the candidates of each tile within ``ring`` cells."""
        if whole:
            return np.full(len(rows), len(self._xy))
        start, stop = self._ranges(rows, ring)
        return (stop - start).sum(axis=1)

    def search(
        self, rows: NDArray[np.int64], ring: int, k: int, whole: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Rank the candidates; a tile is covered when nothing nearer can lie outside the ring."""
        if whole:
            owner = np.repeat(np.arange(len(rows)), len(self._xy))
            other = np.tile(np.arange(len(self._xy)), len(rows))
        else:
            start, stop = self._ranges(rows, ring)
            owner, places = _expand(start, stop)
            other = self._order[places]
        keep = rows[owner] != other
        owner, other = owner[keep], other[keep]
        gap = self._xy[other] - self._xy[rows[owner]]
        squared = (gap**2).sum(axis=1)
        order = np.lexsort((other, gap[:, 0], gap[:, 1], squared, owner))
        owner, other, squared = owner[order], other[order], squared[order]
        n_found = np.bincount(owner, minlength=len(rows))
        first = np.cumsum(n_found) - n_found
        enough = n_found >= k
        best = np.full((len(rows), k), -1, dtype=np.int32)
        picks = first[enough, None] + np.arange(k)
        best[enough] = other[picks]
        covered = enough.copy()
        if not whole:
            # whatever lies outside the ring is at least this far away, strictly
            reach = np.int64(ring) * self._cell_px0
            covered[enough] = squared[picks[:, -1]] < reach**2
        return best, covered

    def _ranges(
        self, rows: NDArray[np.int64], ring: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        cell_x, cell_y = self._cells[rows].T
        line = cell_y[:, None] + np.arange(-ring, ring + 1)
        left = np.maximum(cell_x - ring, 0)[:, None]
        right = np.minimum(cell_x + ring, self._width - 1)[:, None]
        start = np.searchsorted(self._keys, line * self._width + left, side="left")
        stop = np.searchsorted(self._keys, line * self._width + right, side="right")
        return start, stop


def _cell_px0(xy: NDArray[np.int64]) -> int:
    """Choose a cell a little wider than the usual pitch, so that few cells hold k tiles."""
    places = np.unique(xy, axis=0)
    if len(places) < 2:
        return 1
    from scipy.spatial import cKDTree

    distance = np.asarray(cKDTree(places).query(places, k=2)[0])
    return max(1, int(1.5 * np.median(distance[:, 1])))


def _expand(
    start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write out ranges: (owner row, position) of every element."""
    length = (stop - start).ravel()
    owner = np.repeat(np.arange(len(start)), (stop - start).sum(axis=1))
    offset = np.repeat(np.cumsum(length) - length, length)
    return owner, np.repeat(start.ravel(), length) + np.arange(len(offset)) - offset


def _portions(rows: NDArray[np.int64], counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut rows so that no portion has many more candidates than memory likes."""
    load = np.cumsum(counts) // _CANDIDATES
    return np.split(rows, np.flatnonzero(np.diff(load)) + 1)
