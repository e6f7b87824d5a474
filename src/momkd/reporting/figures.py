"""Figures as bytes and as text: any name can be drawn, and equal figures have equal bytes."""

import io
import warnings
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_LONGEST = 48


def png_of(figure: Figure, dpi: int = 150) -> bytes:
    """Give a figure as PNG bytes, without a date in it."""
    return _save(figure, format="png", dpi=dpi, metadata={"Software": None})


def svg_of(figure: Figure) -> str:
    """Give a figure as SVG text, the same text for the same figure."""
    with mpl.rc_context({"svg.hashsalt": "momkd", "svg.fonttype": "none"}):
        text = _save(figure, format="svg", metadata={"Date": None, "Creator": None}).decode()
    return text[text.index("<svg") :]


def pdf_of(figure: Figure) -> bytes:
    """Give a figure as PDF bytes with embedded letters, the same bytes for the same figure."""
    nobody = {"Creator": None, "Producer": None, "CreationDate": None}
    with mpl.rc_context({"pdf.fonttype": 42}):
        return _save(figure, format="pdf", metadata=nobody)


def _save(figure: Figure, **how: Any) -> bytes:
    # a slide may be called "$x_{", hold control characters or fill a page: no figure fails for that
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        words = "".join(c if c.isprintable() or c == "\n" else "?" for c in text.get_text())
        text.set_text(words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "...")
        text.set_parse_math(False)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(stream, **how)
    return stream.getvalue()
