"""The addresses of `browse`: pages, and what their script asks for as JSON."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.look import labels
from pipeline.look.browse.document import Library, facts, scores_of, value_text
from pipeline.look.browse.filters import STRATA, TABLES, Filter
from pipeline.look.browse.guard import Door, Guard
from pipeline.look.browse.rows import Place, Rows

HERE = Path(__file__).parent
PAGE = 50
"""Rows of a list."""
COUNT_SECONDS = 20.0
MOST_TEXT = 400_000
"""Characters of a text that a page holds."""
MOST_WHY = 2_000
STATUS = {RecipeError: 400, DamageError: 500}


@dataclass(frozen=True)
class Browser:
    """The pages over one folder."""

    library: Library
    door: Door
    reviewer: str

    def app(self) -> ASGIApp:
        """The application, guarded."""
        routes = [
            Route("/", self.listing),
            Route("/document", self.document),
            Route("/id/{id}", self.by_id),
            *(Route(f"/api/{name}", getattr(self, name)) for name in
              ("count", "snippets", "neighbour", "record", "tokens", "duplicates", "copies", "difference")),
            Route("/api/label", self.label, methods=["POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]  # fmt: skip
        handlers: dict[Any, Any] = {UserError: self._failed, HTTPException: self._failed, Exception: self._failed}
        return Guard(Starlette(routes=routes, exception_handlers=handlers), self.door)

    def _failed(self, request: Request, error: Exception) -> Response:
        """An error as a message, never as a traceback."""
        if isinstance(error, HTTPException):
            status, text = error.status_code, error.detail
        elif isinstance(error, UserError):
            status, text = STATUS.get(type(error), 409), str(error)
        else:
            status, text = 500, f"this went wrong here: {type(error).__name__}: {error}"
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": text}, status)
        return self._page("error.html", status, text=text)

    def _page(self, name: str, status: int = 200, **facts: Any) -> HTMLResponse:
        shared = {"folder": self.library.folder, "name": self.library.folder.name, "token": self.door.token}
        return HTMLResponse(_pages().get_template(name).render(**shared, **facts), status)

    def _asked(self, request: Request) -> tuple[Filter, Rows]:
        items = request.query_params.multi_items()
        if not any(key == "table" for key, _ in items) and "documents" not in self.library.tables:
            items = [("table", next(iter(self.library.tables))), *items]
        asked = Filter.of(items, self.library.columns)
        return asked, self.library.table(asked.table)

    def listing(self, request: Request) -> Response:
        """The page of a list."""
        asked, rows = self._asked(request)
        backwards = "back" in request.query_params
        given = request.query_params.get("at", "")
        total: int | None
        earlier: Place | int | None = None
        later: Place | int | None = None
        stopped, looked = None, 0
        if asked.sample:
            places = rows.sample(asked)
            start = _index(given)
            found = rows.at(places[start : start + PAGE])
            for number, row in enumerate(found, start):
                row["at"] = number
            earlier = max(0, start - PAGE) if start else None
            later = start + PAGE if start + PAGE < len(places) else None
            total = len(places)
        else:
            at = Place.of(given) if given else None
            page = rows.find(asked, at, PAGE + 1, backwards=backwards)
            found, stopped, looked = page.rows, page.stopped, page.looked
            more = len(found) > PAGE
            total = None if more or at or stopped else len(found)  # all are here: they need not be counted again
            found = (found[-PAGE:] if backwards else found[:PAGE]) if more else found
            for row in found:
                row["at"] = row["place"]
            if found and (more if backwards else at is not None):
                earlier = found[0]["place"]
            if found and (more if not backwards else True):
                last = found[-1]["place"]
                later = Place(last.part, last.row + 1)
        known = self.library.labels()
        for row in found:
            row |= {"title": row.get("title"), "language": row.get("language"), "hex": row["id"].hex()}
            row["mark"] = known[row["hex"]].label if row["hex"] in known else ""
            row["figures"] = [(one.column, value_text(row.get(one.column))) for one in asked.ranges]
        return self._page(
            "list.html", asked=asked, rows=found, earlier=earlier, later=later, stopped=stopped, looked=looked,
            backwards=backwards, total=total, whole=rows.total, choices=self.library.choices.get(asked.table, {}),
            numeric=[name for name, number in rows.columns.items() if number], tables=list(self.library.tables),
            strata=[name for name in STRATA if name in rows.columns], labels=labels.LABELS, missing=self._missing(),
            labelled=len(known), table_names=TABLES, value_text=value_text,
        )  # fmt: skip

    def _missing(self) -> list[str]:
        return [why for name, why in self.library.shelf.missing.items() if name in TABLES]

    def document(self, request: Request) -> Response:
        """The page of one row."""
        asked, rows = self._asked(request)
        at = request.query_params.get("at", "")
        place = self._place(asked, rows, at)
        row = rows.whole(place)
        row.setdefault("title", None)
        text = row.get("text")
        known = self.library.labels().get(row["id"].hex())
        return self._page(
            "document.html", asked=asked, at=at, place=place, row=row, hex=row["id"].hex(), facts=facts(row),
            scores=scores_of(row), text=None if text is None else text[:MOST_TEXT],
            cut=max(0, len(text) - MOST_TEXT) if text else 0, label=known, reviewer=self.reviewer,
            value_text=value_text, has_run=self.library.run is not None,
        )  # fmt: skip

    def _place(self, asked: Filter, rows: Rows, at: str) -> Place:
        """The place that an address means: of the list, or of its sample."""
        if not asked.sample:
            return Place.of(at)
        places = rows.sample(asked)
        number = _index(at)
        if number >= len(places):
            raise RecipeError(f"at={at}: the sample has {len(places)} documents")
        return places[number]

    def by_id(self, request: Request) -> Response:
        """Leads to the page of an id."""
        text = request.path_params["id"].lower()
        if not re.fullmatch(r"[0-9a-f]{32}", text):
            raise RecipeError(f"{text}: an id is 32 hex digits")
        table, place = self.library.located(bytes.fromhex(text))
        return RedirectResponse(f"/document?{Filter(table=table).query(at=place)}", 303)

    def count(self, request: Request) -> Response:
        """How many rows fit, or null where that takes too long."""
        asked, rows = self._asked(request)
        if asked.sample:
            return JSONResponse({"count": len(rows.sample(asked))})
        return JSONResponse({"count": rows.count(asked, COUNT_SECONDS), "seconds": COUNT_SECONDS})

    def snippets(self, request: Request) -> Response:
        """The beginnings of texts, or what is around the words searched for."""
        asked, rows = self._asked(request)
        places = [Place.of(text) for text in request.query_params.get("places", "").split(",") if text][:PAGE]
        found = rows.snippets(places, asked.search)
        return JSONResponse({str(place): text for place, text in found.items()})

    def neighbour(self, request: Request) -> Response:
        """The address of the next or the previous row of the list; null where there is none."""
        asked, rows = self._asked(request)
        at, backwards = request.query_params.get("at", ""), "back" in request.query_params
        if asked.sample:
            number = _index(at) + (-1 if backwards else 1)
            inside = 0 <= number < len(rows.sample(asked))
            return JSONResponse({"url": f"/document?{asked.query(at=number)}" if inside else None})
        place = Place.of(at)
        start = place if backwards else Place(place.part, place.row + 1)
        found = rows.find(asked, start, 1, backwards=backwards)
        if found.rows:
            return JSONResponse({"url": f"/document?{asked.query(at=found.rows[0]['place'])}"})
        note = None
        if found.stopped is not None:
            note = f"none among the next {found.looked:,} rows; the list goes on searching"
        return JSONResponse({"url": None, "note": note})

    def _row(self, request: Request) -> tuple[Filter, dict[str, Any]]:
        table = request.query_params.get("table", next(iter(self.library.tables)))
        asked = Filter(table=table)
        return asked, self.library.table(table).whole(Place.of(request.query_params.get("place", "")))

    def record(self, request: Request) -> Response:
        """The row's record once more."""
        asked, row = self._row(request)
        found = self.library.record(asked.table, row)
        text = found.text
        stored = row.get("text")
        return JSONResponse({
            "file": found.file, "raw": found.raw, "kind": found.kind, "bytes": found.size,
            "shortened": found.shortened, "steps": found.steps, "dropped": found.dropped,
            "text": None if text is None or stored is not None else text[:MOST_TEXT],
            "segments": [[one.kind, one.text] for one in found.segments],
            "equal": None if stored is None else text == stored,
        })  # fmt: skip

    def tokens(self, request: Request) -> Response:
        """The row's tokens."""
        asked, row = self._row(request)
        return JSONResponse(self.library.tokens(asked.table, row))

    def duplicates(self, request: Request) -> Response:
        """Whom the row lost to, and who lost to it."""
        return JSONResponse(self.library.duplicates(_id(request, "id")))

    def copies(self, request: Request) -> Response:
        """Where the row stands in the shards."""
        return JSONResponse(self.library.copies(_id(request, "id")))

    def difference(self, request: Request) -> Response:
        """Two texts in one."""
        found = self.library.difference(_id(request, "id"), _id(request, "other"))
        return JSONResponse([[one.kind, one.text] for one in found])

    async def label(self, request: Request) -> Response:
        """Stores a judgement."""
        body = await request.body()
        return await run_in_threadpool(self._label, body)

    def _label(self, body: bytes) -> Response:
        if len(body) > 8 * MOST_WHY:
            raise RecipeError("this is too long for a label")
        try:
            given = json.loads(body)
            table, at, label = str(given["table"]), str(given["place"]), str(given["label"])
            why, by = str(given.get("why", "")), str(given.get("by", "")) or self.reviewer
            (why + by).encode()  # half a surrogate pair is valid in JSON, and cannot be stored
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecipeError(f"this is no label: {error!r}") from error
        if label not in (*labels.LABELS, labels.NONE):
            raise RecipeError(f"there is no label '{label}'; there are {', '.join(labels.LABELS)}")
        if len(why) > MOST_WHY or len(by) > 200:
            raise RecipeError(f"a reason has at most {MOST_WHY:,} characters, a name 200")
        row = self.library.table(table).whole(Place.of(at))
        try:
            seen = labels.digest(self.library.text(table, row))
        except UserError:
            seen = ""  # a record without a text may be judged as well
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = labels.Label(row["id"].hex(), label, why, by, now, seen)
        try:
            labels.append(self.library.folder, made)
        except OSError as error:
            raise UserError(f"{labels.NAME} cannot be written: {error.strerror}") from error
        return JSONResponse({"label": label, "why": why, "by": by, "labelled": len(self.library.labels())})


