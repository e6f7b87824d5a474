"""Attention of a few tokens over many tiles, and a gated feed-forward block (G-HANet)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu


class TokenAttention(nn.Module):
    """Multi-head attention of queries over a context: q, k, v without bias, output with one.

    Parameters
    ----------
    dim, n_heads
        Width, and heads of ``dim / n_heads``.
    dropout
        Rate on the attention map.
    """

    def __init__(self, dim: int, n_heads: int, *, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.scale = (dim // n_heads) ** -0.5
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Float[Tensor, "b n_queries dim"], context: Float[Tensor, "b n dim"]
    ) -> tuple[Float[Tensor, "b n_queries dim"], Float[Tensor, "b n_queries n"]]:
        """Give the outputs, and the scaled products before the softmax, a mean over heads."""
        q, k, v = (
            self._split(layer(x))
            for layer, x in ((self.query, queries), (self.key, context), (self.value, context))
        )
        products = q @ k.transpose(2, 3) * self.scale
        wide = torch.promote_types(products.dtype, torch.float32)
        weights = self.dropout(torch.softmax(products.to(wide), dim=3).to(v.dtype))
        result: Tensor = self.output((weights @ v).transpose(1, 2).flatten(2))
        return result, products.mean(dim=1)

    def _split(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n_heads n dim_head"]:
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


class GatedFeedForward(nn.Module):
    """Linear to twice the hidden width, first half times GELU of the second, Linear, Dropout."""

    def __init__(self, dim: int, dim_hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 2 * dim_hidden)
        self.outer = nn.Linear(dim_hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Transform each row."""
        content, gate = self.inner(x).chunk(2, dim=-1)
        result: Tensor = self.dropout(self.outer(content * gelu(gate)))
        return result
