"""One feature file turned into a bag, or described in words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from momkd.data.examination import Examination, examine_files
from momkd.data.feature_search import FoundFiles, find_feature_files
from momkd.data.graph import nearest_neighbours
from momkd.data.layouts.geometry import TOLERANCE
from momkd.data.layouts.material import RawFeatures, ReadRules
from momkd.data.layouts.table import read_raw
from momkd.data.manifest import read_manifest, write_manifest
from momkd.data.reader_process import FileFacts, Refusal, read_files
from momkd.errors import DataError, IntegrityError
from momkd.types import Bag, SlideFile, TileGrid

__all__ = [
    "Examination",
    "FileDescription",
    "FoundFiles",
    "describe_file",
    "examine_files",
    "find_feature_files",
    "read_bag",
    "read_manifest",
    "rules_of",
    "write_manifest",
]


def read_bag(file: SlideFile | Path, *, k: int = 8, rules: ReadRules | None = None) -> Bag:
    """Read a feature file as a bag in raster order, with its graph.

    Rows are sorted by (y, x, content), so the order of the file leaves no trace. Without
    coordinates the rows stay as they are, and grid and neighbours are None.

    Parameters
    ----------
    file
        An examined file, whose bytes must not have changed since, read as it was then; or a path.
    k
        Neighbours a tile.
    rules
        How a path is to be read; an examined file knows it.

    Raises
    ------
    DataError
        As :func:`momkd.data.layouts.table.read_raw`.
    IntegrityError
        F26 the file changed since it was examined.
    """
    if isinstance(file, Path):
        raw = read_raw(file, rules=rules)
        return make_bag(raw, raw.slide_id, k)
    raw = read_raw(file.path, rules=rules_of(file))
    if raw.sha256 != file.sha256:
        what = "its bytes changed since it was examined"
        raise IntegrityError.of("F26", str(file.path), what, "run momkd check again")
    return make_bag(raw, file.slide_id, k)


def rules_of(file: SlideFile) -> ReadRules:
    """Give how an examined file was read."""
    return ReadRules(
        feature_key=file.feature_key,
        drop_nonfinite=file.drop_nonfinite,
        coords_dir=file.coords_dir,
        mpp0=file.mpp0,
    )


def make_bag(raw: RawFeatures, slide_id: str, k: int) -> Bag:
    """Put rows in raster order and find each tile's neighbours."""
    coords, place = raw.coords_px0, raw.geometry
    grid = near = None
    embeddings = raw.embeddings
    if coords is not None:
        order = _raster_order(coords, embeddings)
        coords, embeddings = np.ascontiguousarray(coords[order]), embeddings[order]
        near = torch.from_numpy(nearest_neighbours(coords, k))
        grid = TileGrid(
            slide_id=slide_id,
            coords_px0=coords,
            tile_px0=place.tile_px0,
            tile_px=place.tile_px,
            mpp=place.mpp,
            magnification=place.magnification,
            width_px0=place.width_px0,
            height_px0=place.height_px0,
            overlap_px=place.overlap_px,
            is_level0=place.is_level0,
        )
    return Bag(
        slide_id=slide_id,
        embeddings=torch.from_numpy(np.require(embeddings, requirements=("C", "W"))),
        grid=grid,
        neighbours=near,
        encoder=raw.encoder,
        encoder_sha256=raw.encoder_sha256,
        digest=raw.sha256,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDescription:
    """A feature file in words."""

    facts: FileFacts

    def lines(self) -> list[str]:
        """Give the file's name and what was recognised, a line each."""
        f, place = self.facts, self.facts.geometry
        stated = f"{f.encoder or 'encoder not stated'}"
        if f.encoder_sha256 is not None:
            stated += f" (weights {f.encoder_sha256[:12]})"
        geometry = (
            f"tile {_or_unknown(place.tile_px)} px seen, {_or_unknown(place.tile_px0)} px on level "
            f"0, overlap {_or_unknown(place.overlap_px)} px, magnification "
            f"{_or_unknown(place.magnification)}, mpp {_or_unknown(place.mpp)}"
        )
        pitch = f"pitch measured {_or_unknown(f.pitch_px0)} level-0 px"
        if f.pitch_px0 and place.tile_px0:
            near = abs(f.pitch_px0 / place.tile_px0 - 1) <= TOLERANCE
            pitch += ", as stated" if near else ", not the tile side: overlap or gaps"
        return [
            f"{f.path.name}",
            f"layout: {f.layout} ({f.why})",
            f"{f.n_tiles} tiles x {f.dim}, {f.dtype}, encoder: {stated}",
            geometry if f.has_coords else "no coordinates: no graph, no heatmap",
            pitch if f.has_coords else "models that use the tile graph (momkd) refuse it",
            f"tiles at a place taken by another: {f.n_same_place}",
            f"sha256: {f.sha256}",
            *(f"note: {n}" for n in f.notes),
        ]


def describe_file(path: Path, rules: ReadRules | None = None) -> FileDescription:
    """Say what a feature file holds and why it was recognised as what it is.

    Raises
    ------
    MomkdError
        As :func:`momkd.data.layouts.table.read_raw`, and F27.
    """
    (answer,) = read_files([path], rules=rules or ReadRules(), timeout_s=60.0)
    if isinstance(answer, Refusal):
        raise (IntegrityError if answer.unsafe else DataError)(answer.problem)
    return FileDescription(facts=answer)


def _raster_order(coords: NDArray[np.int64], embeddings: NDArray[np.floating]) -> NDArray[np.intp]:
    order = np.lexsort((coords[:, 0], coords[:, 1]))
    sorted_coords = coords[order]
    tied = np.flatnonzero((sorted_coords[1:] == sorted_coords[:-1]).all(axis=1))
    if len(tied):  # tiles at one place: their content decides
        rank = np.zeros(len(coords), dtype=np.int64)
        rows = np.unique(np.concatenate([order[tied], order[tied + 1]]))
        by_content = sorted(rows.tolist(), key=lambda r: embeddings[r].tobytes())
        rank[by_content] = np.arange(len(by_content))
        order = np.lexsort((rank, coords[:, 0], coords[:, 1]))
    return order


def _or_unknown(value: int | float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
