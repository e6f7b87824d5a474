"""A run folder as the viewer reads it: its manifest and its predictions, by slide."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momkd.errors import DataError
from momkd.viewer.catalogue import RunFacts, Score, SlideEntry, run_key

_NOT_TESTED = (
    "No case of this run was kept for testing: probabilities are shown for new slides only, and "
    "nothing here says how good the predictor is."
)
_UNFINISHED = "The run is not finished: it has no predictions yet."


@dataclass(slots=True)
class _Slide:
    case_id: str
    label: int | None
    sums: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def read_run_facts(folder: Path) -> RunFacts:
    """Read a run folder, or the folder of a predictor, which has no slides.

    Raises
    ------
    DataError
        P13 neither; P14 a table of predictions that cannot be read.
    """
    if (folder / "run.json").is_file():
        return _of_run(folder)
    for place in (folder, folder / "predictor"):
        if (place / "config.json").is_file():
            return _of_predictor(folder.name, place / "config.json")
    what = "neither a run (run.json) nor a predictor (config.json)"
    raise DataError.of("P13", str(folder), what, "give what crossval or train wrote")


def _of_run(folder: Path) -> RunFacts:
    run = _read_json(folder / "run.json")
    try:
        names = tuple(str(n) for n in run["class_names"])
        models = tuple(str(m) for m in run["models"])
        task = str(run["task"])
    except (KeyError, TypeError) as error:
        raise DataError.of("P13", str(folder / "run.json"), f"lacks {error}") from None
    notes = [str(n) for n in run.get("target_notes", ())]
    slides: dict[str, _Slide] = {}
    is_trained = (folder / "predictor" / "config.json").is_file()
    if is_trained:
        models = ("predictor",)
    for row in _rows(folder / "cohort.csv"):
        if row.get("slide_id"):
            label = int(row["label"]) if row.get("label", "").isdigit() else None
            slides[row["slide_id"]] = _Slide(row["case_id"], label)
    path = folder / "predictions.csv"
    n_tested = 0 if is_trained else _add_predictions(path, slides, names[-1])
    if not n_tested:
        notes.append(_NOT_TESTED if is_trained else _UNFINISHED)
    return RunFacts(
        name=folder.resolve().name,
        task=task,
        class_names=names,
        models=models,
        entries=tuple(_entry(slide_id, s) for slide_id, s in slides.items()),
        notes=tuple(dict.fromkeys(notes)),
        can_score=True,
    )


def _of_predictor(name: str, config: Path) -> RunFacts:
    card = _read_json(config)
    card = card.get("members", [card])[0] if isinstance(card.get("members"), list) else card
    try:
        task, names = str(card["task"]), tuple(str(n) for n in card["class_names"])
    except (KeyError, TypeError, IndexError) as error:
        raise DataError.of("P13", str(config), f"lacks {error}", "give a predictor") from None
    return RunFacts(name=name, task=task, class_names=names, models=("predictor",))


def _add_predictions(path: Path, slides: dict[str, _Slide], positive: str) -> int:
    """Gather what the test side of each seed says; give the number of rows."""
    n = 0
    for number, row in enumerate(_rows(path), start=2):
        if row.get("split", "test") != "test":
            continue
        try:
            p, cut = float(row[f"prob_{positive}"]), float(row["threshold"])
            label, model, slide_id = int(row["y_true"]), row["model"], row["slide_id"]
            case_id = row["case_id"]
        except (KeyError, ValueError, TypeError) as error:
            what = f"row {number} cannot be read: {error}"
            raise DataError.of("P14", str(path), what, "run momkd crossval again") from None
        if not (math.isfinite(p) and 0 <= p <= 1):
            what = f"row {number}: probability {p} is none"
            raise DataError.of("P14", str(path), what, "run momkd crossval again")
        slide = slides.setdefault(slide_id, _Slide(case_id, label))
        slide.label = label
        slide.sums.setdefault(model, []).append((p, cut))
        n += 1
    return n


def _entry(slide_id: str, slide: _Slide) -> SlideEntry:
    scores = {
        model: Score(
            probability=sum(p for p, _ in found) / len(found),
            threshold=sum(cut for _, cut in found) / len(found),
            low=min(p for p, _ in found) if len(found) > 1 else None,
            high=max(p for p, _ in found) if len(found) > 1 else None,
        )
        for model, found in slide.sums.items()
    }
    return SlideEntry(
        key=run_key(slide_id),
        slide_id=slide_id,
        case_id=slide.case_id,
        label=slide.label,
        scores=scores,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        brief = " ".join(str(error).split())
        raise DataError.of("P13", str(path), f"is damaged: {brief}") from None
    if not isinstance(content, dict):
        raise DataError.of("P13", str(path), "is damaged: holds no mapping")
    return content


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Read a table row by row; a table that is absent has none."""
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)
    except (OSError, ValueError, csv.Error) as error:
        brief = " ".join(str(error).split())
        raise DataError.of("P14", str(path), f"cannot be read: {brief}") from None
