"""Answered guidelines as files: a table in Markdown and in CSV, and the leakage sheet.

Text of users is escaped for the form it stands in, and loses the folders of this machine.
"""

from collections.abc import Iterable, Mapping, Sequence

from momkd.reporting.words import plain as without_folders
from momkd.serving.card import plain as markdown_text
from momkd.storage import spreadsheet
from momkd.workflows.guidelines.answering import AnsweredItem, count_statuses
from momkd.workflows.guidelines.items import Guideline
from momkd.workflows.leakage_sheet import NOT_EXAMINED, Way

_COLUMNS = {
    "item": "number",
    "topic": "topic",
    "status": "status",
    "from the run": "text",
    "where": "where",
    "not in this run": "lacks",
    "for the authors": "authors",
}
_STATUS = (
    "*from the run*: the text can stand in a paper once it has been read. *in part*: more is "
    "needed, as said. *for the authors*: nobody else can say it. *not in this run*: nothing here "
    "answers it. Topics are paraphrased: the guideline itself is what counts."
)


def guideline_markdown(
    of: Guideline, items: Sequence[AnsweredItem], task: str, alarms: Sequence[str] = ()
) -> str:
    """Write a guideline as a page of Markdown."""
    counts = ", ".join(f"{n} {status}" for status, n in count_statuses(items).items())
    rows = [list(_row(item).values()) for item in items]
    return "\n\n".join(
        [
            f"# {of.title}: {markdown_text(without_folders(task))}",
            f"{of.source}. {of.about.capitalize()}.",
            *_alarms(alarms),
            f"{len(items)} rows: {counts}.",
            _STATUS,
            markdown_table(list(_COLUMNS), rows),
        ]
    ) + "\n"  # fmt: skip


def guideline_csv(items: Sequence[AnsweredItem]) -> str:
    """Write a guideline as CSV; text that a spreadsheet would take for a formula is quoted."""
    return spreadsheet([{k: without_folders(v) for k, v in _row(i).items()} for i in items])


def leakage_markdown(ways: Sequence[Way], task: str, alarms: Sequence[str]) -> str:
    """Write the leakage sheet as a page of Markdown."""
    rows = [list(way.row().values()) for way in ways]
    open_ = [way for way in ways if way.status == NOT_EXAMINED]
    return "\n\n".join(
        [
            f"# Leakage: {markdown_text(without_folders(task))}",
            "Types of leakage after Kapoor and Narayanan (Patterns 4:100804, 2023), in other words "
            "than theirs. *verified*: checked on the folds of this run, or the run would have been "
            "refused. *enforced*: a run cannot be made otherwise. *for the reader*: the figures "
            "are here, their meaning is a judgement. *not recorded*: this run holds no proof. "
            "*not examined*: nothing was looked at.",
            *_alarms(alarms),
            markdown_table(list(ways[0].row()), rows),
            f"{len(open_)} of {len(ways)} ways were not examined.",
        ]
    ) + "\n"  # fmt: skip


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Set rows as a table of Markdown; every cell is escaped."""
    lines = [list(header), *rows]
    cells = [[markdown_text(without_folders(cell)) for cell in line] for line in lines]
    cells.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _row(item: AnsweredItem) -> Mapping[str, str]:
    return {name: str(getattr(item, key)) for name, key in _COLUMNS.items()}


def _alarms(lines: Sequence[str]) -> list[str]:
    return [f"**{markdown_text(without_folders(line))}**" for line in lines]
