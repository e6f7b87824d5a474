"""Samples are what cohort, panel and files say; reading ahead changes nothing but the time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from momkd.data.panel import Panel, PanelOptions, fit_panel
from momkd.data.samples import SampleSet
from momkd.errors import DataError, IntegrityError
from momkd.types import Bag, Case, Cohort, Expression, SampleKey, SlideFile

N_TILES, DIM, K = 5, 8, 3
BAG_BYTES = N_TILES * DIM * 4 + N_TILES * K * 4
PATIENCE_S = 10.0


def make_cohort() -> Cohort:
    """A: two slides and RNA; B: a slide; C: RNA alone; D: a slide and RNA."""
    cases = (
        Case(case_id="A", slide_ids=("A-2", "A-1"), label=1, has_rna=True),
        Case(case_id="B", slide_ids=("B-1",), label=0),
        Case(case_id="C", slide_ids=(), label=1, has_rna=True),
        Case(case_id="D", slide_ids=("D-1",), label=0, has_rna=True),
    )
    slides = {
        s: SlideFile(
            slide_id=s, path=Path(f"{s}.h5"), sha256=f"sha of {s}", n_tiles=N_TILES, dim=DIM
        )
        for c in cases
        for s in c.slide_ids
    }
    values = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    expression = Expression(
        case_ids=("D", "C", "A"), genes=tuple(f"G{j}" for j in range(6)), values=values
    )
    return Cohort(
        task="HER2",
        class_names=("negative", "positive"),
        cases=cases,
        slides=slides,
        expression=expression,
    )


COHORT = make_cohort()
EVERYBODY = ("A", "B", "C", "D")


def make_panel() -> Panel:
    assert COHORT.expression is not None
    cases = [c for c in COHORT.cases if c.has_rna]
    return fit_panel(COHORT.expression, cases, PanelOptions(selector="all"), seed=0)


class Reader:
    """Makes a bag from a slide's name, and remembers what it read."""

    def __init__(self, on_read: Callable[[SlideFile], None] = lambda file: None) -> None:
        self.log: list[str] = []
        self.threads: set[str] = set()
        self._on_read = on_read

    def __call__(self, file: SlideFile) -> Bag:
        self._on_read(file)
        self.log.append(file.slide_id)
        self.threads.add(threading.current_thread().name)
        generator = torch.Generator().manual_seed(sum(file.slide_id.encode()))
        return Bag(
            slide_id=file.slide_id,
            embeddings=torch.randn(N_TILES, DIM, generator=generator),
            neighbours=torch.zeros(N_TILES, K, dtype=torch.int32),
            digest=file.sha256,
        )


def make_set(reader: Reader, panel: Panel | None = None, cache_gib: float = 0.0) -> SampleSet:
    return SampleSet(COHORT, EVERYBODY, panel, read=reader, cache_gib=cache_gib)


def reader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("momkd-reader")]


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_a_sample_a_slide_and_one_for_rna_alone() -> None:
    samples = make_set(Reader(), make_panel())
    assert list(samples.keys) == [
        SampleKey(case_id="A", slide_id="A-1", label=1, has_rna=True),
        SampleKey(case_id="A", slide_id="A-2", label=1, has_rna=True),
        SampleKey(case_id="B", slide_id="B-1", label=0, has_rna=False),
        SampleKey(case_id="C", slide_id=None, label=1, has_rna=True),
        SampleKey(case_id="D", slide_id="D-1", label=0, has_rna=True),
    ]
    assert len(samples) == 5
    for key, sample in zip(samples.keys, (samples[i] for i in range(5)), strict=True):
        assert (sample.case_id, sample.label) == (key.case_id, key.label)
        assert (None if sample.bag is None else sample.bag.slide_id) == key.slide_id
        assert (sample.rna is not None) == key.has_rna


def test_rna_goes_through_the_panel() -> None:
    panel = make_panel()
    samples = make_set(Reader(), panel)
    assert COHORT.expression is not None
    wanted = torch.from_numpy(panel.transform(COHORT.expression, ["A", "C", "D"]))
    for index, row in ((0, 0), (1, 0), (3, 1), (4, 2)):
        rna = samples[index].rna
        assert rna is not None
        assert rna.dtype == torch.float32
        assert torch.equal(rna, wanted[row])
    assert samples[2].rna is None


def test_without_a_panel_there_is_no_rna() -> None:
    samples = make_set(Reader())
    assert [k.slide_id for k in samples.keys] == ["A-1", "A-2", "B-1", "D-1"]
    assert not any(k.has_rna for k in samples.keys)
    assert all(samples[i].rna is None for i in range(len(samples)))


def test_only_the_cases_of_the_side_in_their_order() -> None:
    samples = SampleSet(COHORT, ["D", "B"], make_panel(), read=Reader())
    assert [k.slide_id for k in samples.keys] == ["D-1", "B-1"]
    assert samples.slide_digests == ("sha of D-1", "sha of B-1")
    with pytest.raises(KeyError, match="X"):
        SampleSet(COHORT, ["X"], None, read=Reader())


