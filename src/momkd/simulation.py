"""Cohorts with known truth: slides, RNA and labels drawn from one generative law.

    z ~ N(0, I_6)                                   molecular programmes of a case
    u = a'z + gamma g_site + sigma_y e              liability; positive where u > t
    m = z_1:2 + sigma_m e                           what morphology shows
    RNA = mu + W'(z + sigma_r e) + b_site + e       log scale
    x_j = type_j + niche_j (nu n + kappa A m) + tumour_j delta z_4 d + site + stain + e

Figures of merit on simulated cases say nothing of real ones, and belong in no table with them.
"""

import gzip
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64
from sklearn.metrics import roc_auc_score

from momkd import storage
from momkd.simulated.ceilings import closed_ceilings, liability_threshold, slide_probability
from momkd.simulated.slides import TILE_PX0, SimulatedSlide, draw_slide
from momkd.simulated.world import (
    N_PROGRAMMES,
    SCENARIOS,
    TUMOUR,
    SimulationOptions,
    World,
    make_world,
)

__all__ = [
    "SCENARIOS",
    "SimulatedCohort",
    "SimulatedSlide",
    "SimulationOptions",
    "simulate",
    "slide_auroc",
    "slide_probabilities",
    "write_cohort",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedCohort:
    """Cases, their slides and RNA, and all that is hidden in reality.

    Parameters
    ----------
    options, world
        Where it comes from.
    case_ids, sites
        The cases, and each one's place among the world's sites.
    programmes, morphology
        z and m of each case.
    true_labels, labels
        Truth, and what the record says (a share eta is flipped).
    equivocal
        Cases whose recorded label cannot be used.
    rna, has_rna
        Log expression of every case, and who has it measured.
    genes
        Names of the genes.
    slides
        All slides, ordered by case; a case has none, one or two.
    """

    options: SimulationOptions
    world: World
    case_ids: tuple[str, ...]
    sites: Int64[np.ndarray, " n_cases"]
    programmes: Float64[np.ndarray, "n_cases 6"]
    morphology: Float64[np.ndarray, "n_cases 2"]
    true_labels: Bool[np.ndarray, " n_cases"]
    labels: Bool[np.ndarray, " n_cases"]
    equivocal: Bool[np.ndarray, " n_cases"]
    rna: Float32[np.ndarray, "n_cases n_genes"]
    has_rna: Bool[np.ndarray, " n_cases"]
    genes: tuple[str, ...]
    slides: tuple[SimulatedSlide, ...]


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
        rna=_rna(programmes, world.site_genes[sites], world, options, rna_rng),
        has_rna=has_rna,
        genes=tuple(f"GENE{g:05d}" for g in range(1, options.n_genes + 1)),
        slides=slides,
    )


