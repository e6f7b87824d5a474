"""What the page of new slides asks for: to predict one that lies here or is uploaded."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from momkd.errors import MomkdError
from momkd.viewer import uploads
from momkd.viewer.guard import UPLOADS
from momkd.viewer.served import Viewer


def add_job_routes(app: FastAPI, viewer: Viewer) -> None:
    """Begin jobs, tell how far they are, and stop them."""

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
