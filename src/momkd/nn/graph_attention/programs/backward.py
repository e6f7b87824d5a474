"""Backward over tiles, in two passes: by who hears, and by who is heard; nothing is atomic.

Messages, norms and dropout masks are made again; ``pulls`` (n_edges, n_heads) is the gradient of
the scores. A program takes ``n_blocks`` blocks of rows one after another and leaves its sums over
tiles in a row of ``sums``; these are added up in the order of the programs.
"""

import triton.language as tl

from momkd.compilation import program
from momkd.nn.graph_attention.programs.forward import normalise
from momkd.nn.graph_attention.programs.numbers import (
    kept_edges,
    kept_numbers,
    over_vector,
    read,
    vectors,
    write,
)


@program
def coefficients(
    scores,
    logarithms,
    edge,
    there,
    rows,
    seed,
    N_HEADS: tl.constexpr,
    HEADS: tl.constexpr,
    THRESHOLD: tl.constexpr,
):
    """Give the coefficients of edges that rows hear by, and what dropout multiplies them by."""
    head = tl.arange(0, HEADS)[None, :]
    mine = there[:, None] & (head < N_HEADS)
    places = edge.to(tl.int64)[:, None] * N_HEADS + head
    score = tl.load(scores + places, mask=mine, other=-float("inf"))
    places = rows.to(tl.int64)[:, None] * N_HEADS + head
    alpha = tl.exp(score - tl.load(logarithms + places, mask=head < N_HEADS, other=0))
    factor = tl.zeros_like(alpha) + 1.0
    if THRESHOLD > 0:
        kept = kept_edges(seed, edge, N_HEADS, HEADS, THRESHOLD)
        factor = tl.where(kept, factor, 0.0) * (65536.0 / (65536 - THRESHOLD))
    return alpha, factor


@program
def add_row(sums, number, columns, inside, block, DIM: tl.constexpr):
    """Leave the sum over rows of a block in a row of the program's sums."""
    places = number * DIM + columns
    tl.store(sums + places, tl.sum(block, axis=0)[None, :, :], mask=inside)


@program
def target_rows(
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
    scores,
    logarithms,
    d_out,
    d_out_stride,
    d_more,
    d_more_stride,
    d_target,
    d_stride,
    d_heard,
    d_heard_stride,
    pulls,
    sums,
    n_rows_any,
    n_blocks_any,
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
):
    """Take gradients of rows back to what they heard, scores and target projections.

    With ``KIND`` 1 the rows of ``d_out`` are replaced by their sum with those of ``d_more``. Sums:
    attention, bias, gain, shift, target, residual.
    """
    kind: tl.constexpr = attention.dtype.element_ty
    dim: tl.constexpr = N_HEADS * DIM_HEAD
    columns, inside = vectors(N_HEADS, DIM_HEAD, HEADS, WIDTH)
    head = tl.arange(0, HEADS)[None, :]
    a = tl.load(attention + columns, mask=inside, other=0)
    to_attention = tl.zeros((ROWS, HEADS, WIDTH), kind)
    to_bias = tl.zeros((ROWS, HEADS, WIDTH), kind)
    to_gain = tl.zeros((ROWS, HEADS, WIDTH), kind)
    to_shift = tl.zeros((ROWS, HEADS, WIDTH), kind)
    to_target = tl.zeros((ROWS, HEADS, WIDTH), kind)
    to_residual = tl.zeros((ROWS, HEADS, WIDTH), kind)
    for block in range(n_blocks_any):
        rows = (tl.program_id(0) * n_blocks_any + block) * ROWS + tl.arange(0, ROWS)
        live = rows < n_rows_any
        rows = tl.minimum(rows, n_rows_any - 1)
        # rows past the end have no gradient, so that they add 0 to every sum
        mine = inside & live[:, None, None]
        start, stop = tl.load(starts + rows), tl.load(starts + rows + 1)
        longest = tl.max(stop - start, axis=0)
        g = read(d_out, rows, d_out_stride, columns, mine, kind)
        if KIND == 1:
            g += read(d_more, rows, d_more_stride, columns, mine, kind)
            to_residual += g
            write(d_out, rows, d_out_stride, columns, mine, g)
        gathered = tl.zeros((ROWS, HEADS, WIDTH), kind)
        for m in range(longest):
            edge = start + m
            there = edge < stop
            tile = tl.load(heard + edge, mask=there, other=0)
            message = read(source, tile, stride, columns, inside, kind)
            alpha, factor = coefficients(
                scores, logarithms, edge, there, rows, seed_any, N_HEADS, HEADS, THRESHOLD
            )
            gathered += (alpha * factor)[:, :, None] * message
        if KIND > 0:
            y = gathered + tl.load(bias + columns, mask=inside, other=0)
            y, norm = normalise(y, inside, dim, EPSILON)
            scale = tl.load(gain + columns, mask=inside, other=0)
            u = scale * y + tl.load(shift + columns, mask=inside, other=0)
            power = tl.exp(tl.minimum(u, 0.0))
            slope = tl.where(u > 0, 1.0, power)
            factors = tl.full((ROWS, HEADS, WIDTH), 1.0, kind)
            if OUTPUT_THRESHOLD > 0:
                kept = kept_numbers(output_seed_any, rows, columns, dim, OUTPUT_THRESHOLD)
                factors = tl.where(kept, factors, 0.0) * (65536.0 / (65536 - OUTPUT_THRESHOLD))
            if KIND == 2:  # through the maximum of carried and d + carried; a tie is halved
                before = read(carried, rows, carried_stride, columns, inside, kind)
                after = tl.where(u > 0, u, power - 1.0) * factors + before
                share = tl.where(after > before, 1.0, tl.where(after == before, 0.5, 0.0))
                slope = slope * share
            du = g * factors * slope
            to_gain += du * y
            to_shift += du
            g = du * scale
            g = (g - over_vector(g) / dim - y * (over_vector(g * y) / dim)) * norm
            g = tl.where(mine, g, 0.0)
        to_bias += g
        write(d_heard, rows, d_heard_stride, columns, mine, g)
        mean = tl.sum(g * gathered, axis=2)
        own = read(target, rows, stride, columns, inside, kind)
        own_gradient = tl.zeros((ROWS, HEADS, WIDTH), kind)
        for m in range(longest):
            edge = start + m
            there = edge < stop
            tile = tl.load(heard + edge, mask=there, other=0)
            message = read(source, tile, stride, columns, inside, kind)
            alpha, factor = coefficients(
                scores, logarithms, edge, there, rows, seed_any, N_HEADS, HEADS, THRESHOLD
            )
            pull = alpha * (factor * tl.sum(g * message, axis=2) - mean)
            places = edge.to(tl.int64)[:, None] * N_HEADS + head
            tl.store(pulls + places, pull, mask=(there & live)[:, None] & (head < N_HEADS))
            v = message + own
            up = pull[:, :, None]
            way = tl.where(v > 0, up, up * SLOPE)
            own_gradient += way * a
            to_attention += way * v
        to_target += own_gradient
        write(d_target, rows, d_stride, columns, mine, own_gradient)
    sums += tl.program_id(0) * (6 * dim)
    add_row(sums, 0, columns, inside, to_attention, dim)
    add_row(sums, 1, columns, inside, to_bias, dim)
    add_row(sums, 2, columns, inside, to_gain, dim)
    add_row(sums, 3, columns, inside, to_shift, dim)
    add_row(sums, 4, columns, inside, to_target, dim)
    add_row(sums, 5, columns, inside, to_residual, dim)


