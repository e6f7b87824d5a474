"""Nyström self-attention, and the convolutions that tell tokens their place (TransMIL).

Xiong et al., AAAI 2021, arXiv 2102.03902, with the details of the package that TransMIL used
(nystrom-attention, from 0.0.10 on); PPEG is TransMIL's own.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad


class NystromAttention(nn.Module):
    """Self-attention through landmarks: O(n_tokens x n_landmarks) in time and memory.

    Tokens are filled up in front with zeros to a multiple of ``n_landmarks``; a landmark is the
    mean of consecutive tokens. out = A_1 pinv(A_2) (A_3 v) + conv(v), with A_1 = softmax(q l_k'),
    A_2 = softmax(l_q l_k'), A_3 = softmax(l_q k'). The filling is not masked.

    Parameters
    ----------
    dim, n_heads, dim_head
        Widths.
    n_landmarks, n_iterations, kernel
        Landmarks, steps of the pseudo-inverse, length of the convolution over tokens.
    dropout
        Rate on the output.
    rows
        ``last`` gives the outputs of the tokens; ``first`` those too early by the filling, as
        nystrom-attention up to 0.0.9 did: wrong, and here only so that old numbers can be checked.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int = 8,
        dim_head: int = 64,
        *,
        n_landmarks: int = 256,
        n_iterations: int = 6,
        kernel: int = 33,
        dropout: float = 0.1,
        rows: Literal["last", "first"] = "last",
    ) -> None:
        super().__init__()
        inner = n_heads * dim_head
        self.n_heads = n_heads
        self.scale = dim_head**-0.5
        self.n_landmarks = n_landmarks
        self.n_iterations = n_iterations
        self.rows = rows
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.convolution = nn.Conv2d(
            n_heads, n_heads, (kernel, 1), padding=(kernel // 2, 0), groups=n_heads, bias=False
        )
        self.output = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))

    def forward(
        self, tokens: Float[Tensor, "b n_tokens dim"]
    ) -> tuple[Float[Tensor, "b n_tokens dim"], Float[Tensor, "b n_tokens"]]:
        """Attend; the second value is how the first token attends, a mean over heads, no gradient.

        These weights may be negative: a pseudo-inverse stands among their factors.
        """
        n_tokens, m = tokens.shape[1], self.n_landmarks
        n_filled = -n_tokens % m
        x = pad(tokens, (0, 0, n_filled, 0))
        q, k, v = (self._split(part) for part in self.to_qkv(x).chunk(3, dim=2))
        q = q * self.scale
        q_marks, k_marks = (t.reshape(*t.shape[:2], m, -1, t.shape[3]).mean(dim=3) for t in (q, k))
        to_marks = _softmax(q @ k_marks.transpose(2, 3))
        among = _softmax(q_marks @ k_marks.transpose(2, 3))
        from_marks = _softmax(q_marks @ k.transpose(2, 3))
        inverse = pseudo_inverse(among, self.n_iterations).to(v.dtype)
        values = inverse @ (from_marks.to(v.dtype) @ v)
        mixed = to_marks.to(v.dtype) @ values + self.convolution(v)
        out = self.output(mixed.transpose(1, 2).flatten(2))
        with torch.no_grad():
            first = to_marks[:, :, n_filled : n_filled + 1].to(v.dtype)
            row = (first @ inverse @ from_marks.to(v.dtype)).squeeze(2).mean(dim=1)
        kept = out[:, n_filled:] if self.rows == "last" else out[:, :n_tokens]
        return kept, row[:, n_filled:]

    def _split(self, x: Float[Tensor, "b n inner"]) -> Float[Tensor, "b n_heads n dim_head"]:
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


def pseudo_inverse(
    x: Float[Tensor, "b n_heads m m"], n_iterations: int
) -> Float[Tensor, "b n_heads m m"]:
    """Iterate to the Moore-Penrose inverse, from x' / (largest row sum x largest column sum).

    The maxima are over all heads of an item, as where items came one at a time. Never in half
    precision: the iteration amplifies rounding.
    """
    with torch.autocast(x.device.type, enabled=False):
        sizes = x.abs()
        rows, columns = (sizes.sum(dim=d).flatten(1).amax(dim=1) for d in (3, 2))
        z = x.transpose(2, 3) / (rows * columns)[:, None, None, None]
        eye = torch.eye(x.shape[3], dtype=x.dtype, device=x.device)
        for _ in range(n_iterations):
            xz = x @ z
            z = 0.25 * z @ (13 * eye - xz @ (15 * eye - xz @ (7 * eye - xz)))
        return z


class PPEG(nn.Module):
    """Depth-wise convolutions of 7, 5 and 3 over tokens laid out as a square, added to them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim) for size in (7, 5, 3)
        )

    def forward(
        self, tokens: Float[Tensor, "b n_tokens dim"], side: int
    ) -> Float[Tensor, "b n_tokens dim"]:
        """Lay out by rows all tokens but the first, which passes unchanged."""
        square = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)
        mixed = square
        for convolution in self.convolutions:
            mixed = mixed + convolution(square)
        return torch.cat([tokens[:, :1], mixed.flatten(2).transpose(1, 2)], dim=1)


def _softmax(scores: Tensor) -> Tensor:
    wide = torch.promote_types(scores.dtype, torch.float32)
    return torch.softmax(scores.to(wide), dim=-1)
