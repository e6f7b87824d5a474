"""Backward over tiles: messages, norms and dropout masks are made again, no edge holds a vector.

Names as in :mod:`forward`; ``pull`` (n_edges, n_heads) is the gradient of the scores. Sums over
tiles go to ``sums[chunk]`` and are added up in the order of the chunks: the result does not
depend on which thread takes which chunk.
"""

from typing import Any

import numpy as np

from momkd.compilation import compiled
from momkd.nn.graph_attention.loops.forward import gather_row, normalise_row
from momkd.nn.graph_attention.loops.numbers import (
    edge_factor,
    exp_of_negative,
    row_factors,
    widen,
)
from momkd.nn.graph_attention.loops.rows import (
    add_scaled,
    add_to,
    clear,
    narrow_row,
    sum_of,
    sum_of_products,
    widen_row,
)

ROW_SUMS = 6  # of target_rows, in this order: attention, bias, gain, shift, target, residual


@compiled()
def finish_gradient(
    y: Any, norm: Any, factor: Any, factors: Any, kind: Any, carried: Any, g: Any, sums: Any
) -> Any:
    """Turn g, the gradient of a row's output, into that of its y before the norm, in place.

    ``y`` is the normalised row and ``factor`` what normalised it; ``carried`` the row's residual.
    """
    gain, shift, _ = norm
    zero, one, half = gain.dtype.type(0), gain.dtype.type(1), gain.dtype.type(0.5)
    for c in range(g.size):
        u = gain[c] * y[c] + shift[c]
        power = exp_of_negative(u if u < 0 else zero)
        slope = one if u > 0 else power
        if kind == 2:  # through the maximum of carried and d + carried; a tie is halved
            d = (u if u > 0 else power - one) * factors[c]
            before = carried[c]
            after = d + before
            slope *= one if after > before else (half if after == before else zero)
        du = g[c] * factors[c] * slope
        sums[2, c] += du * y[c]
        sums[3, c] += du
        g[c] = du * gain[c]
    mean = sum_of(g) / g.dtype.type(g.size)
    along = sum_of_products(g, y) / g.dtype.type(g.size)
    for c in range(g.size):
        g[c] = (g[c] - mean - y[c] * along) * factor


@compiled()
def score_gradient(
    pull: Any,
    source: Any,
    target: Any,
    attention: Any,
    slope: Any,
    to_target: Any,
    to_attention: Any,
) -> Any:
    """Add what one edge's score gives to the gradients of its target and of the attention."""
    up, low = pull, pull * slope
    for c in range(attention.size):
        v = widen(source[c]) + widen(target[c])
        way = up if v > 0 else low
        to_target[c] += way * attention[c]
        to_attention[c] += way * v


