"""From files to predictions, as a user walks it."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from tests.journeys.run_momkd import momkd, refused


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in ("run.json", ".lock")
    }


def test_init_check_evaluate_predict(finished_run: Path, cohort: Path, tmp_path: Path) -> None:
    before = _digests(cohort)
    config = tmp_path / "his.yaml"
    made = momkd(
        *("init", "--features", cohort / "features", "--clinical", cohort / "clinical.csv"),
        *("--rna", cohort / "rna.csv.gz", "--target", "BIOMARKER", "-o", config),
        afresh=True,
    )
    assert made.code == 0, made.err
    assert "equivocal" in config.read_text()
    checked = momkd("check", "-c", config, "-o", tmp_path / "audit")
    assert checked.code == 0, checked.err
    assert "left out" in checked.out
    assert (tmp_path / "his.features.csv").exists()
    again = momkd("evaluate", finished_run)
    assert again.code == 0, again.err
    assert "auroc" in again.out
    answer = momkd(
        *("predict", "--model", finished_run, cohort / "features"),
        *("-o", tmp_path / "p.csv", "--attention", tmp_path / "attention"),
        afresh=True,
    )
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "p.csv")
    assert set(table["model"]) == {"momkd", "abmil"}
    assert np.allclose(table["prob_negative"] + table["prob_positive"], 1)
    assert (table["low"] <= table["prob_positive"] + 1e-9).all()
    assert (table["high"] >= table["prob_positive"] - 1e-9).all()
    slide = table["slide_id"].iloc[0]
    with h5py.File(tmp_path / "attention" / "momkd" / f"{slide}.h5") as file:
        assert file["attention"][:].sum() == pytest.approx(1, abs=1e-4)
        assert len(file["coords_px0"]) == len(file["attention"])
    assert _digests(cohort) == before, "inputs were touched"


def test_run_folder_holds_what_it_promises(finished_run: Path, made_cohort: Path) -> None:
    run = json.loads((finished_run / "run.json").read_text())
    assert run["models"] == ["momkd", "abmil"]
    for job in run["jobs"]:
        folder = finished_run / job
        assert (folder / "predictor" / "model.safetensors").exists()
        assert not (folder / "checkpoint").exists()
        names = {k.split(".")[0] for k in _tensor_names(folder / "predictor" / "model.safetensors")}
        assert not {n for n in names if n.startswith("rna")}, "RNA modules are served"
    table = pd.read_csv(finished_run / "predictions.csv")
    test = table[table["split"] == "test"]
    assert not test.duplicated(["model", "seed", "slide_id"]).any()
    folds = pd.read_csv(finished_run / "folds.csv")
    joined = table.merge(folds, on=["seed", "fold", "case_id"], suffixes=("", "_fold"))
    assert (joined["split"] == joined["split_fold"]).all()
    assert len(joined) == len(table)
    cohort = pd.read_csv(finished_run / "cohort.csv")
    dropped = list(csv.DictReader((finished_run / "dropped.csv").open()))
    clinical = pd.read_csv(made_cohort / "clinical.csv")
    used = set(cohort["case_id"])
    left = {d["id"] for d in dropped if d["kind"] == "case"}
    assert used | left == set(clinical["case_id"])
    assert not used & left
    assert all(d["reason"] and d["code"] for d in dropped)
    report = (finished_run / "report.html").read_text()
    assert "default-src 'none'" in report
    assert 'src="http' not in report


def test_prediction_needs_no_rna(finished_run: Path, cohort: Path, tmp_path: Path) -> None:
    inputs = sorted((cohort / "features").iterdir())[:6]
    first = momkd("predict", "--model", finished_run, *inputs, "-o", tmp_path / "a.csv")
    assert first.code == 0, first.err
    moved = tmp_path / "moved"
    shutil.copytree(finished_run, moved)
    for panel in moved.rglob("panel.json"):
        panel.write_text("poison")
    (cohort / "rna.csv.gz").write_bytes(b"poison")
    second = momkd("predict", "--model", moved, *inputs, "-o", tmp_path / "b.csv")
    assert second.code == 0, second.err
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_shuffled_rows_and_order_change_nothing(
    finished_run: Path, cohort: Path, tmp_path: Path
) -> None:
    inputs = sorted((cohort / "features").iterdir())[:5]
    first = momkd("predict", "--model", finished_run, *inputs, "-o", tmp_path / "a.csv")
    assert first.code == 0, first.err
    rng = np.random.default_rng(0)
    for path in inputs:
        with h5py.File(path, "r+") as file:
            order = rng.permutation(len(file["coords"]))
            file["features"][:] = file["features"][:][order]
            file["coords"][:] = file["coords"][:][order]
    second = momkd("predict", "--model", finished_run, *inputs[::-1], "-o", tmp_path / "b.csv")
    assert second.code == 0, second.err
    keys = ["slide_id", "model"]
    a, b = (pd.read_csv(tmp_path / f"{n}.csv").sort_values(keys) for n in "ab")
    gap = np.abs(a["prob_positive"].to_numpy() - b["prob_positive"].to_numpy()).max()
    assert gap <= 1e-6


def test_two_runs_are_equal_to_the_bit(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    answer = momkd(
        *("crossval", "-c", made_cohort / "momkd.yaml", "--model", "momkd,abmil"),
        *("-o", tmp_path / "run", "--workers", 1),
    )
    assert answer.code == 0, answer.err
    ours, theirs = _digests(tmp_path / "run"), _digests(finished_run)
    keep = {k for k in theirs if "external" not in k and "evaluation" not in k}
    keep -= {"report.html", "metrics.json"}
    assert {k: ours[k] for k in sorted(keep)} == {k: theirs[k] for k in sorted(keep)}


def test_train_then_predict(made_cohort: Path, tmp_path: Path) -> None:
    answer = momkd("train", "-c", made_cohort / "momkd.yaml", "-o", tmp_path / "final")
    assert answer.code == 0, answer.err
    slides = sorted((made_cohort / "features").iterdir())[:3]
    done = momkd("predict", "--model", tmp_path / "final", *slides, "-o", tmp_path / "p.csv")
    assert done.code == 0, done.err
    assert len(pd.read_csv(tmp_path / "p.csv")) == 3


def _change_rna(cohort: Path) -> None:
    table = pd.read_csv(cohort / "rna.csv.gz", dtype={"case_id": str})
    table.iloc[3, 2] += 1
    table.to_csv(cohort / "rna.csv.gz", index=False)


def test_a_folder_keeps_the_predictor_that_it_holds(cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "final"
    asked = ("train", "-c", cohort / "momkd.yaml", "-o", run, "--set", "fit.epochs=1")
    assert momkd(*asked, "--model", "abmil").code == 0
    before = _digests(run)
    assert momkd(*asked, "--model", "abmil").code == 0
    assert _digests(run) == before
    other = "holds a training of another model (abmil, now momkd), another seed (0, now 3);"
    refused(momkd(*asked, "--model", "momkd", "--seed", 3), 2, "[T14]", other)
    plain = ("--set", "model.name=abmil", "--set", "model.gated=false")
    refused(momkd(*asked, *plain), 2, "[T14]", "holds a training of other options of the model;")
    _change_rna(cohort)
    refused(momkd(*asked, "--model", "abmil"), 2, "[T14]", "holds a training of other RNA;")
    assert _digests(run) == before
    folds = ("crossval", *asked[1:], "--model", "abmil")
    refused(momkd(*folds), 2, "[T14]", "holds what momkd train wrote")
    assert _digests(run) == before


def test_a_run_does_not_go_on_with_other_rna_or_covariates(cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = ("crossval", "-c", cohort / "momkd.yaml", "-o", run, "--model", "mean_logistic")
    asked += ("--set", "data.covariates=[sex]")
    clinical = pd.read_csv(cohort / "clinical.csv", dtype=str, keep_default_na=False)
    clinical["sex"] = "female"
    clinical.to_csv(cohort / "clinical.csv", index=False)
    assert momkd(*asked).code == 0
    before = _digests(run)
    clinical.loc[0, "sex"] = "male"
    clinical.to_csv(cohort / "clinical.csv", index=False)
    refused(momkd(*asked), 5, "[K17]", "covariates of the cases differ")
    clinical.loc[0, "sex"] = "female"
    clinical.to_csv(cohort / "clinical.csv", index=False)
    _change_rna(cohort)
    refused(momkd(*asked), 5, "[K17]", "RNA of the cases differ")
    refused(momkd("train", *asked[1:]), 2, "[T14]", "holds a cross-validation")
    assert _digests(run) == before


def test_external_cohort_is_scored_once_and_must_be_new(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    from momkd.simulation import SimulationOptions, simulate, write_cohort
    from tests.journeys.conftest import SMALL

    other = tmp_path / "other"
    write_cohort(simulate(SimulationOptions(**SMALL | {"n_cases": 20, "seed": 5})), other)
    shutil.copy(made_cohort / "momkd.yaml", other / "other.yaml")
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    answer = momkd("evaluate", run, "--external", other / "other.yaml")
    assert answer.code == 0, answer.err
    assert (run / "external-other" / "predictions.csv").exists()
    same = momkd("evaluate", run, "--external", made_cohort / "momkd.yaml")
    refused(same, 3, "[P12]", "taught the models")


def test_a_table_of_predictions_is_scored(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    labels = [0, 0, 1, 1, 0, 1]
    table = pd.DataFrame({"case_id": list("abcdef"), "y_true": labels})
    table["prob_positive"] = [0.1, 0.4, 0.35, 0.8, 0.2, 0.9]
    table.insert(2, "prob_negative", 1 - table["prob_positive"])
    table.to_csv(tmp_path / "mine.csv", index=False)
    answer = momkd("evaluate", run, "--predictions", tmp_path / "mine.csv")
    assert answer.code == 0, answer.err
    metrics = json.loads((run / "evaluation-mine" / "metrics.json").read_text())
    auroc = metrics["models"]["mine"]["mean_over_folds"]["auroc"]["value"]
    assert auroc == pytest.approx(8 / 9)
    table.drop(columns="y_true").to_csv(tmp_path / "bare.csv", index=False)
    refused(momkd("evaluate", run, "--predictions", tmp_path / "bare.csv"), 3, "[P17]", "y_true")


def test_models_are_compared(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    answer = momkd("compare", run, "--method", "momkd", "--show-naive")
    assert answer.code == 0, answer.err
    assert "Nadeau-Bengio" in answer.out
    assert "may not be claimed" in answer.out
    assert "a warning, not a result" in answer.out
    assert "Paired comparison" in (run / "report.html").read_text()
    (pair,) = json.loads((run / "comparison.json").read_text())["pairs"]
    assert (pair["method"], pair["other"]) == ("momkd", "abmil")
    table = pd.read_csv(run / "predictions.csv", dtype=str)
    other = tmp_path / "fewer"
    shutil.copytree(finished_run, other)
    table[table["case_id"] != table["case_id"].iloc[0]].to_csv(
        other / "predictions.csv", index=False
    )
    refused(momkd("compare", run, other, "--method", "run/momkd"), 3, "[M01]", "1 missing")


def test_what_cannot_be_predicted_is_refused(
    finished_run: Path, cohort: Path, tmp_path: Path
) -> None:
    features = cohort / "features"
    out = ("-o", tmp_path / "p.csv")
    refused(momkd("predict", "--model", cohort, features, *out), 3, "[P13]", "neither")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(momkd("predict", "--model", finished_run, empty, *out), 3, "[P09]", "neither a slide")
    refused(momkd("predict", "--model", finished_run, features, *out, "--only", "wikg"), 3, "[P15]")
    slide = sorted(features.iterdir())[0]
    with h5py.File(slide, "r+") as file:
        file["features"].attrs["encoder"] = "another"
    refused(momkd("predict", "--model", finished_run, slide, *out), 3, "[P01]", "another")
    assert not (tmp_path / "p.csv").exists()
    broken = tmp_path / "broken"
    shutil.copytree(finished_run, broken)
    weights = next(broken.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(momkd("predict", "--model", broken, features, *out), 5, "[C13]", "SHA-256")
    shutil.rmtree(weights.parent)
    refused(momkd("predict", "--model", broken, features, *out), 3, "[P10]", "missing")


def test_inspect_names_what_it_finds(cohort: Path, tmp_path: Path) -> None:
    slide = sorted((cohort / "features").iterdir())[0]
    bad = tmp_path / "bad.h5"
    bad.write_text("<html>")
    answer = momkd("inspect", slide, cohort / "rna.csv.gz", bad)
    refused(answer, 3, "[F03]", "HTML")
    assert "layout: trident" in answer.out
    assert "60 genes" in answer.out


@pytest.mark.slow
def test_slides_of_few_tiles_train_and_predict(cohort: Path, tmp_path: Path) -> None:
    files = sorted((cohort / "features").iterdir())
    for path, n_tiles in zip(files, [1, 2, 8, 9] * 4, strict=False):
        with h5py.File(path, "r+") as file:
            for name in ("features", "coords"):
                kept, attributes = file[name][:n_tiles], dict(file[name].attrs)
                del file[name]
                file.create_dataset(name, data=kept).attrs.update(attributes)
    run = tmp_path / "run"
    answer = momkd("crossval", "-c", cohort / "momkd.yaml", "--model", "momkd,abmil", "-o", run)
    assert answer.code == 0, answer.err
    assert np.isfinite(pd.read_csv(run / "predictions.csv")["prob_positive"]).all()
    done = momkd("predict", "--model", run, *files[:4], "-o", tmp_path / "p.csv")
    assert done.code == 0, done.err


def test_bags_without_coordinates(cohort: Path, tmp_path: Path) -> None:
    for path in (cohort / "features").iterdir():
        with h5py.File(path, "r+") as file:
            del file["coords"]
    config = cohort / "momkd.yaml"
    graph = momkd("crossval", "-c", config, "--model", "momkd", "-o", tmp_path / "a")
    refused(graph, 3, "[F16]", "coordinates", "abmil")
    plain = momkd("crossval", "-c", config, "--model", "abmil", "-o", tmp_path / "b")
    assert plain.code == 0, plain.err


@pytest.mark.slow
def test_real_bags_without_rna_or_coordinates(shared_data: Path, tmp_path: Path) -> None:
    """UCSB breast: 58 real bags of 708 features, no RNA, no coordinates."""
    table = pd.read_csv(shared_data / "ucsb-breast" / "ucsb_breast_cancer.csv.gz", header=None)
    rows = []
    for bag, part in table.groupby(1):
        path = tmp_path / "features" / f"ucsb-{int(bag):02d}.h5"
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["features"] = part.iloc[:, 2:].to_numpy(np.float32)
        rows.append((path.stem, path.stem, int(part[0].iloc[0])))
    clinical = pd.DataFrame(rows, columns=["case_id", "slide_id", "malignant"])
    clinical.to_csv(tmp_path / "clinical.csv", index=False)
    config = tmp_path / "ucsb.yaml"
    made = momkd(
        *("init", "--features", tmp_path / "features", "--clinical", tmp_path / "clinical.csv"),
        *("--target", "malignant", "-o", config),
    )
    assert made.code == 0, made.err
    quick = ("--set", "fit.epochs=5", "--folds", 3)
    lacks = momkd("crossval", "-c", config, "--model", "momkd", "-o", tmp_path / "m", *quick)
    refused(lacks, 3, "RNA", "coordinates")
    trains = momkd("crossval", "-c", config, "--model", "abmil", "-o", tmp_path / "a", *quick)
    assert trains.code == 0, trains.err


def _tensor_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())
