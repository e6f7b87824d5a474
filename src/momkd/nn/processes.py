"""The processes that share a training, as tensors see them: sums and words over all of them.

A process alone has the same operations, and each gives back what it was given; code that asks
for a sum over processes reads the same for one and for several.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from momkd.errors import InterruptedRunError

LOST = "T19"

T = TypeVar("T")


class Processes:
    """One process alone; :class:`SeveralProcesses` are more.

    Attributes
    ----------
    rank, size
        Number of this process, from 0, and how many there are. The first one alone writes.
    """

    rank = 0
    size = 1

    def sum(self, x: Tensor) -> Tensor:
        """Add up tensors of one shape; all processes are given the same bits."""
        return x

    def share(self, make: Callable[[], T]) -> T:
        """Let the first process make something, and give it to all; it lies on the CPU."""
        return make()

    def collect(self, word: T) -> list[T]:
        """Give every process the words of all, in the order of their numbers."""
        return [word]


ALONE = Processes()


class SeveralProcesses(Processes):
    """The processes of torch's default group, which this one has joined.

    All of them ask for the same things in the same order.

    Raises
    ------
    InterruptedRunError
        T19, by any operation: another process is gone.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def sum(self, x: Tensor) -> Tensor:
        """Add up tensors of one shape; all processes are given the same bits."""
        total = x.detach().clone().contiguous()
        with self._all_answer():
            dist.all_reduce(total)
        return total

    def share(self, make: Callable[[], T]) -> T:
        """Let the first process make something, and give it to all; it lies on the CPU."""
        box: list[Any] = [make() if self.rank == 0 else None]
        with self._all_answer():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def collect(self, word: T) -> list[T]:
        """Give every process the words of all, in the order of their numbers."""
        words: list[Any] = [None] * self.size
        with self._all_answer():
            dist.all_gather_object(words, word)
        return words

    @contextmanager
    def _all_answer(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            text = " ".join(str(error).split())
            where = f"process {self.rank + 1} of {self.size}"
            what = f"another process of this training is gone ({text[:80]})"
            raise InterruptedRunError.of(LOST, where, what, "the same command goes on") from error
