"""The routes of the app: each reads what came, calls the library, and answers in JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from attnreg.app import bounds, views
from attnreg.app.door import Door, TooLargeError, bytes_in, json_in
from attnreg.app.history import History
from attnreg.app.offered import Offered
from attnreg.app.order import RefusedError, read_order, read_targets, sentence
from attnreg.app.queue import Job, Queue
from attnreg.errors import AttnregError
from attnreg.png import png_of
from attnreg.recipe import recipe_in
from attnreg.retelling import as_command, as_python

PAGE = {
    "index.html": "text/html",
    "app.css": "text/css",
    "main.js": "text/javascript",
    "form.js": "text/javascript",
    "drawing.js": "text/javascript",
    "history.js": "text/javascript",
    "page.js": "text/javascript",
}
"""Files of the page, and what they are: no others are ever given out."""
log = logging.getLogger("attnreg.app")


class App:
    """The answers. Those that compute run in threads; only the queue's own thread draws."""

    def __init__(self, offered: Mapping[str, Offered], history: History) -> None:
        self.offered, self.history, self.queue = offered, history, Queue(history)

    def asgi(self, host: str) -> Any:
        """The application, behind its door."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            yield
            await run_in_threadpool(self.queue.close)

        routes = [
            Route("/", self.page),
            Route("/page/{name}", self.page),
            Route("/pictures/{drawing}/{name}", self.picture),
            Route("/api/options", self.options),
            Route("/api/targets", self.targets, methods=["POST"]),
            Route("/api/copy", self.copy, methods=["POST"]),
            Route("/api/restore", self.restore, methods=["POST"]),
            Route("/api/draw", self.draw, methods=["POST"]),
            Route("/api/jobs/{token}", self.job),
            Route("/api/jobs/{token}/stop", self.stop, methods=["POST"]),
            Route("/api/history", self.drawings),
            Route("/api/history/{name}", self.drawing),
        ]
        handlers: dict[Any, Any] = {
            RefusedError: _refused,
            AttnregError: _wrong,
            HTTPException: _not_there,
            Exception: _unexpected,
        }
        return Door(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), host)

    async def page(self, request: Request) -> Response:
        """A file of the page."""
        name = request.path_params.get("name", "index.html")
        if name not in PAGE:
            raise HTTPException(404)
        content = (files("attnreg.app") / "page" / name).read_bytes()
        return Response(content, media_type=PAGE[name], headers={"cache-control": "no-cache"})

    async def picture(self, request: Request) -> Response:
        """A PNG of a drawing, with its recipe in it."""
        drawing, name = request.path_params["drawing"], request.path_params["name"]
        path = await run_in_threadpool(self.history.file, drawing, name)
        if path is None:
            raise HTTPException(404)
        return FileResponse(
            path, media_type="image/png", filename=f"{drawing}-{name}", content_disposition_type="inline"
        )

    async def options(self, _: Request) -> Response:
        """What there is to choose from."""
        return JSONResponse(await run_in_threadpool(views.options, self.offered))

    async def targets(self, request: Request) -> Response:
        """The words of a prompt that would be heeded."""
        body = await json_in(request)
        return JSONResponse(await run_in_threadpool(read_targets, body, self.offered))

    async def copy(self, request: Request) -> Response:
        """What the form asks for, as a command and as Python."""
        body = await json_in(request)

        def told() -> dict[str, str]:
            order = read_order(body, self.offered)
            return {
                name: tell(order.recipe, order.seeds) for name, tell in (("command", as_command), ("python", as_python))
            }

        return JSONResponse(await run_in_threadpool(told))

    async def restore(self, request: Request) -> Response:
        """The settings of a PNG that was made by attnreg."""
        try:
            content = await bytes_in(request, bounds.MOST_PNG)
            form, notes = await run_in_threadpool(self._restored, content)
        except TooLargeError as error:
            raise RefusedError({"picture": sentence(str(error))}) from error
        except AttnregError as error:
            raise RefusedError({"picture": sentence(str(error))}) from error
        return JSONResponse({"form": form, "notes": notes})

    def _restored(self, content: bytes) -> tuple[dict[str, Any], list[str]]:
        recipe = recipe_in(png_of(content, "this file").text, "this file")
        return views.form_of(recipe, [recipe.seed], self.offered)

    async def draw(self, request: Request) -> Response:
        """Put a drawing into the queue."""
        body = await json_in(request)
        order = await run_in_threadpool(read_order, body, self.offered)
        page = body.get("page")
        job = self.queue.ask(order, page if isinstance(page, str) else "")
        return JSONResponse({"job": job.token, "notes": order.notes}, 202)

    async def job(self, request: Request) -> Response:
        """How a drawing is."""
        return JSONResponse(views.job(self._job(request), self.queue))

    async def stop(self, request: Request) -> Response:
        """Stop a drawing."""
        job = self._job(request)
        self.queue.stop(job)
        return JSONResponse(views.job(job, self.queue))

    def _job(self, request: Request) -> Job:
        job = self.queue.job(request.path_params["token"])
        if job is None:
            raise HTTPException(404)
        return job

    async def drawings(self, request: Request) -> Response:
        """The history, a part of it at a time, the latest first."""
        before = request.query_params.get("before", "")

        def told() -> dict[str, Any]:
            names = self.history.drawings(bounds.HISTORY_AT_ONCE + 1, before, self.queue.unfinished())
            shown = names[: bounds.HISTORY_AT_ONCE]
            return {"drawings": views.listed(shown, self.history), "more": len(names) > len(shown)}

        return JSONResponse(await run_in_threadpool(told))

    async def drawing(self, request: Request) -> Response:
        """One drawing of the history."""
        name = request.path_params["name"]
        hidden = name in self.queue.unfinished()
        told = None if hidden else await run_in_threadpool(views.drawing, name, self.history, self.offered)
        if told is None:
            raise HTTPException(404)
        return JSONResponse(told)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse({"errors": error.errors}, 422)


async def _wrong(_: Request, error: Exception) -> Response:
    return JSONResponse({"errors": {"form": sentence(str(error))}}, 413 if isinstance(error, TooLargeError) else 422)


async def _not_there(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    told = "This app does not do that." if status == 405 else "There is no such thing here (any more)."
    return JSONResponse({"errors": {"form": told}}, status)


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return JSONResponse({"errors": {"form": "Something unexpected happened; the terminal of the app tells more."}}, 500)
