"""The part of a report about the slots of memories: which of them say the same, by their weights.

What slots see on slides, ``momkd memory`` shows; nothing is scored for a report.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from momkd.evaluation.slot_use import SAME_COSINE, Likeness, compare_slots
from momkd.reporting.page import Bounded, Row, Table

_SLOTS = "memory.slots"


def read_slots(weights: Path) -> np.ndarray | None:
    """Read the slots of a predictor as unit vectors (class, slot, dimension).

    None for a model without a memory of two classes, or without weights that can be read.
    """
    try:
        with safe_open(weights, framework="numpy") as file:
            slots = file.get_tensor(_SLOTS) if _SLOTS in file.keys() else None  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if slots is None or slots.ndim != 3 or len(slots) != 2 or not np.isfinite(slots).all():
        return None
    return slots / np.maximum(np.linalg.norm(slots, axis=2, keepdims=True), 1e-12)


def tables_of_slots(
    memories: Sequence[tuple[str, np.ndarray]], class_names: Sequence[str]
) -> list[Table]:
    """Tell how far slots are apart: over all trainings, and slot by slot of the first one."""
    if not memories:
        return []
    likes = [compare_slots(slots) for _, slots in memories]
    first, like = memories[0][0], likes[0]
    return [
        Table(
            caption=f"Slots that say the same (cosine of {SAME_COSINE:g} or more), median (least "
            f"to most) over {len(memories)} trainings: a duplicate in their own class, a twin in "
            "the other; momkd memory shows what they see",
            rows=[_summary(likes, label, name) for label, name in enumerate(class_names)],
        ),
        Table(
            caption=f"Slots of {first}: cosine to the nearest slot, 1 for the same direction",
            rows=[
                _slot(like, label, slot, class_names) for label, slot in np.ndindex(like.own.shape)
            ],
            folded=True,
        ),
    ]


def _summary(likes: Sequence[Likeness], label: int, name: str) -> Row:
    def spread(values: Sequence[float]) -> Bounded:
        return Bounded(value=float(np.median(values)), low=min(values), high=max(values))

    return {
        "class": name,
        "slots": likes[0].own.shape[1],
        "slots with a duplicate": _counts([int(like.duplicate[label].sum()) for like in likes]),
        "slots with a twin": _counts([int(like.twin[label].sum()) for like in likes]),
        "median cosine to the nearest of its class": spread(
            [float(np.median(like.own[label])) for like in likes]
        ),
        "median cosine to the nearest of the other class": spread(
            [float(np.median(like.other[label])) for like in likes]
        ),
    }


def _counts(values: Sequence[int]) -> str:
    return f"{np.median(values):g} ({min(values)} to {max(values)})"


def _slot(like: Likeness, label: int, slot: int, class_names: Sequence[str]) -> Row:
    own = int(like.own_slot[label, slot])
    notes = ["duplicate"] if like.duplicate[label, slot] else []
    notes += ["twin"] if like.twin[label, slot] else []
    return {
        "slot": f"{class_names[label]} {slot + 1}",
        "nearest of its class": f"{class_names[label]} {own + 1}" if own >= 0 else "none",
        "cosine": float(like.own[label, slot]),
        "nearest of the other class": f"{class_names[1 - label]} "
        f"{int(like.other_slot[label, slot]) + 1}",
        "cosine to it": float(like.other[label, slot]),
        "notes": "; ".join(notes),
    }
