"""How near a vector is to a class's memory, and the margin that pulls it to its own class."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def class_similarity(
    points: Float[Tensor, "n dim"], slots: Float[Tensor, "n_classes n_slots dim"], tau_agg: float
) -> Float[Tensor, "n n_classes"]:
    """Give phi(F, C) = (1/tau) log sum_j exp(tau F . c_j) for each class, MoMKD eq. 4.

    For unit vectors it lies within log(n_slots) / tau of [-1, 1], from -1 + that to 1 + that.
    """
    return torch.logsumexp(tau_agg * _products(points, slots), dim=2) / tau_agg


def class_margin(
    points: Float[Tensor, "n dim"], slots: Float[Tensor, "2 n_slots dim"], tau_agg: float
) -> Float[Tensor, " n"]:
    """Give Delta = phi(F, C+) - phi(F, C-), in [-2, 2] for unit vectors; class 1 is positive."""
    similarity = class_similarity(points, slots, tau_agg)
    return similarity[:, 1] - similarity[:, 0]


def margin_alignment(
    delta: Float[Tensor, " n"], labels: Int64[Tensor, " n"], *, scale: float, margin: float
) -> Float[Tensor, " n"]:
    """Give softplus(scale (margin - Delta)), for a negative case with -Delta; MoMKD section 3.3."""
    sign = 2 * labels - 1
    return nn.functional.softplus(scale * (margin - sign * delta))


def class_evidence(
    points: Float[Tensor, "n dim"], slots: Float[Tensor, "2 n_slots dim"]
) -> Float[Tensor, " n"]:
    """Give s = max_j p . c+_j - max_j p . c-_j, a tile's word for the positive class; eq. 7."""
    best = _products(points, slots).amax(dim=2)
    return best[:, 1] - best[:, 0]


def _products(points: Tensor, slots: Tensor) -> Tensor:
    return (points @ slots.flatten(0, 1).T).view(points.shape[0], *slots.shape[:2])
