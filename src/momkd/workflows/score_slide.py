"""The heat map of a slide of a run, by the predictors that it did not teach."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from momkd.errors import DataError, IntegrityError, Problem

if TYPE_CHECKING:
    from momkd.data.layouts.material import ReadRules

Tell = Callable[[str, float, float], None]


def score_slide(run: Path, slide_id: str, model: str, path: Path, tell: Tell) -> dict[str, Any]:
    """Compute the heat map of a slide of the run, by predictors that it did not teach if it can be.

    Parameters
    ----------
    path
        The file of scores that is written.
    tell
        Hears what is being done, and how much of it: done, of how many (0 for unknown).

    Returns
    -------
    dict
        Empty: the answer is the file.

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
    file, rules, digest = feature_file(run, slide_id)
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


def feature_file(run: Path, slide_id: str) -> "tuple[Path, ReadRules, str | None]":
    """Find the feature file of a slide of the run, how it was read, and its digest.

    Raises
    ------
    DataError
        P13 a damaged run folder; F28 the file is no longer there.
    """
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
