"""The samples of one side of a fold, from feature files or their packed cache."""

from collections.abc import Sequence
from typing import Any

from momkd.data.features import read_bag
from momkd.data.packed_cache import PackedCache
from momkd.data.panel import Panel
from momkd.data.samples import SampleSet
from momkd.types import Cohort, SlideFile
from momkd.workflows.settings import Settings


def sample_set(
    cohort: Cohort, case_ids: Sequence[str], panel: Panel | None, settings: Settings
) -> SampleSet:
    """Make the samples of one side; bags come from the packed cache, where there is one."""
    cache, k = open_cache(settings), settings.data.neighbours

    def read(file: SlideFile) -> Any:
        return read_bag(file, k=k) if cache is None else cache.read(file, k=k)

    # processes that share a training share the memory too
    room = settings.data.cache_gib / settings.fit.devices
    return SampleSet(cohort, case_ids, panel, read=read, cache_gib=room)


def open_cache(settings: Settings) -> PackedCache | None:
    """Open the packed cache of a configuration, if it names one."""
    folder = settings.data.cache_dir
    return None if folder is None else PackedCache(folder, neighbours=settings.data.neighbours)


def embeddings_used(settings: Settings) -> str:
    """Say what training reads: embeddings as stored, or packed with which precision."""
    cache = open_cache(settings)
    return "as stored" if cache is None else f"packed, {cache.precision}"
