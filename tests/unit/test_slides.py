"""Slides open by content, keep their scale, and say what is wrong with them."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from momkd.errors import DataError
from momkd.slides.fingerprint import digest_slide, stamp_of
from momkd.slides.opening import open_slide
from momkd.slides.reader import Slide, SlideRules
from tests.pictures import MPP, SIDE, paint_slide, write_aperio, write_ome, write_pyramid
from tests.pictures import write_strips as write_in_strips

GIVEN = SlideRules(mpp=MPP)


@pytest.fixture(scope="module")
def picture():
    return paint_slide()


@pytest.fixture(scope="module")
def files(picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(picture).save(folder / "b.jpg", quality=95)
    label = np.full((64, 96, 3), (255, 0, 0), np.uint8)
    return {
        "png": folder / "a.png",
        "jpg": folder / "b.jpg",
        "pyramid": write_pyramid(folder / "c.tif", picture),
        "ome": write_ome(folder / "d.ome.tif", picture),
        "strips": write_in_strips(folder / "e.tif", picture),
        "aperio": write_aperio(folder / "f.svs", picture, label),
    }


def problem_of(path, rules=None):
    with pytest.raises(DataError) as caught:
        open_slide(path, rules).close()
    (problem,) = caught.value.problems
    assert problem.remedy
    assert len(problem.line()) <= 300
    return problem


def code(path, rules=None):
    return problem_of(path, rules).code


@pytest.mark.parametrize("kind", ["png", "jpg", "pyramid", "ome", "strips", "aperio"])
def test_every_format_gives_the_same_views(files, picture, kind):
    with open_slide(files[kind], GIVEN if kind in ("png", "jpg") else None) as slide:
        assert (slide.width_px0, slide.height_px0) == (SIDE, SIDE)
        assert slide.mpp == pytest.approx(MPP, rel=1e-3)
        exact = slide.read_view(300, 350, 200, 200)
        wide = slide.read_view(150.5, 205.25, 600, 150)
        thumbnail = slide.thumbnail(256)
    lossy = 12 if kind in ("jpg", "pyramid", "aperio") else 0.51
    assert np.abs(exact.astype(int) - picture[350:550, 300:500]).mean() <= lossy
    box = (150.5, 205.25, 750.5, 805.25)
    whole = Image.fromarray(picture).resize((150, 150), Image.Resampling.BICUBIC, box=box)
    assert np.abs(wide.astype(int) - np.asarray(whole)).mean() <= lossy + 9
    small = picture.reshape(256, 4, 256, 4, 3).mean(axis=(1, 3))
    assert thumbnail.shape == (256, 256, 3)
    assert np.abs(thumbnail - small).mean() <= lossy + 9


def test_what_lies_beyond_the_slide_is_white(files):
    with open_slide(files["pyramid"]) as slide:
        view = slide.read_view(SIDE - 100, SIDE - 50, 200, 200)
        assert (view[60:, :] == 255).all()
        assert (view[:, 110:] == 255).all()
        assert (slide.read_view(SIDE + 10, 0, 50, 50) == 255).all()
        corner = slide.read_view(-100, -100, 200, 200)
        assert (corner[:90, :90] == 255).all()
        assert (corner[110:, 110:] < 255).any()


def test_s01_resolution_is_required(files, picture, tmp_path):
    assert code(files["jpg"]) == "S01"
    assert "--mpp" in problem_of(files["jpg"]).remedy
    assert code(write_pyramid(tmp_path / "bare.tif", picture, mpp=None)) == "S01"
    # 96 dots an inch is how to print it, not how it was scanned
    path, tags = tmp_path / "print.tif", {"resolution": (96, 96), "resolutionunit": "INCH"}
    tifffile.imwrite(path, picture, photometric="rgb", compression="zlib", **tags)
    assert code(path) == "S01"


def test_s01_the_objective_is_an_estimate_on_request_and_recorded(picture, tmp_path):
    path = write_aperio(tmp_path / "a.svs", picture, np.zeros((64, 64, 3), np.uint8), mpp="")
    assert code(path) == "S01"
    with open_slide(path, SlideRules(mpp_from_power=True)) as slide:
        assert slide.mpp == 1.0
        assert "objective 10x" in slide.mpp_source
        assert any("estimated" in note for note in slide.notes)


def test_s02_an_impossible_resolution_is_refused_and_a_skewed_one_recorded(
    files, picture, tmp_path
):
    for mpp in (0.0, -1.0, 1e-9, 250.0):
        assert code(files["pyramid"], SlideRules(mpp=mpp)) == "S02"
    with open_slide(files["pyramid"], SlideRules(mpp=0.25)) as slide:
        assert slide.mpp == 0.25
        assert "the file says 1" in slide.mpp_source

    def uneven(x, y):
        path, tags = tmp_path / "uneven.tif", {"resolution": (x, y), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(path, picture, photometric="rgb", compression="zlib", **tags)
        return path

    assert code(uneven(20_000, 10_000)) == "S02"
    with open_slide(uneven(10_000, 10_200)) as slide:
        assert any("along x" in note for note in slide.notes)


def test_s03_a_slide_is_opened_by_content(files, tmp_path):
    wrong = tmp_path / "x.svs"
    wrong.write_bytes(files["jpg"].read_bytes())
    with open_slide(wrong, GIVEN) as slide:
        assert any("holds jpeg" in note for note in slide.notes)
    renamed = tmp_path / "y.tif"
    renamed.write_bytes(files["aperio"].read_bytes())
    with open_slide(renamed) as slide:
        assert slide.format == "openslide aperio"
    wrong.write_text("no slide at all")
    assert code(wrong) == "S03"
    wrong.write_text("<!DOCTYPE html>")
    assert "HTML" in problem_of(wrong).what
    assert code(tmp_path / "absent.svs") == "F28"
    assert code(tmp_path) == "F28"


@pytest.mark.parametrize("kind", ["jpg", "png", "pyramid", "strips", "ome", "aperio"])
def test_s04_a_truncated_slide_is_refused_with_level_and_byte(files, kind, tmp_path):
    content = files[kind].read_bytes()
    for share in (0, 0.3, 0.9):
        cut = tmp_path / f"cut{files[kind].suffix}"
        cut.write_bytes(content[: int(len(content) * share)])
        problem = problem_of(cut, GIVEN)
        assert problem.code == "S04"
        assert any(word in problem.what for word in ("byte", "offset", "bytes")), problem.what


def test_s06_places_without_pixels_are_white_and_counted(files, tmp_path):
    content = bytearray(files["aperio"].read_bytes())
    with tifffile.TiffFile(files["aperio"]) as file:
        lengths = file.pages[0].tags["TileByteCounts"]
    for number in (27, 28):  # two of the 64 tiles of level 0
        struct.pack_into("<I", content, lengths.valueoffset + 4 * number, 0)
    path = tmp_path / "holes.svs"
    path.write_bytes(content)
    with open_slide(path) as slide:
        hole = slide.read_view(3 * 128, 3 * 128, 128, 128)
        assert slide.n_holes == 1
        assert (hole[4:-4, 4:-4] == 255).all()
        slide.read_view(0, 0, 128, 128)
        assert slide.n_holes == 1


def test_s07_s09_limits_on_size(files, tmp_path):
    assert code(files["pyramid"], SlideRules(max_pixels=1000)) == "S07"
    assert code(files["png"], SlideRules(mpp=MPP, max_pixels=1000)) == "S07"
    assert code(files["png"], SlideRules(mpp=MPP, max_flat_pixels=1000)) == "S09"
    assert "vips" in problem_of(files["png"], SlideRules(mpp=MPP, max_flat_pixels=1000)).remedy
    for kind in ("pyramid", "strips"):  # blocks that could only be decoded whole
        assert code(files[kind], SlideRules(max_flat_pixels=1000)) == "S09"
    # a bomb: two hundred bytes that declare 10^6 x 10^6 pixels
    bomb = bytearray(files["png"].read_bytes()[:200])
    struct.pack_into(">II", bomb, 16, 10**6, 10**6)
    import zlib

    struct.pack_into(">I", bomb, 29, zlib.crc32(bytes(bomb[12:29])))
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    assert code(path, GIVEN) == "S07"
    struct.pack_into(">II", bomb, 16, 60_000, 60_000)
    struct.pack_into(">I", bomb, 29, zlib.crc32(bytes(bomb[12:29])))
    path.write_bytes(bomb)
    assert code(path, GIVEN) == "S09"


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64), np.uint16)],
)
def test_s11_other_than_rgb_of_8_bits_is_refused(pixels, tmp_path):
    path = tmp_path / "grey.tif"
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric)
    assert code(path, GIVEN) == "S11"
    if pixels.dtype == np.uint8:
        open_slide(path, SlideRules(mpp=MPP, stain="any")).close()


def test_s11_transparency_is_flattened_on_white(tmp_path):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:32, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", GIVEN) as slide:
        view = slide.read_view(0, 0, 64, 64)
        assert "transparency flattened on white" in slide.notes
    assert (view[:28] == 0).all()
    assert (view[36:] == 255).all()


def test_s13_a_mirax_file_without_its_folder_is_no_picture(files, tmp_path):
    alone = tmp_path / "case.mrxs"
    alone.write_bytes(files["jpg"].read_bytes())  # as MIRAX has it: the file itself is a JPEG
    problem = problem_of(alone, GIVEN)
    assert problem.code == "S13"
    assert "case is missing" in problem.what
    (tmp_path / "case").mkdir()
    assert "Slidedat.ini" in problem_of(alone, GIVEN).what
    (tmp_path / "case" / "Slidedat.ini").write_text("[GENERAL]\n")
    assert code(alone, GIVEN) in ("S13", "S03")


def test_s15_several_scenes_or_planes_must_be_chosen(picture, tmp_path):
    path, small = tmp_path / "two.ome.tif", picture[:256, :256]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for shade in (small, 255 - small):
            writer.write(shade, photometric="rgb", compression="zlib")
    assert "--scene 0 to 1" in problem_of(path, GIVEN).remedy
    with open_slide(path, SlideRules(mpp=MPP, scene=1)) as slide:
        assert (slide.read_level(0, 0, 0, 256, 256) == 255 - small).all()
    stack = np.stack([small, small // 2, small // 4])
    with tifffile.TiffWriter(path, ome=True) as writer:
        meta = {"axes": "ZYXS"}
        writer.write(stack, photometric="rgb", compression="zlib", metadata=meta)
    assert "focal planes" in problem_of(path, GIVEN).what
    assert code(path, GIVEN) == code(path, SlideRules(mpp=MPP, scene=3)) == "S15"
    with open_slide(path, SlideRules(mpp=MPP, scene=2)) as slide:
        assert (slide.read_level(0, 0, 0, 256, 256) == small // 4).all()


class _Counting(Slide):
    """A slide of 12,000 x 12,000 px without a pyramid, that counts what is held at once."""

    def __init__(self, path):
        super().__init__(path)
        self.width_px0 = self.height_px0 = 12_000
        self.most = 0

    def read_level(self, level, x, y, width, height):
        self.most = max(self.most, width * height * 3)
        return np.full((height, width, 3), 200, np.uint8)

    def close(self):
        pass


def test_s09_a_thumbnail_never_holds_the_slide(tmp_path):
    slide = _Counting(tmp_path / "large.tif")
    heard = []
    picture = slide.thumbnail(600, on_block=lambda: heard.append(1))
    assert picture.shape == (600, 600, 3)
    assert (picture == 200).all()
    assert slide.most < 20 << 20
    assert len(heard) == 36


def test_a_digest_is_of_the_content_and_a_stamp_of_size_and_time(files, tmp_path):
    import os

    path = tmp_path / "a.png"
    path.write_bytes(files["png"].read_bytes())
    first = digest_slide(path)
    assert first == digest_slide(files["png"])
    before = stamp_of(path)
    os.utime(path, ns=(1, 1))
    assert stamp_of(path) != before
    assert digest_slide(path) == first
    mirax = tmp_path / "m.mrxs"
    mirax.write_bytes(b"x")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Data0000.dat").write_bytes(b"pixels")
    whole = digest_slide(mirax)
    assert stamp_of(mirax).n_bytes == 7
    (tmp_path / "m" / "Data0000.dat").write_bytes(b"pixelz")
    assert digest_slide(mirax) != whole
