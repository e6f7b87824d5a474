"""The web application: pages, and what their scripts ask for."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from momkd.errors import MomkdError
from momkd.viewer.absence import NotServedError
from momkd.viewer.guard import Guard, Refusal
from momkd.viewer.job_requests import add_job_routes
from momkd.viewer.jobs import without_folders
from momkd.viewer.served import Viewer
from momkd.viewer.slide_requests import add_slide_routes

_STATIC = Path(__file__).with_name("static")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_PAGES = {"/": "cases.html", "/slide": "slide.html", "/predict": "predict.html"}


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
    _add_file_routes(app)
    _add_case_routes(app, viewer)
    add_slide_routes(app, viewer)
    add_job_routes(app, viewer)
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


def _add_file_routes(app: FastAPI) -> None:
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


def _add_case_routes(app: FastAPI, viewer: Viewer) -> None:
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
