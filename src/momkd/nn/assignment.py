"""Which slot of the memory each point goes to, and what a step's points add up to.

MoMKD, section 3.3.2. A slot's flat number is ``label * n_slots + place``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from momkd.nn.processes import ALONE, Processes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """Flat numbers of the nearest own slots of one modality's points.

    The points and their classes are there where they are to move the memory.
    """

    slots: Int64[Tensor, " n"]
    points: Float[Tensor, "n dim"] | None = None
    labels: Int64[Tensor, " n"] | None = None

    def of_class(self, label: int) -> Float[Tensor, "n_own dim"]:
        """Give the points of one class."""
        assert self.points is not None
        assert self.labels is not None
        return self.points[self.labels == label]


def nearest_slots(
    points: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    slots: Float[Tensor, "n_classes n_slots dim"],
) -> Int64[Tensor, " n"]:
    """Give the flat number of each point's Euclidean-nearest slot among those of its own class."""
    n_classes, n_slots, _ = slots.shape
    with torch.no_grad():
        flat = slots.flatten(0, 1)
        distances = flat.square().sum(dim=1) - 2 * points @ flat.T  # less |p|^2, common to all
        own = distances.view(len(points), n_classes, n_slots)[torch.arange(len(points)), labels]
        return labels * n_slots + own.argmin(dim=1)


class SharedAssignments:
    """The assignments of one step, of whatever processes share its batch.

    Parameters
    ----------
    modalities
        Those of this process, in an order that is the same in all; without points, an empty one.
    processes
        Who shares the batch.
    """

    def __init__(self, modalities: Sequence[Assignment], processes: Processes = ALONE) -> None:
        self._modalities = modalities
        self._processes = processes

    def count(self, n_slots: int) -> Int64[Tensor, " n_slots"]:
        """Give how many points went to each slot, whatever their modality."""
        flat = torch.cat([part.slots for part in self._modalities])
        return self._processes.sum(torch.bincount(flat, minlength=n_slots))

    def sums(
        self, like: Float[Tensor, "n_slots dim"]
    ) -> Iterator[tuple[Float[Tensor, "n_slots dim"], Int64[Tensor, "n_slots 1"]]]:
        """Give sum and number of the points of each slot, one modality after the other."""
        for part in self._modalities:
            assert part.points is not None
            points = part.points.to(like.dtype)
            sums = torch.zeros_like(like).index_add(0, part.slots, points)
            sizes = torch.bincount(part.slots, minlength=len(like))[:, None]
            yield self._processes.sum(sums), self._processes.sum(sizes)

    def draw(self, label: int) -> Float[Tensor, " dim"] | None:
        """Draw a random point of one class; None where no process has any.

        The draw is torch's global generator's, which stands alike in all processes. Points count
        in the order of modalities, and within one in that of the batch, as one process has them.
        """
        own = [part.of_class(label) for part in self._modalities]
        counts = self._processes.collect([len(points) for points in own])
        n_points = sum(map(sum, counts))
        if not n_points:
            return None
        place = int(torch.randint(n_points, ()))
        drawn = own[0].new_zeros(own[0].shape[1])
        for number, points in enumerate(own):
            for rank, of_rank in enumerate(counts):
                if 0 <= place < of_rank[number] and rank == self._processes.rank:
                    drawn = points[place]
                place -= of_rank[number]
        return self._processes.sum(drawn)
