"""A packed bag: one file, raw arrays behind a JSON index, made to be mapped into memory.

Layout: eight bytes that name the format, the length of the index (uint64, little endian), the
SHA-256 of the index, the index (JSON, UTF-8), and the arrays, each starting at a multiple of 4,096
bytes. The index gives each array's place, shape, type and SHA-256. Arrays are little endian and
row-major; rows are in raster order.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.hdf5_file import brief
from momkd.data.layouts.material import Geometry, Material
from momkd.data.layouts.plain_file import PACK_MAGIC, damaged
from momkd.errors import MomkdError
from momkd.storage import canonical_json

_PAGE = 4096
_HEAD_BYTES = len(PACK_MAGIC) + 8 + 32
_MAX_INDEX_BYTES = 1 << 20
_FORMAT = 1
_DTYPES = ("<f2", "<f4", "<i4", "<i8")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackIndex:
    """What a packed bag says of itself.

    Parameters
    ----------
    slide_id
        The slide.
    source
        What it was made from: ``key`` (digest of the path and of how it was read), ``size``,
        ``mtime_ns``, ``sha256``, ``origin`` (another where that was packed itself); and the
        precision it was ``asked`` to have.
    geometry, encoder, encoder_sha256
        As the source says.
    sections
        Array -> place, shape, type and SHA-256.
    """

    slide_id: str
    source: Mapping[str, str | int]
    geometry: Geometry
    encoder: str | None
    encoder_sha256: str | None
    sections: Mapping[str, Mapping[str, Any]]

    @property
    def dtype(self) -> str:
        """Type of the embeddings: ``float16`` or ``float32``."""
        return str(np.dtype(self.sections["embeddings"]["dtype"]))

    @property
    def n_neighbours(self) -> int | None:
        """K of the stored graph; None without coordinates."""
        found = self.sections.get("neighbours")
        return None if found is None else int(found["shape"][1])


def encode_pack(
    slide_id: str,
    arrays: Mapping[str, NDArray[Any]],
    *,
    source: Mapping[str, str | int],
    geometry: Geometry,
    encoder: str | None,
    encoder_sha256: str | None,
) -> bytes:
    """Write a packed bag into memory; equal content, equal bytes.

    Parameters
    ----------
    arrays
        ``embeddings``, and where there are coordinates ``coords`` and ``neighbours``.
    """
    plain = {name: _little_endian(array) for name, array in arrays.items()}
    sections: dict[str, dict[str, Any]] = {
        name: {
            "shape": list(array.shape),
            "dtype": array.dtype.newbyteorder("<").str,
            "sha256": hashlib.sha256(array.data).hexdigest(),
        }
        for name, array in plain.items()
    }
    # places follow from the sizes alone: counted from the end of the index, whatever its length
    at = 0
    for name, array in plain.items():
        sections[name]["at"] = at
        at += -(-array.nbytes // _PAGE) * _PAGE
    content = {
        "format": _FORMAT,
        "slide_id": slide_id,
        "source": dict(source),
        "geometry": asdict(geometry),
        "encoder": encoder,
        "encoder_sha256": encoder_sha256,
        "sections": sections,
    }
    index = canonical_json(content).encode("utf-8")
    digest = hashlib.sha256(index).digest()
    head = PACK_MAGIC + len(index).to_bytes(8, "little") + digest + index
    pieces = [_padded(head), *(_padded(array.tobytes()) for array in plain.values())]
    return b"".join(pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A packed bag as it lies on disk: its index, and its arrays mapped but not read.

    ``stamp`` tells this file from one that took its place.
    """

    index: PackIndex
    arrays: Mapping[str, NDArray[Any]]
    stamp: tuple[int, int, int]

    def require_whole(self, path: Path) -> None:
        """Compare each array with its SHA-256, which reads it once.

        Raises
        ------
        DataError
            F01 an array is not what was written.
        """
        for name, section in self.index.sections.items():
            _require_whole(path, name, self.arrays[name], section)


