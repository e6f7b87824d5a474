"""A checkpoint gives back what it was given, or says why not."""

import errno
import math
import os
import random
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from momkd.checkpoint import CheckpointStore, require_same
from momkd.errors import ConfigError, IntegrityError, MachineError

_STATE = {
    "tensors": {
        "f": torch.randn(3, 4),
        "b": torch.randn(5).bfloat16(),
        "i": torch.tensor(2**40),
        "flag": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    },
    "numbered": {0: [1, 2.5], 7: (None, True, "a\nä")},
    "extreme": [math.inf, -math.inf, 1e-320, 0.1, 2**70, -0.0],
    "pairs": ((1, (2,)), [], {}, ()),
}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and type(a) is type(b) and all(map(_same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


def test_gives_back_what_it_got(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new")
    assert store.load() is None
    store.save(_STATE)
    assert _same(store.load(), _STATE)
    store.save({"n": math.nan})
    assert math.isnan(store.load()["n"])  # type: ignore[index]
    assert store.notes == []


def test_equal_states_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        CheckpointStore(tmp_path / name).save(_STATE)
    contents = {(tmp_path / n / "state.ckpt").read_bytes() for n in ("a", "b")}
    assert len(contents) == 1


def test_tensors_that_share_memory_part(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    CheckpointStore(tmp_path).save({"a": base, "b": base, "c": base.view(2, 3).t()})
    state = CheckpointStore(tmp_path).load()
    assert state is not None
    assert torch.equal(state["a"], state["b"])
    assert torch.equal(state["c"], base.view(2, 3).t())


def test_optimiser_goes_through(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    adam = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(3)).sum().backward()
    adam.step()
    CheckpointStore(tmp_path).save({"adam": adam.state_dict()})
    state = CheckpointStore(tmp_path).load()
    assert state is not None
    assert _same(state["adam"], adam.state_dict())


@pytest.mark.parametrize("value", [{"a": {1.5: 0}}, {"a": object()}, {"a": {1, 2}}, {"a": b"x"}])
def test_nothing_else_is_taken(value: dict[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a checkpoint"):
        CheckpointStore(tmp_path).save(value)
    assert CheckpointStore(tmp_path).load() is None


def _saved(folder: Path, *ns: int) -> CheckpointStore:
    store = CheckpointStore(folder)
    for n in ns:
        store.save({"n": n, "t": torch.full((20,), float(n))})
    return store


def test_damaged_newest_falls_back_and_says_so(tmp_path: Path) -> None:
    rng = random.Random(0)
    newest = tmp_path / "state.ckpt"
    for case in range(60):
        store = _saved(tmp_path, 1, 2)
        content = bytearray(newest.read_bytes())
        if case % 3 == 0:
            del content[rng.randrange(len(content)) :]
        elif case % 3 == 1:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            content += b"\0"
        newest.write_bytes(content)
        state = store.load()
        assert state is not None
        assert state["n"] == 1
        assert "damaged" in store.notes[0]


def test_a_damaged_file_never_pushes_out_the_whole_one(tmp_path: Path) -> None:
    store = _saved(tmp_path, 1, 2)
    (tmp_path / "state.ckpt").write_bytes(b"")
    store.load()
    _saved(tmp_path, 3)
    (tmp_path / "state.ckpt").write_bytes(b"again")
    state = CheckpointStore(tmp_path).load()
    assert state is not None
    assert state["n"] == 1


def test_a_save_interrupted_between_its_renames(tmp_path: Path) -> None:
    store = _saved(tmp_path, 1, 2)
    (tmp_path / "state.ckpt").replace(tmp_path / "state.ckpt.prev")
    state = store.load()
    assert state is not None
    assert state["n"] == 2
    assert "interrupted" in store.notes[0]


def test_remains_are_swept(tmp_path: Path) -> None:
    _saved(tmp_path, 1)
    (tmp_path / ".state.ckpt.abc123.tmp").write_bytes(b"half")
    CheckpointStore(tmp_path).load()
    assert [p.name for p in tmp_path.iterdir()] == ["state.ckpt"]


@pytest.mark.parametrize("both", [True, False])
def test_no_whole_generation_is_refused(both: bool, tmp_path: Path) -> None:
    store = _saved(tmp_path, 1, 2)
    (tmp_path / "state.ckpt").write_bytes(b"x" * 100)
    if both:
        (tmp_path / "state.ckpt.prev").write_bytes(b"")
    else:
        (tmp_path / "state.ckpt.prev").unlink()
    with pytest.raises(IntegrityError, match=r"\[T16\].*state.ckpt does not match.*delete") as no:
        store.load()
    assert no.value.exit_code == 5


def test_a_file_of_another_make_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momkd.checkpoint._FORMAT", 2)
    _saved(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="not a checkpoint of this version"):
        CheckpointStore(tmp_path).load()


def test_unreadable_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "state.ckpt").mkdir()
    with pytest.raises(MachineError, match=r"\[T04\].*cannot be read"):
        CheckpointStore(tmp_path).load()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "T03"), (errno.EDQUOT, "T03"), (errno.EIO, "T04")]
)
def test_a_disk_fault_while_saving_keeps_the_last(
    number: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _saved(tmp_path, 1, 2)

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(MachineError, match=rf"\[{code}\].*bytes wanted") as refusal:
        _saved(tmp_path, 3)
    monkeypatch.undo()
    assert refusal.value.exit_code == 6
    state = store.load()
    assert state is not None
    assert state["n"] == 2
    assert store.notes == []


def test_a_file_limit_of_the_kernel(tmp_path: Path) -> None:
    store = _saved(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(MachineError, match=r"\[T03\]"):
            store.save({"t": torch.zeros(1 << 16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _same(store.load(), {"n": 1, "t": torch.full((20,), 1.0)})


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    folder = tmp_path / "store"
    folder.mkdir()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return canary.touch, ()

    torch.save({"n": Bomb()}, folder / "state.ckpt")
    with pytest.raises(IntegrityError, match=r"\[T16\]"):
        CheckpointStore(folder).load()
    assert not canary.exists()


def test_fingerprints() -> None:
    require_same({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, "here")
    with pytest.raises(ConfigError, match=r"\[T14\] here: .*changed since: a, c, d;") as refusal:
        require_same({"a": "1", "b": "2", "c": "3"}, {"a": "0", "b": "2", "d": "4"}, "here")
    assert refusal.value.exit_code == 2
