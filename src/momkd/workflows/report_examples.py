"""Example slides of a report, called right and wrong, with where the model looked.

Nothing is trained: the fold models that did not learn from a slide score it once more.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from momkd.errors import MomkdError
from momkd.reporting.figures import png_of
from momkd.reporting.heatmap import draw_layer, draw_layer_over_slide
from momkd.reporting.page import Heading, Part, Picture, Section, Words
from momkd.reporting.words import short
from momkd.types import TileGrid
from momkd.workflows.heatmap import read_thumbnail
from momkd.workflows.report_pictures import as_jpeg
from momkd.workflows.score_slide import feature_file, score_slide
from momkd.workflows.stored_scores import StoredScores, read_scores

MOST_EXAMPLES = 5
_DPI = 110
_SAID = {
    "attention": "Attention says where the model looked, not why.",
    "evidence": "Orange resembles the positive, blue the negative patterns of the memory.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A tested case that is shown, and what was said of it."""

    case_id: str
    slide_id: str
    label: int
    called: int
    probability: float
    threshold: float


def choose_examples(table: pd.DataFrame, model: str, n: int) -> list[Example]:
    """Choose, of each label and call, the ``n`` cases whose probability is farthest from the cut.

    Parameters
    ----------
    table
        Test predictions, a row a slide. A case's slides and repeats are averaged, probability and
        threshold alike; of its slides, the one with the clearest probability is shown.

    Returns
    -------
    list of Example
        Positive cases first, and of each label those called right first.
    """
    ours = table[table["model"] == model]
    if "split" in ours.columns:
        ours = ours[ours["split"] == "test"]
    positive = [c for c in ours.columns if c.startswith("prob_")][1]
    found: list[Example] = []
    for case_id, part in ours.groupby("case_id", sort=True):
        probability, threshold = float(part[positive].mean()), float(part["threshold"].mean())
        of_slides = part.groupby("slide_id", sort=True)[positive].mean()
        found.append(
            Example(
                case_id=str(case_id),
                slide_id=str((of_slides - threshold).abs().idxmax()),
                label=int(part["y_true"].iloc[0]),
                called=int(probability >= threshold),
                probability=probability,
                threshold=threshold,
            )
        )
    found.sort(key=lambda e: (-abs(e.probability - e.threshold), e.case_id))
    kinds = [(1, 1), (1, 0), (0, 0), (0, 1)]
    return [e for kind in kinds for e in [x for x in found if (x.label, x.called) == kind][:n]]


def examples_section(
    run: Path,
    table: pd.DataFrame,
    *,
    model: str,
    class_names: Sequence[str],
    n: int,
    names: bool = False,
) -> Section | None:
    """Show tested slides that were called right and wrong; None where none is asked for.

    Parameters
    ----------
    run
        Run folder; its ``config.yaml`` says where the features lie.
    table, model, n
        As of :func:`choose_examples`.
    names
        Call slides by their names, instead of numbering them.

    Notes
    -----
    A slide that cannot be shown, because its features are gone, say, is told on the page.
    """
    chosen = choose_examples(table, model, n) if n else []
    if not chosen:
        return None
    positive = class_names[1]
    parts: list[Part] = [
        Words(
            lines=[
                f"Tested cases as {model} calls them: of each class, those called right and those "
                "called wrong whose probability lies farthest from the threshold (at most "
                f"{n} of each kind). They are extremes, no average cases. Each is scored by the "
                "fold models that did not learn from it.",
                "A picture shows where a model looked. It proves no reason and is no finding about "
                "the tissue.",
            ]
        )
    ]
    with tempfile.TemporaryDirectory(prefix="momkd-examples-") as folder:
        for i, example in enumerate(chosen, start=1):
            name = example.slide_id if names else f"Example {i}"
            parts.append(Heading(text=_title(i, example, class_names)))
            text = f"{model}: probability of {positive} {example.probability:.2f}, "
            text += f"threshold {example.threshold:.2f} (means over repeats)."
            try:
                path = Path(folder) / f"{i}.h5"
                score_slide(run, example.slide_id, model, path, lambda *_: None)
                scores = replace(read_scores(path), slide_id=name)
                slide = _thumbnail(run, example.slide_id, path, scores.grid)
            except MomkdError as error:
                why = "; ".join(
                    f"{p.code}, {_without(p.what, example, name)}" for p in error.problems
                )
                parts.append(Words(lines=[f"{text} No picture: {why}."]))
                continue
            parts += [*_pictures(scores, slide, name, text)]
    return Section(title="Examples, right and wrong", parts=parts)


def _title(number: int, example: Example, class_names: Sequence[str]) -> str:
    is_right = "right" if example.label == example.called else "wrong"
    label, called = class_names[example.label], class_names[example.called]
    return f"Example {number}: {short(label)}, called {short(called)} ({is_right})"


def _without(text: str, example: Example, name: str) -> str:
    return text.replace(example.slide_id, name).replace(example.case_id, name)


def _pictures(
    scores: StoredScores, slide: np.ndarray | None, name: str, text: str
) -> list[Picture]:
    grid = scores.grid
    assert grid is not None
    found = []
    for layer in scores.layers():
        if slide is None:
            figure = draw_layer(grid, layer, title=name)
        else:
            figure = draw_layer_over_slide(grid, layer, slide, title=name)
        with Image.open(io.BytesIO(png_of(figure, dpi=_DPI))) as drawn:
            content = as_jpeg(drawn)
        low, high = float(layer.values.min()), float(layer.values.max())
        found.append(
            Picture(
                figure=content,
                caption=f"{short(name)}. {text} {_SAID.get(layer.name, '')} By {scores.made_by}.",
                alt=f"{short(name)}: {layer.label} of {len(grid)} tiles, from {low:.2f} to "
                f"{high:.2f}. {text}",
            )
        )
        text = ""
    return found


def _thumbnail(run: Path, slide_id: str, scores: Path, grid: TileGrid | None) -> np.ndarray | None:
    """Read the picture that ``momkd extract`` left beside the features, if there is one."""
    if grid is None or grid.width_px0 is None:
        return None
    file, *_ = feature_file(run, slide_id)
    picture = file.parent / "thumbnails" / f"{file.stem}.jpg"
    return read_thumbnail(picture, scores, grid) if picture.is_file() else None


def first_model(manifest: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> str:
    """Give the model a page speaks of first: the method that was named, or the first one."""
    models = list(manifest["models"])
    method = (comparison or {}).get("method")
    return str(method) if method in models else str(models[0])
