"""The items of a guideline: numbers and topics, who answers each, and what authors must add."""

from functools import cache
from importlib import resources

import yaml
from pydantic import model_validator

from momkd.config import Options, parse_options

GUIDELINES = ("tripod_ai", "claim", "probast_ai")


class Item(Options):
    """One item of a guideline, in our own words.

    Parameters
    ----------
    number, topic
        The number is the guideline's.
    answers
        Names of what a run may answer, see :mod:`momkd.workflows.guidelines.answering`.
    authors
        What only the authors can say; empty where nothing is left to them.
    """

    number: str
    topic: str
    answers: tuple[str, ...] = ()
    authors: str = ""

    @model_validator(mode="after")
    def _is_somebodys(self) -> "Item":
        if not self.answers and not self.authors:
            raise ValueError(f"item {self.number} is neither answered nor asked of the authors")
        return self


class Guideline(Options):
    """A guideline: what it is called, where it is published, and its items."""

    name: str
    title: str
    source: str
    about: str
    items: tuple[Item, ...]


@cache
def read_guideline(name: str) -> Guideline:
    """Read the items of a guideline from the file that comes with the package."""
    path = resources.files("momkd.workflows.guidelines").joinpath(f"{name}.yaml")
    return parse_options(Guideline, yaml.safe_load(path.read_text("utf-8")), f"{name}.yaml")
