"""The tiles that each tile scores highest, without ever holding all pairs."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BLOCK_BYTES = 2**26


def top_scores(
    heads: Float[Tensor, "n_tiles dim"],
    tails: Float[Tensor, "n_tiles dim"],
    sizes: list[int],
    k: int,
) -> Int64[Tensor, "n_tiles k"]:
    """Give, for each head, the k tails of its own slide with the largest product, largest first.

    Slides lie one after another, ``sizes`` tiles each; places are those in the packed tensor, and
    -1 where a slide has fewer than k tiles. A tile may choose itself. Scores are computed for a
    block of rows at a time: memory is O(n_tiles x block), time O(n_tiles^2) a slide. No gradient.
    """
    with torch.no_grad():
        chosen = torch.full((len(heads), k), -1, dtype=torch.int64, device=heads.device)
        start = 0
        for size in sizes:
            end, n_near = start + size, min(k, size)
            rows = max(1, _BLOCK_BYTES // (size * heads.element_size()))
            columns = tails[start:end].T
            for first in range(start, end, rows):
                last = min(first + rows, end)
                near = (heads[first:last] @ columns).topk(n_near, dim=1).indices
                chosen[first:last, :n_near] = near + start
            start = end
        return chosen
