"""Figures of a report: colour-blind-safe, the same bytes for the same numbers."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito (2008): eight colours that stay apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_SIDE_IN = 4.2
_BINS = 8
_LONGEST = 48

# folds and models differ in their numbers of cases, so the axes bear no common name
Scores = tuple[Int64[np.ndarray, " _"], Float64[np.ndarray, " _"]]
Band = tuple[Float64[np.ndarray, " _"], Float64[np.ndarray, " _"], Float64[np.ndarray, " _"]]

_GRID = np.linspace(0, 1, 101)


def draw_roc(
    models: Mapping[str, Sequence[Scores]], *, bands: Mapping[str, Band] | None = None
) -> Figure:
    """Draw ROC curves: each fold thin, the mean over folds thick.

    Parameters
    ----------
    models
        Name -> (labels, probability) of each fold; a fold with one class has no curve.
    bands
        Name -> (1 - specificity, low, high) of an interval around the mean curve.
    """
    figure = _blank(_SIDE_IN)
    axes = _unit_square(figure.add_subplot(), "1 - specificity", "sensitivity")
    axes.set_aspect("equal")
    for (name, folds), colour in zip(models.items(), _cycle(len(models)), strict=True):
        curves = [_roc_on_grid(*fold) for fold in folds if len(np.unique(fold[0])) == 2]
        if bands is not None and name in bands:
            axes.fill_between(*bands[name], color=colour, alpha=0.15, linewidth=0)
        for curve in curves:
            axes.plot(_GRID, curve, color=colour, linewidth=0.5, alpha=0.35)
        if curves:
            axes.plot(_GRID, np.mean(curves, axis=0), color=colour, linewidth=2, label=name)
    _name_lines(axes, "lower right")
    return figure


def draw_calibration(models: Mapping[str, Scores]) -> Figure:
    """Draw observed against predicted shares, and below, how many cases got which probability.

    Bins of equal counts, 95 % Wilson intervals.

    Parameters
    ----------
    models
        Name -> (labels, probability) of all test cases together.
    """
    figure = _blank(1.25 * _SIDE_IN)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _unit_square(upper, "", "observed share positive")
    for (name, (labels, p)), colour in zip(models.items(), _cycle(len(models)), strict=True):
        bins = np.array_split(np.argsort(p, kind="stable"), min(_BINS, len(p)))
        x = np.array([p[b].mean() for b in bins])
        share = np.array([labels[b].mean() for b in bins])
        low, high = _wilson(share, np.array([len(b) for b in bins]))
        bars = np.maximum(np.stack([share - low, high - share]), 0)
        style = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1}
        upper.errorbar(x, share, yerr=bars, label=f"{name} (n = {len(p)})", **style)
        lower.hist(p, bins=20, range=(0, 1), histtype="step", color=colour)
    _name_lines(upper, "upper left")
    lower.set(xlabel="predicted probability", ylabel="cases", xlim=(0, 1))
    lower.spines[["top", "right"]].set_visible(False)
    return figure


def draw_decision_curves(
    thresholds: Float64[np.ndarray, " t"],
    models: Mapping[str, Float64[np.ndarray, " t"]],
    *,
    treat_all: Float64[np.ndarray, " t"],
) -> Figure:
    """Draw net benefit by threshold probability, beside acting on all and on none.

    Parameters
    ----------
    models
        Name -> net benefit at each threshold.
    treat_all
        The same of acting on every case; what falls far below 0 is left outside the picture.
    """
    figure = _blank(_SIDE_IN)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot(thresholds, treat_all, color="0.4", linewidth=1, linestyle="--", label="act on all")
    axes.axhline(0, color="0.7", linewidth=1, linestyle=":", label="act on none")
    for (name, benefit), colour in zip(models.items(), _cycle(len(models)), strict=True):
        axes.plot(thresholds, benefit, color=colour, linewidth=1.5, label=name)
    top = max(float(np.max(benefit)) for benefit in (*models.values(), treat_all))
    axes.set(
        xlim=(thresholds[0], thresholds[-1]), ylim=(-0.25 * top, 1.1 * top) if top > 0 else None
    )
    axes.set(xlabel="threshold probability", ylabel="net benefit")
    _name_lines(axes, "upper right")
    return figure


def draw_history(
    history: Sequence[Mapping[str, Any]], columns: Sequence[str], *, best_epoch: int | None = None
) -> Figure:
    """Draw columns of a training's ``history.csv`` by epoch, one panel a column.

    Parameters
    ----------
    history
        One row an epoch, with ``epoch``; a value that is absent or NaN leaves a gap.
    columns
        Which columns; panels share the epochs, not the scale.
    best_epoch
        Marked where given.
    """
    figure = _blank(1.1 * len(columns) + 0.6)
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(panels, columns, strict=True):
        axes.plot(epochs, [row.get(name, np.nan) for row in history], color=COLOURS[0])
        axes.set_ylabel(name, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=COLOURS[1], linewidth=1, linestyle="--")
    panels[-1].set_xlabel("epoch" if best_epoch is None else "epoch (dashed: the one kept)")
    return figure


def png_of(figure: Figure, dpi: int = 150) -> bytes:
    """Give a figure as PNG bytes, without a date in it."""
    return _save(figure, format="png", dpi=dpi, metadata={"Software": None})


def svg_of(figure: Figure) -> str:
    """Give a figure as SVG text, the same text for the same figure."""
    with mpl.rc_context({"svg.hashsalt": "momkd", "svg.fonttype": "none"}):
        text = _save(figure, format="svg", metadata={"Date": None, "Creator": None}).decode()
    return text[text.index("<svg") :]


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


def _blank(height_in: float) -> Figure:
    return Figure(figsize=(_SIDE_IN, height_in), layout="constrained")


def _unit_square(axes: Axes, x_label: str, y_label: str) -> Axes:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
    return axes


def _name_lines(axes: Axes, place: Literal["lower right", "upper left", "upper right"]) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place, frameon=False, fontsize=8)


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
