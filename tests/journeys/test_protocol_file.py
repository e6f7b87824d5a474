"""A protocol frozen by hand, a search, a change afterwards: as a user meets them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.journeys.run_momkd import momkd, refused

_SEARCH = "search={spaces: {abmil: {fit.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}}}"


@pytest.mark.slow
def test_a_frozen_study_with_a_search(cohort: Path, tmp_path: Path) -> None:
    config, run = cohort / "momkd.yaml", tmp_path / "run"
    study = (
        *("crossval", "-c", config, "-o", run, "--model", "abmil,mean_logistic", "--folds", 2),
        *("--search", 2, "--set", "fit.epochs=1", "--set", _SEARCH),
    )
    frozen = momkd(*study, "--freeze", "--method", "abmil")
    assert frozen.code == 0, frozen.err
    sha256 = json.loads((run / "run.json").read_text())["protocol"]["sha256"]
    assert f"protocol frozen: SHA-256 {sha256}" in frozen.err
    assert sha256 in frozen.out
    assert not list(run.glob("abmil/**/predictions.csv"))
    refused(momkd(*study, "--method", "mean_logistic"), 5, "[K17]", "names abmil as the method")
    done = momkd(*study)
    assert done.code == 0, done.err
    assert "before each of them 2 trials on its inner split" in done.err
    trials = pd.read_csv(run / "abmil" / "seed-0" / "fold-1" / "search.csv")
    assert trials["trial"].tolist() == [0, 1]
    compared = momkd("compare", run)
    assert compared.code == 0, compared.err
    assert "abmil was named in the protocol, before any test" in compared.out
    assert sha256 in (run / "report.html").read_text()
    path = run / "protocol.json"
    path.write_text(path.read_text().replace('"rope": 0.01', '"rope": 0.1'))
    for verb in (("evaluate", run), ("compare", run), ("report", run), study):
        refused(momkd(*verb), 5, "[K16]", "changed after it was frozen")


def test_a_search_that_cannot_be_is_refused_in_one_line(cohort: Path, tmp_path: Path) -> None:
    answer = momkd(
        *("crossval", "-c", cohort / "momkd.yaml", "-o", tmp_path / "run", "--search", 2),
        *("--set", "search.spaces={momkd: {model.n_slot: [8]}}"),
    )
    refused(answer, 2, "[G03]", "n_slot: unknown key; did you mean n_slots?")
    assert len(answer.error_lines) == 1
    assert not (tmp_path / "run").exists()
