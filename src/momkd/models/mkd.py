"""MKD: a student of the slide and two teachers, of RNA and of both, learn together from scratch.

Zhang et al., MICCAI 2025, arXiv 2508.17213, after its published code. ``docs/models/mkd.md`` says
what was adapted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.batch_relations import (
    overlap,
    relation_distance,
    second_moment_distance,
    tempered_divergence,
)
from momkd.nn.bilinear_fusion import BilinearFusion
from momkd.nn.pooling import GatedAttention, pack, segment_softmax, segment_sum
from momkd.types import Bag, Dims, Losses, Output, Sample


class MKDWeights(config.Options):
    """Weights of the loss terms.

    ``ce`` of the three cross-entropies; ``relations`` of the student's relations to both teachers';
    ``divergence`` of the four tempered divergences; ``alignment`` of the moments of the three
    features; ``orthogonality`` of their overlaps.
    """

    ce: float = Field(1.0, ge=0)
    relations: float = Field(1.0, ge=0)
    divergence: float = Field(1.0, ge=0)
    alignment: float = Field(1.0, ge=0)
    orthogonality: float = Field(1 / 6, ge=0)


class MKDOptions(config.Options):
    """Hyper-parameters of MKD.

    Parameters
    ----------
    dim, dim_attention, dim_fusion
        Widths of an encoded tile or token, inside the attentions, and of a gated vector in the
        fusion.
    n_tokens
        Tokens that the RNA vector is cut into, in the panel's order (best gene first); the last is
        filled up with zeros.
    dropout
        Rate everywhere.
    temperature
        Of the divergences.
    weights
        Of the loss terms.
    """

    dim: int = Field(256, ge=1)
    dim_attention: int = Field(128, ge=1)
    dim_fusion: int = Field(32, ge=1)
    n_tokens: int = Field(6, ge=1)
    dropout: float = Field(0.25, ge=0, lt=1)
    temperature: float = Field(4.0, gt=0)
    weights: MKDWeights = Field(default_factory=MKDWeights)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Says:
    """Pooled features and logits of one network, a row a sample."""

    features: Float[Tensor, "n dim"]
    logits: Float[Tensor, "n n_classes"]


class SlideStudent(nn.Module):
    """Tiles encoded, pooled by gated attention, classified; weights N(0, 1/fan_in), biases 0."""

    def __init__(self, dims: Dims, o: MKDOptions) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dims.dim_in, o.dim), nn.ReLU())
        self.attention = GatedAttention(o.dim, o.dim_attention)
        self.dropout = nn.Dropout(o.dropout)
        self.head = nn.Linear(o.dim, dims.n_classes)
        _start_by_fan_in(self)

    def forward(
        self, tiles: Float[Tensor, "n_tiles dim_in"], segments: Int64[Tensor, " n_tiles"], n: int
    ) -> tuple[Says, Float[Tensor, " n_tiles"]]:
        """Read ``n`` packed slides; the second value is the attention."""
        features, attention = _pool(self.attention, self.encoder(tiles), segments, n)
        return Says(features=features, logits=self.head(self.dropout(features))), attention


class RNATeacher(nn.Module):
    """Tokens encoded, pooled by gated attention, classified; started as the student."""

    def __init__(self, dim_token: int, n_classes: int, o: MKDOptions) -> None:
        super().__init__()
        self.encoder = _token_encoder(dim_token, o)
        self.attention = GatedAttention(o.dim, o.dim_attention)
        self.dropout = nn.Dropout(o.dropout)
        self.head = nn.Linear(o.dim, n_classes)
        _start_by_fan_in(self)

    def forward(self, tokens: Float[Tensor, "n n_tokens dim_token"]) -> Says:
        """Read RNA alone."""
        features = _pool_tokens(self.attention, self.encoder(tokens))
        return Says(features=features, logits=self.head(self.dropout(features)))


class PairTeacher(nn.Module):
    """Slide and RNA, each pooled by gated attention, then fused; torch's default start."""

    def __init__(self, dims: Dims, dim_token: int, o: MKDOptions) -> None:
        super().__init__()
        d = o.dim
        self.slide_encoder = nn.Sequential(
            nn.Linear(dims.dim_in, d), nn.ReLU(), nn.Dropout(o.dropout)
        )
        self.rna_encoder = _token_encoder(dim_token, o)
        self.slide_attention = GatedAttention(d, o.dim_attention)
        self.rna_attention = GatedAttention(d, o.dim_attention)
        self.fusion = BilinearFusion(
            d, d, dim_hidden=o.dim_fusion, dim_out=d, dropout=o.dropout, skip=True
        )
        self.head = nn.Linear(d, dims.n_classes)

    def forward(
        self,
        tiles: Float[Tensor, "n_tiles dim_in"],
        segments: Int64[Tensor, " n_tiles"],
        tokens: Float[Tensor, "n n_tokens dim_token"],
    ) -> Says:
        """Read pairs of packed slides and RNA."""
        encoded = self.slide_encoder(tiles)
        slides, _ = _pool(self.slide_attention, encoded, segments, len(tokens))
        rna = _pool_tokens(self.rna_attention, self.rna_encoder(tokens))
        features = self.fusion(slides, rna)
        return Says(features=features, logits=self.head(features))


