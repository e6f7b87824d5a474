"""GATv2 over neighbour lists: a tile hears a short list of tiles, itself included.

Brody, Alon, Yahav 2022, eq. 7. Two ways with the same numbers: plainly, on the dense lists and
with whatever torch runs on; and through compiled loops (:mod:`fused_layer`).
"""

from itertools import repeat

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from momkd.nn.graph_attention.backends import KernelChoice, compiled_backend
from momkd.nn.graph_attention.counter_dropout import (
    NO_DROP,
    Drop,
    draw_seed,
    drop_at,
    edge_mask,
)
from momkd.nn.graph_attention.plain import hear_plainly
from momkd.nn.graph_attention.tile_graph import TileGraph

# 8,192 tiles with 8 neighbours and themselves: at 2 x 256 wide, 150 MB a gathered tensor
BLOCK_EDGES = 8192 * 9


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
        Edges that the plain way handles at once. More than that are taken in blocks of listeners,
        and in training recomputed in the backward pass. It changes memory, not numbers.

    Attributes
    ----------
    kernels
        Which way; None for this machine's default (:func:`backends.choose_kernels`).
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
        self.kernels: KernelChoice | None = None
        self.source = nn.Linear(dim_in, n_heads * dim_head)
        self.target = nn.Linear(dim_in, n_heads * dim_head)
        self.attention = nn.Parameter(torch.empty(n_heads, dim_head))
        self.bias = nn.Parameter(torch.zeros(n_heads * dim_head))
        for weight in (self.source.weight, self.target.weight, self.attention):
            nn.init.xavier_uniform_(weight)

    def forward(
        self,
        x: Float[Tensor, "n_tiles dim_in"],
        graph: TileGraph | Int64[Tensor, "n_tiles n_heard"],
        *,
        seed: int | None = None,
    ) -> Float[Tensor, "n_tiles dim_out"]:
        """Let each tile hear its list.

        Parameters
        ----------
        x
            The tiles.
        graph
            Who hears whom; listening lists will do.
        seed
            Of the dropout masks, by which both ways draw the same; by default the plain way draws
            them from torch's generator, and the compiled one takes its seed from there.
        """
        graph = TileGraph.of(graph)
        if (backend := compiled_backend(self.kernels, x, self.attention)) is not None:
            from momkd.nn.graph_attention.fused_layer import hear_fused

            drop = self.drop(draw_seed() if seed is None and self.drops else seed or 0)
            projected = torch.cat([self.source(x), self.target(x)], dim=1)
            return hear_fused(backend, projected, self.attention, self.bias, graph, drop)
        return self._hear(x, graph, self._masks(x, graph, seed))

    @property
    def drops(self) -> bool:
        """Whether dropout acts now."""
        return self.training and self.dropout > 0

    def drop(self, seed: int, site: int = 0) -> Drop:
        """Give the dropout that acts now, of one site of a seed."""
        return drop_at(seed, site, self.dropout) if self.drops else NO_DROP

    def _masks(self, x: Tensor, graph: TileGraph, seed: int | None) -> Tensor | None:
        # drawn for the whole graph, so that blocks and recomputation see the same mask
        if not self.drops:
            return None
        if seed is not None:
            return edge_mask(self.drop(seed), graph.places, self.n_heads, self.attention)
        ones = self.source.weight.new_ones(*graph.lists.shape, self.n_heads, dtype=x.dtype)
        return nn.functional.dropout(ones, self.dropout)

    def _hear(self, x: Tensor, graph: TileGraph, kept: Tensor | None) -> Tensor:
        source, target, lists = self.source(x), self.target(x), graph.lists
        if torch.compiler.is_exporting():  # a graph has no blocks
            return hear_plainly(source, target, lists, kept, self.attention) + self.bias
        n_rows = max(1, self.block_edges // lists.shape[1])
        if lists.shape[0] <= n_rows:
            return hear_plainly(source, target, lists, kept, self.attention) + self.bias
        masks = repeat(None) if kept is None else torch.split(kept, n_rows)
        blocks = zip(torch.split(target, n_rows), torch.split(lists, n_rows), masks, strict=False)
        return torch.cat([self._hear_block(source, *block) for block in blocks]) + self.bias

    def _hear_block(
        self, source: Tensor, target: Tensor, lists: Tensor, kept: Tensor | None
    ) -> Tensor:
        if not torch.is_grad_enabled():
            return hear_plainly(source, target, lists, kept, self.attention)
        return checkpoint(
            hear_plainly,
            source,
            target,
            lists,
            kept,
            self.attention,
            use_reentrant=False,
            preserve_rng_state=False,
        )
