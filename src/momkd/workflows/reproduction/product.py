"""One table or figure as files: CSV, Markdown, LaTeX, JSON and, of a figure, PDF and SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from momkd.data.label_notes import target_notes
from momkd.reporting.figures import pdf_of, svg_of
from momkd.reporting.paper_table import PaperTable, latex_of, markdown_of
from momkd.storage import spreadsheet, write_bytes, write_json, write_text
from momkd.workflows.reproduction.arms import Plan
from momkd.workflows.run_folder import describe_machine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product:
    """What a target makes.

    Parameters
    ----------
    table
        As it is printed.
    records
        The same in full precision, a row of the CSV each, with the run and predictions it is from.
    facts
        What the JSON file says beside: tests and claims, say.
    figure
        Of a figure, its drawing.
    """

    table: PaperTable
    records: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    figure: Figure | None = None


def label_of(plan: Plan) -> str:
    """Give the label that is predicted."""
    return plan.settings.data.target.column


def notes_on_label(plan: Plan) -> list[str]:
    """Give what goes with the label wherever it is used."""
    return list(target_notes(plan.settings.data.target))


def write_product(plan: Plan, product: Product) -> list[str]:
    """Write a product's files; give their names.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it.
    """
    name = product.table.name
    folder = plan.folder
    rows = [{**row, "profile": plan.profile.name} for row in product.records]
    text = spreadsheet(rows)
    written = [f"{name}.{kind}" for kind in ("md", "tex", "csv")]
    if product.figure is not None:
        write_text(folder / f"{name}.svg", svg_of(product.figure))
        write_bytes(folder / f"{name}.pdf", pdf_of(product.figure))
        written += [f"{name}.svg", f"{name}.pdf"]
    write_text(folder / f"{name}.csv", text)
    write_text(folder / f"{name}.tex", latex_of(product.table))
    write_text(folder / f"{name}.md", markdown_of(product.table))
    content = {
        "number": product.table.number,
        "title": product.table.title,
        "caption": product.table.caption,
        "label": label_of(plan),
        "profile": plan.profile.name,
        "budget": plan.budget,
        "warning": plan.profile.warning,
        "seeds": plan.seeds,
        "rows": rows,
        "machine": describe_machine(),
        **product.facts,
    }
    write_json(folder / f"{name}.json", content)  # last: it says that the others are there
    return [*written, f"{name}.json"]
