"""One self-contained HTML page: no network, no script, fit to travel by mail."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from momkd.reporting.figures import png_of
from momkd.storage import write_text

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure with its caption and the text for those who cannot see it."""

    figure: Figure
    caption: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page says, in the order it says it.

    Tables are rows of equal keys; every text is escaped.
    """

    title: str
    asked: Sequence[tuple[str, str]]
    results: Sequence[Row]
    notes: Sequence[str]
    extra_tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    flow: Sequence[Row] = ()
    dropped: Sequence[Row] = ()
    folds: Sequence[Row] = ()
    per_fold: Sequence[Row] = ()
    configuration: str = ""
    provenance: Sequence[tuple[str, str]] = ()
    limits: Sequence[str] = ()


def write_report(path: Path, report: Report) -> None:
    """Write the page."""
    environment = Environment(
        loader=PackageLoader("momkd.reporting", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["cell"] = _cell
    pictures = [
        {"caption": p.caption, "alt": p.alt, "data": base64.b64encode(png_of(p.figure)).decode()}
        for p in report.pictures
    ]
    template = environment.get_template("report.html.j2")
    write_text(path, template.render(report=report, pictures=pictures))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not defined"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
