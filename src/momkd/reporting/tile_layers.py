"""What can be shown of tiles: a value each, its unit in words, and colours that fit its kind.

Attention and similarities run from dark to light; evidence has a middle and two directions, blue
for class 0 and orange for class 1, as classes are coloured everywhere. Both scales hold with any
colour vision.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from matplotlib.colors import Colormap, LinearSegmentedColormap

from momkd.reporting.words import short

CLASS_COLOURS = ("#0072b2", "#c44e00")
EVIDENCE_COLOURS = LinearSegmentedColormap.from_list(
    "evidence", [CLASS_COLOURS[0], "#f7f7f7", CLASS_COLOURS[1]]
)

_CLIP_QUANTILE = 0.995
_LEAST_SPAN = 1e-3
_LONGEST_CLASS = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One value a tile, and how it is shown.

    Parameters
    ----------
    name
        What it is called in file names and measurements: letters, digits and hyphens.
    label
        What stands beside the colour bar: the quantity with its unit.
    values
        As they are shown.
    low, high
        Ends of the colour scale; values beyond take the end's colour, and the bar shows an arrow.
    colours
        A colour map, or its name.
    """

    name: str
    label: str
    values: Float64[np.ndarray, " n_tiles"]
    low: float
    high: float
    colours: Colormap | str = "cividis"

    @property
    def beyond(self) -> str:
        """Say at which ends of the scale values are clipped, as a colour bar calls it."""
        below, above = self.values.min() < self.low, self.values.max() > self.high
        return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def attention_layer(attention: Float[np.ndarray, " n_tiles"]) -> Layer:
    """Show attention as multiples of an even share (1 / n_tiles), up to the 99.5th percentile."""
    shares = attention.astype(np.float64) * len(attention)
    return Layer(
        name="attention",
        label="attention (multiples of an even share)",
        values=shares,
        low=0.0,
        high=max(float(np.quantile(shares, _CLIP_QUANTILE)), 1.0),
    )


def evidence_layer(evidence: Float[np.ndarray, " n_tiles"], class_names: Sequence[str]) -> Layer:
    """Show eq. 7's score: cosine to the nearest positive less that to the nearest negative slot.

    The scale is the same to both sides of 0, up to the 99.5th percentile of sizes.
    """
    values = evidence.astype(np.float64)
    reach = max(float(np.quantile(np.abs(values), _CLIP_QUANTILE)), _LEAST_SPAN)
    positive = short(class_names[1], _LONGEST_CLASS)
    return Layer(
        name="evidence",
        label=f"evidence for {positive} (cosine difference)",
        values=values,
        low=-reach,
        high=reach,
        colours=EVIDENCE_COLOURS,
    )


def slot_layer(
    cosines: Float[np.ndarray, " n_tiles"], label: int, slot: int, class_names: Sequence[str]
) -> Layer:
    """Show how like one slot the tiles are: cosine, -1 to 1, on a scale of this slide's own.

    Parameters
    ----------
    label, slot
        Its class, and its number in that class, from 0; people count slots from 1.
    """
    values = cosines.astype(np.float64)
    low, high = np.quantile(values, [1 - _CLIP_QUANTILE, _CLIP_QUANTILE])
    return Layer(
        name=f"slot-{label}-{slot + 1:02d}",
        label=f"cosine to slot {slot + 1} of {short(class_names[label], _LONGEST_CLASS)}",
        values=values,
        low=float(low),
        high=max(float(high), float(low) + _LEAST_SPAN),
    )
