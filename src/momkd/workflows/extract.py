"""``momkd extract``: slides -> tissue -> tiles -> embeddings, one feature file a slide."""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from momkd.errors import (
    DataError,
    InterruptedRunError,
    MomkdError,
    Problem,
    TooManyDroppedError,
)
from momkd.slides.encoders.embed import Encoder, Precision
from momkd.slides.encoders.load import load_encoder
from momkd.slides.encoders.table import DEFAULT_ENCODER
from momkd.slides.fingerprint import stamp_of
from momkd.slides.formats import SLIDE_SUFFIXES
from momkd.slides.reader import SlideRules, slide_name
from momkd.slides.reading_process import Answer, Finished, ViewReaders
from momkd.slides.survey import Preview, ReadRequest, SlideFacts
from momkd.slides.tiling import TilingOptions
from momkd.storage import write_bytes, write_text
from momkd.workflows.console import make_bars, say
from momkd.workflows.feature_file import (
    Gathered,
    Origin,
    is_done,
    notes_of,
    origin_of,
    write_features,
)
from momkd.workflows.interruption import stop_on_signal

_REPORT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What became of every slide.

    Attributes
    ----------
    files
        Feature files by slide, made now or found done.
    n_made
        How many were made now.
    problems
        Slides left out, with the reason.
    """

    files: dict[str, Path]
    n_made: int
    problems: tuple[Problem, ...]


def extract(
    slides: Sequence[Path | str],
    output: Path | str,
    *,
    encoder: str | Encoder = DEFAULT_ENCODER,
    weights: Path | str | None = None,
    tiling: TilingOptions | None = None,
    rules: SlideRules | None = None,
    tissue: Path | str | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    batch_size: int = 32,
    workers: int = 1,
    verify: bool = False,
    max_skip: float = 0.0,
) -> Extraction:
    """Make a feature file of every slide; a second call goes on where the first one stopped.

    Parameters
    ----------
    slides
        Slides, or folders searched for them.
    output
        Folder: ``<slide>.h5`` (TRIDENT layout, with mpp), ``thumbnails/<slide>.jpg``,
        ``tiles/<slide>.jpg`` (the same with tissue and kept tiles drawn), and ``dropped.csv``
        with a reason for each slide left out.
    encoder
        Name, or an encoder already loaded.
    weights
        File of its weights; else the installed package or the Hub.
    tiling, rules
        How slides are cut and opened.
    tissue
        A mask (GeoJSON or picture) for the only slide, or a folder of ``<slide>.<ext>``.
    device, precision
        Where and how the encoder runs.
    batch_size
        Tiles a step.
    workers
        Slides read at a time, each in a process of its own; results do not depend on it.
    verify
        Digest the content of every slide, even if its size and time of change are as recorded.
    max_skip
        Share of slides that may be left out.

    Raises
    ------
    DataError
        P09 no slide; S19 two slides of one name; any S code if no slide could be read.
    TooManyDroppedError
        S20 more left out than allowed; the other files are written.
    InterruptedRunError
        X06 stopped by a signal; slides that were finished stay.
    """
    paths = find_slides([Path(s) for s in slides])
    if isinstance(encoder, str):
        given = None if weights is None else Path(weights)
        encoder = load_encoder(encoder, weights=given, device=device, precision=precision)
    work = _Work(
        folder=Path(output),
        encoder=encoder,
        tiling=tiling or TilingOptions(),
        rules=rules or SlideRules(),
        tissue=tissue,
        batch_size=batch_size,
        verify=verify,
        n_slides=len(paths),
    )
    stop = get_context("spawn").Event()
    n_readers = max(1, min(workers, len(paths)))
    with stop_on_signal(stop), ViewReaders(n_readers) as readers, make_bars() as bars:
        task = bars.add_task("tiles", total=0)
        for request, answer in readers.read(work.requests(paths)):
            if isinstance(answer, SlideFacts):
                bars.update(task, total=(bars.tasks[0].total or 0) + len(answer.grid))
            bars.advance(task, work.take(request, answer))
            if stop.is_set():
                what = f"stopped; {len(work.files)} of {len(paths)} slides are done"
                raise InterruptedRunError.of("X06", str(output), what, "run the command again")
    place = {str(path): i for i, path in enumerate(paths)}
    work.problems.sort(key=lambda p: place.get(p.where, len(paths)))
    _write_dropped(work.folder, work.problems)
    if not work.files:
        raise DataError(*work.problems)
    if len(work.problems) > max_skip * len(paths):
        what = f"{len(work.problems)} of {len(paths)} were left out, allowed {max_skip:.0%}"
        what += f"; first: {work.problems[0].line()}"
        raise TooManyDroppedError.of("S20", "slides", what, "see dropped.csv")
    order = {name: work.files[name] for name in map(slide_name, paths) if name in work.files}
    return Extraction(files=order, n_made=work.n_made, problems=tuple(work.problems))


def find_slides(roots: Sequence[Path]) -> list[Path]:
    """Find slides among files and folders (searched through).

    Raises
    ------
    DataError
        P09 none; S19 two of one name, whose feature files would overwrite each other.
    """
    found: list[Path] = []
    for root in dict.fromkeys(roots):
        if root.is_dir():
            found += sorted(p for p in root.rglob("*") if _is_slide(p))
        else:
            found.append(root)
    if not found:
        raise DataError.of("P09", "inputs", "no slide among the inputs", "name slides or a folder")
    twice = [name for name, n in Counter(map(slide_name, found)).items() if n > 1]
    if twice:
        what = f"{len(twice)} names stand for several slides (first: {twice[0]})"
        raise DataError.of("S19", "inputs", what, "rename them, or extract into two folders")
    return found


def _is_slide(path: Path) -> bool:
    """Whether a file of a folder is a slide, and no part of a MIRAX slide beside its folder."""
    if path.suffix.lower() not in SLIDE_SUFFIXES or path.name.startswith("."):
        return False
    return not path.parent.with_suffix(".mrxs").is_file()


def thumbnail_of(features: Path) -> Path:
    """Give the place of a slide's thumbnail beside its feature file."""
    return features.parent / "thumbnails" / f"{features.stem}.jpg"


@dataclass(slots=True, kw_only=True)
class _Work:
    """The state of a run of extraction: what is wanted, under way, made and left out."""

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


def _write_dropped(folder: Path, problems: Sequence[Problem]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "code", "reason", "remedy"])
    writer.writerows([[p.where, p.code, p.what, p.remedy] for p in problems])
    write_text(folder / "dropped.csv", text.getvalue())
