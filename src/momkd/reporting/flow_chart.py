"""The flow of patients as a chart: who was listed, who was left out and why, where the others are.

Nothing is counted here: titles and lines are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from momkd.reporting.words import short

_WIDTH_IN = 7.4
_MARGIN_IN = 0.1
_LINE_IN = 0.155
_PAD_IN = 0.09
_GAP_IN = 0.34
_FONT_PT = 7.5
_MAIN = (_MARGIN_IN, 3.3)
_ASIDE = (3.85, _WIDTH_IN - 3.85 - _MARGIN_IN)
_FILLS = {"main": "#eef3f8", "aside": "#f6f1ea", "side": "#eef6ef"}
_EDGE = "0.35"
LONGEST_LINE = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box of the chart: its title, and a line a fact below it."""

    title: str
    lines: Sequence[str] = ()

    @property
    def height_in(self) -> float:
        """How high it is drawn."""
        return 2 * _PAD_IN + _LINE_IN * (1 + len(self.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A chart of the flow.

    Parameters
    ----------
    listed, left_out, used
        From top to bottom; what was left out stands aside.
    sides
        Where the used ones stand, side by side; none where there are no folds.
    """

    listed: Box
    left_out: Box
    used: Box
    sides: Sequence[Box] = ()

    def words(self) -> str:
        """Say what the chart shows, for those who cannot see it."""
        boxes = (self.listed, self.left_out, self.used, *self.sides)
        told = [(box.title, "; ".join(line.strip(" :") for line in box.lines)) for box in boxes]
        return ". ".join(f"{title}: {lines}" if lines else title for title, lines in told)


def draw_flow(flow: Flow) -> Figure:
    """Draw the boxes and the arrows between them."""
    gap_in = max(_GAP_IN, flow.left_out.height_in + 2 * _PAD_IN)
    heights_in = [flow.listed.height_in, gap_in, flow.used.height_in]
    if flow.sides:
        heights_in += [_GAP_IN, max(box.height_in for box in flow.sides)]
    height_in = sum(heights_in) + 2 * _MARGIN_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH_IN)
    axes.set_ylim(0, height_in)
    axes.axis("off")
    top = height_in - _MARGIN_IN
    middle = _MAIN[0] + _MAIN[1] / 2
    foot = _draw_box(axes, flow.listed, _MAIN, top, "main")
    turn = foot - gap_in / 2
    _draw_box(axes, flow.left_out, _ASIDE, turn + flow.left_out.height_in / 2, "aside")
    _point(axes, (middle, foot), (middle, foot - gap_in))
    _point(axes, (middle, turn), (_ASIDE[0], turn))
    foot = _draw_box(axes, flow.used, _MAIN, foot - gap_in, "main")
    if flow.sides:
        _draw_sides(axes, flow.sides, middle, foot)
    return figure


def _draw_sides(axes: Axes, sides: Sequence[Box], middle: float, foot: float) -> None:
    room = (_WIDTH_IN - 2 * _MARGIN_IN) / len(sides)
    turn, top = foot - _GAP_IN / 2, foot - _GAP_IN
    places = [(_MARGIN_IN + room * i + 0.04, room - 0.08) for i in range(len(sides))]
    centres = [left + width / 2 for left, width in places]
    axes.plot([middle, middle], [foot, turn], color=_EDGE, linewidth=0.9)
    ends = [min(*centres, middle), max(*centres, middle)]
    axes.plot(ends, [turn, turn], color=_EDGE, linewidth=0.9)
    for box, place, centre in zip(sides, places, centres, strict=True):
        _point(axes, (centre, turn), (centre, top))
        _draw_box(axes, box, place, top, "side")


def _draw_box(axes: Axes, box: Box, place: tuple[float, float], top: float, kind: str) -> float:
    """Draw a box below a height; give where it ends."""
    left, width = place
    foot = top - box.height_in
    axes.add_patch(
        FancyBboxPatch(
            (left, foot),
            width,
            box.height_in,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=_FILLS[kind],
            edgecolor=_EDGE,
            linewidth=0.9,
        )
    )
    for row, line in enumerate((box.title, *box.lines)):
        axes.text(
            left + _PAD_IN,
            top - _PAD_IN - _LINE_IN * (row + 0.5),
            short(line, LONGEST_LINE),
            fontsize=_FONT_PT,
            fontweight="normal" if row else "bold",
            verticalalignment="center",
            clip_on=True,
        )
    return foot


def _point(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    how = {"arrowstyle": "-|>", "color": _EDGE, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=how)
