"""Scores are drawn over the slide they are of, and over no other."""

import io

import h5py
import numpy as np
import pytest
from PIL import Image

from momkd.errors import DataError
from momkd.slides.opening import open_slide
from momkd.slides.reader import SlideRules
from momkd.slides.survey import jpeg
from momkd.workflows.heatmap import heatmap
from tests.pictures import MPP, paint_slide


@pytest.fixture
def scores(tmp_path):
    """Scores of four tiles of a slide of 1024 x 1024 px, and its thumbnail."""
    Image.fromarray(paint_slide()).save(tmp_path / "a.png")
    (tmp_path / "thumbs").mkdir()
    with open_slide(tmp_path / "a.png", SlideRules(mpp=MPP)) as slide:
        (tmp_path / "thumbs" / "a.jpg").write_bytes(jpeg(slide.thumbnail(256), slide))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["attention"] = np.full(4, 0.25, np.float32)
        coords = file.create_dataset(
            "coords_px0", data=np.array([[0, 0], [64, 0], [0, 64], [64, 64]])
        )
        coords.attrs.update(tile_px0=64.0, tile_px=64, mpp=MPP, width_px0=1024, height_px0=1024)
        file.attrs.update(slide_id="a", model="toy")
    return tmp_path / "a.h5"


def draw(scores):
    return heatmap([scores], scores.parent / "maps", thumbnails=scores.parent / "thumbs")


def test_scores_are_drawn_over_their_slide(scores):
    (picture,) = draw(scores)
    assert picture.exists()
    assert picture.with_suffix(".geojson").exists()


def test_places_that_are_not_of_level_0_give_no_polygons(scores):
    with h5py.File(scores, "a") as file:
        file["coords_px0"].attrs["is_level0"] = False
        del file["coords_px0"].attrs["width_px0"]
    (picture,) = draw(scores)
    assert picture.exists()
    assert not picture.with_suffix(".geojson").exists()


@pytest.mark.parametrize("fault", ["tiles beyond", "another size", "other proportions"])
def test_s16_scores_of_another_slide_are_refused(scores, fault):
    if fault == "tiles beyond":
        with h5py.File(scores, "a") as file:
            file["coords_px0"][3] = (5000, 64)
    elif fault == "another size":
        with h5py.File(scores, "a") as file:
            file["coords_px0"].attrs["width_px0"] = 2048
            file["coords_px0"].attrs["height_px0"] = 2048
    else:
        stream = io.BytesIO()
        Image.new("RGB", (300, 200)).save(stream, "JPEG")
        (scores.parent / "thumbs" / "a.jpg").write_bytes(stream.getvalue())
    with pytest.raises(DataError) as caught:
        draw(scores)
    assert caught.value.problems[0].code == "S16"
    assert not (scores.parent / "maps").exists()
