"""Files that appear whole or not at all, digests, and the lock of a run folder."""

import csv
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from momkd.errors import MachineError

_BLOCK_BYTES = 1 << 22


def digest_bytes(content: bytes) -> str:
    """Give the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal, reading it in blocks."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            sha.update(block)
    return sha.hexdigest()


def canonical_json(content: Any) -> str:
    """Write JSON in one fixed form, so that equal content has equal bytes; NaN becomes null."""
    plain = _without_nan(content)
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _without_nan(content: Any) -> Any:
    if isinstance(content, float):
        return None if math.isnan(content) else content
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return content


def write_atomically(
    path: Path, write: Callable[[BinaryIO], None], *, previous: Path | None = None
) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, rename it there.

    With ``previous``, the file that stood at ``path`` is kept under that name; between the two
    renames there is a moment with no file at ``path``.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent
        )
        try:
            with os.fdopen(handle, "wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o666 & ~_umask())
            if previous is not None and path.exists():
                path.replace(previous)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise MachineError.of("X10", str(path), what, "free space or choose another -o") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda stream: _write_all(stream, content))


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, in canonical form."""
    write_text(path, canonical_json(content))


def require_inside(root: Path, path: Path) -> None:
    """Refuse an output that a link inside its folder would carry elsewhere.

    Raises
    ------
    MachineError
        R04 ``path``, links followed, does not lie below ``root``.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        what = f"a link leads out of {root}"
        raise MachineError.of("R04", str(path), what, "remove the link or choose another -o")


def text_cell(text: str) -> str:
    """Put a quote before text that a spreadsheet would take for a formula (R02).

    That is text which begins with ``= + - @``, also behind blanks, or with a tab or a return. Text
    that begins with a quote gets one more, so that :func:`plain_cell` gives any text back. For
    tables that people open; tables that momkd reads again hold text as it is.
    """
    begins = text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "'")
    return f"'{text}" if text and begins else text


def plain_cell(cell: str) -> str:
    """Give back the text of which :func:`text_cell` made a cell."""
    return cell.removeprefix("'")


def spreadsheet(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Set a CSV table that people open: text as by :func:`text_cell`, headings too.

    Parameters
    ----------
    rows
        Key -> text, number, truth value or None, which is blank; so is NaN.
    columns
        In this order; by default the keys in the order they first occur.
    """
    rows = list(rows)
    names = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([text_cell(name) for name in names])
    writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return text_cell(value) if isinstance(value, str) else value


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files beside its place and rename it there; an older one is replaced.

    A process killed between the two renames leaves no folder rather than a mixed one; one writer at
    a time.

    Parameters
    ----------
    folder
        What stood there is deleted.
    files
        Path inside the folder -> content.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it.
    """
    new = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    try:
        for left_over in (new, old):
            if left_over.exists():
                shutil.rmtree(left_over)
        for name, content in files.items():
            write_bytes(new / name, content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync_folder(folder.parent)
        if old.exists():
            shutil.rmtree(old)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise MachineError.of(
            "X10", str(folder), what, "free space or choose another -o"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the lock dies with its owner.

    Raises
    ------
    MachineError
        X01 another process holds it (host, pid and start time are named).
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    except OSError as error:
        what = f"cannot be used as output folder: {error.strerror or error}"
        raise MachineError.of("X10", str(folder), what, "choose another -o") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            owner = stream.read().strip() or "unknown owner"
            what = f"in use by another run ({owner})"
            raise MachineError.of("X01", str(folder), what, "wait for it or choose -o") from None
        stream.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        stream.write(f"host {socket.gethostname()} pid {os.getpid()} since {started}\n")
        stream.flush()
        yield


def _write_all(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
