"""Figures as bytes and as text: any name can be drawn, and equal figures have equal bytes."""

import io
import warnings
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_LONGEST = 48
_MOST_LINES = 3


def png_of(figure: Figure, dpi: int = 150) -> bytes:
    """Give a figure as PNG bytes, without a date in it."""
    return _save(figure, format="png", dpi=dpi, metadata={"Software": None})


def svg_of(figure: Figure, dpi: int = 150) -> str:
    """Give a figure as SVG text, the same text for the same figure.

    Lines and words stay what they are; pictures are embedded, at ``dpi``.
    """
    with mpl.rc_context({"svg.hashsalt": "momkd", "svg.fonttype": "none"}):
        about = {"Date": None, "Creator": None}
        text = _save(figure, format="svg", dpi=dpi, metadata=about).decode()
    return text[text.index("<svg") :]


def pdf_of(figure: Figure, dpi: int = 300) -> bytes:
    """Give a figure as PDF bytes, without a date in it; letters stay letters."""
    about = {"CreationDate": None, "Creator": None, "Producer": None}
    with mpl.rc_context({"pdf.fonttype": 42}):
        return _save(figure, format="pdf", dpi=dpi, metadata=about)


def _save(figure: Figure, **how: Any) -> bytes:
    # a slide may be called "$x_{", hold control characters or fill a page: no figure fails for that
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        words = "".join(c if c.isprintable() or c == "\n" else "?" for c in text.get_text())
        lines = [w if len(w) <= _LONGEST else w[: _LONGEST - 3] + "..." for w in words.split("\n")]
        text.set_text("\n".join(lines[:_MOST_LINES]))
        text.set_parse_math(False)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(stream, **how)
    return stream.getvalue()
