"""Deep zoom shows the slide's pixels, all of them once, in every format, and nothing else."""

import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from momkd.errors import DataError
from momkd.slides.opening import open_slide
from momkd.slides.reader import SlideRules, UnreadableRegionError
from momkd.viewer import tile_process, tiles
from momkd.viewer.absence import NotServedError
from momkd.viewer.tile_process import OpenSlides, TileReaders, TileRequest, open_for_view
from momkd.viewer.tiles import TILE_PX, SlideTiles, last_level, tile_box
from tests.dying_children import serve_tiles_and_die
from tests.pictures import paint_slide, write_aperio, write_ome, write_pyramid, write_strips

RULES = SlideRules(mpp=1.0)


def pixels_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "JPEG"
        return np.asarray(image.convert("RGB")).astype(np.float64)


def stitch(shown: SlideTiles, width: int, height: int, level: int) -> np.ndarray:
    """Put all tiles of a level together."""
    scale = 2 ** (last_level(width, height) - level)
    across, down = (-(-side // (scale * TILE_PX)) for side in (width, height))
    rows = [
        np.hstack([pixels_of(shown.tile(level, column, row)) for column in range(across)])
        for row in range(down)
    ]
    return np.vstack(rows)


@given(width=st.integers(1, 200_000), height=st.integers(1, 200_000), data=st.data())
def test_the_boxes_of_a_level_cover_the_slide_once(width, height, data):
    last = last_level(width, height)
    assert 2**last >= max(width, height)
    level = data.draw(st.integers(0, last))
    scale = 2 ** (last - level)
    size = [-(-side // scale) for side in (width, height)]
    n = [-(-side // TILE_PX) for side in size]
    row = data.draw(st.integers(0, n[1] - 1))
    ends = [0, n[0] - 1] if n[0] > 50 else range(n[0])
    widths = {c: tile_box(width, height, level, c, row).width_px for c in ends}
    if n[0] <= 50:
        assert sum(widths.values()) == size[0]
    box = tile_box(width, height, level, n[0] - 1, n[1] - 1)
    assert box.x_px0 < width
    assert box.x_px0 + box.width_px * scale >= width
    assert box.y_px0 + box.height_px * scale >= height
    for column, line in ((n[0], 0), (0, n[1]), (-1, 0), (0, -1)):
        with pytest.raises(NotServedError):
            tile_box(width, height, level, column, line)
    for wrong in (-1, last + 1):
        with pytest.raises(NotServedError):
            tile_box(width, height, wrong, 0, 0)


@pytest.fixture(scope="module")
def picture():
    return paint_slide(3)[:900, :1000]  # no multiple of a tile


@pytest.mark.parametrize("form", ["pyramid", "ome", "strips", "jpg", "png"])
def test_tiles_put_together_are_the_slide(tmp_path, picture, form):
    square = paint_slide(3)
    path = tmp_path / "s.tif"
    if form == "pyramid":
        picture = square
        write_pyramid(path, picture)
    elif form == "ome":
        picture = square
        path = write_ome(tmp_path / "s.ome.tif", picture)
    elif form == "strips":
        write_strips(path, picture)
    else:
        path = tmp_path / f"s.{form}"
        Image.fromarray(picture).save(path, **({"quality": 95} if form == "jpg" else {}))
    height, width = picture.shape[:2]
    with open_slide(path, RULES) as slide:
        shown = SlideTiles(slide)
        last = last_level(width, height)
        full = stitch(shown, width, height, last)
        assert full.shape == picture.shape
        assert np.abs(full - picture).mean() < 8  # JPEG once or twice
        quarter = stitch(shown, width, height, last - 2)
        small = np.asarray(Image.fromarray(picture).resize((width // 4, height // 4)))
        assert quarter.shape[:2] == (-(-height // 4), -(-width // 4))
        part = quarter[: height // 4, : width // 4]
        assert np.abs(part - small).mean() < 8
        assert pixels_of(shown.tile(0, 0, 0)).shape == (1, 1, 3)


def test_label_and_macro_are_in_no_tile(tmp_path, picture):
    label = np.zeros((64, 64, 3), np.uint8)
    label[..., 1] = 255  # a green that no tissue has
    path = write_aperio(tmp_path / "s.svs", paint_slide(3), label)
    with open_slide(path, RULES) as slide:
        shown = SlideTiles(slide)
        for level in range(last_level(1024, 1024) + 1):
            seen = stitch(shown, 1024, 1024, level)
            assert not ((seen[..., 1] > 200) & (seen[..., 0] < 120)).any(), level


def test_a_level_that_is_missing_is_cut_from_an_overview_read_once(tmp_path, monkeypatch):
    picture = np.full((64, 40_000, 3), 240, np.uint8)
    picture[:, 20_000:] = (200, 80, 120)
    write_strips(tmp_path / "s.tif", picture)
    calls = []
    with open_slide(tmp_path / "s.tif", RULES) as slide:
        thumbnail = slide.thumbnail
        monkeypatch.setattr(slide, "thumbnail", lambda px: calls.append(px) or thumbnail(px))
        shown = SlideTiles(slide)
        first = pixels_of(shown.tile(8, 0, 0))
        second = pixels_of(shown.tile(7, 0, 0))
        assert calls == [2048]
        assert first.shape[1] == 157  # 40,000 / 256, rounded up
        assert abs(first[0, 10, 0] - 240) < 6
        assert abs(first[0, 150, 1] - 80) < 12
        assert second.shape[1] == 79


def test_what_is_large_is_read_in_quarters(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "_MOST_READ_PX", 200)
    path = write_strips(tmp_path / "s.tif", paint_slide(1))
    with open_slide(path, RULES) as slide:
        sides = []
        read = slide.read_view
        monkeypatch.setattr(slide, "read_view", lambda *a: sides.append(a[2]) or read(*a))
        seen = pixels_of(SlideTiles(slide).tile(9, 0, 0))
    assert len(sides) == 16
    assert max(sides) <= 200
    small = np.asarray(Image.fromarray(paint_slide(1)).resize((512, 512)))[:256, :256]
    assert np.abs(seen - small).mean() < 8


def test_what_cannot_be_decoded_is_grey(tmp_path, monkeypatch):
    path = write_pyramid(tmp_path / "s.tif", paint_slide(1))
    with open_slide(path, RULES) as slide:

        def fail(*_):
            raise UnreadableRegionError("damaged")

        monkeypatch.setattr(slide, "read_level", fail)
        assert np.abs(pixels_of(SlideTiles(slide).tile(10, 1, 1)) - 208).max() < 3


def test_a_slide_without_a_scale_can_be_looked_at(tmp_path):
    Image.fromarray(paint_slide(1)).save(tmp_path / "s.png")
    slide, has_scale = open_for_view(tmp_path / "s.png", SlideRules())
    slide.close()
    assert not has_scale
    slide, has_scale = open_for_view(tmp_path / "s.png", RULES)
    slide.close()
    assert has_scale
    (tmp_path / "t.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="S03"):
        open_for_view(tmp_path / "t.png", SlideRules())


def test_slides_are_kept_open_until_others_are_wanted_or_they_change(tmp_path, monkeypatch):
    opened = []
    honest = tile_process.open_slide
    monkeypatch.setattr(
        tile_process, "open_slide", lambda p, r: opened.append(p.name) or honest(p, r)
    )
    paths = [write_pyramid(tmp_path / f"{i}.tif", paint_slide(i)) for i in range(3)]
    shelf = OpenSlides()

    def ask(path, tile=(0, 0, 0)):
        return shelf.answer(TileRequest(path=path, rules=RULES, tile=tile))

    for path in (paths[0], paths[1], paths[0], paths[1]):
        assert isinstance(ask(path), bytes)
    assert opened == ["0.tif", "1.tif"]
    ask(paths[2])
    ask(paths[1])
    assert opened == ["0.tif", "1.tif", "2.tif"]
    os.utime(paths[1], ns=(1, 1))
    ask(paths[1])
    assert opened[3:] == ["1.tif"]
    assert isinstance(ask(paths[1], (99, 0, 0)), NotServedError)
    assert "F28" in str(ask(tmp_path / "absent.tif"))
    facts = ask(paths[1], None)
    assert (facts.width_px0, facts.last_level, facts.mpp) == (1024, 10, 1.0)


def test_a_decoder_that_crashes_or_hangs_costs_its_slide_only(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_process, "serve_tiles", serve_tiles_and_die)
    good = write_pyramid(tmp_path / "good.tif", paint_slide(1))
    crash, hang = tmp_path / "crash.tif", tmp_path / "hang.tif"
    for path in (crash, hang):
        path.write_bytes(good.read_bytes())
    readers = TileReaders(RULES, n_workers=1, timeout_s=20.0)
    try:
        assert readers.facts(good).width_px0 == 1024
        readers._lanes[0]._timeout_s = 1.0
        for path, what in ((crash, "crashed"), (hang, "was silent for 1 s")):
            with pytest.raises(DataError, match=f"S14.*{what}"):
                readers.tile(path, 10, 0, 0)
        readers._lanes[0]._timeout_s = 20.0
        assert len(readers.tile(good, 10, 0, 0)) > 500
        with pytest.raises(DataError, match="S14"):
            readers.facts(crash)
        with pytest.raises(DataError, match=r"S14.*crashed before"):
            readers.facts(crash)  # it has had its tries
        with pytest.raises(NotServedError):
            readers.tile(good, 99, 0, 0)
    finally:
        readers.close()
    assert not readers._lanes[0]._child.is_running
