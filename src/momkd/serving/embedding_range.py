"""Where the embeddings of the training slides lay, and how far from there a slide lies.

Each slide is summed up by the mean and the standard deviation of its tiles along each dimension.
The distance of a slide is the 2-Wasserstein distance between two Gaussians with diagonal
covariance, its own and that of the training slides, in units of the training standard deviation
(Givens and Shortt, Michigan Math. J. 31, 1984, proposition 7), as the root mean square over the
dimensions:

    d**2 = mean_j [ (m_j - mu_j)**2 + (s_j - sigma_j)**2 ] / sigma_j**2

A slide whose tiles shrink to one place is as far as one whose tiles moved by a standard deviation.
It is out of range beyond ``SLACK`` times the greatest distance of a training slide.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor

from momkd.config import Options

SLACK = 1.25
_FLOOR = 1e-3  # of the usual variance: a dimension that hardly moved in training decides nothing


def _split(value: Any) -> Any:
    return tuple(float(word) for word in value.split()) if isinstance(value, str) else value


def _join(values: tuple[float, ...]) -> str:
    return " ".join(map(repr, values))


# one line a row of numbers, where JSON would give each number a line
Numbers = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], ...],
    BeforeValidator(_split),
    PlainSerializer(_join, return_type=str, when_used="json"),
]


class EmbeddingRange(Options):
    """What the training slides' embeddings looked like; each slide counts once.

    Parameters
    ----------
    mean, variance
        Of the tiles, along each dimension.
    greatest
        Greatest distance of a training slide.
    n_slides
        How many there were.
    """

    mean: Numbers
    variance: Numbers
    greatest: float = Field(ge=0, allow_inf_nan=False)
    n_slides: int = Field(ge=1)

    @model_validator(mode="after")
    def _agrees(self) -> "EmbeddingRange":
        if len(self.mean) != len(self.variance) or min(self.variance, default=0) < 0:
            raise ValueError("mean and variance differ in length, or a variance is negative")
        return self

    @property
    def limit(self) -> float:
        """Distance beyond which a slide is out of range."""
        return SLACK * self.greatest

    def distance(self, embeddings: Tensor) -> float:
        """Give a slide's distance from the training slides.

        Parameters
        ----------
        embeddings
            (n_tiles, dim), of any floating type.
        """
        return _distance(*_moments(embeddings), np.array(self.mean), np.array(self.variance))


def fit_embedding_range(slides: Iterable[Tensor]) -> EmbeddingRange | None:
    """Describe the embeddings of training slides; None without any, or if none of them varies.

    Parameters
    ----------
    slides
        Each (n_tiles, dim); read once, and not kept.
    """
    found = [_moments(s) for s in slides]
    if not found:
        return None
    means, variances = (np.stack(part) for part in zip(*found, strict=True))
    mean = means.mean(axis=0)
    variance = (variances + (means - mean) ** 2).mean(axis=0)
    if not variance.any():
        return None
    # what the card holds is what was measured with
    mean, variance = _rounded(mean), _rounded(variance)
    distances = [_distance(m, v, mean, variance) for m, v in found]
    return EmbeddingRange(
        mean=tuple(mean.tolist()),
        variance=tuple(variance.tolist()),
        greatest=float(max(distances)),
        n_slides=len(found),
    )


def _moments(embeddings: Tensor) -> tuple[np.ndarray, np.ndarray]:
    tiles = embeddings.detach().to(device="cpu", dtype=torch.float64)
    variance, mean = torch.var_mean(tiles, dim=0, correction=0)
    return mean.numpy(), variance.numpy()


def _distance(
    mean: np.ndarray, variance: np.ndarray, centre: np.ndarray, spread: np.ndarray
) -> float:
    scale = np.maximum(spread, _FLOOR * np.median(spread[spread > 0]))
    moved = (mean - centre) ** 2 + (np.sqrt(variance) - np.sqrt(spread)) ** 2
    return float(np.sqrt((moved / scale).mean()))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{v:.6g}") for v in values])
