"""Clinical tables as people have them: nothing becomes negative, nobody's slide changes hands."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from momkd.data.clinical import (
    ClinicalTable,
    ColumnOptions,
    TargetOptions,
    list_values,
    normalise,
    read_clinical,
)
from momkd.errors import DataError, Problem

TARGET = TargetOptions(
    column="HER2", positive="positive", negative="negative", exclude=["equivocal", "indeterminate"]
)
HEAD = "case_id,slide_id,HER2\n"
TWO = "a,s1,positive\nb,s2,negative\n"


def read(folder: Path, text: str, target: TargetOptions = TARGET, **columns: str) -> ClinicalTable:
    path = folder / "clinical.csv"
    path.write_text(text, encoding="utf-8")
    return read_clinical(path, target, ColumnOptions(**columns))


def refuse(folder: Path, text: str, target: TargetOptions = TARGET) -> list[Problem]:
    with pytest.raises(DataError) as refused:
        read(folder, text, target)
    return list(refused.value.problems)


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_values_that_mean_the_same() -> None:
    assert {normalise(v) for v in ("1", "1.0", " 1 ", "True", "TRUE")} == {"1"}
    assert normalise("0.5") == "0.5"
    assert normalise(" Positive ") == "positive"
    assert normalise("1_0") == "1_0"
    assert normalise("inf") == "inf"


def test_labels_are_compared_as_text_of_one_form(tmp_path: Path) -> None:
    target = TargetOptions(column="y", positive=1, negative=[0])
    cells = ["1", "1.0", "True", " 1", "0", "0.0", "false", "", "NA", "nan"]
    rows = "".join(f"c{i},{cell}\n" for i, cell in enumerate(cells))
    table = read(tmp_path, "case_id,y\n" + rows, target)
    assert [r.label for r in table.rows] == [1, 1, 1, 1, 0, 0, 0, None, None, None]
    assert {r.why_unknown for r in table.rows[7:]} == {"y is blank"}


def test_excluded_is_unknown_with_its_word(tmp_path: Path) -> None:
    table = read(tmp_path, HEAD + TWO + "c,s3,Equivocal \n")
    assert table.rows[2].label is None
    assert table.rows[2].why_unknown == "HER2 is 'Equivocal', which is excluded"


def test_unmapped_values_are_counted_and_the_missing_side_named(tmp_path: Path) -> None:
    text = HEAD + "a,s1,POS\nb,s2,negative\nc,s3,POS\nd,s4,[Not Evaluated]\n"
    found = {p.code: p for p in refuse(tmp_path, text)}
    assert set(found) == {"L01", "L10"}
    assert "3 cells" in found["L01"].what
    assert "'POS' (2)" in found["L01"].what
    assert "'[Not Evaluated]' (1)" in found["L01"].what
    assert "data.target.exclude" in found["L01"].remedy
    assert "the positive value (positive)" in found["L10"].what


def test_a_third_code_is_refused(tmp_path: Path) -> None:
    target = TargetOptions(column="HER2", positive=1, negative=0)
    problem = only(refuse(tmp_path, HEAD + "a,s1,1\nb,s2,0\nc,s3,2\n", target))
    assert problem.code == "L01"
    assert "'2' (1)" in problem.what


def test_a_value_has_one_meaning(tmp_path: Path) -> None:
    target = TargetOptions(column="HER2", positive=["1", "yes"], negative=[0], exclude=["1.0"])
    problem = only(refuse(tmp_path, HEAD + "a,s1,1\nb,s2,0\n", target))
    assert (problem.code, problem.what) == ("L02", "'1' is given as positive and as exclude")


def test_a_side_that_never_occurs(tmp_path: Path) -> None:
    problem = only(refuse(tmp_path, HEAD + "a,s1,positive\nb,s2,equivocal\n"))
    assert problem.code == "L10"
    assert "negative" in problem.what


@pytest.mark.parametrize("column", ["os_time", "HER2"])
def test_times_and_measurements_are_no_classes(tmp_path: Path, column: str) -> None:
    n = 3 if column == "os_time" else 15
    rows = "".join(f"c{i},{100.5 + i}\n" for i in range(n))
    target = TARGET.model_copy(update={"column": column})
    problem = only(refuse(tmp_path, f"case_id,{column}\n{rows}", target))
    assert problem.code == "L13"


def test_words_in_a_survival_column_are_classes(tmp_path: Path) -> None:
    target = TargetOptions(column="survival", positive="dead", negative="living")
    problem = only(refuse(tmp_path, "case_id,survival\na,dead\nb,living\nc,lost\n", target))
    assert problem.code == "L01"


def test_a_label_made_of_a_prediction_is_refused(tmp_path: Path) -> None:
    rows = [("a", "positive", 0.9), ("b", "negative", 0.1), ("c", "negative", 0.1)]
    text = "case_id,HER2,prob_her2\n" + "".join(f"{c},{y},{p}\n" for c, y, p in rows)
    problem = only(refuse(tmp_path, text))
    assert problem.code == "L14"
    assert "prob_her2" in problem.what
    # what merely goes with the label may stand beside it
    assert read(tmp_path, text.replace("b,negative,0.1", "b,negative,0.8")).rows


def test_columns_that_cannot_be_found_are_told_together(tmp_path: Path) -> None:
    found = refuse(tmp_path, "who,her2_ihc,her2_fish,grade,er\na,1,1,2,0\n")
    assert [p.code for p in found] == ["L07", "L07"]
    assert found[0].remedy.startswith("nearest: her2_ihc, er, her2_fish; ")
    assert "case ids" in found[1].what


def test_a_column_that_stands_twice_is_ambiguous(tmp_path: Path) -> None:
    problem = only(refuse(tmp_path, "case_id,HER2,HER2\na,positive,negative\n"))
    assert (problem.code, problem.what) == ("L07", "has 2 columns called 'HER2'")


@pytest.mark.parametrize("name", ["case_id", "PATIENT", "Case ID", "bcr_patient_barcode", "sample"])
def test_columns_are_recognised_by_name(tmp_path: Path, name: str) -> None:
    text = f"n,{name},FILENAME,TSS,her2\n1,a,x/s1.svs,A2,positive\n2,b,s2.h5,B1,negative\n"
    table = read(tmp_path, text)
    assert [(r.case_id, r.slide_ids, r.site) for r in table.rows] == [
        ("a", ("s1",), "A2"),
        ("b", ("s2",), "B1"),
    ]


def test_columns_may_be_named(tmp_path: Path) -> None:
    text = "case_id,who,glass,ward,HER2\nx,a,s1,w1,positive\ny,b,s2,w2,negative\n"
    table = read(tmp_path, text, case="who", slide="glass", site="ward")
    assert [(r.case_id, r.slide_ids, r.site) for r in table.rows] == [
        ("a", ("s1",), "w1"),
        ("b", ("s2",), "w2"),
    ]


def test_several_slides_in_one_cell_or_in_several_rows(tmp_path: Path) -> None:
    rows = "a,s1.svs; s2.tif;,positive\na,s3,positive\na,s3.svs,positive\nb,s4.svs.1,negative\n"
    table = read(tmp_path, HEAD + rows)
    # an extension is cut at the end only
    assert [r.slide_ids for r in table.rows] == [("s1", "s2", "s3"), ("s4.svs.1",)]
    assert table.notes == ("clinical: 1 rows repeat a case and slide: collapsed",)


def test_rows_of_one_case_must_agree(tmp_path: Path) -> None:
    slides_differ = only(refuse(tmp_path, HEAD + TWO + "a,s3,negative\n"))
    assert (slides_differ.code, slides_differ.row) == ("L04", 4)
    assert "case a is both negative and positive" in slides_differ.what
    rows_differ = only(refuse(tmp_path, HEAD + TWO + "a,s1,negative\n"))
    assert rows_differ.code == "L06"
    doubtful = only(refuse(tmp_path, HEAD + TWO + "a,s3,equivocal\n"))
    assert "both excluded and positive" in doubtful.what
    sites = "case_id,site,HER2\na,x,positive\na,y,positive\nb,x,negative\n"
    assert "several sites (x, y)" in only(refuse(tmp_path, sites)).what


def test_a_blank_label_leaves_the_word_to_the_other_rows(tmp_path: Path) -> None:
    table = read(tmp_path, HEAD + "a,s1,\n" + TWO.replace("a,s1", "a,s3"))
    assert (table.rows[0].label, table.rows[0].slide_ids) == (1, ("s1", "s3"))
    unknown = read(tmp_path, HEAD + TWO + "c,s5,equivocal\nc,s6,indeterminate\n")
    assert unknown.rows[2].label is None


def test_a_slide_has_one_case_whatever_its_extension(tmp_path: Path) -> None:
    problem = only(refuse(tmp_path, HEAD + "a,s1.svs,positive\nb,s1.h5,negative\n"))
    assert problem.code == "L12"
    assert "1 slides would become 2" in problem.remedy


def test_rows_without_a_case_are_told_by_their_line(tmp_path: Path) -> None:
    problem = only(refuse(tmp_path, HEAD + "\n,,\n" + TWO + ",s3,positive\n"))
    assert (problem.code, problem.row) == ("L05", 6)


def test_ids_are_text(tmp_path: Path) -> None:
    odd = ["00123", "1e5", "12345678901234567890", "NA", "nan", "1.0"]
    rows = "".join(f"{c},s{i},{'positive' if i else 'negative'}\n" for i, c in enumerate(odd))
    assert [r.case_id for r in read(tmp_path, HEAD + rows).rows] == odd


def test_barcodes_of_samples_are_cut_to_the_case_and_other_tissue_is_set_aside(
    tmp_path: Path,
) -> None:
    rows = (
        "TCGA-AA-0001-01,s1,positive\n"
        "TCGA-AA-0001-11A,s2,negative\n"
        "TCGA-AA-0002-06,s3,positive\n"
        "tcga-aa-0003,s4,negative\n"
    )
    table = read(tmp_path, HEAD + rows)
    found = {r.case_id: (r.label, r.code) for r in table.rows}
    assert found == {
        "TCGA-AA-0001": (1, "L01"),
        "TCGA-AA-0001-11A": (None, "O03"),
        "TCGA-AA-0002-06": (None, "O03"),
        "TCGA-AA-0003": (0, "L01"),
    }
    assert "clinical: 1 sample barcodes cut to the case" in table.notes


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    text = HEAD + TWO + "a,s1,negative\nc,s2,negative\n,s9,positive\nd,s8,odd\n"
    codes = Counter(p.code for p in refuse(tmp_path, text))
    assert codes == {"L01": 1, "L05": 1, "L06": 1, "L12": 1}


def test_options_name_both_sides() -> None:
    with pytest.raises(ValidationError):
        TargetOptions(column="y", positive=[], negative=0)
    with pytest.raises(ValidationError):
        TargetOptions.model_validate({"column": "y", "positive": None, "negative": 0})
    assert TargetOptions(column="y", positive=True, negative=False).class_names == (
        "negative",
        "positive",
    )
    assert TargetOptions(column="y", positive="mut", negative="wt").class_names == ("wt", "mut")


def test_the_table_of_the_gdc_as_downloaded(shared_data: Path, tmp_path: Path) -> None:
    name = "nationwidechildrens.org_clinical_patient_brca.txt"
    path = shared_data / "gdc-clinical" / f"{name}.gz"
    column, counts = list_values(path, "HER2_status_by_IHC")
    assert column == "her2_status_by_ihc"
    assert set(counts) == {
        *("Positive", "Negative", "Equivocal", "Indeterminate"),
        *("[Not Evaluated]", "[Not Available]"),
    }
    exclude = ["equivocal", "indeterminate", "[not evaluated]", "[not available]"]
    target = TargetOptions(column=column, positive="positive", negative="negative", exclude=exclude)
    table = read_clinical(path, target, ColumnOptions())
    labels = Counter(r.label for r in table.rows)
    assert (labels[1], labels[0]) == (counts["Positive"], counts["Negative"])
    assert sum(labels.values()) == len(gzip.decompress(path.read_bytes()).splitlines()) - 3
    assert "clinical: 2 further header lines left out" in table.notes


def test_the_real_labels(shared_data: Path) -> None:
    path = shared_data / "tcga-brca" / "clinical.csv"
    column, counts = list_values(path, "her2")
    assert (column, counts) == ("HER2", {"0": 532, "1": 124})
    target = TargetOptions(column="HER2", positive=1, negative=0)
    table = read_clinical(path, target, ColumnOptions())
    assert Counter(r.label for r in table.rows) == {0: 532, 1: 124, None: 177}
    assert target.class_names == ("negative", "positive")
