"""Distances between two networks that look at the same batch: MKD's terms beside cross-entropy.

Zhang et al., MICCAI 2025, arXiv 2508.17213. Rows are samples; both sides hold the same ones.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, normalize


def relation_distance(a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"]) -> Float[Tensor, ""]:
    """Give |R(A A') - R(B B')|^2 / n^2 (Frobenius), R normalising rows; gradients reach both."""
    return (normalize(a @ a.T, dim=1) - normalize(b @ b.T, dim=1)).square().sum() / len(a) ** 2


def tempered_divergence(
    student_logits: Float[Tensor, "n n_classes"],
    teacher_logits: Float[Tensor, "n n_classes"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Give T^2 KL(teacher || student) at temperature T, a mean over the batch; teacher constant."""
    own = log_softmax(student_logits / temperature, dim=1)
    target = log_softmax(teacher_logits.detach() / temperature, dim=1)
    divergence = kl_div(own, target, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def second_moment_distance(
    a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"]
) -> Float[Tensor, ""]:
    """Give the mean squared difference of the means plus that of the covariances (CORAL-like)."""
    means = (a.mean(dim=0) - b.mean(dim=0)).square().mean()
    return means + (_covariance(a) - _covariance(b)).square().mean()


def overlap(a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"]) -> Float[Tensor, ""]:
    """Give the absolute mean inner product of both sides' features of a sample."""
    return (a * b).sum(dim=1).mean().abs()


def _covariance(x: Float[Tensor, "n dim"]) -> Float[Tensor, "dim dim"]:
    centred = x - x.mean(dim=0)
    return centred.T @ centred / (len(x) - 1)
