"""From slide files to a probability and a heatmap, through the command line."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.journeys.run_momkd import momkd, refused
from tests.pictures import PIECES, paint_slide, write_pyramid

_CUT = ("--tile-px", "256", "--view-mpp", "0.5")
_N_SLIDES = 12


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides whose positive cases have more nuclei, and one for later."""
    folder = tmp_path_factory.mktemp("pixels") / "slides"
    folder.mkdir()
    for i in range(_N_SLIDES):
        write_pyramid(folder / f"S{i:02d}.tif", paint_slide(i, dark=0.2 * (i % 2)))
    write_pyramid(folder.parent / "new.tif", paint_slide(99, dark=0.2))
    return folder


@pytest.fixture(scope="module")
def features(slides: Path) -> Path:
    """Features of the slides."""
    folder = slides.parent / "features"
    answer = momkd("extract", slides, "-o", folder, *_CUT)
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture(scope="module")
def predictor(features: Path) -> Path:
    """ABMIL taught on the slides."""
    folder = features.parent
    with (folder / "clinical.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_id", "slide_id", "nuclei"])
        for i in range(_N_SLIDES):
            writer.writerow([f"P{i:02d}", f"S{i:02d}", ("few", "many")[i % 2]])
    config = folder / "momkd.yaml"
    made = momkd(
        *("init", "--features", features, "--clinical", folder / "clinical.csv"),
        *("--target", "nuclei", "--positive", "many", "--negative", "few", "-o", config),
    )
    assert made.code == 0, made.err
    quick = ("--set", "fit.epochs=15", "--set", "fit.lr=1e-3", "--set", "folds.val_fraction=0.25")
    taught = momkd("train", "-c", config, "-o", folder / "predictor", *quick)
    assert taught.code == 0, taught.err
    return folder / "predictor"


def test_features_say_where_they_come_from(features: Path) -> None:
    with h5py.File(features / "S00.h5") as file:
        coords, facts = file["coords"][:], dict(file["coords"].attrs)
        assert file["features"].shape == (len(coords), 1280)
        assert file["features"].attrs["encoder"] == "efficientnet-lite0"
    assert facts["patch_size"] == facts["patch_size_level0"] == 256
    assert facts["mpp"] == facts["mpp_level0"] == 0.5
    assert (coords % 256 == 0).all()
    centres = coords + 128
    reach = [np.hypot(*(centres - (x, y)).T) - radius for x, y, radius in PIECES]
    assert (np.min(reach, axis=0) < 200).all(), "a tile lies far from any tissue"
    with Image.open(features / "tiles" / "S00.jpg") as picture:
        assert max(picture.size) == 2048
    said = momkd("inspect", features / "S00.h5")
    assert "level-0 px, as stated" in said.out


def test_what_is_done_is_not_done_again_and_what_changed_is(
    slides: Path, features: Path, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in features.glob("*.h5")}
    again = momkd("extract", slides, "-o", features, *_CUT)
    assert again.code == 0
    assert "0 made now" in again.out
    one = slides / "S00.tif"
    target = tmp_path / "f"
    assert "1 made now" in momkd("extract", one, "-o", target, *_CUT).out
    assert (target / "S00.h5").read_bytes() == before["S00.h5"], "not repeatable"
    (target / "S00.h5").write_bytes(before["S00.h5"][:5000])  # a broken file is no finished one
    assert "1 made now" in momkd("extract", one, "-o", target, *_CUT).out
    assert (target / "S00.h5").read_bytes() == before["S00.h5"]
    other = momkd("extract", one, "-o", target, "--tile-px", "512", "--view-mpp", "0.5")
    assert "1 made now" in other.out
    assert {p.name: p.read_bytes() for p in features.glob("*.h5")} == before


def test_one_bad_slide_costs_one_slide(slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.tif").write_bytes((slides / "S00.tif").read_bytes())
    (folder / "bad.tif").write_bytes((slides / "S01.tif").read_bytes()[:30_000])
    Image.fromarray(np.full((600, 600, 3), 240, np.uint8)).save(folder / "blank.png")
    answer = momkd("extract", folder, "-o", tmp_path / "f", "--mpp", "0.5", *_CUT)
    assert answer.code == 4
    assert "Traceback" not in answer.err
    assert (tmp_path / "f" / "good.h5").exists()
    assert not list((tmp_path / "f").glob("bad*"))
    dropped = pd.read_csv(tmp_path / "f" / "dropped.csv")
    assert sorted(dropped["code"]) == ["S04", "S08"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("new.tif", "--encoder", "nothing"), 2, "E02"),
        (("absent.svs",), 3, "F28"),
        (("new.tif", "--tile-px", "3"), 2, "G"),
        (("new.tif", "--tissue", "clinical.json"), 3, "S17"),
    ],
)
def test_refusals(
    slides: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    exit_code: int,
    code: str,
) -> None:
    (slides.parent / "clinical.json").write_text("{}")
    answer = momkd("extract", *arguments, "-o", tmp_path / "out", cwd=slides.parent)
    refused(answer, exit_code, f"[{code}")


def test_a_slide_becomes_a_probability_and_a_heatmap(
    slides: Path, features: Path, predictor: Path, tmp_path: Path
) -> None:
    new = slides.parent / "new.tif"
    answer = momkd(
        *("predict", "--model", predictor, new, "-o", tmp_path / "p.csv"),
        *("--heatmaps", tmp_path / "maps", "--attention", tmp_path / "scores"),
    )
    assert answer.code == 0, answer.err
    (row,) = pd.read_csv(tmp_path / "p.csv").to_dict("records")
    assert row["slide_id"] == "new"
    assert 0 <= row["low"] <= row["prob_many"] <= row["high"] <= 1
    extracted = momkd("extract", new, "-o", tmp_path / "f", *_CUT)
    assert extracted.code == 0
    momkd("predict", "--model", predictor, tmp_path / "f", "-o", tmp_path / "q.csv")
    (same,) = pd.read_csv(tmp_path / "q.csv").to_dict("records")
    assert same["prob_many"] == row["prob_many"]
    picture = next((tmp_path / "maps").rglob("new.png"))
    tiles = json.loads(picture.with_suffix(".geojson").read_text())["features"]
    with h5py.File(next((tmp_path / "scores").rglob("new.h5"))) as file:
        attention, coords = file["attention"][:], file["coords_px0"][:]
    assert [t["geometry"]["coordinates"][0][0] for t in tiles] == coords.tolist()
    got = [t["properties"]["measurements"]["attention"] for t in tiles]
    np.testing.assert_allclose(got, attention, rtol=1e-6)
    again = momkd(
        *("heatmap", tmp_path / "scores", "-o", tmp_path / "again"),
        *("--thumbnails", tmp_path / "p_features" / "thumbnails"),
    )
    assert again.code == 0, again.err
    redrawn = next((tmp_path / "again").rglob("new.png"))
    with Image.open(redrawn) as a, Image.open(picture) as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
