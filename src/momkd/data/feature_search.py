"""Feature files among files and folders: which belong to a slide, and what is left aside."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from momkd.data.layouts.material import SUFFIXES, slide_id_of
from momkd.data.layouts.numpy_file import COORDS_FOLDERS, COORDS_SUFFIX
from momkd.data.layouts.plain_file import require_plain_file, require_reachable
from momkd.errors import DataError, MomkdError, Problem

_SLIDE_LEVEL = "slide_features_"


@dataclass(slots=True, kw_only=True)
class FoundFiles:
    """What was found among files and folders.

    Attributes
    ----------
    files
        Slide -> file.
    problems
        Faults that stop the work.
    skipped
        Slides left out with a reason: another program is writing them.
    notes
        What was left aside, with counts, and what was named twice.
    """

    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_feature_files(roots: Sequence[Path]) -> FoundFiles:
    """Find feature files among files and folders (searched through), by slide.

    Folders are searched without following links; a ``.zarr`` folder counts as one file. Inside
    folders, files of tile corners, embeddings of whole slides and files of other kinds are left
    aside and counted; where CLAM left a slide both as h5 and as ``.pt``, the h5 is taken, which
    has coordinates. A file with a ``.lock`` beside it is being written and is skipped.
    """
    result = FoundFiles()
    claims: dict[str, list[Path]] = defaultdict(list)
    twice = 0
    for root in roots:
        for path in _inside(root, result) if _is_plain_folder(root) else [root]:
            known = claims[slide_id_of(path)]
            if path in known:
                twice += 1
            else:
                known.append(path)
    if twice:
        result.notes.append(f"features: {twice} files are named twice and taken once")
    n_pt = 0
    for slide_id, paths in sorted(claims.items()):
        chosen = _with_corners(paths)
        n_pt += len(paths) - len(chosen)
        _sort_in(slide_id, chosen, result)
    if n_pt:
        result.notes.append(f"features: {n_pt} .pt files left aside: the same slides have an h5")
    return result


def _sort_in(slide_id: str, paths: list[Path], result: FoundFiles) -> None:
    if len(paths) > 1:
        names = ", ".join(p.name for p in paths[:4])
        what = f"{len(paths)} files claim this slide: {names}"
        remedy = "keep one, or name the right folder"
        result.problems.append(Problem(code="F18", where=slide_id, what=what, remedy=remedy))
        return
    path = paths[0]
    try:
        if not _is_store(path):
            require_plain_file(path)
        else:
            require_reachable(path)
    except MomkdError as error:
        result.problems += error.problems
        return
    if path.with_name(path.name + ".lock").exists():
        what = "a .lock lies beside it: another program is writing it"
        remedy = "wait, or delete a stale lock"
        result.skipped.append(Problem(code="F31", where=str(path), what=what, remedy=remedy))
        return
    result.files[slide_id] = path


def _inside(root: Path, result: FoundFiles) -> Iterator[Path]:
    """Give what may be feature files below a folder, in a fixed order; count the rest."""
    aside: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        where = str(error.filename or root)
        what = f"cannot be listed: {error.strerror}"
        problem = DataError.of("F29", where, what, "chmod u+rx, or ask its owner").problems[0]
        result.problems.append(problem)

    found = []
    for place, folders, names in os.walk(root, onerror=unreadable):
        folder = Path(place)
        stores = [n for n in folders if n.lower().endswith(".zarr")]
        # a folder that is called like a file is reported with the files
        called_so = [n for n in folders if n not in stores and n.lower().endswith(SUFFIXES)]
        folders[:] = [n for n in folders if n not in (*stores, *called_so) and n[0] != "."]
        for name in (*names, *stores, *called_so):
            kind = _left_aside(root, folder / name)
            if kind is None:
                found.append(folder / name)
            elif kind:
                aside[kind] += 1
    if aside:
        listed = ", ".join(f"{n} {kind}" for kind, n in aside.most_common(8))
        result.notes.append(f"features: left aside in {root.name or root}: {listed}")
    yield from sorted(found)


def _left_aside(root: Path, path: Path) -> str | None:
    """Give the kind of a file that is none of features; '' where not worth a word, None if one."""
    name = path.name.lower()
    if name.startswith(".") or name.endswith(".lock"):
        return ""
    if not name.endswith(SUFFIXES):
        return f"{path.suffix} files" if path.suffix else "files without extension"
    folders = [part.lower() for part in path.relative_to(root).parent.parts]
    if "patches" in folders or name.endswith("_patches.h5"):
        return "files of tile corners"
    if any(part.startswith(_SLIDE_LEVEL) for part in folders):
        return "embeddings of whole slides"
    is_corners = path.stem.lower().endswith(COORDS_SUFFIX) or bool({*folders} & {*COORDS_FOLDERS})
    if name.endswith(".npy") and is_corners:
        return "files of tile corners"
    return None


def _with_corners(paths: list[Path]) -> list[Path]:
    """Of a slide's h5 and ``.pt``, keep the h5."""
    bare = [p for p in paths if p.suffix.lower() == ".pt"]
    rest = [p for p in paths if p not in bare]
    return rest if bare and rest else paths


def _is_store(path: Path) -> bool:
    return path.suffix.lower() == ".zarr" and path.is_dir()


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not _is_store(path)
