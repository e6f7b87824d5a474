"""Which epoch is the best so far, when the learning rate drops, and when it is time to stop.

The states are dataclasses of JSON scalars: ``asdict`` saves them, ``Class(**state)`` goes on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

COLLAPSE_EPOCHS = 5


@dataclass(kw_only=True)
class Watch:
    """The validation score, smoothed, and what follows from it.

    Attributes
    ----------
    smoothed
        Exponentially smoothed score; None before the first that is a number.
    best, best_epoch
        The highest smoothed score and its epoch; None before there is one.
    n_since_best
        Epochs since then (or since the start).
    n_since_drop
        Epochs without a better score since the learning rate last dropped.
    n_drops
        How often it has dropped.
    """

    smoothed: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    n_since_best: int = 0
    n_since_drop: int = 0
    n_drops: int = 0

    def observe(
        self, epoch: int, score: float, *, smoothing: float, plateau_patience: int | None
    ) -> bool:
        """Take in the score of an epoch and say whether it is the best so far.

        A tie is not better, and a score that is no number is never better and leaves the smoothed
        one as it was. The learning rate drops after ``plateau_patience`` + 1 epochs without a
        better one, as in torch's ``ReduceLROnPlateau`` with threshold 0; None: never.
        """
        is_best = False
        if not math.isnan(score):
            old = score if self.smoothed is None else self.smoothed
            # in this form a repeated score stays itself to the last bit: a tie is a tie
            self.smoothed = old + (1.0 - smoothing) * (score - old)
            is_best = self.best is None or self.smoothed > self.best
        if is_best:
            self.best, self.best_epoch = self.smoothed, epoch
            self.n_since_best = self.n_since_drop = 0
            return True
        self.n_since_best += 1
        self.n_since_drop += 1
        if plateau_patience is not None and self.n_since_drop > plateau_patience:
            self.n_since_drop = 0
            self.n_drops += 1
        return False


@dataclass(kw_only=True)
class CollapseWatch:
    """Signs of a collapse: one that lasts several epochs in a row is one, a passing one is not.

    The first epoch does not count. ``streaks`` holds how long each sign has lasted.
    """

    streaks: dict[str, int] = field(default_factory=dict)

    def observe(self, epoch: int, signs: Mapping[str, bool]) -> list[str]:
        """Take in the signs of an epoch; give those that now have lasted long enough."""
        if epoch > 0:
            self.streaks = {s: self.streaks.get(s, 0) + 1 for s, seen in signs.items() if seen}
        return sorted(s for s, n in self.streaks.items() if n == COLLAPSE_EPOCHS)
