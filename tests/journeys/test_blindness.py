"""Held-out cases teach nothing: replace all of them by noise, and no weight changes by a bit."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from momkd.data.cohort import cohort_digest
from momkd.data.folds import make_folds
from momkd.errors import IntegrityError
from momkd.types import Cohort, Fold
from momkd.workflows.audit import audit_cohort
from momkd.workflows.fold_job import FoldJob, run_fold, score_test
from momkd.workflows.settings import ModelChoice, Settings, load_settings
from momkd.workflows.tabular_job import run_tabular

_TAUGHT = ("predictor/model.safetensors", "history.csv")


def _audited(folder: Path, *changes: str) -> tuple[Cohort, Settings]:
    settings = load_settings([folder / "momkd.yaml"], changes)
    return audit_cohort(settings.data).audit.cohort, settings


def _spoil(folder: Path, cohort: Cohort, held_out: set[str]) -> None:
    """Replace features, coordinates, RNA and label of the held-out cases by noise."""
    rng = np.random.default_rng(99)
    for case in cohort.cases:
        for slide_id in case.slide_ids if case.case_id in held_out else ():
            with h5py.File(folder / "features" / f"{slide_id}.h5", "r+") as file:
                file["features"][:] = rng.normal(size=file["features"].shape) * 7
                file["coords"][:] = rng.permutation(file["coords"][:])
    rna = pd.read_csv(folder / "rna.csv.gz", dtype={"case_id": str})
    rows = rna["case_id"].isin(held_out)
    rna.loc[rows, rna.columns[1:]] = rng.random((int(rows.sum()), rna.shape[1] - 1)) * 12
    rna.to_csv(folder / "rna.csv.gz", index=False)
    clinical = pd.read_csv(folder / "clinical.csv", dtype=str, keep_default_na=False)
    rows = clinical["case_id"].isin(held_out)
    flip = {"positive": "negative", "negative": "positive"}
    clinical.loc[rows, "biomarker"] = clinical.loc[rows, "biomarker"].map(flip)
    clinical.to_csv(folder / "clinical.csv", index=False)


def _taught(folder: Path, files: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files}


@pytest.mark.parametrize("update", ["learned", "ema", "fixed"])
def test_held_out_cases_leave_no_trace(cohort: Path, tmp_path: Path, update: str) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(cohort, spoilt)
    known, settings = _audited(cohort)
    fold = make_folds(known, settings.folds, 0)[0]
    _spoil(spoilt, known, set(fold.test))
    other, _ = _audited(spoilt)
    choice = ModelChoice(name="momkd", memory_update=update)  # type: ignore[call-arg]
    for name, data in (("a", known), ("b", other)):
        job = FoldJob(choice=choice, seed=0, fold=fold, folder=tmp_path / name)
        run_fold(job, data, settings)
    files = (*_TAUGHT, "panel.json")
    assert _taught(tmp_path / "a", files) == _taught(tmp_path / "b", files)
    tests = [pd.read_csv(tmp_path / n / "predictions.csv") for n in "ab"]
    gap = tests[0]["prob_positive"] - tests[1]["prob_positive"]
    assert (gap[tests[0]["split"] == "val"] == 0).all()
    assert gap[tests[0]["split"] == "test"].abs().max() > 1e-6, "the noise did not arrive"


@pytest.mark.parametrize("control", ["shuffled_within_class", "label", "none"])
def test_controls_see_no_held_out_case_either(cohort: Path, tmp_path: Path, control: str) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(cohort, spoilt)
    known, settings = _audited(cohort, "controls.withhold_rna=0.3")
    fold = make_folds(known, settings.folds, 0)[0]
    _spoil(spoilt, known, set(fold.test))
    other, _ = _audited(spoilt)
    choice = ModelChoice(name="momkd", control=control)  # type: ignore[arg-type]
    for name, data in (("a", known), ("b", other)):
        job = FoldJob(choice=choice, seed=0, fold=fold, folder=tmp_path / name)
        run_fold(job, data, _one_epoch(settings))
    assert _taught(tmp_path / "a", _TAUGHT) == _taught(tmp_path / "b", _TAUGHT)


@pytest.mark.parametrize("name", ["rna_logistic", "clinical_logistic"])
def test_baselines_decide_without_held_out_cases(cohort: Path, tmp_path: Path, name: str) -> None:
    _add_age(cohort, seed=1)
    spoilt = tmp_path / "spoilt"
    shutil.copytree(cohort, spoilt)
    known, settings = _audited(cohort, "data.covariates=[age]")
    fold = make_folds(known, settings.folds, 0)[0]
    _spoil(spoilt, known, set(fold.test))
    _add_age(spoilt, seed=2, only=set(fold.test))
    other, _ = _audited(spoilt, "data.covariates=[age]")
    found = []
    for folder, data in (("a", known), ("b", other)):
        job = FoldJob(choice=ModelChoice(name=name), seed=0, fold=fold, folder=tmp_path / folder)
        run_tabular(job, data, settings)
        decision = json.loads((job.folder / "decision.json").read_text())
        assert decision.pop("cohort") == cohort_digest(data)
        found.append((decision, pd.read_csv(job.folder / "predictions.csv")))
    assert found[0][0] == found[1][0]
    gap = found[0][1]["prob_positive"] - found[1][1]["prob_positive"]
    assert (gap[found[0][1]["split"] == "val"] == 0).all()
    assert gap[found[0][1]["split"] == "test"].abs().max() > 1e-6, "the noise did not arrive"


def test_the_test_side_is_closed_until_a_decision_is_on_disk(cohort: Path, tmp_path: Path) -> None:
    known, settings = _audited(cohort)
    fold = make_folds(known, settings.folds, 0)[0]
    job = FoldJob(choice=ModelChoice(), seed=0, fold=fold, folder=tmp_path / "job")
    with pytest.raises(IntegrityError, match=r"\[K08\].*closed until config.json is written"):
        score_test(job, known)


def _add_age(folder: Path, seed: int, only: set[str] | None = None) -> None:
    path = folder / "clinical.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    rng = np.random.default_rng(seed)
    age = {c: str(rng.integers(30, 90)) for c in sorted(set(table["case_id"]))}
    rows = table["case_id"].isin(age.keys() if only is None else only)
    table.loc[rows, "age"] = table.loc[rows, "case_id"].map(age)
    table.to_csv(path, index=False)


def test_training_cases_do_leave_a_trace(cohort: Path, tmp_path: Path) -> None:
    """The test above can fail: one training case replaced changes the weights."""
    spoilt = tmp_path / "spoilt"
    shutil.copytree(cohort, spoilt)
    known, settings = _audited(cohort)
    fold: Fold = make_folds(known, settings.folds, 0)[0]
    _spoil(spoilt, known, {fold.train[0]})
    other, _ = _audited(spoilt)
    for name, data in (("a", known), ("b", other)):
        job = FoldJob(choice=ModelChoice(), seed=0, fold=fold, folder=tmp_path / name)
        run_fold(job, data, _one_epoch(settings))
    assert _taught(tmp_path / "a", _TAUGHT) != _taught(tmp_path / "b", _TAUGHT)


def _one_epoch(settings: Settings) -> Settings:
    return settings.model_copy(update={"fit": settings.fit.model_copy(update={"epochs": 1})})
