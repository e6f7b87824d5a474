"""Log expression of tumour samples: RNA = mu + W'(z + sigma_r e) + b_site + e."""

import numpy as np
from jaxtyping import Float32, Float64

from momkd.simulated.world import SimulationOptions, World


def draw_rna(
    programmes: Float64[np.ndarray, "n 6"],
    site_genes: Float64[np.ndarray, "n n_genes"],
    world: World,
    options: SimulationOptions,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "n n_genes"]:
    """Draw the RNA of samples.

    Parameters
    ----------
    programmes, site_genes
        z of each sample's case, and what its site adds.
    world, options
        Genes, and how faithfully they show z.
    rng
        Moved on.
    """
    shown = programmes + options.sigma_r * rng.standard_normal(programmes.shape)
    noise = rng.standard_normal(site_genes.shape)
    return (world.gene_means + shown @ world.loadings + site_genes + noise).astype(np.float32)
