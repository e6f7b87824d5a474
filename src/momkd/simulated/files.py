"""A simulated cohort as a user's data lie on disk, and the truth beside them."""

import gzip
from io import BytesIO
from typing import Any

import h5py
import numpy as np
import pandas as pd

from momkd.simulated.ceilings import closed_ceilings, known_probability
from momkd.simulated.cohort import SimulatedCohort
from momkd.simulated.painting import PaintingOptions, draw_looks, paint_slide
from momkd.simulated.pyramid import encode_pyramid
from momkd.simulated.records import RecordOptions, draw_samples, repeat_rows
from momkd.simulated.slides import TILE_PX0, SimulatedSlide
from momkd.simulated.world import SimulationOptions

DISTRACTOR = 3  # the programme seen in tumour tiles that is not in the label


def encode_features(slide: SimulatedSlide, options: SimulationOptions) -> bytes:
    """Give a slide's embeddings as a feature file in TRIDENT's layout."""
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


def encode_picture(cohort: SimulatedCohort, place: int, painting: PaintingOptions) -> bytes:
    """Give the slide at a place of the cohort as a pyramidal TIFF, painted.

    Each slide has a generator of its own: it looks the same whatever else is painted.

    Raises
    ------
    MachineError
        E01 tifffile is not installed.
    """
    options, slide = cohort.options, cohort.slides[place]
    rng = np.random.default_rng([4, options.world, options.seed, place])
    looks = draw_looks(
        cohort.morphology[slide.case],
        float(cohort.programmes[slide.case, DISTRACTOR]),
        options.first_site + int(cohort.sites[slide.case]),
        options,
        rng,
    )
    picture = paint_slide(slide, looks, options, painting, rng)
    return encode_pyramid(picture, painting.mpp)


def clinical_csv(cohort: SimulatedCohort, record: RecordOptions | None = None) -> str:
    """Give the clinical table, a row a slide."""
    slide_ids: dict[int, list[str]] = {}
    for slide in cohort.slides:
        slide_ids.setdefault(slide.case, []).append(slide.slide_id)
    rows = []
    for case, case_id in enumerate(cohort.case_ids):
        word = "positive" if cohort.labels[case] else "negative"
        label = "equivocal" if cohort.equivocal[case] else word
        site = _site_name(cohort, case)
        rows += [(case_id, slide_id, site, label) for slide_id in slide_ids.get(case, [""])]
    rows = repeat_rows(rows, cohort, record or RecordOptions())
    table = pd.DataFrame(rows, columns=["case_id", "slide_id", "site", "biomarker"])
    return table.to_csv(index=False, lineterminator="\n")


def rna_csv_gz(cohort: SimulatedCohort, record: RecordOptions | None = None) -> bytes:
    """Give the RNA table, samples x genes: log2 expression, or counts."""
    record = record or RecordOptions()
    samples = draw_samples(cohort, record)
    # a gene that is not expressed reads 0, as log2(x + 1) does
    values = np.maximum(samples.values.astype(np.float64), 0)
    values = (np.exp2(values) - 1).round().astype(np.int64) if record.counts else values.round(4)
    table = pd.DataFrame(values, index=list(samples.ids), columns=list(cohort.genes))
    text = table.to_csv(index_label=samples.id_column, lineterminator="\n")
    return gzip.compress(text.encode(), mtime=0)


def describe_truth(
    cohort: SimulatedCohort, tile_px0: int, record: RecordOptions | None = None
) -> dict[str, Any]:
    """Give all that is hidden, and the ceilings that hold for whatever is read of the slides.

    Parameters
    ----------
    cohort
        The cohort.
    tile_px0
        Side of a tile on the slides that are written, in level-0 pixels.
    record
        How the tables are written; named where it is not plainly.
    """
    record = record or RecordOptions()
    written = {} if record == RecordOptions() else {"record": record.model_dump(mode="json")}
    given = {
        "morphology": known_probability(cohort.programmes, cohort.morphology, cohort.options),
        "latents": known_probability(cohort.programmes, None, cohort.options),
    }
    return {
        "options": cohort.options.model_dump(mode="json"),
        **written,
        "ceilings": closed_ceilings(cohort.options),
        "tile_px0": tile_px0,
        "cases": {
            case_id: {
                "programmes": cohort.programmes[case].tolist(),
                "morphology": cohort.morphology[case].tolist(),
                "true_label": int(cohort.true_labels[case]),
                "recorded_label": int(cohort.labels[case]),
                "site": _site_name(cohort, case),
                "probability_given": {name: float(p[case]) for name, p in given.items()},
            }
            for case, case_id in enumerate(cohort.case_ids)
        },
        "slides": {
            slide.slide_id: {
                "case_id": cohort.case_ids[slide.case],
                "n_tiles": len(slide.niche),
                "niche_tiles": np.flatnonzero(slide.niche).tolist(),
                "niche_px0": (slide.places[slide.niche] * tile_px0).tolist(),
            }
            for slide in cohort.slides
        },
    }


def _site_name(cohort: SimulatedCohort, case: int) -> str:
    return f"S{cohort.options.first_site + cohort.sites[case]:03d}"
