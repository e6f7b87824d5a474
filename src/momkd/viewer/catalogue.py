"""The slides that can be looked at: those of the run, with what it said of them, and new ones."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from momkd.file_names import find_named
from momkd.viewer.absence import NotServedError
from momkd.viewer.roots import key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one model says of one slide.

    Parameters
    ----------
    probability
        Of the positive class, calibrated; of a run, the mean over its seeds.
    threshold
        The cut that was chosen on validation cases.
    low, high
        Span over the models that answered together; None where one did.
    flags
        What a user should know of this answer.
    """

    probability: float
    threshold: float
    low: float | None = None
    high: float | None = None
    flags: str = ""

    def told(self, label: int | None) -> dict[str, Any]:
        """Give it as the page shows it; the error is |label - probability|."""
        error = None if label is None else abs(label - self.probability)
        return {
            "probability": self.probability,
            "threshold": self.threshold,
            "called": int(self.probability >= self.threshold),
            "error": error,
            "low": self.low,
            "high": self.high,
            "flags": self.flags,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideEntry:
    """One slide of the list.

    ``key`` stands for it in addresses. ``path`` is None where no folder of slides holds it;
    ``scores`` and ``score_files`` go by model.
    """

    key: str
    slide_id: str
    case_id: str
    label: int | None = None
    path: Path | None = None
    is_new: bool = False
    scores: dict[str, Score] = field(default_factory=dict)
    score_files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run says of itself, and its slides.

    ``can_score`` says whether heat maps can be computed from its feature files; ``seen`` that its
    scores are of cases that taught the model.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    models: tuple[str, ...]
    entries: tuple[SlideEntry, ...] = ()
    notes: tuple[str, ...] = ()
    can_score: bool = False


class Catalogue:
    """Slides by key; new ones are added by jobs while requests read.

    Parameters
    ----------
    run
        Its slides come first.
    slides
        Slide id -> file, below the folders of slides.
    score_folders
        What ``momkd predict --attention`` wrote: ``<model>/<slide>.h5`` below, or ``<slide>.h5``.
    """

    def __init__(
        self, run: RunFacts, slides: dict[str, Path], score_folders: Sequence[Path] = ()
    ) -> None:
        self.run = run
        self._slides = slides
        self._folders = [f.resolve() for f in score_folders]
        self._entries = {e.key: replace(e, path=slides.get(e.slide_id)) for e in run.entries}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[SlideEntry]:
        """Give all slides, in order."""
        with self._lock:
            return list(self._entries.values())

    def entry(self, key: str) -> SlideEntry:
        """Give one slide; NotServedError if there is none of this key."""
        with self._lock:
            if key not in self._entries:
                raise NotServedError(key)
            return self._entries[key]

    def add(self, entries: Iterable[SlideEntry]) -> None:
        """Add new slides, or replace them; those without a file get one of the same name."""
        with self._lock:
            for e in entries:
                path = e.path or self._slides.get(e.slide_id)
                self._entries[e.key] = replace(e, path=path)

    def put_scores(self, key: str, model: str, file: Path) -> None:
        """Remember where a slide's scores are."""
        with self._lock:
            e = self._entries[key]
            self._entries[key] = replace(e, score_files={**e.score_files, model: file})

    def score_file(self, entry: SlideEntry, model: str) -> Path | None:
        """Find stored scores: what was computed here, else what ``predict`` stored."""
        if model in entry.score_files:
            return entry.score_files[model]
        if entry.is_new:
            return None
        for folder in self._folders:
            for place in (folder / model, folder):
                path = find_named(place, entry.slide_id, ".h5")
                if path is not None and path.resolve().is_relative_to(folder):
                    return path
        return None

    def cases(self) -> list[dict[str, Any]]:
        """Give a row a case: the mean of its slides' probabilities by model, and its slides."""
        groups: dict[tuple[bool, str], list[SlideEntry]] = {}
        for entry in self.entries():
            groups.setdefault((entry.is_new, entry.case_id), []).append(entry)
        return [self._row(members) for members in groups.values()]

    def _row(self, members: Sequence[SlideEntry]) -> dict[str, Any]:
        first = members[0]
        scores = {}
        for model in self.run.models:
            found = [m.scores[model] for m in members if model in m.scores]
            if found:
                p = sum(s.probability for s in found) / len(found)
                mean = Score(probability=p, threshold=found[0].threshold)
                scores[model] = mean.told(first.label)
        return {
            "case": first.case_id,
            "label": first.label,
            "is_new": first.is_new,
            "scores": scores,
            "slides": [
                {"key": m.key, "name": m.slide_id, "has_pixels": m.path is not None}
                for m in members
            ],
        }


def run_key(slide_id: str) -> str:
    """Give the key of a slide of the run; the same every time it is served."""
    return key_of("run", slide_id)
