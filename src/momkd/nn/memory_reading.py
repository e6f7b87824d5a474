"""What slides are in the eyes of the memory: attention by evidence, pooled tiles, nearest slots.

The analytic form needs one product of tiles with all slots: evidence, assignment and distance are
read from it, and its gradient goes back through one product more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from momkd.nn.alignment import class_evidence
from momkd.nn.assignment import nearest_slots
from momkd.nn.memory import quantisation
from momkd.nn.pooling import segment_mean, segment_softmax, segment_sum

SMALLEST_NORM = 1e-12
BLOCK_ROWS = 8192


class Question(NamedTuple):
    """What tiles are asked.

    Parameters
    ----------
    sizes
        Tiles of each slide, which stand one after another.
    slots
        Unit vectors (n_classes, n_slots, dim_shared), no gradient.
    targets
        The slots as tiles are drawn to them: of the same directions, no gradient.
    labels
        Class of each slide; None where no distance is asked for.
    with_points
        The projected tiles are wanted though there are no labels.
    """

    sizes: Sequence[int]
    slots: Tensor
    targets: Tensor
    labels: Sequence[int] | None = None
    with_points: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """The answer; tiles of all slides in one tensor, ``pulls`` and ``nearest`` with labels only.

    ``pulls`` is the mean over a slide's tiles of the squared distance to the nearest slot of the
    slide's class, ``nearest`` that slot's flat number; ``evidence`` is eq. 7's score of each tile.
    Gradients pass through ``slides`` and ``pulls``.
    """

    points: Float[Tensor, "n_tiles dim_shared"] | None
    evidence: Float[Tensor, " n_tiles"]
    attention: Float[Tensor, " n_tiles"]
    slides: Float[Tensor, "n_slides dim"]
    pulls: Float[Tensor, " n_slides"] | None
    nearest: Int64[Tensor, " n_tiles"] | None


def attend(
    tiles: Float[Tensor, "n_tiles dim"],
    projection: tuple[Tensor, Tensor],
    temperature: Tensor | float,
    slots: Tensor,
    segments: Int64[Tensor, " n_tiles"],
    n_slides: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Project encoded tiles (weight, bias), attend by evidence, and pool.

    Returns
    -------
    points, evidence, attention, slides
        Of tiles the first three, of slides the last.
    """
    points = normalize(torch.nn.functional.linear(tiles, *projection), dim=1)
    evidence = class_evidence(points, slots)
    attention = segment_softmax(evidence / temperature, segments, n_slides)
    return points, evidence, attention, segment_sum(attention[:, None] * tiles, segments, n_slides)


def read_by_gate(
    tiles: Float[Tensor, "n_tiles dim"],
    scores: Float[Tensor, " n_tiles"],
    projection: tuple[Tensor, Tensor],
    question: Question,
) -> Reading:
    """Pool tiles by scores that are not the memory's; what the memory says of them has no gradient.

    ``pulls`` is left out: nothing draws tiles to slots here.
    """
    sizes = torch.tensor(question.sizes, device=tiles.device)
    segments = torch.repeat_interleave(sizes, output_size=len(tiles))
    attention = segment_softmax(scores, segments, len(question.sizes))
    with torch.no_grad():
        points = normalize(torch.nn.functional.linear(tiles, *projection), dim=1)
        evidence = class_evidence(points, question.slots)
        nearest = None
        if question.labels is not None:
            labels = torch.tensor(question.labels, device=tiles.device).index_select(0, segments)
            nearest = nearest_slots(points, labels, question.targets)
    return Reading(
        points=points,
        evidence=evidence,
        attention=attention,
        slides=segment_sum(attention[:, None] * tiles, segments, len(question.sizes)),
        pulls=None,
        nearest=nearest,
    )


def read_plainly(
    tiles: Float[Tensor, "n_tiles dim"],
    weight: Tensor,
    bias: Tensor,
    temperature: Tensor | float,
    question: Question,
) -> Reading:
    """Read encoded tiles step by step, as the equations stand; ``weight``, ``bias`` project."""
    sizes = torch.tensor(question.sizes, device=tiles.device)
    n_slides = len(question.sizes)
    segments = torch.repeat_interleave(sizes, output_size=len(tiles))
    points, evidence, attention, slides = attend(
        tiles, (weight, bias), temperature, question.slots, segments, n_slides
    )
    pulls = nearest = None
    if question.labels is not None:
        labels = torch.tensor(question.labels, device=tiles.device).index_select(0, segments)
        nearest = nearest_slots(points.detach(), labels, question.targets)
        distances = quantisation(points, question.targets, nearest)
        pulls = segment_mean(distances[:, None], segments, n_slides).flatten()
    return Reading(
        points=points,
        evidence=evidence.detach(),
        attention=attention,
        slides=slides,
        pulls=pulls,
        nearest=nearest,
    )


