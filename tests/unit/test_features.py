"""Feature files: what is read, in which order, and that damage never passes for data."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from momkd.data.features import (
    describe_file,
    examine_files,
    find_feature_files,
    read_bag,
    read_manifest,
    write_manifest,
)
from momkd.data.layouts.geometry import pitch_px0
from momkd.data.layouts.material import ReadLimits, ReadRules, slide_id_of
from momkd.data.layouts.table import read_raw
from momkd.data.reader_process import Refusal, read_files
from momkd.errors import DataError, IntegrityError, MomkdError

DIM = 6


def write_trident(path: Path, n_tiles: int = 30, seed: int = 0, **attributes: object) -> Path:
    """Write a file as TRIDENT does: chunks of one row, level-0 coordinates, attributes."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_tiles)))
    coords = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[:n_tiles]
    stated = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "target_magnification": 20,
        "level0_magnification": 40,
        "overlap": 0,
        "name": path.stem,
        "savetodir": "None",
    } | attributes
    with h5py.File(path, "w") as file:
        features = file.create_dataset(
            "features",
            data=rng.normal(size=(n_tiles, DIM)).astype(np.float32),
            chunks=(1, DIM),
            maxshape=(None, DIM),
        )
        features.attrs["encoder"] = "test-encoder"
        file.create_dataset("coords", data=coords.astype(np.int64) * 512).attrs.update(stated)
    return path


def test_a_bag_is_in_raster_order_with_its_geometry(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "a.h5", mpp=0.5)
    bag = read_bag(path)
    assert bag.grid is not None
    assert bag.neighbours is not None
    assert (bag.slide_id, bag.encoder, bag.dim) == ("a", "test-encoder", DIM)
    assert (bag.grid.tile_px0, bag.grid.tile_px, bag.grid.mpp) == (512, 256, 0.5)
    assert bag.grid.magnification == 20
    keys = [(y, x) for x, y in bag.grid.coords_px0.tolist()]
    assert keys == sorted(keys)
    assert bag.neighbours.shape == (30, 8)


def test_shuffled_rows_give_the_same_bag_to_the_bit(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "a.h5")
    rng = np.random.default_rng(1)
    with h5py.File(path, "r+") as file:  # some tiles at one place, told apart by content
        file["coords"][5] = file["coords"][6]
        file["coords"][7] = file["coords"][6]
    before = read_bag(path)
    for _ in range(5):
        with h5py.File(path, "r+") as file:
            order = rng.permutation(30)
            file["features"][:] = file["features"][:][order]
            file["coords"][:] = file["coords"][:][order]
        after = read_bag(path)
        assert torch.equal(before.embeddings, after.embeddings)
        assert torch.equal(before.neighbours, after.neighbours)  # type: ignore[arg-type]


def test_halves_stay_halves_and_doubles_become_singles(tmp_path: Path) -> None:
    for dtype, wanted in ((np.float16, torch.float16), (np.float64, torch.float32)):
        path = write_trident(tmp_path / "a.h5")
        with h5py.File(path, "r+") as file:
            values = file["features"][:].astype(dtype)
            del file["features"]
            file["features"] = values[None]  # and a leading axis of one is squeezed
        assert read_bag(path).embeddings.dtype == wanted
        assert any("(1, n, dim)" in n for n in read_raw(path).notes)


def test_names_of_slides() -> None:
    assert slide_id_of(Path("TCGA-A-01Z.1B2C.h5")) == "TCGA-A-01Z.1B2C"
    assert slide_id_of(Path("slide.svs.h5")) == "slide"
    assert slide_id_of(Path("a.svs.copy.h5")) == "a.svs.copy"
    assert slide_id_of(Path("with space é.h5")) == "with space é"


def test_limits_are_checked_before_reading(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "a.h5")
    with pytest.raises(IntegrityError, match="F24"):
        read_raw(path, limits=ReadLimits(max_bytes=100))


