"""GATv2 over neighbour lists: a tile hears a short list of tiles, itself included.

Brody, Alon, Yahav 2022, eq. 7. A tile graph has few edges a node, so the lists are dense and the
kernel is a gather; large graphs go through in blocks of listeners, recomputed in the backward pass.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, Literal

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Direction = Literal["own", "listed_by"]

# 8,192 tiles with 8 neighbours and themselves: at 2 x 256 wide, 150 MB a gathered tensor
BLOCK_EDGES = 8192 * 9
SLOPE = 0.2


def listening_lists(
    neighbours: Int32[Tensor, "n_tiles k"], direction: Direction
) -> Int64[Tensor, "n_tiles n_heard"]:
    """Give for each tile whom it hears; first itself, -1 where its list is shorter than others.

    Parameters
    ----------
    neighbours
        Each tile's nearest tiles, -1 for none.
    direction
        ``own``: a tile hears the tiles it lists. ``listed_by``: it hears the tiles that list it.
    """
    n_tiles = neighbours.shape[0]
    itself = torch.arange(n_tiles, device=neighbours.device)
    listed = neighbours.long()
    if direction == "own":
        return torch.cat([itself[:, None], listed], dim=1)
    if torch.compiler.is_exporting():
        return torch.cat([itself[:, None], _listeners_of(listed)], dim=1)
    hearer, place = torch.sort(listed.flatten(), stable=True)
    n_none = int((hearer < 0).sum())
    hearer, place = hearer[n_none:], place[n_none:]
    n_heard = torch.bincount(hearer, minlength=n_tiles)
    first = torch.cumsum(n_heard, 0) - n_heard
    rank = torch.arange(len(hearer), device=hearer.device) - first.index_select(0, hearer)
    lists = listed.new_full((n_tiles, 1 + int(n_heard.max())), -1)
    lists[:, 0] = itself
    lists[hearer, 1 + rank] = torch.div(place, max(listed.shape[1], 1), rounding_mode="floor")
    return lists


def _listeners_of(listed: Int64[Tensor, "n_tiles k"]) -> Int64[Tensor, "n_tiles n_heard"]:
    """Turn lists about, for graphs that are exported: one width comes from the data, no branch.

    Row 0 takes in what is listed as -1 and is cut off at the end.
    """
    n_tiles, k = listed.shape
    hearer, place = torch.sort(listed.flatten() + 1)  # order within a list is of no account
    n_heard = hearer.new_zeros(n_tiles + 1).index_add(0, hearer, torch.ones_like(hearer))
    first = torch.cumsum(n_heard, 0) - n_heard
    rank = torch.arange(n_tiles * k, device=hearer.device) - first.index_select(0, hearer)
    rank = torch.where(hearer > 0, rank, 0)
    width: Any = n_heard[1:].max().clamp(min=1).item()  # a symbol while a graph is made
    torch._check(width >= 1)  # type: ignore[no-untyped-call]
    lists = hearer.new_full((n_tiles + 1, width), -1)
    return lists.index_put((hearer, rank), torch.div(place, k, rounding_mode="floor"))[1:]


def pack_neighbours(
    parts: Sequence[Int32[Tensor, "_ _"]],
) -> Int32[Tensor, "n_tiles k"]:
    """Join the neighbour lists of several bags as those of one graph without edges between bags."""
    if len(parts) == 1:
        return parts[0]
    k = max(part.shape[1] for part in parts)
    packed, offset = [], 0
    for part in parts:
        shifted = torch.where(part < 0, part, part + offset)
        packed.append(nn.functional.pad(shifted, (0, k - part.shape[1]), value=-1))
        offset += len(part)
    return torch.cat(packed)


class GATv2(nn.Module):
    """One graph attention layer, heads concatenated.

    For tile i and a tile j that it hears: e_ij = a' LeakyReLU(S x_j + T x_i) a head,
    alpha_i = softmax of e_i over the list, y_i = sum_j alpha_ij S x_j + b. Dropout acts on alpha.
    Weights start Glorot-uniform, b at zero.

    Parameters
    ----------
    dim_in, dim_head, n_heads
        Widths; the output is ``n_heads * dim_head`` wide.
    dropout
        Rate on the attention coefficients.
    block_edges
        Edges handled at once. More than that are taken in blocks of listeners, and in training
        recomputed in the backward pass. The block size changes memory, not numbers.
    """

    def __init__(
        self,
        dim_in: int,
        dim_head: int,
        n_heads: int,
        *,
        dropout: float = 0.0,
        block_edges: int = BLOCK_EDGES,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.block_edges = block_edges
        self.source = nn.Linear(dim_in, n_heads * dim_head)
        self.target = nn.Linear(dim_in, n_heads * dim_head)
        self.attention = nn.Parameter(torch.empty(n_heads, dim_head))
        self.bias = nn.Parameter(torch.zeros(n_heads * dim_head))
        for weight in (self.source.weight, self.target.weight, self.attention):
            nn.init.xavier_uniform_(weight)

    def forward(
        self, x: Float[Tensor, "n_tiles dim_in"], lists: Int64[Tensor, "n_tiles n_heard"]
    ) -> Float[Tensor, "n_tiles dim_out"]:
        """Let each tile hear its list."""
        source, target = self.source(x), self.target(x)
        # drawn for the whole graph, so that blocks and recomputation see the same mask
        kept = source.new_ones(*lists.shape, self.n_heads) if self._drops else None
        if kept is not None:
            kept = nn.functional.dropout(kept, self.dropout)
        if torch.compiler.is_exporting():  # a graph has no blocks
            return self._hear(source, target, lists, kept) + self.bias
        n_rows = max(1, self.block_edges // lists.shape[1])
        if lists.shape[0] <= n_rows:
            return self._hear(source, target, lists, kept) + self.bias
        masks = repeat(None) if kept is None else torch.split(kept, n_rows)
        blocks = zip(torch.split(target, n_rows), torch.split(lists, n_rows), masks, strict=False)
        return torch.cat([self._hear_block(source, *block) for block in blocks]) + self.bias

    @property
    def _drops(self) -> bool:
        return self.training and self.dropout > 0

    def _hear_block(
        self, source: Tensor, target: Tensor, lists: Tensor, kept: Tensor | None
    ) -> Tensor:
        if not torch.is_grad_enabled():
            return self._hear(source, target, lists, kept)
        return checkpoint(
            self._hear, source, target, lists, kept, use_reentrant=False, preserve_rng_state=False
        )

    def _hear(self, source: Tensor, target: Tensor, lists: Tensor, kept: Tensor | None) -> Tensor:
        n_rows, n_heard = lists.shape
        wide = (n_rows, n_heard, self.n_heads, source.shape[1] // self.n_heads)
        heard = source.index_select(0, lists.clamp(min=0).flatten()).view(wide)
        mixed = heard + target.view(n_rows, 1, self.n_heads, -1)
        mixed = nn.functional.leaky_relu(mixed, SLOPE)
        scores = torch.einsum("imhc,hc->imh", mixed, self.attention)
        scores = scores.masked_fill((lists < 0)[:, :, None], -torch.inf)
        alpha = torch.softmax(scores, dim=1)
        if kept is not None:
            alpha = alpha * kept
        return (alpha[:, :, :, None] * heard).sum(dim=1).flatten(1)
