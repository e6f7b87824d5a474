"""How a class memory is used: which slots speak, how much they say, and which say the same.

A tile has one nearest slot in each class; eq. 7 of MoMKD takes the difference of the two cosines as
the tile's evidence for the positive class. A slot enters it only where it is the nearest of its
class, and the tile's vote goes with the nearer of the two.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

DEAD_SHARE = 0.1
"""A slot is dead below this part of an even share of its class, as in the training's history."""

SAME_COSINE = 0.99
"""Two slots say the same from this cosine on: 8 degrees between them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotUse:
    """Shares of one slide, or their means over slides or cases; a row a class, a column a slot.

    Parameters
    ----------
    use
        Share of tiles for which the slot is the nearest of its class; each row sums to 1.
    votes
        Share of tiles for which it is the nearest of all; sums to 1 over all slots.
    evidence
        Share of the evidence: the sizes of eq. 7's score, each counted for the nearest slot of all;
        sums to 1 over all slots, or is 0 where no tile says anything.
    attention
        Share of the attention of these tiles; sums to 1 over all slots.
    """

    use: Float64[np.ndarray, "n_classes n_slots"]
    votes: Float64[np.ndarray, "n_classes n_slots"]
    evidence: Float64[np.ndarray, "n_classes n_slots"]
    attention: Float64[np.ndarray, "n_classes n_slots"]

    @property
    def dead(self) -> Bool[np.ndarray, "n_classes n_slots"]:
        """Say which slots are used less than a tenth of an even share of their class."""
        return self.use < DEAD_SHARE / self.use.shape[1]

    @property
    def perplexity(self) -> Float64[np.ndarray, " n_classes"]:
        """Give exp of the entropy of a class's shares: slots in use as if evenly."""
        logs = np.log(np.where(self.use > 0, self.use, 1.0))
        return np.exp(-(self.use * logs).sum(axis=1))


def slide_use(
    cosines: Float[np.ndarray, "n_tiles 2 n_slots"], attention: Float[np.ndarray, " n_tiles"]
) -> SlotUse:
    """Count what the slots of both classes do on one slide.

    Parameters
    ----------
    cosines
        Of each tile to each slot; class 1 is the positive one.
    attention
        Non-negative, sums to 1.
    """
    n_tiles, n_classes, n_slots = cosines.shape
    nearest = cosines.argmax(axis=2)
    best = cosines.max(axis=2).astype(np.float64)
    use = np.stack(
        [np.bincount(nearest[:, c], minlength=n_slots) / n_tiles for c in range(n_classes)]
    )
    side = best.argmax(axis=1)
    winner = side * n_slots + nearest[np.arange(n_tiles), side]
    size = np.abs(best[:, 1] - best[:, 0])

    def shares(weights: np.ndarray) -> np.ndarray:
        total = float(weights.sum())
        found = np.bincount(winner, weights=weights, minlength=n_classes * n_slots)
        return (found / total if total > 0 else found).reshape(n_classes, n_slots)

    return SlotUse(
        use=use,
        votes=shares(np.ones(n_tiles)),
        evidence=shares(size),
        attention=shares(attention.astype(np.float64)),
    )


def mean_use(parts: list[SlotUse]) -> SlotUse:
    """Average shares; each part counts once, however many tiles it has."""
    return SlotUse(
        use=np.mean([p.use for p in parts], axis=0),
        votes=np.mean([p.votes for p in parts], axis=0),
        evidence=np.mean([p.evidence for p in parts], axis=0),
        attention=np.mean([p.attention for p in parts], axis=0),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """The slot most like each slot: its cosine and its number, in its own and the other class."""

    own: Float64[np.ndarray, "2 n_slots"]
    own_slot: np.ndarray
    other: Float64[np.ndarray, "2 n_slots"]
    other_slot: np.ndarray

    @property
    def duplicate(self) -> Bool[np.ndarray, "2 n_slots"]:
        """Say which slots have another of their class that says the same."""
        return self.own >= SAME_COSINE

    @property
    def twin(self) -> Bool[np.ndarray, "2 n_slots"]:
        """Say which slots have one in the other class that says the same: they tell nothing."""
        return self.other >= SAME_COSINE


def compare_slots(slots: Float[np.ndarray, "2 n_slots dim"]) -> Likeness:
    """Find the most similar slot of each slot; of unit vectors.

    With one slot a class there is no other in it: its cosine is NaN, its number -1.
    """
    own, own_slot, other, other_slot = [], [], [], []
    n_slots = slots.shape[1]
    for label in (0, 1):
        within = slots[label].astype(np.float64) @ slots[label].T
        np.fill_diagonal(within, -np.inf)
        across = slots[label].astype(np.float64) @ slots[1 - label].T
        own.append(within.max(axis=1) if n_slots > 1 else np.full(1, np.nan))
        own_slot.append(within.argmax(axis=1) if n_slots > 1 else np.full(1, -1))
        other.append(across.max(axis=1))
        other_slot.append(across.argmax(axis=1))
    return Likeness(
        own=np.stack(own),
        own_slot=np.stack(own_slot),
        other=np.stack(other),
        other_slot=np.stack(other_slot),
    )


def principal_plane(
    points: Float[np.ndarray, "n dim"],
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " 2"]]:
    """Give the two principal components of points, and the share of the variance each shows.

    The sign of a component is such that its largest loading is positive, so that equal points give
    an equal map on every machine. With fewer than two directions the rest is 0.
    """
    centred = points.astype(np.float64) - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    places, shares = np.zeros((len(points), 2)), np.zeros(2)
    total = float(np.square(sizes).sum())
    for k in range(min(2, len(sizes))):
        direction = directions[k] * np.sign(directions[k][np.abs(directions[k]).argmax()] or 1.0)
        places[:, k] = centred @ direction
        shares[k] = sizes[k] ** 2 / total if total > 0 else 0.0
    return places, shares