def open_pack(path: Path) -> Pack:
    """Open a packed bag; index and arrays are of one file, whoever replaces it meanwhile.

    Raises
    ------
    DataError
        F01 its index is damaged, or of another format.
    OSError
        It cannot be read.
    """
    with path.open("rb") as stream:
        found = os.fstat(stream.fileno())
        head = stream.read(_HEAD_BYTES)
        head_and_index = head + stream.read(min(_length(head), _MAX_INDEX_BYTES + 1))
        index = _parse(path, head_and_index, found.st_size)
        start = _start_of(_HEAD_BYTES + _length(head))
        arrays: dict[str, NDArray[Any]] = {
            # copy on write: whoever changes a bag changes nothing on disk
            name: np.memmap(
                stream, section["dtype"], "c", start + section["at"], tuple(section["shape"])
            )
            for name, section in index.sections.items()
        }
        return Pack(
            index=index, arrays=arrays, stamp=(found.st_ino, found.st_size, found.st_mtime_ns)
        )


def read(path: Path, content: bytes) -> Material:
    """Read a packed bag as a feature file like any other.

    Raises
    ------
    DataError
        F01 it is damaged, or another format.
    """
    index = _parse(path, content, len(content))
    start = _start_of(_HEAD_BYTES + _length(content))
    found = {}
    for name, section in index.sections.items():
        count = int(np.prod(section["shape"], dtype=np.int64))
        flat = np.frombuffer(content, section["dtype"], count, start + section["at"])
        found[name] = flat.reshape(section["shape"])
        _require_whole(path, name, found[name], section)
    return Material(
        layout="packed",
        why=f"packed by momkd, {index.dtype}",
        key="embeddings",
        embeddings=found["embeddings"],
        coords_px0=found.get("coords"),
        geometry=index.geometry,
        parts={"features": hashlib.sha256(content).hexdigest()},
        encoder=index.encoder,
        encoder_sha256=index.encoder_sha256,
        origin_sha256=str(index.source["origin"]),
    )


def _parse(path: Path, content: bytes, n_bytes: int) -> PackIndex:
    length = _length(content)
    index = content[_HEAD_BYTES : _HEAD_BYTES + length]
    digest = content[len(PACK_MAGIC) + 8 : _HEAD_BYTES]
    if not content.startswith(PACK_MAGIC) or length > _MAX_INDEX_BYTES or len(index) < length:
        raise damaged(path, "damaged pack: no index")
    if hashlib.sha256(index).digest() != digest:
        raise damaged(path, "damaged pack: its index is not the one that was written")
    try:
        found = json.loads(index)
        if found["format"] != _FORMAT:
            raise damaged(path, f"pack of format {found['format']}, this momkd reads {_FORMAT}")
        names = {f.name for f in fields(Geometry)}
        geometry = Geometry(**{k: v for k, v in found["geometry"].items() if k in names})
        parsed = PackIndex(
            slide_id=str(found["slide_id"]),
            source=dict(found["source"]),
            geometry=geometry,
            encoder=found["encoder"],
            encoder_sha256=found["encoder_sha256"],
            sections=found["sections"],
        )
        _require_sections(path, parsed, _start_of(_HEAD_BYTES + length), n_bytes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"damaged pack: {brief(error)}") from None
    return parsed


def _require_sections(path: Path, index: PackIndex, start: int, n_bytes: int) -> None:
    if "embeddings" not in index.sections:
        raise damaged(path, "damaged pack: no embeddings")
    for name, section in index.sections.items():
        shape = section["shape"]
        if section["dtype"] not in _DTYPES or min([*shape, section["at"]]) < 0:
            raise damaged(path, f"damaged pack: array '{name}' of type {section['dtype']}")
        size = np.dtype(section["dtype"]).itemsize
        for n in shape:
            size *= int(n)
        if start + section["at"] + size > n_bytes:
            raise _truncated(path, n_bytes, start + section["at"] + size)


def _require_whole(path: Path, name: str, array: NDArray[Any], section: Mapping[str, Any]) -> None:
    if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != section["sha256"]:
        raise damaged(path, f"damaged pack: '{name}' is not what was written")


def _truncated(path: Path, n_bytes: int, wanted: int) -> MomkdError:
    return damaged(path, f"truncated: {n_bytes} of {wanted} bytes")


def _start_of(n_head_bytes: int) -> int:
    return -(-n_head_bytes // _PAGE) * _PAGE


def _length(content: bytes) -> int:
    return int.from_bytes(content[len(PACK_MAGIC) : len(PACK_MAGIC) + 8], "little")


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % _PAGE)


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
