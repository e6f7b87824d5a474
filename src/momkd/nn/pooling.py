"""Attention over tiles, one slide at a time or several packed into one tensor.

Packed means concatenated: nothing is padded, and ``segments`` says which slide a tile belongs to.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def pack(
    slides: Sequence[Float[Tensor, "_ dim"]], dtype: torch.dtype
) -> tuple[Float[Tensor, "n_tiles dim"], Int64[Tensor, " n_tiles"]]:
    """Concatenate the tiles of slides; give them with the slide that each belongs to."""
    parts = [slide.to(dtype) for slide in slides]
    if len(parts) == 1:
        return parts[0], one_segment(parts[0])
    tiles = torch.cat(parts)
    sizes = torch.tensor([len(part) for part in parts], device=tiles.device)
    return tiles, torch.repeat_interleave(sizes, output_size=len(tiles))


def one_segment(tiles: Float[Tensor, "n_tiles dim"]) -> Int64[Tensor, " n_tiles"]:
    """Say of each tile that it is of the one slide there is."""
    return torch.zeros_like(tiles[:, 0], dtype=torch.int64)


def segment_softmax(
    scores: Float[Tensor, " n_tiles"], segments: Int64[Tensor, " n_tiles"], n_segments: int
) -> Float[Tensor, " n_tiles"]:
    """Softmax of the scores within each segment; every segment has at least one tile.

    Half precision is widened: a sum over thousands of tiles needs it.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if n_segments == 1:
        return torch.softmax(scores, dim=0)
    lowest = scores.new_full((n_segments,), -torch.inf)
    peaks = lowest.scatter_reduce(0, segments, scores.detach(), "amax")
    powers = torch.exp(scores - peaks.index_select(0, segments))
    sums = powers.new_zeros(n_segments).index_add(0, segments, powers)
    return powers / sums.index_select(0, segments)


def segment_sum(
    values: Float[Tensor, "n_tiles dim"], segments: Int64[Tensor, " n_tiles"], n_segments: int
) -> Float[Tensor, "n_segments dim"]:
    """Sum of the rows of each segment."""
    if n_segments == 1:
        return values.sum(dim=0, keepdim=True)
    return values.new_zeros(n_segments, values.shape[1]).index_add(0, segments, values)


def segment_mean(
    values: Float[Tensor, "n_tiles dim"], segments: Int64[Tensor, " n_tiles"], n_segments: int
) -> Float[Tensor, "n_segments dim"]:
    """Mean of the rows of each segment."""
    if n_segments == 1:
        return segment_sum(values, segments, 1) / values.shape[0]
    sizes = torch.bincount(segments, minlength=n_segments)
    return segment_sum(values, segments, n_segments) / sizes[:, None]


def count_places(
    places: Int64[Tensor, " n"], tiles: Float[Tensor, "n_tiles _"]
) -> Float[Tensor, " n_tiles"]:
    """Count how often each tile is named, as float32."""
    counts = torch.zeros_like(tiles[:, 0], dtype=torch.float32)
    return counts.index_add(0, places, torch.ones_like(places, dtype=torch.float32))


class GatedAttention(nn.Module):
    """Attention scores of tiles, Ilse et al. 2018, eq. 8 (plain) and 9 (gated).

    Gated: s_i = w' (tanh(V h_i) * sigmoid(U h_i)); plain: s_i = w' tanh(V h_i); every map has a
    bias. The softmax over a slide's tiles is :func:`segment_softmax`.

    Parameters
    ----------
    dim_in, dim_hidden
        Widths of h and of V h.
    gated
        With the gate U.
    dropout
        Rate after tanh and after sigmoid.
    """

    def __init__(
        self, dim_in: int, dim_hidden: int, *, gated: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.content = nn.Linear(dim_in, dim_hidden)
        self.gate = nn.Linear(dim_in, dim_hidden) if gated else None
        self.score = nn.Linear(dim_hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tiles: Float[Tensor, "n_tiles dim_in"]) -> Float[Tensor, " n_tiles"]:
        """Score each tile."""
        hidden = self.dropout(torch.tanh(self.content(tiles)))
        if self.gate is not None:
            hidden = hidden * self.dropout(torch.sigmoid(self.gate(tiles)))
        return self.score(hidden).squeeze(1)
