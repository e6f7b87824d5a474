"""What an answer is: text for a paper with the place it comes from, or what this run lacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from momkd.workflows.guidelines.facts import RunFacts
from momkd.workflows.tables import with_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a run says to an item, and where it stands."""

    text: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What a run would have to hold to answer."""

    lacks: str


Found = Answer | Gap
Answerer = Callable[[RunFacts], Found]


def figure(found: Mapping[str, Any]) -> str:
    """Write a figure with its 95 % interval."""
    return with_interval(found["value"], found["low"], found["high"])


def listed(names: object) -> str:
    """Write names of a setting as a list; ``none`` for none."""
    if isinstance(names, list | tuple):
        return ", ".join(map(str, names)) or "none"
    return "none" if names is None else str(names)
