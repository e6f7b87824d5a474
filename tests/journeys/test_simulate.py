"""A simulated cohort from the command line to a passed check; refusals in one line."""

import json
from pathlib import Path

from tests.journeys.run_momkd import momkd, refused

_QUICK = ("--set", "n_genes=60", "--set", "dim=24", "--set", "grid_side=5", "--set", "n_sites=4")


def test_a_simulated_cohort_is_checked_at_once(tmp_path: Path) -> None:
    answer = momkd("simulate", "default", "-o", "made", "--cases", 60, *_QUICK, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "made: 60 cases" in answer.out
    truth = json.loads((tmp_path / "made" / "truth.json").read_text())
    assert f"morphology: {truth['ceilings']['morphology']:.3f}" in answer.out
    assert "Simulated cases: figures on them say nothing of real ones" in answer.out
    told = answer.out.splitlines()[-1].removeprefix("next: ")
    assert told == "momkd check -c made/momkd.yaml"
    checked = momkd(*told.split()[1:], cwd=tmp_path)
    assert checked.code == 0, checked.err
    assert "ready: momkd crossval" in checked.out


def test_what_cannot_be_simulated_is_refused_in_one_line(tmp_path: Path) -> None:
    answer = momkd("simulate", "site-shortcuts", "-o", tmp_path / "made")
    refused(answer, 2, "[G04]", "did you mean site-shortcut?", "external-shift")
    (tmp_path / "kept").write_text("mine")
    answer = momkd("simulate", "default", "-o", tmp_path)
    refused(answer, 2, "[G08]", "not empty")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
