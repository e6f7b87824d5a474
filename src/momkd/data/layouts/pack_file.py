"""A packed bag: one file, raw arrays behind a JSON index, made to be mapped into memory.

Layout: eight bytes that name the format, the length of the index (uint64, little endian), the
SHA-256 of the index, the index (JSON, UTF-8), and the arrays, each starting at a multiple of 4,096
bytes. The index gives each array's place, shape, type and SHA-256. Arrays are little endian and
row-major; rows are in raster order.
"""

import hashlib
import json
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
        ``mtime_ns``, ``sha256``; and the precision it was ``asked`` to have.
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


def read_index(path: Path) -> PackIndex:
    """Read and check the index of a packed bag.

    Raises
    ------
    DataError
        F01 it is damaged, or another format.
    OSError
        It cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        length = int.from_bytes(head[len(PACK_MAGIC) : len(PACK_MAGIC) + 8], "little")
        rest = stream.read(min(length, _MAX_INDEX_BYTES + 1))
        n_bytes = stream.seek(0, 2)
    return _parse(path, head + rest, n_bytes)


def map_arrays(path: Path, index: PackIndex, *, check: bool) -> dict[str, NDArray[Any]]:
    """Map the arrays of a packed bag into memory, without reading them.

    Parameters
    ----------
    check
        Compare each array with its SHA-256 (reads it once).

    Raises
    ------
    DataError
        F01 an array is not what the index says.
    """
    start = _start(path)
    found: dict[str, NDArray[Any]] = {}
    for name, section in index.sections.items():
        shape = tuple(section["shape"])
        # copy on write: whoever changed a bag would change nothing on disk
        found[name] = np.memmap(path, section["dtype"], "c", start + section["at"], shape)
        if check:
            _require_whole(path, name, found[name], section)
    return found


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


def _start(path: Path) -> int:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return _start_of(_HEAD_BYTES + _length(head))


def _start_of(n_head_bytes: int) -> int:
    return -(-n_head_bytes // _PAGE) * _PAGE


def _length(content: bytes) -> int:
    return int.from_bytes(content[len(PACK_MAGIC) : len(PACK_MAGIC) + 8], "little")


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % _PAGE)


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
