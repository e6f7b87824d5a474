import io
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from momkd.errors import MachineError
from momkd.reporting.figures import (
    draw_calibration,
    draw_decision_curves,
    draw_history,
    draw_roc,
    png_of,
    svg_of,
)
from momkd.reporting.heatmap import draw_attention, paint_tiles
from momkd.reporting.report import Picture, Report, write_report
from momkd.types import TileGrid

HOSTILE = "<script>alert(1)</script>\"'><img onerror=alert(2) src=x> $x_{ \x00\x1b[31m {{ 7*7 }}"


def tile_grid(side: int = 4, step_px0: int = 512, **changed: object) -> TileGrid:
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    coords = (np.stack([x.ravel(), y.ravel()], axis=1) * step_px0 + 1000).astype(np.int64)
    facts = {"slide_id": "s", "coords_px0": coords, "tile_px0": float(step_px0)}
    return TileGrid(**(facts | changed))


def scores(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(np.int64)
    return y, 1 / (1 + np.exp(-rng.normal(size=n) - y))


def words(figure: Figure) -> str:
    return svg_of(figure)


# --- the page


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_page(tmp_path: Path, word: str = "HER2", **changed: object) -> tuple[str, Page]:
    figure = draw_attention(tile_grid(), np.full(16, 1 / 16), title=word)
    facts = {
        "title": word,
        "asked": [(word, word)],
        "results": [{"model": word, "auroc": "0.71 (0.65 to 0.77)", "brier": 0.123456}],
        "notes": [word],
        "extra_tables": {word: [{word: word}]},
        "pictures": [Picture(figure=figure, caption=word, alt=word)],
        "flow": [{"what": "listed", "n": 10}, {"what": "used", "n": 8}],
        "dropped": [{"code": "L05", "reason": word, "n": 2}],
        "folds": [{"fold": 0, "cases": 5, word: word}],
        "per_fold": [{"fold": 0, "auroc": float("nan")}, {"fold": 1, "auroc": None, "late": True}],
        "configuration": word,
        "provenance": [(word, word)],
        "limits": [word],
    }
    write_report(tmp_path / "report.html", Report(**(facts | changed)))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    return html, Page(html)


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    html, page = make_page(tmp_path, HOSTILE)
    _, plain = make_page(tmp_path, "HER2")
    assert [t for t, _ in page.tags] == [t for t, _ in plain.tags]
    assert [sorted(a) for _, a in page.tags] == [sorted(a) for _, a in plain.tags]
    assert "<script" not in html
    assert "alert(1)" in page.words
    assert "{{ 7*7 }}" in page.words


@settings(max_examples=15, deadline=None)
@given(word=st.text(min_size=1, max_size=30).filter(lambda t: not set(t) & set("\ud800\r")))
def test_no_word_changes_the_page(tmp_path_factory: pytest.TempPathFactory, word: str) -> None:
    picture = Picture(figure=Figure(figsize=(1, 1)), caption="c", alt=word)
    folder = tmp_path_factory.mktemp("page")
    _, page = make_page(folder, pictures=[picture], title=word, notes=[word], configuration=word)
    _, plain = make_page(folder, pictures=[picture])
    assert [t for t, _ in page.tags] == [t for t, _ in plain.tags]


def test_page_stands_alone(tmp_path: Path) -> None:
    html, page = make_page(tmp_path)
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not {"script", "link", "iframe", "form", "object", "a"} & {t for t, _ in page.tags}
    sources = [a[k] for _, a in page.tags for k in ("src", "href") if k in a]
    assert sources
    assert all(s is not None and s.startswith("data:image/png;base64,iVBOR") for s in sources)
    assert "url(" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))


