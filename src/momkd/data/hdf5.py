"""The door of a feature file: what may come in from an HDF5 file, and what is turned away.

HDF5 can name other files as its own data, declare terabytes in a kilobyte, and hand back silent
rubbish. Everything here happens before a value reaches a model. Runs inside a killable process
too, so it imports neither torch nor pandas.
"""

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from momkd.errors import DataError, IntegrityError, MomkdError

FEATURE_KEY = "features"
_OTHER_KEYS = ("feats", "embeddings", "patch_features", "patch_embeddings")
_NO_PLUGINS = "/nonexistent-hdf5-plugins"
_GZIP, _SZIP = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SZIP
_KNOWN_FILTERS = {
    _GZIP,
    _SZIP,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
    h5py.h5z.FILTER_NBIT,
    h5py.h5z.FILTER_SCALEOFFSET,
}

os.environ["HDF5_PLUGIN_PATH"] = _NO_PLUGINS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What is refused before it is read: declared bytes, and declared over stored bytes."""

    max_bytes: int = 32 << 30
    max_expansion: int = 1000
    max_zero_share: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRules:
    """How a file is to be read.

    ``feature_key`` names the dataset of the embeddings, instead of ``features``;
    ``drop_nonfinite`` leaves out rows with NaN or infinite values, instead of refusing the file.
    """

    feature_key: str | None = None
    drop_nonfinite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawFeatures:
    """What a feature file holds, checked, in the order of the file."""

    slide_id: str
    layout: str
    embeddings: NDArray[Any]
    coords_px0: NDArray[np.int64] | None
    sha256: str
    tile_px0: float | None = None
    tile_px: int | None = None
    mpp: float | None = None
    magnification: float | None = None
    width_px0: int | None = None
    height_px0: int | None = None
    encoder: str | None = None
    n_same_place: int = 0
    notes: tuple[str, ...] = ()


def read_raw(
    path: Path,
    *,
    rules: ReadRules | None = None,
    limits: ReadLimits | None = None,
) -> RawFeatures:
    """Read a TRIDENT-layout feature file.

    Parameters
    ----------
    path
        The file; never written to.
    rules
        How it is to be read.
    limits
        Bounds on what is read.

    Raises
    ------
    DataError
        F01-F06, F11, F13-F15, F20, F25, F28-F31: the file cannot be used. F07: no tile in it.
    IntegrityError
        F21-F24, F36: refused before anything is read.
    """
    limits = limits or ReadLimits()
    content = _read_bytes(path)
    _require_hdf5(path, content)
    # h5py reads the bytes we hashed: the file cannot change between digest and values
    with _open(path, content) as file:
        try:
            return _read(path, file, content, rules or ReadRules(), limits)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            what = f"damaged HDF5: {_brief(error)}"
            raise _damaged(path, what) from None


def _read(
    path: Path, file: h5py.File, content: bytes, rules: ReadRules, limits: ReadLimits
) -> RawFeatures:
    key = rules.feature_key or FEATURE_KEY
    features = _dataset(path, file, key, limits, len(content))
    notes: list[str] = []
    _require_numbers(path, key, features)
    shape = _shape(path, key, features, notes)
    if not shape[0]:
        what = "0 tiles"
        raise DataError.of("F07", str(path), what, "leave it out, or tile the slide again")
    embeddings = np.asarray(features[()]).reshape(shape)
    coords = _read_coords(path, file, shape[0], limits, len(content))
    embeddings, kept = _finite_rows(path, key, embeddings, rules)
    if not kept.all():
        notes.append(f"{int((~kept).sum())} rows with NaN or infinite values dropped")
        coords = None if coords is None else coords[kept]
    _require_written(path, key, embeddings, limits)
    attributes = dict(file["coords"].attrs) if coords is not None else {}
    _check_cached_graph(path, file, shape[0], limits, len(content), notes)
    encoder = _text(features.attrs.get("encoder")) or _text(file.attrs.get("encoder"))
    n_same = 0 if coords is None else len(coords) - len(np.unique(coords, axis=0))
    tile_px, width, height = (
        None if value is None else round(value)
        for value in (
            _number(attributes, key) for key in ("patch_size", "level0_width", "level0_height")
        )
    )
    return RawFeatures(
        slide_id=slide_id_of(path),
        layout="trident",
        embeddings=embeddings,
        coords_px0=coords,
        sha256=hashlib.sha256(content).hexdigest(),
        tile_px0=_number(attributes, "patch_size_level0"),
        tile_px=tile_px,
        width_px0=width,
        height_px0=height,
        mpp=_number(attributes, "mpp") or _number(attributes, "target_mpp"),
        magnification=_number(attributes, "target_magnification"),
        encoder=encoder,
        n_same_place=n_same,
        notes=tuple(notes),
    )


def slide_id_of(path: Path) -> str:
    """Give the slide of a feature file: its name without ``.h5`` and a slide's own extension."""
    name = path.name
    for suffix in (".h5", ".hdf5"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    stem, dot, last = name.rpartition(".")
    return stem if dot and last.lower() in _SLIDE_SUFFIXES else name


_SLIDE_SUFFIXES = {"svs", "tif", "tiff", "ndpi", "mrxs", "scn", "svslide", "bif", "vms", "dcm"}


def require_plain_file(path: Path) -> os.stat_result:
    """Turn away what is not a plain readable file, without blocking on it.

    Raises
    ------
    DataError
        F28 no file, a folder, a pipe or device, a dangling or circular link; F29 no permission.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        link = path.is_symlink()
        what = "dangling link" if link else "no such file"
        raise DataError.of("F28", str(path), what, "mend the path") from None
    except PermissionError:
        raise DataError.of("F29", str(path), "no permission to reach it", "chmod") from None
    except OSError as error:
        what = f"not reachable: {error.strerror}"
        raise DataError.of("F28", str(path), what, "mend the link or the path") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise DataError.of("F28", str(path), f"is {kind}, not a file", "name a feature file")
    if not os.access(path, os.R_OK):
        mode = stat.filemode(found.st_mode)
        what = f"not readable (mode {mode}, owner {found.st_uid})"
        raise DataError.of("F29", str(path), what, "chmod u+r, or ask its owner")
    return found


def _read_bytes(path: Path) -> bytes:
    for _ in range(3):
        before = require_plain_file(path)
        try:
            content = path.read_bytes()
        except PermissionError:
            what = f"not readable (mode {stat.filemode(before.st_mode)}, owner {before.st_uid})"
            raise DataError.of("F29", str(path), what, "chmod u+r, or ask its owner") from None
        except OSError as error:
            raise DataError.of("F31", str(path), f"cannot be read: {error.strerror}") from None
        after = path.stat()
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and len(content) == after.st_size:
            return content
    what = "changes while it is read (3 tries)"
    raise DataError.of("F30", str(path), what, "wait until its writer is done")


def _require_hdf5(path: Path, content: bytes) -> None:
    head = content[:512]
    if not content:
        raise _damaged(path, "empty file (0 bytes)")
    if head.startswith(b"\x1f\x8b"):
        raise DataError.of("F02", str(path), "gzip data, not HDF5", "gunzip it")
    if head.startswith(b"version https://git-lfs"):
        raise DataError.of("F03", str(path), "a Git-LFS pointer, not the file", "git lfs pull")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "an HTML page, not HDF5"
        raise DataError.of("F03", str(path), what, "download it again, perhaps with a login")
    # the signature stands at 0, 512, 1024, 2048, ...
    places = [0, *(512 << i for i in range(20))]
    if not any(content[p : p + 8] == b"\x89HDF\r\n\x1a\n" for p in places):
        shown = repr(bytes(head[:8]))
        raise DataError.of("F03", str(path), f"not HDF5 (begins with {shown})", "give a .h5 file")


def _open(path: Path, content: bytes) -> h5py.File:
    try:
        return h5py.File(io.BytesIO(content), "r")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(path, _truncation(content) or f"damaged HDF5: {_brief(error)}") from None


def _truncation(content: bytes) -> str | None:
    """Read the end of file that a superblock (version 2 or 3) declares, if it is missing."""
    version, expected = content[8], None
    if version in (2, 3) and len(content) >= 36:
        expected = int.from_bytes(content[28:36], "little")
    if version in (0, 1) and len(content) >= 48:
        at = 40 if version == 0 else 44
        expected = int.from_bytes(content[at : at + 8], "little")
    if expected is not None and expected > len(content):
        return f"truncated: {len(content)} of {expected} bytes"
    return None


def _damaged(path: Path, what: str) -> MomkdError:
    remedy = "copy it again or re-run extraction; its lock may have been cleared"
    return DataError.of("F01", str(path), what, remedy)


def _dataset(
    path: Path, file: h5py.File, key: str, limits: ReadLimits, n_bytes: int
) -> h5py.Dataset:
    """Walk to a dataset of this very file; refuse every way out of it before reading."""
    place: Any = file
    for name in key.strip("/").split("/"):
        if not isinstance(place, h5py.Group) or name not in place:
            raise _no_key(path, file, key)
        link = place.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
            raise IntegrityError.of("F22", str(path), f"'{key}' goes through {kind} link", _COPY)
        place = place[name]
    if not isinstance(place, h5py.Dataset):
        raise DataError.of("F05", str(path), f"'{key}' is a group, wanted a dataset", _KEY)
    if place.is_virtual:
        raise IntegrityError.of("F23", str(path), f"'{key}' is a virtual dataset", _COPY)
    if place.external:
        what = f"'{key}' keeps its data in another file"
        raise IntegrityError.of("F21", str(path), what, _COPY)
    declared = place.size * place.dtype.itemsize if place.size else 0
    stored = max(min(place.id.get_storage_size(), n_bytes), 1)
    if declared > limits.max_bytes or (
        declared > 1 << 20 and declared / stored > limits.max_expansion
    ):
        what = f"'{key}' declares {declared:,} bytes and stores {stored:,}"
        raise IntegrityError.of("F24", str(path), what, "re-run extraction")
    plist = place.id.get_create_plist()
    unknown = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())} - _KNOWN_FILTERS
    if unknown:
        what = f"'{key}' needs HDF5 filter {min(unknown)}, which is not built in"
        raise DataError.of("F25", str(path), what, "rewrite it uncompressed or with gzip")
    return place


_COPY = "rewrite it with its own data inside, if you trust it"
_KEY = "pass feature_key with the dataset of the embeddings"


def _no_key(path: Path, file: h5py.File, key: str) -> MomkdError:
    found = sorted(file)
    listed = ", ".join(repr(k) for k in found[:8]) or "nothing"
    guess = next((k for k in (*_OTHER_KEYS, FEATURE_KEY) if k in found), None)
    stamp = guess == "feats" or "stamp_version" in file.attrs
    looks = "; this looks like a STAMP file, which is not read yet" if stamp else ""
    remedy = f"set data.feature_key: {guess}" if guess and not stamp else "give a TRIDENT file"
    return DataError.of("F04", str(path), f"no dataset '{key}' (has {listed}){looks}", remedy)


def _require_numbers(path: Path, key: str, data: h5py.Dataset) -> None:
    if data.shape is None or data.shape == ():
        raise DataError.of("F05", str(path), f"'{key}' is empty or a scalar, wanted (n, dim)", _KEY)
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind == "f" and size in (2, 4, 8):
        return
    if kind in "iu":
        hint = " (bfloat16 stored as uint16?)" if data.dtype == np.uint16 else ""
        what = f"'{key}' is {data.dtype}{hint}, wanted float16, float32 or float64"
        raise DataError.of("F14", str(path), what, "write it as float32")
    raise DataError.of("F05", str(path), f"'{key}' is of type {data.dtype}, wanted floats", _KEY)


def _shape(path: Path, key: str, data: h5py.Dataset, notes: list[str]) -> tuple[int, int]:
    shape = data.shape
    if shape == (0,):  # how TRIDENT writes a slide without tissue
        return 0, 0
    if len(shape) == 3 and shape[0] == 1:
        notes.append("features of shape (1, n, dim) read as (n, dim)")
        shape = shape[1:]
    if len(shape) == 1:
        what = f"'{key}' is one vector of {shape[0]}: looks like a slide embedding"
        raise DataError.of("F33", str(path), what, "give tile features")
    if len(shape) != 2 or (shape[0] and not shape[1]):
        what = f"'{key}' has shape {data.shape}, wanted (n_tiles, dim)"
        raise DataError.of("F15", str(path), what, "write one row a tile")
    return shape


def _finite_rows(
    path: Path, key: str, values: NDArray[Any], rules: ReadRules
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give the rows without NaN or infinite values, and which they are."""
    if values.dtype.itemsize == 8 or not values.dtype.isnative:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    bad = np.asarray(~np.isfinite(values).all(axis=1))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = (
            f"'{key}': NaN or infinite in {int(bad.sum())} of {len(bad)} rows (first: row {first})"
        )
        if not rules.drop_nonfinite or bad.all():
            remedy = "extract this slide again, or leave these rows out: data.on_nonfinite: drop"
            raise DataError.of("F06", str(path), what, remedy)
    return values[~bad] if bad.any() else values, ~bad


def _require_written(path: Path, key: str, values: NDArray[Any], limits: ReadLimits) -> None:
    zero = np.asarray(~values.any(axis=1))
    if zero.mean() > limits.max_zero_share:
        what = f"'{key}': {int(zero.sum())} of {len(zero)} rows are all zero (a crashed writer?)"
        raise DataError.of("F20", str(path), what, "extract this slide again")
    if len(values) > 1 and (values == values[0]).all():
        what = f"'{key}': all {len(values)} rows are identical"
        raise DataError.of("F20", str(path), what, "extract this slide again")


def _read_coords(
    path: Path, file: h5py.File, n_tiles: int, limits: ReadLimits, n_bytes: int
) -> NDArray[np.int64] | None:
    if "coords" not in file:
        return None
    data = _dataset(path, file, "coords", limits, n_bytes)
    if data.shape is None or data.dtype.kind not in "iuf" or data.ndim != 2 or data.shape[1] != 2:
        what = f"'coords' is {data.dtype} of shape {data.shape}, wanted (n_tiles, 2) integers"
        raise DataError.of("F13", str(path), what, "write (x, y) of each tile's corner")
    if len(data) != n_tiles:
        what = f"{n_tiles} rows of features and {len(data)} of coords"
        raise DataError.of("F11", str(path), what, "re-run extraction")
    values = data[()]
    whole = values.astype(np.float64)
    if not np.isfinite(whole).all() or (whole != np.floor(whole)).any() or (whole < 0).any():
        stamp = " (micrometres? STAMP writes them so)" if "unit" in file.attrs else ""
        what = f"'coords' holds negative, fractional or undefined values{stamp}"
        raise DataError.of("F13", str(path), what, "write level-0 pixels")
    if (whole > 2**40).any():
        raise DataError.of("F13", str(path), "'coords' beyond any slide", "write level-0 pixels")
    return values.astype(np.int64)


def _check_cached_graph(
    path: Path,
    file: h5py.File,
    n_tiles: int,
    limits: ReadLimits,
    n_bytes: int,
    notes: list[str],
) -> None:
    for key in sorted(k for k in file if k.startswith("edge_index")):
        edges = _dataset(path, file, key, limits, n_bytes)
        if edges.dtype.kind not in "iu" or edges.ndim != 2:
            raise IntegrityError.of("F36", str(path), f"'{key}' is no list of edges", "delete it")
        if edges.size and not 0 <= int(edges[()].min()) <= int(edges[()].max()) < n_tiles:
            what = f"'{key}' names tiles beyond the {n_tiles} of the file"
            raise IntegrityError.of("F36", str(path), what, "delete it: the graph is recomputed")
        notes.append(f"cached graph '{key}' not used: the graph is computed from coords")


def _number(attributes: dict[str, Any], key: str) -> float | None:
    value = attributes.get(key)
    if value is None or isinstance(value, str | bytes):
        return None  # TRIDENT writes an absent value as the text 'None'
    try:
        number = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value and value != "None" else None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
