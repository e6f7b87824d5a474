"""What turns each modality into vectors: a graph encoder for tiles, two small towers for RNA."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from momkd.nn.graph_attention import GATv2, KernelChoice, TileGraph
from momkd.nn.graph_attention.backends import CompiledBackend, compiled_backend
from momkd.nn.graph_attention.counter_dropout import NO_DROP, Drop, draw_seed, drop_at, row_mask

if TYPE_CHECKING:
    from momkd.nn.graph_attention.fused_encoder import EncoderPass


class GraphEncoder(nn.Module):
    """Two GATv2 layers with residuals; the element-wise maximum of both layers' outputs.

    h1 = Dropout(ELU(LayerNorm(GATv2(x)))) + R x; h2 = Dropout(ELU(LayerNorm(GATv2(h1)))) + h1;
    output max(h1, h2). MoMKD, section 3.1; the details are those of its published code.

    Parameters
    ----------
    dim_in, dim
        Widths of an embedding and of the output.
    n_heads
        Heads of each layer, ``dim / n_heads`` wide.
    dropout, dropout_attention
        Rates on the layers' outputs and on attention coefficients.
    """

    def __init__(
        self, dim_in: int, dim: int, n_heads: int, *, dropout: float, dropout_attention: float
    ) -> None:
        super().__init__()
        dim_head = dim // n_heads
        self.graph_1 = GATv2(dim_in, dim_head, n_heads, dropout=dropout_attention)
        self.graph_2 = GATv2(dim, dim_head, n_heads, dropout=dropout_attention)
        self.residual = nn.Linear(dim_in, dim)
        self.norm_1 = nn.LayerNorm(dim)
        self.norm_2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    @property
    def kernels(self) -> KernelChoice | None:
        """Which way the encoder is computed; None for this machine's default."""
        return self.graph_1.kernels

    @kernels.setter
    def kernels(self, choice: KernelChoice | None) -> None:
        self.graph_1.kernels = self.graph_2.kernels = choice

    def forward(
        self,
        x: Float[Tensor, "n_tiles dim_in"],
        graph: TileGraph | Int64[Tensor, "n_tiles n_heard"],
        *,
        seed: int | None = None,
    ) -> Float[Tensor, "n_tiles dim"]:
        """Encode tiles.

        Parameters
        ----------
        x
            Embeddings; of another floating type than the parameters, they are converted.
        graph
            Who hears whom; listening lists will do.
        seed
            Of dropout masks that do not depend on the kernels; see :class:`GATv2`.
        """
        graph = TileGraph.of(graph)
        if (backend := compiled_backend(self.kernels, x, self.residual.weight)) is not None:
            from momkd.nn.graph_attention.fused_encoder import encode_fused

            parameters = self.parameters_in_order()
            learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters))
            encoding = self.begin_pass(backend, graph, seed=seed, keep=learns)
            return encode_fused(encoding, x, parameters) if learns else encoding.forward(x)
        x = x.to(self.residual.weight.dtype)
        seeds = (None, None) if seed is None else (seed, seed + 1)
        one = self.graph_1(x, graph, seed=seeds[0])
        first = self._finish(one, self.norm_1, seeds[0]) + self.residual(x)
        two = self.graph_2(first, graph, seed=seeds[1])
        second = self._finish(two, self.norm_2, seeds[1]) + first
        return torch.maximum(first, second)

    def begin_pass(
        self, backend: CompiledBackend, graph: TileGraph, *, seed: int | None, keep: bool
    ) -> "EncoderPass":
        """Set up a pass through compiled loops; ``keep`` what a backward pass needs."""
        from momkd.nn.graph_attention.fused_encoder import (
            EncoderDrops,
            EncoderPass,
            LayerWeights,
        )

        if seed is None:
            seed = draw_seed() if self.training else 0
        parameters = self.parameters_in_order()
        return EncoderPass(
            backend,
            graph,
            LayerWeights(*parameters[:10]),
            LayerWeights(*parameters[10:]),
            drops=EncoderDrops(
                self.graph_1.drop(seed),
                self._drop(seed),
                self.graph_2.drop(seed + 1),
                self._drop(seed + 1),
            ),
            epsilon=(self.norm_1.eps, self.norm_2.eps),
            low=self.kernels is not None and self.kernels.products == "fast",
            keep=keep,
        )

    def parameters_in_order(self) -> list[Tensor]:
        """Give all parameters in the order in which compiled passes give their gradients."""
        found: list[Tensor] = []
        for graph, norm in ((self.graph_1, self.norm_1), (self.graph_2, self.norm_2)):
            found += [graph.source.weight, graph.source.bias]
            found += [graph.target.weight, graph.target.bias]
            found += [graph.attention, graph.bias, norm.weight, norm.bias]
            if norm is self.norm_1:
                found += [self.residual.weight, self.residual.bias]
        return found

    def _drop(self, seed: int) -> Drop:
        return drop_at(seed, 1, self.dropout.p) if self.training else NO_DROP

    def _finish(self, y: Tensor, norm: nn.LayerNorm, seed: int | None) -> Tensor:
        active = nn.functional.elu(norm(y))
        if seed is None or not self.training:
            return self.dropout(active)
        return active * row_mask(self._drop(seed), y.shape[0], y.shape[1], y)


class TileEncoder(nn.Module):
    """Each tile by itself: Dropout(ReLU(W x + b)); the graph that it is given says nothing.

    Parameters
    ----------
    dim_in, dim
        Widths of an embedding and of the output.
    dropout
        Rate on the output.
    """

    kernels: KernelChoice | None = None

    def __init__(self, dim_in: int, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim_in, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "n_tiles dim_in"], graph: TileGraph | Int64[Tensor, "n_tiles _"]
    ) -> Float[Tensor, "n_tiles dim"]:
        """Encode tiles; of another floating type than the parameters, they are converted."""
        return self.dropout(torch.relu(self.linear(x.to(self.linear.weight.dtype))))


class RNATower(nn.Sequential):
    """Linear, LayerNorm, ReLU, Dropout, Linear: genes to a vector, and the way back.

    Parameters
    ----------
    dim_in, dim_hidden, dim_out
        Widths; an encoder has n_genes first, a decoder last.
    dropout
        Rate after the ReLU.
    """

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int, *, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim_in, dim_hidden),
            nn.LayerNorm(dim_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim_hidden, dim_out),
        )
