"""Slides open by content, keep their scale, and say what is wrong with them."""

import multiprocessing

import numpy as np
import pytest
import tifffile
from PIL import Image

from momkd.errors import DataError
from momkd.slides.reader import Slide, SlideRules, open_slide
from momkd.slides.reading_process import ReadRequest, SlideFacts, ViewReader, Views
from momkd.slides.tiling import TilingOptions
from tests.pictures import MPP, SIDE, paint_slide, write_ome, write_pyramid, write_strips


@pytest.fixture(scope="module")
def picture():
    return paint_slide()


@pytest.fixture(scope="module")
def files(picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(picture).save(folder / "b.jpg", quality=95)
    return {
        "png": folder / "a.png",
        "jpg": folder / "b.jpg",
        "pyramid": write_pyramid(folder / "c.tif", picture),
        "ome": write_ome(folder / "d.ome.tif", picture),
        "strips": write_strips(folder / "e.tif", picture),
    }


def code(path, rules=None):
    with pytest.raises(DataError) as caught:
        open_slide(path, rules).close()
    return caught.value.problems[0]


@pytest.mark.parametrize("kind", ["png", "jpg", "pyramid", "ome", "strips"])
def test_every_format_gives_the_same_views(files, picture, kind):
    rules = SlideRules(mpp=MPP) if kind in ("png", "jpg") else None
    with open_slide(files[kind], rules) as slide:
        assert (slide.width_px0, slide.height_px0) == (SIDE, SIDE)
        assert slide.mpp == pytest.approx(MPP, rel=1e-3)
        exact = slide.read_view(600, 700, 200, 200)
        wide = slide.read_view(300.5, 410.25, 900, 225)
        thumbnail = slide.thumbnail(512)
    lossy = 9 if kind in ("jpg", "pyramid") else 0.51
    assert np.abs(exact.astype(int) - picture[700:900, 600:800]).mean() <= lossy
    box = (300.5, 410.25, 1200.5, 1310.25)
    whole = Image.fromarray(picture).resize((225, 225), Image.Resampling.BICUBIC, box=box)
    assert np.abs(wide.astype(int) - np.asarray(whole)).mean() <= lossy + 6
    small = picture.reshape(512, 4, 512, 4, 3).mean(axis=(1, 3))
    assert thumbnail.shape == (512, 512, 3)
    assert np.abs(thumbnail - small).mean() <= lossy + 6


def test_what_lies_beyond_the_slide_is_white(files):
    with open_slide(files["pyramid"]) as slide:
        view = slide.read_view(SIDE - 100, SIDE - 50, 200, 200)
        assert (view[60:, :] == 255).all()
        assert (view[:, 110:] == 255).all()
        assert (slide.read_view(SIDE + 10, 0, 50, 50) == 255).all()
        corner = slide.read_view(-100, -100, 200, 200)
        assert (corner[:90, :90] == 255).all()
        assert (corner[110:, 110:] < 255).any()


def test_a_slide_is_opened_by_content(files, tmp_path):
    wrong = tmp_path / "x.svs"
    wrong.write_bytes(files["jpg"].read_bytes())
    with open_slide(wrong, SlideRules(mpp=MPP)) as slide:
        assert any("holds jpeg" in note for note in slide.notes)
    wrong.write_text("no slide at all")
    assert code(wrong).code == "S03"
    wrong.write_bytes(b"")
    assert code(wrong).code == "S04"
    assert code(tmp_path / "absent.svs").code == "F28"


def test_resolution_is_required_and_must_be_possible(files, picture, tmp_path):
    assert code(files["jpg"]).code == "S01"
    assert code(write_pyramid(tmp_path / "bare.tif", picture, mpp=None)).code == "S01"
    for mpp in (1e-9, 250.0):
        assert code(files["pyramid"], SlideRules(mpp=mpp)).code == "S02"
    with open_slide(files["pyramid"], SlideRules(mpp=0.25)) as slide:
        assert slide.mpp == 0.25
        assert "the file says 0.5" in slide.mpp_source
    uneven = tmp_path / "uneven.tif"
    tags = {"resolution": (20_000, 10_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(uneven, picture, photometric="rgb", compression="zlib", **tags)
    assert code(uneven).code == "S02"
    # 96 dots an inch is how to print it, not how it was scanned
    tags = {"resolution": (96, 96), "resolutionunit": "INCH"}
    tifffile.imwrite(uneven, picture, photometric="rgb", compression="zlib", **tags)
    assert code(uneven).code == "S01"


def test_limits_on_size(files):
    assert code(files["pyramid"], SlideRules(max_pixels=1000)).code == "S07"
    assert code(files["png"], SlideRules(mpp=MPP, max_flat_pixels=1000)).code == "S09"
    assert "vips" in code(files["png"], SlideRules(mpp=MPP, max_flat_pixels=1000)).remedy


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64), np.uint16)],
)
def test_other_than_rgb_of_8_bits_is_refused(pixels, tmp_path):
    path = tmp_path / "grey.tif"
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric)
    assert code(path, SlideRules(mpp=MPP)).code == "S11"


