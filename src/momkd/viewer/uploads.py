"""Uploads: written as they come, counted, under a name that cannot do harm."""

import hashlib
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

import anyio.to_thread

from momkd.errors import DataError, IntegrityError, MachineError
from momkd.slides.formats import SLIDE_SUFFIXES
from momkd.viewer.roots import FEATURE_SUFFIXES

_IN_PARTS = (".mrxs", ".vms", ".vmu")
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FREE_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20


def safe_name(name: str) -> str:
    """Give the name an upload is kept under: its own if that is plain, else a digest of it.

    Raises
    ------
    IntegrityError
        D10 neither a slide nor a feature file by its name.
    DataError
        S13 a slide that is several files.
    """
    plain = PurePosixPath(name.replace("\\", "/")).name.replace("\0", "")
    suffix = PurePosixPath(plain).suffix.lower()
    shown = plain[:80]
    if suffix in _IN_PARTS:
        what = "is one of several files of a slide, and cannot be uploaded alone"
        raise DataError.of("S13", shown, what, "put the whole slide below --slides")
    if suffix not in (*SLIDE_SUFFIXES, *FEATURE_SUFFIXES):
        known = " ".join((*SLIDE_SUFFIXES, *FEATURE_SUFFIXES))
        raise IntegrityError.of("D10", shown, "is neither a slide nor a feature file", known)
    stem = plain[: -len(suffix)]
    if not _SAFE.fullmatch(stem):
        digest = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
        stem = f"upload-{digest[:12]}"
    return f"{stem}{suffix}"


async def receive(
    chunks: AsyncIterator[bytes], folder: Path, name: str, n_bytes: int, max_bytes: int
) -> Path:
    """Write an upload into a folder of its own; nothing is left of one that does not arrive whole.

    Parameters
    ----------
    chunks
        What comes in.
    folder
        Of uploads.
    name
        As the browser gives it.
    n_bytes
        What was announced.
    max_bytes
        The limit.

    Raises
    ------
    IntegrityError
        D09 larger than the limit; D10 a name of no slide.
    DataError
        D09 less, or more, came than was announced.
    MachineError
        X10 the disk is full.
    """
    target = safe_name(name)
    if n_bytes > max_bytes:
        what = f"{n_bytes:,} bytes, the limit is {max_bytes:,}"
        raise IntegrityError.of("D09", target, what, "raise --max-upload, or use --slides")
    place = folder / secrets.token_hex(8)
    path = place / target
    try:
        place.mkdir(parents=True)
        if shutil.disk_usage(place).free < n_bytes + _FREE_BYTES:
            what = "the disk has no room for it"
            raise MachineError.of("X10", target, what, "free space, or choose another --work")
        got = await _write(chunks, path, n_bytes)
        if got != n_bytes:
            what = f"{got:,} of {n_bytes:,} bytes came"
            raise DataError.of("D09", target, what, "send it again")
    except OSError as error:
        await anyio.to_thread.run_sync(shutil.rmtree, place, True)
        what = f"cannot be written: {error.strerror or error}"
        raise MachineError.of("X10", target, what, "choose another --work") from None
    except BaseException:
        # also where the client went away: cancelled work cannot wait for a thread
        shutil.rmtree(place, ignore_errors=True)
        raise
    return path


async def _write(chunks: AsyncIterator[bytes], path: Path, n_bytes: int) -> int:
    got = 0
    block = bytearray()
    with path.open("xb") as stream:
        async for chunk in chunks:
            got += len(chunk)
            if got > n_bytes:
                break
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                await anyio.to_thread.run_sync(stream.write, bytes(block))
                block.clear()
        stream.write(block)
    return got
