"""Tissue is found where it is, and tiles cover it without drifting."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from momkd.errors import ConfigError, DataError
from momkd.slides.reader import Slide
from momkd.slides.tiling import TilingOptions, _shares, lay_tiles
from momkd.slides.tissue import TissueMask, find_tissue, read_tissue
from tests.pictures import MPP, SIDE, paint_slide, tissue_truth, write_geojson


class Glass(Slide):
    """A slide of a given size; nothing reads its pixels."""

    def __init__(self, path, width_px0=SIDE, height_px0=SIDE, mpp=MPP):
        super().__init__(path)
        self.width_px0, self.height_px0, self.mpp = width_px0, height_px0, mpp

    def read_level(self, level, x, y, width, height):
        raise AssertionError("tiles are laid from the mask")

    def close(self):
        pass


def small(picture, factor=2):
    side = SIDE // factor
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def test_tissue_is_found():
    found = find_tissue(small(paint_slide()), 2 * MPP)
    truth = tissue_truth()[1::2, 1::2]
    both = (found.mask & truth).sum() / (found.mask | truth).sum()
    assert both > 0.93
    assert found.area_mm2 == pytest.approx(truth.sum() * (2 * MPP / 1000) ** 2, rel=0.07)


def test_glass_ink_and_shadow_are_no_tissue():
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(238, 2, (256, 256, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    assert not find_tissue(glass, 4.0).mask.any()
    assert not find_tissue(np.full((60, 60, 3), 240, np.uint8), 2.0).mask.any()  # a small one too
    inked = glass.copy()
    inked[40:120, 40:120] = 6
    assert not find_tissue(inked, 4.0).mask.any()


def test_polygons_and_pictures_are_read(tmp_path):
    square = [[200, 200], [800, 200], [800, 800], [200, 800], [200, 200]]
    hole = [[400, 400], [600, 400], [600, 600], [400, 600], [400, 400]]
    path = write_geojson(tmp_path / "a.geojson", [square, hole])
    mask = read_tissue(path, (512, 512), SIDE, SIDE, 2 * MPP)
    assert mask.mask.sum() == pytest.approx(300 * 300 - 100 * 100, rel=0.02)
    assert not mask.mask[250, 250]
    assert mask.mask[150, 150]
    picture = tmp_path / "m.png"
    Image.fromarray(mask.mask).save(picture)
    again = read_tissue(picture, (512, 512), SIDE, SIDE, 2 * MPP)
    assert (again.mask == mask.mask).all()


@pytest.mark.parametrize("fault", ["beyond", "other shape", "no polygon", "no picture"])
def test_a_mask_of_another_slide_is_refused(tmp_path, fault):
    path = tmp_path / ("m.png" if fault in ("other shape", "no picture") else "m.geojson")
    if fault == "beyond":
        write_geojson(path, [[[0, 0], [9000, 0], [9000, 9000], [0, 0]]])
    elif fault == "other shape":
        Image.new("L", (300, 100), 255).save(path)
    else:
        path.write_text('{"type": "Point"}')
    with pytest.raises(DataError) as caught:
        read_tissue(path, (512, 512), SIDE, SIDE, 2 * MPP)
    assert caught.value.problems[0].code == "S17"


@given(
    st.integers(3, 40),
    st.integers(3, 40),
    st.floats(1.0, 9.0),
    st.integers(0, 2**32 - 1),
)
def test_shares_are_exact_areas(width, height, pitch, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    xs = np.arange(int(width / pitch) + 1) * pitch
    ys = np.arange(int(height / pitch) + 1) * pitch
    if len(xs) < 2 or len(ys) < 2:
        return
    got = _shares(mask, xs, ys)
    fine = 1 / 64
    for i in range(len(ys) - 1):
        for j in range(len(xs) - 1):
            rows = np.clip(
                np.minimum(ys[i + 1], np.arange(height) + 1) - np.maximum(ys[i], np.arange(height)),
                0,
                None,
            )
            columns = np.clip(
                np.minimum(xs[j + 1], np.arange(width) + 1) - np.maximum(xs[j], np.arange(width)),
                0,
                None,
            )
            wanted = rows @ mask @ columns / pitch**2
            assert got[i, j] == pytest.approx(wanted, abs=fine * 1e-6)


@example(mpp=1.0367979205661801, tile_px=128)
@given(st.floats(0.11, 1.3), st.sampled_from([128, 224, 256, 896]))
def test_corners_do_not_drift(mpp, tile_px):
    options = TilingOptions(tile_px=tile_px, mpp=0.5)
    slide = Glass(Path("x.tif"), 40_000, 30_000, mpp)
    mask = TissueMask(mask=np.ones((300, 400), bool), um_per_pixel=100 * mpp, source="all")
    grid = lay_tiles(slide, mask, options)
    side = tile_px * 0.5 / mpp
    assert grid.tile_px0 == pytest.approx(side)
    number = np.rint(grid.coords_px0 / side)
    assert np.abs(grid.coords_px0 - number * side).max() <= 0.5
    assert (grid.coords_px0 + np.floor(side) <= (40_000, 30_000)).all()
    # what ends within a thousandth of a tile of the edge counts as on the slide
    columns, rows = (int(np.floor(n / side + 1e-3)) for n in (40_000, 30_000))
    assert len(grid) == columns * rows


@pytest.mark.parametrize(
    ("given", "tile_px", "mpp"),
    [
        ((None, None, None), 896, 0.5),
        ((512, None, None), 512, 0.5),
        ((256, None, 1.0), 256, 1.0),
        ((None, 112.0, None), 224, 0.5),
        ((None, 100.3, None), 201, 100.3 / 201),
        ((224, 112.0, None), 224, 0.5),
        ((224, 112.0, 0.5), 224, 0.5),
    ],
)
def test_a_tile_is_told_in_pixels_or_micrometres(given, tile_px, mpp):
    options = TilingOptions.from_sides(*given, 0.1)
    assert (options.tile_px, options.mpp) == (tile_px, pytest.approx(mpp))


@pytest.mark.parametrize(
    ("given", "code"),
    [((224, 100.0, 0.5), "S21"), ((3, None, None), "G04"), ((None, None, 50.0), "G04")],
)
def test_sides_that_contradict_or_are_impossible_are_refused(given, code):
    with pytest.raises(ConfigError) as caught:
        TilingOptions.from_sides(*given, 0.1)
    assert caught.value.problems[0].code == code


def test_no_tissue_and_too_many_tiles_are_refused(tmp_path):
    slide = Glass(tmp_path / "x.tif")
    empty = TissueMask(mask=np.zeros((64, 64), bool), um_per_pixel=16.0, source="otsu")
    full = TissueMask(mask=np.ones((64, 64), bool), um_per_pixel=16.0, source="otsu")
    for mask, options, wanted in (
        (empty, TilingOptions(tile_px=128, mpp=MPP), "S08"),
        (full, TilingOptions(tile_px=128, mpp=MPP, max_tiles=10), "S18"),
    ):
        with pytest.raises(DataError) as caught:
            lay_tiles(slide, mask, options)
        assert caught.value.problems[0].code == wanted
