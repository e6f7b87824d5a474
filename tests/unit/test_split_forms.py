"""Splits in other tools' forms: brought to cases, held to the same rules, drawn where two-sided."""

import json
from pathlib import Path

import pytest

from momkd.data.folds import FoldOptions, make_folds, read_folds, write_folds
from momkd.data.split_table import SplitTable
from momkd.errors import DataError, IntegrityError
from momkd.types import Case, Cohort, Fold, SlideFile


def make_cohort(n: int = 40, *, prefix: str = "P", numeric: bool = False) -> Cohort:
    """Every fourth case positive, every fifth with two slides, one without any."""
    cases = []
    for i in range(n):
        stem = str(1000 + i) if numeric else f"{prefix}{i:03d}"
        slides = tuple(f"{stem}{k}" if numeric else f"{stem}-s{k}" for k in range(1 + (i % 5 == 0)))
        cases.append(Case(case_id=stem, slide_ids=slides, label=int(i % 4 == 0), has_rna=True))
    cases.append(Case(case_id="bare", slide_ids=(), label=1, has_rna=True))
    slides = {
        s: SlideFile(slide_id=s, path=Path(f"{s}.h5"), sha256=s, n_tiles=3, dim=4)
        for c in cases
        for s in c.slide_ids
    }
    return Cohort(task="y", class_names=("negative", "positive"), cases=tuple(cases), slides=slides)


COHORT = make_cohort()
FOLDS = make_folds(COHORT, FoldOptions(n=4, val_fraction=0.2), 0)


def write_wide(
    folder: Path, folds: tuple[Fold, ...], cohort: Cohort = COHORT, *, by: str = "slide"
) -> Path:
    """Write ``splits_i.csv`` as CLAM does, columns padded with blanks."""
    slides = {c.case_id: c.slide_ids for c in cohort.cases}
    for i, fold in enumerate(folds):
        sides = [
            [n for c in getattr(fold, s) for n in (slides[c] if by == "slide" else (c,))]
            for s in ("train", "val", "test")
        ]
        rows = [
            ",".join([str(r), *(names[r] if r < len(names) else "" for names in sides)])
            for r in range(max(map(len, sides)))
        ]
        folder.mkdir(exist_ok=True)
        (folder / f"splits_{i}.csv").write_text("\n".join([",train,val,test", *rows]) + "\n")
    return folder


def read(path: Path, cohort: Cohort = COHORT, **more: object) -> tuple[Fold, ...]:
    return read_folds(path, cohort, cohort_digest="d" * 64, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["slide", "case"])
def test_a_folder_of_wide_tables(tmp_path: Path, by: str) -> None:
    folds = tuple(f for f in FOLDS) if by == "case" else FOLDS
    path = write_wide(tmp_path / "splits", folds, by=by)
    assert read(path) == FOLDS


def test_one_wide_table_is_one_fold(tmp_path: Path) -> None:
    path = write_wide(tmp_path / "splits", FOLDS) / "splits_2.csv"
    (fold,) = read(path, allow_subset=True)
    assert (fold.index, fold.test) == (2, FOLDS[2].test)
    with pytest.raises(DataError, match=r"\[K02\].*is never tested"):
        read(path)


def test_numeric_slides_that_pandas_made_floats(tmp_path: Path) -> None:
    cohort = make_cohort(numeric=True)
    folds = make_folds(cohort, FoldOptions(n=4), 0)
    path = write_wide(tmp_path / "splits", folds, cohort)
    file = path / "splits_0.csv"
    lines = file.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    floats = [",".join([r, a, f"{b}.0" if b else "", c]) for r, a, b, c in cells]
    file.write_text("\n".join([lines[0], *floats]) + "\n")
    assert read(path, cohort) == folds


def test_slides_of_a_patient_on_two_sides(tmp_path: Path) -> None:
    path = write_wide(tmp_path / "splits", FOLDS)
    file = path / "splits_0.csv"
    # P005 has two slides: one moves to the other side
    text = file.read_text()
    assert "P005-s1" in text
    moved = text.replace("P005-s1", "")
    where = "test" if "P005" in FOLDS[0].train else "train"
    row = {"test": ",,,P005-s1", "train": ",P005-s1,,"}[where]
    file.write_text(moved + row + "\n")
    with pytest.raises(IntegrityError, match=r"\[K11\].*splits_0.csv.*case P005 stands on two"):
        read(path, allow_subset=True)


