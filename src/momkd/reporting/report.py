"""One self-contained HTML page: no network, fit to travel by mail."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from momkd.reporting.charts import swatch
from momkd.reporting.figures import png_of
from momkd.reporting.page import Bounded, Report, Row, Span, Table
from momkd.reporting.words import plain_value
from momkd.storage import write_text

UNDEFINED = "not defined"


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all.

    Every text is escaped, and folders are taken out of it: a page that travels shows file names,
    not where they lay. The page's policy lets nothing be loaded, and no script or style run but its
    own two, which it knows by digest.

    Raises
    ------
    MachineError
        X10 the disk or the permissions do not allow it.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=plain_value, trim_blocks=True
    )
    environment.filters |= {
        "cell": _cell,
        "columns": _columns,
        "sort_key": _sort_key,
        "source": _source,
        "swatch": swatch,
    }
    style, script = _read("report.css"), _read("report.js")
    page = environment.from_string(_read("report.html.j2")).render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
    )
    write_text(path, page)


def _read(name: str) -> str:
    return resources.files("momkd.reporting").joinpath(name).read_text("utf-8")


def _digest(text: str) -> Markup:
    """Give the digest of an inline script or style as a policy states it."""
    sha = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Markup(f"'sha256-{sha}'")


def _source(figure: Figure | bytes) -> Markup:
    content = png_of(figure) if isinstance(figure, Figure) else figure
    form = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return Markup(f"data:image/{form};base64," + base64.b64encode(content).decode("ascii"))


def _columns(table: Table) -> list[tuple[str, str]]:
    """Give the keys of a table in order of appearance, and what each is called."""
    keys = dict.fromkeys(key for row in table.rows for key in row)
    return [(key, table.headings.get(key, key)) for key in keys]


def _sort_key(row: Row, key: str) -> Markup | str:
    """Give the number a cell is sorted by; empty where it is text or not defined."""
    value = row.get(key)
    if isinstance(value, Bounded):
        value = value.value
    if isinstance(value, Span):
        value = value.low
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return ""
    return Markup(f"{value:.6g}")


def _cell(row: Row, key: str) -> str:
    return _show(row[key]) if key in row else ""


def _show(value: Any) -> str:
    if isinstance(value, Bounded):
        return _show_bounded(value)
    if isinstance(value, Span):
        return f"{value.low:.3f} to {value.high:.3f}"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_show(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_show, value))
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _show_bounded(found: Bounded) -> str:
    if found.value is None or math.isnan(found.value):
        return f"{UNDEFINED}: {found.why}" if found.why else UNDEFINED
    bounds = (found.low, found.high)
    if any(b is None or math.isnan(b) for b in bounds):
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
