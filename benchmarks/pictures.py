"""Pictures of viewer and report for the docs, from ``momkd demo``: simulated slides only.

``python benchmarks/pictures.py demo-run -o docs/images`` starts ``momkd serve``, opens the list of
cases, a slide with its heat map, and the demo's report, in a Chromium that is installed.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SIZE = {"width": 1100, "height": 660}
_LONG_MS = 300_000


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="what momkd demo wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    slides = given.demo / "cohort" / "slides"
    line = [sys.executable, "-m", "momkd.cli", "serve", given.demo / "run", "--port", "0"]
    process = subprocess.Popen(
        [*map(str, line), "--slides", str(slides)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    if found is None:
        sys.exit("momkd serve did not start")
    try:
        draw(found[0], given.demo / "report.html", given.output)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def draw(address: str, report: Path, folder: Path) -> None:
    """Open the pages and take their pictures."""
    from playwright.sync_api import sync_playwright

    browser_path = next((p for name in _NAMES if (p := shutil.which(name))), None)
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE)
        page.set_default_timeout(_LONG_MS)
        page.goto(address)
        page.wait_for_selector("#cases tbody tr")
        take(page, folder / "viewer-cases.jpg")
        page.locator("#cases tbody tr", has_text="positive").nth(1).locator("a").first.click()
        page.wait_for_selector("body[data-ready]")
        page.click("#compute")
        page.wait_for_selector("#layer:not([disabled])")
        page.mouse.move(430, 380)
        page.wait_for_timeout(1500)
        take(page, folder / "viewer-slide.jpg")
        page.goto(report.resolve().as_uri())
        for name, heading in (("curves", "Curves"), ("pictures", "Pictures")):
            page.locator("h2", has_text=heading).first.evaluate("h => h.scrollIntoView()")
            take(page, folder / f"report-{name}.jpg")
        browser.close()


def take(page: Any, path: Path) -> None:
    """Write a picture of what is seen."""
    page.screenshot(path=path, type="jpeg", quality=80)


if __name__ == "__main__":
    main()
