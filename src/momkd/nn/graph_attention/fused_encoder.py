"""Two graph attention layers with residuals as one operation over a few reused arrays.

A tile has 5 dim numbers in the forward pass (source, target and residual of the first layer, whose
residual becomes h1 in place; source and target of the second), dim for the output, and 3 dim in
the backward pass. Products run over blocks of rows where the embeddings are not of the type the
products are in; a gradient of weights is the sum over blocks, in their order.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from momkd.nn.graph_attention.backends import CompiledBackend
from momkd.nn.graph_attention.counter_dropout import Drop
from momkd.nn.graph_attention.fused_layer import (
    LayerGradients,
    LayerSetting,
    Slot,
    as_heads,
    fused_layer,
)
from momkd.nn.graph_attention.tile_graph import TileGraph

BLOCK_ROWS = 8192


class LayerWeights(NamedTuple):
    """Parameters of one layer of the encoder; the second has no residual of its own."""

    source_weight: Tensor
    source_bias: Tensor
    target_weight: Tensor
    target_bias: Tensor
    attention: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor
    residual_weight: Tensor | None = None
    residual_bias: Tensor | None = None

    def products(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases of the input product, in the order of its parts."""
        weights = [self.source_weight, self.target_weight]
        biases = [self.source_bias, self.target_bias]
        if self.residual_weight is not None and self.residual_bias is not None:
            weights.append(self.residual_weight)
            biases.append(self.residual_bias)
        return [w.detach() for w in weights], [b.detach() for b in biases]

    def in_order(self, weight: Tensor, found: LayerGradients) -> list[Tensor]:
        """Give the gradients of the fields there are; ``weight`` is that of the products."""
        parts = torch.split(weight, len(self.source_weight))
        gradients = [
            *(parts[0], found.source_bias, parts[1], found.target_bias),
            *(found.attention.view_as(self.attention), found.bias, found.gain, found.shift),
        ]
        if self.residual_weight is not None:
            gradients += [parts[2], found.residual_bias]
        return gradients


class EncoderDrops(NamedTuple):
    """Dropout of the encoder: on coefficients and on outputs, first and second layer."""

    attention_1: Drop
    output_1: Drop
    attention_2: Drop
    output_2: Drop


