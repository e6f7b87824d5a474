"""The door of a zarr (version 3) store: a folder whose every file is looked at before it is used.

What is needed is read into memory once, hashed, and decoded from there: the store cannot change
between digest and values, and nothing outside it can be named.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.hdf5_file import brief, require_no_bomb
from momkd.data.layouts.material import ReadLimits
from momkd.data.layouts.plain_file import damaged, read_bytes
from momkd.errors import DataError, IntegrityError

METADATA = "zarr.json"
_CODECS = {"bytes", "transpose", "zstd", "gzip", "blosc", "crc32c", "sharding_indexed"}
_REMEDY = "write the store again, with its own data inside"


class ZarrStore:
    """A store whose groups, arrays and files are reached through their examination only.

    Raises
    ------
    DataError
        F03 no zarr store, or one of another format version.
    """

    def __init__(self, path: Path, limits: ReadLimits) -> None:
        self.path = path
        self._limits = limits
        self._digests: dict[str, str] = {}
        if not (path / METADATA).is_file():
            old = (path / ".zgroup").exists()
            what = "a zarr store of format 2" if old else f"no zarr store ({METADATA} is missing)"
            remedy = "write it again with wsidata 0.8 or newer" if old else "give a .zarr folder"
            raise DataError.of("F03", str(path), what, remedy)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that was read so far, but the store's own attributes."""
        listing = "".join(f"{name}\0{d}\n" for name, d in sorted(self._digests.items()))
        return hashlib.sha256(listing.encode()).hexdigest()

    def children(self, place: str) -> list[str]:
        """Give the names of folders at a place; none where there is no such place."""
        folder = self._inside(place)
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(folder) if self._is_folder(entry))

    def attributes(self, place: str = "", *, hashed: bool = True) -> dict[str, Any]:
        """Read the attributes of a group or array."""
        found = self._metadata(place, hashed=hashed).get("attributes", {})
        return found if isinstance(found, dict) else {}

    def has(self, place: str) -> bool:
        """Whether a group or array stands at a place."""
        return (self._inside(place) / METADATA).is_file()

    def shape(self, place: str) -> tuple[int, ...] | None:
        """Give the shape that an array declares; None if the place holds no array."""
        if not self.has(place):
            return None
        found = self._metadata(place, hashed=False)
        shape = found.get("shape")
        if found.get("node_type") != "array" or not isinstance(shape, list):
            return None
        return tuple(int(n) for n in shape)

    def array(self, place: str, *, may_lack_chunks: bool = False) -> NDArray[Any]:
        """Read an array whole; chunks that hold the fill value alone may be absent if so allowed.

        Raises
        ------
        DataError
            F01 damaged, or chunks missing; F05 no array; F25 an unknown codec; F38 zarr is not
            installed.
        IntegrityError
            F22 a link, F24 a shape or chunk bomb.
        """
        metadata = self._metadata(place)
        shape, item_bytes = self._declared(place, metadata)
        self._require_known(place, metadata)
        chunk = metadata.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", [])
        files = {name: self.file(name) for name in self._files(place)}
        stored = sum(len(content) for content in files.values())
        declared = math.prod(shape) * item_bytes
        require_no_bomb(str(self.path), place, declared, stored, self._limits)
        if len(chunk) != len(shape) or not all(isinstance(n, int) and n > 0 for n in chunk):
            raise damaged(self.path, f"damaged zarr: '{place}' has chunks of {chunk}")
        n_chunks = math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
        # a chunk as declared is what decoding makes room for
        whole = math.prod(chunk) * item_bytes * max(n_chunks, 1)
        require_no_bomb(str(self.path), place, whole, stored, self._limits)
        n_found = sum(not name.endswith(METADATA) for name in files)
        if n_found < n_chunks and not may_lack_chunks:
            what = f"'{place}': {n_chunks - n_found} of {n_chunks} chunks are missing"
            raise damaged(self.path, what)
        return self._decode(place, files)

    def file(self, place: str) -> bytes:
        """Read a file of the store, and remember its digest."""
        content = read_bytes(self._inside(place))
        self._digests[place] = hashlib.sha256(content).hexdigest()
        return content

    def _decode(self, place: str, files: Mapping[str, bytes]) -> NDArray[Any]:
        try:
            import zarr
            from zarr.core.buffer import default_buffer_prototype
            from zarr.storage import MemoryStore
        except ImportError:
            what, remedy = "zarr 3 is not installed", "pip install 'momkd[zarr]'"
            if sys.version_info < (3, 11):
                remedy = "it needs Python 3.11 or newer: use momkd there"
            raise DataError.of("F38", str(self.path), what, remedy) from None
        make = default_buffer_prototype().buffer.from_bytes
        kept = MemoryStore({name: make(content) for name, content in files.items()})
        try:
            return np.asarray(zarr.open_array(store=kept, path=place, mode="r")[...])
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - codecs raise whatever they like on damage
            raise damaged(self.path, f"damaged zarr: '{place}': {brief(error)}") from None

    def _metadata(self, place: str, *, hashed: bool = True) -> dict[str, Any]:
        name = f"{place}/{METADATA}" if place else METADATA
        content = self.file(name) if hashed else read_bytes(self._inside(name))
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise damaged(self.path, f"damaged zarr: '{name}': {brief(error)}") from None
        if not isinstance(found, dict) or found.get("zarr_format") != 3:
            raise damaged(self.path, f"damaged zarr: '{name}' is no metadata of format 3")
        return found

    def _declared(self, place: str, metadata: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
        shape, kind = metadata.get("shape"), metadata.get("data_type")
        if metadata.get("node_type") != "array" or not isinstance(shape, list):
            raise DataError.of("F05", str(self.path), f"'{place}' is a group, wanted an array")
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise damaged(self.path, f"damaged zarr: '{place}' has shape {shape}")
        try:
            return tuple(shape), np.dtype(str(kind)).itemsize or 1
        except (TypeError, ValueError, SyntaxError):
            what = f"'{place}' is of type {kind!r}, wanted numbers"
            raise DataError.of("F05", str(self.path), what, _REMEDY) from None

    def _require_known(self, place: str, metadata: Mapping[str, Any]) -> None:
        names = set(_codec_names(metadata.get("codecs")))
        if metadata.get("storage_transformers") or not names <= _CODECS:
            shown = ", ".join(sorted(names - _CODECS)) or "a storage transformer"
            what = f"'{place}' needs codec {shown}, which is not let through"
            raise DataError.of("F25", str(self.path), what, "write it with zstd, blosc or gzip")

    def _inside(self, place: str) -> Path:
        """Give a path of the store; no step of it may lead out."""
        target = self.path
        for name in place.split("/") if place else []:
            if name in ("", ".", "..") or "\\" in name or "\0" in name:
                what = f"'{place}' leads out of the store"
                raise IntegrityError.of("F22", str(self.path), what, _REMEDY)
            target = target / name
            if target.is_symlink():
                what = f"'{place}' goes through a link"
                raise IntegrityError.of("F22", str(self.path), what, _REMEDY)
        return target

    def _files(self, place: str) -> Iterator[str]:
        for folder, folders, names in os.walk(self._inside(place)):
            inside = Path(folder).relative_to(self.path).as_posix()
            for name in (*folders, *names):
                self._inside(f"{inside}/{name}")
            yield from (f"{inside}/{name}" for name in sorted(names))

    def _is_folder(self, entry: "os.DirEntry[str]") -> bool:
        if entry.is_symlink():
            what = f"'{entry.name}' is a link"
            raise IntegrityError.of("F22", str(self.path), what, _REMEDY)
        return entry.is_dir()


def _codec_names(codecs: Any) -> Iterator[str]:
    """Name every codec, also those inside shards."""
    for codec in codecs if isinstance(codecs, list) else []:
        if not isinstance(codec, dict):
            yield str(codec)
            continue
        yield str(codec.get("name"))
        inner = codec.get("configuration")
        if isinstance(inner, dict):
            yield from _codec_names(inner.get("codecs"))
            yield from _codec_names(inner.get("index_codecs"))