@compiled()
def target_rows(
    first: Any,
    last: Any,
    chunk: Any,
    graph: Any,
    projected: Any,
    weights: Any,
    drop: Any,
    alpha: Any,
    finish: Any,
    carried: Any,
    gradients: Any,
    d_projected: Any,
    d_heard: Any,
    pull: Any,
    sums: Any,
) -> Any:
    """Take gradients of rows back to their y, scores and target projections.

    ``gradients`` is (array, part, more): what reaches the rows; with kind 1 the array's rows are
    replaced by their sum with ``more``. ``d_heard`` is (array, part), where the gradient of y goes.
    """
    starts, heard = graph
    attention, _, slope = weights
    kind, norm, output_drop, _ = finish
    d_out, d_part, d_more = gradients
    d_y, y_part = d_heard
    n_heads, dim_head = attention.shape
    y, g, d_target, before = (
        np.empty((n_heads, dim_head), attention.dtype),
        np.empty((n_heads, dim_head), attention.dtype),
        np.empty((n_heads, dim_head), attention.dtype),
        np.empty((n_heads, dim_head), attention.dtype),
    )
    factors = np.empty((4, (y.size + 3) // 4), attention.dtype)
    own = sums[chunk]
    clear(own.reshape(-1))
    for i in range(first, last):
        for h in range(n_heads):
            widen_row(d_out[i, d_part + h], g[h])
            if kind == 1:
                add_scaled(attention.dtype.type(1), d_more[i, h], g[h])
                narrow_row(g[h], d_out[i, d_part + h])
                add_to(g[h], own[5, h])
        if kind != 0:
            gather_row(i, graph, projected, weights, drop, alpha, y)
            factor = normalise_row(y, norm[2])
            row_factors(output_drop[0], i, output_drop[1], output_drop[2], factors)
            if kind == 2:
                for h in range(n_heads):
                    widen_row(carried[i, 2 * n_heads + h], before[h])
            finish_gradient(
                y.reshape(-1),
                norm,
                factor,
                factors.reshape(-1),
                kind,
                before.reshape(-1),
                g.reshape(-1),
                own.reshape((ROW_SUMS, y.size)),
            )
        for h in range(n_heads):
            add_to(g[h], own[1, h])
            narrow_row(g[h], d_y[i, y_part + h])
            mean = attention.dtype.type(0)
            for e in range(starts[i], starts[i + 1]):
                kept = edge_factor(drop[0], e * n_heads + h, drop[1], drop[2])
                pull[e, h] = kept * sum_of_products(g[h], projected[heard[e], h])
                mean += alpha[e, h] * pull[e, h]
            clear(d_target[h])
            for e in range(starts[i], starts[i + 1]):
                pull[e, h] = alpha[e, h] * (pull[e, h] - mean)
                score_gradient(
                    pull[e, h],
                    projected[heard[e], h],
                    projected[i, n_heads + h],
                    attention[h],
                    slope,
                    d_target[h],
                    own[0, h],
                )
            add_to(d_target[h], own[4, h])
            narrow_row(d_target[h], d_projected[i, n_heads + h])


@compiled()
def source_rows(
    first: Any,
    last: Any,
    chunk: Any,
    listeners: Any,
    projected: Any,
    weights: Any,
    drop: Any,
    alpha: Any,
    pull: Any,
    d_heard: Any,
    d_projected: Any,
    sums: Any,
) -> Any:
    """Gather the gradient of rows' source projections from those who hear them.

    ``listeners`` is (starts, who, edge): the edges of the graph by their source.
    """
    starts, who, edges = listeners
    attention, _, slope = weights
    d_y, y_part = d_heard
    n_heads, dim_head = attention.shape
    d_source = np.empty(dim_head, attention.dtype)
    own = sums[chunk]
    clear(own.reshape(-1))
    for j in range(first, last):
        for h in range(n_heads):
            clear(d_source)
            for place in range(starts[j], starts[j + 1]):
                i, e = who[place], edges[place]
                kept = edge_factor(drop[0], np.int64(e) * n_heads + h, drop[1], drop[2])
                heard_gradient(
                    alpha[e, h] * kept,
                    d_y[i, y_part + h],
                    pull[e, h],
                    projected[j, h],
                    projected[i, n_heads + h],
                    attention[h],
                    slope,
                    d_source,
                )
            add_to(d_source, own[h])
            narrow_row(d_source, d_projected[j, h])


@compiled()
def heard_gradient(
    factor: Any,
    d_y: Any,
    pull: Any,
    source: Any,
    target: Any,
    attention: Any,
    slope: Any,
    to_source: Any,
) -> Any:
    """Add what one listener gives to the gradient of a source: as message and as score."""
    up, low = pull, pull * slope
    for c in range(attention.size):
        v = widen(source[c]) + widen(target[c])
        to_source[c] += factor * widen(d_y[c]) + (up if v > 0 else low) * attention[c]


@compiled()
def add_up(sums: Any, total: Any) -> Any:
    """Add the sums of all chunks in their order; ``sums`` (n_chunks, n), ``total`` float64."""
    clear(total)
    for chunk in range(sums.shape[0]):
        for c in range(total.size):
            total[c] += sums[chunk, c]
