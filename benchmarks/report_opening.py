"""How fast the report of 1,000 cases x 9 methods opens: written, then opened in a browser.

``python benchmarks/report_opening.py -o FOLDER`` makes a run up (nothing is trained; scores are
drawn), lets momkd write its page with every case listed, and opens it in a Chromium that is
installed: size of the file, time from the start of the navigation to the load event, and time
from a click on a heading of the longest table until its rows stand sorted on the screen.
"""

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from momkd.workflows.compare import compare
from momkd.workflows.evaluate import evaluate
from momkd.workflows.report import report
from tests.run_folders import write_run

METHODS = ("momkd", "abmil", "dsmil", "transmil", "dtfd_mil", "wikg", "tdc", "mkd", "g_hanet")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMES = 9
_SORT = """async (table) => {
  const button = table.tHead.rows[0].cells[1].querySelector("button");
  const start = performance.now();
  button.click();
  table.getBoundingClientRect();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - start;
}"""
_LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    """Make the page, open it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="an empty folder")
    parser.add_argument("--cases", type=int, default=1000)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    page = make_page(given.output / "run", given.cases)
    print(f"{page.stat().st_size / 1e6:.2f} MB: {given.cases:,} cases x {len(METHODS)} methods")
    print(f"| what | median of {_TIMES} (ms) | longest (ms) |\n|---|---|---|")
    for name, values in open_page(page).items():
        print(f"| {name} | {statistics.median(values):.0f} | {max(values):.0f} |")


def make_page(run: Path, n_cases: int) -> Path:
    """Write a run of five folds and three seeds, score and compare it, and make its page."""
    sites = [f"S{i:02d}" for i in range(20)]
    write_run(run, METHODS, n=n_cases, seeds=3, n_folds=5, epochs=50, sites=sites)
    evaluate(run)
    compare(run, method="momkd")
    start = time.perf_counter()
    page = report(run, n_cases=n_cases).path
    print(f"momkd report: {time.perf_counter() - start:.1f} s")
    return page


def open_page(path: Path) -> dict[str, list[float]]:
    """Open the page in fresh contexts of one browser."""
    from playwright.sync_api import sync_playwright

    browser_path = next((p for name in _NAMES if (p := shutil.which(name))), None)
    found: dict[str, list[float]] = {"load event": [], "first sort of the longest table": []}
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for _ in range(_TIMES):
            context = browser.new_context(viewport={"width": 1200, "height": 900})
            loaded, sorted_ = _once(context.new_page(), path)
            found["load event"].append(loaded)
            found["first sort of the longest table"].append(sorted_)
            context.close()
        browser.close()
    return found


def _once(page: Any, path: Path) -> tuple[float, float]:
    page.goto(path.resolve().as_uri(), wait_until="load")
    loaded = float(page.evaluate(_LOADED))
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    tables = page.locator("table.sortable")
    rows = tables.evaluate_all("tables => tables.map((table) => table.tBodies[0].rows.length)")
    longest = tables.nth(rows.index(max(rows)))
    return loaded, float(longest.evaluate(_SORT))


if __name__ == "__main__":
    main()
