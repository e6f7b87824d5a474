"""Simulated cohorts follow their law, their ceilings are exact, and their files are TRIDENT's."""

import gzip
import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from momkd.config import parse_options
from momkd.errors import ConfigError, MachineError
from momkd.simulated.ceilings import (
    best_auroc,
    closed_ceilings,
    explained_variance,
    liability_threshold,
    slide_probability,
)
from momkd.simulated.foci import focus_probability
from momkd.simulation import (
    SCENARIOS,
    SimulatedCohort,
    SimulationOptions,
    simulate,
    slide_auroc,
    slide_probabilities,
    write_cohort,
)

# few tiles, a coarse grid of m
CHEAP = {"grid_side": 8, "rho": 0.25, "nu": 0.7, "kappa": 0.8}
SMALL = {"n_cases": 60, "n_genes": 40, "n_sites": 5, "dim": 24}


def small(**changes: object) -> SimulatedCohort:
    return simulate(SimulationOptions(**{**SMALL, **changes}))


def slide_labels(cohort: SimulatedCohort) -> np.ndarray:
    return cohort.true_labels[[slide.case for slide in cohort.slides]]


def tumour_tiles(cohort: SimulatedCohort, slide: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Give n tumour tiles of a slide and their niche mask."""
    drawn = cohort.slides[slide]
    place = np.flatnonzero(drawn.tile_types == 0)[:n]
    return drawn.embeddings[place], drawn.niche[place]


# --- the closed-form ceilings ---------------------------------------------------------------


def draw_cases(options: SimulationOptions, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Draw cases by the law as the specification writes it, independently of ``simulate``."""
    rng = np.random.default_rng(seed)
    a = np.array(options.a)
    z = rng.standard_normal((n, 6))
    u = z @ a + options.sigma_y * rng.standard_normal(n)
    g = rng.standard_normal(n)
    u += options.gamma * g
    positive = u > np.quantile(u, 1 - options.prevalence)
    recorded = positive ^ (rng.random(n) < options.eta)
    return z, recorded, rng.standard_normal((n, 2)), rng.standard_normal((n, 6)), g


@pytest.mark.parametrize("scenario", ["default", "rna-only", "noisy-labels", "site-shortcut"])
def test_closed_ceilings_agree_with_monte_carlo(scenario):
    options = SimulationOptions(**SCENARIOS[scenario])
    n = 100_000
    z, recorded, noise_m, noise_r, _ = draw_cases(options, n, seed=3)
    a = np.array(options.a)
    m = z[:, :2] + options.sigma_m * noise_m
    r = z + options.sigma_r * noise_r
    precision_m, precision_r = options.sigma_m**-2, options.sigma_r**-2
    both = r * precision_r / (1 + precision_r)
    both[:, :2] = (m * precision_m + r[:, :2] * precision_r) / (1 + precision_m + precision_r)
    scores = {
        "latents": z @ a,
        "rna": r @ a,
        "morphology": m @ a[:2],
        "morphology_and_rna": both @ a,
    }
    # the SE of an AUROC on 100,000 cases is below 0.0016
    expected = {name: roc_auc_score(recorded, score) for name, score in scores.items()}
    assert closed_ceilings(options) == pytest.approx(expected, abs=0.006)


def test_a_known_site_adds_its_leaning_to_a_ceiling():
    options = SimulationOptions(**SCENARIOS["site-shortcut"])
    z, recorded, noise_m, _, g = draw_cases(options, 100_000, seed=4)
    m = z[:, :2] + options.sigma_m * noise_m
    score = m @ np.array(options.a[:2]) / (1 + options.sigma_m**2) + options.gamma * g
    expected = best_auroc(explained_variance(options, ["morphology", "site"]), options)
    assert roc_auc_score(recorded, score) == pytest.approx(expected, abs=0.006)
    assert expected > closed_ceilings(options)["morphology"] + 0.05


def test_closed_ceilings_of_the_default_scenario():
    got = closed_ceilings(SimulationOptions())
    assert got["morphology"] == pytest.approx(0.8611, abs=1e-4)
    assert got["rna"] == pytest.approx(0.9236, abs=1e-4)


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"null"}))
def test_more_knowledge_never_lowers_a_ceiling(scenario):
    got = closed_ceilings(SimulationOptions(**SCENARIOS[scenario]))
    assert 0.5 < got["morphology"] < got["morphology_and_rna"] < got["latents"] < 1
    assert got["rna"] < got["morphology_and_rna"]


