"""Small simulated cohorts on disk, made once, copied for whoever changes them."""

import shutil
from pathlib import Path

import pytest

from momkd.simulation import SimulationOptions, simulate, write_cohort

SMALL = {"n_cases": 48, "dim": 24, "n_genes": 60, "grid_side": 6, "n_sites": 4, "prevalence": 0.4}

QUICK = """
fit: {epochs: 4, patience: 10, batch_size: 4}
folds: {n: 3, val_fraction: 0.2}
panel: {n_genes: 20}
"""


@pytest.fixture(scope="session")
def made_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with gaps: cases without RNA, without slide, without usable label."""
    folder = tmp_path_factory.mktemp("made")
    gaps = {"without_rna": 0.1, "without_slide": 0.1, "equivocal": 0.05}
    write_cohort(simulate(SimulationOptions(**SMALL, **gaps)), folder)
    (folder / "momkd.yaml").write_text(
        "data:\n  features: features\n  clinical: clinical.csv\n  rna: rna.csv.gz\n"
        "  target: {column: biomarker, positive: positive, negative: negative,"
        " exclude: [equivocal]}\n" + QUICK,
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def cohort(made_cohort: Path, tmp_path: Path) -> Path:
    """A copy of the cohort that a test may spoil."""
    folder = tmp_path / "cohort"
    shutil.copytree(made_cohort, folder)
    return folder


@pytest.fixture(scope="session")
def finished_run(made_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation of two models."""
    from tests.journeys.run_momkd import momkd

    run = tmp_path_factory.mktemp("runs") / "run"
    asked = ("-c", made_cohort / "momkd.yaml", "--model", "momkd,abmil", "-o", run)
    answer = momkd("crossval", *asked, afresh=True)
    assert answer.code == 0, answer.err
    return run
