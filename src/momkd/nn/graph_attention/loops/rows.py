"""Loops over one row of numbers: sums, sums of products, scaled copies."""

from typing import Any

from momkd.compilation import compiled
from momkd.nn.graph_attention.loops.numbers import narrow, widen


# numba's assignment to a slice is compiled for every kind of value: seconds for one line
@compiled()
def clear(row: Any) -> Any:
    """Set a row to 0."""
    for c in range(row.size):
        row[c] = 0


@compiled()
def add_scaled(factor: Any, row: Any, total: Any) -> Any:
    """Add factor * row to a total."""
    for c in range(total.size):
        total[c] += factor * widen(row[c])


@compiled(any_order=True)
def sum_of(values: Any) -> Any:
    """Add up a row."""
    total = values.dtype.type(0)
    for c in range(values.size):
        total += values[c]
    return total


@compiled(any_order=True)
def sum_of_squares(values: Any, centre: Any) -> Any:
    """Add up squared distances from a centre."""
    total = values.dtype.type(0)
    for c in range(values.size):
        total += (values[c] - centre) * (values[c] - centre)
    return total


@compiled(any_order=True)
def sum_of_products(a: Any, b: Any) -> Any:
    """Give the inner product of two rows."""
    total = a.dtype.type(0)
    for c in range(a.size):
        total += a[c] * widen(b[c])
    return total


@compiled()
def widen_row(row: Any, out: Any) -> Any:
    """Copy a stored row into one to calculate with."""
    for c in range(out.size):
        out[c] = widen(row[c])


@compiled()
def narrow_row(row: Any, out: Any) -> Any:
    """Store a row."""
    for c in range(out.size):
        out[c] = narrow(row[c], out[c])


@compiled()
def add_to(row: Any, total: Any) -> Any:
    """Add a row to a total."""
    for c in range(total.size):
        total[c] += row[c]
