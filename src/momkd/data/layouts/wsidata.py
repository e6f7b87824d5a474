"""WSIData stores, as LazySlide writes them: a SpatialData zarr with tables of tile features.

Read with zarr and pyarrow alone. Of a store only the table, the tiles and two entries of the
attributes are read and hashed: what else it holds may change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.boxes import read_boxes
from momkd.data.layouts.checks import require_numbers
from momkd.data.layouts.encoder_names import known_name
from momkd.data.layouts.hdf5_file import number, whole
from momkd.data.layouts.material import Geometry, Material, ReadLimits, ReadRules
from momkd.data.layouts.zarr_store import ZarrStore
from momkd.errors import DataError
from momkd.storage import canonical_json, digest_bytes

_SQUARE = 0.01


def read(path: Path, rules: ReadRules, limits: ReadLimits) -> Material:
    """Read one table of features, and the boxes of its tiles.

    Raises
    ------
    DataError
        F01 damaged, F03 no store, F04 no table or several, F05, F11 rows without a tile, F13, F25,
        F38 a library missing.
    IntegrityError
        F22 a way out of the store, F24 a shape bomb.
    """
    store = ZarrStore(path, limits)
    name = _choose_table(store, rules)
    place = f"tables/{name}"
    about = store.attributes(place)
    tiles, key = _region(about), str(about.get("instance_key", "tile_id"))
    if tiles not in store.children("shapes"):
        what = f"table '{name}' belongs to tiles '{tiles}', which are not in the store"
        raise DataError.of("F11", str(path), what, "write the store again")
    values = store.array(f"{place}/X")
    require_numbers(path, f"{place}/X", values.shape, values.dtype)
    if key not in store.children(f"{place}/obs"):
        what = f"'{place}/obs' has no column '{key}': its rows cannot be placed"
        raise DataError.of("F11", str(path), what, "write the store again")
    # a column of zeros alone is stored without a chunk
    rows = store.array(f"{place}/obs/{key}", may_lack_chunks=True)
    shapes = f"shapes/{tiles}/shapes.parquet"
    ids, boxes = read_boxes(path, store.file(shapes), limits)
    coords, side, notes = _corners(path, boxes[_places(path, rows, ids)])
    root = store.attributes(hashed=False)
    slide, spec = _mapping(root, "slide_properties"), _mapping(_mapping(root, "tile_spec"), tiles)
    encoder, said = known_name(_encoder(name, tiles))
    stated = {"slide_properties": {k: slide.get(k) for k in ("mpp", "shape")}, "tile_spec": spec}
    return Material(
        layout="wsidata",
        why=f"zarr store with table '{name}' of tiles '{tiles}' (boxes in level-0 px)",
        key=f"{place}/X",
        embeddings=values,
        coords_px0=coords,
        geometry=_geometry(side, slide, spec),
        parts={
            "store": store.digest,
            "attributes": digest_bytes(canonical_json(stated).encode()),
        },
        encoder=encoder,
        notes=(*said, *notes),
    )


def _choose_table(store: ZarrStore, rules: ReadRules) -> str:
    found = [t for t in store.children("tables") if _holds_features(store, t)]
    wanted = rules.feature_key
    if wanted is not None:
        chosen = [t for t in found if t == wanted or _encoder(t, _tiles_of(store, t)) == wanted]
    else:
        chosen = found
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(f"'{t}'" for t in found[:8]) or "none"
    if wanted is not None:
        what = f"no single table of features '{wanted}' (has {listed})"
    else:
        what = f"{len(found)} tables of tile features ({listed})" if found else "no tile features"
    remedy = "set data.feature_key to one of them" if found else "extract features first"
    raise DataError.of("F04", str(store.path), what, remedy)


def _holds_features(store: ZarrStore, table: str) -> bool:
    shape = store.shape(f"tables/{table}/X")
    return shape is not None and len(shape) == 2 and shape[1] > 0


def _tiles_of(store: ZarrStore, table: str) -> str:
    return _region(store.attributes(f"tables/{table}", hashed=False))


def _region(about: Mapping[str, Any]) -> str:
    """Give the tiles that a table annotates; one name, also where it is a list of one."""
    region = about.get("region", "tiles")
    if isinstance(region, list) and len(region) == 1:
        region = region[0]
    return region if isinstance(region, str) else "tiles"


def _encoder(table: str, tiles: str) -> str:
    """Tables are called ``<encoder>_<tiles>``."""
    return table.removesuffix(f"_{tiles}")


def _places(path: Path, rows: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Give the place of each row's tile among the boxes."""
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        what = f"ids of tiles are {rows.dtype} of shape {rows.shape}, wanted whole numbers"
        raise DataError.of("F11", str(path), what, "write the store again")
    order = np.argsort(ids, kind="stable")
    spot = np.minimum(np.searchsorted(ids[order], rows), max(len(ids) - 1, 0))
    if len(rows) and (not len(ids) or (ids[order][spot] != rows).any()):
        what = f"rows of features name tiles that are not among the {len(ids)} boxes"
        raise DataError.of("F11", str(path), what, "write the store again")
    if len(np.unique(ids)) < len(ids):
        raise DataError.of("F11", str(path), "ids of tiles repeat", "write the store again")
    return order[spot]


def _corners(
    path: Path, boxes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float | None, list[str]]:
    if not len(boxes):
        return np.zeros((0, 2)), None, []
    size = boxes[:, 2:] - boxes[:, :2]
    side = float(np.median(size))
    if not side > 0:
        raise DataError.of("F13", str(path), "boxes of tiles are empty", "lay the tiles again")
    odd = bool((np.abs(size / side - 1) > _SQUARE).any())
    notes = ["boxes of tiles differ in size or are not square"] if odd else []
    return boxes[:, :2], side, notes


def _geometry(side: float | None, slide: Mapping[str, Any], spec: Mapping[str, Any]) -> Geometry:
    tile_px, stride_px = whole(spec, "width"), whole(spec, "stride_width")
    size = slide.get("shape")
    known = isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)
    height, width = size if known and isinstance(size, list) else (None, None)
    return Geometry(
        tile_px0=side,
        tile_px=tile_px,
        overlap_px=None if tile_px is None or stride_px is None else max(tile_px - stride_px, 0),
        mpp=number(spec, "mpp"),
        width_px0=width,
        height_px0=height,
    )


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}
