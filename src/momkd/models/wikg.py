"""WiKG: tiles as the heads and tails of a knowledge graph that attention draws anew each time.

Li et al., CVPR 2024, arXiv 2403.07719, in the form of its published code. Coordinates are not used.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, leaky_relu

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.nearest_scores import top_scores
from momkd.nn.pooling import count_places, pack, segment_mean, segment_softmax, segment_sum
from momkd.types import Bag, Dims, Losses, Output, Sample


class WiKGOptions(config.Options):
    """Hyper-parameters of WiKG.

    Parameters
    ----------
    dim
        Width of an encoded tile.
    n_neighbours
        Tails a head; a slide with fewer tiles takes all of them.
    score
        How a tail is scored by its gate: ``sums`` multiplies the sum of the tail's entries by the
        sum of the gate's, as the published code does; ``product`` is their dot product, the
        paper's equation.
    aggregation
        ``bi`` (default), ``gcn`` or ``sage``.
    readout
        ``attention`` (the model's default), ``mean`` (the training script's) or ``max``.
    dropout
        Rate after the aggregation.
    """

    dim: int = Field(512, ge=2)
    n_neighbours: int = Field(6, ge=1)
    score: Literal["sums", "product"] = "sums"
    aggregation: Literal["bi", "gcn", "sage"] = "bi"
    readout: Literal["attention", "mean", "max"] = "attention"
    dropout: float = Field(0.3, ge=0, lt=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What the graph makes of packed slides."""

    attention: Float[Tensor, " n_tiles"]
    slides: Float[Tensor, "n_slides dim"]
    logits: Float[Tensor, "n_slides n_classes"]


class WiKG(BagClassifier):
    """Dynamic graph over tiles; histology only, order of tiles of no account."""

    Options: ClassVar[type[config.Options]] = WiKGOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    options: WiKGOptions

    def __init__(self, dims: Dims, options: WiKGOptions) -> None:
        super().__init__(dims, options)
        d = options.dim
        self.encoder = nn.Sequential(nn.Linear(dims.dim_in, d), nn.LeakyReLU())
        self.head_map = nn.Linear(d, d)
        self.tail_map = nn.Linear(d, d)
        self.aggregate_sum = nn.Linear(2 * d if options.aggregation == "sage" else d, d)
        self.aggregate_product = nn.Linear(d, d) if options.aggregation == "bi" else None
        self.dropout = nn.Dropout(options.dropout)
        self.readout = None
        if options.readout == "attention":
            half = d // 2
            self.readout = nn.Sequential(nn.Linear(d, half), nn.LeakyReLU(), nn.Linear(half, 1))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, dims.n_classes)

    def forward(self, bag: Bag) -> Output:
        """Score one slide."""
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides in one pass."""
        reading = self._read(bags)
        parts = torch.split(reading.attention, [len(bag) for bag in bags])
        rows = zip(reading.logits, parts, reading.slides, strict=True)
        return [Output(logits=y, attention=a, embedding=z) for y, a, z in rows]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give the cross-entropy ``ce`` over the samples with a slide; RNA is not looked at."""
        bags = [s.bag for s in batch if s.bag is not None]
        if not bags:
            return Losses(terms={})
        logits = self._read(bags).logits
        labels = [s.label for s in batch if s.bag is not None]
        entropy = cross_entropy(logits, torch.tensor(labels).to(logits.device))
        return Losses(terms={"ce": entropy}, fed={"ce": len(bags)})

    def _read(self, bags: Sequence[Bag]) -> Reading:
        x, segments = pack([bag.embeddings for bag in bags], self.head.weight.dtype)
        sizes = [len(bag) for bag in bags]
        choose = partial(top_scores, sizes=sizes, k=self.options.n_neighbours)
        return self.read_packed(x, segments, len(bags), choose)

    def read_packed(
        self,
        x: Float[Tensor, "n_tiles dim_in"],
        segments: Int64[Tensor, " n_tiles"],
        n_slides: int,
        choose: Callable[[Tensor, Tensor], Int64[Tensor, "n_tiles k"]],
    ) -> Reading:
        """Read packed tiles; ``choose`` gives each head its tails, as :func:`top_scores` does."""
        tiles = self.encoder(x)
        tiles = (tiles + segment_mean(tiles, segments, n_slides).index_select(0, segments)) / 2
        heads, tails = self.head_map(tiles), self.tail_map(tiles)
        heard = self._hear(heads, tails, choose(heads, tails))
        nodes = self.dropout(self._aggregate(heads, heard))
        attention, pooled = self._pool(nodes, segments, n_slides)
        slides = self.norm(pooled)
        return Reading(attention=attention, slides=slides, logits=self.head(slides))

    def _hear(
        self,
        heads: Float[Tensor, "n_tiles dim"],
        tails: Float[Tensor, "n_tiles dim"],
        chosen: Int64[Tensor, "n_tiles k"],
    ) -> Float[Tensor, "n_tiles dim"]:
        """Give each head the mean of its tails, weighed through the gated edges (eq. 3-6)."""
        absent = chosen < 0
        near = tails[chosen.clamp(min=0)]
        own = heads[:, None]
        # the scores of the chosen alone, once more and with gradient
        scores = (own * near).sum(dim=2) / math.sqrt(heads.shape[1])
        share = torch.softmax(scores.masked_fill(absent, -torch.inf), dim=1)[:, :, None]
        gate = torch.tanh(own + share * near + (1 - share) * own)
        if self.options.score == "sums":
            value = near.sum(dim=2) * gate.sum(dim=2)
        else:
            value = (near * gate).sum(dim=2)
        weights = torch.softmax(value.masked_fill(absent, -torch.inf), dim=1)
        return (weights[:, None].to(near.dtype) @ near).squeeze(1)

    def _aggregate(
        self, heads: Float[Tensor, "n_tiles dim"], heard: Float[Tensor, "n_tiles dim"]
    ) -> Float[Tensor, "n_tiles dim"]:
        if self.options.aggregation == "sage":
            return leaky_relu(self.aggregate_sum(torch.cat([heads, heard], dim=1)))
        result = leaky_relu(self.aggregate_sum(heads + heard))
        if self.aggregate_product is not None:
            result = result + leaky_relu(self.aggregate_product(heads * heard))
        return result

    def _pool(
        self,
        nodes: Float[Tensor, "n_tiles dim"],
        segments: Int64[Tensor, " n_tiles"],
        n_slides: int,
    ) -> tuple[Float[Tensor, " n_tiles"], Float[Tensor, "n_slides dim"]]:
        """Pool each slide; under ``max`` a tile's attention is the share of entries it wins."""
        if self.readout is not None:
            attention = segment_softmax(self.readout(nodes).squeeze(1), segments, n_slides)
            return attention, segment_sum(attention[:, None] * nodes, segments, n_slides)
        if self.options.readout == "mean":
            ones = torch.ones_like(nodes[:, :1], dtype=torch.float32)
            share = (1 / segment_sum(ones, segments, n_slides)[:, 0]).to(nodes.dtype)
            return share[segments], segment_mean(nodes, segments, n_slides)
        parts = [nodes]
        if n_slides > 1:
            parts = list(torch.split(nodes, torch.bincount(segments).tolist()))
        peaks = [part.max(dim=0) for part in parts]
        wins = [
            count_places(peak.indices, part).to(nodes.dtype) / nodes.shape[1]
            for part, peak in zip(parts, peaks, strict=True)
        ]
        return torch.cat(wins), torch.stack([peak.values for peak in peaks])
