"""TRIDENT's feature files, and the published MoMKD's: the same with a stored tile graph."""

from typing import Any

from momkd.data.layouts.checks import require_numbers
from momkd.data.layouts.hdf5_file import HDF5File, number, text, whole
from momkd.data.layouts.material import Geometry, Material, ReadRules
from momkd.errors import IntegrityError

FEATURE_KEY = "features"
_MARKS = ("patch_size_level0", "target_magnification", "level0_magnification", "mpp")


def recognise(file: HDF5File, rules: ReadRules) -> str | None:
    """Give the reason to read a file as TRIDENT's, or None."""
    key = rules.feature_key or FEATURE_KEY
    if key.strip("/").split("/")[0] not in file.keys:
        return None
    marks = []
    if "coords" in file.keys:
        attributes = file.dataset("coords").attrs
        marks = [f"attribute '{name}'" for name in _MARKS if name in attributes][:1]
    if not marks and _encoder(file, key) is None and "coords" in file.keys and not _edges(file):
        return None
    seen = ", 'coords' in level-0 px" if "coords" in file.keys else ", no 'coords'"
    stored = [f"stored graph '{name}'" for name in _edges(file)]
    return ", ".join([f"dataset '{key}'{seen}", *marks, *stored])


def read(file: HDF5File, rules: ReadRules, why: str) -> Material:
    """Read embeddings, corners and attributes; a stored graph is checked and not used.

    Raises
    ------
    IntegrityError
        F36 a stored graph that names tiles beyond those of the file.
    """
    key = rules.feature_key or FEATURE_KEY
    data = file.dataset(key)
    require_numbers(file.path, key, data.shape, data.dtype)
    corners = file.dataset("coords") if "coords" in file.keys else None
    notes = tuple(_check_graph(file, name, data.shape[-2]) for name in _edges(file))
    return Material(
        layout="momkd-published" if notes else "trident",
        why=why,
        key=key,
        embeddings=data[()],
        coords_px0=None if corners is None else corners[()],
        geometry=Geometry() if corners is None else geometry_of(dict(corners.attrs)),
        parts={"features": file.sha256},
        encoder=_encoder(file, key),
        encoder_sha256=text(data.attrs.get("encoder_sha256")),
        notes=notes,
    )


def geometry_of(attributes: dict[str, Any]) -> Geometry:
    """Read TRIDENT's attributes of ``coords``; the side on level 0 follows where it is absent."""
    tile_px, side = whole(attributes, "patch_size"), number(attributes, "patch_size_level0")
    scan = number(attributes, "level0_magnification")
    target = number(attributes, "target_magnification")
    if side is None and tile_px and scan and target:
        side = tile_px * scan / target
    overlap = attributes.get("overlap")
    return Geometry(
        tile_px0=side,
        tile_px=tile_px,
        overlap_px=0 if overlap == 0 else whole(attributes, "overlap"),
        mpp=number(attributes, "mpp") or number(attributes, "target_mpp"),
        magnification=target,
        width_px0=whole(attributes, "level0_width"),
        height_px0=whole(attributes, "level0_height"),
    )


def _encoder(file: HDF5File, key: str) -> str | None:
    return text(file.dataset(key).attrs.get("encoder")) or text(file.attributes.get("encoder"))


def _edges(file: HDF5File) -> list[str]:
    return [name for name in file.keys if name.startswith("edge_index")]


def _check_graph(file: HDF5File, key: str, n_tiles: int) -> str:
    edges, path = file.dataset(key), str(file.path)
    if edges.dtype.kind not in "iu" or edges.ndim != 2:
        raise IntegrityError.of("F36", path, f"'{key}' is no list of edges", "delete it")
    if edges.size:
        values = edges[()]
        if not 0 <= int(values.min()) <= int(values.max()) < n_tiles:
            what = f"'{key}' names tiles beyond the {n_tiles} of the file"
            raise IntegrityError.of("F36", path, what, "delete it: the graph is recomputed")
    return f"stored graph '{key}' not used: the graph is computed from coords"
