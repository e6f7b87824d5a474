"""From other people's tables to a checked cohort and back, as typed."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from momkd.workflows.export_predictions import export_predictions
from tests.journeys.run_momkd import momkd, refused
from tests.trident_project import CLINICAL, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


def test_trident_xena_and_gdc_need_paths_and_a_target(project: Path) -> None:
    made = momkd(
        *("init", "--features", "trident", "--clinical", CLINICAL, "--target", "HER2"),
        *("--rna", "TCGA-BRCA.star_tpm.tsv.gz"),
        cwd=project,
    )
    assert made.code == 0, made.err
    answer = momkd("check", "-c", "momkd.yaml", "--set", "folds.n=3", "-o", "audit", cwd=project)
    assert answer.code == 0, answer.err
    for line in (
        "RNA: 25 cases x 8 genes, scale log2 (by its form)",
        "case: HER2 is blank: IHC 2+, ISH not stated",
        "slide: no row in the clinical table",
        "cases with RNA only",
    ):
        assert line in answer.out
    counts = dict(line.rsplit(maxsplit=1) for line in answer.out.splitlines() if "cases " in line)
    assert counts["cases listed"] == "26"
    dropped = pd.read_csv(project / "audit" / "dropped.csv", dtype=str)
    assert len(dropped) == len(dropped.drop_duplicates(["kind", "id"]))


def test_labels_are_printed_and_written(project: Path, tmp_path: Path) -> None:
    answer = momkd("labels", "tcga", project / CLINICAL, "-o", tmp_path / "l.csv")
    assert answer.code == 0, answer.err
    assert "IHC against ISH as recorded" in answer.out
    assert "IHC 2+, ISH not stated" in answer.out
    assert len(pd.read_csv(tmp_path / "l.csv")) == 26
    refused(
        momkd("labels", "tcga", project / CLINICAL, "--rule", "guess", "-o", tmp_path / "m.csv"),
        *(2, "[G13]", "asco-cap"),
    )
    assert not (tmp_path / "m.csv").exists()


def test_clam_comes_in_and_a_patient_on_two_sides_does_not(project: Path, tmp_path: Path) -> None:
    slides = sorted((project / "trident").rglob("*.h5"))[:12]
    rows = [f"{p.stem[:12]},{p.stem},{'mut' if i % 2 else 'wt'}" for i, p in enumerate(slides)]
    (tmp_path / "d.csv").write_text("\n".join(["case_id,slide_id,label", *rows]) + "\n")
    names = [p.stem for p in slides]
    lines = [",train,val,test"] + [
        f"{i},{names[i]},{names[4 + i]},{names[8 + i]}" for i in range(4)
    ]
    (tmp_path / "splits").mkdir()
    split = tmp_path / "splits" / "splits_0.csv"
    split.write_text("\n".join(lines) + "\n")
    made = momkd(
        *("init", "--from-clam", "d.csv", "splits", "--features", project / "trident"), cwd=tmp_path
    )
    assert made.code == 0, made.err
    assert yaml.safe_load((tmp_path / "momkd.yaml").read_text())["folds"]["file"] == "splits"
    allow = ("--set", "folds.allow_subset=true")
    split.write_text(split.read_text() + f"4,{names[0]},,{names[0]}\n")
    refused(momkd("check", "-c", "momkd.yaml", *allow, cwd=tmp_path), 5, "[K11]", "two sides")
    both = momkd("init", "--from-clam", "d.csv", "splits", "--clinical", "d.csv", cwd=tmp_path)
    refused(both, 2, "[G07]", "--clinical and --from-clam")


def test_predictions_go_out(finished_run: Path, tmp_path: Path) -> None:
    ours = pd.read_csv(finished_run / "predictions.csv", dtype={"case_id": str})
    ours = ours[(ours["split"] == "test") & (ours["model"] == "abmil") & (ours["fold"] == 1)]
    answer = momkd("export", "predictions", finished_run, "--as", "stamp", "-o", tmp_path / "s")
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "s" / "abmil" / "seed-0" / "split-1" / "patient-preds.csv")
    columns = ["biomarker_negative", "biomarker_positive"]
    assert list(table.columns) == ["PATIENT", "biomarker", "pred", *columns, "loss"]
    means = ours.groupby("case_id")["prob_positive"].mean()
    assert table["biomarker_positive"].tolist() == pytest.approx(means[table["PATIENT"]].tolist())
    assert table[columns].sum(axis=1).tolist() == pytest.approx([1.0] * len(table))
    export_predictions(finished_run, tmp_path / "c", convention="clam")
    table = pd.read_csv(tmp_path / "c" / "abmil" / "seed-0" / "fold_1.csv").set_index("slide_id")
    assert list(table.columns) == ["Y", "Y_hat", "p_0", "p_1"]
    assert table["p_1"].to_dict() == pytest.approx(
        ours.set_index("slide_id")["prob_positive"].to_dict()
    )
    summary = pd.read_csv(tmp_path / "c" / "abmil" / "seed-0" / "summary.csv")
    assert list(summary["folds"]) == [0, 1, 2]


def test_what_is_said_of_a_label_goes_wherever_it_goes(cohort: Path, tmp_path: Path) -> None:
    table = pd.read_csv(cohort / "clinical.csv", dtype=str, keep_default_na=False)
    table.rename(columns={"biomarker": "ODX_high"}).to_csv(cohort / "clinical.csv", index=False)
    config = cohort / "momkd.yaml"
    config.write_text(config.read_text().replace("biomarker", "ODX_high"))
    run = tmp_path / "run"
    made = momkd("crossval", "-c", config, "-o", run, "--model", "mean_logistic")
    assert made.code == 0, made.err
    note = "computed from expression"
    assert note in json.loads((run / "run.json").read_text())["target_notes"][0]
    assert note in made.out
    assert note in (run / "report.html").read_text()
    readme = run / "mean_logistic" / "seed-0" / "fold-0" / "predictor" / "README.md"
    assert note in readme.read_text()
    slide = sorted((cohort / "features").glob("*.h5"))[0]
    scored = momkd("predict", slide, "--model", run, "-o", tmp_path / "p.csv")
    assert note in scored.err
    export_predictions(run, tmp_path / "out", convention="clam")
    assert note in (tmp_path / "out" / "NOTES.txt").read_text()