def test_a_label_without_biology_has_no_ceiling_above_chance():
    assert set(closed_ceilings(SimulationOptions(**SCENARIOS["null"])).values()) == {0.5}


def test_a_label_almost_without_noise_is_almost_known():
    options = SimulationOptions(sigma_y=1e-4, eta=0.0)
    assert best_auroc(explained_variance(options, ["latents"]), options) > 0.9999


# --- the posterior of a slide ---------------------------------------------------------------


def probability_given_niche(tiles: np.ndarray, cohort: SimulatedCohort) -> float:
    """Give P(positive) where all ``tiles`` are niche: conjugate, so closed."""
    options, world = cohort.options, cohort.world
    prior = 1 + options.sigma_m**2
    precision = 1 / prior + len(tiles) * options.kappa**2
    mean = options.kappa * (tiles @ world.morphology.T).sum(0) / precision
    weights = np.array(options.a[:2]) / prior
    rest = options.variance - np.square(options.a[:2]).sum() / prior
    spread = np.sqrt(rest + np.square(weights).sum() / precision)
    return float(ndtr((weights @ mean - liability_threshold(options)) / spread))


def test_with_the_niche_known_the_posterior_is_the_conjugate_one():
    cohort = small(rho=0.3)
    for slide in range(5):
        tiles, niche = tumour_tiles(cohort, slide, 12)
        got = slide_probability(
            tiles, np.ones(len(tiles), dtype=bool), cohort.world, cohort.options, niche=niche
        )
        expected = probability_given_niche(tiles[niche].astype(np.float64), cohort)
        assert got == pytest.approx(expected, abs=1e-5)


def test_the_posterior_equals_the_sum_over_all_niches():
    cohort = small(rho=0.3, nu=1.0)
    options, world = cohort.options, cohort.world
    tiles, _ = tumour_tiles(cohort, 0, 5)
    tiles = tiles.astype(np.float64)
    q0, q = tiles @ world.niche, tiles @ world.morphology.T
    prior = 1 + options.sigma_m**2
    weights, probabilities = [], []
    for chosen in itertools.product([False, True], repeat=len(tiles)):
        niche = np.array(chosen)
        n_niche = niche.sum()
        precision = 1 / prior + n_niche * options.kappa**2
        # evidence of this niche: the prior of m integrates out as a Gaussian
        log_weight = (
            n_niche * np.log(options.rho)
            + (len(tiles) - n_niche) * np.log(1 - options.rho)
            + (options.nu * q0[niche] - options.nu**2 / 2).sum()
            + options.kappa**2 * np.square(q[niche].sum(0)).sum() / (2 * precision)
            - np.log(prior * precision)
        )
        weights.append(np.exp(log_weight))
        probabilities.append(probability_given_niche(tiles[niche], cohort))
    expected = np.average(probabilities, weights=weights)
    got = slide_probability(tiles.astype(np.float32), np.ones(5, dtype=bool), world, options)
    assert got == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("change", [{}, {"rho": 0.4}, {"kappa": 3.0}, {"sigma_m": 2.0}])
def test_a_finer_grid_changes_nothing(change):
    cohort = small(**change)
    for slide in cohort.slides[:8]:
        chosen, fine = (
            slide_probability(
                slide.embeddings, slide.tile_types == 0, cohort.world, cohort.options, n_points=n
            )
            for n in (None, 201)
        )
        assert chosen == pytest.approx(fine, abs=2e-5)


def test_a_slide_without_tumour_says_nothing():
    cohort = small()
    nowhere = np.zeros(154, dtype=bool)
    got = slide_probability(cohort.slides[0].embeddings, nowhere, cohort.world, cohort.options)
    assert got == pytest.approx(cohort.options.prevalence, abs=1e-5)


