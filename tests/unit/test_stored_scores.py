"""Scores on disk and what is drawn of them: every layer, and no name that becomes a path."""

import json
import re

import h5py
import numpy as np
import pytest
from PIL import Image

from momkd.errors import DataError
from momkd.file_names import file_name
from momkd.reporting.tile_layers import attention_layer, evidence_layer, slot_layer
from momkd.types import TileGrid
from momkd.workflows.heatmap import heatmap
from momkd.workflows.report_pictures import find_pictures
from momkd.workflows.stored_scores import StoredScores, read_scores, write_scores

CORNERS = np.array([[0, 0], [64, 0], [0, 64], [64, 64]])
COSINES = np.linspace(-1, 1, 8).reshape(4, 2, 1).astype(np.float16).astype(np.float64)


def scores(slide_id="a", **changed):
    grid = TileGrid(
        slide_id=slide_id, coords_px0=CORNERS, tile_px0=64.0, tile_px=64, mpp=0.5, width_px0=200
    )
    facts = {
        "slide_id": slide_id,
        "model": "momkd",
        "grid": grid,
        "attention": np.array([0.1, 0.2, 0.3, 0.4]),
        "evidence": np.array([-0.5, 0.0, 0.25, 0.5]),
        "cosines": COSINES,
        "class_names": ("no", "yes"),
        "probability": 0.7,
        "low": 0.6,
        "high": 0.8,
    }
    return StoredScores(**facts | changed)


def test_what_is_written_is_read(tmp_path):
    write_scores(tmp_path / "a.h5", scores())
    back = read_scores(tmp_path / "a.h5")
    np.testing.assert_allclose(back.attention, scores().attention, rtol=1e-6)
    np.testing.assert_array_equal(back.evidence, scores().evidence)
    np.testing.assert_array_equal(back.cosines, COSINES)
    np.testing.assert_array_equal(back.grid.coords_px0, CORNERS)
    assert (back.grid.tile_px0, back.grid.width_px0, back.grid.height_px0) == (64, 200, None)
    assert back.class_names == ("no", "yes")
    assert back.title == "a\nmomkd, P(yes) = 0.70 (0.60 to 0.80)"


def test_scores_of_an_earlier_version_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["attention"] = np.full(4, 0.25, np.float32)
        file.create_dataset("coords_px0", data=CORNERS)
        file.attrs.update(slide_id="a", model="abmil", class_name="yes", probability=0.5)
        file.attrs.update(low=0.5, high=0.5)
    back = read_scores(tmp_path / "a.h5")
    assert back.evidence is None
    assert back.title == "a\nabmil, P(yes) = 0.50"
    assert [layer.name for layer in back.layers(slots=True)] == ["attention"]


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("evidence_eq7", np.zeros(3), "3 scores (evidence_eq7) for 4 tiles"),
        ("slot_cosines", np.full((4, 2, 2), np.nan), "not finite"),
    ],
)
def test_p18_scores_that_do_not_fit_are_refused(tmp_path, name, values, told):
    write_scores(tmp_path / "a.h5", scores())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file[name]
        file[name] = values
    with pytest.raises(DataError) as caught:
        read_scores(tmp_path / "a.h5")
    assert caught.value.problems[0].code == "P18"
    assert told in caught.value.problems[0].what


def test_each_layer_says_what_it_shows_and_on_which_scale():
    attention = attention_layer(np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(attention.values, [0.4, 0.8, 1.2, 1.6])
    evidence = evidence_layer(np.array([-0.5, 0.0, 0.25, 0.2]), ("no", "yes"))
    assert evidence.low == -evidence.high
    assert evidence.label == "evidence for yes (cosine difference)"
    low, middle, high = (evidence.colours(v) for v in (0.0, 0.5, 1.0))
    assert low[2] > low[0]  # blue: the negative class
    assert high[0] > high[2]  # orange: the positive
    assert min(middle[:3]) > 0.9
    slot = slot_layer(np.array([0.2, 0.4, 0.9]), 1, 4, ("no", "yes"))
    assert (slot.name, slot.label) == ("slot-1-05", "cosine to slot 5 of yes")
    assert slot.low < slot.high
    assert slot_layer(np.full(3, 0.5), 0, 0, ("no", "yes")).low < 0.501


def test_every_layer_is_drawn_and_measured_from_what_is_stored(tmp_path):
    write_scores(tmp_path / "in" / "a.h5", scores())
    (picture,) = heatmap([tmp_path / "in"], tmp_path / "out", slots=True)
    assert picture == tmp_path / "out" / "a.png"
    stems = ["a", "a.evidence", "a.slot-0-01", "a.slot-1-01"]
    wanted = {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*wanted, "a.geojson"}
    svg = (tmp_path / "out" / "a.evidence.svg").read_text()
    assert "evidence for yes (cosine difference)" in svg
    assert "x (mm)" in svg
    assert "data:image/png;base64," in svg
    assert not re.findall(r'href="(?!data:image/png|#)', svg)
    tiles = json.loads((tmp_path / "out" / "a.geojson").read_text())["features"]
    said = tiles[3]["properties"]["measurements"]
    assert said["attention (x even share)"] == pytest.approx(1.6)
    assert said["evidence (cosine difference)"] == 0.5
    assert said["cosine to slot-1-01"] == 1.0
    assert [layer.name for layer in scores().layers()] == ["attention", "evidence"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a\nb", "<b>\u202e$x_{", "é" * 200])
def test_what_a_file_says_of_its_slide_names_no_place(tmp_path, name):
    write_scores(tmp_path / "in" / "x.h5", scores(name, evidence=None, cosines=None))
    before = {p for p in tmp_path.parent.rglob("*") if "out" not in p.parts}
    heatmap([tmp_path / "in"], tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x.png", "x.svg", "x.geojson"}
    assert {p for p in tmp_path.parent.rglob("*") if "out" not in p.parts} == before


def test_names_that_are_too_long_end_in_a_digest(tmp_path):
    stem = "é" * 120
    assert file_name(stem, ".png") == f"{stem}.png"
    long = "é" * 126
    cut = file_name(long, ".evidence.svg")
    assert len(cut.encode()) <= 255
    assert cut != file_name(long[:-1] + "a", ".evidence.svg")
    write_scores(tmp_path / "in" / f"{long}.h5", scores(long, evidence=None, cosines=None))
    heatmap([tmp_path / "in"], tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_the_report_tells_evidence_from_attention_and_leaves_slots_out(tmp_path):
    folder = tmp_path / "run" / "new_heatmaps"
    folder.mkdir(parents=True)
    for name in ("a", "a.evidence", "a.slot-1-02", "b.evidence"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    told = [p.alt for p in find_pictures(tmp_path / "run")]
    kinds = [("attention", "a"), ("evidence", "a"), ("evidence", "b")]
    assert told == [f"heat map of {kind} over slide {slide}" for kind, slide in kinds]
