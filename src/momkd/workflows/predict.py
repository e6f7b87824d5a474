"""``momkd predict``: slides in, calibrated probabilities out; no RNA, no labels, no cohort."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from momkd.data.barcodes import case_of
from momkd.data.features import examine_files, find_feature_files, read_bag
from momkd.data.layouts.material import ReadRules
from momkd.errors import DataError, IntegrityError, ModelError, Problem, TooManyDroppedError
from momkd.file_names import file_names
from momkd.predictor import Ensemble, EnsemblePrediction, from_pretrained, load_predictor
from momkd.storage import require_inside, spreadsheet, write_text
from momkd.types import SlideFile
from momkd.workflows.console import count_files, say
from momkd.workflows.heatmap import heatmap
from momkd.workflows.model_label import label_in_run
from momkd.workflows.predict_pixels import EmbeddedSlides, embed_slides, part_inputs
from momkd.workflows.score_file import evidence_of, store_answer

if TYPE_CHECKING:
    from momkd.slides.reader import SlideRules


_FAR_SHARE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    slide: SlideFile
    case_id: str
    model: str
    ensemble: Ensemble
    answer: EnsemblePrediction
    flags: tuple[str, ...]
    evidence: np.ndarray | None


def predict(
    model: Path | str,
    inputs: Sequence[Path | str],
    output: Path | str,
    *,
    only: str | None = None,
    cases: Path | str | None = None,
    attention: Path | str | None = None,
    evidence: bool = False,
    feature_key: str | None = None,
    drop_nonfinite: bool = False,
    coords: Path | str | None = None,
    slides: "SlideRules | None" = None,
    weights: Path | str | None = None,
    device: str = "cpu",
    features: Path | str | None = None,
    heatmaps: Path | str | None = None,
    draw: bool = True,
    max_skip: float = 0.05,
    workers: int = 1,
) -> pd.DataFrame:
    """Score slides or feature files with a predictor, or with every fold model of a run.

    Of a slide, tiles are cut and embedded as the predictor's card says: nobody can choose the scale
    or the encoder wrongly. A slide scanned coarser than that is enlarged, and flagged; one that is
    more than twice as coarse is left out (P03).

    Parameters
    ----------
    model
        A run folder (each model's fold predictors answer together) or one predictor's folder.
    inputs
        Slides, feature files, or folders of either.
    output
        CSV, a row a slide and model; ``<name>_cases.csv`` beside it has a row a case, the mean of
        its slides' probabilities. Slides left out stand in ``<name>_dropped.csv``.
    only
        One model of the run, instead of all.
    cases
        CSV with columns ``slide_id, case_id``; without it TCGA barcodes are cut to the case, and
        any other slide is a case of its own.
    attention
        Folder for one h5 a slide and model: ``coords_px0``, ``attention``, and eq. 7's evidence of
        a model with a memory.
    evidence
        Class evidence in logits too (:mod:`momkd.serving.evidence`), where attention is stored.
    feature_key
        Dataset of the embeddings, instead of the layout's own.
    drop_nonfinite
        Leave out rows with NaN or infinite values, and say so, instead of refusing the file.
    coords
        Folder of the files of tile corners, where features lie apart from them.
    slides, weights, device
        How slides are opened, the encoder's weights, and where it runs.
    features
        Folder where feature files of slides are kept, and used again if they were made from the
        same slide in the same way; by default ``<name>_features``.
    heatmaps
        Folder for pictures and a QuPath GeoJSON a slide and model; by default
        ``<name>_heatmaps`` where slides are given, and none where only feature files are.
    draw
        False: no heatmaps by default.
    max_skip
        Share of slides that may be refused or skipped before nothing is written.

    Returns
    -------
    pandas.DataFrame
        The slide table as written.

    Raises
    ------
    DataError
        P09 no input; P16 an unusable case table; any F code if every file is at fault.
    IntegrityError
        A file refused for safety; nothing is scored.
    ModelError
        C and P codes: predictors and slides that do not fit each other; P10 a fold model missing.
    TooManyDroppedError
        S20 more left out than allowed; the tables are written.
    """
    ensembles = load_ensembles(Path(model), only)
    pixels, given = part_inputs([Path(p) for p in inputs])
    extracted = _beside(output, "features") if features is None else Path(features)
    made = EmbeddedSlides()
    if pixels:
        cards = [e.card for e in ensembles.values()]
        made = embed_slides(pixels, extracted, cards, rules=slides, weights=weights, device=device)
        if heatmaps is None and draw:
            heatmaps = _beside(output, "heatmaps")
    problems = list(made.problems)
    given += made.files
    found = find_feature_files(given)
    files = found.files
    problems += [*found.problems, *found.skipped]
    for note in found.notes:
        say(note)
    if not files and not problems:
        what = "neither a slide nor a feature file among the inputs"
        raise DataError.of("P09", "inputs", what, "name slides, .h5 files or a folder of these")
    rules = ReadRules(
        feature_key=feature_key,
        drop_nonfinite=drop_nonfinite,
        coords_dir=None if coords is None else Path(coords),
        mpp0=None if slides is None else slides.mpp,
    )
    case_map = None if cases is None else _read_cases(Path(cases))
    with count_files("examining feature files") as counter:
        counter.start(len(files))
        examined = examine_files(files, rules=rules, n_workers=workers, on_done=counter.advance)
    if examined.refused:
        raise IntegrityError(*examined.refused)
    problems += [*examined.problems, *examined.skipped]
    if not examined.slides:
        raise DataError(*problems)
    for note in examined.notes:
        say(note)
    scored = []
    with count_files("predicting") as counter:
        counter.start(len(examined.slides))
        for slide in examined.slides.values():
            case_id = case_of(slide.slide_id) if case_map is None else case_map[slide.slide_id]
            flag = made.flags.get(slide.slide_id)
            scored += _score(slide, case_id, ensembles, flag, evidence)
            counter.advance()
    table = _write(Path(output), scored, problems)
    if attention is not None or heatmaps is not None:
        kept = Path(attention if attention is not None else str(heatmaps))
        names = file_names((one.slide.slide_id for one in scored), ".h5")
        for one in scored:
            place = kept / one.model / names[one.slide.slide_id]
            require_inside(kept, place)
            n = len(one.ensemble.members)
            who = "the predictor" if n == 1 else f"all {n} models of the run together"
            store_answer(place, one.answer, one.model, one.evidence, made_by=who)
        if heatmaps is not None:
            heatmap([kept], heatmaps, thumbnails=extracted / "thumbnails")
    _tell_seen(table)
    _tell_labels(table, ensembles)
    if len(problems) > max_skip * (len(problems) + len(examined.slides)):
        n_all = len(problems) + len(examined.slides)
        what = f"{len(problems)} of {n_all} were left out, allowed {max_skip:.0%}"
        first = problems[0].line()
        raise TooManyDroppedError.of("S20", "slides", f"{what}; first: {first}", "--max-skip")
    return table


def tell_predictions(table: pd.DataFrame, shown: int = 10) -> list[str]:
    """Give a line a slide and model: the probability, its span over fold models, the decision."""
    positive = [c for c in table.columns if c.startswith("prob_")][1]
    lines = []
    for row in table.head(shown).to_dict("records"):
        n = row["n_members"]
        span = f" ({row['low']:.3f} to {row['high']:.3f} over {n} models)" if n > 1 else ""
        side = "at or above" if row["y_pred"] else "below"
        line = f"{row['slide_id']}  {row['model']}: {positive.removeprefix('prob_')} "
        line += f"{row[positive]:.3f}{span}, {side} the threshold {row['threshold']:.3f}"
        lines.append(line)
    if len(table) > shown:
        lines.append(f"... and {len(table) - shown} more rows")
    return lines


def load_ensembles(model: Path, only: str | None = None) -> dict[str, Ensemble]:
    """Load the predictors of a run, one ensemble a model, or a predictor's or an exported folder.

    Raises
    ------
    ModelError
        P10 a fold model is missing; P15 the run has no such model; C codes.
    DataError
        P13 neither a run nor a predictor.
    """
    if (model / "config.json").exists():
        return {"predictor": from_pretrained(model)}
    if (model / "predictor" / "config.json").exists():
        return {"predictor": Ensemble([load_predictor(model / "predictor")])}
    try:
        run = json.loads((model / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        what = "neither a run (run.json) nor a predictor (config.json)"
        raise DataError.of("P13", str(model), what, "give what crossval or train wrote") from None
    only = None if only is None else label_in_run(only, run["models"])
    unserved = run.get("not_served", ())
    names = [n for n in run["models"] if n not in unserved] if only is None else [only]
    if only in unserved:
        what = f"{only} reads a table and is no predictor of slides"
        raise ModelError.of("P15", str(model), what, "choose a model of slides")
    if unknown := [n for n in names if n not in run["models"]]:
        what = f"has no model {unknown[0]!r}, only {', '.join(run['models'])}"
        raise ModelError.of("P15", str(model), what, "choose one of these")
    return {name: _load_members(model, run, name) for name in names}


def _load_members(folder: Path, run: Mapping[str, Any], name: str) -> Ensemble:
    jobs = [j for j in run["jobs"] if j.split("/")[0] == name]
    missing = [j for j in jobs if not (folder / j / "predictor" / "config.json").exists()]
    if missing:
        what = f"{len(missing)} of {len(jobs)} fold models are missing (first: {missing[0]})"
        remedy = "run momkd crossval again, it goes on where it stopped"
        raise ModelError.of("P10", f"{folder}: {name}", what, remedy)
    return Ensemble([load_predictor(folder / j / "predictor") for j in jobs])


def _beside(output: Path | str, what: str) -> Path:
    return Path(output).with_name(f"{Path(output).stem}_{what}")


def _score(
    slide: SlideFile,
    case_id: str,
    ensembles: Mapping[str, Ensemble],
    flag: str | None,
    evidence: bool,
) -> list[_Scored]:
    found = []
    for name, ensemble in ensembles.items():
        bag = read_bag(slide, k=ensemble.card.neighbours)
        answer = ensemble.predict(bag)
        found.append(
            _Scored(
                slide=slide,
                case_id=case_id,
                model=name,
                ensemble=ensemble,
                answer=answer,
                flags=(*answer.prediction.flags, *([flag] if flag else [])),
                evidence=evidence_of(ensemble, bag) if evidence else None,
            )
        )
    return found


def _write(output: Path, scored: Sequence[_Scored], problems: Sequence[Problem]) -> pd.DataFrame:
    slides = pd.DataFrame([_slide_row(one) for one in scored])
    write_text(output, spreadsheet(_rows(slides)))
    groups = slides.groupby(["case_id", "model"], sort=False)
    probabilities = [c for c in slides.columns if c.startswith("prob_")]
    cases = groups[probabilities].mean()
    cases.insert(0, "n_slides", groups.size())
    cases["threshold"] = groups["threshold"].first()
    positive = probabilities[1]
    cases["y_pred"] = (cases[positive] >= cases["threshold"]).astype(int)
    cases["seen_in_training"] = groups["seen_in_training"].max()
    path = output.with_name(f"{output.stem}_cases{output.suffix}")
    write_text(path, spreadsheet(_rows(cases.reset_index())))
    left = [
        {"where": p.where, "code": p.code, "reason": p.what, "remedy": p.remedy} for p in problems
    ]
    text = spreadsheet(left, ("where", "code", "reason", "remedy"))
    write_text(output.with_name(f"{output.stem}_dropped{output.suffix}"), text)
    return slides


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _slide_row(one: _Scored) -> dict[str, Any]:
    prediction = one.answer.prediction
    threshold = one.ensemble.threshold
    row: dict[str, Any] = {
        "case_id": one.case_id,
        "slide_id": one.slide.slide_id,
        "model": one.model,
        "n_members": len(one.ensemble.members),
    }
    for name, p in zip(prediction.class_names, prediction.probabilities, strict=True):
        row[f"prob_{name}"] = float(p)
    row["low"] = float(one.answer.low)
    row["high"] = float(one.answer.high)
    row["y_pred"] = int(prediction.probabilities[1] >= threshold)
    row["threshold"] = threshold
    row["seen_in_training"] = one.ensemble.has_seen(one.slide.content_sha256)
    row["out_of_range"] = prediction.out_of_range
    row["flags"] = "; ".join(one.flags)
    return row


def _tell_seen(table: pd.DataFrame) -> None:
    n_seen = int(table.loc[table["seen_in_training"], "slide_id"].nunique())
    if n_seen:
        n_slides = table["slide_id"].nunique()
        say(
            f"{n_seen} of {n_slides} slides taught these models: their probabilities are not "
            "estimates of accuracy; the run's predictions.csv holds the out-of-fold ones"
        )


def _tell_labels(table: pd.DataFrame, ensembles: Mapping[str, Ensemble]) -> None:
    """Say what goes with the label, and how many positives are expected where others were taught.

    The mean probability is what the share of positives should be if calibration carries over (L11).
    """
    for note in dict.fromkeys(n for e in ensembles.values() for n in e.card.target_notes):
        say(note)
    positive = next(c for c in reversed(table.columns) if c.startswith("prob_"))
    for name, ensemble in ensembles.items():
        taught = ensemble.positive_share
        part = table.loc[table["model"] == name]
        expected = float(part.groupby("case_id")[positive].mean().mean())
        if taught is not None and abs(expected - taught) > _FAR_SHARE:
            say(
                f"{name}: {expected:.0%} positive expected here, {taught:.0%} where it was taught; "
                "thresholds are as chosen there and were not fitted again"
            )


def _read_cases(path: Path) -> "_CaseMap":
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError.of("P16", str(path), f"cannot be read: {error}") from None
    if not {"slide_id", "case_id"} <= set(table.columns):
        what = f"has columns {', '.join(table.columns)}, wanted slide_id and case_id"
        raise DataError.of("P16", str(path), what)
    return _CaseMap(path, dict(zip(table["slide_id"], table["case_id"], strict=True)))


class _CaseMap:
    """Slide -> case, refusing slides that the table does not name."""

    def __init__(self, path: Path, cases: Mapping[str, str]) -> None:
        self._path = path
        self._cases = cases

    def __getitem__(self, slide_id: str) -> str:
        if slide_id not in self._cases:
            what = f"names no case for slide {slide_id}"
            raise DataError.of("P16", str(self._path), what, "add it, or leave --cases out")
        return self._cases[slide_id]
