"""The door of an HDF5 file: what may come in from it, and what is turned away.

HDF5 can name other files as its own data, declare terabytes in a kilobyte, and hand back silent
rubbish. Everything here happens before a value is used.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from momkd.data.layouts.material import ReadLimits
from momkd.data.layouts.plain_file import damaged
from momkd.errors import DataError, IntegrityError

_NO_PLUGINS = "/nonexistent-hdf5-plugins"
_KNOWN_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SZIP,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
    h5py.h5z.FILTER_NBIT,
    h5py.h5z.FILTER_SCALEOFFSET,
}
_COPY = "rewrite it with its own data inside, if you trust it"
KEY_REMEDY = "set data.feature_key to the dataset of the embeddings"

os.environ["HDF5_PLUGIN_PATH"] = _NO_PLUGINS


class HDF5File:
    """An open file whose datasets are reached through their examination only.

    ``file`` itself is for names and attributes.
    """

    def __init__(self, path: Path, file: h5py.File, content: bytes, limits: ReadLimits) -> None:
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.keys = tuple(sorted(file))
        self.file = file
        self._n_bytes = len(content)
        self._limits = limits

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the file itself."""
        return dict(self.file.attrs)

    def dataset(self, key: str) -> h5py.Dataset:
        """Walk to a dataset of this very file; refuse every way out of it before reading.

        Raises
        ------
        DataError
            F04 no such dataset, F05 a group, F25 an unknown filter.
        IntegrityError
            F21 data in another file, F22 a link, F23 a virtual dataset, F24 a shape bomb.
        """
        path, place = str(self.path), self._walk(key)
        if not isinstance(place, h5py.Dataset):
            raise DataError.of("F05", path, f"'{key}' is a group, wanted a dataset", KEY_REMEDY)
        if place.is_virtual:
            raise IntegrityError.of("F23", path, f"'{key}' is a virtual dataset", _COPY)
        if place.external:
            what = f"'{key}' keeps its data in another file"
            raise IntegrityError.of("F21", path, what, _COPY)
        declared = place.size * place.dtype.itemsize if place.size else 0
        stored = max(min(place.id.get_storage_size(), self._n_bytes), 1)
        require_no_bomb(path, key, declared, stored, self._limits)
        plist = place.id.get_create_plist()
        unknown = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())} - _KNOWN_FILTERS
        if unknown:
            what = f"'{key}' needs HDF5 filter {min(unknown)}, which is not built in"
            raise DataError.of("F25", path, what, "rewrite it uncompressed or with gzip")
        return place

    def _walk(self, key: str) -> Any:
        place: Any = self.file
        for name in key.strip("/").split("/"):
            if not isinstance(place, h5py.Group) or name not in place:
                listed = ", ".join(repr(k) for k in self.keys[:8]) or "nothing"
                what = f"no dataset '{key}' (has {listed})"
                raise DataError.of("F04", str(self.path), what, KEY_REMEDY)
            link = place.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
                what = f"'{key}' goes through {kind} link"
                raise IntegrityError.of("F22", str(self.path), what, _COPY)
            place = place[name]
        return place


@contextmanager
def open_hdf5(path: Path, content: bytes, limits: ReadLimits) -> Iterator[HDF5File]:
    """Open the bytes of a file; whatever HDF5 stumbles over inside becomes a refusal.

    h5py reads the bytes that were hashed: the file cannot change between digest and values.

    Raises
    ------
    DataError
        F01 truncated or damaged.
    """
    try:
        opened = h5py.File(io.BytesIO(content), "r")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise damaged(path, _truncation(content) or f"damaged HDF5: {brief(error)}") from None
    with opened as file:
        try:
            yield HDF5File(path, file, content, limits)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, f"damaged HDF5: {brief(error)}") from None


def require_no_bomb(path: str, key: str, declared: int, stored: int, limits: ReadLimits) -> None:
    """Refuse an array that declares far more bytes than are there (F24)."""
    too_much = declared > 1 << 20 and declared / max(stored, 1) > limits.max_expansion
    if declared > limits.max_bytes or too_much:
        what = f"'{key}' declares {declared:,} bytes and stores {stored:,}"
        raise IntegrityError.of("F24", path, what, "re-run extraction")


def number(attributes: Mapping[str, Any], key: str) -> float | None:
    """Give a positive finite attribute; None where it is absent or a text ('None', in TRIDENT)."""
    value = attributes.get(key)
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        found = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) and found > 0 else None


def whole(attributes: Mapping[str, Any], key: str) -> int | None:
    """Give a positive attribute as a whole number."""
    found = number(attributes, key)
    return None if found is None else round(found)


def text(value: Any) -> str | None:
    """Give a text attribute; None where it is absent, empty or the word 'None'."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value and value != "None" else None


def brief(error: Exception) -> str:
    """Give the first words of an error, on one line."""
    return " ".join(str(error).split())[:120]


def _truncation(content: bytes) -> str | None:
    """Read the end of file that a superblock declares, if it is missing."""
    version, expected = content[8], None
    if version in (2, 3) and len(content) >= 36:
        expected = int.from_bytes(content[28:36], "little")
    if version in (0, 1) and len(content) >= 48:
        at = 40 if version == 0 else 44
        expected = int.from_bytes(content[at : at + 8], "little")
    if expected is not None and expected > len(content):
        return f"truncated: {len(content)} of {expected} bytes"
    return None
