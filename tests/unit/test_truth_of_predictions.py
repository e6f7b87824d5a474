"""Stored attention and saved predictors, held against the truth of the slides they speak of."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import momkd
from momkd.errors import DataError
from momkd.models.table import build_model
from momkd.predictor import Card, Predictor, save_predictor
from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.types import Dims
from momkd.workflows.truth import score_attention, score_morphology

# half of the tumour is niche, and shows m plainly: even an untrained model keeps some of it
WORLD = {"n_cases": 60, "n_genes": 20, "dim": 24, "grid_side": 7, "rho": 0.5, "nu": 3.0}
WORLD |= {"kappa": 3.0, "two_slides": 0.0}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort, two predictors that have learnt nothing, and the attention of one of them."""
    folder = tmp_path_factory.mktemp("predicted")
    write_cohort(simulate(SimulationOptions(**WORLD)), folder / "cohort")
    torch.manual_seed(0)
    for name, options in (("momkd", {"dim": 32, "n_heads": 2, "dim_shared": 16}), ("abmil", {})):
        model = build_model(name, Dims(dim_in=24), options=options)
        card = Card(
            model=name,
            options=model.options.model_dump(mode="json"),
            dims={"dim_in": 24},
            task="biomarker",
            class_names=("negative", "positive"),
            encoder="simulated-24",
            tile_px=256,
            overlap_px=0,
            magnification=20.0,
            neighbours=8,
            thresholds={"max_f1": 0.5},
            threshold_rule="max_f1",
            provenance={"cohort": "ab" * 32, "fold": 0, "seed": 0, "panel": None},
        )
        save_predictor(Predictor(model, card), folder / name)
    momkd.predict(
        folder / "momkd",
        [folder / "cohort" / "features"],
        folder / "p.csv",
        attention=folder / "attention",
    )
    return folder


def truth_of(folder: Path) -> dict:
    return json.loads((folder / "cohort" / "truth.json").read_text())


def test_attention_that_has_learnt_nothing_scores_as_chance_does(predicted: Path) -> None:
    table = score_attention(predicted / "cohort" / "truth.json", predicted / "attention")
    slides = truth_of(predicted)["slides"]
    assert set(table["slide_id"]) == set(slides)
    assert (table["model"] == "predictor").all()
    for row in table.to_dict("records"):
        slide = slides[row["slide_id"]]
        assert row["n_tiles"] == slide["n_tiles"]
        assert row["share"] == pytest.approx(len(slide["niche_tiles"]) / slide["n_tiles"])
    known = table.dropna()
    apart = (known["auprc"] - known["by_chance"]).to_numpy()
    assert abs(apart.mean()) < 0.15


def test_attention_on_the_niche_alone_scores_one(predicted: Path, tmp_path: Path) -> None:
    slides = truth_of(predicted)["slides"]
    folder = tmp_path / "attention"
    shutil.copytree(predicted / "attention", folder)
    for path in folder.rglob("*.h5"):
        with h5py.File(path, "r+") as file:
            niche = np.zeros(len(file["attention"]), dtype=np.float32)
            niche[slides[path.stem]["niche_tiles"]] = 1.0
            file["attention"][:] = niche
    table = score_attention(predicted / "cohort" / "truth.json", folder).dropna()
    assert len(table) > 50
    assert (table["auprc"] == 1).all()
    assert (table["auroc"] == 1).all()


def test_slides_without_attention_are_told(
    predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "attention"
    shutil.copytree(predicted / "attention", folder)
    min(folder.rglob("*.h5")).unlink()
    assert len(score_attention(predicted / "cohort" / "truth.json", folder)) == 59
    assert "1 of 60 simulated slides have no attention" in capsys.readouterr().err


def test_what_is_no_attention_of_these_slides_is_refused(predicted: Path, tmp_path: Path) -> None:
    truth = predicted / "cohort" / "truth.json"
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="P09"):
        score_attention(truth, tmp_path / "none")
    one = min((predicted / "attention").rglob("*.h5"))

    def spoilt(change: object) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        shutil.copy(one, folder)
        with h5py.File(folder / one.name, "r+") as file:
            change(file)
        return folder

    def rename(file: h5py.File) -> None:
        file.attrs["slide_id"] = "another"

    def shift(file: h5py.File) -> None:
        file["coords_px0"][:] = file["coords_px0"][:] + 100

    def empty(file: h5py.File) -> None:
        del file["coords_px0"]

    for change, words in (
        (rename, "another is not in the truth"),
        (shift, "simulated grid of 512 px"),
        (empty, "no stored scores"),
    ):
        with pytest.raises(DataError, match=f"P18.*{words}"):
            score_attention(truth, spoilt(change))
    for text in ("", "[]", "{}"):
        (tmp_path / "truth.json").write_text(text)
        with pytest.raises(DataError, match=r"P18.*no truth"):
            score_attention(tmp_path / "truth.json", predicted / "attention")


def test_what_is_kept_of_m_is_told_from_chance(predicted: Path, tmp_path: Path) -> None:
    features = predicted / "cohort" / "features"
    truth = truth_of(predicted)
    table = score_morphology(
        predicted / "cohort" / "truth.json", predicted / "momkd", features, n_permutations=20
    )
    assert table["what"].tolist() == ["slide vector", "memory"]
    assert (table["n_slides"] == 60).all()
    assert (table["n_members"] == 1).all()
    assert (table["first"] > table["first_high_by_chance"] + 0.1).all()
    # the same predictor, against the morphology of other cases
    names = sorted(truth["cases"])
    order = np.random.default_rng(0).permutation(len(names))
    others = [truth["cases"][names[i]]["morphology"] for i in order]
    for name, morphology in zip(names, others, strict=True):
        truth["cases"][name]["morphology"] = morphology
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    mixed = score_morphology(
        tmp_path / "truth.json", predicted / "abmil", features, n_permutations=20
    )
    assert mixed["what"].tolist() == ["slide vector"]
    assert mixed["first"].item() < mixed["first_high_by_chance"].item() + 0.1


def test_few_slides_say_nothing_of_morphology(predicted: Path, tmp_path: Path) -> None:
    for path in sorted((predicted / "cohort" / "features").iterdir())[:39]:
        shutil.copy(path, tmp_path)
    with pytest.raises(DataError, match=r"P09.*39 cases.*40 or more"):
        score_morphology(predicted / "cohort" / "truth.json", predicted / "abmil", tmp_path)
