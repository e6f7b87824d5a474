"""Curves as small inline SVG: coloured by the page's style sheet, so light, dark and print agree.

Every chart has its text alternative. Lines differ in colour and in dashes, so that they stay apart
with any colour vision and on a grey printer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from momkd.reporting.words import plain, short

MOST_POINTS = 300
N_COLOURS = 7
N_DASHES = 4
_CHARACTER_PX = 5.5

Weight = Literal["strong", "even", "faint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve: its points, how strongly it is drawn, and its look.

    Parameters
    ----------
    look
        Number of its colour and dashes; the same for a model in every chart. None for a guide line.
    low, high
        Bounds of a vertical interval at each point, or empty.
    marked
        Whether each point is a dot.
    """

    x: Sequence[float]
    y: Sequence[float]
    look: int | None = None
    weight: Weight = "even"
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A label with its unit, and the range that is shown."""

    label: str
    low: float
    high: float

    @classmethod
    def around(cls, label: str, values: Sequence[float], *, start: float | None = None) -> "Axis":
        """Make an axis that holds all finite values; from ``start`` where given."""
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low = min(known) if start is None else start
        high = max(*known, low)
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(label=label, low=low - room if start is None else low, high=high + room)

    def ticks(self, most: int = 6) -> list[float]:
        """Give round numbers within the range."""
        span = self.high - self.low
        raw = span / most
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def share(self, value: float) -> float:
        """Give where a value lies, 0 at the low and 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    x: Axis
    y: Axis
    width: int
    height: int
    left: int = 46
    bottom: int = 36
    margin: int = 8

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = self.width - self.left - self.margin
        up = self.height - self.bottom - self.margin
        return (
            self.left + across * self.x.share(x),
            self.height - self.bottom - up * self.y.share(y),
        )


def draw_lines(
    lines: Sequence[Line],
    *,
    x: Axis,
    y: Axis,
    alt: str,
    width: int = 340,
    height: int = 290,
) -> Markup:
    """Draw curves over two axes; a value that is not finite leaves a gap.

    Parameters
    ----------
    alt
        What the chart says, for those who cannot see it.
    width, height
        In CSS pixels.
    """
    frame = _Frame(x=x, y=y, width=width, height=height)
    by_weight = sorted(lines, key=lambda one: ("faint", "even", "strong").index(one.weight))
    inside = [_axes(frame), *(_line(frame, thin(line)) for line in by_weight)]
    return _svg(width, height, alt, inside)


def draw_intervals(
    rows: Sequence[tuple[str, float, float, float]], *, axis: Axis, alt: str, mark: float | None
) -> Markup:
    """Draw a dot with its interval for each row of (name, value, low, high).

    Parameters
    ----------
    mark
        Where a dotted line stands: the figure of a worthless model, or of no difference.
    """
    height = 24 * len(rows) + 44
    frame = _Frame(
        x=axis, y=Axis(label="", low=0.0, high=float(len(rows))), width=460, height=height, left=160
    )
    inside = [_axes(frame, has_y=False)]
    if mark is not None:
        inside.append(_path(frame, [mark, mark], [0.0, float(len(rows))], "guide"))
    for place, (name, value, low, high) in enumerate(rows):
        at = len(rows) - place - 0.5
        across, up = frame.at(value if math.isfinite(value) else axis.low, at)
        inside.append(
            Markup('<text class="name" x="{}" y="{}">{}</text>').format(
                frame.left - 8, _px(up + 4), short(name, 26)
            )
        )
        if not math.isfinite(value):
            words = Markup('<text x="{}" y="{}">not defined</text>')
            inside.append(words.format(frame.left + 6, _px(up + 4)))
            continue
        if math.isfinite(low) and math.isfinite(high):
            inside.append(_path(frame, [low, high], [at, at], "k0 bar"))
        inside.append(_dot(across, up, "k0", 4))
    return _svg(frame.width, height, alt, inside)


def swatch(look: int) -> Markup:
    """Draw the piece of line that stands beside a name in a legend."""
    inside = Markup('<path class="{}" d="M1 6H31"/>').format(_look(look))
    head = '<svg class="swatch" width="32" height="12" viewBox="0 0 32 12" aria-hidden="true">'
    return Markup(head) + inside + Markup("</svg>")


