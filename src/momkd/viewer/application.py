"""The web application: pages, and what their scripts ask for."""

import shutil
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from momkd.errors import MomkdError
from momkd.viewer import uploads
from momkd.viewer.absence import NotServedError
from momkd.viewer.catalogue import Catalogue, SlideEntry
from momkd.viewer.guard import UPLOADS, Guard, Refusal
from momkd.viewer.jobs import JobQueue, Work, without_folders
from momkd.viewer.options import ViewerOptions
from momkd.viewer.roots import SlideRoots
from momkd.viewer.stored_scores import StoredScores, read_scores
from momkd.viewer.tile_process import PictureFacts, TileReaders
from momkd.viewer.tiles import TILE_PX, last_level

_STATIC = Path(__file__).with_name("static")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_PAGES = {"/": "cases.html", "/slide": "slide.html", "/predict": "predict.html"}
_TILE_AGE = "private, max-age=3600"


@runtime_checkable
class Labour(Protocol):
    """What needs a model, given by whoever serves: work that runs in a process of its own."""

    def predict(self, file: Path) -> tuple[Work, Callable[[dict[str, Any]], list[SlideEntry]]]:
        """Give the work that predicts a file, and what makes slides of the list of its answer."""
        ...

    def score(self, entry: SlideEntry, model: str) -> tuple[Work, Path]:
        """Give the work that computes a slide's heat map, and the file it writes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Everything that requests are answered from."""

    catalogue: Catalogue
    roots: SlideRoots
    readers: TileReaders
    jobs: JobQueue
    labour: Labour
    options: ViewerOptions
    work_folder: Path
    hidden_folders: tuple[Path, ...] = ()


def make_application(viewer: Viewer, token: str | None = None) -> Guard:
    """Put pages and answers together, behind the guard."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        viewer.jobs.close()
        viewer.readers.close()

    # no pages about the interface: they would load scripts from elsewhere
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    _answer_refusals(app, viewer)
    _serve_files(app)
    _serve_cases(app, viewer)
    _serve_slides(app, viewer)
    _serve_jobs(app, viewer)
    return Guard(app, viewer.options, token)


def _answer_refusals(app: FastAPI, viewer: Viewer) -> None:
    statuses = {2: 400, 3: 400, 5: 403, 6: 503}
    by_code = {"D09": 413, "D12": 429, "X10": 507}

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, MomkdError)
        status = by_code.get(error.problems[0].code, statuses.get(error.exit_code, 400))
        lines = [f"error{p.line()}" for p in error.problems[:20]]
        lines = [without_folders(line, viewer.hidden_folders) for line in lines]
        return JSONResponse({"lines": lines}, status)

    def missing(_: Request, __: Exception) -> Response:
        return JSONResponse({"lines": ["nothing of this name is served"]}, 404)

    def turned_away(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        headers = {"connection": "close"}
        return JSONResponse({"lines": [error.line]}, error.status, headers)

    def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"lines": [str(error.detail)]}, error.status_code)

    app.add_exception_handler(MomkdError, refuse)
    app.add_exception_handler(NotServedError, missing)
    app.add_exception_handler(Refusal, turned_away)
    app.add_exception_handler(HTTPException, http)


def _serve_files(app: FastAPI) -> None:
    """Serve the pages and what they are made of, by name from a table: no path is looked up."""
    files = {p.name: (p.read_bytes(), _KINDS[p.suffix]) for p in _STATIC.iterdir() if p.is_file()}

    def page(name: str) -> Callable[[], Response]:
        def give() -> Response:
            return Response(files[name][0], media_type=files[name][1])

        return give

    for place, name in _PAGES.items():
        app.add_api_route(place, page(name), methods=["GET", "HEAD"])

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise NotServedError(name)
        content, kind = files[name]
        # not kept without asking: after an update a page must find its own script
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)


def _serve_cases(app: FastAPI, viewer: Viewer) -> None:
    catalogue = viewer.catalogue

    @app.get("/api/run")
    def run() -> Any:
        facts = catalogue.run
        return {
            "name": facts.name,
            "task": facts.task,
            "class_names": facts.class_names,
            "models": facts.models,
            "notes": facts.notes,
            "n_slides": len(catalogue),
            "has_slides": bool(viewer.roots.folders),
            "max_upload_bytes": viewer.options.max_upload_bytes,
        }

    @app.get("/api/cases")
    def cases() -> Any:
        return {"cases": catalogue.cases()}

    @app.get("/api/files")
    def files() -> Any:
        known = {e.path for e in catalogue.entries()}
        names = [viewer.roots.name_of(p) for p in viewer.roots.find() if p not in known]
        return {"files": names[:5000], "n_files": len(names)}


def _serve_slides(app: FastAPI, viewer: Viewer) -> None:
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


def _serve_jobs(app: FastAPI, viewer: Viewer) -> None:
    @app.get("/api/jobs")
    def jobs() -> Any:
        return {"jobs": [j.told() for j in viewer.jobs.all()]}

    @app.get("/api/jobs/{key}")
    def job(key: str) -> Any:
        return viewer.jobs.get(key).told()

    @app.delete("/api/jobs/{key}")
    def cancel(key: str) -> Any:
        return viewer.jobs.cancel(key).told()

    @app.post("/api/jobs")
    async def predict(request: Request) -> Any:
        try:
            given = await request.json()
            name = given["path"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return JSONResponse({"lines": ['wanted {"path": "..."}']}, 400)
        if not isinstance(name, str):
            return JSONResponse({"lines": ['wanted {"path": "..."}']}, 400)
        return _begin(viewer, viewer.roots.resolve(name), name)

    @app.post(UPLOADS)
    async def upload(request: Request, name: str) -> Any:
        stated = request.headers.get("content-length")
        if stated is None:
            return PlainTextResponse("the length of an upload must be stated\n", 411)
        folder = viewer.work_folder / "uploads"
        limit = viewer.options.max_upload_bytes
        path = await uploads.receive(request.stream(), folder, name, int(stated), limit)
        try:
            return _begin(viewer, path, name)
        except MomkdError:  # the queue is full
            shutil.rmtree(path.parent, ignore_errors=True)
            raise


def _begin(viewer: Viewer, path: Path, name: str) -> dict[str, Any]:
    work, entries_of = viewer.labour.predict(path)

    def keep(answer: dict[str, Any]) -> dict[str, Any]:
        entries = [replace(e, is_new=True) for e in entries_of(answer)]
        viewer.catalogue.add(entries)
        told = [
            {
                "key": e.key,
                "name": e.slide_id,
                "scores": {m: s.told(None) for m, s in e.scores.items()},
            }
            for e in entries
        ]
        return {"slides": told, "notes": answer.get("notes", [])}

    return viewer.jobs.put(name, work, keep).told()
