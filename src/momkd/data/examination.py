"""Every feature file read once, each in a killable process, and compared with the others."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from momkd.data.layouts.material import ReadRules
from momkd.data.reader_process import FileFacts, Refusal, read_files
from momkd.errors import Problem
from momkd.types import SlideFile

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
    result.slides = {f.slide_id: slide_file(f, rules) for f in facts}
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


def slide_file(f: FileFacts, rules: ReadRules) -> SlideFile:
    """Keep what is needed to read a file again as it was examined."""
    return SlideFile(
        slide_id=f.slide_id,
        path=f.path,
        sha256=f.sha256,
        n_tiles=f.n_tiles,
        dim=f.dim,
        encoder=f.encoder,
        encoder_sha256=f.encoder_sha256,
        tile_px=f.geometry.tile_px,
        tile_px0=f.geometry.tile_px0,
        overlap_px=f.geometry.overlap_px,
        mpp=f.geometry.mpp,
        magnification=f.geometry.magnification,
        has_coords=f.has_coords,
        feature_key=rules.feature_key,
        drop_nonfinite=rules.drop_nonfinite,
        coords_dir=rules.coords_dir,
        mpp0=rules.mpp0_of(f.slide_id),
        origin_sha256=f.origin_sha256,
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
        by_content[f.origin_sha256 or f.sha256].append(f.slide_id)
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
        ("F17", "encoder weights", [_short(f.encoder_sha256) for f in facts]),
        ("F17", "tile size (px)", [f.geometry.tile_px for f in facts]),
        ("F17", "overlap (px)", [f.geometry.overlap_px for f in facts]),
        ("F17", "magnification", [f.geometry.magnification for f in facts]),
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
    layouts = Counter(f.layout for f in facts)
    if len(layouts) > 1:
        shown = ", ".join(f"{name} ({n})" for name, n in layouts.most_common())
        notes.append(f"features: several layouts: {shown}")
    for word, count in (
        ("no encoder stated", sum(f.encoder is None for f in facts)),
        ("no tile size or magnification", sum(f.geometry.tile_px is None for f in facts)),
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


def _short(digest: str | None) -> str | None:
    return None if digest is None else digest[:12]
