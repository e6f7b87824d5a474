"""Slides given to ``momkd predict``: cut and embedded as the predictor's card says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from momkd.data.layouts.material import SUFFIXES as FEATURE_SUFFIXES
from momkd.errors import ModelError, Problem
from momkd.serving.card import Card
from momkd.slides.formats import SLIDE_SUFFIXES
from momkd.workflows.console import say

if TYPE_CHECKING:
    from momkd.slides.reader import SlideRules

CPU_BATCH = 4
"""Tiles a step without an accelerator: 32 take the default encoder twice as long a tile."""

# a slide scanned coarser than this many times the view cannot show what the predictor looks for
_MAX_ENLARGEMENT = 2.0
_ENLARGEMENT_NOTED = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSlides:
    """Feature files of slides, what was left out, and what to tell of each slide.

    ``flags`` goes by slide id.
    """

    files: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    flags: dict[str, str] = field(default_factory=dict)


def part_inputs(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Part slides from feature files, by their names; a slide named twice is taken once.

    A folder counts as slides if it holds some and no feature file: feature folders hold pictures
    too.

    Returns
    -------
    tuple of list
        Slides, or folders of them; and everything else.
    """
    pixels: list[Path] = []
    others: list[Path] = []
    for path in dict.fromkeys(inputs):
        (pixels if _holds_slides(path) else others).append(path)
    if len(pixels) + len(others) < len(inputs):
        say(f"{len(inputs) - len(pixels) - len(others)} inputs are named twice, and scored once")
    return pixels, others


def embed_slides(
    pixels: Sequence[Path],
    folder: Path,
    cards: Sequence[Card],
    *,
    rules: "SlideRules | None",
    weights: Path | str | None,
    device: str,
) -> EmbeddedSlides:
    """Make feature files of slides, or find them made before from just these slides.

    Parameters
    ----------
    pixels
        Slides, or folders of them.
    folder
        Of the feature files and thumbnails.
    cards
        Of the predictors that will look at them: encoder, tile size and resolution.
    rules, weights, device
        As for ``momkd extract``.

    Raises
    ------
    ModelError
        P17 the cards do not say, or not with one voice, how slides are cut; E codes.
    DataError
        S codes, if no slide can be used.
    """
    from momkd.slides.tiling import TilingOptions
    from momkd.workflows.extract import extract

    encoder, tile_px, mpp = _one_view(cards)
    made = extract(
        pixels,
        folder,
        encoder=encoder,
        weights=weights,
        tiling=TilingOptions(tile_px=tile_px, mpp=mpp),
        rules=rules,
        device=device,
        batch_size=CPU_BATCH if device == "cpu" else 32,
        max_skip=1.0,
    )
    files: list[Path] = []
    problems: list[Problem] = list(made.problems)
    flags: dict[str, str] = {}
    for slide_id, path in made.files.items():
        enlarged = _scanned_mpp(path) / mpp
        if enlarged > _MAX_ENLARGEMENT:
            problems.append(_too_coarse(slide_id, enlarged * mpp, mpp))
            continue
        files.append(path)
        if enlarged > _ENLARGEMENT_NOTED:
            flags[slide_id] = f"scanned at {enlarged * mpp:g} um per px: views enlarged"
    return EmbeddedSlides(files=tuple(files), problems=tuple(problems), flags=flags)


def _holds_slides(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix.lower() in SLIDE_SUFFIXES
    names = [p.name.lower() for p in (path, *path.rglob("*"))]
    if any(name.endswith(FEATURE_SUFFIXES) for name in names):
        return False
    return any(name.endswith(SLIDE_SUFFIXES) for name in names)


def _one_view(cards: Sequence[Card]) -> tuple[str, int, float]:
    views = {(c.encoder, c.tile_px, c.mpp) for c in cards}
    (encoder, tile_px, mpp), *others = views
    if others or encoder is None or tile_px is None or mpp is None:
        missing = "name different ones" if others else "do not all state them"
        what = (
            f"needs encoder, tile size and mpp to cut slides, and the predictor's cards {missing}"
        )
        remedy = "give feature files, made as those it was trained on"
        raise ModelError.of("P17", "predictor", what, remedy)
    return encoder, tile_px, mpp


def _scanned_mpp(features: Path) -> float:
    with h5py.File(features, "r") as file:
        return float(file["coords"].attrs["mpp_level0"])


def _too_coarse(slide_id: str, scanned: float, mpp: float) -> Problem:
    return Problem(
        code="P03",
        where=f"slide {slide_id}",
        what=f"scanned at {scanned:g} um/px, the predictor looks at {mpp:g} um/px",
        remedy="scan it finer; or pass --mpp if the file states a wrong resolution",
    )