def test_a_slide_the_cohort_lacks_still_gives_its_patient_away(tmp_path: Path) -> None:
    cohort = make_cohort(prefix="TCGA-AA-0")
    folds = make_folds(cohort, FoldOptions(n=4), 0)
    case_id = folds[0].train[0]
    path = write_wide(tmp_path / "splits", folds, cohort)
    file = path / "splits_0.csv"
    stray = f"{case_id}-01Z-00-DX9.XYZ"
    file.write_text(file.read_text() + f",{stray},,\n")
    with pytest.raises(DataError, match=rf"\[K09\].*slide {stray} is not in the cohort"):
        read(path, cohort)
    assert read(path, cohort, allow_subset=True) == folds
    file.write_text(file.read_text().replace(f",{stray},,", f",,,{stray}"))
    with pytest.raises(IntegrityError, match=rf"\[K11\].*case {case_id} stands on two sides"):
        read(path, cohort, allow_subset=True)


def two_sided(folder: Path, form: str) -> Path:
    """Write the folds without validation, as MCAT, STAMP and Patho-Bench do."""
    train = [(*f.train, *f.val) for f in FOLDS]
    if form == "stamp":
        content = [
            {"train_patients": list(t), "test_patients": list(f.test)}
            for t, f in zip(train, FOLDS, strict=True)
        ]
        (folder / "splits.json").write_text(json.dumps({"splits": content}))
        return folder / "splits.json"
    if form == "patho-bench":
        header = "case_id\tslide_id\ty\t" + "\t".join(f"fold_{f.index}" for f in FOLDS)
        rows = [
            "\t".join([c.case_id, s, str(c.label)])
            + "".join("\ttest" if c.case_id in f.test else "\ttrain" for f in FOLDS)
            for c in COHORT.cases
            for s in c.slide_ids
        ]
        (folder / "k=all.tsv").write_text("\n".join([header, *rows]) + "\n")
        return folder / "k=all.tsv"
    for i, (t, fold) in enumerate(zip(train, FOLDS, strict=True)):
        n = max(len(t), len(fold.test))
        pad = [(*names, *[""] * (n - len(names))) for names in (t, fold.test)]
        rows = [f"{r},{a},{b}" for r, (a, b) in enumerate(zip(*pad, strict=True))]
        (folder / f"splits_{i}.csv").write_text("\n".join([",train,val", *rows]) + "\n")
    return folder


@pytest.mark.parametrize("form", ["stamp", "patho-bench", "mcat"])
def test_a_validation_side_is_drawn_where_there_is_none(tmp_path: Path, form: str) -> None:
    path = two_sided(tmp_path, form)
    folds = read(path, val_fraction=0.2)
    labels = {c.case_id: c.label for c in COHORT.cases}
    for fold, original in zip(folds, FOLDS, strict=True):
        assert fold.test == original.test
        assert set(fold.train) | set(fold.val) == set(original.train) | set(original.val)
        assert [labels[c] for c in fold.val].count(1) == 2  # a fifth of 10
        assert [labels[c] for c in fold.val].count(0) == 6  # a fifth of 30
        assert "bare" in fold.train
    assert read(path, val_fraction=0.2) == folds
    given = SplitTable(path, COHORT).given()
    assert [(s.val, s.test) for s in given] == [((), f.test) for f in FOLDS]


def test_splits_that_overlap_are_repeats(tmp_path: Path) -> None:
    again = make_folds(COHORT, FoldOptions(n=4, val_fraction=0.2), 7)
    drawn = (FOLDS[0], again[0], again[1])
    path = write_wide(tmp_path / "splits", drawn)
    folds = read(path)
    assert [(f.seed, f.index) for f in folds] == [(0, 0), (1, 0), (2, 0)]
    assert [f.test for f in folds] == [f.test for f in drawn]
    # as a run writes them, and reads them again when it goes on
    write_folds(tmp_path / "folds.csv", folds, "d" * 64)
    assert read(tmp_path / "folds.csv", ours=True) == folds


def test_cases_the_cohort_lacks_are_named(tmp_path: Path) -> None:
    path = write_wide(tmp_path / "splits", FOLDS)
    with (path / "splits_1.csv").open("a") as stream:
        stream.write("99,GHOST,,\n")
    with pytest.raises(DataError, match=r"\[K09\].*splits_1.csv.*GHOST is not in the cohort"):
        read(path)
    assert read(path, allow_subset=True) == FOLDS


def test_what_is_no_table_of_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[K13\].*holds no splits_0.csv"):
        read(tmp_path)
    (tmp_path / "splits.json").write_text("[]")
    with pytest.raises(DataError, match=r"\[K13\].*train_patients"):
        read(tmp_path / "splits.json")
    (tmp_path / "a.csv").write_text("val,test\na,b\n")
    with pytest.raises(DataError, match=r"\[K13\].*splits_i.csv, k=all.tsv"):
        read(tmp_path / "a.csv")
