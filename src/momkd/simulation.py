"""Cohorts with known truth: slides, RNA and labels drawn from one generative law.

    z ~ N(0, I_6)                                   molecular programmes of a case
    u = a'z + gamma g_site + sigma_y e              liability; positive where u > t
    m = z_1:2 + sigma_m e                           what morphology shows
    RNA = mu + W'(z + sigma_r e) + b_site + e       log scale
    x_j = type_j + niche_j (nu n + kappa A m) + tumour_j delta z_4 d + site + stain + e

Figures of merit on simulated cases say nothing of real ones, and belong in no table with them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from momkd import storage
from momkd.simulated.ceilings import liability_threshold, slide_probability
from momkd.simulated.cohort import SimulatedCohort
from momkd.simulated.files import (
    clinical_csv,
    describe_truth,
    encode_features,
    encode_picture,
    rna_csv_gz,
)
from momkd.simulated.foci import focus_probability
from momkd.simulated.painting import PaintingOptions
from momkd.simulated.records import AS_THEY_COME, RecordOptions, name_by_barcodes
from momkd.simulated.rna import draw_rna
from momkd.simulated.slides import TILE_PX0, SimulatedSlide, draw_slide
from momkd.simulated.truth_scores import (
    NicheScore,
    RepresentationScore,
    score_niche,
    score_representation,
)
from momkd.simulated.world import (
    N_PROGRAMMES,
    SCENARIOS,
    TUMOUR,
    SimulationOptions,
    make_world,
)

__all__ = [
    "AS_THEY_COME",
    "SCENARIOS",
    "NicheScore",
    "PaintingOptions",
    "RecordOptions",
    "RepresentationScore",
    "SimulatedCohort",
    "SimulatedSlide",
    "SimulationOptions",
    "score_niche",
    "score_representation",
    "simulate",
    "slide_auroc",
    "slide_probabilities",
    "write_cohort",
    "write_slide_cohort",
]

_DIGITS = 10  # of a probability; below lies the rounding of the sums it comes from


def simulate(options: SimulationOptions) -> SimulatedCohort:
    """Draw a cohort; equal options give equal bits.

    Cases, RNA, tiles and gaps come from generators of their own: a change of, say, the number of
    genes leaves the slides as they were.
    """
    world = make_world(options)
    root = np.random.default_rng([2, options.world, options.seed])
    rng, rna_rng, tile_rng, gap_rng = root.spawn(4)
    n = options.n_cases
    sites = rng.choice(options.n_sites, n, p=world.site_share)
    programmes = rng.standard_normal((n, N_PROGRAMMES))
    liability = (
        programmes @ np.asarray(options.a)
        + options.gamma * world.site_leaning[sites]
        + options.sigma_y * rng.standard_normal(n)
    )
    true_labels = liability > liability_threshold(options)
    labels = true_labels ^ (rng.random(n) < options.eta)
    morphology = programmes[:, :2] + options.sigma_m * rng.standard_normal((n, 2))
    n_slides, has_rna, equivocal = _gaps(options, gap_rng)
    case_ids = tuple(f"SIM{options.seed}-{i:0{len(str(n))}d}" for i in range(1, n + 1))
    signal = options.nu * world.niche + options.kappa * morphology @ world.morphology
    distractor = options.delta * programmes[:, 3:4] * world.distractor
    slides = tuple(
        draw_slide(
            f"{case_ids[case]}-{'AB'[k]}",
            case,
            signal[case],
            distractor[case],
            world.site_embeddings[sites[case]],
            world,
            options,
            tile_rng,
        )
        for case in range(n)
        for k in range(n_slides[case])
    )
    return SimulatedCohort(
        options=options,
        world=world,
        case_ids=case_ids,
        sites=sites,
        programmes=programmes,
        morphology=morphology,
        true_labels=true_labels,
        labels=labels,
        equivocal=equivocal,
        rna=draw_rna(programmes, world.site_genes[sites], world, options, rna_rng),
        has_rna=has_rna,
        genes=tuple(f"GENE{g:05d}" for g in range(1, options.n_genes + 1)),
        slides=slides,
    )


def slide_probabilities(
    cohort: SimulatedCohort,
    *,
    niche_known: bool = False,
    site_known: bool = False,
    focus_known: bool = False,
) -> Float64[np.ndarray, " n_slides"]:
    """Give each slide's exact P(true label positive | its embeddings).

    Parameters
    ----------
    cohort
        The cohort.
    niche_known
        As an oracle that sees the niche: an upper bracket where the niche lies in foci.
    site_known
        The site's leaning may be used (a shortcut); otherwise biology only.
    focus_known
        It is known that niche tiles lie together, though not where: exact where ``foci`` is set.
        Otherwise they are taken as independent, which is exact where it is not.
    """
    leaning = cohort.world.site_leaning[cohort.sites]

    def probability(slide: SimulatedSlide) -> float:
        tumour = slide.tile_types == TUMOUR
        site = float(leaning[slide.case]) if site_known else None
        given = (cohort.world, cohort.options)
        if focus_known and not niche_known:
            places = slide.places
            return focus_probability(slide.embeddings, tumour, places, *given, site_leaning=site)
        niche = slide.niche if niche_known else None
        return slide_probability(slide.embeddings, tumour, *given, niche=niche, site_leaning=site)

    return np.array([probability(slide) for slide in cohort.slides], dtype=np.float64)


def slide_auroc(cohort: SimulatedCohort, score: Float64[np.ndarray, " n_slides"]) -> float:
    """Give the AUROC of one score a slide against the recorded labels that can be used.

    Scores that differ by rounding alone, as where nothing tells the label, count as equal. NaN
    where the labels are of one class only.
    """
    cases = np.array([slide.case for slide in cohort.slides], dtype=np.int64)
    usable = ~cohort.equivocal[cases]
    labels = cohort.labels[cases][usable]
    if labels.all() or not labels.any():
        return float("nan")
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, score[usable].round(_DIGITS)))


def write_cohort(
    cohort: SimulatedCohort,
    folder: Path,
    record: RecordOptions | None = None,
    *,
    on_slide: Callable[[], None] | None = None,
) -> None:
    """Write a cohort as a user's data lie on disk; equal cohorts give equal bytes.

    ::

        features/<slide_id>.h5   TRIDENT layout
        clinical.csv             case_id, slide_id, site, biomarker: a row a slide
        rna.csv.gz               cases x genes, log2 expression, not below 0
        truth.json               all that is hidden, and the ceilings

    Parameters
    ----------
    cohort
        The cohort.
    folder
        Made if absent; files of the same names are replaced.
    record
        How the tables are written; by default plainly.
    on_slide
        Called after each slide.

    Raises
    ------
    MachineError
        X10 the folder cannot be written.
    """
    record = record or RecordOptions()
    cohort = name_by_barcodes(cohort) if record.barcodes else cohort
    for slide in cohort.slides:
        path = folder / "features" / f"{slide.slide_id}.h5"
        storage.write_bytes(path, encode_features(slide, cohort.options))
        if on_slide is not None:
            on_slide()
    _write_tables(cohort, folder, record)
    truth = describe_truth(cohort, TILE_PX0, record)
    for (of_slide, of_cohort), probability in _posteriors(cohort).items():
        auroc = slide_auroc(cohort, probability)
        truth["ceilings"][of_cohort] = None if np.isnan(auroc) else auroc
        for slide, p in zip(cohort.slides, probability, strict=True):
            truth["slides"][slide.slide_id][of_slide] = float(p)
    storage.write_json(folder / "truth.json", truth)


def _posteriors(cohort: SimulatedCohort) -> dict[tuple[str, str], np.ndarray]:
    """Give each exact posterior under its names in ``truth.json``: a slide's, and its AUROC's."""
    found = {("bayes_probability", "histology_on_these_slides"): slide_probabilities(cohort)}
    if cohort.options.foci:
        found["focus_probability", "focus_on_these_slides"] = slide_probabilities(
            cohort, focus_known=True
        )
        found["niche_known_probability", "niche_known_on_these_slides"] = slide_probabilities(
            cohort, niche_known=True
        )
    if cohort.options.gamma > 0:
        found["site_known_probability", "site_known_on_these_slides"] = slide_probabilities(
            cohort, site_known=True
        )
    return found


def write_slide_cohort(
    cohort: SimulatedCohort,
    folder: Path,
    painting: PaintingOptions | None = None,
    record: RecordOptions | None = None,
    *,
    on_slide: Callable[[], None] | None = None,
) -> None:
    """Write a cohort as :func:`write_cohort`, but its slides as painted pyramidal TIFF files.

    They lie in ``slides/<slide_id>.tif``. The exact posterior of the embeddings says nothing of
    pixels and is left out of ``truth.json``; the ceilings of known latents and of exactly known
    morphology hold for pixels too, because pixels show the label through the morphology only.

    Parameters
    ----------
    cohort, folder, record, on_slide
        As for :func:`write_cohort`.
    painting
        Scale of the pictures.

    Raises
    ------
    MachineError
        E01 tifffile is not installed; X10 the folder cannot be written.
    """
    painting, record = painting or PaintingOptions(), record or RecordOptions()
    cohort = name_by_barcodes(cohort) if record.barcodes else cohort
    for place, slide in enumerate(cohort.slides):
        path = folder / "slides" / f"{slide.slide_id}.tif"
        storage.write_bytes(path, encode_picture(cohort, place, painting))
        if on_slide is not None:
            on_slide()
    _write_tables(cohort, folder, record)
    storage.write_json(folder / "truth.json", describe_truth(cohort, painting.tile_px, record))


def _write_tables(cohort: SimulatedCohort, folder: Path, record: RecordOptions) -> None:
    storage.write_text(folder / "clinical.csv", clinical_csv(cohort, record))
    storage.write_bytes(folder / "rna.csv.gz", rna_csv_gz(cohort, record))


def _gaps(options: SimulationOptions, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    # exact shares; a case without slide keeps its RNA, so that none is left with nothing
    n = options.n_cases
    order = rng.permutation(n)
    n_slides = np.ones(n, dtype=np.int64)
    n_without = round(options.without_slide * n)
    n_slides[order[:n_without]] = 0
    imaged = order[n_without:]
    n_slides[imaged[: round(options.two_slides * n)]] = 2
    has_rna = np.ones(n, dtype=bool)
    has_rna[rng.permutation(imaged)[: round(options.without_rna * n)]] = False
    equivocal = np.zeros(n, dtype=bool)
    equivocal[rng.permutation(n)[: round(options.equivocal * n)]] = True
    return n_slides, has_rna, equivocal
