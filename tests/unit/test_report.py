import base64
import hashlib
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from momkd.errors import MachineError
from momkd.reporting.charts import Axis, Line, draw_intervals, draw_lines
from momkd.reporting.figures import png_of, svg_of
from momkd.reporting.heatmap import draw_attention, paint_tiles
from momkd.reporting.page import (
    Bounded,
    Chart,
    Charts,
    Facts,
    Heading,
    Listing,
    Part,
    Picture,
    Report,
    Section,
    Table,
    Words,
)
from momkd.reporting.report import write_report
from momkd.types import TileGrid
from tests.page_reader import PageReader, faults_of

HOSTILE = (
    "<script>alert(1)</script>\"'><img onerror=alert(2) src=x> </style></title>--> $x_{ "
    "\x00\x1b[31m\u202e {{ 7*7 }} &lt; \ud800 " + "n" * 300
)


def tile_grid(side: int = 4, step_px0: int = 512, **changed: object) -> TileGrid:
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    coords = (np.stack([x.ravel(), y.ravel()], axis=1) * step_px0 + 1000).astype(np.int64)
    facts = {"slide_id": "s", "coords_px0": coords, "tile_px0": float(step_px0)}
    return TileGrid(**(facts | changed))


def words(figure: Figure) -> str:
    return svg_of(figure)


# --- the page


def parts_with(word: str) -> list[Part]:
    axis = Axis(label=word, low=0.0, high=1.0)
    lines = [Line(x=[0.0, 1.0], y=[0.0, 1.0], look=0), Line(x=[0.0, 1.0], y=[1.0, 0.0])]
    chart = Chart(svg=draw_lines(lines, x=axis, y=axis, alt=word), caption=word)
    rows = [(word, 0.7, 0.6, 0.8), (word, float("nan"), 0.0, 0.0)]
    bars = Chart(svg=draw_intervals(rows, axis=axis, alt=word, mark=0.5), caption=word)
    return [
        Facts(pairs=[(word, word)]),
        Words(lines=[word]),
        Words(lines=[word], is_list=True, warns=True),
        Table(
            caption=word,
            rows=[
                {"model": word, "auroc": Bounded(value=0.7, low=0.65, high=0.77), word: 0.123456},
                {"model": "b", "auroc": Bounded(value=None, why=word), word: None, "late": True},
            ],
        ),
        Table(caption=word, rows=[{"a": float("nan"), "n": 12345}], folded=True),
        Table(caption=word, rows=[]),
        Heading(text=word),
        bars,
        Charts(charts=[chart], legend=[(word, 3)]),
        Charts(charts=[chart], folded=word),
        Listing(name=word, text=word),
    ]


def make_page(tmp_path: Path, word: str = "HER2", *more: Part) -> tuple[str, PageReader]:
    report = Report(
        title=word,
        alarms=[word],
        sections=[Section(title=word, parts=[*parts_with(word), *more])],
        foot=word,
    )
    write_report(tmp_path / "report.html", report)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    return html, PageReader(html)


def test_a_page_is_well_formed_and_readable_by_all(tmp_path: Path) -> None:
    figure = draw_attention(tile_grid(), np.full(16, 1 / 16), title="t")
    html, page = make_page(tmp_path, "HER2", Picture(figure=figure, caption="c", alt="a map"))
    assert faults_of(html) == []
    assert len(page.all("table")) == 2
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    (skip,) = [a for a in page.all("a") if a.get("class") == "skip"]
    assert skip["href"] == "#main"
    assert [a["alt"] for a in page.all("img")] == ["a map"]


