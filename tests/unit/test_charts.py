import re

import numpy as np
import pytest
from markupsafe import Markup

from momkd.reporting.charts import (
    MOST_POINTS,
    N_COLOURS,
    N_DASHES,
    Axis,
    Line,
    draw_intervals,
    draw_lines,
    swatch,
    thin,
)

UNIT = Axis(label="share", low=0.0, high=1.0)


def points(svg: str, kind: str) -> list[tuple[str, float, float]]:
    """Steps of the paths of a class, (M or L, x, y) in pixels."""
    (drawn,) = re.findall(rf'<path class="{kind}" d="([^"]*)"', svg)
    return [(k, float(x), float(y)) for k, x, y in re.findall(r"([ML])([\d.]+) ([\d.]+)", drawn)]


def test_points_lie_where_the_axes_say() -> None:
    line = Line(x=[0.0, 0.5, 1.0], y=[0.0, 1.0, 0.5], look=0)
    svg = draw_lines([line], x=UNIT, y=UNIT, alt="a", width=154, height=144)
    # 46 left and 8 right of the axis, 36 below and 8 above: 100 x 100 pixels of plane
    wanted = [("M", 46, 108), ("L", 96, 8), ("L", 146, 58)]
    assert points(svg, "k0 d0 even") == wanted


def test_a_gap_is_a_gap() -> None:
    nan = float("nan")
    line = Line(x=[0.0, 0.2, 0.4, 0.6, 0.8], y=[0.0, 1.0, nan, 1.0, float("inf")], look=1)
    steps = points(draw_lines([line], x=UNIT, y=UNIT, alt="a"), "k1 d1 even")
    assert [kind for kind, *_ in steps] == ["M", "L", "M"]
    nothing = Line(x=[0.0], y=[nan], look=1, marked=True)
    assert "circle" not in draw_lines([nothing], x=UNIT, y=UNIT, alt="a")


def test_looks_stay_apart() -> None:
    n = N_COLOURS * N_DASHES
    assert len({str(swatch(i)) for i in range(n)}) == n
    assert swatch(n) == swatch(0)


@pytest.mark.parametrize("n", [1, 2, MOST_POINTS, MOST_POINTS + 1, 5000])
def test_long_curves_are_thinned_with_their_ends(n: int) -> None:
    x = np.linspace(0, 1, n).tolist()
    line = thin(Line(x=x, y=[v**2 for v in x], look=0, low=x, high=x))
    assert len(line.x) == len(line.y) == len(line.low) == len(line.high) == min(n, MOST_POINTS)
    assert (line.x[0], line.x[-1]) == (x[0], x[-1])
    assert np.allclose(np.array(line.x) ** 2, line.y)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 1.0), (0.05, 0.5), (-3.0, 7.0), (0.0, 1e-6), (1e5, 3e5), (-0.02, 0.13)],
)
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = Axis(label="", low=low, high=high).ticks()
    assert 2 <= len(ticks) <= 8
    span = high - low
    assert all(low - span * 1e-6 <= t <= high + span * 1e-6 for t in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_an_axis_holds_what_it_is_made_around() -> None:
    axis = Axis.around("a", [3.0, float("nan"), 5.0, float("inf")])
    assert axis.low < 3 < 5 < axis.high < 6
    assert Axis.around("a", [2.0, 2.0]).low < 2 < Axis.around("a", [2.0, 2.0]).high
    assert Axis.around("a", [], start=0.0).low == 0
    assert Axis.around("a", [4.0], start=0.0).low == 0


def test_intervals_name_each_row_and_say_what_is_not_defined() -> None:
    nan = float("nan")
    rows = [("a" * 99, 0.7, 0.6, 0.8), ("b", nan, nan, nan), ("c", 0.4, nan, nan)]
    svg = draw_intervals(rows, axis=UNIT, alt="AUROC", mark=0.5)
    assert svg.count("<circle") == 2
    assert svg.count('class="k0 bar"') == 1
    assert svg.count("not defined") == 1
    assert "a" * 25 + "…" in svg
    assert 'aria-label="AUROC"' in svg


def test_words_are_escaped_once() -> None:
    axis = Axis(label="<b>&</b>", low=0.0, high=1.0)
    svg = draw_lines([Line(x=[0.0], y=[0.0])], x=axis, y=axis, alt='"<i>" /srv/a/b.csv')
    assert isinstance(svg, Markup)
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in svg
    assert 'aria-label="&#34;&lt;i&gt;&#34; .../b.csv"' in svg
