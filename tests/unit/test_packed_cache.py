"""The packed cache: the same bags within a stated error, made again when they are not of today."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from momkd.data.examination import examine_files, slide_file
from momkd.data.features import read_bag
from momkd.data.layouts.material import ReadRules
from momkd.data.layouts.table import read_raw
from momkd.data.packed_cache import PackedCache, stored_precision
from momkd.data.reader_process import facts_of
from momkd.errors import DataError, IntegrityError
from momkd.types import SlideFile
from tests.layout_files import SlideFeatures, write_npy_pair, write_trident, write_wsidata

SLIDE = SlideFeatures(
    embeddings=np.random.default_rng(3).normal(size=(40, 24)).astype(np.float32) * 10
)


def examined(path: Path) -> SlideFile:
    rules = ReadRules()
    return slide_file(facts_of(read_raw(path, rules=rules), path), rules)


@pytest.fixture
def file(tmp_path: Path) -> SlideFile:
    return examined(write_trident(tmp_path / "s.h5", SLIDE))


def test_float32_is_kept_to_the_bit(file: SlideFile, tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "packed", precision="float32")
    source, packed = read_bag(file), cache.read(file, k=8)
    assert packed.embeddings.dtype == torch.float32
    assert torch.equal(source.embeddings, packed.embeddings)
    assert torch.equal(source.neighbours, packed.neighbours)  # type: ignore[arg-type]
    assert source.grid is not None
    assert packed.grid is not None
    assert np.array_equal(source.grid.coords_px0, packed.grid.coords_px0)
    for name in ("tile_px0", "tile_px", "mpp", "overlap_px", "width_px0", "is_level0"):
        assert getattr(source.grid, name) == getattr(packed.grid, name)
    facts = ("slide_id", "encoder", "digest", "encoder_sha256")
    assert [getattr(source, f) for f in facts] == [getattr(packed, f) for f in facts]


def test_float16_keeps_its_stated_error(file: SlideFile, tmp_path: Path) -> None:
    exact = read_bag(file).embeddings.double()
    half = PackedCache(tmp_path / "packed").read(file, k=8).embeddings
    assert half.dtype == torch.float16
    error = (half.double() - exact).abs()
    bound = torch.maximum(exact.abs() * 2**-11, torch.tensor(2.0**-25, dtype=torch.float64))
    assert bool((error <= bound).all())
    assert bool((error > 0).any())


def test_a_half_stays_a_half_and_what_does_not_fit_stays_a_single(tmp_path: Path) -> None:
    half = replace(SLIDE, embeddings=SLIDE.embeddings.astype(np.float16))
    large = replace(SLIDE, embeddings=SLIDE.embeddings * 1e5)
    for slide, precision, wanted in (
        (half, "float32", torch.float16),
        (half, "float16", torch.float16),
        (large, "float16", torch.float32),
    ):
        file = examined(write_trident(tmp_path / "s.h5", slide))
        cache = PackedCache(tmp_path / "packed", precision=precision)
        bag = cache.read(file, k=8)
        assert bag.embeddings.dtype == wanted
        assert torch.equal(bag.embeddings, read_bag(file).embeddings)
        assert cache.update(file) == "kept"


def test_another_k_is_computed(file: SlideFile, tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "packed")
    near = cache.read(file, k=3).neighbours
    assert near is not None
    assert torch.equal(near, read_bag(file, k=3).neighbours)  # type: ignore[arg-type]
    assert PackedCache(tmp_path / "packed", neighbours=3).update(file) == "stale"


def test_a_bag_without_corners_is_packed(tmp_path: Path) -> None:
    path = write_npy_pair(tmp_path, "s", SLIDE)
    (tmp_path / "s_coords.npy").unlink()
    file = examined(path)
    bag = PackedCache(tmp_path / "packed", precision="float32").read(file, k=8)
    assert bag.grid is None
    assert bag.neighbours is None
    assert torch.equal(bag.embeddings, read_bag(file).embeddings)


def test_a_store_is_packed(tmp_path: Path) -> None:
    file = examined(write_wsidata(tmp_path / "s.zarr", SLIDE))
    cache = PackedCache(tmp_path / "packed", precision="float32")
    assert torch.equal(cache.read(file, k=8).embeddings, read_bag(file).embeddings)
    assert cache.update(file) == "kept"
    (file.path / "zarr.json").touch()
    assert cache.update(file) == "stale"


def test_entries_are_made_anew_when_their_source_is_not_that_of_today(
    file: SlideFile, tmp_path: Path
) -> None:
    cache = PackedCache(tmp_path / "packed")
    assert cache.update(file) == "new"
    assert cache.update(file) == "kept"
    os.utime(file.path, ns=(1, 1))
    assert cache.update(file) == "stale"
    assert cache.update(file) == "kept"
    assert cache.update(replace(file, drop_nonfinite=True)) == "stale"
    other = replace(SLIDE, embeddings=SLIDE.embeddings + 1)
    write_trident(file.path, other)
    with pytest.raises(IntegrityError, match="F26"):
        cache.read(file, k=8)  # its digest is that of the examination: nothing else is packed
    fresh = examined(file.path)
    assert cache.update(fresh) == "stale"
    assert torch.equal(cache.read(fresh, k=8).embeddings, read_bag(fresh).embeddings.half())


# magic, length, digest of the index, index; then embeddings, corners and neighbours, a page each
@pytest.mark.parametrize("place", [0, 9, 20, 100, 4096, 8200, 12300])
def test_damaged_entries_are_noticed_and_made_anew(
    place: int, file: SlideFile, tmp_path: Path
) -> None:
    cache = PackedCache(tmp_path / "packed")
    cache.update(file)
    path = cache.path_of(file)
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    fresh = PackedCache(tmp_path / "packed")
    assert torch.equal(fresh.read(file, k=8).embeddings, read_bag(file).embeddings.half())
    assert fresh.update(file) == "kept"
    path.write_bytes(path.read_bytes()[:12300])
    assert PackedCache(tmp_path / "packed").update(file) == "damaged"


def test_a_folder_that_cannot_be_written_changes_no_result(file: SlideFile, tmp_path: Path) -> None:
    (tmp_path / "packed").write_text("a file in its place")
    bag = PackedCache(tmp_path / "packed", precision="float16").read(file, k=8)
    assert torch.equal(bag.embeddings, read_bag(file).embeddings.half())


def test_two_writers_of_one_entry_do_no_harm(file: SlideFile, tmp_path: Path) -> None:
    wanted = read_bag(file).embeddings.half()

    def work(_: int) -> None:
        for _ in range(8):
            cache = PackedCache(tmp_path / "packed")
            cache.path_of(file).unlink(missing_ok=True)
            assert torch.equal(cache.read(file, k=8).embeddings, wanted)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert [p.suffix for p in (tmp_path / "packed").iterdir()] == [".pack"]


def test_a_packed_bag_is_known_for_its_source(file: SlideFile, tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "packed")
    cache.update(file)
    packed = examined(cache.path_of(file))
    assert packed.sha256 != file.sha256
    assert packed.content_sha256 == file.content_sha256 == file.sha256
    again = PackedCache(tmp_path / "again")
    again.update(packed)
    twice = examined(again.path_of(packed))
    assert twice.content_sha256 == file.sha256
    copy = shutil.copy(cache.path_of(file), tmp_path / "other.pack")
    problems = examine_files({"s": file.path, "other": Path(copy)}).refused
    assert [(p.code, p.where) for p in problems] == [("F32", "other, s")]


def test_equal_sources_give_equal_bytes(file: SlideFile, tmp_path: Path) -> None:
    contents = []
    for name in "ab":
        cache = PackedCache(tmp_path / name)
        cache.update(file)
        contents.append(cache.path_of(file).read_bytes())
    assert contents[0] == contents[1]


def test_changing_a_bag_changes_nothing_on_disk(file: SlideFile, tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "packed")
    cache.read(file, k=8).embeddings.zero_()
    assert PackedCache(tmp_path / "packed").update(file) == "kept"
    assert bool(cache.read(file, k=8).embeddings.any())


def test_odd_names_have_a_place(file: SlideFile, tmp_path: Path) -> None:
    cache = PackedCache(tmp_path / "packed")
    names = ["..", "a/b", "x" * 300, "two\nlines", "ünï 1"]
    places = {cache.path_of(replace(file, slide_id=name)) for name in names}
    assert len(places) == len(names)
    assert all(p.parent == tmp_path / "packed" for p in places)


def test_a_folder_says_its_precision(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    assert stored_precision(folder) is None
    PackedCache(folder, precision="float32").declare()
    assert PackedCache(folder).precision == "float32"
    (folder / "pack.json").write_text("{")
    with pytest.raises(DataError, match="F01"):
        PackedCache(folder)
