"""Nine methods and their control in one run, and the recipes that go with them."""

from pathlib import Path

import pandas as pd
import pytest

from momkd.models.table import MODELS
from momkd.workflows.settings import load_settings, parse_models
from tests.journeys.run_momkd import momkd, refused

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
COMMON = RECIPES / "common-budget.yaml"


def test_all_models_in_one_run(made_cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call = (
        *("crossval", "-c", made_cohort / "momkd.yaml", "-c", COMMON, "--model", "all"),
        *("--folds", 2, "--set", "fit.epochs=1", "-o", run),
    )
    done = momkd(*call, timeout_s=900)
    assert done.code == 0, done.err
    table = pd.read_csv(run / "predictions.csv")
    assert set(table["model"]) == set(MODELS)
    test = table[table["split"] == "test"]
    scored = {name: set(part["case_id"]) for name, part in test.groupby("model")}
    assert len({frozenset(cases) for cases in scored.values()}) == 1, "not the same test cases"
    written = (run / "predictions.csv").read_bytes()
    # one training is lost: only that one is done again, and nothing changes
    (run / "mkd" / "seed-0" / "fold-1" / "done.json").unlink()
    again = momkd(*call, timeout_s=900)
    assert again.code == 0, again.err
    assert f"1 of {2 * len(MODELS)} trainings to do" in again.out + again.err
    assert (run / "predictions.csv").read_bytes() == written
    answer = momkd(
        *("predict", "--model", run, made_cohort / "features", "-o", tmp_path / "p.csv"),
        timeout_s=900,
    )
    assert answer.code == 0, answer.err
    assert set(pd.read_csv(tmp_path / "p.csv")["model"]) == set(MODELS)


def test_a_batch_of_one_is_refused_for_those_who_compare_slides(
    made_cohort: Path, tmp_path: Path
) -> None:
    answer = momkd(
        *("crossval", "-c", made_cohort / "momkd.yaml", "--model", "all"),
        *("--set", "fit.batch_size=1", "-o", tmp_path / "run"),
    )
    refused(answer, 2, "[G12]", "fit.batch_size", "mkd, tdc", "common-budget.yaml")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_whole(recipe: Path, made_cohort: Path) -> None:
    settings = load_settings([made_cohort / "momkd.yaml", recipe])
    assert parse_models(None, settings)[0].name in MODELS


def test_every_model_has_a_recipe_and_a_page() -> None:
    pages = {path.stem for path in (RECIPES.parent / "docs" / "models").glob("*.md")}
    recipes = {path.stem.partition("-")[0] for path in RECIPES.glob("*.yaml")}
    assert set(MODELS) - {"mean_logistic"} <= pages & recipes
