"""A viewer without models: slides, scores and jobs that cost nothing."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from momkd.errors import DataError
from momkd.slides.reader import SlideRules
from momkd.viewer.catalogue import Catalogue, RunFacts, Score, SlideEntry, run_key
from momkd.viewer.jobs import JobQueue
from momkd.viewer.options import ViewerOptions
from momkd.viewer.roots import SlideRoots, key_of
from momkd.viewer.tile_process import OpenSlides, TileReaders, TileRequest

OWN = {"x-momkd-viewer": "1"}


def finish(answer, tell):
    """Work that is done at once."""
    tell("working", 1.0, 2.0)
    tell("working", 2.0, 2.0)
    return answer


def refuse(tell):
    """Work that is refused."""
    raise DataError.of("S08", "/srv/private/a.svs", "no tissue", "look at it")


def fail(tell):
    """Work with a fault of our own."""
    raise ZeroDivisionError("x")


def die(tell):
    """Work whose process is killed, as where memory runs out."""
    tell("reading", 1.0, 3.0)
    os.kill(os.getpid(), signal.SIGKILL)


def linger(tell):
    """Work that does not end."""
    tell("lingering", 0.0, 0.0)
    time.sleep(600)


class InlineReaders(TileReaders):
    """Reads tiles here instead of in processes."""

    def __init__(self, rules: SlideRules | None = None) -> None:
        super().__init__(rules, n_workers=1)
        self._shelf = OpenSlides()

    def _ask(self, request: TileRequest):
        answer = self._shelf.answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeLabour:
    """Predicts that every slide is likely positive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[Path] = []

    def predict(self, file):
        self.asked.append(file)
        entry = SlideEntry(
            key=key_of("new", str(file)),
            slide_id=file.stem,
            case_id=file.stem,
            path=file if file.suffix == ".tif" else None,
            scores={"momkd": Score(probability=0.9, threshold=0.5, low=0.8, high=1.0)},
        )
        return partial(finish, {"notes": []}), lambda answer: [entry]

    def score(self, entry, model):
        path = write_scores(self.folder / f"{entry.key}.h5", entry.slide_id, side=1024)
        return partial(finish, {}), path


def write_scores(path: Path, slide_id: str = "s", *, side: int = 1024, n: int = 16, **more) -> Path:
    """Write stored scores of a grid of tiles that covers a square slide."""
    across = int(n**0.5)
    step = side // across
    corners = np.array([[x * step, y * step] for y in range(across) for x in range(across)])
    with h5py.File(path, "w") as file:
        file["attention"] = np.full(len(corners), 1 / len(corners), np.float32)
        file["evidence"] = np.linspace(-1, 2, len(corners), dtype=np.float32)
        for name, values in more.items():
            file[name] = values
        places = file.create_dataset("coords_px0", data=corners)
        facts = {"tile_px0": float(step), "tile_px": step, "mpp": 1.0, "is_level0": True}
        places.attrs.update(facts | {"width_px0": side, "height_px0": side})
        file.attrs.update({"slide_id": slide_id, "model": "momkd", "class_name": "HER2"})
        file.attrs.update({"probability": 0.75, "low": 0.7, "high": 0.8})
    return path


def entry_of(slide_id: str, case_id: str = "c", label: int | None = 1, p: float = 0.25):
    """Make a slide of a run."""
    scores = {"momkd": Score(probability=p, threshold=0.5)}
    return SlideEntry(
        key=run_key(slide_id), slide_id=slide_id, case_id=case_id, label=label, scores=scores
    )


def make_viewer(folder: Path, *entries: SlideEntry, slides=(), score_folders=(), **options):
    """Put a viewer together whose work is fake; ``close`` its jobs."""
    from momkd.viewer.served import Viewer

    roots = SlideRoots(list(slides))
    facts = RunFacts(
        name="run",
        task="HER2",
        class_names=("no HER2", "HER2"),
        models=("momkd",),
        entries=entries,
        can_score=True,
    )
    work = folder / "work"
    work.mkdir(exist_ok=True)
    limits = ViewerOptions(**options)
    return Viewer(
        catalogue=Catalogue(facts, roots.slides(), list(score_folders)),
        roots=roots,
        readers=InlineReaders(),
        jobs=JobQueue(limits.most_waiting, [folder]),
        labour=FakeLabour(folder),
        options=limits,
        work_folder=work,
        hidden_folders=(folder, *roots.folders),
    )
