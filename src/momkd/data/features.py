"""Feature files: find them, examine them all, and turn one into a bag."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from momkd.data.graph import nearest_neighbours
from momkd.data.hdf5 import ReadRules, read_raw, require_plain_file, slide_id_of
from momkd.data.reader_process import FileFacts, Refusal, read_files
from momkd.errors import DataError, IntegrityError, MomkdError, Problem
from momkd.storage import write_text
from momkd.types import Bag, SlideFile, TileGrid

_SUFFIXES = (".h5", ".hdf5")
_COLUMNS = ("slide_id", "file", "sha256", "n_tiles", "dim", "encoder", "tile_px", "mpp")
_PITCH_TOLERANCE = 0.05
_LARGE_TILES = 50_000
_STEP_BYTES = 28 * 1024  # of preset `paper`, a tile; measured by benchmarks/large_bag.py


@dataclass(slots=True, kw_only=True)
class Examination:
    """What became of every feature file that was found.

    Attributes
    ----------
    slides
        Files that may be used, by slide.
    problems
        Faults that stop the work; ``refused`` are those of safety or integrity.
    skipped
        Slides left out with a reason: they hold no tile.
    notes
        Notices with counts.
    """

    slides: dict[str, SlideFile] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDescription:
    """A feature file in words."""

    facts: FileFacts
    why: str

    def lines(self) -> list[str]:
        """Give the file's name and what was recognised, a line each."""
        f = self.facts
        stated = f"{f.encoder or 'encoder not stated'}"
        geometry = (
            f"tile {_or_unknown(f.tile_px)} px seen, {_or_unknown(f.tile_px0)} px on level 0, "
            f"magnification {_or_unknown(f.magnification)}, mpp {_or_unknown(f.mpp)}"
        )
        pitch = f"pitch measured {_or_unknown(f.pitch_px0)} level-0 px"
        if f.pitch_px0 and f.tile_px0:
            near = abs(f.pitch_px0 / f.tile_px0 - 1) <= _PITCH_TOLERANCE
            pitch += ", as stated" if near else ", not the tile side: overlap or gaps"
        return [
            f"{f.path.name}",
            f"layout: {f.layout} ({self.why})",
            f"{f.n_tiles} tiles x {f.dim}, {f.dtype}, encoder: {stated}",
            geometry if f.has_coords else "no coordinates: no graph, no heatmap",
            pitch if f.has_coords else "models that use the tile graph (momkd) refuse it",
            f"tiles at a place taken by another: {f.n_same_place}",
            f"sha256: {f.sha256}",
            *(f"note: {n}" for n in f.notes),
        ]


