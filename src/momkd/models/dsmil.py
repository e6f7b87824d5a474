"""DSMIL: the tile that scores highest asks all others how alike they are, and the bag is scored so.

Li, Li, Eliceiri, CVPR 2021, arXiv 2011.08939, in the form of its published code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.pooling import pack
from momkd.types import Bag, Dims, Losses, Output, Sample


class DSMILOptions(config.Options):
    """Hyper-parameters of DSMIL.

    Parameters
    ----------
    n_labels
        2: negative and positive are two independent labels, each with its sigmoid; 1: positive
        alone. The probability of a slide is the positive label's either way.
    dim_query
        Width of a query.
    nonlinear
        Queries by Linear, ReLU, Linear, tanh; otherwise by one Linear.
    project_values
        Dropout, Linear and ReLU on the tiles that are averaged; otherwise they are taken raw.
    dropout
        Rate before that projection.
    score
        What a slide is scored by: its ``bag`` logit (code) or the ``mean`` of both streams'
        probabilities (paper).
    """

    n_labels: Literal[1, 2] = 2
    dim_query: int = Field(128, ge=1)
    nonlinear: bool = True
    project_values: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    score: Literal["bag", "mean"] = "bag"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Both streams of one slide; labels last."""

    instances: Float[Tensor, "n_tiles n_labels"]
    bag: Float[Tensor, " n_labels"]
    attention: Float[Tensor, "n_tiles n_labels"]
    embedding: Float[Tensor, "n_labels dim_in"]

    @property
    def critical(self) -> Float[Tensor, " n_labels"]:
        """The highest instance logit of each label."""
        return self.instances.amax(dim=0)


class DSMIL(BagClassifier):
    """Dual-stream MIL; histology only, two classes.

    Raises
    ------
    ValueError
        Other than two classes.
    """

    Options: ClassVar[type[config.Options]] = DSMILOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    options: DSMILOptions

    def __init__(self, dims: Dims, options: DSMILOptions) -> None:
        super().__init__(dims, options)
        if dims.n_classes != 2:
            raise ValueError(f"DSMIL tells positive from negative, got {dims.n_classes} classes")
        d, q, n_labels = dims.dim_in, options.dim_query, options.n_labels
        self.instance_head = nn.Linear(d, n_labels)
        self.query: nn.Module = nn.Linear(d, q)
        if options.nonlinear:
            self.query = nn.Sequential(nn.Linear(d, q), nn.ReLU(), nn.Linear(q, q), nn.Tanh())
        self.value: nn.Module = nn.Identity()
        if options.project_values:
            self.value = nn.Sequential(nn.Dropout(options.dropout), nn.Linear(d, d), nn.ReLU())
        # every bag logit sees the embeddings of all labels
        self.bag_head = nn.Linear(n_labels * d, n_labels)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.orthogonal_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(self, bag: Bag) -> Output:
        """Score one slide; the softmax of (0, o) is the sigmoid of o."""
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides."""
        return [self.answer(reading) for reading in self.read(bags)]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give half the binary cross-entropy of either stream: ``bag`` and ``instance``."""
        bags = [s.bag for s in batch if s.bag is not None]
        if not bags:
            return Losses(terms={})
        labels = torch.tensor([s.label for s in batch if s.bag is not None])
        readings = self.read(bags)
        logits = torch.stack([r.bag for r in readings])
        critical = torch.stack([r.critical for r in readings])
        positive = labels.to(logits)
        wanted = torch.stack([1 - positive, positive], dim=1)[:, -self.options.n_labels :]
        return Losses(
            terms={
                "bag": binary_cross_entropy_with_logits(logits, wanted) / 2,
                "instance": binary_cross_entropy_with_logits(critical, wanted) / 2,
            },
            fed={"bag": len(bags), "instance": len(bags)},
        )

    def read(self, bags: Sequence[Bag]) -> list[Reading]:
        """Run both streams on each slide."""
        sizes = [len(bag) for bag in bags]
        x, _ = pack([bag.embeddings for bag in bags], self.instance_head.weight.dtype)
        packed = [torch.split(t, sizes) for t in (self.instance_head(x), self.query(x))]
        values = torch.split(self.value(x), sizes)
        return [self._join(*row) for row in zip(*packed, values, strict=True)]

    def read_tiles(self, x: Float[Tensor, "n_tiles dim_in"]) -> Reading:
        """Run both streams on the tiles of one slide."""
        return self._join(self.instance_head(x), self.query(x), self.value(x))

    def answer(self, reading: Reading) -> Output:
        """Score a slide by what was read of it."""
        positive = reading.bag[-1]
        if self.options.score == "mean":
            both = torch.sigmoid(torch.stack([positive, reading.critical[-1]]).float())
            positive = torch.logit(both.mean(), eps=1e-7).to(positive)
        return Output(
            logits=torch.stack([torch.zeros_like(positive), positive]),
            attention=reading.attention[:, -1],
            embedding=reading.embedding[-1],
        )

    def _join(
        self,
        instances: Float[Tensor, "n_tiles n_labels"],
        queries: Float[Tensor, "n_tiles dim_query"],
        values: Float[Tensor, "n_tiles dim_in"],
    ) -> Reading:
        asking = queries[instances.detach().argmax(dim=0)]
        products = queries @ asking.T / math.sqrt(queries.shape[1])
        wide = torch.promote_types(products.dtype, torch.float32)
        attention = torch.softmax(products.to(wide), dim=0)
        embedding = attention.T.to(values.dtype) @ values
        return Reading(
            instances=instances,
            bag=self.bag_head(embedding.flatten()),
            attention=attention,
            embedding=embedding,
        )