def test_digests_are_those_of_the_files_behind_it() -> None:
    digests = make_set(Reader(), make_panel()).slide_digests
    assert digests == ("sha of A-1", "sha of A-2", "sha of B-1", "sha of D-1")


def test_bags_are_kept_while_there_is_room() -> None:
    reader = Reader()
    samples = make_set(reader, cache_gib=2.5 * BAG_BYTES / 2**30)
    for _ in range(3):
        for index in range(4):
            assert samples[index].bag is not None
    # came first and stay; the others are read each time
    assert reader.log == ["A-1", "A-2", "B-1", "D-1", "B-1", "D-1", "B-1", "D-1"]
    assert samples[0].bag is samples[0].bag


@pytest.mark.parametrize("cache_gib", [0.0, 2.5 * BAG_BYTES / 2**30, 1.0])
@pytest.mark.parametrize("indices", [[], [3], [4, 0, 2, 3, 1], [1, 1, 1, 3, 3, 0, 0]])
def test_iterating_gives_what_indexing_gives(cache_gib: float, indices: list[int]) -> None:
    panel = make_panel()
    samples, plain = make_set(Reader(), panel, cache_gib), make_set(Reader(), panel)
    for _ in range(2):
        found = list(samples.iterate(indices))
        assert [s.case_id for s in found] == [plain.keys[i].case_id for i in indices]
        for sample, index in zip(found, indices, strict=True):
            wanted = plain[index]
            assert (sample.bag is None) == (wanted.bag is None)
            if sample.bag is not None and wanted.bag is not None:
                assert torch.equal(sample.bag.embeddings, wanted.bag.embeddings)
            if sample.rna is not None and wanted.rna is not None:
                assert torch.equal(sample.rna, wanted.rna)


def test_one_is_read_ahead_and_no_more() -> None:
    reader = Reader()
    samples = make_set(reader)
    found = samples.iterate(range(4))
    assert reader.log == []
    for n_given, _ in enumerate(found, start=1):
        n_read = min(n_given + 1, 4)
        wait_until(lambda n=n_read: len(reader.log) == n)
        time.sleep(0.01)
        assert len(reader.log) == n_read
    assert reader.log == ["A-1", "A-2", "B-1", "D-1"]
    assert all(name.startswith("momkd-reader") for name in reader.threads)


def test_a_fault_while_reading_reaches_the_caller_at_its_sample() -> None:
    def fail(file: SlideFile) -> None:
        if file.slide_id == "B-1":
            raise IntegrityError.of("F26", "B-1.h5", "changed since it was examined")

    samples = make_set(Reader(fail))
    found = samples.iterate(range(4))
    assert [next(found).case_id, next(found).case_id] == ["A", "A"]
    with pytest.raises(IntegrityError, match="F26"):
        next(found)
    assert reader_threads() == []
    # the set is as good as before
    assert [s.case_id for s in samples.iterate([0, 3])] == ["A", "D"]


def test_the_thread_ends_when_the_caller_stops_early() -> None:
    samples = make_set(Reader())
    found = samples.iterate(range(4))
    next(found)
    assert len(reader_threads()) == 1
    found.close()
    assert reader_threads() == []
    for _ in samples.iterate(range(4)):
        break
    assert reader_threads() == []


def test_nothing_is_started_for_what_is_in_memory() -> None:
    reader = Reader()
    samples = make_set(reader, make_panel(), cache_gib=1.0)
    list(samples.iterate(range(5)))
    n_read = len(reader.log)
    for _ in samples.iterate(range(5)):
        assert reader_threads() == []
    assert len(reader.log) == n_read == 4


def test_time_waited_is_counted_and_reading_ahead_saves_it() -> None:
    read_s = 0.2
    reader = Reader(lambda file: time.sleep(read_s))
    samples = make_set(reader)
    assert samples.wait_s == 0
    found = samples.iterate([0, 1])
    next(found)
    first_s = samples.wait_s
    assert first_s >= 0.9 * read_s
    wait_until(lambda: len(reader.log) == 2)
    next(found)
    assert samples.wait_s - first_s < 0.5 * read_s


def test_a_cohort_without_the_genes_of_the_panel() -> None:
    assert COHORT.expression is not None
    less = Expression(
        case_ids=COHORT.expression.case_ids,
        genes=COHORT.expression.genes[1:],
        values=COHORT.expression.values[:, 1:],
    )
    other = Cohort(
        task=COHORT.task,
        class_names=COHORT.class_names,
        cases=COHORT.cases,
        slides=COHORT.slides,
        expression=less,
    )
    with pytest.raises(DataError, match="O05"):
        SampleSet(other, EVERYBODY, make_panel(), read=Reader())
