"""Features in ``.npy`` files, their corners in another: torchmil's folders, or a pair of names."""

import ast
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.checks import require_numbers
from momkd.data.layouts.clam import shown
from momkd.data.layouts.hdf5_file import brief, require_no_bomb
from momkd.data.layouts.material import Geometry, Material, ReadLimits, ReadRules, slide_id_of
from momkd.data.layouts.plain_file import damaged, kind_of, read_bytes
from momkd.errors import DataError, IntegrityError

KEY = "array"
COORDS_SUFFIX = "_coords"
COORDS_FOLDERS = ("coords", "coords_path", "coordinates")
_MAX_HEADER = 10_000


def read(path: Path, content: bytes, rules: ReadRules, limits: ReadLimits) -> Material:
    """Read an array, and the corners that belong to it, if there are any.

    Raises
    ------
    DataError
        F01 damaged or truncated; F38 ``coords_dir`` has no corners for this slide.
    IntegrityError
        F24 a shape bomb, F39 pickled objects.
    """
    values = _load(path, content, limits)
    require_numbers(path, KEY, values.shape, values.dtype)
    parts = {"features": hashlib.sha256(content).hexdigest()}
    place = next((p for p in _places(path, rules) if p.is_file()), None)
    coords, why, notes = None, "an array saved by numpy", []
    if place is not None:
        beside = read_bytes(place)
        if kind_of(place, beside) != "npy":
            raise DataError.of("F03", str(place), "no .npy file", "save the corners with numpy")
        coords = _load(place, beside, limits)
        parts |= {"corners": hashlib.sha256(beside).hexdigest()}
        why += f"; corners from {shown(place)}"
        notes.append("corners of a .npy are taken as (x, y) in level-0 px: it cannot say")
    elif rules.coords_dir is not None:
        what = f"has no file of corners for slide {slide_id_of(path)}"
        raise DataError.of("F38", str(rules.coords_dir), what, "complete it, or leave it out")
    else:
        notes.append("no corners found (<name>_coords.npy, coords/<name>.npy or data.coords)")
    return Material(
        layout="npy",
        why=why,
        key=KEY,
        embeddings=values,
        coords_px0=coords,
        geometry=Geometry(),
        parts=parts,
        notes=tuple(notes),
    )


def _places(path: Path, rules: ReadRules) -> Iterator[Path]:
    if rules.coords_dir is not None:
        yield rules.coords_dir / path.name
        return
    yield path.with_name(f"{path.stem}{COORDS_SUFFIX}.npy")
    for folder in COORDS_FOLDERS:
        yield path.parent.parent / folder / path.name


def _load(path: Path, content: bytes, limits: ReadLimits) -> NDArray[Any]:
    """Read an array whose header says no more than the file holds; no pickle."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        length = int.from_bytes(stream.read(2 if version == (1, 0) else 4), "little")
        if not 0 < length <= _MAX_HEADER:
            raise damaged(path, f"damaged .npy: a header of {length} bytes")
        header = ast.literal_eval(stream.read(length).decode("utf-8"))
        dtype = np.dtype(header["descr"])
        n_values = int(np.prod([int(n) for n in header["shape"]], dtype=object))
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise damaged(path, f"damaged .npy: {brief(error)}") from None
    if dtype.hasobject:
        what = "holds pickled objects"
        raise IntegrityError.of("F39", str(path), what, "save it as plain numbers")
    declared, stored = n_values * dtype.itemsize, len(content) - stream.tell()
    require_no_bomb(str(path), KEY, declared, stored, limits)
    if n_values < 0 or declared > stored:
        raise damaged(path, f"truncated: {stored} of {declared} bytes")
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise damaged(path, f"damaged .npy: {brief(error)}") from None
