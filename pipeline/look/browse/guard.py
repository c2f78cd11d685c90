"""What keeps other pages and machines away from the pages of `browse`.

A page that a user visits elsewhere may send requests to this machine, and may have its own name lead here (DNS
rebinding). So: the Host header must name this machine; requests that a browser marks as another site's are refused;
what changes something needs an Origin of ours and a token that only our pages hold. What our own pages show is text
from the crawl, so they may run no script and load nothing but this server's own files.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost", "[::1]")
TOKEN_HEADER = "x-corpusmill-token"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Door:
    """Where the server listens, and the token of its pages."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def hosts(self) -> set[str]:
        """What a Host header may say."""
        return {f"{name}:{self.port}" for name in NAMES} | (set(NAMES) if self.port == 80 else set())

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused, or None."""
        if headers.get("host", "").lower() not in self.hosts:
            return "this server answers only to its own address on this machine"
        # a link from elsewhere into the pages is fine, a request by another page is not
        followed = (method, *(headers.get(f"sec-fetch-{name}") for name in ("mode", "dest")))
        other = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if other and followed != ("GET", "navigate", "document"):
            return "another site's pages may not ask here"
        if method in ("GET", "HEAD"):
            return None
        if headers.get("origin", "").lower() not in {f"http://{host}" for host in self.hosts}:
            return "this request comes from no page of this server"
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return "this request lacks the token of this server's pages; load the page again"
        return None


class Guard:
    """Refuses what comes from elsewhere, and puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application around another."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        why = self.door.refusal(scope["method"], Headers(scope=scope))
        app: Any = PlainTextResponse(f"refused: {why}\n", 403) if why else self.app
        await app(scope, receive, guarded)
