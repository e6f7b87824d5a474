"""The paper's tables and figures over a cohort, from the command line."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.workflows.reproduction.arms import METHODS
from momkd.workflows.reproduction.targets import TARGETS
from tests.journeys.conftest import SMALL
from tests.journeys.run_momkd import momkd, refused


def test_a_figure_is_made_once_and_told_again(made_cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = (
        *("reproduce", "figure3", "figure4", "-c", made_cohort / "momkd.yaml", "-o", out),
        *("--profile", "quick", "--folds", 2, "--set", "fit.epochs=2", "--workers", 1),
    )
    done = momkd(*call)
    assert done.code == 0, done.err
    assert "Figure 3. Use of MoMKD's memory (biomarker)" in done.out
    assert "arm 1 of 1, momkd" in done.err
    flat = pd.read_csv(out / "figure3.csv")
    assert len(flat) == 2 * 2 * 2  # folds, epochs, classes
    assert flat["active_ratio"].between(0, 1).all()
    assert all((out / path).exists() for path in flat["history"])
    tiles = pd.read_csv(out / "figure4.csv")
    assert tiles["cosine"].between(-1, 1).all()
    assert set(tiles["class"]) == {"positive", "negative"}
    assert json.loads((out / "figure3.json").read_text())["profile"] == "quick"
    written = {p.name: p.read_bytes() for p in out.iterdir() if p.suffix in (".svg", ".pdf", ".md")}
    again = momkd(*call)
    assert again.code == 0, again.err
    assert "finished before" in again.err
    assert "trainings to do" not in again.err
    assert all((out / name).read_bytes() == content for name, content in written.items())


@pytest.mark.slow
def test_every_target_in_the_quick_profile(made_cohort: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    write_cohort(simulate(SimulationOptions(**SMALL | {"n_cases": 20, "seed": 5})), other)
    shutil.copy(made_cohort / "momkd.yaml", other / "other.yaml")
    config = ("-c", made_cohort / "momkd.yaml", "-o", out, "--profile", "quick")
    refused(momkd("reproduce", "table2", *config), 2, "[G07]", "--external")
    done = momkd(*("reproduce", "all", *config, "--external", other / "other.yaml"), timeout_s=1800)
    assert done.code == 0, done.err
    index = (out / "index.md").read_text()
    assert "not asked for" not in index
    assert "left out" not in index
    for name in TARGETS:
        content = json.loads((out / f"{name}.json").read_text())
        assert "Profile quick: at most 4 epochs" in content["budget"]
        for kind in ("csv", "md", "tex"):
            assert (out / f"{name}.{kind}").stat().st_size
    tables = {n: pd.read_csv(out / f"{n}.csv").set_index("row") for n in ("table1", "table2")}
    for table in tables.values():
        assert list(table.index) == list(METHODS)
        assert table["n_cases"].nunique() == 1
        assert table["auroc"].between(0, 1).all()
        assert all((out / path).exists() for path in table["predictions"])
    assert len(list((out / "runs").iterdir())) == 18
    other_options = ("--set", "model.n_slots=4")
    refused(momkd("reproduce", "figure3", *config, *other_options), 2, "[T14]", "other options")
