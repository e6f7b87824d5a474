"""Graph attention step by step, as the equation stands: the measure of every other way."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

SLOPE = 0.2


def hear_plainly(
    source: Float[Tensor, "n_tiles dim"],
    target: Float[Tensor, "n_rows dim"],
    lists: Int64[Tensor, "n_rows n_heard"],
    kept: Float[Tensor, "n_rows n_heard n_heads"] | None,
    attention: Float[Tensor, "n_heads dim_head"],
) -> Float[Tensor, "n_rows dim"]:
    """Give what rows make of the sources they hear; ``kept`` multiplies the coefficients."""
    n_rows, n_heard = lists.shape
    wide = (n_rows, n_heard, *attention.shape)
    heard = source.index_select(0, lists.clamp(min=0).flatten()).view(wide)
    mixed = heard + target.view(n_rows, 1, *attention.shape)
    mixed = nn.functional.leaky_relu(mixed, SLOPE)
    scores = torch.einsum("imhc,hc->imh", mixed, attention)
    scores = scores.masked_fill((lists < 0)[:, :, None], -torch.inf)
    alpha = torch.softmax(scores, dim=1)
    if kept is not None:
        alpha = alpha * kept
    return (alpha[:, :, :, None] * heard).sum(dim=1).flatten(1)
