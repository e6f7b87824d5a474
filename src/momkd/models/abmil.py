"""ABMIL: every tile is encoded, weighed by a learned attention, and the weighted mean classified.

Ilse, Tomczak, Welling, ICML 2018, arXiv 1802.04712, in the form the field runs on tile embeddings.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.pooling import GatedAttention, pack, segment_softmax, segment_sum
from momkd.types import Bag, Dims, Losses, Output, Sample


class ABMILOptions(config.Options):
    """Hyper-parameters of ABMIL.

    Parameters
    ----------
    gated
        Gated attention (eq. 9) or plain (eq. 8).
    dim, dim_attention
        Widths of an encoded tile and inside the attention.
    dropout, dropout_attention
        Rates after the encoder and inside the attention.
    """

    gated: bool = True
    dim: int = Field(512, ge=1)
    dim_attention: int = Field(256, ge=1)
    dropout: float = Field(0.25, ge=0, lt=1)
    dropout_attention: float = Field(0.25, ge=0, lt=1)


class ABMIL(BagClassifier):
    """Attention-based multiple instance learning; histology only, order of tiles of no account."""

    Options: ClassVar[type[config.Options]] = ABMILOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    options: ABMILOptions

    def __init__(self, dims: Dims, options: ABMILOptions) -> None:
        super().__init__(dims, options)
        self.encoder = nn.Sequential(
            nn.Linear(dims.dim_in, options.dim), nn.ReLU(), nn.Dropout(options.dropout)
        )
        self.attention = GatedAttention(
            options.dim,
            options.dim_attention,
            gated=options.gated,
            dropout=options.dropout_attention,
        )
        self.head = nn.Linear(options.dim, dims.n_classes)

    def forward(self, bag: Bag) -> Output:
        """Score one slide."""
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides in one pass."""
        attention, slides = self._pool(bags)
        parts = torch.split(attention, [len(bag) for bag in bags])
        rows = zip(self.head(slides), parts, slides, strict=True)
        return [Output(logits=y, attention=a, embedding=z) for y, a, z in rows]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give the cross-entropy ``ce`` over the samples with a slide; RNA is not looked at."""
        bags = [s.bag for s in batch if s.bag is not None]
        if not bags:
            return Losses(terms={})
        labels = [s.label for s in batch if s.bag is not None]
        _, slides = self._pool(bags)
        target = torch.tensor(labels, device=slides.device)
        entropy = cross_entropy(self.head(slides), target)
        return Losses(terms={"ce": entropy}, fed={"ce": len(bags)})

    def _pool(
        self, bags: Sequence[Bag]
    ) -> tuple[Float[Tensor, " n_tiles"], Float[Tensor, "n_slides dim"]]:
        x, segments = pack([bag.embeddings for bag in bags], self.head.weight.dtype)
        return self.pool(x, segments, len(bags))

    def pool(
        self, x: Float[Tensor, "n_tiles dim_in"], segments: Int64[Tensor, " n_tiles"], n: int
    ) -> tuple[Float[Tensor, " n_tiles"], Float[Tensor, "n_slides dim"]]:
        """Give the attention of packed tiles, and the vectors of their ``n`` slides."""
        tiles = self.encoder(x)
        attention = segment_softmax(self.attention(tiles), segments, n)
        return attention, segment_sum(attention[:, None] * tiles, segments, n)
