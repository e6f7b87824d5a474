"""The edges of a graph, ordered by who hears and by who is heard."""

from typing import Any

import numpy as np

from momkd.compilation import compiled


@compiled()
def index_edges(rows: Any, with_itself: Any) -> Any:
    """Order the edges of a graph by both ends.

    ``rows`` (n_tiles, width) names tiles, -1 for none; ``with_itself`` puts each tile first in its
    own row. Gives (starts, items) of the rows without gaps; the same of the transpose, with each
    tile itself first and the rest ascending; for each edge of the one its place in the other.
    """
    n_tiles, width = rows.shape
    starts = np.zeros(n_tiles + 1, np.int32)
    back = np.zeros(n_tiles + 1, np.int32)
    for i in range(n_tiles):
        starts[i + 1] = starts[i] + with_itself
        back[i + 1] += with_itself
        for m in range(width):
            if rows[i, m] >= 0:
                starts[i + 1] += 1
                back[rows[i, m] + 1] += 1
    for i in range(n_tiles):
        back[i + 1] += back[i]
    n_edges = starts[n_tiles]
    items, sources = np.empty(n_edges, np.int32), np.empty(n_edges, np.int32)
    there, here = np.empty(n_edges, np.int32), np.empty(n_edges, np.int32)
    free = back[:-1] + np.int32(with_itself)
    for i in range(n_tiles):
        e = starts[i]
        if with_itself:
            items[e], sources[back[i]] = i, i
            there[e], here[back[i]] = back[i], e
            e += 1
        for m in range(width):
            j = rows[i, m]
            if j >= 0:
                items[e], sources[free[j]] = j, i
                there[e], here[free[j]] = free[j], e
                free[j] += 1
                e += 1
    return starts, items, back, sources, there, here
