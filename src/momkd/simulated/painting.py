"""A simulated slide as H&E-like pixels: what its tiles are, and what its case shows, drawn.

The label reaches the pixels only through the morphology m of the case's niche tiles. Whoever knows
m exactly therefore knows at least as much as any reader of the pixels (data processing).

    niche tile      small, dark, round nuclei lie among the tumour's: 15 nu of them at m = 0
    m_1             how many:                     x 4^(kappa/2 s(m_1))
    m_2             size of the tumour's nuclei:  x 1.25^(kappa s(m_2)),   s(v) = tanh(v / 1.5)
    z_4             eosin of tumour tiles:        + 0.1 delta s(z_4); not in the label
    site, slide     amounts of both stains and the blue of the haematoxylin

Optical densities of the two stains add up and become light by Beer and Lambert's law.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw
from pydantic import Field
from scipy.ndimage import gaussian_filter

from momkd.config import Options
from momkd.simulated.slides import SimulatedSlide
from momkd.simulated.world import TUMOUR, SimulationOptions

_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], dtype=np.float32)
_EOSIN = np.array([0.10, 0.82, 0.38], dtype=np.float32)
_GLASS = 0.012  # optical density of an empty slide
_NUCLEI_PER_NU = 15.0
_CORNERS = 12


@dataclass(frozen=True, slots=True)
class _Tissue:
    """Looks of a tile type: eosin, and its usual nuclei.

    ``nuclei`` are counted on a tile of 112 um, ``radius_um`` is a nucleus' own; ``long`` is length
    over width, ``dark`` its optical density, ``grain`` and ``fibres`` the texture of the eosin.
    """

    eosin: float
    nuclei: float
    radius_um: float
    long: float
    dark: float
    grain: float
    fibres: float


_TISSUES = (
    _Tissue(0.20, 34.0, 4.6, 1.25, 0.62, 0.05, 0.02),  # tumour
    _Tissue(0.34, 9.0, 3.4, 3.2, 0.70, 0.03, 0.10),  # stroma: fibres, spindle-shaped nuclei
    _Tissue(0.07, 3.0, 3.0, 2.6, 0.70, 0.02, 0.02),  # fat: vacuoles between thin walls
    _Tissue(0.30, 16.0, 1.6, 1.2, 0.50, 0.10, 0.02),  # necrosis: debris
    _Tissue(0.42, 12.0, 3.8, 1.6, 0.66, 0.03, 0.06),  # muscle-like
)
_FAT = 2
_REFERENCE_UM = 112.0
_LYMPHOCYTE = _Tissue(0.0, 0.0, 2.9, 1.08, 1.05, 0.0, 0.0)


class PaintingOptions(Options):
    """Scale of the picture.

    Parameters
    ----------
    tile_px
        Side of one tile of the simulated grid in pixels of the slide.
    mpp
        Micrometres per pixel of the slide.
    """

    tile_px: int = Field(64, ge=24, le=1024)
    mpp: float = Field(1.75, gt=0.1, le=4, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What a case, its site and this slide's staining do to the picture.

    Parameters
    ----------
    morphology
        m of the case.
    distractor
        z_4 of the case.
    haematoxylin, eosin
        Factors on the amounts of stain.
    blue
        Added to the haematoxylin's density in red, taken from that in blue.
    """

    morphology: Float64[np.ndarray, " 2"]
    distractor: float
    haematoxylin: float = 1.0
    eosin: float = 1.0
    blue: float = 0.0


def draw_looks(
    morphology: Float64[np.ndarray, " 2"],
    distractor: float,
    site: int,
    options: SimulationOptions,
    rng: np.random.Generator,
) -> Looks:
    """Give a slide's looks: its site's habits, the same in every cohort that has it, and its own.

    Parameters
    ----------
    morphology, distractor
        m and z_4 of the slide's case.
    site
        Number of its site in the world.
    options
        Strength of the stain and of the site's shift.
    rng
        Of this slide; moved on.
    """
    habit = np.random.default_rng([3, options.world, site]).standard_normal(3)
    own = rng.standard_normal(3)
    h, e, blue = 0.12 * options.site_shift * habit + 0.12 * options.stain * own
    return Looks(
        morphology=morphology,
        distractor=distractor,
        haematoxylin=float(np.exp(h)),
        eosin=float(np.exp(e)),
        blue=float(0.5 * blue),
    )