def find_feature_files(roots: Sequence[Path]) -> tuple[dict[str, Path], list[Problem]]:
    """Find ``.h5`` files among files and folders (searched through), by slide.

    A file with a ``.lock`` beside it is being written and is reported, not used.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    problems: list[Problem] = []
    for root in dict.fromkeys(roots):
        if root.is_dir():
            inside = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES)
        else:
            inside = [root]
        for path in inside:
            if path not in found[slide_id_of(path)]:
                found[slide_id_of(path)].append(path)
    files: dict[str, Path] = {}
    for slide_id, paths in sorted(found.items()):
        problem = _unusable(slide_id, paths)
        if problem is None:
            files[slide_id] = paths[0]
        else:
            problems.append(problem)
    return files, problems


def _unusable(slide_id: str, paths: list[Path]) -> Problem | None:
    if len(paths) > 1:
        names = ", ".join(p.name for p in paths[:4])
        what = f"{len(paths)} files claim this slide: {names}"
        remedy = "keep one, or name the right folder"
        return Problem(code="F18", where=slide_id, what=what, remedy=remedy)
    path = paths[0]
    try:
        require_plain_file(path)
    except MomkdError as error:
        return error.problems[0]
    if path.with_name(path.name + ".lock").exists():
        what = "a .lock lies beside it: another program is writing it"
        remedy = "wait, or delete a stale lock"
        return Problem(code="F31", where=str(path), what=what, remedy=remedy)
    return None


def examine_files(
    files: Mapping[str, Path],
    *,
    rules: ReadRules | None = None,
    n_workers: int = 1,
    timeout_s: float = 60.0,
    manifest: Mapping[str, str] | None = None,
    on_done: Callable[[], None] | None = None,
) -> Examination:
    """Read every file once, each in a killable process, and compare them with one another.

    Parameters
    ----------
    files
        Slide -> file.
    rules
        How they are to be read.
    n_workers
        Reader processes.
    timeout_s
        A file that takes longer is given up (F27).
    manifest
        File name -> SHA-256 of an earlier check; a difference is refused (F26).
    on_done
        Called after each file.
    """
    rules = rules or ReadRules()
    result = Examination()
    facts: list[FileFacts] = []
    for answer in _read_all(list(files.values()), rules, n_workers, timeout_s):
        if isinstance(answer, FileFacts):
            facts.append(answer)
        elif answer.problem.code == "F07":
            result.skipped.append(answer.problem)
        else:
            (result.refused if answer.unsafe else result.problems).append(answer.problem)
        if on_done is not None:
            on_done()
    facts.sort(key=lambda f: f.slide_id)
    result.refused += _changed(facts, manifest or {})
    result.refused += _twins(facts)
    result.problems += _mixtures(facts)
    result.notes += _notices(facts)
    result.slides = {f.slide_id: _slide_file(f, rules) for f in facts}
    return result


def _read_all(
    paths: list[Path], rules: ReadRules, n_workers: int, timeout_s: float
) -> Iterator[FileFacts | Refusal]:
    n_workers = max(1, min(n_workers, len(paths)))
    if n_workers == 1:
        yield from read_files(paths, rules=rules, timeout_s=timeout_s)
        return

    def read(part: list[Path]) -> list[FileFacts | Refusal]:
        return list(read_files(part, rules=rules, timeout_s=timeout_s))

    with ThreadPoolExecutor(n_workers) as pool:
        for answers in pool.map(read, [paths[i::n_workers] for i in range(n_workers)]):
            yield from answers


def read_bag(file: SlideFile | Path, *, k: int = 8) -> Bag:
    """Read a feature file as a bag in raster order, with its graph.

    Rows are sorted by (y, x, content), so the order of the file leaves no trace. Without
    coordinates the rows stay as they are, and grid and neighbours are None.

    Parameters
    ----------
    file
        An examined file, whose bytes must not have changed since, read as it was then; or a path.
    k
        Neighbours a tile.

    Raises
    ------
    DataError
        As :func:`momkd.data.hdf5.read_raw`.
    IntegrityError
        F26 the file changed since it was examined.
    """
    path, rules = file if isinstance(file, Path) else file.path, ReadRules()
    if isinstance(file, SlideFile):
        rules = ReadRules(feature_key=file.feature_key, drop_nonfinite=file.drop_nonfinite)
    raw = read_raw(path, rules=rules)
    if isinstance(file, SlideFile) and raw.sha256 != file.sha256:
        what = "its bytes changed since it was examined"
        raise IntegrityError.of("F26", str(path), what, "run momkd check again")
    slide_id = file.slide_id if isinstance(file, SlideFile) else raw.slide_id
    coords = raw.coords_px0
    if coords is None:
        embeddings = torch.from_numpy(np.ascontiguousarray(raw.embeddings))
        return Bag(slide_id=slide_id, embeddings=embeddings, encoder=raw.encoder, digest=raw.sha256)
    order = _raster_order(coords, raw.embeddings)
    coords = np.ascontiguousarray(coords[order])
    grid = TileGrid(
        slide_id=slide_id,
        coords_px0=coords,
        tile_px0=raw.tile_px0,
        tile_px=raw.tile_px,
        mpp=raw.mpp,
        magnification=raw.magnification,
        width_px0=raw.width_px0,
        height_px0=raw.height_px0,
    )
    return Bag(
        slide_id=slide_id,
        embeddings=torch.from_numpy(np.ascontiguousarray(raw.embeddings[order])),
        grid=grid,
        neighbours=torch.from_numpy(nearest_neighbours(coords, k)),
        encoder=raw.encoder,
        digest=raw.sha256,
    )


def _raster_order(coords: NDArray[np.int64], embeddings: NDArray[np.floating]) -> NDArray[np.intp]:
    order = np.lexsort((coords[:, 0], coords[:, 1]))
    sorted_coords = coords[order]
    tied = np.flatnonzero((sorted_coords[1:] == sorted_coords[:-1]).all(axis=1))
    if len(tied):  # tiles at one place: their content decides
        rank = np.zeros(len(coords), dtype=np.int64)
        rows = np.unique(np.concatenate([order[tied], order[tied + 1]]))
        by_content = sorted(rows.tolist(), key=lambda r: embeddings[r].tobytes())
        rank[by_content] = np.arange(len(by_content))
        order = np.lexsort((rank, coords[:, 0], coords[:, 1]))
    return order


def describe_file(path: Path) -> FileDescription:
    """Say what a feature file holds and why it was recognised as what it is.

    Raises
    ------
    MomkdError
        As :func:`momkd.data.hdf5.read_raw`, and F27.
    """
    (answer,) = read_files([path], rules=ReadRules(), timeout_s=60.0)
    if isinstance(answer, Refusal):
        raise (IntegrityError if answer.unsafe else DataError)(answer.problem)
    why = "dataset 'features'"
    why += " with 'coords' in level-0 px" if answer.has_coords else ", no 'coords'"
    if answer.tile_px0 is not None:
        why += ", attribute 'patch_size_level0'"
    return FileDescription(facts=answer, why=why)


def read_manifest(path: Path) -> dict[str, str]:
    """Read file name -> SHA-256 of an earlier examination."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["file"]: row["sha256"] for row in csv.DictReader(stream)}