def test_transparency_is_flattened_on_white(tmp_path):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:32, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", SlideRules(mpp=MPP)) as slide:
        view = slide.read_view(0, 0, 64, 64)
        assert "transparency flattened on white" in slide.notes
    assert (view[:28] == 0).all()
    assert (view[36:] == 255).all()


@pytest.mark.parametrize("kind", ["jpg", "png", "pyramid", "strips"])
def test_a_truncated_slide_is_refused(files, kind, tmp_path):
    content = files[kind].read_bytes()
    cut = tmp_path / f"cut{files[kind].suffix}"
    cut.write_bytes(content[: len(content) // 3])
    assert code(cut, SlideRules(mpp=MPP)).code == "S04"


def test_several_scenes_must_be_chosen(picture, tmp_path):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for _ in range(2):
            writer.write(picture[:256, :256], photometric="rgb", compression="zlib")
    assert code(path, SlideRules(mpp=MPP)).code == "S15"
    open_slide(path, SlideRules(mpp=MPP, scene=1)).close()


class _Counting(Slide):
    """A slide of 60,000 x 60,000 px without a pyramid, that counts what is held at once."""

    def __init__(self, path):
        super().__init__(path)
        self.width_px0 = self.height_px0 = 60_000
        self.most = 0

    def read_level(self, level, x, y, width, height):
        self.most = max(self.most, width * height * 3)
        return np.full((height, width, 3), 200, np.uint8)

    def close(self):
        pass


def test_a_thumbnail_never_holds_the_slide(tmp_path):
    slide = _Counting(tmp_path / "large.tif")
    picture = slide.thumbnail(1024)
    assert picture.shape == (1024, 1024, 3)
    assert (picture == 200).all()
    assert slide.most < 100 << 20


def _request(path, **more):
    tiling = TilingOptions(tile_px=128, mpp=MPP)
    return ReadRequest(path=path, rules=SlideRules(), tiling=tiling, batch_size=8, **more)


def test_a_dead_reader_loses_one_slide(files):
    with ViewReader() as reader:
        stream = reader.read(_request(files["pyramid"]))
        assert isinstance(next(stream), SlideFacts)
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises(DataError) as caught:
            list(stream)
        assert caught.value.problems[0].code == "S14"
        facts, *views = reader.read(_request(files["pyramid"]))  # a new child reads on
    assert isinstance(facts, SlideFacts)
    assert sum(len(v.rows) for v in views) == len(facts.grid)


def test_a_few_damaged_tiles_are_recorded_and_many_refuse_the_slide(files, tmp_path):
    content = bytearray(files["strips"].read_bytes())
    with tifffile.TiffFile(files["strips"]) as file:
        page = file.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    one = bytearray(content)
    start, size = places[18]
    one[start : start + size] = bytes(size)
    path = tmp_path / "one.tif"
    path.write_bytes(one)
    rules = SlideRules(max_bad_share=0.4)
    request = ReadRequest(path=path, rules=rules, tiling=TilingOptions(tile_px=128, mpp=MPP))
    with ViewReader() as reader:
        facts, *batches = reader.read(request)
        with pytest.raises(DataError) as caught:
            list(reader.read(_request(path)))  # over the usual 5 %
    assert isinstance(facts, SlideFacts)
    views = [b for b in batches if isinstance(b, Views)]
    bad = [row for b in views for row in b.bad]
    assert bad
    rows = sorted(bad + [row for b in views for row in b.rows])
    assert rows == list(range(len(facts.grid)))
    y_px0 = facts.grid.coords_px0[bad, 1]
    assert ((y_px0 <= 19 * 64) & (y_px0 + 128 >= 18 * 64 - 2)).all()
    assert caught.value.problems[0].code == "S05"
