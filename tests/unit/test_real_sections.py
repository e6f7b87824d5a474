"""Real breast sections: tiles cover the tissue, and no format changes what is seen.

The sections lie beside the project and are never part of it; without them these tests are skipped.
"""

import csv

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.her2st_coverage import WANTED, Coverage, measure
from momkd.slides.encoders import load_encoder
from momkd.slides.opening import open_slide
from momkd.slides.reader import SlideRules
from momkd.slides.survey import ReadRequest, survey
from momkd.slides.tiling import TilingOptions

MPP = 0.69
TILING = TilingOptions.from_sides(None, 112.0, None, 0.1)


@pytest.fixture(scope="module")
def sections(shared_data):
    folder = shared_data / "her2st"
    if not folder.is_dir():
        pytest.skip("real sections are absent: ../shared/data/her2st")
    return folder


def require(found: Coverage) -> None:
    assert found.covered >= WANTED, found
    assert found.n_spots > 150
    assert found.empty_share <= 0.01, "tiles lie on glass"
    assert found.tissue_share < 0.35


def test_tiles_cover_the_tissue_of_a_section(sections, tmp_path):
    """One section in every run; the others with the slow tests."""
    with (tmp_path / "slides.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["slide", "mpp"], ["C3.jpg", MPP]])
    for name in ("C3.jpg", "C3_selection.tsv"):
        (tmp_path / name).symlink_to(sections / name)
    (found,) = measure(tmp_path, 112.0)
    require(found)


@pytest.mark.slow
def test_tiles_cover_the_tissue_of_every_section(sections):
    found = measure(sections, 112.0)
    assert len(found) == 4
    for one in found:
        require(one)


def write_pyramid(path, pixels, compression, **arguments):
    """Rewrite a picture as a tiled pyramid with resolution tags."""
    with tifffile.TiffWriter(path) as writer:
        for i in range(4):
            per_cm = 1e4 / (MPP * 2**i)
            writer.write(
                pixels,
                subfiletype=int(i > 0),
                tile=(256, 256),
                photometric="rgb",
                compression=compression,
                compressionargs=arguments or None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
            size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    return path


def see(path, encoder, mpp=None, every=16):
    """Give tiles of a slide, and the embeddings of some of them."""
    request = ReadRequest(path=path, rules=SlideRules(mpp=mpp), tiling=TILING)
    plan = encoder.recipe.view_plan(112.0)
    with open_slide(path, request.rules) as slide:
        grid = survey(slide, request, on_refusal=lambda _: None).grid
        tiles = grid.coords_px0.tolist()
        chosen = [t for t in tiles if (t[0] // 162 + t[1] // 162) % every == 0]
        views = [plan.prepare(slide.read_view(*t, grid.tile_px0, 224)) for t in chosen]
        kind = slide.format
    parts = [encoder.embed_prepared(np.stack(views[i : i + 32])) for i in range(0, len(views), 32)]
    return (
        kind,
        set(map(tuple, tiles)),
        dict(zip(map(tuple, chosen), np.concatenate(parts), strict=True)),
    )


def differences(these, those):
    both = sorted(set(these) & set(those))
    a, b = (np.stack([one[t] for t in both]) for one in (these, those))
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["B4", "C3"])
def test_a_section_rewritten_as_a_pyramid_gives_the_same(sections, name, tmp_path):
    encoder = load_encoder()
    with Image.open(sections / f"{name}.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))
    _, tiles, embeddings = see(sections / f"{name}.jpg", encoder, MPP)
    lossless = write_pyramid(tmp_path / "lossless.tif", pixels, "deflate")
    kind, same_tiles, same = see(lossless, encoder)
    assert kind == "openslide generic-tiff"
    assert same_tiles == tiles
    assert differences(embeddings, same).max() == 0
    # compressed again: a pyramid differs from the section as a flat picture of that quality does
    lossy = write_pyramid(tmp_path / "lossy.tif", pixels, "jpeg", level=90)
    _, lossy_tiles, through_pyramid = see(lossy, encoder)
    Image.fromarray(pixels).save(tmp_path / "flat.jpg", quality=90)
    _, flat_tiles, through_flat = see(tmp_path / "flat.jpg", encoder, MPP)
    assert len(lossy_tiles ^ tiles) <= max(2, 2 * len(flat_tiles ^ tiles))
    pyramid, flat = differences(embeddings, through_pyramid), differences(embeddings, through_flat)
    assert np.median(pyramid) == pytest.approx(np.median(flat), rel=0.15)
    assert pyramid.max() < 1.3 * flat.max()
