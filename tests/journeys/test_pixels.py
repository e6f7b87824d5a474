"""From slide files to a probability and a heatmap, through the command line."""

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from momkd.workflows.heatmap import heatmap
from momkd.workflows.init import init
from momkd.workflows.predict import predict
from tests.journeys.run_momkd import Answer, command, environment, momkd
from tests.pictures import PIECES, paint_slide, write_pyramid

_CUT = ("--tile-px", "256", "--view-mpp", "1.0")
_N_SLIDES = 8


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides whose positive cases have more nuclei, one that is cut short, and one for later."""
    folder = tmp_path_factory.mktemp("pixels") / "slides"
    folder.mkdir()
    for i in range(_N_SLIDES):
        write_pyramid(folder / f"S{i:02d}.tif", paint_slide(i, dark=0.2 * (i % 2)))
    (folder / "short.tif").write_bytes((folder / "S01.tif").read_bytes()[:30_000])
    write_pyramid(folder.parent / "new.tif", paint_slide(99, dark=0.2))
    return folder


@pytest.fixture(scope="module")
def extracted(slides: Path) -> tuple[int, Answer]:
    """What a run said that went on where another was killed, and how much that one had made."""
    folder = slides.parent / "features"
    killed = subprocess.Popen(command("extract", slides, "-o", folder, *_CUT), env=environment())
    while killed.poll() is None and not list(folder.glob("*.h5")):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    n_before = len(list(folder.glob("*.h5")))
    return n_before, momkd("extract", slides, "-o", folder, "--workers", "2", *_CUT)


@pytest.fixture(scope="module")
def features(slides: Path, extracted: tuple[int, Answer]) -> Path:
    """Features of the slides."""
    return slides.parent / "features"


@pytest.fixture(scope="module")
def predictor(features: Path) -> Path:
    """ABMIL taught on the slides."""
    folder = features.parent
    with (folder / "clinical.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_id", "slide_id", "nuclei"])
        for i in range(_N_SLIDES):
            writer.writerow([f"P{i:02d}", f"S{i:02d}", ("few", "many")[i % 2]])
    config = init(
        features=[features],
        clinical=folder / "clinical.csv",
        output=folder / "momkd.yaml",
        target="nuclei",
        positive=["many"],
        negative=["few"],
    )
    quick = ("--set", "fit.epochs=3", "--set", "fit.lr=1e-3", "--set", "folds.val_fraction=0.25")
    taught = momkd("train", "-c", config, "-o", folder / "predictor", *quick)
    assert taught.code == 0, taught.err
    return folder / "predictor"


def test_extraction_goes_on_after_a_kill_and_tells_what_it_left_out(
    slides: Path, extracted: tuple[int, Answer]
) -> None:
    n_before, answer = extracted
    assert 1 <= n_before < _N_SLIDES
    assert answer.code == 4
    (line,) = answer.error_lines
    assert line.startswith("error[S20] slides: 1 of 9 were left out")
    assert "Traceback" not in answer.err
    assert answer.err.count("done before") == n_before
    assert answer.err.count("tiles of 256 um") == _N_SLIDES - n_before
    folder = slides.parent / "features"
    assert len(list(folder.glob("*.h5"))) == _N_SLIDES
    assert list(pd.read_csv(folder / "dropped.csv")["code"]) == ["S04"]


def test_tiles_lie_on_tissue(features: Path) -> None:
    with h5py.File(features / "S00.h5") as file:
        coords, facts = file["coords"][:], dict(file["coords"].attrs)
        assert file["features"].shape == (len(coords), 1280)
        assert file["features"].attrs["encoder"] == "efficientnet-lite0"
    assert facts["patch_size"] == facts["patch_size_level0"] == 256
    centres = coords + 128
    reach = [np.hypot(*(centres - (x, y)).T) - radius for x, y, radius in PIECES]
    assert (np.min(reach, axis=0) < 182).all(), "a tile lies far from any tissue"
    with Image.open(features / "tiles" / "S00.jpg") as picture:
        assert max(picture.size) == 1024


def test_a_slide_becomes_a_probability_and_a_heatmap(
    slides: Path, predictor: Path, tmp_path: Path
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
    made = tmp_path / "p_features"
    again = predict(predictor, [made], tmp_path / "q.csv")
    assert again["prob_many"].item() == pytest.approx(row["prob_many"], abs=1e-12)
    picture = next((tmp_path / "maps").rglob("new.png"))
    tiles = json.loads(picture.with_suffix(".geojson").read_text())["features"]
    with h5py.File(next((tmp_path / "scores").rglob("new.h5"))) as file:
        attention, coords = file["attention"][:], file["coords_px0"][:]
    assert [t["geometry"]["coordinates"][0][0] for t in tiles] == coords.tolist()
    got = [t["properties"]["measurements"]["attention"] for t in tiles]
    np.testing.assert_allclose(got, attention, rtol=1e-6)
    (redrawn,) = heatmap([tmp_path / "scores"], tmp_path / "again", thumbnails=made / "thumbnails")
    with Image.open(redrawn) as a, Image.open(picture) as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
