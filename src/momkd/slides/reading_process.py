"""Reads slides in processes that may crash or hang without harm to the run.

Native decoders crash on hostile or damaged files; then one slide is lost, not the run. Each process
reads one slide at a time, and waits when what it sent has not been taken: it is never far ahead.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from momkd.child_processes import KeptChild, answer_until_alone, leave_stopping_to_the_parent
from momkd.errors import DataError, MomkdError, Problem
from momkd.slides.crops import CropRequest, Crops, cut_crops
from momkd.slides.opening import import_backends, open_slide
from momkd.slides.quality import is_blurred
from momkd.slides.reader import Slide, UnreadableRegionError
from momkd.slides.survey import Preview, ReadRequest, SlideFacts, survey
from momkd.types import TileGrid

_PING_S = 1.0
_START_S = 60.0  # a process may take this long, beyond the timeout, to start


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """Some tiles of the grid, by row, as pixels.

    Parameters
    ----------
    rows
        Of the grid, one a view.
    pixels
        Prepared as the request's plan says.
    bad
        Rows that cannot be decoded.
    n_holes
        Tiles among these for which the file lacks pixels (they are white there).
    n_blurred
        Tiles among these without detail.
    """

    rows: tuple[int, ...]
    pixels: UInt8[np.ndarray, "n side side 3"]
    bad: tuple[int, ...]
    n_holes: int = 0
    n_blurred: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The slide has been read, or was refused."""

    problem: Problem | None = None


Request = ReadRequest | CropRequest
Answer = Preview | SlideFacts | Views | Crops | Finished
Send = Callable[[Answer | None], None]
R = TypeVar("R", ReadRequest, CropRequest)


