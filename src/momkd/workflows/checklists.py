"""``momkd report RUN --checklists DIR``: reporting guidelines filled in from a run, for a paper."""

from collections.abc import Sequence
from pathlib import Path

from momkd.errors import ConfigError
from momkd.reporting.figures import png_of, svg_of
from momkd.reporting.flow_chart import draw_flow
from momkd.reporting.page import Row, Section, Table, Words
from momkd.storage import write_bytes, write_text
from momkd.workflows.guidelines.answering import STATUSES, answer_guideline, count_statuses
from momkd.workflows.guidelines.facts import RunFacts, gather_facts
from momkd.workflows.guidelines.items import GUIDELINES, read_guideline
from momkd.workflows.guidelines.sheets import (
    guideline_csv,
    guideline_markdown,
    leakage_markdown,
)
from momkd.workflows.leakage_sheet import leakage_sheet
from momkd.workflows.report_flow import count_folds, make_flow
from momkd.workflows.report_sources import PageSources

_DPI = 300


def require_folder(path: Path) -> None:
    """Make sure that checklists can be written there.

    Raises
    ------
    ConfigError
        G07 a file stands there.
    """
    if path.exists() and not path.is_dir():
        what = f"got the file {path.name!r}, wanted a folder"
        raise ConfigError.of("G07", "--checklists", what, "several files are written there")


def write_checklists(folder: Path, of: PageSources, alarms: Sequence[str] = ()) -> list[Path]:
    """Write ``<guideline>.md`` and ``.csv``, ``leakage.md``, ``flow.svg`` and ``flow.png``.

    Parameters
    ----------
    folder
        Made where it is missing; files of these names are replaced, others are left alone.
    alarms
        What must be known of the run before anything else.

    Returns
    -------
    list of Path
        What was written; no flow where ``run.json`` holds no counts.
    """
    facts = gather_facts(of)
    task = str(of.manifest["task"])
    texts: dict[str, str] = {}
    for name in GUIDELINES:
        guideline = read_guideline(name)
        items = answer_guideline(guideline, facts)
        texts[f"{guideline.name}.md"] = guideline_markdown(guideline, items, task, alarms)
        texts[f"{guideline.name}.csv"] = guideline_csv(items)
    ways = leakage_sheet(of.manifest, facts.n_panels, facts.configuration)
    texts["leakage.md"] = leakage_markdown(ways, task, alarms)
    flow = make_flow(
        of.manifest["counts"], facts.left_out, facts.cohort, facts.sides, count_folds(of.manifest)
    )
    pictures: dict[str, bytes] = {}
    if flow is not None:
        pictures["flow.svg"] = svg_of(draw_flow(flow)).encode("utf-8")
        pictures["flow.png"] = png_of(draw_flow(flow), dpi=_DPI)
    for name, text in texts.items():
        write_text(folder / name, text)
    for name, content in pictures.items():
        write_bytes(folder / name, content)
    return [folder / name for name in (*texts, *pictures)]


def guidelines_section(of: PageSources) -> Section:
    """Tell how much of each guideline this run answers."""
    facts = gather_facts(of)
    return Section(
        title="Reporting guidelines",
        parts=[
            Words(
                lines=[
                    "What software can fill in of guidelines for reports of such studies, and what "
                    "is left to the authors. momkd report RUN --checklists DIR writes them item by "
                    "item, with the leakage sheet and the flow chart as files."
                ]
            ),
            Table(
                caption="Items of each guideline by who answers them",
                rows=[_counted(name, facts) for name in GUIDELINES],
            ),
        ],
    )


def _counted(name: str, facts: RunFacts) -> Row:
    guideline = read_guideline(name)
    counts = count_statuses(answer_guideline(guideline, facts))
    row: dict[str, object] = {"guideline": guideline.title}
    row |= {status: counts[status] for status in STATUSES}
    return row | {"source": guideline.source}
