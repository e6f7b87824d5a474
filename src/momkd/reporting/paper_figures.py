"""Figures as papers print them: colours and dashes stay apart on a grey printer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

_COLOURS = ("#0072b2", "#c44e00", "#007e5b", "#a8508a")
_DASHES = ("-", "--", "-.", ":")
_PANEL_IN = (3.4, 2.7)
_FOOT_IN = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What one class did in several trainings, epoch by epoch.

    Parameters
    ----------
    name
        In the legend.
    epochs, values
        One sequence a training; they may end at different epochs.
    """

    name: str
    epochs: Sequence[Sequence[float]]
    values: Sequence[Sequence[float]]

    def medians(self) -> tuple[list[float], list[float], list[float], list[float]]:
        """Give epochs with the median, least and greatest of those trainings that reached each."""
        by_epoch: dict[float, list[float]] = {}
        for epochs, values in zip(self.epochs, self.values, strict=True):
            for epoch, value in zip(epochs, values, strict=True):
                if math.isfinite(value):
                    by_epoch.setdefault(epoch, []).append(value)
        order = sorted(by_epoch)
        told = [by_epoch[epoch] for epoch in order]
        return order, [float(np.median(t)) for t in told], [min(t) for t in told], [*map(max, told)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes of a figure by epoch."""

    label: str
    traces: Sequence[Traces]
    top: float | None = None


def draw_by_epoch(panels: Sequence[Panel], *, foot: str) -> Figure:
    """Draw medians over trainings with their range shaded, a line a class.

    Parameters
    ----------
    panels
        From left to right; ``top`` fixes the end of an axis, which begins at 0.
    foot
        Small print below.
    """
    figure, axes = _make(len(panels), foot)
    for axis, panel in zip(axes, panels, strict=True):
        for look, traces in enumerate(panel.traces):
            colour, dashes = _COLOURS[look % len(_COLOURS)], _DASHES[look % len(_DASHES)]
            epochs, middle, low, high = traces.medians()
            axis.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(
                epochs,
                middle,
                color=colour,
                linestyle=dashes,
                marker="o" if len(epochs) == 1 else "",
                label=traces.name,
            )
        axis.set_xlabel("epoch")
        axis.set_ylabel(panel.label)
        axis.set_ylim(bottom=0, top=panel.top)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def draw_by_size(
    sizes: Sequence[int],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    labels: tuple[str, str],
    foot: str,
) -> Figure:
    """Draw a figure of merit with its interval over sizes that double.

    Parameters
    ----------
    low, high
        Ends of the intervals; NaN where there is none.
    labels
        Of the axis of sizes, and of the values.
    """
    figure, (axis,) = _make(1, foot)
    middle = np.asarray(values, dtype=float)
    reach = np.stack([middle - np.asarray(low), np.asarray(high) - middle])
    # a bound may pass the estimate by rounding, and has no length where it is not defined
    reach = np.nan_to_num(np.clip(reach, 0, None), nan=0.0)
    axis.errorbar(sizes, middle, yerr=reach, color=_COLOURS[0], marker="o", capsize=3)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(sizes), [str(size) for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    return figure


def _make(n_panels: int, foot: str) -> tuple[Figure, list[Axes]]:
    width, height = _PANEL_IN
    figure = Figure(figsize=(width * n_panels, height + _FOOT_IN), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, n_panels)))
    figure.supxlabel(foot, fontsize=7, color="0.35")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
