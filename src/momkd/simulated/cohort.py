"""A simulated cohort: cases, their slides and RNA, and all that is hidden in reality."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from momkd.simulated.slides import SimulatedSlide
from momkd.simulated.world import SimulationOptions, World


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
