"""The examination that every layout's material passes before anything is learnt from it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts import geometry
from momkd.data.layouts.material import (
    Material,
    RawFeatures,
    ReadLimits,
    ReadRules,
    slide_id_of,
)
from momkd.data.layouts.plain_file import digest_of_parts
from momkd.errors import DataError

_KEY = "set data.feature_key to the dataset of the embeddings"
_FAR_PX0 = 2**40


def require_numbers(path: Path, key: str, shape: tuple[int, ...] | None, dtype: Any) -> None:
    """Turn away embeddings that are no floats, before they are read.

    Raises
    ------
    DataError
        F05 a scalar, nothing, or no numbers; F14 integers.
    """
    if shape is None or shape == ():
        raise DataError.of("F05", str(path), f"'{key}' is empty or a scalar, wanted (n, dim)", _KEY)
    kind, size = dtype.kind, dtype.itemsize
    if kind == "f" and size in (2, 4, 8):
        return
    if kind in "iu":
        hint = " (bfloat16 stored as uint16?)" if dtype == np.uint16 else ""
        what = f"'{key}' is {dtype}{hint}, wanted float16, float32 or float64"
        raise DataError.of("F14", str(path), what, "write it as float32")
    raise DataError.of("F05", str(path), f"'{key}' is of type {dtype}, wanted floats", _KEY)


def examine(path: Path, material: Material, rules: ReadRules, limits: ReadLimits) -> RawFeatures:
    """Check what a layout found, and say what is odd about it.

    Raises
    ------
    DataError
        F05, F06, F11, F13-F15, F20, F33: it cannot be used. F07: no tile in it.
    """
    key, notes = material.key, list(material.notes)
    require_numbers(path, key, material.embeddings.shape, material.embeddings.dtype)
    shape = _shape(path, key, material.embeddings, notes)
    if not shape[0]:
        raise DataError.of("F07", str(path), "0 tiles", "leave it out, or tile the slide again")
    values = _as_read(material.embeddings.reshape(shape))
    coords = _whole_corners(path, material.coords_px0, shape[0])
    kept = _finite_rows(path, key, values, rules)
    if not kept.all():
        notes.append(f"{int((~kept).sum())} rows with NaN or infinite values dropped")
        values = values[kept]
        coords = None if coords is None else coords[kept]
    _require_written(path, key, values, limits)
    found, pitch = material.geometry, None
    n_same = 0
    if coords is not None:
        n_same = len(coords) - len(np.unique(coords, axis=0))
        pitch = geometry.pitch_px0(coords)
        notes += geometry.compare(found, pitch)
        found, said = geometry.complete(found, pitch)
        notes += said
    return RawFeatures(
        slide_id=slide_id_of(path),
        layout=material.layout,
        why=material.why,
        embeddings=values,
        coords_px0=coords,
        geometry=found,
        sha256=digest_of_parts(material.parts),
        encoder=material.encoder,
        encoder_sha256=material.encoder_sha256,
        origin_sha256=material.origin_sha256,
        n_same_place=n_same,
        pitch_px0=pitch,
        notes=tuple(notes),
    )


def _shape(path: Path, key: str, data: NDArray[Any], notes: list[str]) -> tuple[int, int]:
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
    return shape[0], shape[1]


def _as_read(values: NDArray[Any]) -> NDArray[Any]:
    """Doubles and foreign byte orders become singles; halves and singles stay."""
    if values.dtype.itemsize == 8 or not values.dtype.isnative:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    return values


def _whole_corners(
    path: Path, values: NDArray[Any] | None, n_tiles: int
) -> NDArray[np.int64] | None:
    if values is None:
        return None
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] != 2:
        what = f"'coords' is {values.dtype} of shape {values.shape}, wanted (n_tiles, 2) integers"
        raise DataError.of("F13", str(path), what, "write (x, y) of each tile's corner")
    if len(values) != n_tiles:
        what = f"{n_tiles} rows of features and {len(values)} of coords"
        raise DataError.of("F11", str(path), what, "re-run extraction")
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all() or (exact != np.floor(exact)).any() or (exact < 0).any():
        what = "'coords' holds negative, fractional or undefined values"
        raise DataError.of("F13", str(path), what, "write level-0 pixels")
    if (exact > _FAR_PX0).any():
        raise DataError.of("F13", str(path), "'coords' beyond any slide", "write level-0 pixels")
    return values.astype(np.int64)


def _finite_rows(path: Path, key: str, values: NDArray[Any], rules: ReadRules) -> NDArray[np.bool_]:
    """Tell which rows hold neither NaN nor infinite values."""
    bad = np.asarray(~np.isfinite(values).all(axis=1))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = (
            f"'{key}': NaN or infinite in {int(bad.sum())} of {len(bad)} rows (first: row {first})"
        )
        if not rules.drop_nonfinite or bad.all():
            remedy = "extract this slide again, or leave these rows out: data.on_nonfinite: drop"
            raise DataError.of("F06", str(path), what, remedy)
    return ~bad


def _require_written(path: Path, key: str, values: NDArray[Any], limits: ReadLimits) -> None:
    zero = np.asarray(~values.any(axis=1))
    if zero.mean() > limits.max_zero_share:
        what = f"'{key}': {int(zero.sum())} of {len(zero)} rows are all zero (a crashed writer?)"
        raise DataError.of("F20", str(path), what, "extract this slide again")
    if len(values) > 1 and (values == values[0]).all():
        what = f"'{key}': all {len(values)} rows are identical"
        raise DataError.of("F20", str(path), what, "extract this slide again")
