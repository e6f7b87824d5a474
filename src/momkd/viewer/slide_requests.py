"""What the page of one slide asks for: its facts, its tiles of pixels, its layers of scores."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from momkd.errors import MomkdError
from momkd.viewer.absence import NotServedError
from momkd.viewer.catalogue import SlideEntry
from momkd.viewer.jobs import without_folders
from momkd.viewer.served import Viewer
from momkd.viewer.stored_scores import StoredScores, read_scores
from momkd.viewer.tile_process import PictureFacts
from momkd.viewer.tiles import TILE_PX, last_level

_TILE_AGE = "private, max-age=3600"


def add_slide_routes(app: FastAPI, viewer: Viewer) -> None:
    """Answer for slides of the list, by key."""
    catalogue = viewer.catalogue

    @app.get("/api/slides/{key}")
    def slide(key: str) -> Any:
        entry = catalogue.entry(key)
        picture, lines = _picture(viewer, entry)
        return {
            "key": entry.key,
            "slide": entry.slide_id,
            "case": entry.case_id,
            "label": entry.label,
            "is_new": entry.is_new,
            "picture": picture,
            "lines": lines,
            "scores": {m: s.told(entry.label) for m, s in entry.scores.items()},
            "stored": [m for m in _models(viewer, entry) if catalogue.score_file(entry, m)],
            "can_score": catalogue.run.can_score and not entry.is_new,
            "class_names": catalogue.run.class_names,
            "models": _models(viewer, entry),
        }

    @app.get("/api/slides/{key}/tiles/{level}/{column}/{row}")
    def tile(key: str, level: int, column: int, row: int) -> Response:
        entry = catalogue.entry(key)
        if entry.path is None:
            raise NotServedError(key)
        content = viewer.readers.tile(entry.path, level, column, row)
        headers = {"cache-control": _TILE_AGE}
        return Response(content, media_type="image/jpeg", headers=headers)

    @app.get("/api/slides/{key}/scores")
    def scores(key: str, model: str) -> Any:
        entry = catalogue.entry(key)
        if model not in _models(viewer, entry):
            raise NotServedError(model)
        path = catalogue.score_file(entry, model)
        if path is None:
            raise NotServedError(model)
        stored = read_scores(path)
        lines = [] if entry.path is None else _misfits(viewer.readers.facts(entry.path), stored)
        told = stored.told()
        if lines:  # places of another slide are not drawn over this one
            told |= {"x": None, "y": None}
        return told | {"lines": lines, "frame": _frame(stored)}

    @app.post("/api/slides/{key}/scores")
    def compute(key: str, model: str) -> Any:
        entry = catalogue.entry(key)
        if entry.is_new or model not in catalogue.run.models or not catalogue.run.can_score:
            raise NotServedError(model)
        work, path = viewer.labour.score(entry, model)

        def keep(_: dict[str, Any]) -> dict[str, Any]:
            catalogue.put_scores(key, model, path)
            return {"slide": key, "model": model}

        return viewer.jobs.put(f"{entry.slide_id}: {model}", work, keep).told()


def _picture(viewer: Viewer, entry: SlideEntry) -> tuple[dict[str, Any] | None, list[str]]:
    """Give what is needed to show the slide; or why it cannot be shown."""
    if entry.path is None:
        folders = viewer.roots.folders
        why = "no slide of this name below --slides" if folders else "no folder given with --slides"
        return None, [f"The picture is not shown: {why}."]
    try:
        facts = viewer.readers.facts(entry.path)
    except MomkdError as error:
        lines = [f"error{p.line()}" for p in error.problems]
        return None, [without_folders(line, viewer.hidden_folders) for line in lines]
    picture = {
        "width_px0": facts.width_px0,
        "height_px0": facts.height_px0,
        "last_level": facts.last_level,
        "tile_px": TILE_PX,
        "mpp": facts.mpp,
        "format": facts.format,
    }
    return picture, list(facts.notes)


def _frame(stored: StoredScores) -> dict[str, Any] | None:
    """Give the size and scale of a slide whose picture is absent, as far as its tiles tell."""
    corners, side = stored.corners_px0, stored.tile_px0
    if corners is None or side is None:
        return None
    far_x, far_y = (corners.max(axis=0) + side).tolist()
    width, height = stored.width_px0 or int(far_x), stored.height_px0 or int(far_y)
    level = last_level(width, height)
    frame = {"width_px0": width, "height_px0": height, "last_level": level, "tile_px": TILE_PX}
    return frame | {"mpp": stored.mpp0}


def _misfits(facts: PictureFacts, stored: StoredScores) -> list[str]:
    """Say so where scores are of another slide than the one that is shown."""
    if stored.corners_px0 is None:
        return ["error[S16] places of the tiles are not known in pixels of this slide"]
    shown = (facts.width_px0, facts.height_px0)
    stated = (stored.width_px0, stored.height_px0)
    far = tuple(stored.corners_px0.max(axis=0).tolist())
    if (None not in stated and stated != shown) or far[0] >= shown[0] or far[1] >= shown[1]:
        size = " x ".join(map(str, stated if None not in stated else far))
        what = f"scores are of a slide of {size} px, this one has {shown[0]} x {shown[1]}"
        return [f"error[S16] {what}; give the slides that the features were made from"]
    return []


def _models(viewer: Viewer, entry: SlideEntry) -> list[str]:
    return list(entry.scores) if entry.is_new else list(viewer.catalogue.run.models)
