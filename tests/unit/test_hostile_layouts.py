"""Hostile and damaged files of every layout: refused, nothing executed, nothing read elsewhere."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from momkd.data.layouts.material import ReadRules
from momkd.data.layouts.table import read_raw
from momkd.data.reader_process import FileFacts, Refusal, read_files
from momkd.errors import DataError, IntegrityError, MomkdError
from tests.layout_files import (
    SlideFeatures,
    write_clam,
    write_npy_pair,
    write_wsidata,
)
from tests.unit.test_layouts import write_pack

SLIDE = SlideFeatures()
TENSOR = torch.from_numpy(SLIDE.embeddings)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.place,)


# --- .pt


def test_an_array_saved_by_torch_is_read(tmp_path: Path) -> None:
    for kind in (np.float16, np.float32, np.float64):
        torch.save(SLIDE.embeddings.astype(kind), tmp_path / "s.pt")  # what TRIDENT does
        raw = read_raw(tmp_path / "s.pt")
        assert np.array_equal(raw.embeddings, SLIDE.embeddings)
    for tensor in (TENSOR.half(), TENSOR.bfloat16(), TENSOR[None], {"features": TENSOR}):
        torch.save(tensor, tmp_path / "s.pt")
        assert read_raw(tmp_path / "s.pt").embeddings.shape == (40, 24)
    torch.save(TENSOR, tmp_path / "s.pt", _use_new_zipfile_serialization=False)
    assert np.array_equal(read_raw(tmp_path / "s.pt").embeddings, SLIDE.embeddings)


@pytest.mark.parametrize("place", ["alone", "in a list", "in an array", "bare pickle"])
def test_a_pickle_is_refused_and_not_executed(place: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "s.pt"
    bomb = Bomb(canary)
    match place:
        case "alone":
            torch.save(bomb, path)
        case "in a list":
            torch.save([TENSOR, bomb], path)
        case "in an array":
            torch.save(np.array([bomb], dtype=object), path)
        case "bare pickle":
            path.write_bytes(pickle.dumps(bomb, protocol=2))
    with pytest.raises(IntegrityError, match=r"F39.*more than tensors") as caught:
        read_raw(path)
    assert "weights_only" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: TENSOR[:1].expand(10**9, 24), "F24"),
        (lambda: {"a": TENSOR, "b": TENSOR}, "F05"),
        (lambda: TENSOR.to_sparse(), "F05"),
        (lambda: [TENSOR], "F05"),
        (lambda: TENSOR.to(torch.int8), "F14"),
        (lambda: TENSOR[0], "F33"),
        (lambda: torch.nn.Linear(2, 2), "F39"),
    ],
)
def test_a_pt_that_is_no_matrix_of_features(
    content: Callable[[], object], code: str, tmp_path: Path
) -> None:
    torch.save(content(), tmp_path / "s.pt")
    with pytest.raises(MomkdError, match=rf"\[{code}\]"):
        read_raw(tmp_path / "s.pt")


def test_a_pt_packed_to_grow_is_refused(tmp_path: Path) -> None:
    torch.save(TENSOR, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "s.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
        packed.writestr("archive/data/9", bytes(1 << 20))
    with pytest.raises(IntegrityError, match="F24"):
        read_raw(tmp_path / "s.pt")


def test_an_old_torch_opens_no_pt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(TENSOR, tmp_path / "s.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(DataError, match=r"F38.*2\.9\.1"):
        read_raw(tmp_path / "s.pt")


# --- .npy


def test_pickled_objects_in_npy_are_refused_and_not_executed(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", write_npy_pair(tmp_path, "s", SLIDE)
    objects = np.empty(2, dtype=object)
    objects[0] = Bomb(canary)
    for target in (path, tmp_path / "s_coords.npy"):
        whole = target.read_bytes()
        np.save(target, objects, allow_pickle=True)
        with pytest.raises(IntegrityError, match="F39"):
            read_raw(path)
        target.write_bytes(whole)
    assert not canary.exists()
    assert len(read_raw(path).embeddings) == 40


def _npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1536)}", "F24"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (30, 40)}", "F01"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4)}", "F01"),
        ("{'descr': '<f4', 'fortran_order': False}", "F01"),
        ("__import__('os').system('touch canary')", "F01"),
        ("((((((((((", "F01"),
        ("{'descr': '<U4', 'fortran_order': False, 'shape': (2, 2)}", "F05"),
    ],
)
def test_headers_of_npy_that_lie(header: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "s.npy").write_bytes(_npy(header, bytes(64)))
    with pytest.raises(MomkdError, match=rf"\[{code}\]"):
        read_raw(tmp_path / "s.npy")


# --- zarr


def _change(path: Path, **changed: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changed))


def _table(store: Path) -> Path:
    return store / "tables" / "simulated-24_tiles"


def _leave_by_region(store: Path) -> None:
    about = json.loads((_table(store) / "zarr.json").read_text())["attributes"]
    _change(_table(store) / "zarr.json", attributes=about | {"region": "../../secret"})


def _leave_by_column(store: Path) -> None:
    about = json.loads((_table(store) / "zarr.json").read_text())["attributes"]
    _change(_table(store) / "zarr.json", attributes=about | {"instance_key": "../../../x"})


def _link_chunk(store: Path) -> None:
    chunk = next((_table(store) / "X" / "c").rglob("0"))
    (store.parent / "secret").write_bytes(chunk.read_bytes() if chunk.is_file() else b"x")
    target = _table(store) / "X" / "c" / "0" / "0"
    target.unlink()
    target.symlink_to(store.parent / "secret")


def _link_table(store: Path) -> None:
    _table(store).rename(store.parent / "elsewhere")
    _table(store).symlink_to(store.parent / "elsewhere")


def _link_shapes(store: Path) -> None:
    shapes = store / "shapes" / "tiles" / "shapes.parquet"
    shapes.rename(store.parent / "shapes.parquet")
    shapes.symlink_to(store.parent / "shapes.parquet")


def _huge(store: Path) -> None:
    _change(_table(store) / "X" / "zarr.json", shape=[10**9, 1536])


def _huge_chunk(store: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**9, 24]}}
    _change(_table(store) / "X" / "zarr.json", chunk_grid=grid)


def _pickle_codec(store: Path) -> None:
    _change(_table(store) / "X" / "zarr.json", codecs=[{"name": "numcodecs.pickle"}])


def _nested_codec(store: Path) -> None:
    inner = {"codecs": [{"name": "numcodecs.pickle"}], "index_codecs": []}
    shard = [{"name": "sharding_indexed", "configuration": inner}]
    _change(_table(store) / "X" / "zarr.json", codecs=shard)


def _transformer(store: Path) -> None:
    _change(_table(store) / "X" / "zarr.json", storage_transformers=[{"name": "remote"}])


def _missing_chunk(store: Path) -> None:
    (_table(store) / "X" / "c" / "1" / "0").unlink()


def _cut_chunk(store: Path) -> None:
    chunk = _table(store) / "X" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-7])


def _cut_parquet(store: Path) -> None:
    shapes = store / "shapes" / "tiles" / "shapes.parquet"
    shapes.write_bytes(shapes.read_bytes()[:-30])


def _no_json(store: Path) -> None:
    (_table(store) / "X" / "zarr.json").write_text("[" * 100_000)


def _integers(store: Path) -> None:
    _change(_table(store) / "X" / "zarr.json", data_type="int32", fill_value=0)


def _odd_type(store: Path) -> None:
    _change(_table(store) / "X" / "zarr.json", data_type={"name": "struct"})


def _no_column(store: Path) -> None:
    (_table(store) / "obs" / "tile_id").rename(_table(store) / "obs" / "other")


def _old_format(store: Path) -> None:
    (store / "zarr.json").rename(store / ".zgroup")


def _fifo(store: Path) -> None:
    chunk = _table(store) / "X" / "c" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)


@pytest.mark.parametrize(
    ("spoil", "kind", "code"),
    [
        (_leave_by_region, DataError, "F11"),
        (_leave_by_column, DataError, "F11"),
        (_link_chunk, IntegrityError, "F22"),
        (_link_table, IntegrityError, "F22"),
        (_link_shapes, IntegrityError, "F22"),
        (_huge, IntegrityError, "F24"),
        (_huge_chunk, IntegrityError, "F24"),
        (_pickle_codec, DataError, "F25"),
        (_nested_codec, DataError, "F25"),
        (_transformer, DataError, "F25"),
        (_missing_chunk, DataError, "F01"),
        (_cut_chunk, DataError, "F01"),
        (_cut_parquet, DataError, "F01"),
        (_no_json, DataError, "F01"),
        (_integers, DataError, "F14"),
        (_odd_type, DataError, "F05"),
        (_no_column, DataError, "F11"),
        (_old_format, DataError, "F03"),
        (_fifo, DataError, "F28"),
    ],
)
def test_stores_that_lie_or_lead_out(
    spoil: Callable[[Path], None], kind: type[MomkdError], code: str, tmp_path: Path
) -> None:
    store = write_wsidata(tmp_path / "s.zarr", SLIDE)
    (tmp_path / "secret.parquet").write_bytes(b"secret")
    spoil(store)
    with pytest.raises(kind, match=rf"\[{code}\]") as caught:
        read_raw(store)
    assert all(len(p.line()) <= 300 for p in caught.value.problems)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_wsidata(tmp_path / "s.zarr", SLIDE)
    for library in ("zarr", "pyarrow"):
        with monkeypatch.context() as without:
            without.setitem(__import__("sys").modules, library, None)
            with pytest.raises(DataError, match=rf"F38.*{library}.*momkd\[zarr\]"):
                read_raw(store)


# --- damage, whatever the layout


def _flip(content: bytearray, rng: np.random.Generator) -> None:
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def _cut(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


@pytest.mark.parametrize("layout", ["pt", "npy", "pack"])
def test_damaged_files_are_refused_or_have_another_digest(layout: str, tmp_path: Path) -> None:
    if layout == "pt":
        path = write_clam(tmp_path, "s", SLIDE).parents[1] / "pt_files" / "s.pt"
    elif layout == "npy":
        path = write_npy_pair(tmp_path, "s", SLIDE)
    else:
        path = write_pack(tmp_path, SLIDE)
    whole, known = path.read_bytes(), read_raw(path).sha256
    n_refused = 0
    for i in range(60):
        rng = np.random.default_rng(i)
        content = bytearray(whole)
        (_flip, _cut)[i % 2](content, rng)
        path.write_bytes(content)
        try:
            found = read_raw(path).sha256
        except MomkdError:
            n_refused += 1
        else:
            assert found != known
    assert n_refused >= 30
    if layout == "pack":  # every array and the index carry their digest: only padding may differ
        path.write_bytes(whole)
        for place in (5, 12, 20, 60, 4096, len(whole) // 2):
            content = bytearray(whole)
            content[place] ^= 4
            path.write_bytes(content)
            with pytest.raises(DataError, match=r"F01|F03"):
                read_raw(path)


def test_hostile_files_cost_themselves_only(tmp_path: Path) -> None:
    good = write_npy_pair(tmp_path / "good", "s", SLIDE)
    torch.save(Bomb(tmp_path / "canary"), tmp_path / "b.pt")
    store = write_wsidata(tmp_path / "c.zarr", SLIDE)
    _huge(store)
    paths = [tmp_path / "b.pt", store, good]
    bomb, huge, read = read_files(paths, rules=ReadRules(), timeout_s=60.0)
    assert isinstance(bomb, Refusal)
    assert isinstance(huge, Refusal)
    assert isinstance(read, FileFacts)
    assert (bomb.problem.code, bomb.unsafe) == ("F39", True)
    assert (huge.problem.code, huge.unsafe) == ("F24", True)
    assert not (tmp_path / "canary").exists()
