"""The samples of one side of a fold, read when asked for and kept while memory allows."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from momkd.data.panel import Panel
from momkd.types import Bag, Cohort, Sample, SampleKey, SlideFile


class SampleSet:
    """One sample a slide, with its case's RNA if any, and one for each case with RNA alone.

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
        Bags are kept in memory up to this size; beyond it they are read again.
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
        self._slides = cohort.slides
        self._read = read
        self._cache: dict[str, Bag] = {}
        self._room = int(cache_gib * 2**30)
        self._wait_s = 0.0
        side = set(case_ids)
        cases = sorted((c for c in cohort.cases if c.case_id in side), key=lambda c: c.case_id)
        self._rna = _rna_of(cohort, [c.case_id for c in cases if c.has_rna], panel)
        keys = []
        for case in cases:
            has_rna = case.case_id in self._rna
            places: list[str | None] = list(case.slide_ids)
            if not places and has_rna:
                places = [None]
            keys += [
                SampleKey(case_id=case.case_id, slide_id=s, label=case.label, has_rna=has_rna)
                for s in places
            ]
        self.keys: Sequence[SampleKey] = tuple(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        key = self.keys[index]
        bag = None if key.slide_id is None else self._bag(key.slide_id)
        rna = self._rna.get(key.case_id)
        return Sample(case_id=key.case_id, label=key.label, bag=bag, rna=rna)

    @property
    def wait_s(self) -> float:
        """Seconds that consumers of :meth:`iterate` have waited for data so far."""
        return self._wait_s

    def iterate(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Give samples in order; the next one is read while the caller works.

        An error while reading reaches the caller at the sample it belongs to.
        """
        if self._all_cached(indices):
            for index in indices:
                yield self[index]
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.__getitem__, indices[0]) if indices else None
            for following in [*indices[1:], None]:
                if ahead is None:
                    return
                started = time.perf_counter()
                sample = ahead.result()
                self._wait_s += time.perf_counter() - started
                ahead = None if following is None else pool.submit(self.__getitem__, following)
                yield sample

    def _all_cached(self, indices: Sequence[int]) -> bool:
        slides = (self.keys[i].slide_id for i in indices)
        return all(s is None or s in self._cache for s in slides)

    def _bag(self, slide_id: str) -> Bag:
        bag = self._cache.get(slide_id)
        if bag is None:
            bag = self._read(self._slides[slide_id])
            size = bag.embeddings.nbytes + (0 if bag.neighbours is None else bag.neighbours.nbytes)
            if size <= self._room:
                self._room -= size
                self._cache[slide_id] = bag
        return bag


def _rna_of(cohort: Cohort, case_ids: list[str], panel: Panel | None) -> dict[str, torch.Tensor]:
    if panel is None or cohort.expression is None or not case_ids:
        return {}
    values = torch.from_numpy(panel.transform(cohort.expression, case_ids))
    return dict(zip(case_ids, values, strict=True))
