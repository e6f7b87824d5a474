"""The memory: a few vectors a class, what pulls tiles to them, and the ways they move.

MoMKD, section 3.3.2. Points (projections of tiles or of RNA) are unit vectors. A *slot* is one
vector of the memory; its flat number is ``label * n_slots + place``.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

from momkd.nn.assignment import SharedAssignments

DEAD_SHARE = 0.1
_TWIN_COSINE = 0.99


def quantisation(
    points: Float[Tensor, "n dim"],
    slots: Float[Tensor, "n_classes n_slots dim"],
    nearest: Int64[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Give |p - sg(c)|^2 for each point and its nearest slot; eq. 11, first term."""
    chosen = slots.detach().flatten(0, 1).index_select(0, nearest)
    return (points - chosen).square().sum(dim=1)


def orthogonality(
    unit_slots: Float[Tensor, "n_classes n_slots dim"],
) -> Float[Tensor, " n_classes"]:
    """Give sum over i != j of cos^2(c_i, c_j) within each class; eq. 11, second term."""
    products = unit_slots @ unit_slots.transpose(1, 2)
    itself = torch.eye(products.shape[1], dtype=torch.bool, device=products.device)
    return products.masked_fill(itself, 0).square().sum(dim=(1, 2))


def spherical_kmeans(
    points: Float[Tensor, "n dim"], n_centres: int, n_steps: int
) -> tuple[Float[Tensor, "n_centres dim"], int]:
    """Cluster unit vectors by cosine, from random distinct points of torch's global generator.

    A centre that loses all its points goes to the point worst represented. With no more distinct
    points than centres, the centres are those points, repeated with a little noise.

    Returns
    -------
    centres, n_distinct
        Unit vectors, and how many distinct points there were.
    """
    distinct = torch.unique(points, dim=0)
    distinct = distinct[torch.randperm(len(distinct)).to(points.device)]
    if len(distinct) <= n_centres:
        centres = distinct[torch.arange(n_centres, device=points.device) % len(distinct)]
        noise = torch.randn(centres.shape).to(centres) * 0.01 / math.sqrt(centres.shape[1])
        noise[: len(distinct)] = 0
        return normalize(centres + noise, dim=1), len(distinct)
    centres = distinct[:n_centres].clone()
    for _ in range(n_steps):
        cosine, owner = (points @ centres.T).max(dim=1)
        sums = torch.zeros_like(centres).index_add(0, owner, points)
        settled = sums.norm(dim=1, keepdim=True) > 1e-6
        centres = torch.where(settled, normalize(sums, dim=1), centres)
        lost = (torch.bincount(owner, minlength=n_centres) == 0).nonzero().flatten()
        centres[lost] = points[cosine.topk(len(lost), largest=False).indices]
    return centres, len(distinct)


