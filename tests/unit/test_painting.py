"""Painted slides show what the world holds, and nothing of the label but through the morphology."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from momkd.errors import MachineError
from momkd.simulated.ceilings import closed_ceilings, known_probability
from momkd.simulated.files import encode_picture
from momkd.simulated.painting import Looks, draw_looks, paint_slide
from momkd.simulated.pyramid import encode_pyramid
from momkd.simulation import (
    PaintingOptions,
    SimulatedCohort,
    SimulationOptions,
    simulate,
    write_slide_cohort,
)
from momkd.slides.opening import open_slide
from momkd.slides.tiling import TilingOptions, lay_tiles
from momkd.slides.tissue import find_tissue

WORLD = {"n_cases": 8, "n_genes": 20, "dim": 24, "n_sites": 3, "grid_side": 8, "two_slides": 0.0}
STRONG = {"rho": 0.3, "nu": 3.0, "kappa": 2.0}
PAINTING = PaintingOptions(tile_px=48, mpp=2.0)


def cohort_of(**changes: object) -> SimulatedCohort:
    return simulate(SimulationOptions(**{**WORLD, **STRONG, **changes}))


def paint(cohort: SimulatedCohort, place: int, morphology: list[float]) -> np.ndarray:
    looks = Looks(morphology=np.array(morphology), distractor=0.0)
    rng = np.random.default_rng(5)
    return paint_slide(cohort.slides[place], looks, cohort.options, PAINTING, rng)


def darkness(picture: np.ndarray, cohort: SimulatedCohort, place: int) -> np.ndarray:
    """Give the share of dark pixels of every tile."""
    side = PAINTING.tile_px
    dark = picture.max(axis=2) < 150
    corners = (cohort.slides[place].places * side).tolist()
    return np.array([dark[y : y + side, x : x + side].mean() for x, y in corners])


def test_equal_cohorts_are_painted_alike_and_others_are_not() -> None:
    one, same, other = cohort_of(), cohort_of(n_genes=40), cohort_of(seed=1)
    assert encode_picture(one, 2, PAINTING) == encode_picture(same, 2, PAINTING)
    assert encode_picture(one, 2, PAINTING) != encode_picture(one, 3, PAINTING)
    assert encode_picture(one, 2, PAINTING) != encode_picture(other, 2, PAINTING)


def test_the_niche_is_darker_than_the_tumour_around_it() -> None:
    cohort = cohort_of(n_cases=12)
    seen = 0
    for place, slide in enumerate(cohort.slides):
        rest = (slide.tile_types == 0) & ~slide.niche
        if not slide.niche.any() or not rest.any():
            continue
        share = darkness(paint(cohort, place, [0.0, 0.0]), cohort, place)
        assert share[slide.niche].min() > share[rest].mean()
        seen += 1
    assert seen >= 6


@pytest.mark.parametrize("axis", [0, 1])
def test_the_morphology_shows_in_the_niche_only(axis: int) -> None:
    cohort = cohort_of()
    place = int(np.argmax([s.niche.sum() for s in cohort.slides]))
    niche = cohort.slides[place].niche
    low, high = [0.0, 0.0], [0.0, 0.0]
    low[axis], high[axis] = -1.5, 1.5
    shares = [darkness(paint(cohort, place, m), cohort, place) for m in (low, high)]
    assert shares[1][niche].mean() > 1.2 * shares[0][niche].mean()
    np.testing.assert_allclose(shares[1][~niche].mean(), shares[0][~niche].mean(), rtol=0.15)


def test_without_kappa_the_morphology_is_not_painted() -> None:
    cohort = cohort_of(kappa=0.0)
    np.testing.assert_array_equal(paint(cohort, 0, [-2.0, 2.0]), paint(cohort, 0, [2.0, -2.0]))


def test_the_label_reaches_the_pixels_through_the_morphology_only() -> None:
    cohort = cohort_of()
    hidden = dataclasses.replace(
        cohort, labels=~cohort.labels, true_labels=~cohort.true_labels, rna=-cohort.rna
    )
    assert encode_picture(cohort, 1, PAINTING) == encode_picture(hidden, 1, PAINTING)
    moved = dataclasses.replace(cohort, morphology=cohort.morphology + 1)
    place = int(np.argmax([s.niche.sum() for s in cohort.slides]))
    assert encode_picture(cohort, place, PAINTING) != encode_picture(moved, place, PAINTING)


def test_a_site_stains_alike_in_every_cohort() -> None:
    options = SimulationOptions(**WORLD | {"stain": 0.0})

    def draw(site: int, seed: int) -> Looks:
        return draw_looks(np.zeros(2), 0.0, site, options, np.random.default_rng(seed))

    assert draw(4, 0).eosin == draw(4, 1).eosin
    assert draw(4, 0).eosin != draw(5, 0).eosin


def test_whoever_knows_more_scores_as_the_ceilings_say() -> None:
    cohort = simulate(
        SimulationOptions(n_cases=6000, n_genes=20, dim=24, grid_side=3, without_slide=0.94)
    )
    closed = closed_ceilings(cohort.options)
    for known, morphology in (("morphology", cohort.morphology), ("latents", None)):
        p = known_probability(cohort.programmes, morphology, cohort.options)
        assert roc_auc_score(cohort.labels, p) == pytest.approx(closed[known], abs=0.02)
        assert p.mean() == pytest.approx(cohort.true_labels.mean(), abs=0.02)


def test_a_picture_is_a_pyramid_with_its_resolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (5, 7, 3)), np.ones((100, 100, 1))).astype(np.uint8)
    path = tmp_path / "p.tif"
    path.write_bytes(encode_pyramid(picture, 1.75))
    with open_slide(path) as slide:
        assert (slide.width_px0, slide.height_px0) == (700, 500)
        assert slide.mpp == pytest.approx(1.75, rel=1e-4)
        np.testing.assert_allclose(slide.downsamples, [1, 2, 4], rtol=0.02)
        view = slide.read_view(0, 0, 700, 700)[:500]
    assert np.abs(view.astype(int) - picture).mean() < 4


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(MachineError, match="E01"):
        encode_pyramid(np.zeros((8, 8, 3), np.uint8), 1.0)


def test_the_truth_of_painted_slides_names_places_on_them(tmp_path: Path) -> None:
    cohort = cohort_of(n_cases=3, rho=0.6)
    painting = PaintingOptions(tile_px=48, mpp=1.75)  # 5714.28... px per cm: no short fraction
    write_slide_cohort(cohort, tmp_path, painting)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert "histology_on_these_slides" not in truth["ceilings"]
    assert truth["tile_px0"] == painting.tile_px
    cut = TilingOptions(tile_px=painting.tile_px, mpp=painting.mpp)
    reach = 0
    for name, facts in truth["slides"].items():
        assert "bayes_probability" not in facts
        with open_slide(tmp_path / "slides" / f"{name}.tif") as slide:
            um = slide.mpp * slide.width_px0 / slide.thumbnail().shape[1]
            grid = lay_tiles(slide, find_tissue(slide.thumbnail(), um), cut)
        laid = {tuple(c) for c in grid.coords_px0.tolist()}
        assert {tuple(c) for c in facts["niche_px0"]} <= laid
        reach = max(reach, grid.coords_px0.max())
    assert reach == 7 * painting.tile_px, "the last row or column is missing"
