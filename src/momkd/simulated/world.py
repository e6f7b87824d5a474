"""What is fixed before a cohort is simulated: the options, the named scenarios, and the world.

A world holds the directions of embedding space, the genes and the sites. Cohorts of one world
differ only by their own seed, as training and external cohorts of one disease do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydantic import Field, model_validator

from momkd.config import Options

# programmes 0, 1: seen in H&E; 2: in RNA only; 3: distractor, seen but not in the label; 4, 5: RNA
# nuisance
N_PROGRAMMES = 6
TUMOUR = 0  # the tile type that can be niche and shows the distractor
_TYPE_SEPARATION = 4.0
_GENES_PER_PROGRAMME = 0.05
_NUISANCE_LOADING = 2.0


class SimulationOptions(Options):
    """How a cohort comes about; the defaults are the `default` scenario.

    Parameters
    ----------
    n_cases, dim, n_genes, n_sites
        Sizes; ``dim`` is the width of an embedding.
    a
        Weights of the six molecular programmes in the label's liability.
    sigma_y, prevalence, eta
        Noise of the liability (SD), share of true positives, share of flipped labels.
    sigma_m, sigma_r
        Noise (SD) between the programmes and what morphology, or RNA, shows of them.
    rho, nu, kappa
        Share of tumour tiles that are niche; how far a niche tile stands out from other tumour;
        how strongly it shows the morphology.
    delta, stain, site_shift, gamma
        Strength of the distractor, of each slide's stain, of each site's shift, and of the site's
        own leaning in the label (a shortcut where it is not 0).
    foci
        Niche tiles of a slide lie together instead of anywhere. The Bayes probability that takes
        them as independent is then a lower bracket of the ceiling; the exact one sums over foci.
    grid_side
        Tiles along a side of the slide; 60 % of the grid is tissue.
    two_slides, without_slide, without_rna, equivocal
        Shares of cases with a second slide, no slide, no RNA, an unusable label in the table.
    first_site
        Number of the first site; cohorts with disjoint ranges share no site.
    world, seed
        Seed of the world, and of the cohort in it.
    """

    n_cases: int = Field(1000, ge=2)
    dim: int = Field(64, ge=21)
    n_genes: int = Field(1500, ge=20)
    n_sites: int = Field(20, ge=1)
    a: tuple[float, float, float, float, float, float] = (1.0, 0.7, 0.5, 0.0, 0.0, 0.0)
    sigma_y: float = Field(0.3, gt=0)
    prevalence: float = Field(0.28, gt=0, lt=1)
    eta: float = Field(0.03, ge=0, lt=0.5)
    sigma_m: float = Field(0.5, gt=0)
    sigma_r: float = Field(0.3, gt=0)
    rho: float = Field(0.08, gt=0, lt=1)
    nu: float = 2.0
    kappa: float = 1.5
    delta: float = 0.8
    stain: float = Field(0.5, ge=0)
    site_shift: float = Field(0.6, ge=0)
    gamma: float = Field(0.0, ge=0)
    foci: bool = False
    grid_side: int = Field(16, ge=3)
    two_slides: float = Field(0.06, ge=0, le=1)
    without_slide: float = Field(0.0, ge=0, lt=1)
    without_rna: float = Field(0.0, ge=0, lt=1)
    equivocal: float = Field(0.02, ge=0, lt=1)
    first_site: int = Field(0, ge=0)
    world: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _second_slides_need_first_ones(self) -> "SimulationOptions":
        if self.two_slides + self.without_slide > 1:
            raise ValueError("two_slides and without_slide are shares of the same cases")
        if self.without_rna + self.without_slide > 1:
            raise ValueError("a case lacks its slide or its RNA, not both")
        return self

    @property
    def variance(self) -> float:
        """Variance of the liability u."""
        return float(np.square(self.a).sum()) + self.sigma_y**2 + self.gamma**2


SCENARIOS: dict[str, dict[str, Any]] = {
    "default": {},
    "easy": {"rho": 0.15, "kappa": 1.0, "nu": 2.5},
    "rna-only": {"a": (0.5, 0.3, 1.1, 0.0, 0.0, 0.0)},
    "distractor": {"delta": 2.0},
    "null": {"a": (0.0,) * N_PROGRAMMES},
    "site-shortcut": {"gamma": 0.9},
    "external-shift": {
        "first_site": 1000,
        "site_shift": 1.5,
        "stain": 1.0,
        "prevalence": 0.15,
        "rho": 0.05,
    },
    "unpaired-50": {"without_rna": 0.5},
    "noisy-labels": {"eta": 0.15},
    "foci": {"foci": True},
}
"""Named departures from the defaults: scenario -> changed fields."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """Directions, genes and sites that cohorts share.

    All directions are orthogonal, so that no nuisance reaches the signal's subspace and the
    posterior of the morphology is exact.

    Parameters
    ----------
    morphology, niche, distractor, stain
        Unit directions.
    tile_types
        Mean embedding of each tile type, 4 noise SDs from the origin; the first is tumour.
    loadings, gene_means
        How the programmes act on the genes, and the genes' log expression at rest.
    site_share, site_leaning
        Each site's share of the cases, and its standardised leaning towards a positive label.
    site_embeddings, site_genes
        What a site adds to embeddings and to log expression.
    """

    morphology: Float64[np.ndarray, "2 dim"]
    niche: Float64[np.ndarray, " dim"]
    distractor: Float64[np.ndarray, " dim"]
    tile_types: Float64[np.ndarray, "5 dim"]
    stain: Float64[np.ndarray, "4 dim"]
    loadings: Float64[np.ndarray, "6 n_genes"]
    gene_means: Float64[np.ndarray, " n_genes"]
    site_share: Float64[np.ndarray, " n_sites"]
    site_leaning: Float64[np.ndarray, " n_sites"]
    site_embeddings: Float64[np.ndarray, "n_sites dim"]
    site_genes: Float64[np.ndarray, "n_sites n_genes"]


def make_world(options: SimulationOptions) -> World:
    """Draw the world that ``options.world`` names."""
    space, genes = np.random.default_rng([0, options.world]).spawn(2)
    q, r = np.linalg.qr(space.standard_normal((options.dim, options.dim)))
    directions = (q * np.sign(np.diag(r))).T  # signs fixed: LAPACKs differ in them
    morphology, niche, distractor, types, site_directions, stain = np.split(
        directions[:21], [2, 3, 4, 9, 17]
    )
    share, leaning, embeddings, site_genes = _sites(options, site_directions)
    return World(
        morphology=morphology,
        niche=niche[0],
        distractor=distractor[0],
        tile_types=_TYPE_SEPARATION * types,
        stain=stain,
        loadings=_loadings(options.n_genes, genes),
        gene_means=genes.normal(4.0, 2.0, options.n_genes),
        site_share=share,
        site_leaning=leaning,
        site_embeddings=embeddings,
        site_genes=site_genes,
    )


def _loadings(n_genes: int, rng: np.random.Generator) -> Float64[np.ndarray, "6 n_genes"]:
    n_each = max(1, round(_GENES_PER_PROGRAMME * n_genes))
    loadings = np.zeros((N_PROGRAMMES, n_genes))
    for programme, row in enumerate(loadings):
        scale = _NUISANCE_LOADING if programme >= 4 else 1.0
        # sizes near 1, not normal: no gene's log2 expression leaves what a real table holds
        loading = rng.choice([-1.0, 1.0], n_each) * rng.uniform(0.5, 1.5, n_each)
        row[rng.choice(n_genes, n_each, replace=False)] = scale * loading
    return loadings


def _sites(
    options: SimulationOptions, directions: Float64[np.ndarray, "8 dim"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # a generator a site, so that a site is the same in every cohort that has it
    numbers = range(options.first_site, options.first_site + options.n_sites)
    rngs = [np.random.default_rng([1, options.world, number]) for number in numbers]
    weight = np.array([rng.standard_gamma(1.0) for rng in rngs])  # normalised: Dirichlet(1)
    leaning = np.array([rng.standard_normal() for rng in rngs])
    shift = np.stack([rng.standard_normal(len(directions)) for rng in rngs])
    genes = np.stack([rng.standard_normal(options.n_genes) for rng in rngs])
    size = options.site_shift
    return weight / weight.sum(), leaning, size * shift @ directions, size * genes
