"""Held-out cases teach nothing: replace all of them by noise, and no weight changes by a bit."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from momkd.data.folds import make_folds
from momkd.types import Cohort, Fold
from momkd.workflows.audit import audit_cohort
from momkd.workflows.fold_job import FoldJob, run_fold
from momkd.workflows.settings import ModelChoice, Settings, load_settings

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
