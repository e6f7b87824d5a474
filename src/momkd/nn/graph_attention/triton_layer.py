"""Graph attention through programs compiled by triton, on a CUDA device.

Nothing here asks the device for a number: the host only launches. Every sum has a fixed order, so
a step gives the same bits each time on the same kind of card.
"""

from typing import Any

import torch
from torch import Tensor

from momkd.nn.graph_attention.counter_dropout import signed
from momkd.nn.graph_attention.fused_layer import (
    FusedLayer,
    LayerGradients,
    LayerSetting,
    Slot,
)
from momkd.nn.graph_attention.plain import SLOPE
from momkd.nn.graph_attention.programs import backward as back_programs
from momkd.nn.graph_attention.programs import forward as programs

BLOCK_NUMBERS = 1024  # of the vectors that a program holds at once
LEAST_BLOCKS = 4  # blocks of rows whose sums a program adds up itself
MOST_PROGRAMS = 2048  # of the backward pass, which bounds the room for their sums


class TritonLayer(FusedLayer):
    """See :class:`FusedLayer`."""

    def __init__(self, setting: LayerSetting) -> None:
        super().__init__(setting)
        self._index = setting.graph.index
        attention = setting.attention.detach().contiguous()
        n_heads, dim_head = attention.shape
        heads, width = _power(n_heads), _power(dim_head)
        self._rows = max(1, min(16, BLOCK_NUMBERS // (heads * width)))
        self._weights = (attention, setting.bias.detach().contiguous())
        self._norm = tuple(
            t.detach().contiguous() for t in (setting.norm or (setting.bias,) * 2)[:2]
        )
        self._seeds = {
            "seed_any": signed(setting.drop.seed),
            "output_seed_any": signed(setting.drop_output.seed),
        }
        self._shape = {
            "N_HEADS": n_heads,
            "DIM_HEAD": dim_head,
            "HEADS": heads,
            "WIDTH": width,
            "ROWS": self._rows,
            "SLOPE": SLOPE,
            "THRESHOLD": setting.drop.threshold,
        }
        self._ending = {
            "EPSILON": 0.0 if setting.norm is None else setting.norm[2],
            "OUTPUT_THRESHOLD": setting.drop_output.threshold,
            "KIND": int(setting.kind),
        }
        n_edges = len(self._index.heard) if setting.keep else 1
        n_tiles = self.n_tiles if setting.keep else 1
        self._scores = attention.new_empty(n_edges, n_heads)
        self._logarithms = attention.new_empty(n_tiles, n_heads)

    @property
    def n_tiles(self) -> int:
        """Tiles of the graph."""
        return len(self._index.starts) - 1

    def forward(self, projected: Tensor, carried: Tensor, out: Slot) -> None:
        """See :meth:`FusedLayer.forward`."""
        n_heads = len(self._weights[0])
        residual, to = carried[:, -n_heads:], out.array[:, out.part :]
        with torch.cuda.device_of(projected):  # type: ignore[no-untyped-call]
            programs.hear[(-(-self.n_tiles // self._rows),)](
                *self._index[:2],
                *_both(projected, n_heads),
                *self._weights,
                *self._norm,
                *(residual, residual.stride(0), to, to.stride(0)),
                *(self._scores, self._logarithms, self.n_tiles),
                **self._seeds,
                **self._shape,
                **self._ending,
                KEEP=self.setting.keep,
            )

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
        attention = self._weights[0]
        n_heads, dim = len(attention), attention.numel()
        n_blocks = max(LEAST_BLOCKS, -(-self.n_tiles // (self._rows * MOST_PROGRAMS)))
        n_programs = -(-self.n_tiles // (self._rows * n_blocks))
        rows = attention.new_empty(n_programs, 6 * dim)
        sources = attention.new_empty(n_programs, dim)
        pulls = torch.empty_like(self._scores)
        residual = carried[:, -n_heads:]
        reached, y = d_out.array[:, d_out.part :], d_heard.array[:, d_heard.part :]
        d_target = d_projected[:, n_heads:]
        given = _both(projected, n_heads)
        with torch.cuda.device_of(projected):  # type: ignore[no-untyped-call]
            back_programs.target_rows[(n_programs,)](
                *self._index[:2],
                *given,
                *self._weights,
                *self._norm,
                *(residual, residual.stride(0), self._scores, self._logarithms),
                *(reached, reached.stride(0), d_more, d_more.stride(0)),
                *(d_target, d_target.stride(0), y, y.stride(0)),
                *(pulls, rows, self.n_tiles, n_blocks),
                **self._seeds,
                **self._shape,
                **self._ending,
            )
            back_programs.source_rows[(n_programs,)](
                *self._index[2:],
                *given,
                *(attention, self._scores, self._logarithms, pulls),
                *(y, y.stride(0), d_projected, d_projected.stride(0)),
                *(sources, self.n_tiles, n_blocks, self._seeds["seed_any"]),
                **self._shape,
            )
            own, bias, gain, shift, target_bias, residual_bias = self._add_up(rows, 6)
            (source_bias,) = self._add_up(sources, 1)
        return LayerGradients(own, bias, gain, shift, source_bias, target_bias, residual_bias)

    def _add_up(self, sums: Tensor, n_parts: int) -> tuple[Tensor, ...]:
        n_columns = sums.shape[1]
        total = sums.new_empty(n_columns, dtype=torch.float64)
        back_programs.add_up[(-(-n_columns // 32),)](
            sums, total, len(sums), n_columns, SUMS=32, COLUMNS=32
        )
        return total.to(sums.dtype).view(n_parts, -1).unbind()


def _both(projected: Tensor, n_heads: int) -> tuple[Any, ...]:
    """Give where source and target parts begin, and how far apart rows are."""
    return projected, projected[:, n_heads:], projected.stride(0)


def _power(n: int) -> int:
    """Give the least power of 2 that is not below n."""
    return 1 << (n - 1).bit_length()