def write_manifest(path: Path, slides: Sequence[SlideFile]) -> None:
    """Write the digests of examined files as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for s in sorted(slides, key=lambda s: s.slide_id):
        facts = (s.slide_id, s.path.name, s.sha256, s.n_tiles, s.dim, s.encoder, s.tile_px, s.mpp)
        writer.writerow(facts)
    write_text(path, text.getvalue())


def _slide_file(f: FileFacts, rules: ReadRules) -> SlideFile:
    return SlideFile(
        slide_id=f.slide_id,
        path=f.path,
        sha256=f.sha256,
        n_tiles=f.n_tiles,
        dim=f.dim,
        encoder=f.encoder,
        tile_px=f.tile_px,
        tile_px0=f.tile_px0,
        mpp=f.mpp,
        magnification=f.magnification,
        has_coords=f.has_coords,
        feature_key=rules.feature_key,
        drop_nonfinite=rules.drop_nonfinite,
    )


def _changed(facts: Sequence[FileFacts], manifest: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(
            code="F26",
            where=str(f.path),
            what="SHA-256 differs from the one written at the first check",
            remedy="restore the file, or delete the manifest if you extracted it anew",
        )
        for f in facts
        if manifest.get(f.path.name, f.sha256) != f.sha256
    ]


def _twins(facts: Sequence[FileFacts]) -> list[Problem]:
    by_content: dict[str, list[str]] = defaultdict(list)
    for f in facts:
        by_content[f.sha256].append(f.slide_id)
    return [
        Problem(
            code="F32",
            where=", ".join(slides[:3]),
            what=f"{len(slides)} slides have the same content (duplicates leak across folds)",
            remedy="keep one",
        )
        for slides in by_content.values()
        if len(slides) > 1
    ]


def _mixtures(facts: Sequence[FileFacts]) -> list[Problem]:
    problems = []
    for code, name, values in (
        ("F10", "feature width", [f.dim for f in facts]),
        ("F17", "encoder", [f.encoder for f in facts]),
        ("F17", "tile size (px)", [f.tile_px for f in facts]),
        ("F17", "magnification", [f.magnification for f in facts]),
    ):
        counts = Counter(v for v in values if v is not None)
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            odd = [f.slide_id for f, v in zip(facts, values, strict=True) if v not in (None, usual)]
            shown = ", ".join(f"{v} ({n} slides)" for v, n in counts.most_common(4))
            what = f"mixed in the cohort: {shown}; the odd ones begin with {', '.join(odd[:3])}"
            remedy = "extract all slides alike, or leave these out"
            problems.append(Problem(code=code, where=name, what=what, remedy=remedy))
    with_coords = [f for f in facts if f.has_coords]
    if with_coords and len(with_coords) < len(facts):
        bare = [f.slide_id for f in facts if not f.has_coords]
        what = f"{len(bare)} of {len(facts)} slides have none (first: {bare[0]})"
        problems.append(
            Problem(code="F17", where="coordinates", what=what, remedy="extract all slides alike")
        )
    singles = [f for f in facts if f.n_tiles == 1]
    if len(facts) > 2 and len(singles) > len(facts) / 2:
        what = f"{len(singles)} of {len(facts)} files hold one row: looks like slide-level features"
        problems.append(
            Problem(code="F33", where="features", what=what, remedy="give tile features")
        )
    return problems


def _notices(facts: Sequence[FileFacts]) -> list[str]:
    notes = []
    if facts:
        tiles = [f.n_tiles for f in facts]
        encoder = facts[0].encoder or "not stated"
        notes.append(
            f"features: {len(facts)} slides, {min(tiles)} to {max(tiles)} tiles x {facts[0].dim}, "
            f"encoder {encoder}"
        )
    for word, count in (
        ("no encoder stated", sum(f.encoder is None for f in facts)),
        ("no tile size or magnification", sum(f.tile_px is None for f in facts)),
        ("several tiles at one place", sum(f.n_same_place > 0 for f in facts)),
        ("fewer than 9 tiles: fewer neighbours a tile", sum(f.n_tiles < 9 for f in facts)),
    ):
        if count:
            notes.append(f"features: {count} of {len(facts)} slides with {word}")
    largest = max((f.n_tiles for f in facts), default=0)
    if largest >= _LARGE_TILES:
        need_gib = largest * (_STEP_BYTES + 4 * facts[0].dim) / 2**30
        notes.append(
            f"features: the largest slide has {largest:,} tiles: about {need_gib:.1f} GiB for one "
            "training step of momkd"
        )
    said = Counter(n for f in facts for n in f.notes)
    return notes + [f"features: {text} ({n} slides)" for text, n in sorted(said.items())]


def _or_unknown(value: int | float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