def paint_slide(
    slide: SimulatedSlide,
    looks: Looks,
    options: SimulationOptions,
    painting: PaintingOptions,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "side side 3"]:
    """Paint the whole slide, level 0.

    Parameters
    ----------
    slide
        Tile types and niche; its embeddings are not looked at.
    looks
        What case, site and staining add.
    options
        The world's strengths (nu, kappa, delta) and the side of the grid.
    painting
        Scale.
    rng
        Moved on; equal generators paint equal pixels.
    """
    side = options.grid_side * painting.tile_px
    kinds = _kinds(slide, options.grid_side)
    shape = _outline(kinds >= 0, painting.tile_px, rng)
    eosin = _eosin(slide, kinds, looks, options, painting, rng)
    nuclei = _nuclei(slide, looks, options, painting, rng)
    dark = _draw(nuclei, side)
    dark *= 1 + 0.12 * rng.standard_normal((side, side), dtype=np.float32)
    colour = _HAEMATOXYLIN + np.array([looks.blue, 0, -looks.blue], dtype=np.float32)
    density = (looks.haematoxylin * shape * dark)[..., None] * colour
    density += (looks.eosin * shape * eosin)[..., None] * _EOSIN
    light = np.power(10.0, -(density + _GLASS), dtype=np.float32)
    return np.clip(255 * light, 0, 255).astype(np.uint8)


def _squash(value: float) -> float:
    return float(np.tanh(value / 1.5))


def _kinds(slide: SimulatedSlide, grid_side: int) -> np.ndarray:
    """Give the tile type at every place of the grid; -1 is glass."""
    kinds = np.full((grid_side, grid_side), -1)
    x, y = slide.places.T
    kinds[y, x] = slide.tile_types
    return kinds


def _outline(
    tissue: np.ndarray, tile_px: int, rng: np.random.Generator
) -> Float32[np.ndarray, "side side"]:
    """Give 1 on tissue and 0 on glass: the tiles' edge, rounded and frayed."""
    field = _spread(tissue.astype(np.float32), tile_px, 0.22)
    field += 0.06 * _noise(field.shape, tile_px / 8, rng)
    return np.clip((field - 0.42) * 12, 0, 1)


def _eosin(
    slide: SimulatedSlide,
    kinds: np.ndarray,
    looks: Looks,
    options: SimulationOptions,
    painting: PaintingOptions,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "side side"]:
    tile_px = painting.tile_px

    def of_types(name: str) -> np.ndarray:
        values = np.array([*(getattr(t, name) for t in _TISSUES), 0.3 if name == "eosin" else 0.0])
        return values[kinds].astype(np.float32)  # glass is the last; the outline hides it

    amount = of_types("eosin")
    amount[kinds == TUMOUR] += 0.1 * options.delta * _squash(looks.distractor)
    base = _spread(amount, tile_px, 0.12)
    shape = base.shape
    angle = rng.uniform(0, np.pi)
    fibres = _along(shape, angle, 9.0 / painting.mpp, 1.2 / painting.mpp, rng)
    base += _spread(of_types("fibres"), tile_px, 0.12) * fibres
    base += _spread(of_types("grain"), tile_px, 0.12) * _noise(shape, 1.5 / painting.mpp, rng)
    _empty_vacuoles(base, slide, painting, rng)
    return np.clip(base, 0.02, None)


def _empty_vacuoles(
    base: np.ndarray, slide: SimulatedSlide, painting: PaintingOptions, rng: np.random.Generator
) -> None:
    canvas = Image.new("L", base.shape[::-1], 255)
    draw = ImageDraw.Draw(canvas)
    places = slide.places[slide.tile_types == _FAT]
    for corner in places * painting.tile_px:
        for x, y in corner + rng.uniform(0, painting.tile_px, (9, 2)):
            r = rng.uniform(12, 19) / painting.mpp
            draw.ellipse((x - r, y - r, x + r, y + r), fill=90)
    wall = gaussian_filter(np.asarray(canvas, dtype=np.float32), 1.0) / 255
    base *= wall


