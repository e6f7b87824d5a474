"""What a training gives back."""

from dataclasses import dataclass
from typing import Any

from momkd.models.base import BagClassifier


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A trained model and how it came about.

    Parameters
    ----------
    model
        The model given to :func:`~momkd.training.fit`, with its best weights, on the CPU, in
        evaluation mode.
    history
        One row an epoch: figures only, no clock times, equal from run to run.
    best_epoch
        Its index in ``history``; epochs count from 0.
    stop_reason
        ``patience``, ``epochs``, or ``nothing to train``.
    epochs_run
        Epochs of training, the best one and those after it.
    notes
        What a reader should know: a collapse that was let pass, an older checkpoint used.
    kernels
        What graph attention was computed with; empty for a model without it.
    """

    model: BagClassifier
    history: list[dict[str, Any]]
    best_epoch: int
    stop_reason: str
    epochs_run: int
    notes: tuple[str, ...] = ()
    kernels: str = ""
