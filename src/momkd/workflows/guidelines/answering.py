"""A guideline answered from a run: each item from the run, by the authors, or both."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from momkd.workflows.guidelines import answers_data, answers_model, answers_scores
from momkd.workflows.guidelines.answers import Answer, Answerer, Gap
from momkd.workflows.guidelines.facts import RunFacts
from momkd.workflows.guidelines.items import Guideline, Item

ANSWERS: dict[str, Answerer] = answers_data.ANSWERS | answers_model.ANSWERS | answers_scores.ANSWERS

Status = Literal["from the run", "in part", "for the authors", "not in this run"]
STATUSES: tuple[Status, ...] = ("from the run", "in part", "for the authors", "not in this run")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredItem:
    """An item with what the run says of it.

    Parameters
    ----------
    text, where
        What can stand in a paper, and where the run has it; empty where it says nothing.
    lacks
        What this run does not hold.
    authors
        What only the authors can say.
    """

    number: str
    topic: str
    text: str
    where: str
    lacks: str
    authors: str

    @property
    def status(self) -> Status:
        """Who answers it: the run, the authors, both, or nobody as the run stands."""
        if self.text:
            return "in part" if self.authors or self.lacks else "from the run"
        return "for the authors" if self.authors else "not in this run"


def answer_guideline(guideline: Guideline, run: RunFacts) -> list[AnsweredItem]:
    """Answer every item of a guideline, as far as a run can."""
    return [_answer(item, run) for item in guideline.items]


def count_statuses(items: Sequence[AnsweredItem]) -> dict[Status, int]:
    """Count the items of each status."""
    found = Counter(item.status for item in items)
    return {status: found[status] for status in STATUSES}


def _answer(item: Item, run: RunFacts) -> AnsweredItem:
    found = [ANSWERS[name](run) for name in item.answers]
    given = [one for one in found if isinstance(one, Answer)]
    gaps = [one.lacks for one in found if isinstance(one, Gap)]
    places = dict.fromkeys(part for one in given for part in one.where.split("; "))
    return AnsweredItem(
        number=item.number,
        topic=item.topic,
        text=" ".join(f"{one.text.rstrip('.')}." for one in given),
        where="; ".join(places),
        lacks="; ".join(gaps),
        authors=item.authors,
    )