class ClassMemory(nn.Module):
    """``n_slots`` vectors for each class.

    Parameters
    ----------
    n_classes, n_slots, dim
        Shape of ``slots``.
    learned
        The slots are a parameter; otherwise a buffer that only :meth:`start` and :meth:`move`
        change.
    """

    slots: Float[Tensor, "n_classes n_slots dim"]

    def __init__(self, n_classes: int, n_slots: int, dim: int, *, learned: bool) -> None:
        super().__init__()
        slots = normalize(torch.randn(n_classes, n_slots, dim), dim=-1)
        if learned:
            self.slots = nn.Parameter(slots)
        else:
            self.register_buffer("slots", slots)

    def unit(self) -> Float[Tensor, "n_classes n_slots dim"]:
        """Give the slots as unit vectors: the only form that enters a product."""
        return normalize(self.slots, dim=-1)

    @torch.no_grad()
    def closeness(self) -> dict[str, float]:
        """Say how near the two classes are to each other.

        ``collapse_classes`` is 1 where every slot has a twin in the other class, so that no tile
        can say anything for either. ``cos_class_means`` is a figure, no verdict: on simulated
        cohorts with sound scores it starts near .98.
        """
        slots = self.unit()
        means = normalize(slots.mean(dim=1), dim=1)
        across = slots[0] @ slots[1].T
        alone = min(float(across.amax(dim=0).min()), float(across.amax(dim=1).min()))
        return {
            "cos_class_means": float(means[0] @ means[1]),
            "collapse_classes": float(alone > _TWIN_COSINE),
        }

    @torch.no_grad()
    def start(self, label: int, points: Float[Tensor, "n dim"], n_steps: int) -> int:
        """Set one class's slots by spherical k-means; give the number of distinct points."""
        centres, n_distinct = spherical_kmeans(points, self.slots.shape[1], n_steps)
        self.slots[label] = centres
        return n_distinct

    @torch.no_grad()
    def start_poles(self) -> None:
        """Set slot k of the second class to axis k and that of the first to its opposite.

        Raises
        ------
        ValueError
            Other than two classes, or more slots than axes.
        """
        n_classes, n_slots, dim = self.slots.shape
        if n_classes != 2 or n_slots > dim:
            raise ValueError(f"{n_slots} pairs of poles of {n_classes} classes, {dim} axes")
        axes = torch.eye(n_slots, dim).to(self.slots)
        self.slots.copy_(torch.stack([-axes, axes]))

    @torch.no_grad()
    def renormalise(self) -> None:
        """Put every slot back on the unit sphere."""
        self.slots.copy_(self.unit())

    @torch.no_grad()
    def move(self, assigned: SharedAssignments, momentum: float) -> None:
        """Move slots towards what was assigned to them.

        c <- normalise(m c + (1 - m) mean), the mean over modalities of the mean of the points of
        that modality: one RNA vector would drown among thousands of tiles. Slots to which nothing
        was assigned stay.
        """
        flat = self.slots.flatten(0, 1)
        means, n_modalities = torch.zeros_like(flat), flat.new_zeros(len(flat), 1)
        for sums, sizes in assigned.sums(flat):
            means += sums / sizes.clamp(min=1)
            n_modalities += sizes > 0
        moved = momentum * flat + (1 - momentum) * means / n_modalities.clamp(min=1)
        flat = torch.where(n_modalities > 0, normalize(moved, dim=1), flat)
        self.slots.copy_(flat.view_as(self.slots))

    @torch.no_grad()
    def replace(self, slot: int, point: Float[Tensor, " dim"]) -> None:
        """Put one slot, named by its flat number, onto a point."""
        self.slots.flatten(0, 1)[slot] = point.to(self.slots.dtype)


class SlotUsage(nn.Module):
    """Who uses the memory: a histogram of assignments, and how long each slot has had none.

    The counts are buffers, so that a resumed run counts on.
    """

    counts: Int64[Tensor, "n_classes n_slots"]
    idle_steps: Int64[Tensor, "n_classes n_slots"]
    revived: Int64[Tensor, " n_classes"]

    def __init__(self, n_classes: int, n_slots: int) -> None:
        super().__init__()
        zeros = torch.zeros(n_classes, n_slots, dtype=torch.int64)
        self.register_buffer("counts", zeros)
        self.register_buffer("idle_steps", zeros.clone())
        self.register_buffer("revived", zeros[:, 0].clone())

    @torch.no_grad()
    def count(self, assigned: SharedAssignments) -> None:
        """Count one step's assignments; a class without any in this step does not age."""
        hits = assigned.count(self.counts.numel()).view_as(self.counts)
        self.counts += hits
        present = hits.sum(dim=1, keepdim=True) > 0
        aged = torch.where(present, self.idle_steps + 1, self.idle_steps)
        self.idle_steps.copy_(torch.where(hits > 0, 0, aged))

    @torch.no_grad()
    def revive(self, memory: ClassMemory, assigned: SharedAssignments, after: int) -> None:
        """Put slots without a point for ``after`` steps of their class onto random points of it.

        The points are of this step; the draw is torch's global generator's.
        """
        dead = (self.idle_steps >= after).flatten().nonzero().flatten().tolist()
        n_slots = self.counts.shape[1]
        for slot in dead:
            label = slot // n_slots
            point = assigned.draw(label)
            if point is not None:
                memory.replace(slot, point)
                self.idle_steps.view(-1)[slot] = 0
                self.revived[label] += 1

    def take(self) -> dict[str, float]:
        """Give each class's active share of slots, perplexity and revivals, and count anew.

        A slot is active with at least a tenth of an even share of the class's points; perplexity
        is exp of the entropy of the shares, n_slots when even. NaN for a class without a point.
        """
        figures: dict[str, float] = {}
        shares = self.counts.double() / self.counts.sum(dim=1, keepdim=True)
        active = (shares >= DEAD_SHARE / shares.shape[1]).double().mean(dim=1)
        perplexity = torch.exp(torch.special.entr(shares).sum(dim=1))
        for label, seen in enumerate(self.counts.sum(dim=1).tolist()):
            figures[f"active_ratio_{label}"] = float(active[label]) if seen else math.nan
            figures[f"perplexity_{label}"] = float(perplexity[label]) if seen else math.nan
            figures[f"revived_{label}"] = float(self.revived[label])
        self.counts.zero_()
        self.revived.zero_()
        return figures