def _index(text: str) -> int:
    if text and not re.fullmatch(r"\d{1,6}", text):
        raise RecipeError(f"at={text}: a place in a sample is a number")
    return int(text or 0)


def _id(request: Request, key: str) -> bytes:
    text = request.query_params.get(key, "")
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise RecipeError(f"{key}={text}: an id is 32 hex digits")
    return bytes.fromhex(text)


_environment: jinja2.Environment | None = None


def _pages() -> jinja2.Environment:
    global _environment
    if _environment is None:
        loader = jinja2.FileSystemLoader(HERE / "templates")
        _environment = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
    return _environment


def listen(port: int) -> socket.socket:
    """A socket on the loopback address. Raises UserError where the port is taken."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise UserError(f"port {port} cannot be had: {error.strerror}; --port 0 takes a free one") from error
    return made


def serve(library: Library, sock: socket.socket, reviewer: str, ready: Callable[[str], None]) -> None:
    """Serves until it is stopped; `ready` is given the address once it answers."""
    port = sock.getsockname()[1]
    app = Browser(library, Door(port), reviewer).app()
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    server = _Server(config)
    server.ready = partial(ready, f"http://127.0.0.1:{port}/")
    server.run(sockets=[sock])


class _Server(uvicorn.Server):
    ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says that it answers."""
        await super().startup(sockets)
        self.ready()
