"""Predictions of simulated slides held against what is hidden of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from momkd.data.features import read_bag
from momkd.errors import DataError
from momkd.models.momkd import MoMKD
from momkd.predictor import Ensemble, Predictor
from momkd.simulation import RepresentationScore, score_niche, score_representation
from momkd.types import Bag, Output
from momkd.workflows.console import say
from momkd.workflows.predict import load_ensembles

_FEWEST_SLIDES = 40


def score_attention(truth: Path | str, attention: Path | str) -> pd.DataFrame:
    """Score stored attention against the niche of simulated slides.

    Parameters
    ----------
    truth
        ``truth.json`` of the cohort.
    attention
        Folder that ``momkd predict --attention`` wrote: ``<model>/<slide_id>.h5``.

    Returns
    -------
    pandas.DataFrame
        A row a model and slide: ``model, slide_id, n_tiles, share, by_chance, auprc, auroc``, as
        of :class:`~momkd.simulated.truth_scores.NicheScore`.

    Raises
    ------
    DataError
        P09 no attention file; P18 a file that holds no truth or no scores, a slide that the truth
        does not know, or tiles that are not those that were simulated.
    """
    known = _read_truth(Path(truth))
    paths = sorted(Path(attention).rglob("*.h5"))
    if not paths:
        what = "holds no attention file"
        raise DataError.of("P09", str(attention), what, "run momkd predict with --attention")
    rows = [_score_file(path, known) for path in paths]
    table = pd.DataFrame(rows)
    for model, part in table.groupby("model"):
        missing = len(known["slides"]) - part["slide_id"].nunique()
        if missing:
            say(f"{model}: {missing} of {len(known['slides'])} simulated slides have no attention")
    return table


def score_morphology(
    truth: Path | str,
    model: Path | str,
    features: Path | str,
    *,
    only: str | None = None,
    n_permutations: int = 50,
) -> pd.DataFrame:
    """Score what models keep of simulated slides against the morphology m of their cases.

    Of every model the vector that its head reads; of MoMKD also what its memory says of that
    vector, the cosines with all slots. Each fold model is scored by itself and the mean given.
    The first slide of each case takes part.

    Parameters
    ----------
    truth
        ``truth.json`` of the cohort, of new cases rather than those that were learnt from.
    model, only
        As of ``momkd predict``.
    features
        Folder of the cohort's feature files.
    n_permutations
        Shuffles that give the level of chance.

    Returns
    -------
    pandas.DataFrame
        A row a model and what is looked at: ``model, what, n_slides, n_members``, and for the
        ``first`` and ``second`` component the cross-validated canonical correlation, its mean
        where m is shuffled (``_by_chance``), and the 95 % quantile there (``_high_by_chance``).

    Raises
    ------
    DataError
        P09 fewer than 40 slides with features; P13 neither run nor predictor; P18 no truth.
    ModelError
        C and P codes, as ``momkd predict``.
    """
    known = _read_truth(Path(truth))
    slide_of: dict[str, str] = {}
    for slide_id in sorted(known["slides"]):
        slide_of.setdefault(known["slides"][slide_id]["case_id"], slide_id)
    paths = {c: Path(features) / f"{s}.h5" for c, s in slide_of.items()}
    cases = [case for case, path in paths.items() if path.exists()]
    if len(cases) < _FEWEST_SLIDES:
        what = f"holds features of {len(cases)} cases of the truth, wanted {_FEWEST_SLIDES} or more"
        raise DataError.of("P09", str(features), what, "give the features of that cohort")
    morphology = np.array([known["cases"][case]["morphology"] for case in cases])
    rows = []
    for name, ensemble in load_ensembles(Path(model), only).items():
        for what, tables in _kept(ensemble, [paths[c] for c in cases]).items():
            scores = [
                score_representation(t, morphology, n_permutations=n_permutations) for t in tables
            ]
            row = {"model": name, "what": what, "n_slides": len(cases), "n_members": len(scores)}
            rows.append(row | _mean(scores))
    return pd.DataFrame(rows)


def _read_truth(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {"cases", "slides", "tile_px0"} <= content.keys():
            return content
        what = "has no cases, slides and tile_px0"
    except (OSError, ValueError, AttributeError) as error:
        what = " ".join(str(error).split())[:100]
    raise DataError.of("P18", str(path), f"no truth: {what}", "momkd simulate writes truth.json")


def _score_file(path: Path, truth: Mapping[str, Any]) -> dict[str, Any]:
    remedy = "give a file that momkd predict --attention wrote"
    try:
        with h5py.File(path, "r") as file:
            attention = file["attention"][:].astype(np.float64)
            coords = file["coords_px0"][:].astype(np.int64)
            slide_id, model = str(file.attrs["slide_id"]), str(file.attrs["model"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        brief = " ".join(str(error).split())[:100]
        raise DataError.of("P18", str(path), f"no stored scores: {brief}", remedy) from None
    slide = truth["slides"].get(slide_id)
    if slide is None:
        what = f"slide {slide_id} is not in the truth"
        raise DataError.of("P18", str(path), what, "give the truth of this cohort")
    if (coords % truth["tile_px0"]).any() or len(attention) != len(coords):
        what = f"tiles do not lie on the simulated grid of {truth['tile_px0']} px"
        raise DataError.of("P18", str(path), what, "extract with the tile size that was simulated")
    places = {tuple(place) for place in slide["niche_px0"]}
    niche = np.array([tuple(place) in places for place in coords.tolist()], dtype=bool)
    score = score_niche(attention, niche)
    return {
        "model": model,
        "slide_id": slide_id,
        "n_tiles": len(niche),
        "share": score.share,
        "by_chance": score.by_chance,
        "auprc": score.auprc,
        "auroc": score.auroc,
    }


def _kept(ensemble: Ensemble, paths: list[Path]) -> dict[str, list[np.ndarray]]:
    """Give what each member keeps of slides: name -> a table a member, a row a slide."""
    found: dict[str, list[np.ndarray]] = {}
    bags = [read_bag(path, k=ensemble.card.neighbours) for path in paths]
    for bag in bags:
        ensemble.require_fit(bag)
    for member in ensemble.members:
        vectors = torch.stack([_run(member, bag).embedding.flatten() for bag in bags])
        found.setdefault("slide vector", []).append(vectors.numpy())
        if isinstance(member.model, MoMKD):
            with torch.inference_mode():
                points = normalize(member.model.tile_projection(vectors), dim=1)
                cosines = points @ member.model.memory.unit().flatten(0, 1).T
            found.setdefault("memory", []).append(cosines.numpy())
    return found


def _run(member: Predictor, bag: Bag) -> Output:
    with torch.inference_mode():
        return member.model(bag)


def _mean(scores: list[RepresentationScore]) -> dict[str, float]:
    row = {}
    for place, name in enumerate(("first", "second")):
        row[name] = float(np.mean([s.correlations[place] for s in scores]))
        row[f"{name}_by_chance"] = float(np.mean([s.by_chance[place] for s in scores]))
        row[f"{name}_high_by_chance"] = float(np.mean([s.high_by_chance[place] for s in scores]))
    return row
