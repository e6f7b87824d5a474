"""Dropout by counters: whether an element is kept is a function of a seed and its place.

A mask that can be made again need not be stored: the compiled loops draw it in the forward pass
and once more in the backward pass. Here are the same masks as tensors. Four draws of 16 bits come
from one word of SplitMix64 (Steele, Lea, Flood 2014); a rate is therefore rounded to 1/65536, and
kept elements are scaled by the rounded rate.

Element c of row i in rows of ``dim`` is draw c // q of word i q + c % q, q = ceil(dim / 4); edge
number e of head h of n is draw k % 4 of word k // 4, k = e n + h.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 1 << 64
_LEVELS = 1 << 16


class Drop(NamedTuple):
    """One place of dropout: its seed, and the draw below which an element goes."""

    seed: int
    threshold: int

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by."""
        return _LEVELS / (_LEVELS - self.threshold)


NO_DROP = Drop(0, 0)


def draw_seed() -> int:
    """Draw a seed from torch's global generator."""
    return int(torch.randint(2**63 - 1, (), device="cpu"))


def drop_at(seed: int, site: int, rate: float) -> Drop:
    """Give the dropout of one site of a model: each has its own stream of the seed."""
    threshold = min(round(rate * _LEVELS), _LEVELS - 1)
    return Drop(_mix((seed + (site + 1) * _GOLDEN) % _WORD), threshold) if threshold else NO_DROP


def row_mask(drop: Drop, n_rows: int, dim: int, like: Tensor) -> Float[Tensor, "n_rows dim"]:
    """Give the factors of the elements of rows: 0, or the scale."""
    quarter = -(-dim // 4)
    c = torch.arange(dim, device="cpu")
    words = torch.arange(n_rows, device="cpu")[:, None] * quarter + c % quarter
    return _factors(drop, words, (c // quarter).expand_as(words), like)


def edge_mask(
    drop: Drop, places: Int64[Tensor, "n_tiles n_heard"], n_heads: int, like: Tensor
) -> Float[Tensor, "n_tiles n_heard n_heads"]:
    """Give the factors of the coefficients of numbered edges."""
    numbers = places.cpu().clamp(min=0)[:, :, None] * n_heads
    numbers = numbers + torch.arange(n_heads, device="cpu")
    return _factors(drop, numbers // 4, numbers % 4, like)


def _factors(drop: Drop, words: Tensor, draws: Tensor, like: Tensor) -> Tensor:
    x = signed(drop.seed) + words * signed(_GOLDEN)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _shift(x, shift)) * signed(factor)
    x = x ^ _shift(x, 31)
    drawn = (x >> (16 * draws)) & (_LEVELS - 1)
    return (drawn >= drop.threshold).to(like) * drop.scale


def _shift(x: Tensor, n: int) -> Tensor:
    """Shift signed words as if they had no sign."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def signed(word: int) -> int:
    """Give a word of 64 bits as the number with a sign that has the same bits."""
    return word - _WORD if word >= _WORD // 2 else word


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % _WORD
    return x ^ (x >> 31)