class EncoderPass:
    """One pass of the encoder over a bag.

    Parameters
    ----------
    backend
        Which loops.
    graph
        Who hears whom; several bags packed into one graph will do.
    first, second
        The layers' parameters.
    drops
        Where and what dropout takes away.
    epsilon
        Of the norms.
    low
        Products in bfloat16, and what they give kept in it.
    keep
        A backward pass will follow; without, arrays are reused in the forward pass too.
    """

    def __init__(
        self,
        backend: CompiledBackend,
        graph: TileGraph,
        first: LayerWeights,
        second: LayerWeights,
        *,
        drops: EncoderDrops,
        epsilon: tuple[float, float],
        low: bool = False,
        keep: bool = True,
    ) -> None:
        self._first, self._second = first, second
        self._kind = torch.bfloat16 if low else first.attention.dtype
        self._keep = keep
        self._dim_head = first.attention.shape[1]
        one = LayerSetting(
            graph=graph,
            attention=first.attention,
            bias=first.bias,
            norm=(first.gain, first.shift, epsilon[0]),
            drop=drops.attention_1,
            drop_output=drops.output_1,
            keep=keep,
        )
        two = LayerSetting(
            graph=graph,
            attention=second.attention,
            bias=second.bias,
            norm=(second.gain, second.shift, epsilon[1]),
            drop=drops.attention_2,
            drop_output=drops.output_2,
            with_maximum=True,
            keep=keep,
        )
        self._layer_1, self._layer_2 = fused_layer(backend, one), fused_layer(backend, two)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Encode embeddings of any floating type; gives (n_tiles, dim)."""
        dim = self._first.attention.numel()
        n_tiles, n_heads = len(x), len(self._first.attention)
        weights, biases = self._first.products()
        projected = x.new_empty(n_tiles, 3 * dim, dtype=self._kind)
        for rows, block in self._blocks(x):
            self._multiply(block, weights, biases, projected[rows])
        heads = self._heads(projected)
        self._layer_1.forward(heads, heads, Slot(heads, 2 * n_heads))
        hidden = projected[:, 2 * dim :]
        again = projected[:, : 2 * dim]  # nobody needs the first layer's parts any more
        if self._keep:
            again = x.new_empty(n_tiles, 2 * dim, dtype=self._kind)
        self._multiply(hidden, *self._second.products(), again)
        in_place = not self._keep and self._kind == self._first.attention.dtype
        tiles = hidden if in_place else self._first.attention.new_empty(n_tiles, dim)
        out = Slot(heads, 2 * n_heads) if in_place else Slot(as_heads(tiles, self._dim_head), 0)
        self._layer_2.forward(self._heads(again) if self._keep else heads, heads, out)
        if self._keep:
            self._projected, self._again = projected, again
        return tiles

    @torch.no_grad()
    def backward(
        self, x: Tensor, d_tiles: Tensor, need_x: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Give the gradient of x, if needed, and of the parameters in their order.

        Can be done once: the arrays of the forward pass are used up.
        """
        projected, again = self._projected, self._again
        del self._projected, self._again
        dim, n_heads = self._first.attention.numel(), len(self._first.attention)
        d_projected = torch.empty_like(projected)
        heads, d_heads = self._heads(projected), self._heads(d_projected)
        d_more = as_heads(d_tiles, self._dim_head)
        hidden, d_hidden = projected[:, 2 * dim :], d_projected[:, 2 * dim :]
        d_again = d_projected[:, : 2 * dim]
        # the gradient of the second layer's y stands where that of h1 will
        found_2 = self._layer_2.backward(
            self._heads(again), heads, Slot(d_more, 0), d_more, d_heads, Slot(d_heads, 2 * n_heads)
        )
        weight_2 = self._product_gradient(d_again, hidden)
        second = torch.cat(self._second.products()[0]).to(self._kind)
        torch.mm(d_again, second, out=d_hidden)
        # what the second layer's products gave is not needed any more: room for the first's y
        found_1 = self._layer_1.backward(
            heads,
            heads,
            Slot(d_heads, 2 * n_heads),
            d_more,
            d_heads,
            Slot(self._heads(again), 0),
        )
        weight_1 = self._product_gradient(d_projected, x)
        d_x = None
        if need_x:
            first = torch.cat(self._first.products()[0]).to(self._kind)
            d_x = torch.mm(d_projected, first).to(x.dtype)
        gradients = self._first.in_order(weight_1, found_1)
        gradients += self._second.in_order(weight_2, found_2)
        return d_x, gradients

    def _heads(self, x: Tensor) -> Tensor:
        return as_heads(x, self._dim_head)

    def _blocks(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Give rows in the products' type: all at once where they are in it already."""
        if x.dtype == self._kind:
            yield slice(None), x.detach()
            return
        for first in range(0, len(x), BLOCK_ROWS):
            rows = slice(first, first + BLOCK_ROWS)
            yield rows, x.detach()[rows].to(self._kind)

    def _multiply(
        self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], out: Tensor
    ) -> None:
        """Multiply by all parts at once; a few rows part by part, where joining costs more."""
        if len(x) >= weights[0].shape[1] // 8 or self._kind == torch.bfloat16:
            weight, bias = torch.cat(list(weights)), torch.cat(list(biases))
            torch.addmm(bias.to(self._kind), x, weight.to(self._kind).T, out=out)
            return
        for weight, bias, part in zip(
            weights, biases, torch.split(out, len(weights[0]), 1), strict=True
        ):
            torch.addmm(bias, x, weight.T, out=part)

    def _product_gradient(self, d_out: Tensor, x: Tensor) -> Tensor:
        """Give d_out' x in the parameters' type, block by block where rounding asks for it."""
        kind = self._first.attention.dtype
        total: Tensor | None = None
        for rows, block in self._blocks(x):
            for start in range(0, len(block), BLOCK_ROWS if self._kind != kind else len(block)):
                stop = start + (BLOCK_ROWS if self._kind != kind else len(block))
                part = torch.mm(d_out[rows][start:stop].T, block[start:stop])
                total = part.to(kind) if total is None else total.add_(part)
        assert total is not None
        return total


def encode_fused(encoder: EncoderPass, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Encode embeddings; ``parameters`` are those of the pass, in order, named for autograd."""
    return _Encoding.apply(encoder, x, *parameters)  # type: ignore[no-untyped-call]


class _Encoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoder: EncoderPass, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.encoder = encoder
        ctx.save_for_backward(x)
        return encoder.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_tiles: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients of ``x`` and ``parameters``."""
        (x,) = ctx.saved_tensors
        if ctx.encoder is None:
            raise RuntimeError(
                "an encoder's pass goes backward once: its arrays are used up by that"
            )
        encoder, ctx.encoder = ctx.encoder, None
        d_x, gradients = encoder.backward(x, d_tiles.contiguous(), ctx.needs_input_grad[1])
        return None, d_x, *gradients
