"""Slides are surveyed and read in processes; what is wrong with one costs that one."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from momkd.slides import quality
from momkd.slides.colour import require_look
from momkd.slides.reader import SlideRules, UnreadableRegionError
from momkd.slides.reading_process import Finished, ViewReaders, Views
from momkd.slides.survey import Preview, ReadRequest, SlideFacts
from momkd.slides.tiling import TilingOptions
from momkd.slides.tissue import find_tissue
from momkd.slides.views import ViewPlan
from tests.dying_children import serve_slides_and_die
from tests.inline_readers import InlineReaders
from tests.pictures import MPP, paint_slide, tissue_truth, write_aperio, write_pyramid, write_strips

TILING = TilingOptions(tile_px=64, mpp=MPP)


def read(request):
    """Read a slide here; give facts or pictures, views, and the problem."""
    first, views, problem = None, [], None
    for _, answer in InlineReaders().read([request]):
        if isinstance(answer, Views):
            views.append(answer)
        elif isinstance(answer, Finished):
            problem = answer.problem
        else:
            first = answer
    return first, views, problem


def ask(path, **more):
    more = {"rules": SlideRules(), "tiling": TILING, "batch_size": 16} | more
    return ReadRequest(path=path, **more)


@pytest.fixture(scope="module")
def picture():
    return paint_slide()


@pytest.fixture(scope="module")
def slide(picture, tmp_path_factory):
    return write_pyramid(tmp_path_factory.mktemp("reading") / "a.tif", picture)


def test_a_slide_is_surveyed_and_its_tiles_come_in_order(slide):
    facts, views, problem = read(ask(slide, plan=ViewPlan(resize_px=40, crop_px=32)))
    assert problem is None
    assert [row for v in views for row in v.rows] == list(range(len(facts.grid)))
    assert all(v.pixels.shape[1:] == (32, 32, 3) for v in views)
    assert facts.view_level == 0
    for name in ("thumbnail", "picture"):
        with Image.open(io.BytesIO(getattr(facts, name))) as image:
            assert b'"width_px0": 1024' in image.info["comment"]


def test_s05_a_few_damaged_tiles_are_recorded_and_many_refuse_the_slide(picture, tmp_path):
    import tifffile

    path = write_strips(tmp_path / "a.tif", picture)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, size = page.dataoffsets[6], page.databytecounts[6]  # rows 384 to 448
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    facts, views, problem = read(ask(path, rules=SlideRules(max_bad_share=0.6)))
    assert problem is None
    bad = [row for v in views for row in v.bad]
    assert bad
    assert sorted(bad + [r for v in views for r in v.rows]) == list(range(len(facts.grid)))
    y_px0 = facts.grid.coords_px0[bad, 1]
    assert ((y_px0 < 448 + 2) & (y_px0 + 64 > 384 - 2)).all()
    _, _, problem = read(ask(path))  # over the usual 5 %
    assert problem.code == "S05"
    assert "cannot be decoded (last at" in problem.what


def test_s08_a_blank_slide_is_refused_with_its_pictures(tmp_path):
    glass = np.full((1024, 1024, 3), 240, np.uint8)
    first, views, problem = read(ask(write_pyramid(tmp_path / "blank.tif", glass)))
    assert problem.code == "S08"
    assert "0 tissue tiles" in problem.what
    assert not views
    assert isinstance(first, Preview)
    with Image.open(io.BytesIO(first.thumbnail)) as image:
        assert np.abs(np.asarray(image).astype(int) - 240).max() <= 2


def test_s10_label_and_macro_are_never_copied(picture, tmp_path):
    """The label is pure red; nothing that leaves the slide has a red pixel."""
    label = np.full((160, 240, 3), (255, 0, 0), np.uint8)
    path = write_aperio(tmp_path / "a.svs", picture, label)
    import openslide

    with openslide.OpenSlide(str(path)) as handle:
        assert {"label", "macro"} <= set(handle.associated_images)
    facts, views, problem = read(ask(path))
    assert problem is None
    pictures = [np.asarray(Image.open(io.BytesIO(p))) for p in (facts.thumbnail, facts.picture)]
    for pixels in (*pictures, *(v.pixels.reshape(-1, 64, 3) for v in views)):
        r, g, b = (pixels[..., i].astype(int) for i in range(3))
        assert not ((r > 200) & (g < 60) & (b < 60)).any()
    assert "label" not in repr(facts.notes)


def _stained(colour):
    picture = np.full((400, 400, 3), 243, np.uint8)
    picture[50:350, 50:350] = colour
    return picture


def _glow():
    picture = np.full((400, 400, 3), 8, np.uint8)
    picture[100:300:20, 100:300] = (20, 180, 40)
    return picture


@pytest.mark.parametrize(
    ("picture", "word"),
    [
        (_stained((150, 110, 60)), "immunohistochemistry"),
        (_stained((120, 120, 122)), "grey"),
        (_glow(), "fluorescence"),
    ],
    ids=["brown", "grey", "glow"],
)
def test_s11_what_is_plainly_no_h_and_e_is_refused(picture, word, tmp_path):
    path = write_pyramid(tmp_path / "a.tif", picture, compression="zlib")
    first, _, problem = read(ask(path))
    assert (problem.code, word in problem.what) == ("S11", True), problem
    assert isinstance(first, Preview)
    _, _, problem = read(ask(path, rules=SlideRules(stain="any")))
    assert problem is None or problem.code == "S08"


@pytest.mark.parametrize(
    "colour",
    [
        (230, 200, 215),
        (205, 120, 170),
        (90, 50, 130),
        (190, 60, 90),
        (150, 140, 190),
        (215, 130, 140),
    ],
)
def test_s11_h_and_e_of_any_strength_passes(colour, tmp_path):
    picture = _stained(colour)
    require_look(tmp_path, picture, find_tissue(picture, 4.0).mask, SlideRules())


def test_s12_pen_folds_and_blur_are_measured_and_leave_nothing_out(picture):
    truth = tissue_truth()
    assert quality.share_of_pen(picture) < 0.01
    assert quality.share_of_folds(picture, truth) < 0.02
    drawn = picture.copy()
    drawn[40:70, 100:900] = (30, 140, 60)
    assert quality.share_of_pen(drawn) == pytest.approx(24_000 / (24_000 + truth.sum()), rel=0.1)
    folded = picture.copy()
    folded[380:420, 200:500] = (110, 10, 90)
    assert quality.share_of_folds(folded, truth) == pytest.approx(12_000 / truth.sum(), rel=0.1)
    sharp = picture[300:428, 300:428]
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(4)))
    assert not quality.is_blurred(sharp, 1.0)
    assert quality.is_blurred(blurred, 1.0)
    large = np.asarray(Image.fromarray(sharp).resize((512, 512)))
    assert not quality.is_blurred(large, 0.25)


def test_s14_a_reader_that_dies_or_hangs_loses_its_slide_only(slide):
    names = ["crash.tif", "b.tif", "hang.tif"]
    for name in names:
        (slide.parent / name).write_bytes(slide.read_bytes())
    found = {name: [] for name in names}
    with ViewReaders(1, timeout_s=10.0, serve=serve_slides_and_die) as readers:
        for request, answer in readers.read(ask(slide.parent / n) for n in names):
            found[request.path.name].append(answer)
    for name, word in (("crash.tif", "crashed"), ("hang.tif", "silent")):
        (last,) = found[name]
        assert (last.problem.code, word in last.problem.what) == ("S14", True)
    facts, *views, last = found["b.tif"]
    assert isinstance(facts, SlideFacts)
    assert last == Finished()
    assert sum(len(v.rows) for v in views) == len(facts.grid)
    _, here, _ = read(ask(slide))
    np.testing.assert_array_equal(views[0].pixels, here[0].pixels)


def test_unreadable_parts_of_a_thumbnail_stay_white(slide):
    from momkd.slides.opening import open_slide

    with open_slide(slide) as opened:
        honest = opened.read_level

        def damaged(level, x, y, width, height):
            if x + width > 600:
                raise UnreadableRegionError("broken")
            return honest(level, x, y, width, height)

        whole = opened.thumbnail(1024)
        opened.read_level = damaged
        part = opened.thumbnail(1024)
    np.testing.assert_array_equal(part[:, :512], whole[:, :512])
    assert (part[:, 640:] == 255).all()
