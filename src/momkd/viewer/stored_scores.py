"""Scores by tile as ``momkd predict --attention`` and the viewer's own jobs store them."""

import math
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from momkd.errors import DataError

_MOST_COLUMNS = 64
_MOST_TILES = 500_000
_DIGITS = 5
_CLIP_QUANTILE = 0.995

Kind = Literal["share", "signed", "plain"]

_WORDS = {
    "attention": ("attention", "x an even share"),
    "evidence": ("class evidence", "logits"),
    "evidence_eq7": ("memory evidence", "cosine difference"),
    "slot_cosines": ("slot", "cosine"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One number a tile.

    Parameters
    ----------
    name, unit
        In words.
    kind
        ``share``: colours start at 0; ``signed``: 0 lies in their middle; ``plain``: from the
        least value to the greatest.
    values
        In the order of the tiles; NaN where there is none.
    """

    name: str
    unit: str
    kind: Kind
    values: NDArray[np.float64]

    def told(self) -> dict[str, Any]:
        """Give it as the page reads it: ends of the colours, and values of five digits."""
        finite = self.values[np.isfinite(self.values)]
        low, high = _ends(self.kind, finite)
        return {
            "name": self.name,
            "unit": self.unit,
            "kind": self.kind,
            "low": low,
            "high": high,
            "values": [_short(v) for v in self.values.tolist()],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredScores:
    """Layers of one slide and model, and where its tiles lie.

    ``corners_px0`` is None where places are unknown, or not in level-0 pixels; ``facts`` are the
    file's own attributes that a page shows.
    """

    slide_id: str
    model: str
    corners_px0: NDArray[np.int64] | None
    tile_px0: float | None
    mpp0: float | None
    width_px0: int | None
    height_px0: int | None
    layers: tuple[Layer, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Give them as the page reads them."""
        corners = self.corners_px0
        return {
            "model": self.model,
            "n_tiles": len(self.layers[0].values),
            "x": None if corners is None else corners[:, 0].tolist(),
            "y": None if corners is None else corners[:, 1].tolist(),
            "tile_px0": self.tile_px0,
            "layers": [layer.told() for layer in self.layers],
            "facts": self.facts,
        }


def read_scores(path: Path) -> StoredScores:
    """Read stored scores: attention, and every other array with a row a tile.

    A dataset of several columns is a layer a column, named by its attribute ``names`` where it has
    one, and ``slot_cosines`` (classes x slots) a layer a slot; ``title``, ``unit`` and
    ``kind`` are read where they are stated.

    Raises
    ------
    DataError
        P18 no stored scores, or more tiles than a page can show.
    """
    remedy = "give files that momkd predict --attention wrote"
    try:
        with h5py.File(path, "r") as file:
            if not _is_own(file, "attention"):
                raise ValueError("no dataset 'attention'")
            n_tiles = file["attention"].shape[0]
            if not 0 < n_tiles <= _MOST_TILES:
                what = f"holds {n_tiles:,} tiles, wanted 1 to {_MOST_TILES:,}"
                raise DataError.of("P18", path.name, what, remedy)
            layers = [layer for name in _in_order(file) for layer in _layers(file[name], n_tiles)]
            if not layers or layers[0].kind != "share":
                raise ValueError("attention holds no numbers")
            return _with_places(file, n_tiles, tuple(layers))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        brief = " ".join(str(error).split())[:100]
        raise DataError.of("P18", path.name, f"no stored scores: {brief}", remedy) from None


def _in_order(file: h5py.File) -> list[str]:
    """Give the datasets that may hold scores, the known ones first."""
    names = [n for n in file if n != "coords_px0" and _is_own(file, n)]
    known = [n for n in _WORDS if n in names]
    return [*known, *sorted(n for n in names if n not in known)]


def _is_own(file: h5py.File, name: str) -> bool:
    """Whether a name is a dataset of this very file: links and outside storage read others."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    found = file[name]
    return isinstance(found, h5py.Dataset) and not found.external and not found.is_virtual


def _layers(dataset: h5py.Dataset, n_tiles: int) -> list[Layer]:
    name = dataset.name.rsplit("/", 1)[-1]
    shape = dataset.shape
    if dataset.dtype.kind not in "fiu" or len(shape) not in (1, 2, 3) or shape[0] != n_tiles:
        return []
    if len(shape) == 3 and (name != "slot_cosines" or math.prod(shape[1:]) > _MOST_COLUMNS):
        return []
    read = dataset[:] if len(shape) != 2 else dataset[:, :_MOST_COLUMNS]
    values = read.reshape(n_tiles, -1).astype(np.float64)
    columns = values.shape[1]
    if name == "attention":
        values = values * n_tiles
    title, unit = _WORDS.get(name, (name.replace("_", " "), ""))
    title, unit = str(dataset.attrs.get("title", title)), str(dataset.attrs.get("unit", unit))
    titles = [title] if columns == 1 else [f"{title} {i + 1}" for i in range(columns)]
    if len(shape) == 3:
        pairs = product(range(shape[1]), range(1, shape[2] + 1))
        titles = [f"{title} {number} of class {label}" for label, number in pairs]
    stated = [str(n) for n in dataset.attrs.get("names", ())]
    if len(stated) >= columns > 1:
        titles = [f"{title}: {n}" for n in stated[:columns]]
    kind = _kind(name, str(dataset.attrs.get("kind", "")), values)
    return [
        Layer(name=titles[i], unit=unit, kind=kind, values=values[:, i]) for i in range(columns)
    ]


def _kind(name: str, stated: str, values: NDArray[np.float64]) -> Kind:
    if name == "attention" or stated == "share":
        return "share"
    if stated == "signed" or name in ("evidence", "evidence_eq7"):
        return "signed"
    has_both = bool((values < 0).any() and (values > 0).any())
    return "signed" if has_both and stated != "plain" else "plain"


def _with_places(file: h5py.File, n_tiles: int, layers: tuple[Layer, ...]) -> StoredScores:
    attrs = dict(file.attrs)
    places = file["coords_px0"] if _is_own_or_absent(file, "coords_px0") else None
    stated = {} if places is None else dict(places.attrs)
    corners = None
    if places is not None and bool(stated.get("is_level0", True)):
        corners = places[:].astype(np.int64)
        if corners.shape != (n_tiles, 2):
            raise ValueError(f"{len(corners)} places for {n_tiles} tiles")
    side, tile_px, mpp = (_number(stated.get(k)) for k in ("tile_px0", "tile_px", "mpp"))
    if corners is not None and side is None:
        side = _smallest_step(corners)
    known = side is not None and tile_px is not None and mpp is not None
    width, height = (_number(stated.get(k)) for k in ("width_px0", "height_px0"))
    keys = ("class_name", "probability", "low", "high", "made_by")
    facts = {k: _plain(attrs[k]) for k in keys if k in attrs}
    return StoredScores(
        slide_id=str(attrs["slide_id"]),
        model=str(attrs["model"]),
        corners_px0=corners,
        tile_px0=side,
        mpp0=mpp * tile_px / side if known and mpp and tile_px and side else None,
        width_px0=None if width is None else int(width),
        height_px0=None if height is None else int(height),
        layers=layers,
        facts=facts,
    )


def _is_own_or_absent(file: h5py.File, name: str) -> bool:
    if name not in file:
        return False
    if not _is_own(file, name):
        raise ValueError(f"{name} lies outside of it")
    return True


def _smallest_step(corners: NDArray[np.int64]) -> float:
    steps = np.concatenate([np.diff(np.unique(corners[:, axis])) for axis in (0, 1)])
    return float(steps.min()) if len(steps) else 1.0


def _ends(kind: Kind, finite: NDArray[np.float64]) -> tuple[float, float]:
    if not len(finite):
        return 0.0, 1.0
    top = float(np.quantile(finite, _CLIP_QUANTILE))
    if kind == "share":
        return 0.0, max(top, 1.0)
    if kind == "signed":
        reach = float(np.quantile(np.abs(finite), _CLIP_QUANTILE)) or 1.0
        return -reach, reach
    low = float(np.quantile(finite, 1 - _CLIP_QUANTILE))
    return (low, top) if top > low else (low, low + 1.0)


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    return number if number is None or (np.isfinite(number) and number > 0) else None


def _plain(value: Any) -> str | float | None:
    if isinstance(value, str | bytes):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return _short(float(value))