def test_nuisance_does_not_move_the_posterior():
    quiet = slide_probabilities(small())
    loud = slide_probabilities(small(delta=3.0, stain=2.0, site_shift=3.0))
    np.testing.assert_allclose(loud, quiet, atol=1e-4)


def calibration(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give slope and intercept of the free recalibration, and their standard errors."""
    x = np.log(probability / (1 - probability))
    fit = LogisticRegression(C=np.inf).fit(x[:, None], label)
    p = fit.predict_proba(x[:, None])[:, 1]
    design = np.stack([x, np.ones_like(x)])
    covariance = np.linalg.inv((design * p * (1 - p)) @ design.T)
    return np.array([fit.coef_[0, 0], fit.intercept_[0]]), np.sqrt(np.diag(covariance))


def require_calibrated(probability: np.ndarray, label: np.ndarray) -> None:
    (slope, intercept), (se_slope, se_intercept) = calibration(probability, label)
    assert abs(slope - 1) < 3 * se_slope
    assert abs(intercept) < 3 * se_intercept
    expected = np.sqrt((probability * (1 - probability)).sum())
    assert abs(probability.sum() - label.sum()) < 3 * expected


def check_posterior(n_cases: int) -> None:
    cohort = simulate(SimulationOptions(n_cases=n_cases, n_genes=20, two_slides=0.0, dim=24))
    probability, label = slide_probabilities(cohort), slide_labels(cohort)
    require_calibrated(probability, label)
    # wide enough a test to see 0.1 in either, where there are many slides
    assert (calibration(probability, label)[1] < 4 / np.sqrt(n_cases)).all()
    # on the same slides: unknown niche, known niche, known morphology
    oracle = slide_probabilities(cohort, niche_known=True)
    known = cohort.morphology @ np.array(cohort.options.a[:2])
    observed = [slide_auroc(cohort, score) for score in (probability, oracle, known)]
    assert observed == sorted(observed)
    assert 0.75 < observed[0] < observed[2] < 0.91


def test_the_posterior_is_calibrated_and_in_order():
    check_posterior(800)


def test_calibration_is_seen_to_fail_where_the_posterior_is_bent():
    cohort = small(n_cases=400, two_slides=0.0, **CHEAP)
    probability, label = slide_probabilities(cohort), slide_labels(cohort)
    require_calibrated(probability, label)
    odds = np.log(probability / (1 - probability))
    for bent in (2 * odds, odds + 1):
        with pytest.raises(AssertionError):
            require_calibrated(1 / (1 + np.exp(-bent)), label)


@pytest.mark.slow
def test_the_posterior_is_calibrated_on_many_slides():
    check_posterior(12_000)


# --- foci -----------------------------------------------------------------------------------


def test_the_posterior_of_a_focus_equals_the_sum_over_all_foci():
    cohort = small(rho=0.4, nu=1.0, foci=True)
    options = cohort.options
    tiles, _ = tumour_tiles(cohort, 0, 5)
    # on a line, unevenly: the nearest tiles of each centre are known by eye
    places = np.array([[0, 0], [1, 0], [3, 0], [6, 0], [10, 0]])
    nearest = [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [2, 1, 0, 3, 4], [3, 2, 4, 1, 0], [4, 3, 2, 1, 0]]
    q0 = tiles.astype(np.float64) @ cohort.world.niche
    q = tiles.astype(np.float64) @ cohort.world.morphology.T
    prior = 1 + options.sigma_m**2
    weights, probabilities = [], []
    for order, size in itertools.product(nearest, range(6)):
        niche = np.isin(np.arange(5), order[:size])
        precision = 1 / prior + size * options.kappa**2
        log_weight = (
            binom.logpmf(size, 5, options.rho)
            + (options.nu * q0[niche] - options.nu**2 / 2).sum()
            + options.kappa**2 * np.square(q[niche].sum(0)).sum() / (2 * precision)
            - np.log(prior * precision)
        )
        weights.append(np.exp(log_weight))
        probabilities.append(probability_given_niche(tiles[niche].astype(np.float64), cohort))
    expected = np.average(probabilities, weights=weights)
    got = focus_probability(tiles, np.ones(5, dtype=bool), places, cohort.world, options)
    assert got == pytest.approx(expected, abs=1e-5)


def test_a_slide_without_tumour_has_no_focus():
    cohort = small(foci=True)
    slide, nowhere = cohort.slides[0], np.zeros(154, dtype=bool)
    got = focus_probability(slide.embeddings, nowhere, slide.places, cohort.world, cohort.options)
    assert got == pytest.approx(cohort.options.prevalence, abs=1e-5)


def check_foci(n_cases: int, **changes: object) -> None:
    """The exact ceiling lies in its bracket: niche tiles independent, and niche seen."""
    cohort = small(n_cases=n_cases, two_slides=0.0, foci=True, **changes)
    label = slide_labels(cohort)
    low, exact, high = (
        slide_probabilities(cohort),
        slide_probabilities(cohort, focus_known=True),
        slide_probabilities(cohort, niche_known=True),
    )
    require_calibrated(exact, label)
    require_calibrated(high, label)
    loss = [-np.log(np.where(label, p, 1 - p)).mean() for p in (low, exact, high)]
    assert loss == sorted(loss, reverse=True)
    areas = [slide_auroc(cohort, p) for p in (low, exact, high)]
    assert areas == sorted(areas)


def test_the_ceiling_of_foci_lies_in_its_bracket():
    check_foci(500, **CHEAP)


@pytest.mark.slow
def test_the_ceiling_of_foci_lies_in_its_bracket_on_many_slides():
    check_foci(2_000)


def test_where_the_niche_is_anywhere_the_focus_is_no_posterior():
    cohort = small(n_cases=300, two_slides=0.0, **CHEAP)
    label = slide_labels(cohort)
    right, wrong = slide_probabilities(cohort), slide_probabilities(cohort, focus_known=True)
    loss = [-np.log(np.where(label, p, 1 - p)).mean() for p in (right, wrong)]
    assert loss[0] < loss[1]


def test_the_site_helps_only_as_a_shortcut():
    shortcut = small(n_cases=300, two_slides=0.0, **SCENARIOS["site-shortcut"])
    biology = slide_auroc(shortcut, slide_probabilities(shortcut))
    with_site = slide_auroc(shortcut, slide_probabilities(shortcut, site_known=True))
    assert with_site > biology + 0.01
    plain = small()
    np.testing.assert_array_equal(
        slide_probabilities(plain), slide_probabilities(plain, site_known=True)
    )


def test_one_class_has_no_auroc():
    cohort = small(prevalence=1e-9, eta=0.0)
    assert np.isnan(slide_auroc(cohort, slide_probabilities(cohort)))


# --- the cohort -----------------------------------------------------------------------------


def test_equal_options_give_equal_bits_and_another_seed_does_not():
    one, same, other = small(seed=4), small(seed=4), small(seed=5)
    np.testing.assert_array_equal(one.rna, same.rna)
    np.testing.assert_array_equal(one.labels, same.labels)
    for a, b in zip(one.slides, same.slides, strict=True):
        np.testing.assert_array_equal(a.embeddings, b.embeddings)
    assert not np.array_equal(one.programmes, other.programmes)
    np.testing.assert_array_equal(one.world.morphology, other.world.morphology)
    np.testing.assert_array_equal(one.world.site_genes, other.world.site_genes)
    assert not set(one.case_ids) & set(other.case_ids)


def test_the_genes_do_not_move_the_slides():
    few, many = small(n_genes=20), small(n_genes=80)
    np.testing.assert_array_equal(few.slides[3].embeddings, many.slides[3].embeddings)


def test_all_directions_are_orthonormal():
    world = small().world
    rows = [world.morphology, world.niche[None], world.distractor[None], world.stain]
    stack = np.concatenate([*rows, world.tile_types / 4])
    np.testing.assert_allclose(stack @ stack.T, np.eye(len(stack)), atol=1e-12)
    np.testing.assert_allclose(world.site_embeddings @ stack.T, 0, atol=1e-12)


def test_sites_are_shared_or_not_by_their_numbers():
    home, overlap, away = (small(first_site=n).world for n in (0, 3, 100))
    np.testing.assert_allclose(overlap.site_embeddings[0], home.site_embeddings[3])
    assert not np.isin(away.site_leaning, home.site_leaning).any()
    np.testing.assert_array_equal(away.loadings, home.loadings)


def test_prevalence_and_flips_are_as_asked():
    cohort = simulate(
        SimulationOptions(n_cases=5000, n_genes=20, prevalence=0.28, eta=0.15, without_slide=0.9)
    )
    assert cohort.true_labels.mean() == pytest.approx(0.28, abs=0.025)
    assert (cohort.labels != cohort.true_labels).mean() == pytest.approx(0.15, abs=0.02)


def test_embeddings_hold_the_case_s_morphology_in_the_niche_only():
    cohort = small(n_cases=300)
    axes = np.vstack([cohort.world.niche, cohort.world.morphology])
    inside, outside = [], []
    for slide in cohort.slides:
        component = slide.embeddings @ axes.T
        m = cohort.morphology[slide.case]
        inside.append(component[slide.niche] - [2.0, *(1.5 * m)])
        outside.append(component[~slide.niche])
    for residual in (np.concatenate(inside), np.concatenate(outside)):
        np.testing.assert_allclose(residual.mean(0), 0, atol=4 / np.sqrt(len(residual)))
        np.testing.assert_allclose(residual.std(0), 1, atol=4 / np.sqrt(len(residual)))


def test_slides_are_tissue_on_a_grid_in_raster_order():
    for slide in small().slides[:10]:
        places, rest = np.divmod(slide.coords_px0, 512)
        assert not rest.any()
        assert places.min() >= 0
        assert places.max() < 16
        raster = places[:, 1] * 16 + places[:, 0]
        assert (np.diff(raster) > 0).all()
        assert len(raster) == 154
        assert not slide.niche[slide.tile_types != 0].any()


def test_tile_types_are_contiguous():
    alike, by_chance = [], []
    for slide in small().slides:
        kind = {tuple(p): t for p, t in zip(slide.coords_px0, slide.tile_types, strict=True)}
        beside = [(t, kind.get((x + 512, y))) for (x, y), t in kind.items()]
        alike += [t == u for t, u in beside if u is not None]
        by_chance.append(np.square(np.bincount(slide.tile_types) / len(kind)).sum())
    assert np.mean(alike) > np.mean(by_chance) + 0.2


def test_foci_lie_together_and_are_as_large():
    def mean_distance(cohort: SimulatedCohort) -> float:
        spots = [s.coords_px0[s.niche] for s in cohort.slides if s.niche.sum() >= 2]
        return float(np.mean([np.linalg.norm(p[:, None] - p[None], axis=-1).mean() for p in spots]))

    spread, together = small(), small(foci=True)
    assert mean_distance(together) < 0.6 * mean_distance(spread)
    share = np.concatenate([s.niche[s.tile_types == 0] for s in together.slides]).mean()
    assert share == pytest.approx(0.08, abs=0.02)


def test_gaps_have_the_shares_asked_for_and_leave_no_case_empty():
    cohort = small(n_cases=100, two_slides=0.06, without_slide=0.3, without_rna=0.7, equivocal=0.05)
    n_slides = np.bincount([s.case for s in cohort.slides], minlength=100)
    assert np.bincount(n_slides).tolist() == [30, 64, 6]
    assert (~cohort.has_rna).sum() == 70
    assert cohort.has_rna[n_slides == 0].all()
    assert cohort.equivocal.sum() == 5


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_a_set_of_known_options(name):
    options = parse_options(SimulationOptions, {**SMALL, **SCENARIOS[name]}, name)
    assert np.isfinite(simulate(options).rna).all()


@pytest.mark.parametrize(
    "change", [{"dim": 20}, {"eta": 0.5}, {"prevalence": 0}, {"a": [1.0]}, {"colour": 1}]
)
def test_options_that_make_no_cohort_are_refused(change):
    with pytest.raises(ConfigError) as refusal:
        parse_options(SimulationOptions, change, "simulation")
    assert next(iter(change)) in str(refusal.value)


def test_more_slides_than_cases_with_slides_are_refused():
    with pytest.raises(ConfigError, match="G04"):
        parse_options(SimulationOptions, {"two_slides": 0.6, "without_slide": 0.5}, "simulation")


# --- the files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[SimulatedCohort, Path]:
    cohort = small(two_slides=0.1, without_slide=0.1, without_rna=0.2, equivocal=0.05)
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(cohort, folder)
    return cohort, folder


def test_feature_files_are_trident_s(written):
    cohort, folder = written
    assert {p.stem for p in (folder / "features").iterdir()} == {s.slide_id for s in cohort.slides}
    slide = cohort.slides[7]
    with h5py.File(folder / "features" / f"{slide.slide_id}.h5") as file:
        features, coords = file["features"], file["coords"]
        np.testing.assert_array_equal(features[:], slide.embeddings)
        np.testing.assert_array_equal(coords[:], slide.coords_px0)
        assert (features.dtype, coords.dtype) == (np.float32, np.int64)
        assert (features.chunks, features.maxshape) == ((1, 24), (None, 24))
        assert features.attrs["encoder"] == "simulated-24"
        assert dict(coords.attrs) == {
            "patch_size": 256,
            "patch_size_level0": 512,
            "level0_magnification": 40,
            "target_magnification": 20,
            "overlap": 0,
            "level0_width": 8192,
            "level0_height": 8192,
            "name": slide.slide_id,
        }


def test_the_clinical_table_has_a_row_a_slide(written):
    cohort, folder = written
    table = pd.read_csv(folder / "clinical.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["case_id", "slide_id", "site", "biomarker"]
    assert set(table["case_id"]) == set(cohort.case_ids)
    assert sorted(s for s in table["slide_id"] if s) == sorted(s.slide_id for s in cohort.slides)
    assert (table["slide_id"] == "").sum() == 6
    assert (table.groupby("case_id")["biomarker"].nunique() == 1).all()
    assert (table.groupby("case_id")["site"].nunique() == 1).all()
    by_case = table.drop_duplicates("case_id").set_index("case_id")["biomarker"]
    words = np.where(cohort.labels, "positive", "negative")
    expected = np.where(cohort.equivocal, "equivocal", words)
    assert by_case.loc[list(cohort.case_ids)].tolist() == expected.tolist()
    assert (expected == "equivocal").sum() == 3


def test_the_rna_table_holds_the_cases_that_have_rna(written):
    cohort, folder = written
    table = pd.read_csv(folder / "rna.csv.gz", index_col="case_id")
    measured = [c for c, has in zip(cohort.case_ids, cohort.has_rna, strict=True) if has]
    assert table.index.tolist() == measured
    assert len(measured) == 48
    assert tuple(table.columns) == cohort.genes
    expected = np.maximum(cohort.rna[cohort.has_rna], 0)
    np.testing.assert_allclose(table.to_numpy(), expected, atol=1e-4)
    assert table.to_numpy().max() < 25  # log2 expression of a real table


def test_the_truth_lies_beside_the_files(written):
    cohort, folder = written
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["options"]["seed"] == 0
    probability = slide_probabilities(cohort)
    assert truth["ceilings"]["histology_on_these_slides"] == slide_auroc(cohort, probability)
    assert truth["ceilings"]["rna"] == closed_ceilings(cohort.options)["rna"]
    for place, slide in enumerate(cohort.slides):
        entry = truth["slides"][slide.slide_id]
        assert entry["bayes_probability"] == probability[place]
        assert entry["niche_tiles"] == np.flatnonzero(slide.niche).tolist()
        case = truth["cases"][entry["case_id"]]
        assert case["true_label"] == cohort.true_labels[slide.case]
        assert case["morphology"] == cohort.morphology[slide.case].tolist()


def test_the_same_cohort_is_written_in_the_same_bytes(written, tmp_path):
    cohort, folder = written
    write_cohort(cohort, tmp_path)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) == len(cohort.slides) + 3
    for path in files:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes()
    assert gzip.decompress((folder / "rna.csv.gz").read_bytes()).startswith(b"case_id,GENE00001")


def test_a_folder_that_cannot_be_made_is_refused(written, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(MachineError, match="X10"):
        write_cohort(written[0], blocker)
