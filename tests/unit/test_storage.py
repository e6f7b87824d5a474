"""Files appear whole or not at all."""

import csv
import errno
import io
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from momkd.errors import MachineError
from momkd.storage import (
    canonical_json,
    digest_bytes,
    digest_file,
    lock_folder,
    plain_cell,
    spreadsheet,
    text_cell,
    write_atomically,
    write_bytes,
    write_json,
    write_text,
)

_FAULTS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE]


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+a", "-a", "@a", "\ta", "\ra", " =a", "\u00a0=a", "\n-a", "'=a", "''", "'"],
)
def test_text_that_would_be_a_formula_is_quoted_and_comes_back(text: str) -> None:
    assert text_cell(text) == f"'{text}"
    assert plain_cell(text_cell(text)) == text


@pytest.mark.parametrize("text", ["", "a", "a=1", "1-2", "TCGA-A1", "é", "a'b"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert text_cell(text) == plain_cell(text) == text


def test_a_spreadsheet_quotes_text_and_leaves_numbers() -> None:
    rows = [{"=a": "=1", "b": -0.5, "c": True}, {"=a": "x,\n", "b": float("nan"), "d": None}]
    found = list(csv.reader(io.StringIO(spreadsheet(rows), newline="")))
    assert found == [
        ["'=a", "b", "c", "d"],
        ["'=1", "-0.5", "True", ""],
        ["x,\n", "", "", ""],
    ]
    assert spreadsheet([], ["a", "b"]) == "a,b\n"


def test_digests(tmp_path: Path) -> None:
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_bytes(b"abc") == digest_file(tmp_path / "a") == known
    big = os.urandom((1 << 22) + 17)
    (tmp_path / "b").write_bytes(big)
    assert digest_file(tmp_path / "b") == digest_bytes(big)


def test_equal_content_has_equal_json() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2.5]})
    assert canonical_json({}).endswith("\n")


def test_written_whole_with_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "grüße\n")
    write_text(path, "zwei\n")
    assert path.read_bytes() == b"zwei\n"
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert _names(path.parent) == ["a.txt"]
    write_json(path, {"k": 1})
    assert path.read_text() == '{\n "k": 1\n}\n'


def test_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_bytes(path, b"1")
    assert path.read_bytes() == b"1"


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    path, before = tmp_path / "a", tmp_path / "a.prev"
    for content in (b"1", b"2", b"3"):
        write_atomically(path, lambda s, c=content: s.write(c), previous=before)
    assert (path.read_bytes(), before.read_bytes()) == (b"3", b"2")


@pytest.mark.parametrize("number", _FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", ["mkstemp", "fsync", "replace"])
def test_a_disk_fault_leaves_the_old_file(
    number: int, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")
    owner = {"mkstemp": "momkd.storage.tempfile", "fsync": "os", "replace": "pathlib.Path"}[place]

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"{owner}.{place}", fail)
    with pytest.raises(MachineError, match=r"\[X10\].*cannot be written") as refusal:
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert refusal.value.exit_code == 6
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let the kernel refuse files of more than 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_real_refusal_of_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")
    with pytest.raises(MachineError, match="cannot be written"):
        write_bytes(path, bytes(1 << 17))
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


def test_an_error_of_the_writer_leaves_nothing(tmp_path: Path) -> None:
    def write(stream: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        write_atomically(tmp_path / "a", write)
    assert _names(tmp_path) == []


_HOLD = """
import os, sys, signal
from pathlib import Path
from momkd.storage import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_and_the_lock_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(MachineError, match=rf"\[X01\].*pid {holder.pid} "), lock_folder(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with lock_folder(tmp_path):
        assert f"pid {os.getpid()} " in (tmp_path / ".lock").read_text()