class ViewReaders:
    """Child processes that read slides side by side; a new one follows one that died.

    Use it as a context manager.

    Parameters
    ----------
    n_workers
        Slides read at a time.
    timeout_s
        A child silent for longer is given up.
    serve
        What a child does with its pipe.
    """

    def __init__(
        self,
        n_workers: int = 1,
        timeout_s: float = 300.0,
        serve: "Callable[[Connection], None] | None" = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._serve = serve or serve_slides
        self._idle = [_Child(self._serve) for _ in range(n_workers)]
        self._busy: dict[Connection, tuple[_Child, Any]] = {}

    def __enter__(self) -> "ViewReaders":
        return self

    def __exit__(self, *_: object) -> None:
        for child in [*self._idle, *(c for c, _ in self._busy.values())]:
            child.stop()

    def read(self, requests: Iterable[R]) -> Iterator[tuple[R, Answer]]:
        """Give answers as they come, those of a slide in order, ending with :class:`Finished`.

        Of a slide: its facts, then its tiles in order; or its pictures, if it is refused once it
        was seen; or its crops, if these were asked for. Problems are S codes of the slide; S14 the
        reader crashed or stayed silent; S05 too many bad tiles.
        """
        waiting = iter(requests)
        more = True
        while more or self._busy:
            while more and self._idle:
                request = next(waiting, None)
                more = request is not None
                if request is not None:
                    child = self._idle.pop()
                    self._busy[child.ask(request)] = (child, request)
            yield from self._heard()

    def _heard(self) -> Iterator[tuple[Any, Answer]]:
        if not self._busy:
            return
        first_s = min(child.heard_s for child, _ in self._busy.values()) + self._timeout_s
        ready = wait(list(self._busy), timeout=max(0.0, first_s - time.monotonic()))
        # settled now: while the answer of one is worked on, time passes for the others
        late_s = time.monotonic() - self._timeout_s
        silent = [p for p, (c, _) in self._busy.items() if p not in ready and c.heard_s < late_s]
        for pipe in [p for p in self._busy if p in ready or p in silent]:
            child, request = self._busy[pipe]
            if pipe in ready:
                answer = child.take(pipe, request)
            else:
                answer = _lost(request.path, f"was silent for {self._timeout_s:g} s")
                child.stop()
            if isinstance(answer, Finished):
                del self._busy[pipe]
                self._idle.append(child)
            if answer is not None:
                yield request, answer


class _Child:
    """One process, and when it was last heard."""

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        self._process = KeptChild(serve)
        self.heard_s = 0.0

    def ask(self, request: Request) -> Connection:
        self.heard_s = time.monotonic() + (0.0 if self._process.is_running else _START_S)
        pipe = self._process.ready()
        with suppress(OSError):  # it dies this moment: taking the answer will find that
            pipe.send(request)
        return pipe

    def take(self, pipe: Connection, request: Request) -> Answer | None:
        try:
            answer: Answer | None = pipe.recv()
        except (EOFError, OSError):
            self.stop()
            return _lost(request.path, "crashed")
        self.heard_s = time.monotonic()
        return answer

    def stop(self) -> None:
        self._process.stop()


def _lost(path: Path, what: str) -> Finished:
    remedy = "open it in another viewer; scan or convert it again"
    return Finished(
        Problem(code="S14", where=str(path), what=f"the slide reader {what}", remedy=remedy)
    )


def serve_slides(pipe: Connection) -> None:
    """Read what is asked for until nobody asks; what a child process does."""
    leave_stopping_to_the_parent()
    with suppress(MomkdError):  # told again, and properly, of the first slide
        import_backends()
    with suppress(OSError):
        pipe.send(None)
    answer_until_alone(pipe, lambda request: Finished(answer_request(pipe.send, request)))


def answer_request(send: Send, request: Request) -> Problem | None:
    """Read one slide: send what was asked for, or its pictures; give what is wrong with it."""
    try:
        with open_slide(request.path, request.rules) as slide:
            if isinstance(request, CropRequest):
                send(cut_crops(slide, request, _Pings(send)))
                return None
            facts = survey(slide, request, send, _Pings(send))
            send(facts)
            _send_views(send, slide, facts.grid, request)
    except MomkdError as error:
        return error.problems[0]
    except MemoryError:
        what = "does not fit into memory"
        return Problem(code="S07", where=str(request.path), what=what, remedy="free memory")
    return None


class _Pings:
    """Says now and then that long work goes on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last_s = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last_s > _PING_S:
            self._send(None)
            self._last_s = time.monotonic()


def _send_views(send: Send, slide: Slide, grid: TileGrid, request: ReadRequest) -> None:
    n_bad = 0
    for start in range(0, len(grid), request.batch_size):
        views = _read_views(slide, grid, request, start)
        n_bad += len(views.bad)
        if n_bad > request.rules.max_bad_share * len(grid) or n_bad == len(grid):
            x, y = grid.coords_px0[views.bad[-1]].tolist()
            what = f"{n_bad} of {len(grid)} tiles cannot be decoded (last at {x}, {y})"
            raise DataError.of("S05", str(slide.path), what, "copy or scan it again")
        send(views)


def _read_views(slide: Slide, grid: TileGrid, request: ReadRequest, start: int) -> Views:
    assert grid.tile_px0 is not None
    side_px = request.tiling.tile_px
    rows: list[int] = []
    pixels: list[np.ndarray] = []
    bad: list[int] = []
    n_holes = n_blurred = 0
    for row in range(start, min(start + request.batch_size, len(grid))):
        x, y = grid.coords_px0[row].tolist()
        holes = slide.n_holes
        try:
            view = slide.read_view(x, y, grid.tile_px0, side_px)
        except UnreadableRegionError:
            bad.append(row)
            continue
        rows.append(row)
        pixels.append(request.plan.prepare(view))
        n_holes += slide.n_holes > holes
        n_blurred += is_blurred(view, request.tiling.mpp)
    out_px = request.plan.side_px(side_px)
    stack = np.stack(pixels) if pixels else np.zeros((0, out_px, out_px, 3), np.uint8)
    return Views(
        rows=tuple(rows), pixels=stack, bad=tuple(bad), n_holes=n_holes, n_blurred=n_blurred
    )
