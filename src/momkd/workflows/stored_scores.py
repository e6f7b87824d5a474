"""Scores of the tiles of one slide on disk: what a prediction said, kept for whoever draws it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from momkd.errors import DataError
from momkd.reporting.tile_layers import Layer, attention_layer, evidence_layer, slot_layer
from momkd.storage import write_atomically
from momkd.types import TileGrid

_VALUES = ("attention", "evidence", "evidence_eq7", "slot_cosines")
_GRID = ("tile_px0", "tile_px", "mpp", "width_px0", "height_px0", "is_level0")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredScores:
    """What a model said of a slide's tiles.

    Parameters
    ----------
    slide_id, model
        Which slide, and which model.
    grid
        Where its tiles lie; None where the source has no coordinates, and nothing can be drawn.
    attention
        Non-negative, sums to 1.
    evidence
        Eq. 7's score of each tile; None for a model without a memory.
    logit_evidence
        What each tile adds to the difference of the logits, to first order
        (:mod:`momkd.serving.evidence`); None where it was not asked for.
    cosines
        Of each tile to each slot; None where several memories answered, whose slots are not the
        same.
    class_names
        The second is the positive class.
    probability, low, high
        Of the positive class: the mean of the predictors, their least and greatest.
    made_by
        Which predictors answered, in words.
    """

    slide_id: str
    model: str
    attention: Float[np.ndarray, " n_tiles"]
    grid: TileGrid | None = None
    evidence: Float[np.ndarray, " n_tiles"] | None = None
    logit_evidence: Float[np.ndarray, " n_tiles"] | None = None
    cosines: Float[np.ndarray, "n_tiles n_classes n_slots"] | None = None
    class_names: tuple[str, ...] = ("negative", "positive")
    probability: float | None = None
    low: float | None = None
    high: float | None = None
    made_by: str = ""

    @property
    def title(self) -> str:
        """The slide, and on a second line the model with its probability."""
        return f"{self.slide_id}\n{self.model}{self._said()}"

    def _said(self) -> str:
        if self.probability is None:
            return ""
        low, high = self.low or 0.0, self.high or 0.0
        spread = f" ({low:.2f} to {high:.2f})" if high > low else ""
        return f", P({self.class_names[1]}) = {self.probability:.2f}{spread}"

    def layers(self, *, slots: bool = False) -> list[Layer]:
        """Give what can be shown: attention, evidence where it was stored, each slot if asked."""
        found = [attention_layer(self.attention)]
        if self.evidence is not None:
            found.append(evidence_layer(self.evidence, self.class_names))
        if slots and self.cosines is not None:
            _, n_classes, n_slots = self.cosines.shape
            found += [
                slot_layer(self.cosines[:, label, slot], label, slot, self.class_names)
                for label in range(n_classes)
                for slot in range(n_slots)
            ]
        return found

    def measurements(self) -> dict[str, np.ndarray]:
        """Give every stored value by name, as QuPath will show it."""
        found = {
            "attention": self.attention.astype(np.float64),
            "attention (x even share)": self.attention.astype(np.float64) * len(self.attention),
        }
        if self.logit_evidence is not None:
            found["class evidence (logits)"] = self.logit_evidence.astype(np.float64)
        if self.evidence is not None:
            found["evidence (cosine difference)"] = self.evidence.astype(np.float64)
        for layer in self.layers(slots=True):
            if layer.name.startswith("slot-"):
                found[f"cosine to {layer.name}"] = layer.values
        return found


def write_scores(path: Path, scores: StoredScores) -> None:
    """Write the scores of a slide, whole or not at all.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it.
    """

    def fill(stream: Any) -> None:
        with h5py.File(stream, "w") as file:
            file.create_dataset("attention", data=scores.attention.astype(np.float32))
            if scores.logit_evidence is not None:
                file.create_dataset("evidence", data=scores.logit_evidence.astype(np.float32))
            if scores.evidence is not None:
                file.create_dataset("evidence_eq7", data=scores.evidence.astype(np.float32))
            if scores.cosines is not None:
                half = scores.cosines.astype(np.float16)
                file.create_dataset("slot_cosines", data=half, compression="gzip")
            if scores.grid is not None:
                coords = file.create_dataset("coords_px0", data=scores.grid.coords_px0)
                for key in _GRID:
                    value = getattr(scores.grid, key)
                    if value is not None:
                        coords.attrs[key] = value
            file.attrs["slide_id"], file.attrs["model"] = scores.slide_id, scores.model
            file.attrs["class_name"] = scores.class_names[1]
            file.attrs["class_names"] = json.dumps(scores.class_names)
            for key in ("probability", "low", "high"):
                if getattr(scores, key) is not None:
                    file.attrs[key] = float(getattr(scores, key))
            if scores.made_by:
                file.attrs["made_by"] = scores.made_by

    write_atomically(path, fill)


def read_scores(path: Path) -> StoredScores:
    """Read the scores of a slide, with its grid.

    Raises
    ------
    DataError
        P18 a file that holds no scores and places, or not as many of one as of the other.
    """
    remedy = "give a file that momkd predict --attention or momkd memory wrote"
    try:
        with h5py.File(path, "r") as file:
            return _parse(file)
    except (OSError, KeyError, ValueError, TypeError) as error:
        brief = " ".join(str(error).split())[:100]
        raise DataError.of("P18", str(path), f"no stored scores: {brief}", remedy) from None


def _parse(file: h5py.File) -> StoredScores:
    coords, facts = file["coords_px0"], dict(file.attrs)
    about = dict(coords.attrs)
    slide_id = str(facts["slide_id"])
    grid = TileGrid(
        slide_id=slide_id,
        coords_px0=coords[:].astype(np.int64),
        tile_px0=_float(about.get("tile_px0")),
        tile_px=_int(about.get("tile_px")),
        mpp=_float(about.get("mpp")),
        width_px0=_int(about.get("width_px0")),
        height_px0=_int(about.get("height_px0")),
        is_level0=bool(about.get("is_level0", True)),
    )
    told = json.loads(facts["class_names"]) if "class_names" in facts else None
    names = told or ("negative", facts.get("class_name", "positive"))
    values = {name: _values(file, name, len(grid)) for name in _VALUES if name in file}
    return StoredScores(
        slide_id=slide_id,
        model=str(facts["model"]),
        grid=grid,
        attention=values["attention"],
        evidence=values.get("evidence_eq7"),
        logit_evidence=values.get("evidence"),
        cosines=values.get("slot_cosines"),
        class_names=tuple(str(name) for name in names),
        probability=_float(facts.get("probability")),
        low=_float(facts.get("low")),
        high=_float(facts.get("high")),
        made_by=str(facts.get("made_by", "")),
    )


def _values(file: h5py.File, name: str, n_tiles: int) -> np.ndarray:
    values = file[name][:].astype(np.float64)
    if len(values) != n_tiles:
        raise ValueError(f"{len(values)} scores ({name}) for {n_tiles} tiles")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")
    return values


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
