"""The slides that a memory is shown on: given ones, or those its training has kept for testing."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from momkd.data.barcodes import case_of
from momkd.data.features import examine_files, find_feature_files
from momkd.data.layouts.material import ReadRules
from momkd.errors import ConfigError, DataError, IntegrityError
from momkd.types import SlideFile
from momkd.workflows.atlas.trained_memory import TrainedMemory
from momkd.workflows.console import count_files, say
from momkd.workflows.predict_pixels import embed_slides

if TYPE_CHECKING:
    from momkd.slides.reader import SlideRules


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryInputs:
    """Slides that a memory is shown on.

    Parameters
    ----------
    files
        Examined feature files.
    which
        Which slides they are, in words.
    pixels
        Slide -> its file, where pixels were given.
    cases, labels
        Slide -> case, and case -> class, where a run knows them.
    """

    files: Sequence[SlideFile]
    which: str
    pixels: Mapping[str, Path] = field(default_factory=dict)
    cases: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)

    def case_of(self, slide_id: str) -> str:
        """Give the case of a slide: as the run knows it, or from a TCGA barcode, or its own."""
        return self.cases.get(slide_id) or case_of(slide_id)


def find_inputs(
    memory: TrainedMemory,
    features: Sequence[Path],
    slides: Sequence[Path],
    *,
    extracted: Path,
    rules: "SlideRules | None" = None,
    weights: Path | str | None = None,
    device: str = "cpu",
    workers: int = 1,
    only_seen: bool = False,
) -> MemoryInputs:
    """Find and examine the slides to look at.

    Parameters
    ----------
    features
        Feature files or folders of them. Without any: the slides that this training of a run was
        tested on (or, where it kept none for testing, validated on); of a predictor alone, the
        slides are embedded.
    slides
        Slides, or folders of them, whose pixels are shown.
    extracted
        Folder for features of slides that have none yet.
    rules, weights, device
        How slides are opened and embedded.
    only_seen
        Leave slides out whose pixels were not given, where those of others were.

    Raises
    ------
    ConfigError
        G07 neither features nor slides, and no run that knows some.
    DataError, IntegrityError
        A feature file at fault; S codes, if no slide can be used.
    """
    pixels = _pixels(slides)
    cases, labels = _cohort(memory)
    wanted: set[str] | None = None
    reading = ReadRules()
    if features:
        roots, which = list(features), "slides given by the user"
    elif memory.run is not None and memory.training is not None:
        roots, reading = _of_run(memory.run)
        wanted, which = _tested(memory.training)
    elif slides:
        made = embed_slides(
            list(slides), extracted, [memory.card], rules=rules, weights=weights, device=device
        )
        if not made.files:
            raise DataError(*made.problems)
        for problem in made.problems:
            say(f"left out: {problem.line()}")
        roots, which = list(made.files), "slides given by the user"
    else:
        what = "a predictor alone names no slides"
        raise ConfigError.of("G07", "--features", what, "give feature files, or --slides")
    if only_seen and pixels:
        wanted = set(pixels) if wanted is None else wanted & set(pixels)
        which += "; those of them whose pixels were given"
    files = _examine(roots, reading, wanted, workers)
    return MemoryInputs(files=files, which=which, pixels=pixels, cases=cases, labels=labels)


def _pixels(slides: Sequence[Path]) -> dict[str, Path]:
    if not slides:
        return {}
    from momkd.slides.reader import slide_name
    from momkd.workflows.extract import find_slides

    return {slide_name(path): path for path in find_slides(slides)}


def _of_run(run: Path) -> tuple[list[Path], ReadRules]:
    from momkd.data.reading_rules import read_rules
    from momkd.workflows.settings import load_settings

    settings = load_settings([run / "config.yaml"])
    return list(settings.data.features), read_rules(settings.data)


def _tested(training: Path) -> tuple[set[str], str]:
    """Give the slides that a training was tested on, or validated on where it was not tested."""
    path = training / "predictions.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [(row["slide_id"], row["split"]) for row in csv.DictReader(stream)]
    except (OSError, KeyError) as error:
        what = f"cannot be read: {error}"
        raise DataError.of("P14", str(path), what, "give --features, or run again") from None
    tested = {slide for slide, split in rows if split == "test"}
    if tested:
        return tested, "slides of the cases that this training was tested on: it has not seen them"
    which = "slides of the cases that chose its epoch and thresholds (none was kept for testing)"
    return {slide for slide, _ in rows}, which


def _cohort(memory: TrainedMemory) -> tuple[dict[str, str], dict[str, int]]:
    path = None if memory.run is None else memory.run / "cohort.csv"
    if path is None or not path.is_file():
        return {}, {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cases = {row["slide_id"]: row["case_id"] for row in rows if row.get("slide_id")}
    return cases, {row["case_id"]: int(row["label"]) for row in rows if row.get("label", "") != ""}


def _examine(
    roots: Sequence[Path], rules: ReadRules, wanted: set[str] | None, workers: int
) -> list[SlideFile]:
    found = find_feature_files(roots)
    files = {s: p for s, p in found.files.items() if wanted is None or s in wanted}
    if found.problems:
        raise DataError(*found.problems)
    for note in found.notes:
        say(note)
    if not files:
        what = "no feature file among the inputs"
        if wanted is not None:
            what = f"none of the {len(found.files)} feature files is of a slide that is wanted"
        raise DataError.of("P09", "features", what, "give --features")
    with count_files("examining feature files") as counter:
        counter.start(len(files))
        on_done: Callable[[], None] = counter.advance
        examined = examine_files(files, rules=rules, n_workers=workers, on_done=on_done)
    if examined.refused:
        raise IntegrityError(*examined.refused)
    if examined.problems or not examined.slides:
        raise DataError(*examined.problems, *examined.skipped)
    for problem in (*found.skipped, *examined.skipped):
        say(f"left out: {problem.line()}")
    return list(examined.slides.values())
