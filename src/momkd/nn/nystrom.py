"""Nyström self-attention, and the convolutions that tell tokens their place (TransMIL).

Xiong et al., AAAI 2021, arXiv 2102.03902, with the details of the package that TransMIL used
(nystrom-attention, from 0.0.10 on); PPEG is TransMIL's own.
"""

import math
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

    The filling has q = k = v = 0 exactly (there is no bias), so the landmarks made of it alone are
    all one, and nothing the iteration does tells them apart. They are kept as *one* landmark, in
    the basis where P equal entries v are the single entry sqrt(P) v: the same numbers, with
    matrices of the size of the real landmarks. A slide of 4 tiles needs 6 x 6 instead of 256 x 256.

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
        if torch.compiler.is_exporting():
            return self._attend_unfolded(tokens)
        n_tokens = tokens.shape[1]
        n_filled = -n_tokens % self.n_landmarks
        per_landmark = (n_tokens + n_filled) // self.n_landmarks
        n_empty, n_mixed = divmod(n_filled, per_landmark)  # landmarks, then tokens, of filling
        q, k, v = (self._split(part) for part in self.to_qkv(tokens).chunk(3, dim=2))
        q = q * self.scale
        q_marks, k_marks = (_landmarks(t, n_mixed, per_landmark, n_empty) for t in (q, k))
        if self.rows == "first":
            q, v = (pad(t, (0, 0, n_filled, 0)) for t in (q, v))
            k = pad(k, (0, 0, n_filled, 0))
            n_filled = 0
        among = _softmax(q_marks @ k_marks.transpose(2, 3), n_empty)
        inverse = pseudo_inverse(among, n_empty, self.n_iterations).to(v.dtype)
        to_marks = _fold_columns(_softmax(q @ k_marks.transpose(2, 3), n_empty), n_empty)
        # of the filling's tokens only their share of the softmax matters: their values are 0
        k = pad(k, (0, 0, 0, 1)) if n_filled else k
        from_marks = _fold_rows(_softmax(q_marks @ k.transpose(2, 3), n_filled), n_empty)
        from_marks = from_marks[..., : v.shape[2]].to(v.dtype)
        mixed = to_marks.to(v.dtype) @ (inverse @ (from_marks @ v)) + self.convolution(v)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        with torch.no_grad():
            first = to_marks[:, :, -n_tokens : to_marks.shape[2] - n_tokens + 1].to(v.dtype)
            row = (first @ inverse @ from_marks).squeeze(2).mean(dim=1)
        return out[:, :n_tokens], row[:, -n_tokens:]

    def _attend_unfolded(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Attend with the filling among the tokens, for graphs that are exported: no branch on n.

        Landmarks that are alike are not folded into one, and the iteration, which amplifies what
        rounding makes of them, runs in float64.
        """
        n_tokens = tokens.shape[1]
        per_landmark = (n_tokens + self.n_landmarks - 1) // self.n_landmarks
        n_filled = per_landmark * self.n_landmarks - n_tokens
        q, k, v = (
            pad(self._split(part), (0, 0, n_filled, 0))
            for part in self.to_qkv(tokens).chunk(3, dim=2)
        )
        q = q * self.scale
        parted = (1, self.n_heads, self.n_landmarks, per_landmark, v.shape[3])
        q_marks, k_marks = (t.reshape(parted).mean(dim=3) for t in (q, k))
        among = torch.softmax(q_marks @ k_marks.transpose(2, 3), dim=-1)
        inverse = pseudo_inverse(among.double(), 0, self.n_iterations).to(v.dtype)
        to_marks = torch.softmax(q @ k_marks.transpose(2, 3), dim=-1)
        from_marks = torch.softmax(q_marks @ k.transpose(2, 3), dim=-1)
        mixed = to_marks @ (inverse @ (from_marks @ v)) + self.convolution(v)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        tokens_of = torch.arange(n_tokens, device=out.device) + n_filled
        first = to_marks.index_select(2, tokens_of[:1])
        row = (first @ inverse @ from_marks).squeeze(2).mean(dim=1).index_select(1, tokens_of)
        if self.rows == "first":
            tokens_of = tokens_of - n_filled
        return out.index_select(1, tokens_of), row

    def _split(self, x: Float[Tensor, "b n inner"]) -> Float[Tensor, "b n_heads n dim_head"]:
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


def _landmarks(
    x: Float[Tensor, "b n_heads n_tokens dim_head"], n_mixed: int, per_landmark: int, n_empty: int
) -> Float[Tensor, "b n_heads n_kept dim_head"]:
    """Average consecutive tokens after ``n_mixed`` zeros; last, if there is any, the empty one."""
    filled = pad(x, (0, 0, n_mixed, 0))
    means = filled.reshape(*x.shape[:2], -1, per_landmark, x.shape[3]).mean(dim=3)
    return pad(means, (0, 0, 0, 1)) if n_empty else means


def _softmax(scores: Tensor, n_last: int) -> Tensor:
    """Softmax over the last dimension, whose last entry stands for ``n_last`` equal ones, if any.

    That entry is then what these share in all.
    """
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if n_last:
        bias = wide.new_zeros(wide.shape[-1])
        bias[-1] = math.log(n_last)
        wide = wide + bias
    return torch.softmax(wide, dim=-1)


def _fold_columns(x: Tensor, n_last: int) -> Tensor:
    """Turn a last column that holds a sum over ``n_last`` into its folded entry."""
    if not n_last:
        return x
    return torch.cat([x[..., :-1], x[..., -1:] / math.sqrt(n_last)], dim=-1)


def _fold_rows(x: Tensor, n_last: int) -> Tensor:
    """Turn a last row that stands for ``n_last`` equal ones into their folded row."""
    if not n_last:
        return x
    return torch.cat([x[..., :-1, :], x[..., -1:, :] * math.sqrt(n_last)], dim=-2)


def pseudo_inverse(
    x: Float[Tensor, "b n_heads m m"], n_last: int, n_iterations: int
) -> Float[Tensor, "b n_heads m m"]:
    """Iterate to the Moore-Penrose inverse, from x' / (largest row sum x largest column sum).

    The maxima are over all heads of an item, as where items came one at a time. Never in half
    precision: the iteration amplifies rounding.

    Parameters
    ----------
    x
        Not negative. Where ``n_last`` is not 0, the last row stands for so many equal ones, and the
        last column holds their sum.
    n_last, n_iterations
        Folded rows and columns (see :class:`NystromAttention`), and steps.

    Returns
    -------
    Tensor
        The inverse, folded on both sides.
    """
    with torch.autocast(x.device.type, enabled=False):
        weight = x.new_ones(x.shape[-1])
        if n_last:
            weight[-1] = n_last
        rows = x.sum(dim=3).flatten(1).amax(dim=1)
        columns = ((weight @ x) / weight).flatten(1).amax(dim=1)
        folded = _fold_rows(_fold_columns(x, n_last), n_last)
        z = folded.transpose(2, 3) / (rows * columns)[:, None, None, None]
        eye = torch.eye(x.shape[3], dtype=x.dtype, device=x.device)
        for _ in range(n_iterations):
            xz = folded @ z
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
        self, tokens: Float[Tensor, "b n_tokens dim"], side: int | torch.SymInt
    ) -> Float[Tensor, "b n_tokens dim"]:
        """Lay out by rows all tokens but the first, which passes unchanged."""
        square = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)
        mixed = square
        for convolution in self.convolutions:
            mixed = mixed + convolution(square)
        return torch.cat([tokens[:, :1], mixed.flatten(2).transpose(1, 2)], dim=1)
