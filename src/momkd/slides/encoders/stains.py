"""Eosin, haematoxylin and optical density of a slide, by vectors found on the slide itself.

Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009:
the optical densities of stained pixels lie near a plane; the extreme directions in it are the two
stains.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

_LEAST_DENSITY = 0.15  # log10; weaker pixels say nothing of direction (Macenko's beta)
_EXTREME = 1.0  # percentile, of directions and of concentrations
_HAEMATOXYLIN = (0.65, 0.70, 0.29)  # Ruifrok & Johnston 2001, to tell the two found vectors apart
_DEFAULT = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
_GLASS = 240.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StainVectors:
    """How a slide's colours are taken apart.

    Parameters
    ----------
    glass
        Brightness of glass; darker is optical density.
    rows
        What turns optical densities (r, g, b) into amounts of eosin, of haematoxylin, and the
        mean density.
    low, high
        Amounts that become 0 and 1: the 1st and 99th percentile of the slide.
    """

    glass: float
    rows: Float64[np.ndarray, "3 3"]
    low: Float64[np.ndarray, "3"]
    high: Float64[np.ndarray, "3"]

    def concentrations(
        self, views: UInt8[np.ndarray, "n height width 3"]
    ) -> Float32[np.ndarray, "n height width 3"]:
        """Give eosin, haematoxylin and density, each from 0 to 1."""
        amounts = _densities(views, self.glass) @ self.rows.T.astype(np.float32)
        span = np.maximum(self.high - self.low, 1e-8)
        scaled = (amounts - self.low.astype(np.float32)) / span.astype(np.float32)
        return np.clip(scaled, 0, 1).astype(np.float32)


def estimate_stains(
    picture: UInt8[np.ndarray, "height width 3"],
    tissue: Bool[np.ndarray, "height width"] | None = None,
) -> StainVectors:
    """Find a slide's stain vectors and the range of their amounts.

    Parameters
    ----------
    picture
        The slide as a thumbnail.
    tissue
        True where tissue is; by default wherever light is absorbed.
    """
    glass = _glass_of(picture, tissue)
    density = _densities(picture, glass).reshape(-1, 3).astype(np.float64)
    stained = density if tissue is None else density[tissue.ravel()]
    haematoxylin, eosin = _two_directions(stained)
    basis = np.stack([haematoxylin, eosin, np.cross(haematoxylin, eosin)], axis=1)
    amounts = np.linalg.pinv(basis)
    rows = np.stack([amounts[1], amounts[0], np.full(3, 1 / 3)])
    found = density @ rows.T
    low, high = np.percentile(found, [_EXTREME, 100 - _EXTREME], axis=0)
    flat = high <= low + 1e-8
    low, high = np.where(flat, 0.0, low), np.where(flat, 1.0, high)
    return StainVectors(glass=glass, rows=rows, low=low, high=high)


def _two_directions(density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give unit vectors of haematoxylin and eosin."""
    if len(density) < 3:
        return _unit(_DEFAULT[0]), _unit(_DEFAULT[1])
    _, axes = np.linalg.eigh(density.T @ density)  # not centred: no stain is no density
    plane = axes[:, [2, 1]]  # the two of largest share
    if plane[:, 0].sum() < 0:
        plane[:, 0] *= -1
    places = density @ plane
    places = places[np.linalg.norm(places, axis=1) > _LEAST_DENSITY]
    if len(places) < 100:
        return _unit(_DEFAULT[0]), _unit(_DEFAULT[1])
    angles = np.arctan2(places[:, 1], places[:, 0])
    ends = np.percentile(angles, [_EXTREME, 100 - _EXTREME])
    found = [_unit(plane @ np.array([np.cos(a), np.sin(a)])) for a in ends]
    likeness = [abs(v @ _unit(np.array(_HAEMATOXYLIN))) for v in found]
    first = int(np.argmax(likeness))
    return found[first], found[1 - first]


def _unit(v: np.ndarray) -> np.ndarray:
    v = v / np.linalg.norm(v)
    return v if v.sum() >= 0 else -v


def _glass_of(picture: np.ndarray, tissue: np.ndarray | None) -> float:
    if tissue is None:
        return _GLASS
    glass = picture[~tissue & (picture < 255).any(axis=2)]
    return float(np.clip(glass.mean(), 200, 255)) if len(glass) >= 100 else _GLASS


def _densities(picture: np.ndarray, glass: float) -> Float32[np.ndarray, "..."]:
    seen = np.clip(picture.astype(np.float32), 1.0, glass)
    return -np.log10(seen / np.float32(glass))
