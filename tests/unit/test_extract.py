"""Extraction: what is written, what is done again, what is left out, and what a stop leaves."""

import csv
import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from torch import nn

from momkd.errors import (
    DataError,
    InterruptedRunError,
    MachineError,
    ModelError,
    TooManyDroppedError,
)
from momkd.slides.encoders import Encoder, EncoderRecipe, load_encoder
from momkd.slides.reader import SlideRules
from momkd.slides.tiling import TilingOptions
from momkd.workflows import extract as workflow
from momkd.workflows import feature_file
from momkd.workflows.extract import extract, find_slides
from tests.inline_readers import InlineReaders
from tests.pictures import MPP, paint_slide, write_geojson, write_pyramid, write_strips

CUT = TilingOptions(tile_px=128, mpp=MPP)


class _Means(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def paint(seed=0):
    """Paint the larger piece of tissue only: small slides are surveyed faster."""
    return np.ascontiguousarray(paint_slide(seed)[128:640, 96:608])


def make_encoder(name="toy", network=None, digest="0" * 64):
    facts = {"network": "timm", "architecture": "", "source": ""}
    recipe = EncoderRecipe(name=name, dim=3, resize_px=32, crop_px=32, **facts)
    return Encoder(recipe, network or _Means(), weights_sha256=digest)


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setattr(workflow, "ViewReaders", InlineReaders)


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    for i in range(2):
        write_pyramid(folder / f"S{i}.tif", paint(i))
    return folder


def run(slides, out, **more):
    more = {"encoder": make_encoder(), "tiling": CUT} | more
    return extract([slides], out, **more)


def dropped(folder):
    with (folder / "dropped.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_feature_file_says_where_it_comes_from(slides, tmp_path):
    found = run(slides, tmp_path / "f")
    assert list(found.files) == ["S0", "S1"]
    assert found.n_made == 2
    assert dropped(tmp_path / "f") == []
    with h5py.File(found.files["S0"]) as file:
        coords, facts, about = file["coords"][:], dict(file["coords"].attrs), dict(file.attrs)
        features = file["features"][:]
        assert file["features"].attrs["encoder_sha256"] == make_encoder().identity
    assert features.shape == (len(coords), 3)
    assert facts["patch_size"] == facts["patch_size_level0"] == 128
    assert facts["mpp"] == facts["mpp_level0"] == MPP
    assert facts["mpp_source"] == "the file"
    assert about["slide_bytes"] == (slides / "S0.tif").stat().st_size
    assert about["slide_format"] == "openslide generic-tiff"
    for share in ("pen", "fold", "blurred", "hole"):
        assert 0 <= about[f"qc_{share}_share"] <= 0.1
    for folder in ("thumbnails", "tiles"):
        with Image.open(tmp_path / "f" / folder / "S0.jpg") as picture:
            assert picture.size == (512, 512)


def test_what_is_done_is_not_done_again_and_what_changed_is(slides, tmp_path, monkeypatch):
    out, one = tmp_path / "f", slides / "S0.tif"
    digested = []
    honest = feature_file.digest_slide
    monkeypatch.setattr(
        feature_file, "digest_slide", lambda p: digested.append(p.name) or honest(p)
    )
    assert run(one, out).n_made == 1
    before = (out / "S0.h5").read_bytes()
    assert run(one, out).n_made == 0
    assert digested == ["S0.tif"], "read through once only"
    assert run(one, out, verify=True).n_made == 0
    os.utime(one, ns=(1, 1))  # another time of change, the same content
    assert run(one, out).n_made == 0
    assert len(digested) == 3
    (out / "S0.h5").write_bytes(before[:3000])  # a broken file is no finished one
    assert run(one, out).n_made == 1
    assert run(one, out, encoder=make_encoder(digest="1" * 64)).n_made == 1
    assert run(one, out, tiling=TilingOptions(tile_px=64, mpp=MPP)).n_made == 1
    assert run(one, out, rules=SlideRules(mpp=0.9)).n_made == 1
    assert run(one, out).n_made == 1
    write_pyramid(one, paint(7))
    assert run(one, out).n_made == 1
    assert not list(out.rglob("*.tmp"))


def test_it_goes_on_where_it_was_stopped(slides, tmp_path):
    """Killed at the second slide: the first stays whole, nothing is half written."""

    class Stopped(BaseException):
        pass

    class DiesAtSecond(nn.Module):
        n_slides = 0

        def forward(self, x):
            if (tmp_path / "f" / "S0.h5").exists():
                raise Stopped
            return x.mean(dim=(2, 3))

    with pytest.raises(Stopped):
        run(slides, tmp_path / "f", encoder=make_encoder(network=DiesAtSecond()))
    assert (
        sorted(p.name for p in (tmp_path / "f").rglob("*") if p.is_file())
        == ["S0.h5"] + ["S0.jpg"] * 2
    )
    again = run(slides, tmp_path / "f")
    assert again.n_made == 1
    assert set(again.files) == {"S0", "S1"}


def test_a_signal_stops_it_between_two_steps_and_it_can_be_resumed(slides, tmp_path):
    class Signals(nn.Module):
        def forward(self, x):
            os.kill(os.getpid(), signal.SIGTERM)
            return x.mean(dim=(2, 3))

    with pytest.raises(InterruptedRunError) as caught:
        run(slides, tmp_path / "f", encoder=make_encoder(network=Signals()))
    assert caught.value.exit_code == 75
    assert caught.value.problems[0].code == "X06"
    assert not list((tmp_path / "f").glob("*.h5"))
    assert run(slides, tmp_path / "f").n_made == 2


def test_one_bad_slide_costs_one_slide(slides, tmp_path, capsys):
    (slides / "bad.tif").write_bytes((slides / "S0.tif").read_bytes()[:3000])
    write_pyramid(slides / "blank.tif", np.full((512, 512, 3), 240, np.uint8))
    out = tmp_path / "f"
    with pytest.raises(TooManyDroppedError) as caught:
        run(slides, out)
    assert caught.value.exit_code == 4
    assert caught.value.problems[0].code == "S20"
    assert {p.stem for p in out.glob("*.h5")} == {"S0", "S1"}
    assert [row["code"] for row in dropped(out)] == ["S04", "S08"]
    assert (out / "thumbnails" / "blank.jpg").exists(), "S08 comes with its thumbnail"
    assert (out / "tiles" / "blank.jpg").exists()
    assert capsys.readouterr().err.count("left out: [S0") == 2
    assert len(run(slides, out, max_skip=0.5).problems) == 2
    with pytest.raises(DataError) as all_bad:
        run(slides / "blank.tif", tmp_path / "g")
    assert all_bad.value.problems[0].code == "S08"


def test_tiles_that_cannot_be_decoded_are_written_down(tmp_path, capsys):
    path = write_strips(tmp_path / "a.tif", paint())
    with tifffile.TiffFile(path) as file:
        start, size = file.pages[0].dataoffsets[6], file.pages[0].databytecounts[6]
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    found = run(path, tmp_path / "f", rules=SlideRules(max_bad_share=0.6))
    with h5py.File(found.files["a"]) as file:
        bad = file["unreadable_coords"]
        assert len(bad) > 0
        assert bad.attrs["level"] == 0
        assert not set(map(tuple, bad[:].tolist())) & set(map(tuple, file["coords"][:].tolist()))
    assert "cannot be decoded and are left out (first at" in capsys.readouterr().err


def test_a_slide_that_changes_while_it_is_read_is_refused(slides, tmp_path):
    one = slides / "S0.tif"

    class Touches(nn.Module):
        def forward(self, x):
            os.utime(one, ns=(5, 5))
            return x.mean(dim=(2, 3))

    with pytest.raises(DataError) as caught:
        run(one, tmp_path / "f", encoder=make_encoder(network=Touches()))
    assert caught.value.problems[0].code == "F30"
    assert not list(tmp_path.glob("f/*.h5"))


def test_masks_are_found_by_the_slides_name(slides, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    square = [[128, 128], [384, 128], [384, 384], [128, 384], [128, 128]]
    write_geojson(masks / "S0.geojson", [square])
    found = run(slides / "S0.tif", tmp_path / "f", tissue=masks)
    with h5py.File(found.files["S0"]) as file:
        assert file.attrs["tissue_source"] == "S0.geojson"
        assert sorted(map(tuple, file["coords"][:].tolist())) == [
            (128, 128), (128, 256), (256, 128), (256, 256)
        ]  # fmt: skip
    with pytest.raises(TooManyDroppedError) as caught:
        run(slides, tmp_path / "f", tissue=masks)
    assert "S1" in caught.value.problems[0].what


def test_an_encoder_that_reads_stains_is_set_to_each_slide(slides, tmp_path):
    pytest.importorskip("onnxruntime")
    try:
        encoder = load_encoder("lavlab-shell")
    except (MachineError, ModelError) as absent:  # the package is an extra
        pytest.skip(str(absent))
    found = run(slides / "S0.tif", tmp_path / "f", encoder=encoder)
    with h5py.File(found.files["S0"]) as file:
        assert file["features"].shape[1] == 256
        assert file["features"].attrs["encoder"] == "lavlab-shell"


def test_slides_are_found_in_folders(tmp_path):
    for name in ("a.svs", "b.txt", "sub/c.TIF", "m.mrxs", "m/Data0000.dat", "m/x.jpg", ".d.svs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [p.relative_to(tmp_path) for p in find_slides([tmp_path])]
    assert found == [Path("a.svs"), Path("m.mrxs"), Path("sub/c.TIF")]
    (tmp_path / "sub" / "a.tif").write_bytes(b"")
    with pytest.raises(DataError) as twice:
        find_slides([tmp_path])
    assert twice.value.problems[0].code == "S19"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as none:
        find_slides([tmp_path / "empty"])
    assert none.value.problems[0].code == "P09"
