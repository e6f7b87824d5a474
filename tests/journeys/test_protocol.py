"""A study with its controls and its proof, as a user runs it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.journeys.run_momkd import momkd, refused

_MODELS = "momkd,momkd+shuffled,momkd+no_rna,rna_logistic,clinical_logistic"


def _with_age(cohort: Path) -> Path:
    table = pd.read_csv(cohort / "clinical.csv", dtype=str, keep_default_na=False)
    number = table["case_id"].str[-2:].astype(int)
    table["age"] = [str(40 + i % 37) if i % 9 else "" for i in number]
    table.to_csv(cohort / "clinical.csv", index=False)
    return cohort / "momkd.yaml"


@pytest.mark.slow
def test_controls_stand_beside_the_model(cohort: Path, tmp_path: Path) -> None:
    config, run = _with_age(cohort), tmp_path / "run"
    answer = momkd(
        *("crossval", "-c", config, "-o", run, "--model", _MODELS, "--folds", 2),
        *("--set", "data.covariates=[age]", "--set", "fit.epochs=1"),
    )
    assert answer.code == 0, answer.err
    assert "2 folds by case, stratified by label" in answer.err
    assert "is tested exactly once a seed" in answer.err
    assert "upper bound, reads RNA of the test cases" in answer.out
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["models"] == _MODELS.split(",")
    assert manifest["not_served"] == ["rna_logistic", "clinical_logistic"]
    assert len(manifest["proof"]["digest"]) == 64
    assert sum(row["cases"] for row in manifest["proof"]["sites"]["rows"])
    report = (run / "report.html").read_text()
    for needle in ("Sites and labels", "tested exactly once a seed", "not a predictor of slides"):
        assert needle in report
    table = pd.read_csv(run / "predictions.csv", dtype=str)
    tested = table[table["split"] == "test"].groupby("model")["case_id"].agg(set)
    assert tested["momkd"] == tested["momkd+shuffled"] == tested["clinical_logistic"]
    # cases without RNA are not scored by what reads RNA, and that is said
    assert tested["rna_logistic"] < tested["momkd"]
    assert any("test cases without RNA" in note for note in manifest["training_notes"])
    assert not list(run.glob("rna_logistic/**/predictor"))
    served = momkd("predict", "--model", run, cohort / "features", "-o", tmp_path / "out.csv")
    assert served.code == 0, served.err
    models = set(pd.read_csv(tmp_path / "out.csv")["model"])
    assert models == {"momkd", "momkd+shuffled", "momkd+no_rna"}
    alone = momkd(
        *("predict", "--model", run, cohort / "features", "-o", tmp_path / "out.csv"),
        *("--only", "rna_logistic"),
    )
    refused(alone, 3, "[P15]", "no predictor of slides")


def test_check_shows_the_proof_and_refuses_what_cannot_be(cohort: Path, tmp_path: Path) -> None:
    config = cohort / "momkd.yaml"
    answer = momkd("check", "-c", config, "--paired-only", "-o", tmp_path)
    assert answer.code == 0, answer.err
    assert "sites and labels" in answer.out
    assert "sites cross: of" in answer.out
    dropped = pd.read_csv(tmp_path / "dropped.csv", dtype=str)
    lacking = dropped[(dropped["code"] == "S21") & (dropped["kind"] == "case")]["reason"]
    assert set(lacking) == {"no RNA (data.paired_only)", "no slide (data.paired_only)"}
    impossible = momkd("check", "-c", config, "--site-preserved", "--set", "folds.n=6")
    refused(impossible, 3, "[K06]", "more than 1/6")


def test_folds_by_whole_sites(cohort: Path, tmp_path: Path) -> None:
    clinical = pd.read_csv(cohort / "clinical.csv", dtype=str, keep_default_na=False)
    clinical["site"] = "S" + (clinical["case_id"].str[-2:].astype(int) % 7).astype(str)
    clinical.to_csv(cohort / "clinical.csv", index=False)
    config, run = cohort / "momkd.yaml", tmp_path / "run"
    answer = momkd(
        *("crossval", "-c", config, "-o", run, "--model", "mean_logistic", "--site-preserved"),
    )
    assert answer.code == 0, answer.err
    assert "3 folds by whole sites" in answer.err
    cases = pd.read_csv(run / "cohort.csv", dtype=str).drop_duplicates("case_id")
    folds = pd.read_csv(run / "folds.csv", dtype=str).merge(cases, on="case_id")
    for _, fold in folds.groupby(["seed", "fold"]):
        tested = set(fold.loc[fold["split"] == "test", "site"])
        assert tested
        assert not tested & set(fold.loc[fold["split"] != "test", "site"])
    # two cases change places: each is still tested once, and their sites cross
    first = folds[(folds["fold"] == "0") & folds["slide_id"].notna()]
    one = first[first["split"] == "test"]["case_id"].iloc[0]
    other = first[(first["split"] == "train") & (first["label"] == first["label"].iloc[0])]
    pair = {one: other["case_id"].iloc[0], other["case_id"].iloc[0]: one}
    table = pd.read_csv(run / "folds.csv", dtype=str)
    table["case_id"] = table["case_id"].replace(pair)
    table.to_csv(tmp_path / "folds.csv", index=False)
    given = momkd(
        *("check", "-c", config, "--site-preserved"),
        *("--set", f"folds.file={tmp_path / 'folds.csv'}"),
        cwd=tmp_path,
    )
    refused(given, 5, "[K05]", "stand in training and test")