class MKD(BagClassifier):
    """Online distillation among three networks; the student alone serves.

    A slide without RNA feeds the student's cross-entropy, RNA without a slide the RNA teacher's.
    What relates the networks to one another is computed over the pairs of a batch, and needs two.

    Parameters
    ----------
    dims
        Widths the data dictate.
    options
        Hyper-parameters.
    """

    Options: ClassVar[type[config.Options]] = MKDOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    needs_rna: ClassVar[bool] = True
    steps_on_rna_alone: bool = True
    min_batch: ClassVar[int] = 4
    training_only: ClassVar[tuple[str, ...]] = ("rna_teacher", "pair_teacher")
    options: MKDOptions

    def __init__(self, dims: Dims, options: MKDOptions) -> None:
        super().__init__(dims, options)
        self.student = SlideStudent(dims, options)
        if dims.n_genes is not None:
            self.dim_token = math.ceil(dims.n_genes / options.n_tokens)
            self.pair_teacher = PairTeacher(dims, self.dim_token, options)
            self.rna_teacher = RNATeacher(self.dim_token, dims.n_classes, options)

    def forward(self, bag: Bag) -> Output:
        """Score one slide."""
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides in one pass."""
        tiles, segments = self._pack(bags)
        says, attention = self.student(tiles, segments, len(bags))
        parts = torch.split(attention, [len(bag) for bag in bags])
        rows = zip(says.logits, parts, says.features, strict=True)
        return [Output(logits=y, attention=a, embedding=f) for y, a, f in rows]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give ``ce``, ``ce_pair``, ``ce_rna`` and, over two pairs or more, what relates them.

        Raises
        ------
        ValueError
            A model built without ``n_genes``.
        """
        if self.dims.n_genes is None:
            raise ValueError("MKD without n_genes is built to predict, not to learn")
        slides = [s for s in batch if s.bag is not None]
        with_rna = [s for s in batch if s.rna is not None]
        pairs = [s for s in slides if s.rna is not None]
        terms: dict[str, Tensor] = {}
        if slides:
            student = self._read_slides(slides)
            terms["ce"] = cross_entropy(student.logits, self._labels(slides))
        if with_rna:
            rna = self.rna_teacher(self._tokens(with_rna))
            terms["ce_rna"] = cross_entropy(rna.logits, self._labels(with_rna))
        if pairs:
            tiles, segments = self._pack([s.bag for s in pairs if s.bag is not None])
            both = self.pair_teacher(tiles, segments, self._tokens(pairs))
            terms["ce_pair"] = cross_entropy(both.logits, self._labels(pairs))
        weights = self.options.weights
        weighed = {name: weights.ce * term for name, term in terms.items()}
        if len(pairs) >= 2:
            p = _rows(student, [s.rna is not None for s in slides])
            g = _rows(rna, [s.bag is not None for s in with_rna])
            weighed |= {
                name: getattr(weights, name) * term
                for name, term in self.relate(p, both, g).items()
            }
        return Losses(terms=weighed)

    def relate(self, p: Says, m: Says, g: Says) -> dict[str, Tensor]:
        """Give the four terms between student P, pair teacher M and RNA teacher G, unweighted.

        Parameters
        ----------
        p, m, g
            The same samples, row for row.
        """
        n, t = len(p.features), self.options.temperature
        relations = relation_distance(p.features, m.features) + relation_distance(
            p.features, g.features
        )
        routes = ((p, m), (m, p), (p, g), (g, p))
        pairs = ((m, p), (g, p), (g, m))
        return {
            "relations": n * relations,
            "divergence": _sum(tempered_divergence(a.logits, b.logits, t) for a, b in routes),
            "alignment": _sum(second_moment_distance(a.features, b.features) for a, b in pairs),
            "orthogonality": _sum(overlap(a.features, b.features) for a, b in pairs),
        }

    def _read_slides(self, samples: Sequence[Sample]) -> Says:
        tiles, segments = self._pack([s.bag for s in samples if s.bag is not None])
        says, _ = self.student(tiles, segments, len(samples))
        assert isinstance(says, Says)
        return says

    def _pack(
        self, bags: Sequence[Bag]
    ) -> tuple[Float[Tensor, "n_tiles dim_in"], Int64[Tensor, " n_tiles"]]:
        return pack([bag.embeddings for bag in bags], self.student.head.weight.dtype)

    def _tokens(self, samples: Sequence[Sample]) -> Float[Tensor, "n n_tokens dim_token"]:
        rna = torch.stack([s.rna for s in samples if s.rna is not None])
        rna = rna.to(self.student.head.weight.dtype)
        missing = self.options.n_tokens * self.dim_token - rna.shape[1]
        return pad(rna, (0, missing)).view(len(rna), self.options.n_tokens, self.dim_token)

    def _labels(self, samples: Sequence[Sample]) -> Int64[Tensor, " n"]:
        return torch.tensor([s.label for s in samples], device=self.student.head.weight.device)


def _token_encoder(dim_token: int, o: MKDOptions) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim_token, o.dim), nn.ELU(), nn.AlphaDropout(o.dropout))


def _start_by_fan_in(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=1 / math.sqrt(part.in_features))
            nn.init.zeros_(part.bias)


def _pool(
    attention: GatedAttention,
    encoded: Float[Tensor, "n_tiles dim"],
    segments: Int64[Tensor, " n_tiles"],
    n: int,
) -> tuple[Float[Tensor, "n dim"], Float[Tensor, " n_tiles"]]:
    weights = segment_softmax(attention(encoded), segments, n)
    return segment_sum(weights[:, None] * encoded, segments, n), weights


def _pool_tokens(
    attention: GatedAttention, encoded: Float[Tensor, "n n_tokens dim"]
) -> Float[Tensor, "n dim"]:
    n, n_tokens, _ = encoded.shape
    segments = torch.arange(n, device=encoded.device).repeat_interleave(n_tokens)
    return _pool(attention, encoded.flatten(0, 1), segments, n)[0]


def _rows(says: Says, chosen: Sequence[bool]) -> Says:
    mask = torch.tensor(chosen, device=says.logits.device)
    return Says(features=says.features[mask], logits=says.logits[mask])


def _sum(terms: Any) -> Tensor:
    return torch.stack(list(terms)).sum()
