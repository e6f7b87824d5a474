"""How fast a training goes, for whoever watches; never part of its results."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands and how fast it goes.

    Parameters
    ----------
    epoch, n_epochs
        Epochs done, and the most there can be.
    step, n_steps
        Steps done in the current epoch, and its length.
    samples_per_s
        Training samples per second since this process took the training up, validation included.
    wait_share
        Share of that time spent waiting for samples to be read.
    score, best_score
        Newest and best smoothed validation score (higher is better); None before the first.
    eta_s
        Seconds to the last epoch at this speed (early stopping may come first); None at first.
    """

    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    samples_per_s: float
    wait_share: float
    score: float | None
    best_score: float | None
    eta_s: float | None


class Pace:
    """Counts steps against the clock and tells a listener a few times a second.

    Parameters
    ----------
    listener
        Who is told; None for nobody.
    n_epochs, n_steps
        The most epochs, and steps an epoch.
    waited_s
        Gives the seconds spent waiting for data so far.
    """

    def __init__(
        self,
        listener: Callable[[Progress], None] | None,
        *,
        n_epochs: int,
        n_steps: int,
        waited_s: Callable[[], float],
    ) -> None:
        self._listener = listener
        self._n_epochs = n_epochs
        self._n_steps = n_steps
        self._waited_s = waited_s
        self._waited_before_s = waited_s()
        self._started_s = time.monotonic()
        self._told_s = self._started_s
        self._steps = 0
        self._samples = 0

    def count_step(self, n_samples: int) -> None:
        """Count a training step."""
        self._steps += 1
        self._samples += n_samples

    def tell(
        self,
        *,
        epoch: int,
        step: int,
        score: float | None,
        best_score: float | None,
        at_once: bool = False,
    ) -> None:
        """Tell the listener, unless it was told just now and this can wait."""
        now_s = time.monotonic()
        if self._listener is None or (now_s - self._told_s < _TELL_EVERY_S and not at_once):
            return
        self._told_s = now_s
        elapsed_s = max(now_s - self._started_s, 1e-9)
        left = (self._n_epochs - epoch) * self._n_steps - step
        self._listener(
            Progress(
                epoch=epoch,
                n_epochs=self._n_epochs,
                step=step,
                n_steps=self._n_steps,
                samples_per_s=self._samples / elapsed_s,
                wait_share=min(1.0, (self._waited_s() - self._waited_before_s) / elapsed_s),
                score=score,
                best_score=best_score,
                eta_s=elapsed_s / self._steps * left if self._steps else None,
            )
        )