def test_examine_reads_compares_and_remembers(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    for i in range(4):
        write_trident(folder / f"s{i}.h5", seed=i)
    found = find_feature_files([folder])
    files = found.files
    assert sorted(files) == ["s0", "s1", "s2", "s3"]
    assert not found.problems
    for n_workers in (1, 2):
        examined = examine_files(files, n_workers=n_workers)
        assert sorted(examined.slides) == sorted(files)
        assert not examined.problems
        assert not examined.refused
    slides = examined.slides
    write_manifest(tmp_path / "manifest.csv", list(slides.values()))
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert manifest == {f"s{i}.h5": slides[f"s{i}"].sha256 for i in range(4)}
    write_trident(folder / "s2.h5", seed=99)
    again = examine_files(files, manifest=manifest)
    assert [p.code for p in again.refused] == ["F26"]
    with pytest.raises(IntegrityError, match="F26"):
        read_bag(slides["s2"])


def test_a_silent_reader_is_given_up_and_the_next_file_is_read(tmp_path: Path) -> None:
    paths = [write_trident(tmp_path / f"s{i}.h5", seed=i) for i in range(2)]
    (first,) = read_files(paths[:1], rules=ReadRules(), timeout_s=0.0)
    assert isinstance(first, Refusal)
    assert first.problem.code == "F27"
    answers = list(read_files(paths, rules=ReadRules(), timeout_s=60.0))
    assert not any(isinstance(a, Refusal) for a in answers)


def test_pitch_is_measured_from_the_data(tmp_path: Path) -> None:
    coords = np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(-1, 2) * 448
    assert pitch_px0(coords) == 448
    assert pitch_px0(coords[:1]) is None
    path = write_trident(tmp_path / "a.h5", patch_size_level0=1024)
    assert "not the tile side" in "\n".join(describe_file(path).lines())


def test_real_slide_bag(shared_data: Path) -> None:
    (path,) = (shared_data / "tcga-one-slide").glob("*.h5")
    bag = read_bag(path)
    assert (len(bag), bag.dim) == (509, 1024)
    assert bag.neighbours is not None
    assert int(bag.neighbours.min()) >= 0


def _flip_bit(content: bytearray, rng: np.random.Generator) -> None:
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def _overwrite(content: bytearray, rng: np.random.Generator) -> None:
    start, n = int(rng.integers(len(content))), int(rng.integers(1, 9))
    content[start : start + n] = rng.bytes(min(n, len(content) - start))


def _cut(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


def _spoil_header(content: bytearray, rng: np.random.Generator) -> None:
    start = 8 * int(rng.integers(min(len(content), 800) // 8))
    content[start : start + 8] = rng.bytes(8)


MUTATIONS: list[Callable[[bytearray, np.random.Generator], None]] = [
    _flip_bit,
    _overwrite,
    _cut,
    _spoil_header,
]


def _fuzz(tmp_path: Path, n_mutants: int) -> None:
    """With the manifest no damaged file is accepted, whatever HDF5 makes of it."""
    path = write_trident(tmp_path / "s.h5")
    whole = path.read_bytes()
    known = {"s.h5": examine_files({"s": path}).slides["s"].sha256}
    paths = []
    for i in range(n_mutants):
        rng = np.random.default_rng(i)
        content = bytearray(whole)
        MUTATIONS[i % len(MUTATIONS)](content, rng)
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "s.h5").write_bytes(content)
        if bytes(content) != whole:
            paths.append(folder / "s.h5")
    assert len(paths) > 0.9 * n_mutants
    answers = list(read_files(paths, rules=ReadRules(), timeout_s=20.0))
    assert len(answers) == len(paths)
    silent = [a for a in answers if not isinstance(a, Refusal)]
    assert silent, "no mutant was read: the test proves nothing about silent damage"
    assert all(a.sha256 != known["s.h5"] for a in silent)


def test_damaged_files_are_never_accepted(tmp_path: Path) -> None:
    _fuzz(tmp_path, 200)


@pytest.mark.slow
def test_two_thousand_damaged_files_are_never_accepted(tmp_path: Path) -> None:
    _fuzz(tmp_path, 2000)


def test_every_cut_of_a_file_is_told(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "a.h5")
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"F01|F03"):
            read_raw(path)


def test_refusals_are_momkd_errors_whatever_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    rng = np.random.default_rng(0)
    for n_bytes in (1, 8, 100, 5000):
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + rng.bytes(n_bytes))
        with pytest.raises(MomkdError):
            read_raw(path)


def test_a_very_large_slide_is_announced_with_the_memory_it_needs(tmp_path):
    path = tmp_path / "large.h5"
    side = 250
    places = 512 * np.stack(np.divmod(np.arange(side * side), side), axis=1)
    with h5py.File(path, "w") as file:
        file["features"] = np.random.default_rng(0).standard_normal((len(places), 2), np.float32)
        file["coords"] = places
    notes = examine_files({"large": path}).notes
    assert any("62,500 tiles: about 1.7 GiB for one training step" in n for n in notes), notes


def test_dropped_rows_leave_the_same_bag_as_a_file_without_them(tmp_path):
    rng = np.random.default_rng(0)
    values, places = rng.standard_normal((20, 4), np.float32), 512 * np.arange(40).reshape(20, 2)
    spoilt = values.copy()
    spoilt[[3, 7], 1] = (np.nan, np.inf)
    for name, x, y in (
        ("a", spoilt, places),
        ("b", np.delete(values, [3, 7], 0), np.delete(places, [3, 7], 0)),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = x, y
    rules = ReadRules(drop_nonfinite=True)
    files = {name: tmp_path / f"{name}.h5" for name in "ab"}
    slides = examine_files(files, rules=rules).slides
    dropped, clean = (read_bag(slides[name]) for name in "ab")
    assert torch.equal(dropped.embeddings, clean.embeddings)
    assert torch.equal(dropped.neighbours, clean.neighbours)
    assert slides["a"].n_tiles == 18


def test_a_file_that_changes_while_it_is_read_is_refused_after_three_tries(tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.random.default_rng(0).standard_normal((9, 4), np.float32)
    read, stamps = Path.read_bytes, iter(range(10**9, 10**12, 10**9))

    def read_and_be_written(self: Path, n_times: int = 10**9) -> bytes:
        content = read(self)
        if len(tried) < n_times:
            stamp = next(stamps)
            os.utime(self, ns=(stamp, stamp))
        tried.append(self)
        return content

    tried: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", read_and_be_written)
    with pytest.raises(DataError, match=r"F30.*changes while it is read \(3 tries\)"):
        read_raw(path)
    assert len(tried) == 3
    tried.clear()
    monkeypatch.setattr(Path, "read_bytes", lambda self: read_and_be_written(self, 2))
    assert len(read_raw(path).embeddings) == 9  # its writer was done in time
