"""The samples of one side of a fold: read when asked for, kept while memory allows."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from jaxtyping import Float32
from torch import Tensor

from momkd.data.panel import Panel
from momkd.types import Bag, Case, Cohort, Sample, SampleKey, SlideFile


class SampleSet:
    """A sample for each slide of some cases, and one for each case with RNA alone.

    Cases come in the order given, slides of a case in that of their ids.

    Parameters
    ----------
    cohort
        Where cases, files and expression come from.
    case_ids
        The cases of this side.
    panel
        Turns expression into a sample's RNA. None: no sample has RNA, and cases without a slide
        are absent.
    read
        Reads a feature file as a bag.
    cache_gib
        Bags stay in memory up to this much; those that came too late are read again each time.
        Nothing is thrown out to make room: over repeated passes, that would keep fewer.

    Raises
    ------
    KeyError
        A case that is not in the cohort.
    DataError
        O05 the expression lacks genes of the panel.
    """

    def __init__(
        self,
        cohort: Cohort,
        case_ids: Sequence[str],
        panel: Panel | None,
        *,
        read: Callable[[SlideFile], Bag],
        cache_gib: float = 4.0,
    ) -> None:
        by_id = {c.case_id: c for c in cohort.cases}
        cases = [by_id[c] for c in case_ids]
        self._slides = cohort.slides
        self._read = read
        self._rna = _rna_of(cohort, cases, panel)
        self._keys = tuple(key for case in cases for key in self._keys_of(case))
        self._cache: dict[str, Bag] = {}
        self._room_bytes = int(cache_gib * 2**30)
        self._lock = threading.Lock()
        self._wait_s = 0.0

    def _keys_of(self, case: Case) -> list[SampleKey]:
        has_rna = case.case_id in self._rna
        places: list[str | None] = [*sorted(case.slide_ids)]
        if not places and has_rna:
            places = [None]
        return [
            SampleKey(case_id=case.case_id, slide_id=s, label=case.label, has_rna=has_rna)
            for s in places
        ]

    @property
    def keys(self) -> Sequence[SampleKey]:
        """Keys of all samples, in order."""
        return self._keys

    @property
    def slide_digests(self) -> tuple[str, ...]:
        """SHA-256 of the feature files behind the samples, in their order."""
        return tuple(self._slides[k.slide_id].sha256 for k in self._keys if k.slide_id is not None)

    @property
    def wait_s(self) -> float:
        """Seconds that consumers of :meth:`iterate` have waited for data so far."""
        return self._wait_s

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        key = self._keys[index]
        bag = None if key.slide_id is None else self._bag(key.slide_id)
        rna = self._rna.get(key.case_id)
        return Sample(case_id=key.case_id, label=key.label, bag=bag, rna=rna)

    def rna(self, index: int) -> Float32[Tensor, " n_genes"] | None:
        """Give the RNA of one sample, if it has any, without reading its slide."""
        return self._rna.get(self._keys[index].case_id)

    def iterate(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Give samples in order, while a thread reads the one after.

        The thread exists only once something has to be read, and ends with the iterator, also
        when that is closed early. What goes wrong in it is raised here, at the sample concerned.
        """
        ahead: deque[Callable[[], Sample]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="momkd-reader") as reader:
            for index in indices:
                ahead.append(self._start(reader, index))
                if len(ahead) > 1:
                    yield self._wait_for(ahead.popleft())
            while ahead:
                yield self._wait_for(ahead.popleft())

    def _start(self, reader: ThreadPoolExecutor, index: int) -> Callable[[], Sample]:
        slide_id = self._keys[index].slide_id
        if slide_id is None or slide_id in self._cache:
            return partial(self.__getitem__, index)
        return reader.submit(self.__getitem__, index).result

    def _wait_for(self, get: Callable[[], Sample]) -> Sample:
        started = time.perf_counter()
        try:
            return get()
        finally:
            self._wait_s += time.perf_counter() - started

    def _bag(self, slide_id: str) -> Bag:
        bag = self._cache.get(slide_id)
        if bag is not None:
            return bag
        bag = self._read(self._slides[slide_id])
        with self._lock:
            if slide_id not in self._cache and bag.n_bytes <= self._room_bytes:
                self._cache[slide_id] = bag
                self._room_bytes -= bag.n_bytes
        return bag


def _rna_of(
    cohort: Cohort, cases: Sequence[Case], panel: Panel | None
) -> dict[str, Float32[Tensor, " n_genes"]]:
    case_ids = [c.case_id for c in cases if c.has_rna]
    if panel is None or cohort.expression is None or not case_ids:
        return {}
    rows = torch.from_numpy(panel.transform(cohort.expression, case_ids))
    return dict(zip(case_ids, rows, strict=True))