def test_the_checks_of_a_page_find_what_is_wrong() -> None:
    bad = (
        '<html><body onload="x"><h1>t</h1><h3>t</h3><a href="https://a">b</a><img src="x.png">'
        '<svg><text transform="translate(11 20) rotate(-90)">far too long</text></svg>'
        '<table><th>a</th></table><p id="a"></p><p id="a"></body></html>'
    )
    told = " ".join(faults_of(bad))
    for needle in (
        "onload",
        "points to https://a",
        "without alt",
        "text alternative",
        "caption",
        "axis",
    ):
        assert needle in told
    for needle in ("an id twice", "order", "scope", "language", "elsewhere", "closed", "script"):
        assert needle in told


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    html, page = make_page(tmp_path, HOSTILE)
    _, plain = make_page(tmp_path, "HER2")
    assert faults_of(html) == []
    assert [t for t, _ in page.tags] == [t for t, _ in plain.tags]
    assert [sorted(a) for _, a in page.tags] == [sorted(a) for _, a in plain.tags]
    assert page.scripts == plain.scripts
    assert "alert(1)" in page.words
    assert "{{ 7*7 }} &lt;" in page.words
    assert not set(html) & set("\x00\x1b\u202e\ud800")
    assert "n" * 300 in page.words


@settings(max_examples=15, deadline=None)
@given(word=st.text(min_size=1, max_size=30).filter(lambda t: "\r" not in t))
def test_no_word_changes_the_page(tmp_path_factory: pytest.TempPathFactory, word: str) -> None:
    folder = tmp_path_factory.mktemp("page")
    html, page = make_page(folder, word)
    _, plain = make_page(folder)
    assert [t for t, _ in page.tags] == [t for t, _ in plain.tags]
    assert page.faults == []
    assert "http:" not in html


def test_the_policy_knows_the_only_script_and_style_by_digest(tmp_path: Path) -> None:
    html, page = make_page(tmp_path)
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_undefined_is_said_and_columns_stay_in_line(tmp_path: Path) -> None:
    html, page = make_page(tmp_path)
    assert page.words.count("not defined") == 4  # 3 cells, and a row of the chart
    assert "not defined: HER2" in page.words
    assert "0.700 (0.650 to 0.770)" in page.words
    assert "0.123" in page.words
    assert "12,345" in page.words
    assert "yes" in page.words
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    assert [len(re.findall(r"<t[dh]", r)) for r in rows] == [4, 4, 4, 2, 2]
    assert 'data-v="0.7"' in html


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("/srv/someone/study/clinical.csv: row 3", ".../clinical.csv: row 3"),
        ("in /data/My Slides/TCGA/x.h5", "in .../x.h5"),
        ("~/study/x.csv", ".../x.csv"),
        (r"C:\Users\someone\x.csv", ".../x.csv"),
        ("file:///srv/someone/x.csv", ".../x.csv"),
        ("features:/srv/someone/x.csv", "features:.../x.csv"),
        ("3/4 of 7/9, and/or, um/px", "3/4 of 7/9, and/or, um/px"),
        ("recipes/momkd/paper.yaml", "recipes/momkd/paper.yaml"),
    ],
)
def test_folders_of_the_machine_do_not_travel(tmp_path: Path, written: str, shown: str) -> None:
    html, page = make_page(tmp_path, written)
    assert shown in page.words
    if shown != written:
        assert "someone" not in html


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch) -> None:
    html, _ = make_page(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="X10"):
        make_page(tmp_path, "another")
    assert (tmp_path / "report.html").read_text() == html
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


# --- figures


def test_equal_figures_have_equal_bytes() -> None:
    even, other = np.full(16, 1 / 16), np.arange(16) / 120
    one, two = (draw_attention(tile_grid(), even, title="t") for _ in range(2))
    assert png_of(one) == png_of(two)
    assert svg_of(one) == svg_of(two)
    assert png_of(one) != png_of(draw_attention(tile_grid(), other, title="t"))


@pytest.mark.parametrize("name", ["$x_{", "$\\frac", "a$b$c", "\x00\x01", "日本", "x" * 300, ""])
def test_any_name_can_be_drawn(name: str) -> None:
    figure = draw_attention(tile_grid(), np.full(16, 1 / 16), title=name)
    assert png_of(figure).startswith(b"\x89PNG")
    assert svg_of(figure).startswith("<svg")


# --- heat maps


