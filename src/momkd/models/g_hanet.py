"""G-HANet: tokens rebuild groups of genes from tiles, and what they attend to scores the slide.

Wang et al., arXiv 2403.10040, after its published code; there for survival, here for a label.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss

from momkd import config
from momkd.errors import ConfigError
from momkd.models.base import BagClassifier
from momkd.nn.nearest_scores import lowest_kept
from momkd.nn.pooling import GatedAttention
from momkd.nn.token_attention import GatedFeedForward, TokenAttention
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleSource

_OFF = -1e5  # the score of a tile that a token does not attend to


class GHANetOptions(config.Options):
    """Hyper-parameters of G-HANet.

    Parameters
    ----------
    dim, n_heads, dim_hidden, dim_attention, dim_token
        Widths: of tokens, of half a feed-forward block, inside the gated attention, and of a
        token in the classifier.
    n_groups
        Groups of genes, and tokens.
    group_sizes
        Genes a group; None shares them out nearly equally.
    attended
        Share of the tiles that a token's genomic weights keep (at least one tile).
    alpha
        Genes whose Welch test between the classes has a p-value below it are rebuilt.
    dropout
        Rate everywhere.
    weight_reconstruction
        Of the reconstruction term.
    """

    dim: int = Field(512, ge=4)
    n_heads: int = Field(4, ge=1)
    dim_hidden: int = Field(2048, ge=1)
    dim_attention: int = Field(256, ge=1)
    dim_token: int = Field(256, ge=1)
    n_groups: int = Field(6, ge=1)
    group_sizes: tuple[int, ...] | None = None
    attended: float = Field(0.2, gt=0, le=1)
    alpha: float = Field(0.05, gt=0, le=1)
    dropout: float = Field(0.25, ge=0, lt=1)
    weight_reconstruction: float = Field(0.3, ge=0)

    @model_validator(mode="after")
    def _agree(self) -> "GHANetOptions":
        if self.group_sizes is not None and len(self.group_sizes) != self.n_groups:
            raise ValueError(f"group_sizes has {len(self.group_sizes)} groups, not {self.n_groups}")
        if self.dim % self.n_heads:
            raise ValueError("dim must be a multiple of n_heads")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Slides of equally many tiles; ``tokens`` are those that rebuild the gene groups."""

    logits: Float[Tensor, "b n_classes"]
    slides: Float[Tensor, "b dim_slide"]
    attention: Float[Tensor, "b n_tiles"]
    tokens: Float[Tensor, "b n_groups dim"]


class GenomicBranch(nn.Module):
    """Tokens that gather from the tiles what gene groups can be rebuilt from (CAB)."""

    def __init__(self, dim_in: int, o: GHANetOptions) -> None:
        super().__init__()
        d, rate = o.dim, o.dropout
        self.tokens = nn.Parameter(torch.randn(1, o.n_groups, d))
        self.encoder = nn.Sequential(nn.Linear(dim_in, d), nn.ReLU(), nn.Dropout(rate))
        self.attention = TokenAttention(d, o.n_heads, dropout=rate)  # used twice, as published
        self.feed_1 = GatedFeedForward(d, o.dim_hidden, dropout=rate)
        self.feed_2 = GatedFeedForward(d, o.dim_hidden, dropout=rate)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(6))

    def forward(
        self, tiles: Float[Tensor, "b n_tiles dim_in"]
    ) -> tuple[Float[Tensor, "b n_groups dim"], Float[Tensor, "b n_groups n_tiles"]]:
        """Give the tokens, and how they score the tiles in the second attention."""
        norm_1, norm_2, norm_3, norm_4, norm_5, norm_6 = self.norms
        context = norm_2(self.encoder(tiles))
        tokens = self.tokens.expand(len(tiles), -1, -1)
        result, _ = self.attention(norm_1(tokens), context)
        result = self.feed_1(norm_3(result)) + result
        result, scores = self.attention(norm_4(tokens + result), context)
        return norm_6(self.feed_2(norm_5(result)) + result), scores


