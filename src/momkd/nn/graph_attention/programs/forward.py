"""Forward over tiles: what each tile hears, and what becomes of it; see :mod:`loops.forward`.

Of each edge its score is kept, of each tile the logarithm of the sum of their exponentials: the
coefficient is exp(score - logarithm). Softmax and gathering are one loop over a tile's list.
"""

import triton.language as tl

from momkd.compilation import program
from momkd.nn.graph_attention.programs.numbers import (
    kept_edges,
    kept_numbers,
    over_vector,
    read,
    vectors,
    write,
)


@program
def exp_of_difference(a, b):
    """Give exp(a - b), and 0 where nothing has been heard yet: both are minus infinity."""
    return tl.exp(a - tl.where(b == -float("inf"), 0.0, b))


@program
def normalise(y, inside, DIM: tl.constexpr, EPSILON: tl.constexpr):
    """Make each row's mean 0 and its variance 1; give that, and the factors that did it."""
    centred = tl.where(inside, y - over_vector(y) / DIM, 0.0)
    factor = 1.0 / tl.sqrt(over_vector(centred * centred) / DIM + EPSILON)
    return centred * factor, factor


@program
def hear(
    starts,
    heard,
    source,
    target,
    stride,
    attention,
    bias,
    gain,
    shift,
    carried,
    carried_stride,
    out,
    out_stride,
    scores,
    logarithms,
    n_rows_any,
    seed_any,
    output_seed_any,
    N_HEADS: tl.constexpr,
    DIM_HEAD: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    SLOPE: tl.constexpr,
    EPSILON: tl.constexpr,
    THRESHOLD: tl.constexpr,
    OUTPUT_THRESHOLD: tl.constexpr,
    KIND: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Let rows hear their lists; then norm, ELU, dropout and residual.

    ``KIND`` 0 stops after the bias, 1 adds the residual, 2 takes the maximum with it too.
    """
    kind: tl.constexpr = attention.dtype.element_ty
    dim: tl.constexpr = N_HEADS * DIM_HEAD
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = rows < n_rows_any
    rows = tl.minimum(rows, n_rows_any - 1)
    columns, inside = vectors(N_HEADS, DIM_HEAD, HEADS, WIDTH)
    head = tl.arange(0, HEADS)[None, :]
    a = tl.load(attention + columns, mask=inside, other=0)
    own = read(target, rows, stride, columns, inside, kind)
    start, stop = tl.load(starts + rows), tl.load(starts + rows + 1)
    best = tl.full((ROWS, HEADS), -float("inf"), kind)
    total = tl.zeros((ROWS, HEADS), kind)
    y = tl.zeros((ROWS, HEADS, WIDTH), kind)
    for m in range(tl.max(stop - start, axis=0)):
        edge = start + m
        there = edge < stop
        tile = tl.load(heard + edge, mask=there, other=0)
        message = read(source, tile, stride, columns, inside, kind)
        v = message + own
        score = tl.sum(a * tl.where(v > 0, v, v * SLOPE), axis=2)
        score = tl.where(there[:, None], score, -float("inf"))
        better = tl.maximum(best, score)
        fade, weight = exp_of_difference(best, better), exp_of_difference(score, better)
        best = better
        total = total * fade + weight
        if THRESHOLD > 0:
            kept = kept_edges(seed_any, edge, N_HEADS, HEADS, THRESHOLD)
            weight = tl.where(kept, weight, 0.0) * (65536.0 / (65536 - THRESHOLD))
        y = y * fade[:, :, None] + weight[:, :, None] * message
        if KEEP:
            places = edge.to(tl.int64)[:, None] * N_HEADS + head
            mine = (there & live)[:, None] & (head < N_HEADS)
            tl.store(scores + places, score, mask=mine)
    some = total > 0
    total = tl.where(some, total, 1.0)
    if KEEP:
        places = rows.to(tl.int64)[:, None] * N_HEADS + head
        logarithm = tl.where(some, best, 0.0) + tl.log(total)
        tl.store(logarithms + places, logarithm, mask=live[:, None] & (head < N_HEADS))
    y = y / total[:, :, None] + tl.load(bias + columns, mask=inside, other=0)
    if KIND > 0:
        y, _factor = normalise(y, inside, dim, EPSILON)
        u = y * tl.load(gain + columns, mask=inside, other=0)
        u += tl.load(shift + columns, mask=inside, other=0)
        y = tl.where(u > 0, u, tl.exp(tl.minimum(u, 0.0)) - 1.0)
        if OUTPUT_THRESHOLD > 0:
            kept_y = kept_numbers(output_seed_any, rows, columns, dim, OUTPUT_THRESHOLD)
            y = tl.where(kept_y, y, 0.0) * (65536.0 / (65536 - OUTPUT_THRESHOLD))
        before = read(carried, rows, carried_stride, columns, inside, kind)
        y += before
        if KIND == 2:
            y = tl.maximum(y, before)
    write(out, rows, out_stride, columns, inside & live[:, None, None], y)
