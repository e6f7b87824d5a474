"""Numbers as they are stored and as they are calculated with; what dropout multiplies by.

bfloat16 arrives as its bits, uint16, and is widened where it is read.
"""

import math
from typing import Any, no_type_check

import numpy as np
from numba import types
from numba.extending import overload

from momkd.compilation import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def widen(x: Any) -> Any:
    """Give a stored number as one to calculate with: bfloat16 becomes float32."""
    return x


def narrow(x: Any, like: Any) -> Any:
    """Round a number to what is stored in an array of ``like``."""
    return x


def exp_of_negative(x: Any) -> Any:
    """Give exp(x) for x <= 0."""
    return math.exp(x)


# tests wrap every function to check its types, but not these: numba reads the functions inside
@no_type_check
@overload(widen)
def _widen(x):
    if x == types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


@no_type_check
@overload(narrow)
def _narrow(x, like):
    if like != types.uint16:
        return lambda x, like: x

    def to_nearest_even(x, like):
        bits = np.float32(x).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return to_nearest_even


@no_type_check
@overload(exp_of_negative)
def _exp_of_negative(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    # range reduction and polynomial of degree 5, within 2 units of the last place; the library's
    # function is called number by number, this runs in vector registers
    def single(x):
        x = x if x > np.float32(-87.0) else np.float32(-87.0)
        n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
        r = x - n * np.float32(0.693359375)
        r = r + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        p = p * r * r + r + np.float32(1.0)
        return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)

    return single


@compiled()
def mix(x: Any) -> Any:
    """Scramble 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled()
def edge_factor(seed: Any, place: Any, threshold: Any, scale: Any) -> Any:
    """Give what dropout multiplies one coefficient by; see :mod:`counter_dropout`."""
    if threshold == 0:
        return scale
    counter = np.uint64(place)
    word = mix(seed + (counter >> np.uint64(2)) * GOLDEN)
    draw = (word >> ((counter & np.uint64(3)) << np.uint64(4))) & np.uint64(0xFFFF)
    return scale if draw >= np.uint64(threshold) else scale - scale


@compiled()
def row_factors(seed: Any, row: Any, threshold: Any, scale: Any, factors: Any) -> Any:
    """Fill what dropout multiplies a row's elements by; ``factors`` (4, ceil(dim / 4))."""
    quarter = factors.shape[1]
    if threshold == 0:
        for q in range(4):
            for g in range(quarter):
                factors[q, g] = scale
        return
    base = seed + np.uint64(row) * np.uint64(quarter) * GOLDEN
    limit, zero = np.uint64(threshold), factors.dtype.type(0)
    first, second, third, fourth = factors[0], factors[1], factors[2], factors[3]
    for g in range(quarter):
        word = mix(base + np.uint64(g) * GOLDEN)
        first[g] = scale if (word & np.uint64(0xFFFF)) >= limit else zero
        second[g] = scale if ((word >> np.uint64(16)) & np.uint64(0xFFFF)) >= limit else zero
        third[g] = scale if ((word >> np.uint64(32)) & np.uint64(0xFFFF)) >= limit else zero
        fourth[g] = scale if (word >> np.uint64(48)) >= limit else zero