def _nuclei(
    slide: SimulatedSlide,
    looks: Looks,
    options: SimulationOptions,
    painting: PaintingOptions,
    rng: np.random.Generator,
) -> np.ndarray:
    """Give a row a nucleus: x, y, half length, half width (px), angle, optical density."""
    area = (painting.tile_px * painting.mpp / _REFERENCE_UM) ** 2
    m_1, m_2 = looks.morphology
    more = _NUCLEI_PER_NU * options.nu * 4 ** (options.kappa / 2 * _squash(m_1))
    larger = 1.25 ** (options.kappa * _squash(m_2))
    rows = []
    for place, kind, niche in zip(slide.places, slide.tile_types, slide.niche, strict=True):
        tissue = _TISSUES[kind]
        scale = larger if niche else 1.0
        rows.append(_scatter(place, tissue, tissue.nuclei * area, scale, painting, rng))
        if niche:
            rows.append(_scatter(place, _LYMPHOCYTE, more * area, 1.0, painting, rng))
    return np.concatenate(rows)


def _scatter(
    place: np.ndarray,
    tissue: _Tissue,
    expected: float,
    scale: float,
    painting: PaintingOptions,
    rng: np.random.Generator,
) -> np.ndarray:
    """Scatter nuclei over a tile, on a well shaken grid: evenly, and a little over its border."""
    n = int(rng.poisson(expected))
    cells = int(np.ceil(np.sqrt(max(1, n))))
    chosen = rng.permutation(cells * cells)[:n]
    spots = np.stack([chosen % cells, chosen // cells], axis=1) + rng.uniform(-0.4, 1.4, (n, 2))
    xy = (place + spots / cells) * painting.tile_px
    radius = scale * tissue.radius_um / painting.mpp * np.exp(0.15 * rng.standard_normal(n))
    stretch = np.sqrt(tissue.long * np.exp(0.1 * rng.standard_normal(n)))
    dark = tissue.dark * np.exp(0.15 * rng.standard_normal(n))
    angle = rng.uniform(0, np.pi, n)
    return np.column_stack([xy, radius * stretch, radius / stretch, angle, dark])


def _draw(nuclei: np.ndarray, side: int) -> Float32[np.ndarray, "side side"]:
    x, y, a, b, angle, dark = nuclei.T[..., None]
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    u, v = a * np.cos(turn), b * np.sin(turn)
    corners = np.stack(
        [x + u * np.cos(angle) - v * np.sin(angle), y + u * np.sin(angle) + v * np.cos(angle)],
        axis=-1,
    ).reshape(len(nuclei), -1)
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    fills = np.clip(128 * dark[:, 0], 0, 255).astype(int)
    for outline, fill in zip(corners.tolist(), fills.tolist(), strict=True):
        draw.polygon(outline, fill=fill)
    return gaussian_filter(np.asarray(canvas, dtype=np.float32) / 128, 0.6)


def _spread(tiles: np.ndarray, tile_px: int, softness: float) -> Float32[np.ndarray, "side side"]:
    """Enlarge values of tiles to pixels, with soft borders (in tile sides)."""
    # a blur of a piecewise constant picture: a few pixels a tile say all of it
    coarse = 8
    small = np.kron(tiles.astype(np.float32), np.ones((coarse, coarse), dtype=np.float32))
    small = gaussian_filter(small, softness * coarse, mode="nearest")
    size = (tiles.shape[1] * tile_px, tiles.shape[0] * tile_px)
    return np.array(Image.fromarray(small).resize(size, Image.Resampling.BILINEAR))


def _noise(
    shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator
) -> Float32[np.ndarray, "side side"]:
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_px)
    return field / max(float(field.std()), 1e-6)


def _along(
    shape: tuple[int, ...], angle: float, long_px: float, wide_px: float, rng: np.random.Generator
) -> Float32[np.ndarray, "side side"]:
    """Give noise stretched along a direction, by a Gaussian filter on its spectrum."""
    white = rng.standard_normal(shape, dtype=np.float32)
    v = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    u = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    p, q = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    keep = np.exp(-2 * np.pi**2 * ((p * long_px) ** 2 + (q * wide_px) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(white) * keep, s=shape).astype(np.float32)
    return field / max(float(field.std()), 1e-6)
