"""What the viewer lets models do: predict a new slide, and compute the heat map of an old one.

Each runs in a process of its own (:mod:`momkd.viewer.jobs`), so nothing here is kept in memory
between two requests.
"""

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momkd.file_names import file_names
from momkd.viewer.catalogue import Score, SlideEntry
from momkd.viewer.jobs import Tell, Work
from momkd.viewer.roots import key_of
from momkd.workflows.score_slide import score_slide

if TYPE_CHECKING:
    from momkd.slides.reader import SlideRules


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorLabour:
    """Work for the predictors of a run.

    Parameters
    ----------
    model
        Run folder, or a predictor's.
    folder
        Where features, tables and scores of the work go.
    rules, weights, device
        As for ``momkd predict``.
    """

    model: Path
    folder: Path
    rules: "SlideRules"
    weights: Path | None = None
    device: str = "cpu"

    def predict(self, file: Path) -> tuple[Work, Callable[[dict[str, Any]], list[SlideEntry]]]:
        """Give the work that predicts a file, and what makes slides of the list of its answer."""
        place = self.folder / "predictions" / secrets.token_hex(8)
        work = partial(
            predict_file,
            self.model,
            file,
            place,
            self.folder / "features",
            self.rules,
            self.weights,
            self.device,
        )
        return work, partial(_entries, place, file)

    def score(self, entry: SlideEntry, model: str) -> tuple[Work, Path]:
        """Give the work that computes a slide's heat map, and the file it writes."""
        path = self.folder / "scores" / key_of("model", model) / f"{entry.key}.h5"
        return partial(score_slide, self.model, entry.slide_id, model, path), path


def predict_file(
    model: Path,
    file: Path,
    place: Path,
    features: Path,
    rules: "SlideRules",
    weights: Path | None,
    device: str,
    tell: Tell,
) -> dict[str, Any]:
    """Predict one slide or feature file with every model of a run.

    Returns
    -------
    dict
        ``rows`` of the table of predictions, and ``notes``.

    Raises
    ------
    MomkdError
        As :func:`momkd.workflows.predict.predict`.
    """
    from momkd.workflows import console
    from momkd.workflows.predict import predict

    tell("loading the predictors", 0.0, 0.0)
    console.set_quiet(True)  # bars are told to the page; the terminal is the server's
    console.listen(tell)
    table = predict(
        model,
        [file],
        place / "predictions.csv",
        attention=place / "scores",
        evidence=True,
        slides=rules,
        weights=weights,
        device=device,
        features=features,
        draw=False,
        max_skip=0.0,
    )
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]
    seen = any(row["seen_in_training"] for row in rows)
    notes = ["This slide taught the model: its probability says nothing of accuracy."] * seen
    return {"rows": rows, "notes": notes}


def _entries(place: Path, file: Path, answer: dict[str, Any]) -> list[SlideEntry]:
    """Make slides of the list from the rows of a table of predictions."""
    from momkd.slides.formats import SLIDE_SUFFIXES

    by_slide: dict[str, list[Mapping[str, Any]]] = {}
    for row in answer["rows"]:
        by_slide.setdefault(row["slide_id"], []).append(row)
    names = file_names(by_slide, ".h5")
    return [
        SlideEntry(
            key=key_of("new", f"{file}\0{slide_id}"),
            slide_id=slide_id,
            case_id=rows[0]["case_id"],
            path=file if file.suffix.lower() in SLIDE_SUFFIXES else None,
            is_new=True,
            scores={row["model"]: _score(row) for row in rows},
            score_files={
                row["model"]: place / "scores" / row["model"] / names[slide_id] for row in rows
            },
        )
        for slide_id, rows in by_slide.items()
    ]


def _score(row: Mapping[str, Any]) -> Score:
    flags = [str(row["flags"])] if row.get("flags") else []
    if row["seen_in_training"]:
        flags.append("taught this model")
    has_span = row["n_members"] > 1
    return Score(
        probability=[v for k, v in row.items() if k.startswith("prob_")][-1],
        threshold=row["threshold"],
        low=row["low"] if has_span else None,
        high=row["high"] if has_span else None,
        flags="; ".join(flags),
    )


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
