"""The slides of one extraction, from what is asked of the readers to what is on disk."""

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from momkd.errors import DataError, MomkdError, Problem
from momkd.slides.encoders.embed import Encoder
from momkd.slides.fingerprint import stamp_of
from momkd.slides.reader import SlideRules, slide_name
from momkd.slides.reading_process import Answer, Finished, Views
from momkd.slides.survey import Preview, ReadRequest, SlideFacts
from momkd.slides.tiling import TilingOptions
from momkd.storage import write_bytes
from momkd.workflows.console import say
from momkd.workflows.feature_file import (
    Gathered,
    Origin,
    is_done,
    notes_of,
    origin_of,
    write_features,
)

_REPORT_S = 60.0


@dataclass(slots=True, kw_only=True)
class SlideWork:
    """What is wanted of the slides of a run, what is under way, made and left out.

    Parameters
    ----------
    folder
        Where feature files go.
    encoder, tiling, rules, tissue, batch_size, verify
        As of ``extract``.
    n_slides
        How many there are, for who watches.
    """

    folder: Path
    encoder: Encoder
    tiling: TilingOptions
    rules: SlideRules
    tissue: Path | str | None
    batch_size: int
    verify: bool
    n_slides: int
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    n_made: int = 0
    _open: dict[Path, Gathered] = field(default_factory=dict)
    _origins: dict[Path, Origin] = field(default_factory=dict)
    _started_s: dict[Path, float] = field(default_factory=dict)
    _said_s: float = field(default_factory=time.monotonic)

    def requests(self, paths: Sequence[Path]) -> Iterator[ReadRequest]:
        """Give what must be read, one slide after another, as readers become free."""
        for path in paths:
            try:
                request = ReadRequest(
                    path=path,
                    rules=self.rules,
                    tiling=self.tiling,
                    tissue=_tissue_of(path, self.tissue),
                    plan=self.encoder.recipe.view_plan(self.tiling.tile_um),
                    batch_size=self.batch_size,
                )
                # what cannot even be looked at is refused by the door of slides
                with suppress(OSError):
                    origin = origin_of(
                        request, self.encoder, self._target(path), verify=self.verify
                    )
                    if is_done(self._target(path), origin):
                        self._finish(path, "done before")
                        continue
                    self._origins[path] = origin
            except MomkdError as error:
                self._leave_out(error)
                continue
            self._started_s[path] = time.monotonic()
            yield request

    def take(self, request: ReadRequest, answer: Answer) -> int:
        """Take an answer of a reader; give the number of tiles it settles."""
        path = request.path
        match answer:
            case Preview():
                self._write_pictures(path, answer)
                return 0
            case SlideFacts():
                thumbnail = np.asarray(Image.open(io.BytesIO(answer.thumbnail)))
                encoder = self.encoder.on_slide(thumbnail, answer.tissue.mask)
                self._open[path] = Gathered(facts=answer, encoder=encoder)
                return 0
            case Finished():
                gathered = self._open.pop(path, None)
                if answer.problem is not None:
                    self._leave_out(DataError(answer.problem))
                else:
                    assert gathered is not None
                    self._write(path, gathered)
                return 0
        assert isinstance(answer, Views)
        gathered = self._open[path]
        gathered.add(answer)
        if time.monotonic() - self._said_s > _REPORT_S:
            say(f"{path.name}: {len(gathered.rows)} of {len(gathered.facts.grid)} tiles")
            self._said_s = time.monotonic()
        return len(answer.rows) + len(answer.bad)

    def _write(self, path: Path, gathered: Gathered) -> None:
        origin = self._origins[path]
        if stamp_of(path) != origin.stamp:
            what = "changed while it was read"
            self._leave_out(DataError.of("F30", str(path), what, "wait until it is copied"))
            return
        self._write_pictures(path, gathered.facts)
        write_features(self._target(path), gathered, origin)
        self.n_made += 1
        took_s = time.monotonic() - self._started_s[path]
        n, um = len(gathered.rows), self.tiling.tile_um
        self._finish(path, f"{n} tiles of {um:g} um, {took_s:.0f} s")
        for note in notes_of(gathered):
            say(f"{path.name}: {note}")

    def _write_pictures(self, path: Path, answer: Preview | SlideFacts) -> None:
        target = self._target(path)
        write_bytes(thumbnail_of(target), answer.thumbnail)
        write_bytes(target.parent / "tiles" / f"{target.stem}.jpg", answer.picture)

    def _finish(self, path: Path, how: str) -> None:
        self.files[slide_name(path)] = self._target(path)
        self._tell(f"{path.name}: {how}")

    def _leave_out(self, error: MomkdError) -> None:
        if error.exit_code not in (3, 5):
            raise error
        self.problems += error.problems
        if self.n_slides > 1:
            self._tell(f"left out: {error.problems[0].line()}")

    def _tell(self, text: str) -> None:
        n_settled = len(self.files) + len(self.problems)
        say(f"{text} ({n_settled} of {self.n_slides})")
        self._said_s = time.monotonic()

    def _target(self, path: Path) -> Path:
        return self.folder / f"{slide_name(path)}.h5"


def _tissue_of(path: Path, tissue: Path | str | None) -> Path | None:
    if tissue is None:
        return None
    place = Path(tissue)
    if not place.is_dir():
        return place
    found = sorted(p for p in place.iterdir() if p.stem == slide_name(path))
    if not found:
        what = f"no mask for slide {slide_name(path)}"
        raise DataError.of("S17", str(place), what, "add it, or leave --tissue out")
    return found[0]


def thumbnail_of(features: Path) -> Path:
    """Give the place of a slide's thumbnail beside its feature file."""
    return features.parent / "thumbnails" / f"{features.stem}.jpg"
