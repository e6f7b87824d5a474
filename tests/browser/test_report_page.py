"""report.html in a real browser: it works, and asks nobody for anything."""

from pathlib import Path
from typing import Any

import pytest

from momkd.workflows.report import report
from tests.run_folders import write_run

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up run, with its worst cases."""
    run = write_run(tmp_path_factory.mktemp("report") / "run", word=HOSTILE)
    return report(run, n_cases=20).path


def test_tables_are_sorted_by_click_and_key(watch: Any, page_file: Path) -> None:
    home = page_file.as_uri()
    watched = watch(home)
    page = watched.page
    page.goto(home)
    heading = page.get_by_role("heading", name="Cases predicted worst")
    section = page.locator("section", has=heading)
    for summary in section.locator("summary").all():
        summary.click()
    table = section.locator("table.sortable").first
    numbers = table.locator("tbody tr:first-child td[data-v]").last
    place = numbers.evaluate("cell => cell.cellIndex")
    head = table.locator("thead th").nth(place)

    def column() -> list[float]:
        cells = table.locator(f"tbody tr > :nth-child({place + 1})")
        return cells.evaluate_all("cells => cells.map((cell) => Number(cell.dataset.v))")

    before = column()
    assert len(set(before)) > 5
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column() == sorted(before)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column() == sorted(before, reverse=True)
    watched.require_well()
    assert watched.asked == [home]


def test_names_are_text_and_the_reader_chooses_the_theme(watch: Any, page_file: Path) -> None:
    home = page_file.as_uri()
    papers = {}
    for theme in ("light", "dark"):
        watched = watch(home, color_scheme=theme)
        page = watched.page
        page.goto(home)
        papers[theme] = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert page.locator("h1").inner_text().count("<img") == 1
        assert page.locator("img[src='x']").count() == 0
        watched.require_well()
    assert papers == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 25, 31)"}


def test_folded_parts_open_on_paper(watch: Any, page_file: Path) -> None:
    home = page_file.as_uri()
    watched = watch(home)
    page = watched.page
    page.goto(home)
    assert page.locator("details:not([open])").count() > 0
    buttons = page.locator("thead button").count()
    assert buttons > 0
    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("thead button").count() == 0, "heads with buttons are not repeated"
    assert page.locator("thead th").first.inner_text() == "name"
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.locator("thead button").count() == buttons
    page.locator("thead button").first.click()
    assert page.locator("thead th").first.get_attribute("aria-sort") == "ascending"
    watched.require_well()
