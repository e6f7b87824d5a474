"""The learning rate of an epoch: a function of the epoch and of how often the score stood still."""

import math
from typing import Literal

ScheduleName = Literal["plateau", "constant", "cosine", "linear", "step"]


def learning_rate(
    name: ScheduleName,
    *,
    lr: float,
    epoch: int,
    n_epochs: int,
    n_drops: int,
    factor: float,
    lr_final: float,
    step_epoch: int,
) -> float:
    """Give the rate of an epoch, counted from 0.

    Parameters
    ----------
    name
        ``plateau`` multiplies by ``factor`` at each drop, ``step`` once, at ``step_epoch``;
        ``cosine`` and ``linear`` go from ``lr`` to ``lr_final`` over ``n_epochs``, the linear one
        beginning a step below ``lr``; ``constant`` stays.
    lr, epoch, n_epochs, n_drops, factor, lr_final, step_epoch
        What the schedules use.
    """
    if name == "plateau":
        return float(lr * factor**n_drops)
    if name == "step":
        return lr * factor if epoch >= step_epoch else lr
    if name == "cosine":
        return lr_final + (lr - lr_final) * (1 + math.cos(math.pi * epoch / n_epochs)) / 2
    if name == "linear":
        return lr + (lr_final - lr) * (epoch + 1) / (n_epochs + 1)
    return lr
