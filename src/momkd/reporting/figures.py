"""Figures of a report: colour-blind-safe, the same bytes for the same numbers."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008): eight colours that stay apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_SIDE_IN = 4.2
_BINS = 8

Scores = tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]


def draw_roc(models: Mapping[str, Sequence[Scores]]) -> Figure:
    """Draw ROC curves: each fold thin, the mean over folds thick.

    Parameters
    ----------
    models
        Name -> (labels, probability) of each fold; a fold with one class has no curve.
    """
    figure, axes = _square("1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
    for (name, folds), colour in zip(models.items(), _cycle(len(models)), strict=True):
        curves = [_roc_on_grid(*fold) for fold in folds if len(np.unique(fold[0])) == 2]
        for curve in curves:
            axes.plot(_GRID, curve, color=colour, linewidth=0.5, alpha=0.35)
        if curves:
            axes.plot(_GRID, np.mean(curves, axis=0), color=colour, linewidth=2, label=name)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def draw_calibration(models: Mapping[str, Scores]) -> Figure:
    """Draw observed against predicted shares, bins of equal counts, 95 % Wilson intervals."""
    figure, axes = _square("predicted probability", "observed share positive")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
    for (name, (labels, p)), colour in zip(models.items(), _cycle(len(models)), strict=True):
        bins = np.array_split(np.argsort(p, kind="stable"), min(_BINS, len(p)))
        x = np.array([p[b].mean() for b in bins])
        share = np.array([labels[b].mean() for b in bins])
        low, high = _wilson(share, np.array([len(b) for b in bins]))
        bars = np.maximum(np.stack([share - low, high - share]), 0)
        axes.errorbar(
            x, share, yerr=bars, color=colour, marker="o", markersize=4, linewidth=1, label=name
        )
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def png_of(figure: Figure, dpi: int = 130) -> bytes:
    """Give a figure as PNG bytes, without a date in it."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def svg_of(figure: Figure) -> str:
    """Give a figure as SVG text, the same text for the same figure."""
    FigureCanvasAgg(figure)
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "momkd", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


_GRID = np.linspace(0, 1, 101)


def _roc_on_grid(
    labels: Int64[np.ndarray, " n"], p: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " grid"]:
    order = np.argsort(-p, kind="stable")
    last_of_tie = np.flatnonzero(np.diff(p[order], append=-np.inf))
    yes = np.cumsum(labels[order])[last_of_tie]
    no = last_of_tie + 1 - yes
    x = np.concatenate([[0.0], no / no[-1]])
    y = np.concatenate([[0.0], yes / yes[-1]])
    return np.interp(_GRID, x, y)


def _wilson(
    share: Float64[np.ndarray, " b"], n: Int64[np.ndarray, " b"]
) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
    z = 1.96
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _square(x_label: str, y_label: str):  # type: ignore[no-untyped-def]
    figure = Figure(figsize=(_SIDE_IN, _SIDE_IN), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