def test_undefined_is_said_and_columns_stay_in_line(tmp_path: Path) -> None:
    html, page = make_page(tmp_path)
    assert page.words.count("not defined") == 2
    assert "0.123" in page.words
    assert "yes" in page.words
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    late = [r for r in rows if "late" in r or "not defined" in r]
    assert [len(re.findall(r"<t[dh]", r)) for r in late] == [3, 3, 3]
    make_page(tmp_path, extra_tables={"empty": []})


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("/home/someone/study/clinical.csv: row 3", ".../clinical.csv: row 3"),
        ("in /data/My Slides/TCGA/x.h5", "in .../x.h5"),
        ("~/study/x.csv", ".../x.csv"),
        (r"C:\Users\someone\x.csv", "...x.csv"),
        ("file:///home/someone/x.csv", ".../x.csv"),
        ("features:/home/someone/x.csv", "features:/home/someone/x.csv"),
        ("3/4 of 7/9, and/or, um/px", "3/4 of 7/9, and/or, um/px"),
        ("recipes/momkd/paper.yaml", "recipes/momkd/paper.yaml"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_folders_of_the_machine_do_not_travel(tmp_path: Path, written: str, shown: str) -> None:
    _, page = make_page(tmp_path, configuration=written, notes=[written])
    if written.startswith("features:"):
        shown = "features:.../x.csv"
    assert page.words.count(shown.replace("...x", ".../x")) == 2


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


def lines(figure: Figure, width: float) -> list[np.ndarray]:
    return [ln.get_ydata() for ln in figure.axes[0].lines if ln.get_linewidth() == width]


def test_roc_shows_folds_and_their_mean() -> None:
    folds = [scores(60, seed) for seed in range(3)]
    one_class = (np.zeros(5, dtype=np.int64), np.linspace(0, 1, 5))
    grid = np.linspace(0, 1, 101)
    band = (grid, grid * 0.5, np.ones(101))
    figure = draw_roc({"momkd": [*folds, one_class]}, bands={"momkd": band})
    thin, (thick,) = lines(figure, 0.5), lines(figure, 2)
    assert len(thin) == 3
    assert thick == pytest.approx(np.mean(thin, axis=0))
    y, p = folds[0]
    area = np.mean(p[y == 1][:, None] > p[y == 0][None, :])
    assert np.trapezoid(thin[0], grid) == pytest.approx(area, abs=0.02)
    assert len(figure.axes[0].collections) == 1
    assert "momkd" in words(figure)
    png_of(draw_roc({"momkd": [one_class]}))  # nothing to draw is no fault


def test_calibration_shows_shares_and_counts() -> None:
    y = np.repeat([0, 1, 0, 1], [30, 10, 10, 30]).astype(np.int64)
    p = np.repeat([0.25, 0.25, 0.75, 0.75], [30, 10, 10, 30])
    figure = draw_calibration({"momkd": (y, p)})
    (line,) = [ln for ln in figure.axes[0].lines if ln.get_marker() == "o"]
    assert set(np.round(line.get_xdata(), 6)) == {0.25, 0.75}
    assert np.mean(line.get_ydata()) == pytest.approx(0.5)
    assert "n = 80" in words(figure)
    assert figure.axes[1].patches


def test_decision_curves_stand_beside_acting_on_all_and_on_none() -> None:
    thresholds = np.linspace(0.05, 0.5, 10)
    all_ = 0.3 - 0.7 * thresholds / (1 - thresholds)
    figure = draw_decision_curves(thresholds, {"momkd": all_ + 0.02}, treat_all=all_)
    everyone, nobody, model = figure.axes[0].lines
    assert list(everyone.get_ydata()) == list(all_)
    assert set(nobody.get_ydata()) == {0}
    assert model.get_ydata() == pytest.approx(all_ + 0.02)
    assert {"momkd", "act on all", "act on none"} <= {
        t.get_text() for t in figure.axes[0].get_legend().get_texts()
    }
    low, high = figure.axes[0].get_ylim()
    assert low < 0 < max(all_ + 0.02) < high
    png_of(draw_decision_curves(thresholds, {"worthless": -all_}, treat_all=0 * all_ - 1))


def test_history_shows_what_is_there() -> None:
    history = [
        {"epoch": i, "ce": 1 / (i + 1)} | ({"val_auroc": 0.6} if i else {}) for i in range(4)
    ]
    figure = draw_history(history, ["ce", "val_auroc"], best_epoch=2)
    first, second = (axes.lines[0].get_ydata() for axes in figure.axes)
    assert list(first) == [1, 1 / 2, 1 / 3, 1 / 4]
    assert np.isnan(second[0])
    assert list(second[1:]) == [0.6] * 3


def test_equal_figures_have_equal_bytes() -> None:
    one, other = (draw_roc({"m": [scores(40, 1)]}) for _ in range(2))
    assert png_of(one) == png_of(other)
    assert svg_of(one) == svg_of(other)
    assert png_of(one) != png_of(draw_roc({"m": [scores(40, 2)]}))


@pytest.mark.parametrize("name", ["$x_{", "$\\frac", "a$b$c", "\x00\x01", "日本", "x" * 300, ""])
def test_any_name_can_be_drawn(name: str) -> None:
    figure = draw_attention(tile_grid(), np.full(16, 1 / 16), title=name)
    for drawn in (figure, draw_roc({name: [scores(40, 1)]})):
        assert png_of(drawn).startswith(b"\x89PNG")
        assert svg_of(drawn).startswith("<svg")


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
