"""Everything that requests are answered from, and who does what needs a model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from momkd.viewer.catalogue import Catalogue, SlideEntry
from momkd.viewer.jobs import JobQueue, Work
from momkd.viewer.options import ViewerOptions
from momkd.viewer.roots import SlideRoots
from momkd.viewer.tile_process import TileReaders


@runtime_checkable
class Labour(Protocol):
    """What needs a model, given by whoever serves: work that runs in a process of its own."""

    def predict(self, file: Path) -> tuple[Work, Callable[[dict[str, Any]], list[SlideEntry]]]:
        """Give the work that predicts a file, and what makes slides of the list of its answer."""
        ...

    def score(self, entry: SlideEntry, model: str) -> tuple[Work, Path]:
        """Give the work that computes a slide's heat map, and the file it writes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Everything that requests are answered from."""

    catalogue: Catalogue
    roots: SlideRoots
    readers: TileReaders
    jobs: JobQueue
    labour: Labour
    options: ViewerOptions
    work_folder: Path
    hidden_folders: tuple[Path, ...] = ()
