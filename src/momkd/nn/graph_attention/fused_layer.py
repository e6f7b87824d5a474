"""Graph attention as one operation, forward and back: no edge holds a vector, in either pass.

What a layer needs beside its inputs is a number an edge and head; messages, norms and dropout
masks are made again in the backward pass. Two backends do the work, the same algorithm twice:
:mod:`numba_layer` for a CPU, :mod:`triton_layer` for a card.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from momkd.nn.graph_attention.backends import CompiledBackend
from momkd.nn.graph_attention.counter_dropout import Drop
from momkd.nn.graph_attention.tile_graph import TileGraph


class Ending(IntEnum):
    """What becomes of a tile after it has heard its list, and its bias is added."""

    PLAIN = 0
    WITH_RESIDUAL = 1
    WITH_MAXIMUM = 2


class Slot(NamedTuple):
    """A place for one vector a tile: a tensor (n_tiles, parts, dim_head) and its first part."""

    array: Tensor
    part: int


class LayerGradients(NamedTuple):
    """Sums over tiles: gradients of a layer's own parameters and of the products' biases."""

    attention: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor
    source_bias: Tensor
    target_bias: Tensor
    residual_bias: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSetting:
    """What defines the part of a layer after its input product.

    Parameters
    ----------
    graph
        Who hears whom.
    attention, bias
        Of shape (n_heads, dim_head); the bias may be flat.
    norm
        (gain, shift, epsilon) of the norm after it; None for a layer that ends with its bias.
    drop, drop_output
        Dropout on coefficients, and on the output.
    with_maximum
        The output is the element-wise maximum with the residual, not the sum alone.
    keep
        A backward pass may follow.
    """

    graph: TileGraph
    attention: Tensor
    bias: Tensor
    norm: tuple[Tensor, Tensor, float] | None
    drop: Drop
    drop_output: Drop
    with_maximum: bool = False
    keep: bool = True

    @property
    def kind(self) -> Ending:
        """How the layer ends."""
        if self.norm is None:
            return Ending.PLAIN
        return Ending.WITH_MAXIMUM if self.with_maximum else Ending.WITH_RESIDUAL


class FusedLayer(ABC):
    """The part of a layer after its input product, forward and back: what a backend offers.

    Vectors of tiles come as contiguous tensors (n_tiles, parts, dim_head), in the parameters' type
    or in bfloat16.
    """

    def __init__(self, setting: LayerSetting) -> None:
        self.setting = setting

    @abstractmethod
    def forward(self, projected: Tensor, carried: Tensor, out: Slot) -> None:
        """Write what tiles make of what they hear.

        Parameters
        ----------
        projected, carried
            Source and target heads; and a third set of parts that holds the residual (any
            tensor, for a layer that ends with its bias).
        out
            Where to; may be the residual's own place.
        """

    @abstractmethod
    def backward(
        self,
        projected: Tensor,
        carried: Tensor,
        d_out: Slot,
        d_more: Tensor,
        d_projected: Tensor,
        d_heard: Slot,
    ) -> LayerGradients:
        """Write the gradient of ``projected``, and give the parameters'.

        Parameters
        ----------
        projected, carried
            As forward was given, unchanged.
        d_out, d_more
            The gradient of the output. With a residual that is not the maximum it is the sum of
            both, and is left in ``d_out``.
        d_projected
            Where the source and target parts go.
        d_heard
            Room for one vector a tile; not a part of ``projected`` or of the other places.
        """


def fused_layer(backend: CompiledBackend, setting: LayerSetting) -> FusedLayer:
    """Give a layer as a backend computes it."""
    if backend == "triton":
        from momkd.nn.graph_attention.triton_layer import TritonLayer

        return TritonLayer(setting)
    from momkd.nn.graph_attention.numba_layer import NumbaLayer

    return NumbaLayer(setting)


def as_heads(x: Tensor, dim_head: int) -> Tensor:
    """View a contiguous matrix as (n_tiles, parts, dim_head)."""
    return x.view(len(x), -1, dim_head)


def hear_fused(
    backend: CompiledBackend,
    projected: Tensor,
    attention: Tensor,
    bias: Tensor,
    graph: TileGraph,
    drop: Drop,
) -> Tensor:
    """Let each tile hear its list; ``projected`` (n_tiles, 2 dim) is source and target."""
    return _Hearing.apply(backend, projected, attention, bias, graph, drop)  # type: ignore[no-untyped-call]


class _Hearing(torch.autograd.Function):
    """A layer that ends with its bias, as an operation on its input product."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: CompiledBackend,
        projected: Tensor,
        attention: Tensor,
        bias: Tensor,
        graph: TileGraph,
        drop: Drop,
    ) -> Tensor:
        setting = LayerSetting(
            graph=graph, attention=attention, bias=bias, norm=None, drop=drop, drop_output=drop
        )
        layer = fused_layer(backend, setting)
        out = projected.new_empty(len(projected), attention.numel())
        heads = as_heads(projected.detach(), attention.shape[1])
        layer.forward(heads, heads, Slot(as_heads(out, attention.shape[1]), 0))
        ctx.layer = layer
        ctx.save_for_backward(projected)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients of ``projected``, ``attention`` and ``bias``."""
        (projected,) = ctx.saved_tensors
        shape = ctx.layer.setting.attention.shape
        heads = as_heads(projected, shape[1])
        d_projected = torch.empty_like(projected)
        d_y = as_heads(d_out.contiguous(), shape[1])
        room = torch.empty_like(d_y, memory_format=torch.contiguous_format)
        found = ctx.layer.backward(
            heads, heads, Slot(d_y, 0), d_y, as_heads(d_projected, shape[1]), Slot(room, 0)
        )
        return None, d_projected, found.attention.view(shape), found.bias, None, None
