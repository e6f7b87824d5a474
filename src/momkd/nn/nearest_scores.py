"""The tiles that score highest; without ever holding all pairs, or as one piece of a graph."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BLOCK_BYTES = 2**26
_NEVER = -1e30  # finite, so that no product of it is NaN


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


def top_scores_of_one(
    heads: Float[Tensor, "n_tiles dim"], tails: Float[Tensor, "n_tiles dim"], k: int
) -> Int64[Tensor, "n_tiles k"]:
    """Give what :func:`top_scores` gives for one slide, in one piece and without control flow.

    For graphs that are exported: all pairs are held at once, 4 n_tiles^2 bytes. A further column
    and ``k`` rows that nobody chooses let a slide have fewer than ``k`` tiles.
    """
    with torch.no_grad():
        heads = torch.cat([heads, torch.ones_like(heads[:, :1])], dim=1)
        tails = torch.cat([tails, torch.zeros_like(tails[:, :1])], dim=1)
        nobody = tails.new_zeros(k, tails.shape[1])
        nobody[:, -1] = _NEVER
        found = (heads @ torch.cat([tails, nobody]).T).topk(k, dim=1)
        return torch.where(found.values > _NEVER / 2, found.indices, -1)


def lowest_kept(
    scores: Float[Tensor, "b n_tokens n_tiles"], share: float
) -> Float[Tensor, "b n_tokens 1"]:
    """Give the lowest of the highest ``share`` of each row's scores; at least one is kept."""
    if not torch.compiler.is_exporting():
        n_kept = max(1, int(share * scores.shape[2]))
        return scores.topk(n_kept, dim=2).values[..., -1:]
    # a graph knows the number of tiles as a tensor; as above it is multiplied in float64
    n_tiles = torch.ones_like(scores[0, 0], dtype=torch.float64).sum()
    place = (n_tiles * share).floor().long().clamp(min=1) - 1
    return scores.sort(dim=2, descending=True).values.index_select(2, place[None])
