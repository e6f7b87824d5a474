"""Slides encoded and read against the memory as one operation, with its gradient worked out.

Between encoder and head nothing is kept twice: the gradient of encoded tiles takes their place.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from momkd.nn.graph_attention.fused_encoder import EncoderPass
from momkd.nn.memory_reading import HeadPass, Reading


def read_fused(
    encoder: EncoderPass,
    head: HeadPass,
    x: Tensor,
    temperature: Tensor | float,
    parameters: Sequence[Tensor],
) -> Reading:
    """Encode and read; a backward pass is possible, once.

    ``parameters`` are weight and bias of the projection and those of the encoder, in order: of
    the passes, named for autograd.
    """
    slides, pulls = _Reading.apply(encoder, head, x, temperature, *parameters)  # type: ignore[no-untyped-call]
    return head.reading(slides, pulls)


class _Reading(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        encoder: EncoderPass,
        head: HeadPass,
        x: Tensor,
        temperature: Tensor | float,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        tiles = encoder.forward(x)
        reading = head.forward(tiles)
        assert reading.pulls is not None
        ctx.passes = encoder, head, tiles
        ctx.save_for_backward(x)
        return reading.slides, reading.pulls

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_slides: Tensor, d_pulls: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients of ``x``, ``temperature`` and ``parameters``."""
        (x,) = ctx.saved_tensors
        if ctx.passes is None:
            raise RuntimeError("a reading goes backward once: its arrays are used up by that")
        encoder, head, tiles = ctx.passes
        ctx.passes = None
        d_tiles, d_weight, d_bias, d_temperature = head.backward(tiles, d_slides, d_pulls)
        d_x, gradients = encoder.backward(x, d_tiles, ctx.needs_input_grad[2])
        if not ctx.needs_input_grad[3]:
            d_temperature = None
        return None, None, d_x, d_temperature, d_weight, d_bias, *gradients
