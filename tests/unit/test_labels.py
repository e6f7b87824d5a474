"""Labels of a clinical table: the GDC's as downloaded, cBioPortal's, and faulty ones."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from momkd.data.clinical import ColumnOptions, TargetOptions, read_clinical
from momkd.data.receptor_table import ReceptorTable, read_receptors
from momkd.errors import ConfigError, DataError
from momkd.workflows.labels import count_labels, label_tcga

GDC = (
    "bcr_patient_barcode\tpr_status_by_ihc\ther2_status_by_ihc\ther2_ihc_score\ther2_fish_status"
    "\tpatient_id\ttissue_source_site\n"
    "bcr_patient_barcode\tbreast_pr\tlab_her2\ther2_level\tlab_ish\tpatient_id\ttss\n"
    "CDE_ID:2003301\tCDE_ID:1\tCDE_ID:2\tCDE_ID:3\tCDE_ID:4\tCDE_ID:\tCDE_ID:\n"
    "TCGA-AA-0001\tPositive\tEquivocal\t2+\tPositive\t0001\tAA\n"
    "TCGA-AA-0002\tNegative\tNegative\t1+\t[Not Evaluated]\t0002\tAA\n"
    "TCGA-BB-0003\t[Not Evaluated]\t[Not Available]\t[Not Available]\t[Not Evaluated]\t0003\tBB\n"
)


def gdc(folder: Path, text: str = GDC) -> Path:
    path = folder / "nationwidechildrens.org_clinical_patient_brca.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_a_case_with_reason_and_raw_values(tmp_path: Path) -> None:
    report = label_tcga(gdc(tmp_path), tmp_path / "labels.csv")
    table = pd.read_csv(tmp_path / "labels.csv", dtype=str, keep_default_na=False)
    assert list(table["case_id"]) == ["TCGA-AA-0001", "TCGA-AA-0002", "TCGA-BB-0003"]
    assert list(table["HER2"]) == ["positive", "negative", ""]
    assert list(table["PR"]) == ["positive", "negative", ""]
    assert table["HER2_reason"][0] == "ISH positive (IHC 2+)"
    assert table["her2_fish_status"][2] == "[Not Evaluated]"
    assert set(table["rule"]) == {"asco-cap"}
    assert "ER" not in table.columns
    assert report.counts[0] == {"label": "HER2", "positive": 1, "negative": 1, "unknown": 1}
    assert report.notes == ("clinical: 2 further header lines left out",)
    assert {"IHC": "equivocal, 2+", "ISH no result": ".", "ISH positive": "1 +"} in (
        report.her2_table
    )


def test_the_labels_are_a_clinical_table(tmp_path: Path) -> None:
    label_tcga(gdc(tmp_path), tmp_path / "labels.csv")
    target = TargetOptions(column="HER2", positive="positive", negative="negative")
    table = read_clinical(tmp_path / "labels.csv", target, ColumnOptions())
    found = {r.case_id: (r.label, r.site, r.why_unknown) for r in table.rows}
    assert found["TCGA-AA-0001"] == (1, "AA", None)
    why = "HER2 is blank: IHC not stated, ISH not stated"
    assert found["TCGA-BB-0003"] == (None, "BB", why)


def test_the_names_of_cbioportal(tmp_path: Path) -> None:
    path = tmp_path / "data_clinical_patient.txt"
    path.write_text(
        "#Patient Identifier\tER\tPR\tHER2\tISH\n#x\tx\tx\tx\tx\n#STRING\t\t\t\t\n#1\t1\t1\t1\t1\n"
        "PATIENT_ID\tER_STATUS_BY_IHC\tPR_STATUS_BY_IHC\tIHC_HER2\tHER2_FISH_STATUS\n"
        "TCGA-AA-0001\tPositive\tNegative\tIndeterminate\tNegative\n",
        encoding="utf-8",
    )
    label_tcga(path, tmp_path / "labels.csv")
    row = pd.read_csv(tmp_path / "labels.csv", dtype=str).iloc[0]
    assert (row["HER2"], row["PR"], row["ER"]) == ("negative", "negative", "positive")
    assert row["site"] == "AA"


def test_other_samples_are_left_out_and_rows_must_agree(tmp_path: Path) -> None:
    head = "sample,her2_status_by_ihc\n"
    path = tmp_path / "c.csv"
    path.write_text(head + "TCGA-AA-0001-01,Positive\nTCGA-AA-0001-06,Negative\n")
    table = read_receptors(path)
    assert [c.case_id for c in table.cases] == ["TCGA-AA-0001"]
    assert table.notes == ("clinical: 1 samples that are not primary tumour left out",)
    path.write_text(head + "TCGA-AA-0001-01A,Positive\nTCGA-AA-0001-01B,Negative\n")
    with pytest.raises(DataError, match=r"L06.*row 3.*'Negative' and 'Positive'"):
        read_receptors(path)


def test_words_that_are_no_status_are_told_with_counts(tmp_path: Path) -> None:
    text = GDC.replace("Equivocal", "Postive").replace("1+", "5+").replace("TCGA-BB-0003", "")
    with pytest.raises(DataError) as refused:
        read_receptors(gdc(tmp_path, text))
    found = {(p.code, p.column): p.what for p in refused.value.problems}
    assert "'Postive' (1)" in found["L01", "her2_status_by_ihc"]
    assert "'5+' (1)" in found["L01", "her2_ihc_score"]
    assert ("L05", None) in found


def test_a_table_without_receptors(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("case_id,grade\na,1\n")
    with pytest.raises(DataError, match=r"L07.*no receptor status.*her2_status_by_ihc"):
        read_receptors(path)
    path.write_text("who,her2_status_by_ihc\na,Positive\n")
    with pytest.raises(DataError, match=r"L07.*no column of case ids"):
        read_receptors(path)


def test_an_unknown_rule(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"G13.*ihc-then-fish"):
        label_tcga(gdc(tmp_path), tmp_path / "labels.csv", rule="asco")
    assert not (tmp_path / "labels.csv").exists()


def test_calling_the_rest_negative_is_said_aloud(tmp_path: Path) -> None:
    report = label_tcga(gdc(tmp_path), tmp_path / "labels.csv", rule="rest-negative")
    assert any("cases without a result are called negative" in n for n in report.notes)
    assert report.counts[0]["unknown"] == 0


# counts of the table as downloaded, HER2 and PR: docs/labels.md shows them
COUNTS = {
    "asco-cap": ((172, 764, 161), (699, 344, 54)),
    "ihc-only": ((164, 564, 369), (699, 344, 54)),
    "ihc-then-fish": ((194, 763, 140), (699, 344, 54)),
    "fish-then-ihc": ((185, 772, 140), (699, 344, 54)),
    "rest-negative": ((164, 933, 0), (699, 398, 0)),
}


@pytest.fixture(scope="module")
def gdc_table(shared_data: Path) -> ReceptorTable:
    name = "nationwidechildrens.org_clinical_patient_brca.txt.gz"
    return read_receptors(shared_data / "gdc-clinical" / name)


def test_counts_of_the_real_table(gdc_table: ReceptorTable) -> None:
    for rule, wanted in COUNTS.items():
        counts = {r["label"]: r for r in count_labels(gdc_table, rule)}
        found = [
            tuple(counts[k][word] for word in ("positive", "negative", "unknown"))
            for k in ("HER2", "PR")
        ]
        assert tuple(found) == wanted, rule
    assert len(gdc_table.cases) == 1097


def test_agreement_with_published_labels(shared_data: Path, gdc_table: ReceptorTable) -> None:
    cases = {c.case_id: c for c in gdc_table.cases}
    path = shared_data / "tcga-brca" / "clinical.csv"
    published = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("case_id")
    share: dict[str, float] = {}
    for receptor in ("PR", "ER", "HER2"):
        both = [
            (cases[c].judge(receptor, "asco-cap").label, float(v) == 1)
            for c, v in published[receptor].items()
            if v and cases[str(c)].judge(receptor, "asco-cap").label is not None
        ]
        assert len(both) > 500
        share[receptor] = sum((a == "positive") == b for a, b in both) / len(both)
    assert share["PR"] >= 0.99
    assert share["ER"] >= 0.99
    assert share["HER2"] >= 0.94


@pytest.mark.parametrize("name", ["CTransPath_CLAM", "SHUFFLE_SGraph"])
def test_ihc_only_is_what_published_predictions_were_labelled_by(
    shared_data: Path, gdc_table: ReceptorTable, name: str
) -> None:
    cases = {c.case_id: c for c in gdc_table.cases}
    path = shared_data / "published-predictions" / f"tcga_brca_{name}.csv"
    table = pd.read_csv(path, dtype={"Patient ID": str})
    for receptor in ("HER2", "PR", "ER"):
        ours = [cases[c].judge(receptor, "ihc-only").label for c in table["Patient ID"]]
        words = {1.0: "positive", 0.0: "negative"}
        theirs = [words.get(v) for v in table[receptor]]
        counts = Counter(zip(ours, theirs, strict=True))
        assert all(a == b for a, b in counts), counts
