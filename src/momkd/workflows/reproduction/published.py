"""What the paper prints, beside ours where label and row are the same; and where it is at odds."""

import re
from functools import cache
from importlib import resources

import yaml

from momkd.config import Options, parse_options
from momkd.reporting.paper_table import Footnote

_TASKS = {
    "HER2": r"her-?2|erbb2",
    "PR": r"(?<![a-z])(pr|pgr|progesterone)(?![a-z])",
    "ODX": r"odx|oncotype",
}


class PublishedFigure(Options):
    """One printed AUROC, in percent; ``how`` says whether it is stated or derived."""

    table: str
    task: str
    row: str
    auroc: float
    sd: float | None = None
    how: str

    def text(self) -> str:
        """Write it as printed; what is derived is in brackets."""
        spread = "" if self.sd is None else f" ± {self.sd:.1f}"
        text = f"{self.auroc:.1f}{spread}"
        return text if self.how == "stated" else f"({text})"


class Inconsistency(Options):
    """A place where the paper is at odds with itself or with its own arithmetic."""

    table: str
    tasks: list[str]
    column: str
    text: str


class Published(Options):
    """The file ``published.yaml``."""

    source: str
    cohort: str
    figures: list[PublishedFigure]
    inconsistencies: list[Inconsistency]


@cache
def read_published() -> Published:
    """Read ``published.yaml``."""
    path = resources.files("momkd.workflows.reproduction").joinpath("published.yaml")
    return parse_options(Published, yaml.safe_load(path.read_text("utf-8")), "published.yaml")


def task_of(label: str) -> str:
    """Give the paper's name of a label (HER2, PR, ODX), or an empty text for any other."""
    found = [task for task, form in _TASKS.items() if re.search(form, label, re.IGNORECASE)]
    return found[0] if len(found) == 1 else ""


def published_figures(table: str, label: str) -> dict[str, PublishedFigure]:
    """Give the printed figures of a table for this label, by row; none for a label of its own."""
    task = task_of(label)
    return {f.row: f for f in read_published().figures if (f.table, f.task) == (table, task)}


def footnotes_of(table: str, label: str) -> list[Footnote]:
    """Give what has to be known of the printed figures of a table, for this label."""
    task = task_of(label)
    told = [
        Footnote(text=one.text, column=one.column)
        for one in read_published().inconsistencies
        if one.table == table and (not one.tasks or task in one.tasks)
    ]
    if published_figures(table, label):
        told.append(_provenance())
    return told


def _provenance() -> Footnote:
    of = read_published()
    text = (
        f"{of.source}: {of.cohort}. Other patients, features and folds than ours, so the two "
        "columns are no comparison. In brackets: derived from two printed figures. Blank: our "
        "notes of the paper do not hold it."
    )
    return Footnote(text=text, column="published")
