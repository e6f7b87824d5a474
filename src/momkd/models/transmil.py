"""TransMIL: tiles as tokens of a transformer, with convolutions over their order laid as a square.

Shao et al., NeurIPS 2021, arXiv 2106.00908, in the form of its published code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.nystrom import PPEG, NystromAttention
from momkd.types import Bag, Dims, Losses, Output, Sample


class TransMILOptions(config.Options):
    """Hyper-parameters of TransMIL.

    Parameters
    ----------
    dim, n_heads
        Width of a token, and heads of ``dim / n_heads``.
    n_landmarks, n_iterations
        Landmarks of the attention and steps of its pseudo-inverse.
    dropout
        Rate on an attention's output.
    rows
        ``first`` repeats the shifted tokens of nystrom-attention 0.0.9, which the published code
        pins; for checking old numbers only.
    """

    dim: int = Field(512, ge=8)
    n_heads: int = Field(8, ge=1)
    n_landmarks: int = Field(256, ge=1)
    n_iterations: int = Field(6, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    rows: Literal["last", "first"] = "last"

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TransMILOptions":
        if self.dim % self.n_heads:
            raise ValueError("dim must be a multiple of n_heads")
        return self


class Block(nn.Module):
    """x + attention(LayerNorm(x)); no feed-forward part."""

    def __init__(self, o: TransMILOptions) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(o.dim)
        self.attention = NystromAttention(
            o.dim,
            o.n_heads,
            o.dim // o.n_heads,
            n_landmarks=o.n_landmarks,
            n_iterations=o.n_iterations,
            dropout=o.dropout,
            rows=o.rows,
        )

    def forward(
        self, tokens: Float[Tensor, "b n_tokens dim"]
    ) -> tuple[Float[Tensor, "b n_tokens dim"], Float[Tensor, "b n_tokens"]]:
        """Give tokens and how the first of them attends."""
        mixed, row = self.attention(self.norm(tokens))
        return tokens + mixed, row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Slides of equally many tokens: the class token's attention, its vector, and the logits."""

    attention: Float[Tensor, "b n_tokens"]
    slides: Float[Tensor, "b dim"]
    logits: Float[Tensor, "b n_classes"]


class TransMIL(BagClassifier):
    """Transformer over tiles; histology only; the order of tiles matters.

    A bag is in raster order (by y, then x), so a shuffled file changes nothing.
    """

    Options: ClassVar[type[config.Options]] = TransMILOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    order_matters: ClassVar[bool] = True
    options: TransMILOptions

    def __init__(self, dims: Dims, options: TransMILOptions) -> None:
        super().__init__(dims, options)
        self.encoder = nn.Sequential(nn.Linear(dims.dim_in, options.dim), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(1, 1, options.dim))
        self.block_1 = Block(options)
        self.positions = PPEG(options.dim)
        self.block_2 = Block(options)
        self.norm = nn.LayerNorm(options.dim)
        self.head = nn.Linear(options.dim, dims.n_classes)

    def forward(self, bag: Bag) -> Output:
        """Score one slide.

        Attention is that of the class token in the second block, what is negative in it set to 0;
        a tile that stands twice in the square has both shares.
        """
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides; those that fill squares of one side go together."""
        outputs: dict[int, Output] = {}
        for places, reading in self._read(bags):
            for row, place in enumerate(places):
                outputs[place] = Output(
                    logits=reading.logits[row],
                    attention=_to_tiles(reading.attention[row], len(bags[place])),
                    embedding=reading.slides[row],
                )
        return [outputs[place] for place in range(len(bags))]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give the cross-entropy ``ce`` over the samples with a slide; RNA is not looked at."""
        bags = [s.bag for s in batch if s.bag is not None]
        if not bags:
            return Losses(terms={})
        labels = torch.tensor([s.label for s in batch if s.bag is not None])
        order, logits = [], []
        for places, reading in self._read(bags):
            order += places
            logits.append(reading.logits)
        target = labels[order].to(self.head.weight.device)
        entropy = cross_entropy(torch.cat(logits), target)
        return Losses(terms={"ce": entropy}, fed={"ce": len(bags)})

    def _read(self, bags: Sequence[Bag]) -> list[tuple[list[int], Reading]]:
        """Read slides, grouped by the side of their square; places are those in ``bags``."""
        groups: dict[int, list[int]] = {}
        for place, bag in enumerate(bags):
            groups.setdefault(math.isqrt(len(bag) - 1) + 1, []).append(place)
        return [
            (places, self._read_squares([bags[p] for p in places], side))
            for side, places in groups.items()
        ]

    def _read_squares(self, bags: Sequence[Bag], side: int) -> Reading:
        dtype = self.head.weight.dtype
        encoded = [self.encoder(bag.embeddings.to(dtype)) for bag in bags]
        # filled up with the first tiles once more
        squares = torch.stack([torch.cat([h, h[: side**2 - len(h)]]) for h in encoded])
        return self.read_squares(squares, side)

    def read_squares(
        self, squares: Float[Tensor, "b n_square dim"], side: int | torch.SymInt
    ) -> Reading:
        """Read encoded tiles that fill squares of one side, row by row."""
        class_tokens = self.class_token.expand(squares.shape[0], 1, -1).to(squares)
        tokens = torch.cat([class_tokens, squares], dim=1)
        tokens, _ = self.block_1(tokens)
        tokens, row = self.block_2(self.positions(tokens, side))
        slides = self.norm(tokens[:, 0])
        return Reading(attention=row[:, 1:], slides=slides, logits=self.head(slides))


def _to_tiles(row: Float[Tensor, " n_square"], n_tiles: int) -> Float[Tensor, " n_tiles"]:
    """Turn weights of the square into a distribution over tiles; uniform where none is positive."""
    wide = torch.promote_types(row.dtype, torch.float32)
    positive = row.to(wide).clamp(min=0)
    tiles = positive[:n_tiles].clone()
    repeated = positive[n_tiles:]
    tiles[: len(repeated)] += repeated
    return as_distribution(tiles)


def as_distribution(weights: Float[Tensor, " n_tiles"]) -> Float[Tensor, " n_tiles"]:
    """Scale weights to a sum of 1; uniform where none is positive."""
    ones, total = torch.ones_like(weights), weights.sum()
    scaled = weights / total.clamp(min=torch.finfo(weights.dtype).tiny)
    return torch.where(total > 0, scaled, ones / ones.sum())
