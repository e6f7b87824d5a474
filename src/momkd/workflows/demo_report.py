"""The page of the demo: what was reached on new patients, against what can be known of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from momkd.data.features import read_bag
from momkd.evaluation.metrics import auroc
from momkd.evaluation.summary import draw_case_weights, weighted_metrics
from momkd.reporting.heatmap import draw_attention, draw_over_slide
from momkd.storage import plain_cell, write_json
from momkd.types import TileGrid
from momkd.workflows.report_examples import examples_section
from momkd.workflows.run_folder import read_predictions, read_rows, read_run
from momkd.workflows.run_report import write_run_report
from momkd.workflows.scored_cases import average_slides
from momkd.workflows.tables import make_table, with_interval

_DRAWS = 2000
_CEILINGS = {"morphology": "ceiling: morphology known exactly", "latents": "ceiling: all known"}
_N_SHOWN = 3
_NEW, _CV, _LAW, _NICHE = "new patients", "cross-validation", "by the law", "attention on niche"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _NewCases:
    """New cases in one order: their recorded labels, and bootstrap weights for all scores alike."""

    case_ids: tuple[str, ...]
    labels: np.ndarray
    weights: np.ndarray

    def areas(self, score: np.ndarray) -> np.ndarray:
        """Give the AUROC of every draw."""
        return weighted_metrics(self.labels, score, 0.5, self.weights)["auroc"]

    def with_interval(self, score: np.ndarray) -> str:
        """Give the AUROC with its interval."""
        low, high = np.nanquantile(self.areas(score), [0.025, 0.975])
        return with_interval(auroc(self.labels, score), float(low), float(high))


def write_demo_report(
    folder: Path, run: Path, new: Path
) -> tuple[Path, str, tuple[str, ...], dict[str, Any]]:
    """Compare, draw, and write ``report.html`` and ``scores.json``.

    Parameters
    ----------
    folder
        Of the demo: ``predictions_cases.csv`` and ``attention/`` lie in it.
    run
        The cross-validation.
    new
        The new patients: ``features/`` and ``truth.json``.

    Returns
    -------
    Path
        The page.
    str
        Its table.
    tuple of str
        What the table says, in words.
    dict
        The figures; ``shown`` names slides worth a picture.
    """
    truth = json.loads((new / "truth.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    table = read_rows(folder / "predictions_cases.csv")
    table["case_id"] = table["case_id"].map(plain_cell)
    scores = table.pivot(index="case_id", columns="model", values="prob_positive")
    cases = _new_cases(truth, scores)
    on_niche = {name: _attention_on_niche(folder, new, truth, name) for name in scores.columns}
    rows: list[dict[str, Any]] = []
    for name in read_run(run)["models"]:
        inner = metrics["models"][name]["mean_over_folds"]["auroc"]
        rows.append(
            {
                "model": name,
                _CV: with_interval(inner["value"], inner["low"], inner["high"]),
                _NEW: cases.with_interval(scores[name].to_numpy()),
                _NICHE: on_niche[name],
            }
        )
    rows += _ceilings(truth, cases)
    notes = _notes(truth, cases, scores)
    shown = _slides_worth_a_picture(truth)
    found = {"rows": rows, "ceilings": truth["ceilings"], "notes": notes, "shown": shown}
    write_json(folder / "scores.json", found)
    manifest, tested = read_run(run), read_predictions(run)
    path = write_run_report(
        folder,
        manifest,
        metrics | {"notes": [*notes, *metrics["notes"]]},
        average_slides(tested),
        dropped=run / "dropped.csv",
        configuration=run / "config.yaml",
        run=run,
        extra_tables={"AUROC against what can be known (simulated cases)": rows},
        attention=_figure(folder, new, truth, shown[0]),
        examples=examples_section(
            run, tested, model="momkd", class_names=manifest["class_names"], n=1
        ),
    )
    return path, make_table(rows), tuple(notes), found


def _new_cases(truth: Mapping[str, Any], scores: pd.DataFrame) -> _NewCases:
    case_ids = tuple(scores.index)
    labels = np.array([truth["cases"][c]["recorded_label"] for c in case_ids], dtype=np.int64)
    weights = draw_case_weights(labels, _DRAWS, 0)
    return _NewCases(case_ids=case_ids, labels=labels, weights=weights)


def _ceilings(truth: Mapping[str, Any], cases: _NewCases) -> list[dict[str, Any]]:
    """Give what no reader of these slides can beat, but by luck."""
    rows = []
    if "histology_on_these_slides" in truth["ceilings"]:
        of_case: dict[str, list[float]] = {c: [] for c in cases.case_ids}
        for slide in truth["slides"].values():
            of_case[slide["case_id"]].append(slide["bayes_probability"])
        bayes = np.array([np.mean(p) for p in of_case.values()])
        rows.append({"model": "ceiling: exact posterior", _NEW: cases.with_interval(bayes)})
    for key, name in _CEILINGS.items():
        given = [truth["cases"][c]["probability_given"][key] for c in cases.case_ids]
        row = {"model": name, _NEW: cases.with_interval(np.array(given))}
        rows.append(row | {_LAW: f"{truth['ceilings'][key]:.3f}"})
    return rows


def _notes(truth: Mapping[str, Any], cases: _NewCases, scores: pd.DataFrame) -> list[str]:
    ours, theirs = (scores[name].to_numpy() for name in ("momkd", "abmil"))
    gain = auroc(cases.labels, ours) - auroc(cases.labels, theirs)
    low, high = np.nanquantile(cases.areas(ours) - cases.areas(theirs), [0.025, 0.975])
    if low > 0 or high < 0:
        verdict = "the interval leaves 0 out, for these trained models on these cases"
    else:
        verdict = "so few cases do not tell the two apart"
    notes = [
        f"MoMKD minus ABMIL on {len(scores)} new patients: {gain:+.3f} ({low:+.3f} to {high:+.3f}, "
        f"bootstrap over cases): {verdict}.",
        "Ceilings: the AUROC of whoever knows the morphology that a case's niche shows, or every "
        "cause of its label, exactly. Slides show the label through that morphology only. On few "
        "patients chance may carry a model past a ceiling; it cannot stay there.",
    ]
    if "histology_on_these_slides" not in truth["ceilings"]:
        notes.append(
            "What can be read out of the pixels themselves has no closed form: the true ceiling of "
            "the slide lies below that of the morphology."
        )
    notes.append(f"{_NICHE}: mean AUROC of attention for the niche tiles among a slide's tiles.")
    notes.append("Simulated cases: these figures say nothing of real ones.")
    return notes


def _attention_on_niche(folder: Path, new: Path, truth: Mapping[str, Any], model: str) -> str:
    areas = []
    for slide_id in truth["slides"]:
        attention = _attention(folder, model, slide_id)
        niche = _niche(_grid(new, slide_id), truth["slides"][slide_id])
        if niche.any() and not niche.all() and np.ptp(attention) > 0:
            areas.append(auroc(niche.astype(np.int64), attention))
    return f"{np.mean(areas):.3f}" if areas else ""


def _slides_worth_a_picture(truth: Mapping[str, Any]) -> list[str]:
    """Give the slides of the clearest positive cases, those with the most niche first."""
    slides = truth["slides"]

    def worth(slide_id: str) -> tuple[float, str]:
        slide = slides[slide_id]
        given = truth["cases"][slide["case_id"]]["probability_given"]["morphology"]
        return given * np.sqrt(len(slide["niche_px0"])), slide_id

    return sorted(slides, key=worth, reverse=True)[:_N_SHOWN]


def _figure(folder: Path, new: Path, truth: Mapping[str, Any], slide_id: str) -> Figure:
    """Draw MoMKD's attention over a slide, beside the slide with its niche outlined."""
    grid, attention = _grid(new, slide_id), _attention(folder, "momkd", slide_id)
    niche = _niche(grid, truth["slides"][slide_id])
    thumbnail = new / "features" / "thumbnails" / f"{slide_id}.jpg"
    title = f"{slide_id}: MoMKD attention"
    if not thumbnail.exists():
        return draw_attention(grid, attention, title=title, truth=niche)
    picture = np.asarray(Image.open(thumbnail).convert("RGB"))
    title = f"{slide_id}: the niche outlined; MoMKD attention"
    return draw_over_slide(grid, attention, picture, title=title, outline=niche)


def _grid(new: Path, slide_id: str) -> TileGrid:
    grid = read_bag(new / "features" / f"{slide_id}.h5").grid
    if grid is None:
        raise TypeError("simulated slides have coordinates")
    return grid


def _attention(folder: Path, model: str, slide_id: str) -> np.ndarray:
    with h5py.File(folder / "attention" / model / f"{slide_id}.h5", "r") as file:
        return file["attention"][:]


def _niche(grid: TileGrid, slide: Mapping[str, Any]) -> np.ndarray:
    places = {tuple(c) for c in slide["niche_px0"]}
    return np.array([tuple(c) in places for c in grid.coords_px0.tolist()])