def slide_probabilities(
    cohort: SimulatedCohort, *, niche_known: bool = False, site_known: bool = False
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
    """
    leaning = cohort.world.site_leaning[cohort.sites]
    return np.array(
        [
            slide_probability(
                slide.embeddings,
                slide.tile_types == TUMOUR,
                cohort.world,
                cohort.options,
                niche=slide.niche if niche_known else None,
                site_leaning=float(leaning[slide.case]) if site_known else None,
            )
            for slide in cohort.slides
        ],
        dtype=np.float64,
    )


def slide_auroc(cohort: SimulatedCohort, score: Float64[np.ndarray, " n_slides"]) -> float:
    """Give the AUROC of one score a slide against the recorded labels that can be used.

    NaN where these are of one class only.
    """
    cases = np.array([slide.case for slide in cohort.slides], dtype=np.int64)
    usable = ~cohort.equivocal[cases]
    labels = cohort.labels[cases][usable]
    if labels.all() or not labels.any():
        return float("nan")
    return float(roc_auc_score(labels, score[usable]))


def write_cohort(cohort: SimulatedCohort, folder: Path) -> None:
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

    Raises
    ------
    MachineError
        X10 the folder cannot be written.
    """
    for slide in cohort.slides:
        path = folder / "features" / f"{slide.slide_id}.h5"
        storage.write_bytes(path, _h5(slide, cohort.options))
    clinical = _clinical(cohort).to_csv(index=False, lineterminator="\n")
    storage.write_text(folder / "clinical.csv", clinical)
    storage.write_bytes(folder / "rna.csv.gz", gzip.compress(_rna_csv(cohort), mtime=0))
    storage.write_json(folder / "truth.json", _truth(cohort))


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


def _rna(
    programmes: np.ndarray,
    site_genes: np.ndarray,
    world: World,
    options: SimulationOptions,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "n_cases n_genes"]:
    shown = programmes + options.sigma_r * rng.standard_normal(programmes.shape)
    noise = rng.standard_normal(site_genes.shape)
    return (world.gene_means + shown @ world.loadings + site_genes + noise).astype(np.float32)


def _h5(slide: SimulatedSlide, options: SimulationOptions) -> bytes:
    buffer = BytesIO()
    dim = options.dim
    side_px0 = options.grid_side * TILE_PX0
    with h5py.File(buffer, "w", track_order=False) as file:
        features = file.create_dataset(
            "features",
            data=slide.embeddings,
            chunks=(1, dim),
            maxshape=(None, dim),
            track_times=False,
        )
        features.attrs["encoder"] = f"simulated-{dim}"
        features.attrs["name"] = slide.slide_id
        coords = file.create_dataset("coords", data=slide.coords_px0, track_times=False)
        coords.attrs["patch_size"] = TILE_PX0 // 2
        coords.attrs["patch_size_level0"] = TILE_PX0
        coords.attrs["level0_magnification"] = 40
        coords.attrs["target_magnification"] = 20
        coords.attrs["overlap"] = 0
        coords.attrs["level0_width"] = side_px0
        coords.attrs["level0_height"] = side_px0
        coords.attrs["name"] = slide.slide_id
    return buffer.getvalue()


def _site_name(cohort: SimulatedCohort, case: int) -> str:
    return f"S{cohort.options.first_site + cohort.sites[case]:03d}"


def _clinical(cohort: SimulatedCohort) -> pd.DataFrame:
    slide_ids: dict[int, list[str]] = {}
    for slide in cohort.slides:
        slide_ids.setdefault(slide.case, []).append(slide.slide_id)
    rows = []
    for case, case_id in enumerate(cohort.case_ids):
        word = "positive" if cohort.labels[case] else "negative"
        label = "equivocal" if cohort.equivocal[case] else word
        site = _site_name(cohort, case)
        rows += [(case_id, slide_id, site, label) for slide_id in slide_ids.get(case, [""])]
    return pd.DataFrame(rows, columns=["case_id", "slide_id", "site", "biomarker"])


def _rna_csv(cohort: SimulatedCohort) -> bytes:
    # a gene that is not expressed reads 0, as log2(x + 1) does
    values = np.maximum(cohort.rna[cohort.has_rna].astype(np.float64), 0).round(4)
    measured = [c for c, has in zip(cohort.case_ids, cohort.has_rna, strict=True) if has]
    table = pd.DataFrame(values, index=measured, columns=list(cohort.genes))
    return table.to_csv(index_label="case_id", lineterminator="\n").encode()


def _truth(cohort: SimulatedCohort) -> dict[str, Any]:
    probability = slide_probabilities(cohort)
    on_slides = slide_auroc(cohort, probability)
    return {
        "options": cohort.options.model_dump(mode="json"),
        "ceilings": {
            **closed_ceilings(cohort.options),
            "histology_on_these_slides": None if np.isnan(on_slides) else on_slides,
        },
        "cases": {
            case_id: {
                "programmes": cohort.programmes[case].tolist(),
                "morphology": cohort.morphology[case].tolist(),
                "true_label": int(cohort.true_labels[case]),
                "recorded_label": int(cohort.labels[case]),
                "site": _site_name(cohort, case),
            }
            for case, case_id in enumerate(cohort.case_ids)
        },
        "slides": {
            slide.slide_id: {
                "case_id": cohort.case_ids[slide.case],
                "n_tiles": len(slide.niche),
                "niche_tiles": np.flatnonzero(slide.niche).tolist(),
                "bayes_probability": float(p),
            }
            for slide, p in zip(cohort.slides, probability, strict=True)
        },
    }
