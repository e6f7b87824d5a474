"""Boxes of tiles out of a GeoParquet table, decoded without a geometry library.

Well-known binary (OGC 06-103r4, section 8.2): a byte for the byte order, a word for the kind (3 is
a polygon), the number of rings, and for each ring its number of points and the points.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.hdf5_file import brief, require_no_bomb
from momkd.data.layouts.material import ReadLimits
from momkd.data.layouts.plain_file import damaged
from momkd.errors import DataError

_POLYGON = 3
_MAX_POINTS = 10_000


def read_boxes(
    path: Path, content: bytes, limits: ReadLimits
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read the tiles of ``shapes.parquet``.

    Returns
    -------
    numpy.ndarray
        Ids of the tiles.
    numpy.ndarray
        (left, top, right, bottom) of each, float64 (n_tiles, 4).

    Raises
    ------
    DataError
        F01 damaged, F13 no polygons, F38 pyarrow is not installed.
    IntegrityError
        F24 a table that declares far more than it stores.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        what = "pyarrow is not installed"
        raise DataError.of("F38", str(path), what, "pip install 'momkd[zarr]'") from None
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        about = file.metadata
        declared = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        require_no_bomb(str(path), "shapes", declared, len(content), limits)
        names = file.schema_arrow.names
        if "geometry" not in names:
            what = f"no column 'geometry' (has {', '.join(names[:8])})"
            raise DataError.of("F13", str(path), what, "lay the tiles again")
        table = file.read(columns=[n for n in ("tile_id", "geometry") if n in names])
        shapes = table.column("geometry").to_pylist()
        n_rows = len(shapes)
        ids = table.column("tile_id").to_numpy() if "tile_id" in names else np.arange(n_rows)
    except (arrow.ArrowException, OSError) as error:
        raise damaged(path, f"damaged parquet: {brief(error)}") from None
    if ids.dtype.kind not in "iu":
        what = f"'tile_id' is {ids.dtype}, wanted whole numbers"
        raise DataError.of("F13", str(path), what, "lay the tiles again")
    return ids.astype(np.int64), boxes_of(path, shapes)


def boxes_of(path: Path, shapes: Sequence[Any]) -> NDArray[np.float64]:
    """Give the box around each polygon.

    Raises
    ------
    DataError
        F13 a shape that is no polygon in well-known binary.
    """
    try:
        found = [_box(shape) for shape in shapes]
    except (struct.error, TypeError, ValueError, IndexError):
        what = "its geometry holds no polygons in well-known binary"
        raise DataError.of("F13", str(path), what, "lay the tiles again") from None
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def _box(shape: bytes) -> tuple[float, float, float, float]:
    order = "<" if shape[0] == 1 else ">"
    kind, n_rings, n_points = struct.unpack_from(f"{order}III", shape, 1)
    if kind != _POLYGON or n_rings < 1 or not 3 <= n_points <= _MAX_POINTS:
        raise ValueError("no polygon")
    points = np.frombuffer(shape, dtype=f"{order}f8", count=2 * n_points, offset=13).reshape(-1, 2)
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
