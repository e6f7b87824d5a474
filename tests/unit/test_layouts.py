"""Every layout gives the same bag; what a layout does not say is said, and never invented."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from momkd.config import parse_options
from momkd.data.cohort import DataOptions
from momkd.data.examination import slide_file
from momkd.data.features import FileDescription, examine_files, find_feature_files, read_bag
from momkd.data.layouts.boxes import boxes_of
from momkd.data.layouts.geometry import place_on_view
from momkd.data.layouts.material import ReadRules
from momkd.data.layouts.table import read_raw
from momkd.data.packed_cache import PackedCache
from momkd.data.reader_process import FileFacts, facts_of, read_files
from momkd.data.reading_rules import read_rules, read_slide_mpp
from momkd.errors import ConfigError, DataError, IntegrityError
from momkd.types import Bag
from tests.layout_files import (
    SlideFeatures,
    write_clam,
    write_npy_folders,
    write_npy_pair,
    write_published,
    write_stamp,
    write_trident,
    write_wsidata,
)

SLIDE = SlideFeatures()
AT_20X = SlideFeatures(coords=SLIDE.coords // 2, tile_px0=256, mpp0=0.5, size_px0=(4096, 4096))


def write_pack(folder: Path, slide: SlideFeatures) -> Path:
    path = write_trident(folder / "source" / "s.h5", slide)
    file = slide_file(facts_of(read_raw(path), path), ReadRules())
    cache = PackedCache(folder / "packed")
    assert cache.update(file) == "new"
    return cache.path_of(file)


WRITERS = {
    "trident": lambda d, s: write_trident(d / "s.h5", s),
    "momkd-published": lambda d, s: write_published(d / "s.h5", s),
    "clam": lambda d, s: write_clam(d, "s", s),
    "clam-pt": lambda d, s: write_clam(d, "s", s).parents[1] / "pt_files" / "s.pt",
    "stamp": lambda d, s: write_stamp(d / "s.h5", s),
    "wsidata": lambda d, s: write_wsidata(d / "s.zarr", s),
    "npy": lambda d, s: write_npy_pair(d, "s", s),
    "npy folders": lambda d, s: write_npy_folders(d, "s", s),
    "packed": write_pack,
}
STATE_SIZE = ("trident", "momkd-published", "clam", "clam-pt", "wsidata", "packed")


def write(layout: str, folder: Path, slide: SlideFeatures = SLIDE) -> tuple[Path, ReadRules]:
    path = WRITERS[layout](folder, slide)
    return path, ReadRules(mpp0=slide.mpp0 if layout == "stamp" else None)


def same_bag(one: Bag, other: Bag) -> None:
    assert torch.equal(one.embeddings.float(), other.embeddings.float())
    assert one.grid is not None
    assert other.grid is not None
    assert np.array_equal(one.grid.coords_px0, other.grid.coords_px0)
    assert torch.equal(one.neighbours, other.neighbours)  # type: ignore[arg-type]
    assert one.grid.tile_px0 == other.grid.tile_px0


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_the_same_bag(layout: str, tmp_path: Path) -> None:
    path, rules = write(layout, tmp_path)
    raw = read_raw(path, rules=rules)
    assert raw.layout == layout.split()[0]
    assert raw.slide_id == "s"
    bag = read_bag(path, rules=rules)
    same_bag(bag, read_bag(write_trident(tmp_path / "reference.h5", SLIDE)))
    assert bag.grid is not None
    if layout in STATE_SIZE:
        assert (bag.grid.width_px0, bag.grid.height_px0) == SLIDE.size_px0
    if "npy" not in layout:
        assert bag.grid.tile_px == 256
    if layout not in ("clam", "clam-pt", "npy", "npy folders"):
        assert bag.grid.mpp == 0.5
        assert bag.encoder == "simulated-24"
    assert bag.grid.is_level0


@pytest.mark.parametrize("layout", WRITERS)
def test_a_40x_slide_tiled_at_20x_has_the_graph_of_its_20x_twin(
    layout: str, tmp_path: Path
) -> None:
    bags = []
    for name, slide in (("40x", SLIDE), ("20x", AT_20X)):
        path, rules = write(layout, tmp_path / name, slide)
        bags.append(read_bag(path, rules=rules))
    fine, coarse = bags
    assert torch.equal(fine.neighbours, coarse.neighbours)  # type: ignore[arg-type]
    assert torch.equal(fine.embeddings, coarse.embeddings)
    assert fine.grid is not None
    assert coarse.grid is not None
    assert np.array_equal(fine.grid.coords_px0, 2 * coarse.grid.coords_px0)
    assert fine.grid.tile_px0 == 2 * coarse.grid.tile_px0  # type: ignore[operator]
    assert fine.grid.mpp == coarse.grid.mpp
    assert not [n for n in read_raw(path, rules=rules).notes if "of the declared side" in n]


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_is_described_and_why(layout: str, tmp_path: Path) -> None:
    path, rules = write(layout, tmp_path)
    facts = facts_of(read_raw(path, rules=rules), path)
    text = "\n".join(FileDescription(facts=facts).lines())
    assert f"layout: {layout.split()[0]} (" in text
    assert "40 tiles x 24" in text
    assert "512 px on level 0" in text
    assert "pitch measured 512 level-0 px, as stated" in text


def test_changed_bytes_are_noticed_in_every_layout(tmp_path: Path) -> None:
    def write_all(slide: SlideFeatures) -> dict[str, Path]:
        shutil.rmtree(tmp_path / "all", ignore_errors=True)
        return {layout: write(layout, tmp_path / "all" / layout, slide)[0] for layout in WRITERS}

    rules = ReadRules(mpp0={"s": 0.25})
    # examined in a process of its own, where torch and zarr are loaded as they are needed
    answers = list(read_files(list(write_all(SLIDE).values()), rules=rules, timeout_s=60.0))
    facts = [a for a in answers if isinstance(a, FileFacts)]
    assert len(facts) == len(WRITERS)
    files = [slide_file(f, rules) for f in facts]
    for file in files:
        assert read_bag(file).digest == file.sha256
    values = SLIDE.embeddings.copy()
    values[7, 3] += 0.5
    write_all(replace(SLIDE, embeddings=values))
    for file in files:
        with pytest.raises(IntegrityError, match="F26"):
            read_bag(file)


def test_changed_corners_beside_the_features_are_noticed(tmp_path: Path) -> None:
    path = write_clam(tmp_path, "s", SLIDE)
    file = slide_file(facts_of(read_raw(path), path), ReadRules())
    with h5py.File(tmp_path / "patches" / "s.h5", "r+") as patches:
        patches["coords"].attrs["patch_size"] = 128
    with pytest.raises(IntegrityError, match="F26"):
        read_bag(file)


# --- CLAM


def test_without_patches_the_side_is_the_measured_step_and_that_is_said(tmp_path: Path) -> None:
    path = write_clam(tmp_path, "s", SLIDE, patches=False)
    raw = read_raw(path)
    assert raw.geometry.tile_px0 == 512
    assert raw.geometry.tile_px is None
    assert any("no patches file" in n for n in raw.notes)
    assert any("measured step" in n for n in raw.notes)
    bare = read_raw(tmp_path / "pt_files" / "s.pt")
    assert bare.coords_px0 is None
    assert any("no coordinates" in n for n in bare.notes)
    write_clam(tmp_path / "elsewhere", "s", SLIDE)
    rules = ReadRules(coords_dir=tmp_path / "elsewhere" / "patches")
    assert read_raw(path, rules=rules).geometry.tile_px == 256
    same_bag(
        read_bag(tmp_path / "pt_files" / "s.pt", rules=rules),
        read_bag(path, rules=rules),
    )


def test_patches_of_another_tiling_are_refused_if_named_and_not_used_if_found(
    tmp_path: Path,
) -> None:
    path = write_clam(tmp_path, "s", SLIDE)
    other = replace(SLIDE, coords=SLIDE.coords + 1)
    write_clam(tmp_path / "other", "s", other)
    shutil.copy(tmp_path / "other" / "patches" / "s.h5", tmp_path / "patches" / "s.h5")
    assert any("another tiling" in n for n in read_raw(path).notes)
    rules = ReadRules(coords_dir=tmp_path / "other")
    with pytest.raises(DataError, match=r"F37.*40 tiles are not the 40 of patches/s.h5"):
        read_raw(path, rules=rules)
    with pytest.raises(DataError, match=r"F38.*slide s"):
        read_raw(path, rules=ReadRules(coords_dir=tmp_path / "pt_files"))


def test_factors_of_all_levels_are_read_by_the_level(tmp_path: Path) -> None:
    path = write_clam(tmp_path, "s", SLIDE)
    with h5py.File(tmp_path / "patches" / "s.h5", "r+") as patches:
        patches["coords"].attrs["downsample"] = (1.0, 2.0, 4.0)
    assert read_raw(path).geometry.tile_px0 == 512


# --- TRIDENT


def test_the_side_on_level_0_follows_from_the_magnifications(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "s.h5", SLIDE, patch_size_level0=None)
    assert read_raw(path).geometry.tile_px0 == 512


@pytest.mark.parametrize(
    ("side", "overlap", "word"),
    [(256, 0, "gaps"), (1024, 0, "overlap"), (520, 0, None), (1024, 128, None), (512, 64, "gaps")],
)
def test_a_step_that_is_not_the_declared_side_is_told(
    side: int, overlap: int, word: str | None, tmp_path: Path
) -> None:
    path = write_trident(tmp_path / "s.h5", SLIDE, patch_size_level0=side, overlap=overlap)
    notes = [n for n in read_raw(path).notes if "step between tiles" in n]
    assert bool(notes) == (word is not None)
    assert word is None or word in notes[0]


def test_a_stored_graph_is_not_used_and_refused_when_stale(tmp_path: Path) -> None:
    path = write_published(tmp_path / "s.h5", SLIDE)
    assert any("not used" in n for n in read_raw(path).notes)
    with h5py.File(path, "r+") as file:
        file["edge_index_k8"][1, 3] = 40
    with pytest.raises(IntegrityError, match="F36"):
        read_raw(path)


# --- STAMP


@pytest.mark.parametrize("form", ["new", "older"])
def test_old_attributes_of_stamp_are_read(form: str, tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "s.h5", SLIDE, form=form)
    raw = read_raw(path, rules=ReadRules(mpp0=0.25))
    assert raw.geometry.tile_px0 == 512
    assert raw.embeddings.dtype == np.float16
    assert (raw.geometry.tile_px, raw.geometry.mpp) == (
        (256, 0.5) if form == "new" else (None,) * 2
    )


def test_the_oldest_form_of_stamp_has_tiles_of_256_um(tmp_path: Path) -> None:
    raw = read_raw(write_stamp(tmp_path / "s.h5", SLIDE, form="oldest"))
    assert (raw.geometry.tile_px, raw.geometry.mpp) == (224, 256 / 224)
    assert raw.pitch_px0 == raw.geometry.tile_px0 == 224
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["coords"][:] = file["coords"][:] * 3
    with pytest.raises(DataError, match=r"F13.*unit"):
        read_raw(tmp_path / "s.h5")


@pytest.mark.parametrize("mpp0", [0.2527, 0.5, 0.1213])
def test_without_the_slides_mpp_the_graph_is_right_and_that_is_said(
    mpp0: float, tmp_path: Path
) -> None:
    # a tile of 128 um is no whole number of level-0 px here: STAMP rounds, and so steps vary in um
    side = round(128 / mpp0)
    slide = replace(SLIDE, coords=SLIDE.coords // 512 * side, tile_px0=side, mpp0=mpp0)
    path = write_stamp(tmp_path / "s.h5", slide)
    unplaced, placed = read_bag(path), read_bag(path, rules=ReadRules(mpp0=mpp0))
    assert torch.equal(unplaced.neighbours, placed.neighbours)  # type: ignore[arg-type]
    assert torch.equal(unplaced.embeddings, placed.embeddings)
    assert unplaced.grid is not None
    assert placed.grid is not None
    assert not unplaced.grid.is_level0
    assert placed.grid.is_level0
    assert np.array_equal(np.unique(placed.grid.coords_px0), np.unique(slide.coords))
    um = unplaced.grid.coords_px0 * (unplaced.grid.mpp or 0)
    assert np.abs(um - placed.grid.coords_px0 * mpp0).max() < 0.02 * 128 * 8
    assert any("mpp not told" in n for n in read_raw(path).notes)


def test_a_wrong_mpp_is_suspected(tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "s.h5", SLIDE)
    notes = read_raw(path, rules=ReadRules(mpp0=0.3)).notes
    assert any("is it this slide's" in n for n in notes)


def test_embeddings_of_slides_are_no_tiles(tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "s.h5", SLIDE)
    with h5py.File(path, "r+") as file:
        file.attrs["feat_type"] = "patient"
    with pytest.raises(DataError, match=r"F33.*patient"):
        read_raw(path)


def test_encoders_have_one_name_in_all_tools(tmp_path: Path) -> None:
    slide = replace(SLIDE, encoder="uni2")
    names = {
        read_raw(write_stamp(tmp_path / "s.h5", slide)).encoder,
        read_raw(write_wsidata(tmp_path / "s.zarr", slide)).encoder,
    }
    assert names == {"uni_v2"}


def test_corners_off_any_lattice_are_rounded_one_by_one() -> None:
    coords = np.array([[0.0, 0.0], [100.0, 0.0], [230.0, 0.0], [230.0, 90.0]])
    placed, lattice = place_on_view(coords, 1.0)
    assert not lattice
    assert np.array_equal(placed, coords)


def test_resolutions_come_from_a_number_or_a_table(tmp_path: Path) -> None:
    table = tmp_path / "mpp.csv"
    table.write_text("WSI,mpp\nsub/s.svs,0.25\nt.ndpi,\n")  # TRIDENT's list
    assert read_slide_mpp(table) == {"s": 0.25}
    rules = ReadRules(mpp0=read_slide_mpp(table))
    assert (rules.mpp0_of("s"), rules.mpp0_of("t")) == (0.25, None)
    assert ReadRules(mpp0=0.5).mpp0_of("t") == 0.5
    assert read_raw(write_stamp(tmp_path / "s.h5", SLIDE), rules=rules).geometry.is_level0
    for text in ("slide_id,scale\ns,1\n", "slide_id,mpp\ns,40x\n", "slide_id,mpp\ns,0\n"):
        table.write_text(text)
        with pytest.raises(DataError, match="F40"):
            read_slide_mpp(table)


def test_rules_follow_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mpp.csv").write_text("slide_id,mpp\ns,0.25\n")
    block = {"features": "f", "clinical": "c.csv", "coords": "patches", "on_nonfinite": "drop"}
    target = {"column": "HER2", "positive": 1, "negative": 0}
    given = [
        (0.5, 0.5),
        (str(tmp_path / "mpp.csv"), {"s": 0.25}),
        (None, None),
    ]
    for told, wanted in given:
        options = parse_options(DataOptions, block | {"target": target, "slide_mpp": told}, "yaml")
        rules = read_rules(options)
        assert rules.mpp0 == wanted
        assert rules.coords_dir == Path("patches")
        assert rules.drop_nonfinite
    with pytest.raises(ConfigError, match="slide_mpp"):
        parse_options(DataOptions, block | {"target": target, "slide_mpp": 250}, "yaml")


# --- WSIData


def test_a_store_with_two_encoders_asks_which(tmp_path: Path) -> None:
    path = write_wsidata(tmp_path / "s.zarr", SLIDE)
    tables = path / "tables"
    shutil.copytree(tables / "simulated-24_tiles", tables / "uni2_tiles")
    with pytest.raises(DataError, match=r"F04.*2 tables.*'simulated-24_tiles', 'uni2_tiles'"):
        read_raw(path)
    for key in ("uni2", "uni2_tiles"):
        raw = read_raw(path, rules=ReadRules(feature_key=key))
        assert raw.encoder == "uni_v2"
    with pytest.raises(DataError, match=r"F04.*'conch'"):
        read_raw(path, rules=ReadRules(feature_key="conch"))


def test_what_else_a_store_holds_may_change(tmp_path: Path) -> None:
    path = write_wsidata(tmp_path / "s.zarr", SLIDE)
    before = read_raw(path).sha256
    (path / "images").mkdir()
    (path / "images" / "zarr.json").write_text("{}")
    shutil.copytree(path / "tables" / "simulated-24_tiles", path / "tables" / "uni2_tiles")
    assert read_raw(path, rules=ReadRules(feature_key="simulated-24")).sha256 == before


def test_boxes_are_read_in_either_byte_order() -> None:
    import struct

    corners = np.array([(5, 2), (5, 9), (1, 9), (1, 2), (5, 2)], float)
    big = struct.pack(">BIII", 0, 3, 1, 5) + corners.astype(">f8").tobytes()
    little = struct.pack("<BIII", 1, 3, 1, 5) + corners.astype("<f8").tobytes()
    found = boxes_of(Path("x"), [big, little])
    assert found.tolist() == [[1, 2, 5, 9]] * 2
    for bad in (b"", b"\x01", little[:20], struct.pack("<BII", 1, 1, 2), None):
        with pytest.raises(DataError, match="F13"):
            boxes_of(Path("x"), [bad])


def test_rows_without_a_tile_are_refused(tmp_path: Path) -> None:
    path = write_wsidata(tmp_path / "s.zarr", SLIDE)
    small = replace(SLIDE, coords=SLIDE.coords[:30], embeddings=SLIDE.embeddings[:30])
    write_wsidata(tmp_path / "t.zarr", small)
    shapes = Path("shapes") / "tiles" / "shapes.parquet"
    shutil.copy(tmp_path / "t.zarr" / shapes, path / shapes)
    with pytest.raises(DataError, match=r"F11.*30 boxes"):
        read_raw(path)


# --- folders


def test_mixed_folders_are_searched_and_what_is_left_aside_is_said(tmp_path: Path) -> None:
    write_clam(tmp_path / "clam", "a", SLIDE)
    write_wsidata(tmp_path / "b.zarr", SLIDE)
    write_npy_pair(tmp_path / "npy", "c", SLIDE)
    write_npy_folders(tmp_path / "torchmil", "d", SLIDE)
    write_trident(tmp_path / "job" / "features_uni_v2" / "e.h5", SLIDE)
    write_trident(tmp_path / "job" / "slide_features_titan" / "e.h5", SLIDE)
    write_trident(tmp_path / "job" / "patches" / "e_patches.h5", SLIDE)
    (tmp_path / "job" / "thumbnails").mkdir()
    (tmp_path / "job" / "thumbnails" / "e.jpg").write_bytes(b"")
    busy = write_trident(tmp_path / "job" / "features_uni_v2" / "f.h5", SLIDE)
    busy.with_name("f.h5.lock").write_text("")
    (tmp_path / ".hidden.h5").write_bytes(b"")
    found = find_feature_files([tmp_path, tmp_path / "b.zarr"])
    assert {k: v.relative_to(tmp_path).as_posix() for k, v in found.files.items()} == {
        "a": "clam/h5_files/a.h5",
        "b": "b.zarr",
        "c": "npy/c.npy",
        "d": "torchmil/features_path/d.npy",
        "e": "job/features_uni_v2/e.h5",
    }
    assert not found.problems
    assert [(p.code, Path(p.where).name) for p in found.skipped] == [("F31", "f.h5")]
    text = "\n".join(found.notes)
    for words in (
        "1 files are named twice",
        "4 files of tile corners",
        "1 embeddings of whole slides",
        "1 .jpg files",
        "1 .pt files left aside",
    ):
        assert words in text, text
    assert str(tmp_path) not in text


def test_a_file_of_corners_is_told_as_what_it_is(tmp_path: Path) -> None:
    write_clam(tmp_path, "s", SLIDE)
    with pytest.raises(DataError, match=r"F04.*a patches file"):
        read_raw(tmp_path / "patches" / "s.h5")


def test_weights_of_two_kinds_under_one_name_do_not_mix(tmp_path: Path) -> None:
    files = {}
    for name, digest in (("a", "0" * 64), ("b", "1" * 64)):
        values = SLIDE.embeddings + (name == "a")
        files[name] = write_trident(tmp_path / f"{name}.h5", replace(SLIDE, embeddings=values))
        with h5py.File(files[name], "r+") as file:
            file["features"].attrs["encoder_sha256"] = digest
    problems = examine_files(files).problems
    assert [(p.code, p.where) for p in problems] == [("F17", "encoder weights")]