def thin(line: Line) -> Line:
    """Leave at most 300 points of a line, its ends among them."""
    n = len(line.x)
    if n <= MOST_POINTS:
        return line
    kept = [round(i * (n - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)]

    def of(values: Sequence[float]) -> list[float]:
        return [values[i] for i in kept] if len(values) else []

    return Line(
        x=of(line.x),
        y=of(line.y),
        look=line.look,
        weight=line.weight,
        low=of(line.low),
        high=of(line.high),
        marked=line.marked,
    )


def _svg(width: int, height: int, alt: str, inside: Sequence[Markup]) -> Markup:
    head = Markup(
        '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
    )
    return (
        head.format(plain(alt), width, height, width, height)
        + Markup("").join(inside)
        + Markup("</svg>")
    )


def _axes(frame: _Frame, *, has_y: bool = True) -> Markup:
    right, foot = frame.width - frame.margin, frame.height - frame.bottom
    parts = [Markup('<path class="axis" d="M{} {}H{}"/>').format(frame.left, foot, right)]
    for value in frame.x.ticks():
        across = _px(frame.at(value, frame.y.low)[0])
        parts.append(
            Markup('<path class="grid" d="M{} {}V{}"/>').format(across, frame.margin, foot)
        )
        text = Markup('<text class="mid" x="{}" y="{}">{}</text>')
        parts.append(text.format(across, foot + 13, _number(value)))
    words = Markup('<text class="mid label" x="{}" y="{}">{}</text>')
    middle = (frame.left + right) // 2
    parts.append(words.format(middle, frame.height - 6, plain(frame.x.label)))
    if not has_y:
        return Markup("").join(parts)
    for value in frame.y.ticks():
        up = _px(frame.at(frame.x.low, value)[1])
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(frame.left, up, right))
        text = Markup('<text class="end" x="{}" y="{}">{}</text>')
        parts.append(text.format(frame.left - 5, _px(float(up) + 3.5), _number(value)))
    turned = Markup('<text class="mid label" transform="translate(11 {}) rotate(-90)">{}</text>')
    middle = (frame.margin + foot) // 2
    parts.append(turned.format(middle, short(frame.y.label, int(2 * middle / _CHARACTER_PX))))
    return Markup("").join(parts)


def _line(frame: _Frame, line: Line) -> Markup:
    kind = "guide" if line.look is None else f"{_look(line.look)} {line.weight}"
    parts = [_path(frame, line.x, line.y, kind)]
    if len(line.low):
        bars = "k" + str((line.look or 0) % N_COLOURS) + " bar"
        for x, low, high in zip(line.x, line.low, line.high, strict=True):
            if math.isfinite(low) and math.isfinite(high):
                parts.append(_path(frame, [x, x], [low, high], bars))
    if line.marked:
        colour = f"k{(line.look or 0) % N_COLOURS}"
        for x, y in zip(line.x, line.y, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                parts.append(_dot(*frame.at(x, y), colour, 3))
    return Markup("").join(parts)


def _path(frame: _Frame, x: Sequence[float], y: Sequence[float], kind: str) -> Markup:
    steps: list[str] = []
    drawing = False
    for one, two in zip(x, y, strict=True):
        if not (math.isfinite(one) and math.isfinite(two)):
            drawing = False
            continue
        across, up = frame.at(one, min(max(two, frame.y.low), frame.y.high))
        steps.append(f"{'L' if drawing else 'M'}{_px(across)} {_px(up)}")
        drawing = True
    return Markup('<path class="{}" d="{}"/>').format(kind, "".join(steps)) if steps else Markup("")


def _dot(across: float, up: float, colour: str, radius: int) -> Markup:
    dot = Markup('<circle class="{} dot" cx="{}" cy="{}" r="{}"/>')
    return dot.format(colour, _px(across), _px(up), radius)


def _look(look: int) -> str:
    return f"k{look % N_COLOURS} d{look % N_DASHES}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _number(value: float) -> str:
    return str(escape(f"{value:.10g}")) if abs(value) > 1e-12 else "0"
