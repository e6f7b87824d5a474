"""Tiles are read in processes that may die: a decoder that crashes costs that slide only."""

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from momkd.child_processes import KeptChild, answer_until_alone, leave_stopping_to_the_parent
from momkd.errors import DataError, MachineError, MomkdError, Problem
from momkd.slides.opening import import_backends, open_slide
from momkd.slides.reader import Slide, SlideRules
from momkd.viewer.absence import NotServedError
from momkd.viewer.tiles import SlideTiles, last_level

_KEPT_OPEN = 2  # a JPEG is held whole: two of the largest take 1.5 GB
_LOST_TRIES = 2
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What a browser needs to know of a slide; ``mpp`` None where it states none."""

    width_px0: int
    height_px0: int
    last_level: int
    mpp: float | None
    format: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRequest:
    """One tile of a slide, or (``tile`` None) its facts."""

    path: Path
    rules: SlideRules
    tile: tuple[int, int, int] | None = None


class TileReaders:
    """Child processes that read tiles; a slide is always read by the same one.

    Parameters
    ----------
    rules
        How slides are opened.
    n_workers
        Processes.
    timeout_s
        A process silent for longer is ended.
    """

    def __init__(
        self, rules: SlideRules | None = None, n_workers: int = 2, timeout_s: float = 90.0
    ) -> None:
        self._rules = rules or SlideRules()
        self._lanes = [_Lane(timeout_s) for _ in range(n_workers)]

    def facts(self, path: Path) -> PictureFacts:
        """Open a slide and say what it is.

        Raises
        ------
        DataError
            S and F codes of the slide; S14 its reader crashed or was silent.
        MachineError
            E01 the libraries that read slides are not installed.
        """
        answer = self._ask(TileRequest(path=path, rules=self._rules))
        assert isinstance(answer, PictureFacts)
        return answer

    def tile(self, path: Path, level: int, column: int, row: int) -> bytes:
        """Give a tile as JPEG; NotServedError where the slide has none.

        Raises
        ------
        MomkdError
            As :meth:`facts`.
        """
        request = TileRequest(path=path, rules=self._rules, tile=(level, column, row))
        answer = self._ask(request)
        assert isinstance(answer, bytes)
        return answer

    def _ask(self, request: TileRequest) -> Any:
        lane = self._lanes[hash(request.path) % len(self._lanes)]
        answer = lane.ask(request)
        if isinstance(answer, NotServedError | MomkdError):
            raise answer
        return answer

    def close(self) -> None:
        """End the processes."""
        for lane in self._lanes:
            lane.stop()


class _Lane:
    """One process, asked one thing at a time; started when first asked, and again if it died."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._child = KeptChild(serve_tiles)
        self._lost: dict[Path, int] = {}

    def ask(self, request: TileRequest) -> Any:
        with self._lock:
            if self._lost.get(request.path, 0) >= _LOST_TRIES:
                return _lost(request.path, "crashed before")
            pipe = self._ready()
            try:
                pipe.send(request)
                what = "" if pipe.poll(self._timeout_s) else f"was silent for {self._timeout_s:g} s"
                if not what:
                    return pipe.recv()
            except (EOFError, OSError):
                what = "crashed"
            self.stop()
            self._lost[request.path] = self._lost.get(request.path, 0) + 1
            return _lost(request.path, what)

    def _ready(self) -> Connection:
        is_new = not self._child.is_running
        pipe = self._child.ready()
        if is_new:
            # its start is no slide's fault
            if not pipe.poll(_START_S):
                self.stop()
                raise MachineError.of("S14", "viewer", "the slide reader does not start")
            with suppress(EOFError, OSError):
                pipe.recv()
        return pipe

    def stop(self) -> None:
        self._child.stop()


def _lost(path: Path, what: str) -> DataError:
    remedy = "open it in another viewer; scan or convert it again"
    text = f"the slide reader {what}"
    return DataError(Problem(code="S14", where=str(path), what=text, remedy=remedy))


def serve_tiles(pipe: Connection) -> None:
    """Answer requests until nobody asks; what a child process does."""
    leave_stopping_to_the_parent()
    with suppress(MomkdError):  # told again, and properly, of the first slide
        import_backends()
    with suppress(OSError):
        pipe.send(None)
    answer_until_alone(pipe, OpenSlides().answer)


class OpenSlides:
    """The slides that are open, the last ones used."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Any, ...], tuple[Slide, SlideTiles, bool]] = OrderedDict()

    def answer(self, request: TileRequest) -> PictureFacts | bytes | MomkdError | NotServedError:
        """Give what was asked for, or what is wrong with it."""
        try:
            slide, tiles, has_scale = self._opened(request)
            if request.tile is not None:
                return tiles.tile(*request.tile)
            return PictureFacts(
                width_px0=slide.width_px0,
                height_px0=slide.height_px0,
                last_level=last_level(slide.width_px0, slide.height_px0),
                mpp=slide.mpp if has_scale else None,
                format=slide.format,
                notes=tuple(slide.notes),
            )
        except (MomkdError, NotServedError) as error:
            return error
        except MemoryError:
            return DataError.of("S07", str(request.path), "does not fit into memory", "free memory")

    def _opened(self, request: TileRequest) -> tuple[Slide, SlideTiles, bool]:
        try:
            now = request.path.stat()
        except OSError:
            raise DataError.of("F28", str(request.path), "no such file", "mend the path") from None
        key = (request.path, now.st_size, now.st_mtime_ns)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        while len(self._open) >= _KEPT_OPEN:
            _, (old, *_) = self._open.popitem(last=False)
            old.close()
        slide, has_scale = open_for_view(request.path, request.rules)
        self._open[key] = (slide, SlideTiles(slide), has_scale)
        return self._open[key]


def open_for_view(path: Path, rules: SlideRules) -> tuple[Slide, bool]:
    """Open a slide to be looked at, which can be done without a scale; say whether it has one.

    Raises
    ------
    DataError
        As :func:`momkd.slides.opening.open_slide`, but for S01 and S02.
    """
    try:
        return open_slide(path, rules), True
    except DataError as error:
        if error.problems[0].code not in ("S01", "S02"):
            raise
        return open_slide(path, replace(rules, mpp=1.0)), False
