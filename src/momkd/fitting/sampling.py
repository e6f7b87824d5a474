"""What a training visits and which randomness it uses: pure functions of seed, epoch and step.

Nothing here has a state, so a training can go on from any step without one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from numpy.random import SeedSequence
from torch import Tensor

from momkd.types import Sample, SampleKey, SampleSource

T = TypeVar("T")


class Purpose(IntEnum):
    """What a seed is for; each has its own stream."""

    PREPARE = 0
    ORDER = 1
    STEP = 2
    VALIDATION = 3
    AFTER_STEP = 4


def derive_seed(
    seed: int, purpose: Purpose, epoch: int = 0, step: int = 0, *, rank: int = 0
) -> int:
    """Give the seed of one place in a training, a 64-bit number; of one process, if it matters."""
    others = (rank,) if rank else ()  # the first process has what a single one has
    sequence = SeedSequence(seed, spawn_key=(int(purpose), epoch, step, *others))
    return int(sequence.generate_state(1, np.uint64)[0])


def sample_weights(keys: Sequence[SampleKey]) -> Float64[np.ndarray, " n_samples"]:
    """Give each sample's share of an epoch: classes are equal, and cases within a class.

    A sample weighs 1 / (samples of its case x cases of its class), as a share of the total.
    """
    n_samples = Counter(k.case_id for k in keys)
    n_cases = Counter(dict(sorted((k.case_id, k.label) for k in keys)).values())
    weights = np.array([1.0 / (n_samples[k.case_id] * n_cases[k.label]) for k in keys])
    return weights / weights.sum()


def places_to_visit(keys: Sequence[SampleKey], *, rna_alone: bool) -> list[int]:
    """Give the samples that steps are taken on: all with a slide, those without if wanted."""
    return [i for i, key in enumerate(keys) if rna_alone or key.slide_id is not None]


def epoch_order(
    keys: Sequence[SampleKey], *, seed: int, epoch: int, balanced: bool
) -> Int64[np.ndarray, " n_samples"]:
    """Give the samples of one epoch in order; as many as there are.

    Drawn with replacement by :func:`sample_weights` if ``balanced``, else each of them once.
    """
    rng = np.random.default_rng(derive_seed(seed, Purpose.ORDER, epoch))
    if not balanced:
        return rng.permutation(len(keys))
    edges = np.cumsum(sample_weights(keys))
    # the last edge may fall short of 1 by rounding
    drawn = np.searchsorted(edges[:-1], rng.random(len(keys)), side="right")
    return drawn.astype(np.int64)


def batches(samples: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group samples, or their places, by ``size``; the last group may be smaller."""
    stream = iter(samples)
    while batch := list(islice(stream, size)):
        yield batch


def name_keys(keys: Sequence[SampleKey]) -> str:
    """Name samples for a message: their slides, or their cases where there is RNA alone."""
    names = [f"case {k.case_id}" if k.slide_id is None else f"slide {k.slide_id}" for k in keys]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


class Room:
    """Bytes that several may take from."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes

    def take(self, n_bytes: int) -> bool:
        """Take so many, if they are there."""
        there = n_bytes <= self._n_bytes
        self._n_bytes -= n_bytes if there else 0
        return there


class PlacedSamples:
    """A source whose samples arrive on one device, and that lets a stop through before each.

    Parameters
    ----------
    source
        Where the samples come from.
    device
        Where they go.
    before_each
        Called before each sample is read; may raise.
    room
        For samples that stay on the device; those that come too late are sent each time. None:
        all are.
    """

    def __init__(
        self,
        source: SampleSource,
        device: torch.device,
        before_each: Callable[[], None],
        *,
        room: Room | None = None,
    ) -> None:
        self._source = source
        self._device = device
        self._before_each = before_each
        self._room = room
        self._kept: dict[int, Sample] = {}

    @property
    def keys(self) -> Sequence[SampleKey]:
        """Keys of all samples, in order."""
        return self._source.keys

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        self._before_each()
        return self._kept.get(index) or self._place(index, self._source[index])

    def rna(self, index: int) -> Float32[Tensor, " n_genes"] | None:
        """Give the RNA of one sample, if it has any, without reading its slide."""
        self._before_each()
        rna = self._source.rna(index)
        return None if rna is None else rna.to(self._device)

    def iterate(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Give the samples at ``indices`` in that order; only those not kept are read."""
        kept = set(self._kept)
        read = self._source.iterate([index for index in indices if index not in kept])
        for index in indices:
            own = self._kept[index] if index in kept else next(read)
            self._before_each()
            yield own if index in kept else self._place(index, own)

    def groups(self, wanted: Iterable[Sequence[int]]) -> Iterator[list[Sample]]:
        """Give the samples of each group of places, reading ahead from one into the next."""
        groups = list(wanted)
        stream = self.iterate([index for group in groups for index in group])
        for group in groups:
            yield list(islice(stream, len(group)))

    @property
    def wait_s(self) -> float:
        """Seconds spent so far waiting for samples to be read."""
        return self._source.wait_s

    def _place(self, index: int, sample: Sample) -> Sample:
        if index in self._kept:  # drawn twice before it was kept
            return self._kept[index]
        placed = sample.to(self._device)
        n_bytes = 0 if placed.bag is None else placed.bag.n_bytes
        if self._room is not None and self._room.take(n_bytes):
            self._kept[index] = placed
        return placed
