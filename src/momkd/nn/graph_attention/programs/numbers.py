"""Where vectors lie, how they are read and written, and what dropout multiplies by.

A program handles ``ROWS`` tiles at once, as blocks (rows, heads, numbers of a head); the last two
are powers of 2, so that some places lie outside. ``kind`` is the type to calculate in.
"""

import triton.language as tl

from momkd.compilation import program

GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
FIRST = tl.constexpr(0xBF58476D1CE4E5B9)
SECOND = tl.constexpr(0x94D049BB133111EB)


@program
def vectors(
    N_HEADS: tl.constexpr, DIM_HEAD: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr
):
    """Give the place of each number within a tile's vector, and which places there are."""
    h = tl.arange(0, HEADS)[None, :, None]
    c = tl.arange(0, WIDTH)[None, None, :]
    return h * DIM_HEAD + c, (h < N_HEADS) & (c < DIM_HEAD)


@program
def read(pointer, rows, stride, columns, inside, kind: tl.constexpr):
    """Read the vectors of rows; 0 outside."""
    places = rows.to(tl.int64)[:, None, None] * stride + columns
    return tl.load(pointer + places, mask=inside, other=0).to(kind)


@program
def write(pointer, rows, stride, columns, inside, value):
    """Write the vectors of rows, rounded to what is stored."""
    places = rows.to(tl.int64)[:, None, None] * stride + columns
    tl.store(pointer + places, value.to(pointer.dtype.element_ty), mask=inside)


@program
def over_vector(values):
    """Add up each row's numbers, over all heads."""
    return tl.sum(tl.sum(values, axis=2), axis=1)[:, None, None]


@program
def draw(seed, word, part):
    """Give 16 bits of a word of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = seed.to(tl.int64).to(tl.uint64) + word.to(tl.uint64) * GOLDEN
    x = (x ^ (x >> 30)) * FIRST
    x = (x ^ (x >> 27)) * SECOND
    x = x ^ (x >> 31)
    return ((x >> (part * 16).to(tl.uint64)) & 0xFFFF).to(tl.int32)


@program
def kept_edges(seed, edges, N_HEADS: tl.constexpr, HEADS: tl.constexpr, THRESHOLD: tl.constexpr):
    """Give which coefficients of edges stay: (rows, heads); see :mod:`counter_dropout`."""
    number = edges.to(tl.int64)[:, None] * N_HEADS + tl.arange(0, HEADS)[None, :]
    return draw(seed, number // 4, number % 4) >= THRESHOLD


@program
def kept_numbers(seed, rows, columns, DIM: tl.constexpr, THRESHOLD: tl.constexpr):
    """Give which numbers of the vectors of rows stay."""
    quarter: tl.constexpr = (DIM + 3) // 4
    word = rows.to(tl.int64)[:, None, None] * quarter + columns % quarter
    return draw(seed, word, (columns // quarter) % 4) >= THRESHOLD
