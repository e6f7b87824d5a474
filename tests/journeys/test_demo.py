"""The demonstration from painted slides to a report, and a slide file predicted by its run."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.journeys.run_momkd import momkd, refused

_SHORT = ("--cases", "40", "--new", "4", "--grid", "4", "--workers", "1")
_QUICK = ("--set", "fit.epochs=2", "--set", "folds.n=2")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demonstration on few, small slides."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    answer = momkd("demo", "-o", folder, *_SHORT, *_QUICK, timeout_s=900)
    assert answer.code == 0, answer.err
    assert "ceiling: morphology known exactly" in answer.out
    assert "MoMKD minus ABMIL" in answer.out
    return folder


def test_the_demo_goes_from_slide_files_to_a_report(demo: Path) -> None:
    slides = sorted((demo / "cohort" / "slides").glob("*.tif"))
    features = sorted((demo / "cohort" / "features").glob("*.h5"))
    assert [p.stem for p in slides] == [p.stem for p in features]
    with h5py.File(features[0]) as file:
        assert file["features"].attrs["encoder"] == "efficientnet-lite0"
    table = pd.read_csv(demo / "predictions.csv")
    truth = json.loads((demo / "new-patients" / "truth.json").read_text())
    assert set(table["slide_id"]) == set(truth["slides"])
    assert set(table["model"]) == {"momkd", "abmil", "mean_logistic"}
    assert (table["n_members"] == 2).all()
    assert (table["low"] <= table["prob_positive"]).all()
    assert (table["prob_positive"] <= table["high"]).all()
    page = (demo / "report.html").read_text()
    assert "ceiling: all known" in page
    assert "Examples, right and wrong" in page
    assert "No picture" not in page
    assert "Simulated cases: these figures say nothing of real ones." in page
    found = json.loads((demo / "scores.json").read_text())
    for slide in found["shown"]:
        with Image.open(demo / "heatmaps" / f"{slide}.png") as picture:
            assert min(picture.size) > 300
        assert (demo / "heatmaps" / f"{slide}.geojson").exists()


def test_a_slide_file_becomes_a_probability_with_an_interval_and_a_heatmap(
    demo: Path, tmp_path: Path
) -> None:
    slide = min((demo / "new-patients" / "slides").glob("*.tif"))
    call = ("predict", slide, "--model", demo / "run", "--only", "momkd")
    first = momkd(*call, cwd=tmp_path)
    assert first.code == 0, first.err
    out = tmp_path / "predicted"
    (row,) = pd.read_csv(out / "predictions.csv").to_dict("records")
    assert f"{row['low']:.3f} to {row['high']:.3f} over 2 models" in first.out
    evidence, picture = sorted(out.rglob("*.png"))
    assert evidence.name == f"{picture.stem}.evidence.png"
    tiles = json.loads(picture.with_suffix(".geojson").read_text())["features"]
    with h5py.File(out / "predictions_features" / f"{slide.stem}.h5") as file:
        assert len(file["coords"]) == len(tiles)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = momkd(*call, "--no-heatmaps", cwd=tmp_path)
    assert "done before" in again.err
    assert {p: p.read_bytes() for p in before} == before
    earlier = pd.read_csv(demo / "predictions.csv")
    same = earlier[(earlier["slide_id"] == slide.stem) & (earlier["model"] == "momkd")]
    np.testing.assert_allclose(same["prob_positive"], row["prob_positive"], atol=1e-6)


def test_a_slide_of_another_resolution_is_refused_in_one_line(demo: Path, tmp_path: Path) -> None:
    slide = min((demo / "new-patients" / "slides").glob("*.tif"))
    kept = tmp_path / "kept"
    answer = momkd(
        *("predict", slide, "--model", demo / "run", "--mpp", "7", "--features", kept),
        *("-o", tmp_path / "p.csv"),
    )
    refused(answer, 3, "[P03]", "7 um/px, the predictor looks at 1.75 um/px")
    assert (kept / f"{slide.stem}.h5").exists()
    assert not (tmp_path / "p.csv").exists()


def test_too_few_cases_are_refused(tmp_path: Path) -> None:
    refused(momkd("demo", "-o", tmp_path / "d", "--cases", "12"), 2, "[G10]", "got 12")
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_the_quicker_demo_from_features_shows_the_exact_ceiling(tmp_path: Path) -> None:
    answer = momkd(
        *("demo", "-o", tmp_path / "d", "--from", "features", "--cases", "60"), timeout_s=1800
    )
    assert answer.code == 0, answer.err
    assert "ceiling: exact posterior" in answer.out
    assert not (tmp_path / "d" / "cohort" / "slides").exists()


@pytest.mark.slow
def test_the_demo_as_it_stands_learns_from_the_pixels(tmp_path: Path) -> None:
    answer = momkd("demo", "-o", tmp_path / "d", timeout_s=3600)
    assert answer.code == 0, answer.err
    rows = json.loads((tmp_path / "d" / "scores.json").read_text())["rows"]
    reached = {row["model"]: float(row["cross-validation"].split()[0]) for row in rows[:3]}
    assert max(reached["momkd"], reached["abmil"]) > 0.65