class HyperConvolution(nn.Module):
    """G + ReLU(LN(W_2 ReLU(LN(W_1 G)))), G what the tokens' weights gather from the tiles."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
            nn.ReLU(),
        )

    def forward(self, gathered: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """Transform each row and add it."""
        result: Tensor = self.steps(gathered) + gathered
        return result


class GeneGroups(nn.Module):
    """Which gene stands in which group, which of them are rebuilt, and the heads that do it."""

    order: Int64[Tensor, " n_genes"]
    is_target: Bool[Tensor, " n_genes"]

    def __init__(self, sizes: Sequence[int], o: GHANetOptions) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(o.dim, o.dim),
                nn.LayerNorm(o.dim),
                nn.ELU(),
                nn.Dropout(o.dropout),
                nn.Linear(o.dim, size),
            )
            for size in sizes
        )
        self.register_buffer("order", torch.arange(sum(sizes)))
        self.register_buffer("is_target", torch.ones(sum(sizes), dtype=torch.bool))

    def forward(self, tokens: Float[Tensor, "b n_groups dim"]) -> list[Float[Tensor, "b size"]]:
        """Rebuild each group from its token."""
        return [head(tokens[:, i]) for i, head in enumerate(self.heads)]

    def distance(
        self, tokens: Float[Tensor, "b n_groups dim"], rna: Float[Tensor, "b n_genes"]
    ) -> Float[Tensor, " b"]:
        """Give the sum over groups of (1 - cos)^3 + MSE on their target genes."""
        wanted = torch.split(rna[:, self.order], self.sizes, dim=1)
        targets = torch.split(self.is_target, self.sizes)
        parts = [
            sample_distance(rebuilt[:, mask], truth[:, mask])
            for rebuilt, truth, mask in zip(self(tokens), wanted, targets, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)


class GHANet(BagClassifier):
    """Genome-informed hyper-attention; RNA is only ever a target, the same network serves.

    A slide without RNA feeds the classifier alone; RNA without a slide helps to choose genes.

    Parameters
    ----------
    dims
        Widths the data dictate.
    options
        Hyper-parameters.

    Raises
    ------
    ConfigError
        G04 fewer genes than groups, or group sizes that do not add up to the genes.
    """

    Options: ClassVar[type[config.Options]] = GHANetOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    needs_rna: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("genes",)
    options: GHANetOptions

    def __init__(self, dims: Dims, options: GHANetOptions) -> None:
        super().__init__(dims, options)
        o = options
        self.encoder = nn.Sequential(
            nn.Linear(dims.dim_in, o.dim), nn.LayerNorm(o.dim), nn.ReLU(), nn.Dropout(o.dropout)
        )
        self.morphology = GatedAttention(o.dim, o.dim_attention)
        self.genomic = GenomicBranch(dims.dim_in, o)
        self.hyper = HyperConvolution(o.dim)
        self.attention = TokenAttention(o.dim, o.n_heads, dropout=o.dropout)
        self.norm = nn.LayerNorm(o.dim)
        self.feed = GatedFeedForward(o.dim, o.dim_hidden, dropout=o.dropout)
        self.squeeze = nn.Sequential(
            nn.Linear(o.dim, o.dim_token),
            nn.LayerNorm(o.dim_token),
            nn.ReLU(),
            nn.Dropout(o.dropout),
        )
        self.head = nn.Linear(o.n_groups * o.dim_token, dims.n_classes)
        if dims.n_genes is not None:
            self.genes = GeneGroups(_group_sizes(dims.n_genes, o), o)

    def forward(self, bag: Bag) -> Output:
        """Score one slide; its attention is the mean over tokens of the weights that gather."""
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides; those of equally many tiles go together."""
        outputs: dict[int, Output] = {}
        for places, reading in self.read(bags):
            for row, place in enumerate(places):
                outputs[place] = Output(
                    logits=reading.logits[row],
                    attention=reading.attention[row],
                    embedding=reading.slides[row],
                )
        return [outputs[place] for place in range(len(bags))]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give ``ce`` over slides and ``reconstruction`` over slides with RNA.

        Raises
        ------
        ValueError
            A model built without ``n_genes``.
        """
        if self.dims.n_genes is None:
            raise ValueError("G-HANet without n_genes is built to predict, not to learn")
        slides = [s for s in batch if s.bag is not None]
        if not slides:
            return Losses(terms={})
        weight = self.head.weight
        logits, labels, distances = [], [], []
        for places, reading in self.read([s.bag for s in slides if s.bag is not None]):
            group = [slides[place] for place in places]
            logits.append(reading.logits)
            labels += [s.label for s in group]
            paired = [row for row, s in enumerate(group) if s.rna is not None]
            if paired:
                rna = torch.stack([r for s in group if (r := s.rna) is not None]).to(weight)
                distances.append(self.genes.distance(reading.tokens[paired], rna))
        target = torch.tensor(labels, device=weight.device)
        terms, fed = {"ce": cross_entropy(torch.cat(logits), target)}, {"ce": len(slides)}
        if distances:
            rebuilt = torch.cat(distances)
            terms["reconstruction"] = self.options.weight_reconstruction * rebuilt.mean()
            fed["reconstruction"] = len(rebuilt)
        return Losses(terms=terms, fed=fed)

    def prepare(self, samples: SampleSource) -> None:
        """Group the genes by correlation and choose those to rebuild, on training cases alone.

        Genes are put in the order of the leaves of an average-linkage tree on 1 - correlation and
        cut into consecutive groups. A group none of whose genes differs between the classes keeps
        the one with the smallest p-value.
        """
        rna, labels = _expression(samples)
        if len(rna) < 2 or len(set(labels)) < 2:
            self.start_notes = ("too few cases with RNA to choose genes: all are rebuilt",)
            return
        order = _correlation_order(rna)
        values = np.nan_to_num(_welch(rna, labels)[order], nan=1.0)
        is_target = values < self.options.alpha
        start = 0
        for size in self.genes.sizes:
            if not is_target[start : start + size].any():
                is_target[start + int(values[start : start + size].argmin())] = True
            start += size
        self.genes.order.copy_(torch.from_numpy(order))
        self.genes.is_target.copy_(torch.from_numpy(is_target))

    def diagnostics(self) -> dict[str, float]:
        """Give the number of genes that are rebuilt."""
        return {"target_genes": float(self.genes.is_target.sum())}

    def read(self, bags: Sequence[Bag]) -> list[tuple[list[int], Reading]]:
        """Read slides, grouped by their number of tiles; places are those in ``bags``."""
        groups: dict[int, list[int]] = {}
        for place, bag in enumerate(bags):
            groups.setdefault(len(bag), []).append(place)
        dtype = self.head.weight.dtype
        return [
            (places, self.read_tiles(torch.stack([bags[p].embeddings.to(dtype) for p in places])))
            for places in groups.values()
        ]

    def read_tiles(self, tiles: Float[Tensor, "b n_tiles dim_in"]) -> Reading:
        """Read slides of equally many tiles."""
        b, n = tiles.shape[:2]
        tokens, scores = self.genomic(tiles)
        encoded = self.encoder(tiles)
        raw = self.morphology(encoded.flatten(0, 1)).view(b, 1, n)
        wide = torch.promote_types(raw.dtype, torch.float32)
        by_form = torch.softmax(raw.to(wide), dim=2)
        weights = (by_form + self._genomic_weights(scores.detach().to(wide))) / 2
        features = (self.hyper(weights.to(encoded.dtype) @ encoded) + tokens) / 2
        mixed, _ = self.attention(features, features)
        features = mixed + features
        features = self.feed(self.norm(features)) + features
        slides = self.squeeze(features).flatten(1)
        return Reading(
            logits=self.head(slides), slides=slides, attention=weights.mean(dim=1), tokens=tokens
        )

    def _genomic_weights(
        self, scores: Float[Tensor, "b n_groups n_tiles"]
    ) -> Float[Tensor, "b n_groups n_tiles"]:
        lowest = lowest_kept(scores, self.options.attended)
        return torch.softmax(torch.where(scores >= lowest, scores, _OFF), dim=2)


def sample_distance(
    rebuilt: Float[Tensor, "b size"], truth: Float[Tensor, "b size"]
) -> Float[Tensor, " b"]:
    """Give (1 - cos)^3 + mean squared error of each row."""
    angle = (1 - cosine_similarity(rebuilt, truth, dim=1)) ** 3
    return angle + mse_loss(rebuilt, truth, reduction="none").mean(dim=1)


def _group_sizes(n_genes: int, o: GHANetOptions) -> tuple[int, ...]:
    if o.group_sizes is not None:
        if sum(o.group_sizes) != n_genes:
            what = f"group_sizes add up to {sum(o.group_sizes)}; the panel has {n_genes} genes"
            raise ConfigError.of("G04", "model g_hanet", what, "leave group_sizes out")
        return o.group_sizes
    if n_genes < o.n_groups:
        what = f"needs a gene a group: the panel has {n_genes} genes for {o.n_groups} groups"
        raise ConfigError.of("G04", "model g_hanet", what, "raise panel.n_genes")
    small, more = divmod(n_genes, o.n_groups)
    return tuple(small + (i < more) for i in range(o.n_groups))


def _expression(samples: SampleSource) -> tuple[Float[np.ndarray, "n n_genes"], list[int]]:
    """Give RNA and label of each case that has RNA, once."""
    first: dict[str, int] = {}
    for place, key in enumerate(samples.keys):
        if key.has_rna:
            first.setdefault(key.case_id, place)
    found = [(samples.rna(place), samples.keys[place].label) for place in first.values()]
    rows = [rna.double().cpu().numpy() for rna, _ in found if rna is not None]
    labels = [label for rna, label in found if rna is not None]
    return np.stack(rows) if rows else np.zeros((0, 0)), labels


def _correlation_order(rna: Float[np.ndarray, "n n_genes"]) -> Int64[np.ndarray, " n_genes"]:
    if rna.shape[1] < 2:
        return np.arange(rna.shape[1])
    spread = rna.std(axis=0)
    standard = (rna - rna.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    distance = 1 - standard.T @ standard / len(rna)
    condensed = distance[np.triu_indices(len(distance), k=1)]
    from scipy.cluster.hierarchy import average, leaves_list

    return leaves_list(average(np.clip(condensed, 0, None))).astype(np.int64)


def _welch(
    rna: Float[np.ndarray, "n n_genes"], labels: Sequence[int]
) -> Float[np.ndarray, " n_genes"]:
    """Give p-values; with more than two classes of the last against the rest."""
    from scipy.stats import ttest_ind

    positive = np.asarray(labels) == max(labels)
    if min(int(positive.sum()), int((~positive).sum())) < 2:
        return np.ones(rna.shape[1])
    with warnings.catch_warnings():
        # a gene (nearly) constant within a class: its p-value is NaN, and counts as 1
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(ttest_ind(rna[positive], rna[~positive], equal_var=False).pvalue)
