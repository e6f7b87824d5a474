"""DTFD-MIL: a slide is cut into pseudo-bags at random; what they distil is classified once more.

Zhang et al., CVPR 2022, arXiv 2203.12081, in the form of its published code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.pooling import GatedAttention, pack, segment_softmax, segment_sum
from momkd.types import Bag, Dims, Losses, Output, Sample


class DTFDOptions(config.Options):
    """Hyper-parameters of DTFD-MIL.

    Parameters
    ----------
    distil
        What a pseudo-bag hands to the second tier: ``AFS`` its attention-weighted mean, ``MaxS``
        its most positive tiles, ``MaxMinS`` these and the least positive ones, ``MAS`` (the
        paper's, not in the code) the tile of largest attention.
    n_bags
        Pseudo-bags a slide.
    n_instances
        Tiles that ``MaxS`` takes from a slide, and half of those of ``MaxMinS``; each pseudo-bag
        gives ``n_instances // n_bags``.
    n_splits
        Random splits whose probabilities are averaged where a slide is scored; always the same.
    keep_empty
        A pseudo-bag that a slide has no tile for counts as a zero vector (``AFS``, as published);
        otherwise it is left out.
    dim, dim_attention
        Widths of an encoded tile and inside both attentions.
    n_residual
        Residual blocks after the encoder.
    dropout
        Rate before either classifier.
    """

    distil: Literal["AFS", "MaxS", "MaxMinS", "MAS"] = "AFS"
    n_bags: int = Field(4, ge=1)
    n_instances: int = Field(4, ge=1)
    n_splits: int = Field(5, ge=1)
    keep_empty: bool = True
    dim: int = Field(512, ge=1)
    dim_attention: int = Field(128, ge=1)
    n_residual: int = Field(0, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """Encoded tiles of packed slides, and their scores before any softmax."""

    encoded: Float[Tensor, "n_tiles dim"]
    scores: Float[Tensor, " n_tiles"]
    slides: Int64[Tensor, " n_tiles"]
    n_slides: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Both tiers under one split; pseudo-bags of all slides one after another."""

    bag_logits: Float[Tensor, "n_bags n_classes"]
    is_counted: Tensor
    logits: Float[Tensor, "n_slides n_classes"]
    slides: Float[Tensor, "n_slides dim"]
    attention: Float[Tensor, " n_tiles"]


class ResidualBlock(nn.Module):
    """x + ReLU(W_2 ReLU(W_1 x)), without biases."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Linear(dim, dim, bias=False),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Add the block's output."""
        result: Tensor = x + self.steps(x)
        return result


class DTFDMIL(BagClassifier):
    """Double-tier MIL; histology only.

    Which tile falls into which pseudo-bag depends on its place in the bag, so order matters.
    """

    Options: ClassVar[type[config.Options]] = DTFDOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    order_matters: ClassVar[bool] = True
    options: DTFDOptions

    def __init__(self, dims: Dims, options: DTFDOptions) -> None:
        super().__init__(dims, options)
        o = options
        self.encoder = nn.Sequential(
            nn.Linear(dims.dim_in, o.dim, bias=False),
            nn.ReLU(),
            *(ResidualBlock(o.dim) for _ in range(o.n_residual)),
        )
        self.bag_attention = GatedAttention(o.dim, o.dim_attention)
        self.bag_head = nn.Linear(o.dim, dims.n_classes)
        self.slide_attention = GatedAttention(o.dim, o.dim_attention)
        self.slide_head = nn.Linear(o.dim, dims.n_classes)
        self.dropout = nn.Dropout(o.dropout)

    def forward(self, bag: Bag) -> Output:
        """Score one slide: the mean probability over ``n_splits`` splits, as log-probabilities.

        A tile's attention is that of what it was distilled into times its share of it.
        """
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides in one pass a split."""
        tiles, sizes = self.encode(bags), [len(bag) for bag in bags]
        readings = [
            self.read(tiles, self._split(sizes, seed)) for seed in range(self.options.n_splits)
        ]
        p = torch.stack([torch.softmax(r.logits.float(), dim=1) for r in readings]).mean(dim=0)
        logits = torch.log(p.clamp(min=torch.finfo(p.dtype).tiny)).to(readings[0].logits)
        attention = torch.stack([r.attention for r in readings]).mean(dim=0)
        slides = torch.stack([r.slides for r in readings]).mean(dim=0)
        rows = zip(logits, torch.split(attention, sizes), slides, strict=True)
        return [Output(logits=y, attention=a, embedding=z) for y, a, z in rows]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give the cross-entropies ``tier_1`` of the pseudo-bags and ``tier_2`` of the slides.

        No gradient of the second reaches the first tier: as published, where it was erased before
        any step.
        """
        bags = [s.bag for s in batch if s.bag is not None]
        if not bags:
            return Losses(terms={})
        labels = torch.tensor([s.label for s in batch if s.bag is not None])
        labels = labels.to(self.slide_head.weight.device)
        tiles = self.encode(bags)
        reading = self.read(tiles, self._split([len(bag) for bag in bags], None))
        n_bags = self.options.n_bags
        entropy = cross_entropy(
            reading.bag_logits, labels.repeat_interleave(n_bags), reduction="none"
        )
        counted = reading.is_counted.view(-1, n_bags).to(entropy.dtype)
        by_slide = (entropy.view(-1, n_bags) * counted).sum(dim=1) / counted.sum(dim=1)
        return Losses(
            terms={"tier_1": by_slide.mean(), "tier_2": cross_entropy(reading.logits, labels)},
            fed={"tier_1": len(bags), "tier_2": len(bags)},
        )

    def encode(self, bags: Sequence[Bag]) -> Tiles:
        """Encode and score the tiles of packed slides."""
        x, slides = pack([bag.embeddings for bag in bags], self.slide_head.weight.dtype)
        encoded = self.encoder(x)
        return Tiles(
            encoded=encoded,
            scores=self.bag_attention(encoded),
            slides=slides,
            n_slides=len(bags),
        )

    def read(self, tiles: Tiles, split: Int64[Tensor, " n_tiles"]) -> Reading:
        """Run both tiers under one split.

        Parameters
        ----------
        tiles
            Of packed slides.
        split
            The pseudo-bag of each tile, from 0 within its slide.
        """
        n_bags, n_slides = self.options.n_bags, tiles.n_slides
        bags = tiles.slides * n_bags + split
        share = segment_softmax(tiles.scores, bags, n_slides * n_bags)
        weighed = share[:, None] * tiles.encoded
        pooled = segment_sum(weighed, bags, n_slides * n_bags)
        filled = torch.bincount(bags, minlength=n_slides * n_bags) > 0
        counted = torch.ones_like(filled) if self.options.keep_empty else filled
        bag_logits = self.bag_head(self.dropout(pooled))
        if self.options.distil == "AFS":
            features, owners = pooled[counted], torch.arange(len(pooled), device=bags.device)
            owners = owners[counted] // n_bags
            weights = self._weigh(features.detach(), owners, n_slides)
            by_bag = torch.zeros_like(pooled[:, 0], dtype=weights.dtype)
            by_bag[counted] = weights
            attention = by_bag[bags] * share
        else:
            chosen = self._choose(weighed.detach(), share.detach(), bags, filled)
            features, owners = tiles.encoded[chosen], tiles.slides[chosen]
            weights = self._weigh(features.detach(), owners, n_slides)
            attention = torch.zeros_like(share).index_add(0, chosen, weights.to(share.dtype))
        features = features.detach()
        slides = segment_sum(weights[:, None].to(features.dtype) * features, owners, n_slides)
        total = torch.zeros(n_slides, dtype=attention.dtype, device=attention.device)
        total = total.index_add(0, tiles.slides, attention)
        return Reading(
            bag_logits=bag_logits,
            is_counted=counted,
            logits=self.slide_head(self.dropout(slides)),
            slides=slides,
            attention=attention / total[tiles.slides],  # what empty pseudo-bags drew is shared out
        )

    def _weigh(
        self, features: Float[Tensor, "n dim"], owners: Int64[Tensor, " n"], n_slides: int
    ) -> Float[Tensor, " n"]:
        return segment_softmax(self.slide_attention(features), owners, n_slides)

    @torch.no_grad()
    def _choose(
        self,
        weighed: Float[Tensor, "n_tiles dim"],
        share: Float[Tensor, " n_tiles"],
        bags: Int64[Tensor, " n_tiles"],
        filled: Tensor,
    ) -> Int64[Tensor, " n"]:
        """Choose tiles of each pseudo-bag by their class activation, or by their attention.

        The activation is softmax(W_c (a_n h_n)) of the last class, without the bias.
        """
        o = self.options
        positive = torch.softmax(weighed @ self.bag_head.weight.T.to(weighed.dtype), dim=1)[:, -1]
        k = 1 if o.distil == "MAS" else max(1, o.n_instances // o.n_bags)
        chosen = []
        for bag in filled.nonzero().flatten().tolist():
            places = (bags == bag).nonzero().flatten()
            ranked = (share if o.distil == "MAS" else positive)[places]
            order = places[ranked.argsort(descending=True, stable=True)]
            chosen.append(order[:k])
            if o.distil == "MaxMinS":
                chosen.append(order[-k:])
        return torch.cat(chosen)

    def _split(self, sizes: Sequence[int], seed: int | None) -> Int64[Tensor, " n_tiles"]:
        """Deal each slide's tiles into nearly equal pseudo-bags, the larger ones first.

        In training at random; where ``seed`` is given, or in evaluation, always the same way.
        """
        device = self.slide_head.weight.device
        fixed = seed if seed is not None or self.training else 0
        parts = []
        for size in sizes:
            generator = None if fixed is None else torch.Generator().manual_seed(fixed)
            order = torch.randperm(size, generator=generator)
            split = torch.empty(size, dtype=torch.int64)
            split[order] = deal(size, self.options.n_bags)
            parts.append(split)
        return torch.cat(parts).to(device)


def deal(n_tiles: int, n_bags: int) -> Int64[Tensor, " n_tiles"]:
    """Give the pseudo-bag of each of n tiles in a row; the first n mod G get one more."""
    sizes = torch.full((n_bags,), n_tiles // n_bags)
    sizes[: n_tiles % n_bags] += 1
    return torch.repeat_interleave(torch.arange(n_bags), sizes)
