"""Tables of other tools: what is read, written and read again is the same, to the cell."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momkd.data.conventions.clam import read_clam, write_clam
from momkd.data.conventions.patho_bench import read_patho_bench, write_patho_bench
from momkd.data.conventions.slideflow import read_slideflow, write_slideflow
from momkd.data.conventions.stamp import read_stamp, write_stamp
from momkd.data.conventions.study import GivenSplit, StudyRow, StudyTables

# ids and cells as people have them: spaces inside, quotes, commas, unicode, digits, no line breaks
CELL = st.text(
    st.characters(categories=["L", "N", "P", "S"], include_characters=" "), min_size=1, max_size=9
).map(str.strip)
WORD = CELL.filter(bool)
ID = WORD.filter(lambda t: not t.startswith("#") and "/" not in t)
COLUMN = WORD.filter(
    lambda t: t.casefold().strip("_") not in ("train", "val", "test") and not t.startswith("#")
).map(lambda t: f"col {t}")


_numbers = itertools.count()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conventions")


def folder(base: Path) -> Path:
    return base / str(next(_numbers))


@st.composite
def studies(draw: st.DrawFn, *, bare: bool = False, varying: bool = True) -> StudyTables:
    """A study of a few cases; ``bare`` with cases without a slide."""
    case_ids = draw(st.lists(ID, min_size=1, max_size=5, unique=True))
    columns = draw(st.lists(COLUMN, max_size=3, unique_by=str.casefold))
    rows: list[StudyRow] = []
    n = 0
    for case_id in case_ids:
        own = {"label": draw(WORD), **{c: draw(CELL) for c in columns}}
        for _ in range(draw(st.integers(0 if bare else 1, 3))):
            values = {**own, **({c: draw(CELL) for c in columns[:1]} if varying else {})}
            rows.append(StudyRow(case_id=case_id, slide=f"s{n}-{draw(ID)}.svs", values=values))
            n += 1
        if rows[-1:] == [] or rows[-1].case_id != case_id:
            rows.append(StudyRow(case_id=case_id, values=own))
    rows = [r for r in rows if r.slide] + [r for r in rows if not r.slide]
    return StudyTables(label="label", rows=tuple(rows))


@st.composite
def splits(draw: st.DrawFn, names: list[str], *, with_val: bool) -> tuple[GivenSplit, ...]:
    made = []
    for index in range(draw(st.integers(1, 3))):
        sides = draw(
            st.lists(
                st.sampled_from("tve" if with_val else "te"),
                min_size=len(names),
                max_size=len(names),
            )
        )
        held = {
            s: tuple(n for n, side in zip(names, sides, strict=True) if side == s) for s in "tve"
        }
        if not any(held.values()):
            continue
        made.append(GivenSplit(index=index, train=held["t"], val=held["v"], test=held["e"]))
    return tuple(made)


# files are written under temporary names, which are drawn at random
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
quick = settings(max_examples=25, deadline=None)


@quick
@given(data=st.data())
def test_clam(base: Path, data: st.DataObject) -> None:
    study = data.draw(studies())
    names = [r.slide for r in study.rows]
    study = StudyTables(
        label="label", rows=study.rows, splits=data.draw(splits(names, with_val=True))
    )
    path = folder(base)
    write_clam(study, path)
    back = read_clam(path / "dataset.csv", path / "splits")
    assert back == study
    # the bool form says the same
    for file in (path / "splits").glob("splits_?.csv"):
        file.unlink()
    again = read_clam(path / "dataset.csv", path / "splits")
    assert [(set(s.train), set(s.val), set(s.test)) for s in again.splits] == [
        (set(s.train), set(s.val), set(s.test)) for s in study.splits
    ]


@quick
@given(data=st.data())
def test_patho_bench(base: Path, data: st.DataObject) -> None:
    study = data.draw(studies())
    names = [r.slide for r in study.rows]
    study = StudyTables(
        label="label", rows=study.rows, splits=data.draw(splits(names, with_val=True))
    )
    path = folder(base)
    write_patho_bench(study, path)
    assert read_patho_bench(path / "k=all.tsv") == study


@quick
@given(data=st.data())
def test_stamp(base: Path, data: st.DataObject) -> None:
    study = data.draw(studies(bare=True).filter(lambda s: any(r.slide for r in s.rows)))
    names = list(dict.fromkeys(r.case_id for r in study.rows))
    given_splits = data.draw(splits(names, with_val=False))
    given_splits = tuple(
        GivenSplit(index=i, train=s.train, val=(), test=s.test) for i, s in enumerate(given_splits)
    )
    study = StudyTables(label="label", rows=study.rows, splits=given_splits)
    path = folder(base)
    write_stamp(study, path)
    file = path / "crossval" / "splits.json"
    back = read_stamp(
        path / "clini.csv",
        path / "slide.csv",
        label="label",
        splits=file if given_splits else None,
    )
    assert {(r.case_id, r.slide) for r in back.rows} == {(r.case_id, r.slide) for r in study.rows}
    with_slide = [r for r in study.rows if r.slide]
    assert [r for r in back.rows if r.slide] == with_slide
    assert back.splits == study.splits
    # a second time nothing moves any more
    write_stamp(back, path / "again")
    file = path / "again" / "crossval" / "splits.json"
    once_more = read_stamp(
        path / "again" / "clini.csv",
        path / "again" / "slide.csv",
        label="label",
        splits=file if given_splits else None,
    )
    assert once_more == back


@quick
@given(study=studies())
def test_slideflow(base: Path, study: StudyTables) -> None:
    path = folder(base)
    write_slideflow(study, path)
    assert read_slideflow(path / "annotations.csv", outcome="label") == study
