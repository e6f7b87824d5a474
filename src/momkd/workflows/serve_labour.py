"""What the viewer lets models do: predict a new slide, and compute the heat map of an old one.

Each runs in a process of its own (:mod:`momkd.viewer.jobs`), so nothing here is kept in memory
between two requests.
"""

import csv
import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from momkd.errors import DataError, IntegrityError, Problem
from momkd.viewer.catalogue import Score, SlideEntry
from momkd.viewer.jobs import Tell, Work
from momkd.viewer.roots import key_of

if TYPE_CHECKING:
    from momkd.data.layouts.material import ReadRules
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
    return [
        SlideEntry(
            key=key_of("new", f"{file}\0{slide_id}"),
            slide_id=slide_id,
            case_id=rows[0]["case_id"],
            path=file if file.suffix.lower() in SLIDE_SUFFIXES else None,
            is_new=True,
            scores={row["model"]: _score(row) for row in rows},
            score_files={
                row["model"]: place / "scores" / row["model"] / f"{slide_id}.h5" for row in rows
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


def score_slide(run: Path, slide_id: str, model: str, path: Path, tell: Tell) -> dict[str, Any]:
    """Compute the heat map of a slide of the run, by predictors that it did not teach if it can be.

    Raises
    ------
    DataError
        F28 its feature file is no longer there; F codes of the file.
    IntegrityError
        F26 the feature file is not the one that the run was made with.
    ModelError
        C codes of the predictors; P codes where they do not fit.
    """
    from momkd.data.features import examine_files, read_bag
    from momkd.predictor import Ensemble, load_predictor
    from momkd.workflows.score_file import evidence_of, store_answer

    tell("reading the features", 0.0, 0.0)
    file, rules, digest = _feature_file(run, slide_id)
    examined = examine_files({slide_id: file}, rules=rules)
    if examined.refused:
        raise IntegrityError(*examined.refused)
    if not examined.slides:
        raise DataError(*examined.problems, *examined.skipped)
    (slide,) = examined.slides.values()
    if digest is not None and digest != slide.sha256:
        what = "its bytes are not those that the run was made with"
        raise IntegrityError.of("F26", file.name, what, "run momkd check again")
    tell("loading the predictors", 0.0, 0.0)
    places, made_by = _predictors(run, slide_id, model)
    ensemble = Ensemble([load_predictor(place) for place in places])
    tell("computing", 0.0, 0.0)
    bag = read_bag(slide, k=ensemble.card.neighbours)
    answer = ensemble.predict(bag)
    store_answer(path, answer, model, evidence_of(ensemble, bag), made_by=made_by)
    return {}


def _feature_file(run: Path, slide_id: str) -> "tuple[Path, ReadRules, str | None]":
    """Find the feature file of a slide of the run, how it was read, and its digest."""
    from momkd.data.feature_search import find_feature_files
    from momkd.data.layouts.material import ReadRules
    from momkd.data.manifest import read_manifest

    try:
        data = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
        roots = [Path(r) for r in data["features"]]
        manifest = run / "features.csv"
        digests = read_manifest(manifest) if manifest.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        brief = " ".join(str(error).split())
        raise DataError.of(
            "P13", run.name, f"cannot be read: {brief}", "see momkd report"
        ) from None
    there = [root for root in roots if root.exists()]
    found = find_feature_files(there).files.get(slide_id) if there else None
    if found is None:
        what = "its feature file is no longer where the run found it"
        raise DataError.of("F28", slide_id, what, "put it back, or predict the slide anew")
    coords, mpp0 = data.get("coords"), data.get("slide_mpp")
    rules = ReadRules(
        feature_key=data.get("feature_key"),
        drop_nonfinite=data.get("on_nonfinite") == "drop",
        coords_dir=None if coords is None else Path(coords),
        mpp0=mpp0 if isinstance(mpp0, float) else None,
    )
    return found, rules, digests.get(found.name)


def _predictors(run: Path, slide_id: str, model: str) -> tuple[list[Path], str]:
    """Give the folders of predictors that answer for a slide, and in words which they are."""
    if (run / "predictor" / "config.json").is_file():
        return [run / "predictor"], "the predictor that this slide taught"
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    tested: list[str] = []
    if (run / "predictions.csv").is_file():
        with (run / "predictions.csv").open(encoding="utf-8", newline="") as stream:
            tested = [
                f"{model}/seed-{r['seed']}/fold-{r['fold']}"
                for r in csv.DictReader(stream)
                if (r["slide_id"], r["model"], r["split"]) == (slide_id, model, "test")
            ]
    jobs = [job for job in manifest["jobs"] if job in tested]
    missing = [j for j in jobs if not (run / j / "predictor" / "config.json").is_file()]
    if not jobs or missing:
        what = f"has no predictor of {model} that was tested on this slide"
        if missing:
            what = f"lacks {missing[0]}/predictor"
        problem = Problem(code="P10", where=run.name, what=what, remedy="run momkd crossval again")
        raise DataError(problem)
    n = len(jobs)
    words = "the fold model that did" if n == 1 else f"the {n} fold models that did"
    return [run / j / "predictor" for j in jobs], f"{words} not learn from this slide"
