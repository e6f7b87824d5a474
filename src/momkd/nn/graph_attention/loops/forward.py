"""Forward over tiles: attention coefficients, what each tile hears, and what becomes of it.

``projected`` (n_tiles, parts, dim_head) holds what the input product gives of each tile: source
heads, target heads, and in the first layer of an encoder the residual's heads. An edge is a place
in ``heard``; ``starts`` says where a tile's edges begin. ``alpha`` (n_edges, n_heads) are the
coefficients before dropout.
"""

from typing import Any

import numpy as np

from momkd.compilation import compiled
from momkd.nn.graph_attention.loops.numbers import (
    edge_factor,
    exp_of_negative,
    narrow,
    row_factors,
    widen,
)
from momkd.nn.graph_attention.loops.rows import add_scaled, sum_of, sum_of_squares, widen_row


@compiled(any_order=True)
def score_edge(source: Any, target: Any, attention: Any, slope: Any) -> Any:
    """Give a' LeakyReLU(source + target) of one head."""
    total = attention.dtype.type(0)
    for c in range(attention.size):
        v = widen(source[c]) + widen(target[c])
        total += attention[c] * (v if v > 0 else v * slope)
    return total


@compiled()
def attend_row(i: Any, graph: Any, projected: Any, weights: Any, alpha: Any) -> Any:
    """Fill the attention coefficients of one row's edges: a softmax a head."""
    starts, heard = graph
    attention, _, slope = weights
    n_heads = attention.shape[0]
    for h in range(n_heads):
        best = -attention.dtype.type(np.inf)
        for e in range(starts[i], starts[i + 1]):
            source, target = projected[heard[e], h], projected[i, n_heads + h]
            score = score_edge(source, target, attention[h], slope)
            alpha[e, h] = score
            best = max(best, score)
        total = attention.dtype.type(0)
        for e in range(starts[i], starts[i + 1]):
            alpha[e, h] = exp_of_negative(alpha[e, h] - best)
            total += alpha[e, h]
        for e in range(starts[i], starts[i + 1]):
            alpha[e, h] /= total


@compiled()
def gather_row(
    i: Any, graph: Any, projected: Any, weights: Any, drop: Any, alpha: Any, y: Any
) -> Any:
    """Set y to the sum of what a row hears, plus bias."""
    starts, heard = graph
    _, bias, _ = weights
    n_heads = bias.shape[0]
    for h in range(n_heads):
        widen_row(bias[h], y[h])
        for e in range(starts[i], starts[i + 1]):
            factor = alpha[e, h] * edge_factor(drop[0], e * n_heads + h, drop[1], drop[2])
            if factor != 0:
                add_scaled(factor, projected[heard[e], h], y[h])


@compiled()
def normalise_row(y: Any, epsilon: Any) -> Any:
    """Make the row's mean 0 and its variance 1, in place; give the factor that did it."""
    flat = y.reshape(-1)
    mean = sum_of(flat) / flat.dtype.type(flat.size)
    variance = sum_of_squares(flat, mean) / flat.dtype.type(flat.size)
    factor = flat.dtype.type(1) / np.sqrt(variance + epsilon)
    for c in range(flat.size):
        flat[c] = (flat[c] - mean) * factor
    return factor


@compiled()
def activate(y: Any, norm: Any, factors: Any) -> Any:
    """Put Dropout(ELU(gain * y + shift)) in the place of a normalised row."""
    gain, shift, _ = norm
    zero, one = gain.dtype.type(0), gain.dtype.type(1)
    for c in range(y.size):
        u = gain[c] * y[c] + shift[c]
        low = exp_of_negative(u if u < 0 else zero) - one
        y[c] = (u if u > 0 else low) * factors[c]


@compiled()
def add_residual(d: Any, carried: Any, out: Any, with_maximum: Any) -> Any:
    """Set out to d + carried of one head, or to the greater of that and carried."""
    for c in range(d.size):
        before = widen(carried[c])
        after = d[c] + before
        if with_maximum:
            after = max(after, before)
        out[c] = narrow(after, out[c])


@compiled()
def hear(
    first: Any,
    last: Any,
    graph: Any,
    projected: Any,
    weights: Any,
    drop: Any,
    alpha: Any,
    finish: Any,
    carried: Any,
    out: Any,
) -> Any:
    """Let rows hear their lists; then norm, ELU, dropout and residual as ``finish`` says.

    ``finish`` is (kind, norm, drop, part of out): kind 0 stops after the bias, 1 adds the
    residual, 2 takes the maximum with it too.
    """
    kind, norm, output_drop, part = finish
    n_heads, dim_head = weights[0].shape
    y = np.empty((n_heads, dim_head), weights[0].dtype)
    flat = y.reshape(-1)
    factors = np.empty((4, (flat.size + 3) // 4), y.dtype)
    for i in range(first, last):
        attend_row(i, graph, projected, weights, alpha)
        gather_row(i, graph, projected, weights, drop, alpha, y)
        if kind == 0:
            for h in range(n_heads):
                for c in range(dim_head):
                    out[i, part + h, c] = narrow(y[h, c], out[i, part + h, c])
            continue
        normalise_row(y, norm[2])
        row_factors(output_drop[0], i, output_drop[1], output_drop[2], factors)
        activate(flat, norm, factors.reshape(-1))
        for h in range(n_heads):
            add_residual(y[h], carried[i, 2 * n_heads + h], out[i, part + h], kind == 2)
