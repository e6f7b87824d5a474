"""Scores by tile on disk: one HDF5 file a slide and model, for heat maps and for the viewer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from momkd.predictor import Ensemble, EnsemblePrediction
from momkd.serving.evidence import class_evidence
from momkd.storage import write_atomically
from momkd.types import Bag

_PLACE = ("tile_px0", "tile_px", "mpp", "width_px0", "height_px0", "is_level0")


def evidence_of(ensemble: Ensemble, bag: Bag) -> np.ndarray | None:
    """Give the mean class evidence of the members; None where one of them has none."""
    found = [class_evidence(member.model, bag) for member in ensemble.members]
    known = [f for f in found if f is not None]
    return np.stack(known).mean(axis=0) if len(known) == len(found) else None


def write_scores(
    path: Path,
    answer: EnsemblePrediction,
    model: str,
    *,
    layers: Mapping[str, np.ndarray] | None = None,
    made_by: str = "",
) -> None:
    """Write the attention of an answer, further layers, and where the tiles lie.

    Parameters
    ----------
    path
        The file.
    answer, model
        What is stored, and who said it.
    layers
        Name -> a number a tile, or several.
    made_by
        Which predictors answered, in words.

    Raises
    ------
    MachineError
        X10 it cannot be written.
    """
    prediction = answer.prediction

    def fill(stream: Any) -> None:
        with h5py.File(stream, "w") as file:
            file.create_dataset("attention", data=prediction.attention.astype(np.float32))
            for name, values in (layers or {}).items():
                file.create_dataset(name, data=values.astype(np.float32))
            grid = prediction.grid
            if grid is not None:
                coords = file.create_dataset("coords_px0", data=grid.coords_px0)
                for key in _PLACE:
                    value = getattr(grid, key)
                    if value is not None:
                        coords.attrs[key] = value
            file.attrs["slide_id"] = prediction.slide_id
            file.attrs["model"] = model
            file.attrs["class_name"] = prediction.class_names[1]
            file.attrs["probability"] = float(prediction.probabilities[1])
            file.attrs["low"], file.attrs["high"] = answer.low, answer.high
            if made_by:
                file.attrs["made_by"] = made_by

    write_atomically(path, fill)
