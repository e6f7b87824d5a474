"""One self-contained HTML page: no network, no script, fit to travel by mail."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
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
class Comparison:
    """A paired comparison: its rows, what they are, and the sentences that follow from them."""

    rows: Sequence[Row]
    about: Sequence[str]
    may_claim: Sequence[str]
    may_not_claim: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page says, in the order it says it.

    Tables are rows of named cells: floats with three decimals, NaN and None as "not defined", a key
    that a row lacks as an empty cell. ``asked``, ``provenance``: (name, value).
    """

    title: str
    asked: Sequence[tuple[str, str]]
    results: Sequence[Row]
    notes: Sequence[str]
    comparison: Comparison | None = None
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
    """Write the page, whole or not at all.

    Every text is escaped, and folders are taken out of it: a page that travels shows file names,
    not where they lay.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_hide_folders, trim_blocks=True
    )
    environment.filters |= {"cell": _cell, "columns": _columns, "number": _is_number}
    pictures = [
        {"caption": p.caption, "alt": p.alt, "source": _data_uri(png_of(p.figure))}
        for p in report.pictures
    ]
    page = resources.files("momkd.reporting").joinpath("report.html.j2").read_text("utf-8")
    write_text(path, environment.from_string(page).render(report=report, pictures=pictures))


def _data_uri(png: bytes) -> Markup:
    return Markup("data:image/png;base64," + base64.b64encode(png).decode("ascii"))


# folders from a root, a home, a drive or a server; not 3/4, and/or, a relative path, an address
_FOLDERS = re.compile(
    r"(?<![\w./\\])(?:file://|~|[A-Za-z]:|\\)?"  # where a path may begin
    r"(?:[/\\][\w.@+\- ]*[\w.@+\-])+[/\\]"  # its folders, up to the last separator
)


def _hide_folders(value: Any) -> Any:
    """Leave of a path its last name; markup, which only we make, stays as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _FOLDERS.sub(".../", value)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not defined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