def test_each_tile_is_painted_where_it_lies() -> None:
    grid, values = tile_grid(3), np.arange(9, dtype=np.float64)
    image, (left, right, bottom, top) = paint_tiles(grid, values)
    assert image.shape == (12, 12)
    assert (left, right, bottom, top) == (1000, 1000 + 3 * 512, 1000 + 3 * 512, 1000)
    for value, (x, y) in zip(values, grid.coords_px0, strict=True):
        row, column = (y - 1000) // 128, (x - 1000) // 128
        assert image[row : row + 4, column : column + 4] == pytest.approx(np.full((4, 4), value))


def test_gaps_are_empty_and_overlaps_are_means() -> None:
    coords = np.array([[0, 0], [256, 0], [2048, 0]], dtype=np.int64)
    grid = TileGrid(slide_id="s", coords_px0=coords, tile_px0=512.0)
    image, _ = paint_tiles(grid, np.array([1.0, 3.0, 5.0]))
    wanted = [1, 1, 2, 2, 3, 3, *[np.nan] * 10, 5, 5, 5, 5]
    assert image == pytest.approx(np.tile(wanted, (4, 1)), nan_ok=True)


def test_a_huge_slide_is_drawn_in_bounded_memory_and_time() -> None:
    rng = np.random.default_rng(0)
    coords = rng.integers(0, 200_000, (100_000, 2)).astype(np.int64)
    grid = TileGrid(slide_id="s", coords_px0=coords, tile_px0=224.0)
    started = time.process_time()
    image, _ = paint_tiles(grid, rng.random(100_000))
    assert time.process_time() - started < 2
    assert max(image.shape) <= 1201


def test_axes_speak_mm_only_where_the_resolution_is_known() -> None:
    bare = draw_attention(tile_grid(), np.full(16, 1 / 16), title="t")
    assert "level-0 px" in words(bare)
    known = tile_grid(tile_px=256, mpp=0.5)  # 512 px0 show 256 px at 0.5: 0.25 um a level-0 px
    figure = draw_attention(known, np.full(16, 1 / 16), title="t")
    assert figure.axes[0].get_xlabel() == "x (mm)"
    left, right = figure.axes[0].get_xlim()
    assert right - left == pytest.approx(4 * 512 * 0.25 / 1000)


def test_colours_count_even_shares_and_say_when_clipped() -> None:
    even = draw_attention(tile_grid(), np.full(16, 1 / 16), title="t")
    assert np.allclose(even.axes[0].images[0].get_array(), 1)
    peaked = np.full(16, 0.01)
    peaked[5] = 0.85
    figure = draw_attention(tile_grid(), peaked, title="t")
    picture = figure.axes[0].images[0]
    assert picture.get_clim()[1] < 0.85 * 16
    assert picture.get_array().max() == pytest.approx(0.85 * 16)
    assert picture.colorbar.extend == "max"
    assert "multiples of an even share" in words(figure)


def test_truth_and_outline_are_shown() -> None:
    marked = np.zeros(16, dtype=bool)
    marked[[5, 6]] = True
    figure = draw_attention(
        tile_grid(), np.full(16, 1 / 16), title="t", outline=marked, truth=marked
    )
    first, second = (axes for axes in figure.axes if axes.images)
    assert second.images[0].get_array().sum() == 2 * 16
    (around,) = first.collections
    path = np.concatenate([p.vertices for p in around.get_paths()])
    low, high = path.min(axis=0), path.max(axis=0)
    assert low == pytest.approx([1000 + 512, 1000 + 512], abs=80)
    assert high == pytest.approx([1000 + 3 * 512, 1000 + 2 * 512], abs=80)
    assert imread(io.BytesIO(png_of(figure))).shape[2] == 4


def test_one_tile_without_a_side() -> None:
    grid = TileGrid(slide_id="s", coords_px0=np.array([[7, 9]], dtype=np.int64))
    assert png_of(draw_attention(grid, np.ones(1), title="t")).startswith(b"\x89PNG")