@program
def source_rows(
    back,
    who,
    edges,
    source,
    target,
    stride,
    attention,
    scores,
    logarithms,
    pulls,
    d_heard,
    d_heard_stride,
    d_source,
    d_stride,
    sums,
    n_rows_any,
    n_blocks_any,
    seed_any,
    N_HEADS: tl.constexpr,
    DIM_HEAD: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    SLOPE: tl.constexpr,
    THRESHOLD: tl.constexpr,
):
    """Gather the gradient of rows' source projections from those who hear them, and its sum."""
    kind: tl.constexpr = attention.dtype.element_ty
    dim: tl.constexpr = N_HEADS * DIM_HEAD
    columns, inside = vectors(N_HEADS, DIM_HEAD, HEADS, WIDTH)
    head = tl.arange(0, HEADS)[None, :]
    a = tl.load(attention + columns, mask=inside, other=0)
    total = tl.zeros((ROWS, HEADS, WIDTH), kind)
    for block in range(n_blocks_any):
        rows = (tl.program_id(0) * n_blocks_any + block) * ROWS + tl.arange(0, ROWS)
        live = rows < n_rows_any
        rows = tl.minimum(rows, n_rows_any - 1)
        mine = inside & live[:, None, None]
        start, stop = tl.load(back + rows), tl.load(back + rows + 1)
        message = read(source, rows, stride, columns, inside, kind)
        gradient = tl.zeros((ROWS, HEADS, WIDTH), kind)
        for m in range(tl.max(stop - start, axis=0)):
            there = start + m < stop
            listener = tl.load(who + start + m, mask=there, other=0)
            edge = tl.load(edges + start + m, mask=there, other=0)
            alpha, factor = coefficients(
                scores, logarithms, edge, there, listener, seed_any, N_HEADS, HEADS, THRESHOLD
            )
            places = edge.to(tl.int64)[:, None] * N_HEADS + head
            pull = tl.load(pulls + places, mask=there[:, None] & (head < N_HEADS), other=0)
            v = message + read(target, listener, stride, columns, inside, kind)
            d_y = read(d_heard, listener, d_heard_stride, columns, inside, kind)
            up = pull[:, :, None]
            way = tl.where(v > 0, up, up * SLOPE)
            gradient += (alpha * factor)[:, :, None] * d_y + way * a
        total += tl.where(mine, gradient, 0.0)
        write(d_source, rows, d_stride, columns, mine, gradient)
    add_row(sums + tl.program_id(0) * dim, 0, columns, inside, total, dim)


@program
def add_up(
    sums,
    total,
    n_sums_any,
    n_columns_any,
    SUMS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add up the rows of ``sums`` in their order, ``SUMS`` at once, in double precision."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    found = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, n_sums_any, SUMS):
        row = first + tl.arange(0, SUMS)
        inside = (row < n_sums_any)[:, None] & (column < n_columns_any)[None, :]
        places = row.to(tl.int64)[:, None] * n_columns_any + column[None, :]
        found += tl.sum(tl.load(sums + places, mask=inside, other=0).to(tl.float64), axis=0)
    tl.store(total + column, found, mask=column < n_columns_any)
