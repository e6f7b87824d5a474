"""Nearest neighbours: on a lattice by a map of it, elsewhere by a hash of square cells.

The answer is a matter of the places alone: candidates are ranked by (squared distance, dy, dx, row)
in whole numbers, and a tile is done when nothing nearer can lie outside what it has seen.
"""

from typing import Any

import numpy as np

from momkd.compilation import compiled

RADIUS = 8  # of a lattice, in its steps
FEW = 16
MAX_RING = 6
SAMPLE = 48
HASH = np.uint64(0x9E3779B97F4A7C15)


@compiled()
def offer(xy: Any, i: Any, j: Any, best: Any, gaps: Any, n_found: Any) -> Any:
    """Put candidate j among the best of tile i if it belongs there; give how many there are.

    A line of ``gaps`` is what candidates are ranked by: squared distance, dy, dx, row.
    """
    dx, dy = xy[j, 0] - xy[i, 0], xy[j, 1] - xy[i, 1]
    squared = dx * dx + dy * dy
    k = best.size
    if n_found == k and squared > gaps[k - 1, 0]:
        return n_found
    place = n_found
    while place > 0 and squared <= gaps[place - 1, 0]:
        if squared == gaps[place - 1, 0]:
            before = gaps[place - 1]
            if dy > before[1] or (dy == before[1] and (dx, j) > (before[2], before[3])):
                break
        place -= 1
    if place == k:
        return n_found
    for other in range(min(n_found, k - 1), place, -1):
        best[other] = best[other - 1]
        for column in range(4):
            gaps[other, column] = gaps[other - 1, column]
    best[place] = j
    gaps[place, 0], gaps[place, 1], gaps[place, 2], gaps[place, 3] = squared, dy, dx, j
    return min(n_found + 1, k)


@compiled()
def search_all(xy: Any, i: Any, best: Any, gaps: Any) -> Any:
    """Find the neighbours of one tile among all."""
    n_found = 0
    for j in range(len(xy)):
        if j != i:
            n_found = offer(xy, i, j, best, gaps, n_found)


