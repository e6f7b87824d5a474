"""Graph attention through loops compiled by numba: rows in chunks of a fixed size.

Chunks go to as many threads as torch uses; sums over tiles are added up in the order of the
chunks, so they are the same whatever the number of threads.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from momkd.nn.graph_attention.fused_layer import (
    FusedLayer,
    LayerGradients,
    LayerSetting,
    Slot,
)
from momkd.nn.graph_attention.loops import backward as back_loops
from momkd.nn.graph_attention.loops import forward as loops
from momkd.nn.graph_attention.plain import SLOPE

CHUNK = 512


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


class NumbaLayer(FusedLayer):
    """See :class:`FusedLayer`; tensors are on the CPU."""

    def __init__(self, setting: LayerSetting) -> None:
        super().__init__(setting)
        attention, bias = setting.attention.detach(), setting.bias.detach()
        self._edges = setting.graph.edges
        self._shape = tuple(attention.shape)
        as_number = attention.numpy().dtype.type
        weights = (attention.numpy(), bias.view_as(attention).numpy())
        self._weights = (*weights, as_number(SLOPE))
        gain, shift, epsilon = setting.norm or (bias.flatten(), bias.flatten(), 0.0)
        normed = (gain.detach().numpy(), shift.detach().numpy(), as_number(epsilon))
        drop, last = setting.drop, setting.drop_output
        self._drop = (np.uint64(drop.seed), drop.threshold, as_number(drop.scale))
        output = (np.uint64(last.seed), last.threshold, as_number(last.scale))
        self._finish = (int(setting.kind), normed, output)
        self._alpha = np.empty((len(self._edges[1]), self._shape[0]), as_number)

    @property
    def n_tiles(self) -> int:
        """Tiles of the graph."""
        return len(self._edges[0]) - 1

    def forward(self, projected: Tensor, carried: Tensor, out: Slot) -> None:
        """See :meth:`FusedLayer.forward`."""
        starts, heard = self._edges[:2]
        finish = (*self._finish, out.part)
        parts = [_as_array(x) for x in (projected, carried, out.array)]

        def work(first: int, last: int, chunk: int) -> None:
            loops.hear(
                first,
                last,
                (starts, heard),
                parts[0],
                self._weights,
                self._drop,
                self._alpha,
                finish,
                parts[1],
                parts[2],
            )

        over_rows(self.n_tiles, work)

    def backward(
        self,
        projected: Tensor,
        carried: Tensor,
        d_out: Slot,
        d_more: Tensor,
        d_projected: Tensor,
        d_heard: Slot,
    ) -> LayerGradients:
        """See :meth:`FusedLayer.backward`."""
        starts, heard, *listeners = self._edges
        n_chunks = -(-self.n_tiles // CHUNK)
        kind = self._weights[0].dtype
        given, before, d_given = (_as_array(x) for x in (projected, carried, d_projected))
        d_reached = (_as_array(d_out.array), d_out.part, _as_array(d_more))
        d_y = (_as_array(d_heard.array), d_heard.part)
        pull = np.empty_like(self._alpha)
        rows = np.empty((n_chunks, back_loops.ROW_SUMS, *self._shape), kind)
        sources = np.empty((n_chunks, *self._shape), kind)

        def of_targets(first: int, last: int, chunk: int) -> None:
            back_loops.target_rows(
                first,
                last,
                chunk,
                (starts, heard),
                given,
                self._weights,
                self._drop,
                self._alpha,
                (*self._finish, 0),
                before,
                d_reached,
                d_given,
                d_y,
                pull,
                rows,
            )

        def of_sources(first: int, last: int, chunk: int) -> None:
            back_loops.source_rows(
                first,
                last,
                chunk,
                tuple(listeners),
                given,
                self._weights,
                self._drop,
                self._alpha,
                pull,
                d_y,
                d_given,
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
        return list(
            torch.from_numpy(total.reshape(sums.shape[1], -1)).to(self.setting.attention.dtype)
        )


def _as_array(x: Tensor) -> Any:
    """View a tensor as an array; bfloat16 as its bits."""
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).detach().numpy()