class HeadPass:
    """The same, with its gradient worked out by hand; see :func:`read_plainly`.

    Parameters
    ----------
    weight, bias
        Of the projection.
    temperature
        Of the attention.
    question
        What is asked.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, temperature: Tensor | float, question: Question
    ) -> None:
        self._weight, self._bias = weight.detach(), bias.detach()
        self._temperature = torch.as_tensor(temperature, dtype=weight.dtype).detach()
        self._question = question
        self._slots = question.slots.detach().flatten(0, 1)
        self._lengths = question.targets.detach().flatten(0, 1).norm(dim=1)

    @torch.no_grad()
    def forward(self, tiles: Tensor) -> Reading:
        """Read encoded tiles; in blocks of rows where only attention is asked for."""
        question = self._question
        with_points = question.with_points or question.labels is not None
        found = []
        for block in torch.split(tiles, len(tiles) if with_points else BLOCK_ROWS):
            points = torch.addmm(self._bias, block, self._weight.T)
            norms = torch.linalg.vector_norm(points, dim=1, keepdim=True)
            points.div_(norms.clamp_(min=SMALLEST_NORM))
            products = points @ self._slots.T
            top = products.view(len(block), len(question.slots), -1).max(dim=2)
            found.append((top.values[:, 1] - top.values[:, 0], top.indices))
        evidence = torch.cat([part for part, _ in found])
        nearest, pulls = self._assign(points, products)
        attention = torch.empty_like(evidence)
        slides = tiles.new_empty(len(question.sizes), tiles.shape[1])
        for number, rows in enumerate(self._slides()):
            torch.softmax(evidence[rows] / self._temperature, 0, out=attention[rows])
            torch.mm(attention[None, rows], tiles[rows], out=slides[number : number + 1])
        if nearest is not None:
            self._kept = (points, norms, evidence, attention, nearest, found[0][1])
        self._reading = Reading(
            points=points if with_points else None,
            evidence=evidence,
            attention=attention,
            slides=slides,
            pulls=pulls,
            nearest=nearest,
        )
        return self._reading

    def reading(self, slides: Tensor, pulls: Tensor) -> Reading:
        """Give what was read with the outputs that gradients pass through; forgets it itself."""
        reading = replace(self._reading, slides=slides, pulls=pulls)
        del self._reading
        return reading

    @torch.no_grad()
    def backward(
        self, tiles: Tensor, d_slides: Tensor, d_pulls: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give the gradients of ``tiles`` (in their place), weight, bias and temperature."""
        points, norms, evidence, attention, nearest, best = self._kept
        del self._kept
        d_attention = torch.empty_like(attention)
        shares = torch.empty_like(attention)
        for number, rows in enumerate(self._slides()):
            torch.mv(tiles[rows], d_slides[number], out=d_attention[rows])
            d_attention[rows] -= torch.dot(attention[rows], d_attention[rows])
            shares[rows] = -2 * d_pulls[number] / len(attention[rows])
        d_scores = d_attention.mul_(attention)
        d_temperature = -torch.dot(d_scores, evidence) / self._temperature.square()
        d_evidence = (d_scores / self._temperature)[:, None]
        # gradients of points are combinations of slots; that of |p| drops out, p is a unit vector
        n_slots = self._question.slots.shape[1]
        mixture = points.new_zeros(len(points), len(self._slots))
        mixture.scatter_(1, best[:, 1:] + n_slots, d_evidence)
        mixture.scatter_(1, best[:, :1], -d_evidence)
        drawn = shares * self._lengths.index_select(0, nearest)
        mixture.scatter_add_(1, nearest[:, None], drawn[:, None])
        d_points = mixture @ self._slots
        along = (d_points * points).sum(dim=1, keepdim=True)
        d_points.addcmul_(points, along, value=-1).div_(norms)
        d_weight, d_bias = d_points.T @ tiles, d_points.sum(dim=0)
        torch.mm(d_points, self._weight, out=tiles)
        for number, rows in enumerate(self._slides()):
            tiles[rows].addr_(attention[rows], d_slides[number])
        return tiles, d_weight, d_bias, d_temperature

    def _assign(self, points: Tensor, products: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Give each tile's nearest slot of its own class, and each slide's mean distance to it."""
        labels = self._question.labels
        if labels is None:
            return None, None
        n_slots = self._question.slots.shape[1]
        nearest = torch.empty(len(points), dtype=torch.int64, device=points.device)
        pulls = points.new_empty(len(labels))
        for number, (label, rows) in enumerate(zip(labels, self._slides(), strict=True)):
            own = slice(label * n_slots, (label + 1) * n_slots)
            lengths = self._lengths[own]
            distances = lengths.square() - 2 * lengths * products[rows, own]
            least = distances.min(dim=1)
            nearest[rows] = least.indices + own.start
            pulls[number] = (least.values + points[rows].square().sum(dim=1)).mean()
        return nearest, pulls

    def _slides(self) -> Iterator[slice]:
        first = 0
        for size in self._question.sizes:
            yield slice(first, first + size)
            first += size