@compiled()
def usual_pitch(xy: Any) -> Any:
    """Give the median distance to the nearest tile elsewhere, over some tiles; 0 if all are one."""
    n_tiles = len(xy)
    n_asked = min(SAMPLE, n_tiles)
    found = np.zeros(n_asked)
    n_known = 0
    for asked in range(n_asked):
        i = asked * n_tiles // n_asked
        least = np.int64(0)
        for j in range(n_tiles):
            dx, dy = xy[j, 0] - xy[i, 0], xy[j, 1] - xy[i, 1]
            gap = dx * dx + dy * dy
            if gap > 0 and (least == 0 or gap < least):
                least = gap
        if least > 0:
            place = n_known
            while place > 0 and found[place - 1] > least:
                found[place] = found[place - 1]
                place -= 1
            found[place] = least
            n_known += 1
    return np.sqrt(found[n_known // 2]) if n_known > 0 else 0.0


@compiled()
def find_cell(keys: Any, key: Any) -> Any:
    """Give the place of a cell in the table, or the free place where it would stand."""
    mask = np.uint64(keys.size - 1)
    word = np.uint64(key) * HASH
    place = np.int64((word ^ (word >> np.uint64(32))) & mask)
    while keys[place] != key and keys[place] != -1:
        place = (place + 1) % keys.size
    return place


@compiled()
def greatest(xy: Any, column: Any) -> Any:
    """Give the greatest number of a column."""
    most = xy[0, column]
    for i in range(len(xy)):
        most = max(most, xy[i, column])
    return most


@compiled()
def common_step(xy: Any, column: Any) -> Any:
    """Give the greatest common divisor of a column of whole numbers; 1 where all are 0."""
    step = np.int64(0)
    for i in range(len(xy)):
        a, b = step, xy[i, column]
        while b != 0:
            a, b = b, a % b
        step = a
        if step == 1:
            break
    return max(step, np.int64(1))


@compiled()
def lattice_offsets(step_x: Any, step_y: Any) -> Any:
    """List all steps within the radius as (squared distance, dy, dx), in the order of ranking."""
    limit = (RADIUS * min(step_x, step_y)) ** 2
    found = np.empty(((2 * RADIUS + 1) ** 2, 3), np.int64)
    n_found = 0
    for v in range(-RADIUS, RADIUS + 1):
        for u in range(-RADIUS, RADIUS + 1):
            squared = (v * step_y) ** 2 + (u * step_x) ** 2
            if squared == 0 or squared > limit:
                continue
            place = n_found  # later ones come after all of the same distance
            while place > 0 and found[place - 1, 0] > squared:
                for column in range(3):
                    found[place, column] = found[place - 1, column]
                place -= 1
            found[place, 0], found[place, 1], found[place, 2] = squared, v, u
            n_found += 1
    return found[:n_found]


@compiled()
def search_lattice(xy: Any, near: Any, done: Any) -> Any:
    """Find the neighbours of tiles that have enough of them near on a lattice.

    Nothing is done where tiles share a place or the lattice is too large for a map.
    """
    n_tiles, k = near.shape
    step_x, step_y = common_step(xy, 0), common_step(xy, 1)
    width = greatest(xy, 0) // step_x + 1 + 2 * RADIUS
    height = greatest(xy, 1) // step_y + 1 + 2 * RADIUS
    if width > 64 * n_tiles + 4096 or height > (64 * n_tiles + 4096) // width:
        return
    tiles = np.full(height * width, -1, np.int32)
    for i in range(n_tiles):
        place = (xy[i, 1] // step_y + RADIUS) * width + xy[i, 0] // step_x + RADIUS
        if tiles[place] >= 0:
            return
        tiles[place] = i
    offsets = lattice_offsets(step_x, step_y)
    steps = offsets[:, 1] * width + offsets[:, 2]
    for i in range(n_tiles):
        place = (xy[i, 1] // step_y + RADIUS) * width + xy[i, 0] // step_x + RADIUS
        n_found = 0
        for step in steps:
            j = tiles[place + step]
            if j >= 0:
                near[i, n_found] = j
                n_found += 1
                if n_found == k:
                    done[i] = True
                    break


@compiled()
def search_cells(xy: Any, near: Any, done: Any) -> Any:
    """Find the neighbours of the tiles that are not done."""
    n_tiles, k = near.shape
    side = max(np.int64(1), np.int64(1.5 * usual_pitch(xy)))
    width = greatest(xy, 0) // side + 1
    size = 2
    while size < 2 * n_tiles:
        size *= 2
    keys, heads = np.full(size, -1, np.int64), np.full(size, -1, np.int32)
    after = np.empty(n_tiles, np.int32)
    for i in range(n_tiles):
        key = (xy[i, 1] // side) * width + xy[i, 0] // side
        place = find_cell(keys, key)
        keys[place] = key
        after[i] = heads[place]
        heads[place] = i
    gaps = np.empty((k, 4), np.int64)
    for i in range(n_tiles):
        if done[i]:
            continue
        n_found, ring, covered = 0, -1, False
        cell_x, cell_y = xy[i, 0] // side, xy[i, 1] // side
        while not covered and ring < MAX_RING:
            ring += 1
            for cy in range(max(cell_y - ring, 0), cell_y + ring + 1):
                edge = abs(cy - cell_y) == ring
                for cx in range(cell_x - ring, cell_x + ring + 1, 1 if edge else 2 * ring):
                    if cx < 0 or cx >= width:
                        continue
                    j = heads[find_cell(keys, cy * width + cx)]
                    while j >= 0:
                        if j != i:
                            n_found = offer(xy, i, j, near[i], gaps, n_found)
                        j = after[j]
            # whatever lies outside is farther than ring cells
            covered = n_found == k and gaps[k - 1, 0] <= (ring * side) ** 2
        if not covered:
            search_all(xy, i, near[i], gaps)


def nearest(xy: Any, k: int) -> Any:
    """Find each tile's k nearest others, in order; ``xy`` from (0, 0), 1 <= k < n_tiles."""
    near = np.empty((len(xy), k), np.int32)
    done = np.zeros(len(xy), np.bool_)
    search_lattice(xy, near, done)
    left = np.flatnonzero(~done)
    if len(left) > FEW:
        search_cells(xy, near, done)
        return near
    for i in left:  # lonely tiles of a lattice
        search_all(xy, i, near[i], np.empty((k, 4), np.int64))
    return near
