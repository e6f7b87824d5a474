"""Graph attention through compiled loops: no edge holds a vector, in either pass.

What a layer needs beside its inputs is alpha, a number an edge and head; messages, norms and
dropout masks are made again in the backward pass. Rows go through in chunks of a fixed size, so
sums are the same whatever the number of threads.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from momkd.nn.graph_attention.counter_dropout import Drop
from momkd.nn.graph_attention.loops import backward as back_loops
from momkd.nn.graph_attention.loops import forward as loops
from momkd.nn.graph_attention.plain import SLOPE
from momkd.nn.graph_attention.tile_graph import TileGraph

CHUNK = 512

PLAIN, WITH_RESIDUAL, WITH_MAXIMUM = 0, 1, 2


def over_rows(n_rows: int, work: Callable[[int, int, int], Any]) -> None:
    """Do ``work(first, last, chunk)`` for every chunk of rows, on as many threads as torch uses.

    Each thread takes the next chunk that nobody has taken; ``work`` holds no interpreter's lock
    and writes nothing that another chunk reads or writes.
    """
    n_chunks = -(-n_rows // CHUNK)
    n_threads = min(torch.get_num_threads(), n_chunks)
    tickets = itertools.count()
    failures: list[BaseException] = []

    def take_chunks() -> None:
        try:
            while (chunk := next(tickets)) < n_chunks:
                work(chunk * CHUNK, min((chunk + 1) * CHUNK, n_rows), chunk)
        except BaseException as error:  # noqa: BLE001  raised by the caller's thread below
            failures.append(error)

    others = [threading.Thread(target=take_chunks, daemon=True) for _ in range(n_threads - 1)]
    for thread in others:
        thread.start()
    take_chunks()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]


class Slot(NamedTuple):
    """A place for one vector a tile: an array (n_tiles, parts, dim_head) and its first part."""

    array: Any
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


class FusedLayer:
    """The part of a layer after its input product, forward and back.

    Parameters
    ----------
    graph
        Who hears whom.
    attention, bias
        Of shape (n_heads, dim_head).
    norm
        (gain, shift, epsilon) of the norm after it; None for a layer without what follows.
    drop, drop_output
        Dropout on coefficients, and on the output.
    with_maximum
        The output is the element-wise maximum with the residual, not the sum alone.
    """

    def __init__(
        self,
        graph: TileGraph,
        attention: Tensor,
        bias: Tensor,
        *,
        norm: tuple[Tensor, Tensor, float] | None,
        drop: Drop,
        drop_output: Drop,
        with_maximum: bool = False,
    ) -> None:
        self._edges = graph.edges
        self._shape = tuple(attention.shape)
        self._like = attention.detach()
        as_number = attention.detach().numpy().dtype.type
        weights = (attention.detach().numpy(), bias.detach().view_as(attention).numpy())
        self._weights = (*weights, as_number(SLOPE))
        gain, shift, epsilon = norm or (bias.flatten(), bias.flatten(), 0.0)
        normed = (gain.detach().numpy(), shift.detach().numpy(), as_number(epsilon))
        self._kind = PLAIN if norm is None else WITH_MAXIMUM if with_maximum else WITH_RESIDUAL
        self._drop = (np.uint64(drop.seed), drop.threshold, as_number(drop.scale))
        output = (np.uint64(drop_output.seed), drop_output.threshold, as_number(drop_output.scale))
        self._finish = (self._kind, normed, output)
        self._alpha = np.empty((len(self._edges[1]), self._shape[0]), as_number)

    @property
    def n_tiles(self) -> int:
        """Tiles of the graph."""
        return len(self._edges[0]) - 1

    def forward(self, projected: Any, carried: Any, out: Slot) -> None:
        """Write what tiles make of what they hear.

        Parameters
        ----------
        projected, carried
            Arrays (n_tiles, parts, dim_head): source and target heads; and a third set of parts
            that holds the residual (any array, for a layer that ends with its bias).
        out
            Where to; may be the residual's own place.
        """
        starts, heard = self._edges[:2]
        finish = (*self._finish, out.part)

        def work(first: int, last: int, chunk: int) -> None:
            loops.hear(
                first,
                last,
                (starts, heard),
                projected,
                self._weights,
                self._drop,
                self._alpha,
                finish,
                carried,
                out.array,
            )

        over_rows(self.n_tiles, work)

    def backward(
        self,
        projected: Any,
        carried: Any,
        d_out: Slot,
        d_more: Any,
        d_projected: Any,
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
        starts, heard, *listeners = self._edges
        n_chunks = -(-self.n_tiles // CHUNK)
        kind = self._weights[0].dtype
        pull = np.empty_like(self._alpha)
        rows = np.empty((n_chunks, back_loops.ROW_SUMS, *self._shape), kind)
        sources = np.empty((n_chunks, *self._shape), kind)

        def of_targets(first: int, last: int, chunk: int) -> None:
            back_loops.target_rows(
                first,
                last,
                chunk,
                (starts, heard),
                projected,
                self._weights,
                self._drop,
                self._alpha,
                (*self._finish, 0),
                carried,
                (*d_out, d_more),
                d_projected,
                tuple(d_heard),
                pull,
                rows,
            )

        def of_sources(first: int, last: int, chunk: int) -> None:
            back_loops.source_rows(
                first,
                last,
                chunk,
                tuple(listeners),
                projected,
                self._weights,
                self._drop,
                self._alpha,
                pull,
                tuple(d_heard),
                d_projected,
                sources,
            )

        over_rows(self.n_tiles, of_targets)
        over_rows(self.n_tiles, of_sources)
        attention, bias, gain, shift, target, residual = self._add_up(rows)
        (source,) = self._add_up(sources[:, None])
        return LayerGradients(attention, bias, gain, shift, source, target, residual)

    def _add_up(self, sums: Any) -> list[Tensor]:
        """Add up (n_chunks, n_sums, n_heads, dim_head) over the chunks."""
        total = np.empty(sums[0].size)
        back_loops.add_up(sums.reshape(len(sums), -1), total)
        return list(torch.from_numpy(total.reshape(sums.shape[1], -1)).to(self._like.dtype))


def as_heads(x: Tensor, dim_head: int) -> Any:
    """View a matrix as an array (n_tiles, parts, dim_head); bfloat16 as its bits."""
    bits = x.view(torch.uint16) if x.dtype == torch.bfloat16 else x
    return bits.numpy().reshape(len(x), -1, dim_head)


def hear_fused(
    projected: Tensor, attention: Tensor, bias: Tensor, graph: TileGraph, drop: Drop
) -> Tensor:
    """Let each tile hear its list; ``projected`` (n_tiles, 2 dim) is source and target."""
    return _Hearing.apply(projected, attention, bias, graph, drop)  # type: ignore[no-untyped-call]


class _Hearing(torch.autograd.Function):
    """A layer that ends with its bias, as an operation on its input product."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, attention: Tensor, bias: Tensor, graph: TileGraph, drop: Drop
    ) -> Tensor:
        layer = FusedLayer(graph, attention, bias, norm=None, drop=drop, drop_output=drop)
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
        dim_head = ctx.layer._shape[1]
        heads = as_heads(projected, dim_head)
        d_projected = torch.empty_like(projected)
        d_y = as_heads(d_out.contiguous(), dim_head)
        room = as_heads(torch.empty_like(d_out, memory_format=torch.contiguous_format), dim_head)
        found = ctx.layer.backward(
            heads, heads, Slot(d_y, 0), d_y, as_heads(d_projected, dim_head), Slot(room, 0)
        )
        return d_projected, found.attention.view(ctx.layer._shape), found.bias, None, None
