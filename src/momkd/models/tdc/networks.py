"""The networks of TDC: of the slide (the student), of RNA, and the teacher of both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from momkd.models.tdc.options import TDCOptions
from momkd.nn.batch_norm import BatchNorm
from momkd.nn.bilinear_fusion import BilinearFusion
from momkd.nn.pooling import GatedAttention, pack, segment_softmax, segment_sum
from momkd.types import Bag, Dims

_RNA_WIDTHS = (64, 48, 32)
_RNA_DROPOUT = 0.1


def pack_tiles(
    bags: Sequence[Bag], like: Tensor
) -> tuple[Float[Tensor, "n_tiles dim_in"], list[int]]:
    """Lay the tiles of several bags one after another, and give how many each has."""
    tiles, _ = pack([bag.embeddings for bag in bags], like.dtype)
    return tiles, [len(bag) for bag in bags]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideReading:
    """What a slide net makes of packed slides."""

    features: Float[Tensor, "n_slides dim_feature"]
    logits: Float[Tensor, "n_slides n_classes"]
    attention: Float[Tensor, " n_tiles"]


class SlideNet(nn.Module):
    """Gated attention pooling, then Linear, batch norm and ReLU to the feature, then a classifier.

    Stands where the published code has a ResNet-18 on one region.
    """

    def __init__(self, dims: Dims, o: TDCOptions) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(dims.dim_in, o.dim), nn.ReLU(), nn.Dropout(o.dropout)
        )
        self.attention = GatedAttention(o.dim, o.dim_attention, dropout=o.dropout)
        self.project = nn.Linear(o.dim, o.dim_feature)
        self.norm = BatchNorm(o.dim_feature)
        self.head = nn.Linear(o.dim_feature, dims.n_classes)

    def forward(self, tiles: Float[Tensor, "n_tiles dim_in"], sizes: Sequence[int]) -> SlideReading:
        """Read slides whose tiles lie one after another, ``sizes`` tiles each."""
        counts = torch.tensor(sizes, device=tiles.device)
        segments = torch.repeat_interleave(counts, output_size=len(tiles))
        return self.read(tiles, segments, len(sizes))

    def read(
        self, tiles: Float[Tensor, "n_tiles dim_in"], segments: Int64[Tensor, " n_tiles"], n: int
    ) -> SlideReading:
        """Read ``n`` slides; ``segments`` says which of them a tile is of."""
        encoded = self.encoder(tiles)
        attention = segment_softmax(self.attention(encoded), segments, n)
        slides = segment_sum(attention[:, None] * encoded, segments, n)
        features = torch.relu(self.norm(self.project(slides)))
        return SlideReading(features=features, logits=self.head(features), attention=attention)


class RNANet(nn.Module):
    """Four Linear + ELU + AlphaDropout, ReLU, a classifier; weights N(0, 1/fan_in), biases 0."""

    def __init__(self, n_genes: int, dim_feature: int, n_classes: int) -> None:
        super().__init__()
        widths = [n_genes, *_RNA_WIDTHS, dim_feature]
        steps: list[nn.Module] = []
        for dim_in, dim_out in pairwise(widths):
            steps += [nn.Linear(dim_in, dim_out), nn.ELU(), nn.AlphaDropout(_RNA_DROPOUT)]
        self.encoder = nn.Sequential(*steps)
        self.head = nn.Linear(dim_feature, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                nn.init.zeros_(module.bias)

    def forward(
        self, rna: Float[Tensor, "n n_genes"]
    ) -> tuple[Float[Tensor, "n dim_feature"], Float[Tensor, "n n_classes"]]:
        """Give features and logits."""
        features = torch.relu(self.encoder(rna))
        return features, self.head(features)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherReading:
    """What the teacher's three heads say of paired samples, and its fused feature."""

    fused: Float[Tensor, "n n_classes"]
    slide: Float[Tensor, "n n_classes"]
    rna: Float[Tensor, "n n_classes"]
    feature: Float[Tensor, "n dim_feature"]


class Teacher(nn.Module):
    """Slide net, RNA net and their gated bilinear fusion, each with a classifier."""

    auroc: Tensor

    def __init__(self, dims: Dims, o: TDCOptions) -> None:
        super().__init__()
        assert dims.n_genes is not None
        d = o.dim_feature
        self.slide_net = SlideNet(dims, o)
        self.rna_net = RNANet(dims.n_genes, d, dims.n_classes)
        self.fusion = BilinearFusion(
            d, d, dim_hidden=d, dim_out=d, dropout=o.dropout, batch_norm=True
        )
        self.head = nn.Linear(d, dims.n_classes)
        self.register_buffer("auroc", torch.tensor(math.nan))  # of the epoch that was kept

    def forward(
        self,
        tiles: Float[Tensor, "n_tiles dim_in"],
        sizes: Sequence[int],
        rna: Float[Tensor, "n n_genes"],
    ) -> TeacherReading:
        """Read paired samples."""
        slides = self.slide_net(tiles, sizes)
        features, rna_logits = self.rna_net(rna)
        fused = self.fusion(slides.features, features)
        return TeacherReading(
            fused=self.head(fused), slide=slides.logits, rna=rna_logits, feature=fused
        )
