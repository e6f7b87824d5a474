"""Training from packed bags: the same to the bit as float32, within rounding as float16."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from momkd.data.folds import hold_out
from momkd.data.packed_cache import PackedCache
from momkd.errors import ConfigError
from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.workflows.audit import audit_cohort
from momkd.workflows.crossval import crossval
from momkd.workflows.fold_job import FoldJob, run_fold
from momkd.workflows.pack import pack
from momkd.workflows.settings import Settings, load_settings, packed_folder
from momkd.workflows.sides import embeddings_used

CONFIG = {
    "data": {
        "features": "features",
        "clinical": "clinical.csv",
        "rna": "rna.csv.gz",
        "target": {"column": "biomarker", "positive": "positive", "negative": "negative"},
    },
    "fit": {"epochs": 3, "batch_size": 4},
    "folds": {"n": 2, "val_fraction": 0.25},
    "panel": {"n_genes": 8},
    "model": {"name": "momkd"},
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    options = SimulationOptions(n_cases=20, dim=24, n_genes=20, grid_side=4, prevalence=0.5)
    write_cohort(simulate(options), folder)
    (folder / "momkd.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def train(cohort: Path, folder: Path, packed: str | None) -> tuple[Settings, pd.DataFrame]:
    """Train one fold, reading feature files or packed bags of some precision."""
    settings = load_settings([cohort / "momkd.yaml"], [f"data.cache_dir={packed or 'null'}"])
    audit = audit_cohort(settings.data).audit
    fold = hold_out(audit.cohort, settings.folds, 0)
    run_fold(
        FoldJob(choice=settings.model, seed=0, fold=fold, folder=folder), audit.cohort, settings
    )
    return settings, pd.read_csv(folder / "predictions.csv")


def test_results_with_and_without_the_cache(cohort: Path, tmp_path: Path) -> None:
    plain, wanted = train(cohort, tmp_path / "plain", None)
    assert embeddings_used(plain) == "as stored"
    for precision in ("float32", "float16"):
        folder = tmp_path / precision
        PackedCache(folder, precision=precision).declare()
        settings, found = train(cohort, tmp_path / f"run-{precision}", str(folder))
        assert embeddings_used(settings) == f"packed, {precision}"
        entries = list(folder.glob("*.pack"))
        assert len(entries) > 10, "training read no packed bag"
        run = tmp_path / f"run-{precision}"
        if precision == "float32":
            for name in ("predictions.csv", "history.csv", "predictor/model.safetensors"):
                same = (run / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
                assert same, name
        else:
            gap = (found["prob_positive"] - wanted["prob_positive"]).abs().max()
            assert 0 < gap < 5e-3


def test_the_folder_beside_the_configuration_is_used_if_it_exists(cohort: Path) -> None:
    config = cohort / "momkd.yaml"
    place = packed_folder([config])
    assert place == cohort / "momkd.packed"
    assert load_settings([config]).data.cache_dir is None
    place.mkdir()
    assert load_settings([config]).data.cache_dir == place
    recipe = cohort / "recipe.yaml"
    recipe.write_text("fit: {epochs: 2}")
    assert load_settings([config, recipe]).data.cache_dir == place
    assert load_settings([config], ["data.cache_dir=null"]).data.cache_dir is None
    place.rmdir()


def test_another_precision_is_wrong_usage(cohort: Path) -> None:
    with pytest.raises(ConfigError, match=r"G04.*int8.*float16 or float32"):
        pack(cohort / "momkd.yaml", precision="int8")


def test_a_run_goes_on_with_the_embeddings_it_began_with(cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"embeddings": "as stored"}')
    PackedCache(tmp_path / "packed").declare()
    with pytest.raises(ConfigError, match=r"T14.*begun with.*as stored.*now packed, float16"):
        crossval(cohort / "momkd.yaml", run, set_=[f"data.cache_dir={tmp_path / 'packed'}"])
