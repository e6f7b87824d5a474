"""Reads feature files in a process that may crash or hang without harm to the run.

The child imports h5py and numpy only, and what else a layout needs when it meets it; it is kept
for many files. A crash or a hang costs one file and one restart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from momkd.child_processes import KeptChild, answer_until_alone
from momkd.data.layouts.material import Geometry, RawFeatures, ReadRules
from momkd.data.layouts.table import read_raw
from momkd.errors import IntegrityError, MomkdError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What is kept of a file that was read: everything but its arrays."""

    slide_id: str
    path: Path
    layout: str
    why: str
    sha256: str
    n_tiles: int
    dim: int
    dtype: str
    has_coords: bool
    geometry: Geometry
    encoder: str | None
    encoder_sha256: str | None
    origin_sha256: str | None
    n_same_place: int
    pitch_px0: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a file was turned away, and whether for safety."""

    problem: Problem
    unsafe: bool


def facts_of(raw: RawFeatures, path: Path) -> FileFacts:
    """Keep the facts of a file that was read."""
    return FileFacts(
        slide_id=raw.slide_id,
        path=path,
        layout=raw.layout,
        why=raw.why,
        sha256=raw.sha256,
        n_tiles=raw.embeddings.shape[0],
        dim=raw.embeddings.shape[1],
        dtype=str(raw.embeddings.dtype),
        has_coords=raw.coords_px0 is not None,
        geometry=raw.geometry,
        encoder=raw.encoder,
        encoder_sha256=raw.encoder_sha256,
        origin_sha256=raw.origin_sha256,
        n_same_place=raw.n_same_place,
        pitch_px0=raw.pitch_px0,
        notes=raw.notes,
    )


def read_files(
    paths: Sequence[Path], *, rules: ReadRules, timeout_s: float
) -> Iterator[FileFacts | Refusal]:
    """Read files one after the other, each within ``timeout_s``, and give what became of each."""
    reader = KeptChild(_serve, rules)
    try:
        for path in paths:
            answer = _ask(reader, path, timeout_s)
            if answer is None:
                reader.stop()
                what = f"the reader crashed or took over {timeout_s:g} s"
                remedy = "re-run extraction for this slide"
                problem = Problem(code="F27", where=str(path), what=what, remedy=remedy)
                answer = Refusal(problem=problem, unsafe=False)
            yield answer
    finally:
        reader.stop()


def _ask(reader: KeptChild, path: Path, timeout_s: float) -> FileFacts | Refusal | None:
    """Give the answer of the child; None if it died or stayed silent."""
    pipe = reader.ready()
    try:
        pipe.send(path)
        if not pipe.poll(timeout_s):
            return None
        answer: FileFacts | Refusal = pipe.recv()
    except (EOFError, OSError):
        return None
    return answer


def _serve(pipe: Connection, rules: ReadRules) -> None:
    def answer(path: Path) -> FileFacts | Refusal:
        try:
            return facts_of(read_raw(path, rules=rules), path)
        except MomkdError as error:
            unsafe = isinstance(error, IntegrityError)
            return Refusal(problem=error.problems[0], unsafe=unsafe)
        except MemoryError:
            what = "does not fit into memory"
            problem = Problem(code="F34", where=str(path), what=what, remedy="free memory")
            return Refusal(problem=problem, unsafe=False)

    answer_until_alone(pipe, answer)
