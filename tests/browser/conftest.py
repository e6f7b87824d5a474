"""A real browser, and runs to look at with it; skipped where there is none."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from momkd.simulation import PaintingOptions, SimulationOptions, simulate, write_slide_cohort
from momkd.slides.tiling import TilingOptions
from momkd.workflows.crossval import crossval
from momkd.workflows.extract import extract
from momkd.workflows.init import init
from tests.journeys.run_momkd import command, environment

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PAINTING = PaintingOptions()
_WORLD = {"grid_side": 6, "n_genes": 60, "prevalence": 0.5, "nu": 3.0, "kappa": 3.0, "n_sites": 2}
QUICK = ("fit.epochs=3", "fit.lr=1e-3", "folds.n=2", "folds.val_fraction=0.25")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'momkd[browser]'"
    )
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(_NAMES)} is on the path")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and whatever it did that it should not."""

    page: Any
    home: str
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def require_well(self) -> None:
        """Assert that nothing was complained of, and nobody else was asked for anything."""
        assert self.faults == []
        elsewhere = [u for u in self.asked if not u.startswith((self.home, "data:", "blob:"))]
        assert elsewhere == []


@pytest.fixture
def watch(chromium: Any) -> Iterator[Any]:
    """Open pages that are watched."""
    opened = []

    def open_page(home: str, **options: Any) -> Watched:
        context = chromium.new_context(viewport={"width": 1200, "height": 760}, **options)
        opened.append(context)
        context.set_default_timeout(30_000)
        return Watched(context.new_page(), home)

    yield open_page
    for context in opened:
        context.close()


class Served:
    """``momkd serve`` as a process."""

    def __init__(self, *args: object) -> None:
        self.process = subprocess.Popen(
            command("serve", *args, "--port", "0"),
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found
        self.address = found[0]

    def end(self) -> None:
        """End it, in order."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=30) == 0


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated slides: ``old/slides`` taught the models of ``run``, ``new/slides`` did not."""
    folder = tmp_path_factory.mktemp("painted")
    for name, n, seed in (("old", 16, 0), ("new", 2, 1)):
        options = SimulationOptions(**_WORLD, n_cases=n, seed=seed)
        write_slide_cohort(simulate(options), folder / name, _PAINTING)
    old = folder / "old"
    tiling = TilingOptions(tile_px=_PAINTING.tile_px, mpp=_PAINTING.mpp)
    extract([old / "slides"], old / "features", tiling=tiling, batch_size=4)
    config = init(
        features=[old / "features"],
        clinical=old / "clinical.csv",
        target="biomarker",
        output=folder / "momkd.yaml",
    )
    crossval(config, folder / "run", model="abmil,mean_logistic", set_=QUICK, workers=1)
    return folder


@pytest.fixture(scope="session")
def served(painted: Path) -> Iterator[Served]:
    """The run and its slides, served."""
    slides = ("--slides", painted / "old" / "slides", "--slides", painted / "new" / "slides")
    viewer = Served(painted / "run", *slides)
    yield viewer
    viewer.end()
