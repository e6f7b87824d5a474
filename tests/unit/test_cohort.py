"""Slides, labels and RNA brought together: nothing is lost, nothing becomes negative."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momkd.data.clinical import ColumnOptions, TargetOptions, list_values, normalise, read_clinical
from momkd.data.cohort import Audit, DataOptions, cohort_digest, load_cohort, rna_digest
from momkd.errors import DataError, Problem
from momkd.types import Expression, SlideFile

TARGET = TargetOptions(column="HER2", positive=["positive"], negative=["negative"])


def slide(slide_id: str) -> SlideFile:
    return SlideFile(
        slide_id=slide_id, path=Path(f"{slide_id}.h5"), sha256=slide_id, n_tiles=5, dim=3
    )


def load(
    folder: Path,
    clinical: list[tuple[str, str, str]],
    slides: list[str],
    rna: list[str],
    skipped: list[str] | None = None,
    target: TargetOptions = TARGET,
) -> Audit:
    pd.DataFrame(clinical, columns=["case_id", "slide_id", "HER2"]).to_csv(
        folder / "c.csv", index=False
    )
    table = pd.DataFrame({"case_id": rna, "G1": range(len(rna)), "G2": 1.5})
    table.to_csv(folder / "r.csv", index=False)
    options = DataOptions(
        features=[folder],
        clinical=folder / "c.csv",
        rna=folder / "r.csv" if rna else None,
        target=target,
    )
    problems = [Problem(code="F07", where=f"/x/{s}.h5", what="0 tiles") for s in (skipped or [])]
    return load_cohort(options, {s: slide(s) for s in slides}, problems)


def test_every_modality_finds_its_place(tmp_path: Path) -> None:
    audit = load(
        tmp_path,
        [
            ("paired", "s1", "Positive "),
            ("slide-only", "s2", "NEGATIVE"),
            ("rna-only", "gone", "positive"),
            ("two-slides", "s3", "negative"),
            ("two-slides", "s4", "negative"),
            ("blank", "s5", ""),
            ("nothing", "", "negative"),
            ("emptied", "s6", "positive"),
        ],
        slides=["s1", "s2", "s3", "s4", "s5", "stray"],
        rna=["paired", "rna-only", "two-slides", "blank", "unknown-case", "emptied"],
        skipped=["s6"],
    )
    cases = {c.case_id: c for c in audit.cohort.cases}
    assert sorted(cases) == ["emptied", "paired", "rna-only", "slide-only", "two-slides"]
    assert cases["two-slides"].slide_ids == ("s3", "s4")
    assert cases["rna-only"].slide_ids == ()
    assert not cases["slide-only"].has_rna
    assert (cases["paired"].label, cases["slide-only"].label) == (1, 0)
    why = {(d.kind, d.id): (d.code, d.reason) for d in audit.dropped}
    assert why["case", "blank"] == ("L01", "HER2 is blank")
    assert why["slide", "s5"][0] == "L01"
    assert why["rna", "blank"][0] == "L01"
    assert why["case", "nothing"][0] == "L05"
    assert why["slide", "stray"] == ("L05", "no row in the clinical table")
    assert why["rna", "unknown-case"] == ("L05", "no row in the clinical table")
    assert why["slide", "s6"] == ("F07", "0 tiles")
    assert why["slide", "gone"] == ("L05", "no feature file")
    audit.write(tmp_path / "out")
    with (tmp_path / "out" / "dropped.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(audit.dropped)


ids = st.integers(0, 7)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    labels=st.lists(st.sampled_from(["positive", "negative", ""]), min_size=8, max_size=8),
    named=st.lists(st.booleans(), min_size=8, max_size=8),
    files=st.sets(st.integers(0, 9)),
    rna=st.sets(st.integers(0, 9)),
)
def test_listed_is_used_plus_left_out(
    tmp_path: Path, labels: list[str], named: list[bool], files: set[int], rna: set[int]
) -> None:
    clinical = [
        (f"c{i}", f"s{i}" if n else "", label)
        for i, (label, n) in enumerate(zip(labels, named, strict=True))
    ]
    try:
        audit = load(tmp_path, clinical, [f"s{i}" for i in files], [f"c{i}" for i in sorted(rna)])
    except DataError as error:
        if not {p.code for p in error.problems} <= {"L03", "L10", "O04"}:
            raise
        return  # one class only, or RNA of strangers: refused, and rightly
    counts = audit.counts()
    for kind in ("case", "slide", "rna"):
        total = counts[f"{kind}s used"] + counts[f"{kind}s left out"]
        assert counts[f"{kind}s listed"] == total
    repeated = Counter((d.kind, d.id) for d in audit.dropped)
    assert max(repeated.values(), default=1) == 1
    assert all(d.reason for d in audit.dropped)


def test_slides_are_matched_by_name_without_a_slide_column(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"PATIENT": ["TCGA-AA-0001", "TCGA-AA-0002", "x7"], "HER2": ["positive", "negative", "0"]}
    )
    table.to_csv(tmp_path / "c.csv", index=False)
    options = DataOptions(
        features=[tmp_path],
        clinical=tmp_path / "c.csv",
        target=TargetOptions(column="HER2", positive="positive", negative=["negative", 0]),
    )
    names = ["TCGA-AA-0001-01Z-00-DX1.ABC", "TCGA-AA-0002-01Z-00-DX1.DEF", "x7", "other"]
    audit = load_cohort(options, {n: slide(n) for n in names}, [])
    owned = {c.case_id: c.slide_ids for c in audit.cohort.cases}
    assert owned["TCGA-AA-0001"] == ("TCGA-AA-0001-01Z-00-DX1.ABC",)
    assert owned["x7"] == ("x7",)
    assert {c.case_id: c.site for c in audit.cohort.cases}["TCGA-AA-0001"] == "AA"
    assert [d.id for d in audit.dropped] == ["other"]


def test_extensions_of_slide_names_play_no_part(tmp_path: Path) -> None:
    audit = load(
        tmp_path, [("a", "s1.svs", "positive"), ("b", "s2.h5", "negative")], ["s1", "s2"], []
    )
    assert set(audit.cohort.slides) == {"s1", "s2"}


def test_values_that_mean_the_same() -> None:
    assert {normalise(v) for v in ("1", "1.0", " 1 ", "True", "TRUE")} == {"1"}
    assert normalise("0.5") == "0.5"
    assert normalise(" Positive ") == "positive"


def test_ids_are_text(tmp_path: Path) -> None:
    odd = ["00123", "1e5", "12345678901234567890", "NA12"]
    rows = [(c, f"s{i}", "positive" if i % 2 else "negative") for i, c in enumerate(odd)]
    audit = load(tmp_path, rows, [f"s{i}" for i in range(4)], [])
    assert sorted(c.case_id for c in audit.cohort.cases) == sorted(odd)


def test_excluded_is_unknown_and_unmapped_is_an_error(tmp_path: Path) -> None:
    rows = [("a", "s1", "positive"), ("b", "s2", "negative"), ("c", "s3", "equivocal")]
    with pytest.raises(DataError, match=r"L01.*equivocal.*exclude"):
        load(tmp_path, rows, ["s1", "s2", "s3"], [])
    target = TARGET.model_copy(update={"exclude": ["Equivocal"]})
    audit = load(tmp_path, rows, ["s1", "s2", "s3"], [], target=target)
    assert [c.case_id for c in audit.cohort.cases] == ["a", "b"]
    assert "excluded" in next(d.reason for d in audit.dropped if d.id == "c")


def test_digest_knows_labels_and_content_but_no_order(tmp_path: Path) -> None:
    rows = [("a", "s1", "positive"), ("b", "s2", "negative"), ("c", "s3", "negative")]
    slides = ["s1", "s2", "s3"]
    one = cohort_digest(load(tmp_path, rows, slides, []).cohort)
    assert one == cohort_digest(load(tmp_path, rows[::-1], slides, []).cohort)
    rows[2] = ("c", "s3", "positive")
    assert one != cohort_digest(load(tmp_path, rows, slides, []).cohort)


def test_digest_of_the_rna_knows_values_and_cases_but_no_order(tmp_path: Path) -> None:
    rows = [("a", "s1", "positive"), ("b", "s2", "negative"), ("c", "s3", "negative")]
    slides = ["s1", "s2", "s3"]
    assert rna_digest(load(tmp_path, rows, slides, []).cohort) is None
    one = load(tmp_path, rows, slides, ["a", "b", "c"]).cohort
    table = one.expression
    assert table is not None
    turned = Expression(
        case_ids=table.case_ids[::-1],
        genes=table.genes[::-1],
        values=np.ascontiguousarray(table.values[::-1, ::-1]),
        scale=table.scale,
    )
    assert rna_digest(replace(one, expression=turned)) == rna_digest(one)
    other = replace(table, values=table.values + np.eye(3, 2, dtype=np.float32))
    assert rna_digest(replace(one, expression=other)) != rna_digest(one)
    assert rna_digest(replace(one, expression=replace(table, scale="counts"))) != rna_digest(one)
    # a case of the table that is not in the cohort is nobody's RNA
    fewer = rna_digest(load(tmp_path, rows[:2], slides, ["a", "b"]).cohort)
    assert fewer == rna_digest(load(tmp_path, rows[:2], slides, ["a", "b", "c"]).cohort)
    assert fewer != rna_digest(one)


def test_real_labels(shared_data: Path) -> None:
    path = shared_data / "tcga-brca" / "clinical.csv"
    column, counts = list_values(path, "her2")
    assert (column, counts) == ("HER2", {"0": 532, "1": 124})
    target = TargetOptions(column="HER2", positive=1, negative=0)
    table = read_clinical(path, target, ColumnOptions())
    assert Counter(r.label for r in table.rows) == {0: 532, 1: 124, None: 177}
    assert target.class_names == ("negative", "positive")
