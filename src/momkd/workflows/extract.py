"""``momkd extract``: slides -> tissue -> tiles -> embeddings, one feature file a slide."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.child_processes import own_context
from momkd.errors import (
    DataError,
    InterruptedRunError,
    Problem,
    TooManyDroppedError,
)
from momkd.file_names import require_text_name
from momkd.slides.encoders.embed import Encoder, Precision
from momkd.slides.encoders.load import load_encoder
from momkd.slides.encoders.table import DEFAULT_ENCODER
from momkd.slides.formats import SLIDE_SUFFIXES
from momkd.slides.reader import SlideRules, slide_name
from momkd.slides.reading_process import ViewReaders
from momkd.slides.survey import SlideFacts
from momkd.slides.tiling import TilingOptions
from momkd.storage import write_text
from momkd.workflows.console import make_bars
from momkd.workflows.interruption import stop_on_signal
from momkd.workflows.slide_work import SlideWork, thumbnail_of

__all__ = ["Extraction", "extract", "find_slides", "thumbnail_of"]


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
    batch_size: int = 16,
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
    work = SlideWork(
        folder=Path(output),
        encoder=encoder,
        tiling=tiling or TilingOptions(),
        rules=rules or SlideRules(),
        tissue=tissue,
        batch_size=batch_size,
        verify=verify,
        n_slides=len(paths),
    )
    stop = own_context().Event()
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
        P09 none; F28 a name that is no text; S19 two of one name, whose feature files would
        overwrite each other.
    """
    found: list[Path] = []
    for root in dict.fromkeys(roots):
        if root.is_dir():
            found += sorted(p for p in root.rglob("*") if _is_slide(p))
        else:
            found.append(root)
    for path in found:
        require_text_name(path)
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


def _write_dropped(folder: Path, problems: Sequence[Problem]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "code", "reason", "remedy"])
    writer.writerows([[p.where, p.code, p.what, p.remedy] for p in problems])
    write_text(folder / "dropped.csv", text.getvalue())
