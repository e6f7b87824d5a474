"""One slide's features written as each tool writes them; what is written follows those tools."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch

MPP = 0.5


def _embeddings() -> np.ndarray:
    """Values that float16 holds exactly."""
    return np.random.default_rng(0).normal(size=(40, 24)).astype(np.float16).astype(np.float32)


def _coords(tile_px0: int = 512) -> np.ndarray:
    """Tissue with a hole and a ragged border, rows out of order."""
    rng = np.random.default_rng(1)
    places = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) + 3
    kept = places[rng.choice(len(places), 40, replace=False)]
    return kept.astype(np.int64) * tile_px0


@dataclass(kw_only=True)
class SlideFeatures:
    """A slide scanned at ``mpp0``, cut into tiles of 256 px at 0.5 um/px."""

    embeddings: np.ndarray = field(default_factory=_embeddings)
    coords: np.ndarray = field(default_factory=_coords)
    tile_px0: int = 512
    tile_px: int = 256
    mpp0: float = 0.25
    encoder: str = "simulated-24"
    size_px0: tuple[int, int] = (8192, 8192)


def write_trident(path: Path, slide: SlideFeatures, **changed: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scan = 40 if slide.mpp0 < 0.4 else 20
    stated = {
        "patch_size": slide.tile_px,
        "patch_size_level0": slide.tile_px0,
        "level0_magnification": scan,
        "target_magnification": 20,
        "overlap": 0,
        "name": path.stem,
        "savetodir": "None",
        "level0_width": slide.size_px0[0],
        "level0_height": slide.size_px0[1],
        "mpp": MPP,
    } | changed
    dim = slide.embeddings.shape[1]
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "features", data=slide.embeddings, chunks=(1, dim), maxshape=(None, dim)
        )
        data.attrs.update(encoder=slide.encoder, name=path.stem, savetodir="None")
        corners = file.create_dataset("coords", data=slide.coords, maxshape=(None, 2))
        corners.attrs.update({k: v for k, v in stated.items() if v is not None})
    return path


def write_published(path: Path, slide: SlideFeatures) -> Path:
    write_trident(path, slide)
    edges = np.stack([np.arange(len(slide.coords)), np.zeros(len(slide.coords))]).astype(np.int64)
    with h5py.File(path, "r+") as file:
        file.create_dataset("edge_index_k8", data=edges, compression="gzip")
    return path


def write_clam(folder: Path, name: str, slide: SlideFeatures, *, patches: bool = True) -> Path:
    """Write ``h5_files``, ``pt_files`` and ``patches``; give the h5."""
    for part in ("h5_files", "pt_files", "patches"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / "h5_files" / f"{name}.h5"
    with h5py.File(path, "w") as file:
        n_tiles, dim = slide.embeddings.shape
        rows = min(32, n_tiles)
        file.create_dataset("features", data=slide.embeddings, chunks=(rows, dim))
        file.create_dataset("coords", data=slide.coords.astype(np.int32), chunks=(rows, 2))
    torch.save(torch.from_numpy(slide.embeddings), folder / "pt_files" / f"{name}.pt")
    if patches:
        factor = slide.tile_px0 / slide.tile_px
        with h5py.File(folder / "patches" / f"{name}.h5", "w") as file:
            level = 1 if factor > 1 else 0
            dims = tuple(int(n / factor) for n in slide.size_px0)
            file.create_dataset("coords", data=slide.coords).attrs.update(
                patch_size=slide.tile_px,
                patch_level=level,
                downsample=(factor, factor),
                downsampled_level_dim=dims,
                level_dim=dims,
                name=name,
                save_path="out",
            )
    return path


def write_stamp(path: Path, slide: SlideFeatures, *, form: str = "new") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    um = slide.coords * slide.mpp0
    side_um = slide.tile_px0 * slide.mpp0
    marks: dict[str, Any] = {
        "new": {
            "stamp_version": "2.4.0",
            "extractor": slide.encoder,
            "unit": "um",
            "tile_size_um": side_um,
            "tile_size_px": slide.tile_px,
            "code_hash": "0" * 8,
            "feat_type": "tile",
        },
        "older": {"extractor": slide.encoder, "unit": "um", "tile_size": side_um},
        "oldest": {},
    }[form]
    values = um.astype(np.float32) if form != "oldest" else slide.coords // slide.tile_px0 * 224
    with h5py.File(path, "w") as file:
        file["feats"] = slide.embeddings.astype(np.float16)
        file["coords"] = values
        file.attrs.update(marks)
    return path


def write_wsidata(path: Path, slide: SlideFeatures) -> Path:
    """Write what wsidata 0.12 writes (zarr format 3), rows of the table in another order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(slide.coords)
    tile_ids = np.arange(n)
    zarr = pytest.importorskip("zarr", minversion="3", reason="zarr 3 needs Python 3.11")
    root = zarr.open_group(path, mode="w", zarr_format=3)
    width, height = slide.size_px0
    factor = slide.tile_px0 / slide.tile_px
    spec = {"height": slide.tile_px, "width": slide.tile_px, "mpp": MPP, "tissue_name": "tissues"}
    spec |= {"stride_height": slide.tile_px, "stride_width": slide.tile_px, "ops_level": 0}
    spec |= {"ops_downsample": factor, "base_level": 0, "base_downsample": factor}
    about = {"shape": [height, width], "n_level": 1, "level_downsample": [1.0]}
    root.attrs.update(
        {
            "spatialdata_attrs": {"version": "0.2", "spatialdata_software_version": "0.7.3"},
            "slide_properties": about | {"mpp": slide.mpp0, "magnification": 40, "raw": "{}"},
            "tile_spec": {"tiles": spec},
        }
    )
    table = root.create_group(f"tables/{slide.encoder}_tiles")
    table.attrs.update(
        {
            "encoding-type": "anndata",
            "encoding-version": "0.1.0",
            "spatialdata-encoding-type": "ngff:regions_table",
            "region": "tiles",
            "region_key": "library_id",
            "instance_key": "tile_id",
            "version": "0.2",
        }
    )
    order = np.random.default_rng(5).permutation(n)
    table.create_array("X", data=slide.embeddings[order], chunks=(16, slide.embeddings.shape[1]))
    obs = table.create_group("obs")
    obs.attrs.update({"column-order": ["tile_id", "library_id"], "_index": "_index"})
    obs.create_array("tile_id", data=tile_ids[order])
    # how LazySlide leaves the graph of its tiles: a table without features
    graph = root.create_group("tables/tiles_graph")
    graph.create_array("X", shape=(n, 0), dtype="float32", chunks=(n, 1))
    shapes = root.create_group("shapes/tiles")
    shapes.attrs.update({"encoding-type": "ngff:shapes", "axes": ["x", "y"]})
    boxes = [_wkb(x, y, slide.tile_px0) for x, y in slide.coords]
    about_boxes = {"encoding": "WKB", "crs": None, "geometry_types": ["Polygon"]}
    geo = {"primary_column": "geometry", "columns": {"geometry": about_boxes}, "version": "1.1.0"}
    rows = arrow.table(
        {"tile_id": tile_ids, "tissue_id": np.zeros(n, np.int64), "geometry": boxes}
    ).replace_schema_metadata({b"geo": json.dumps(geo).encode()})
    parquet.write_table(rows, path / "shapes" / "tiles" / "shapes.parquet")
    return path


def write_npy_pair(folder: Path, name: str, slide: SlideFeatures) -> Path:
    """Write ``<name>.npy`` and ``<name>_coords.npy``."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", slide.embeddings)
    np.save(folder / f"{name}_coords.npy", slide.coords)
    return folder / f"{name}.npy"


def write_npy_folders(folder: Path, name: str, slide: SlideFeatures) -> Path:
    """Write torchmil's two folders."""
    for part, values in (("features_path", slide.embeddings), ("coords_path", slide.coords)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        np.save(folder / part / f"{name}.npy", values)
    return folder / "features_path" / f"{name}.npy"


def _wkb(x: int, y: int, side: int) -> bytes:
    """A box as shapely writes it: counter-clockwise from the lower right corner, closed."""
    corners = [(x + side, y), (x + side, y + side), (x, y + side), (x, y), (x + side, y)]
    return struct.pack("<BIII", 1, 3, 1, 5) + np.array(corners, "<f8").tobytes()
