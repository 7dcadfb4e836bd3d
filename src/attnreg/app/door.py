"""Who and what comes in: the hosts that are answered, the size of requests, the headers of what goes out."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from attnreg.app import bounds
from attnreg.errors import AttnregError
from attnreg.reading import Bounds, json_of

Scope = MutableMapping[str, Any]
Messages = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    # Nothing is loaded from elsewhere, and nothing is told to anyone.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
PATIENCE = 16
"""So many times the bound is read and thrown away: a browser hears no answer before it has sent all."""
_JSON = Bounds(bytes=bounds.MOST_JSON, letters=bounds.MOST_JSON, values=10_000)


class TooLargeError(AttnregError):
    """A request of more bytes than are read."""


class Door:
    """Lets in only what names this server, and from pages of other servers nothing.

    A page anywhere may let a browser ask 127.0.0.1, and a name that anyone registered may lead there: the first is
    told by `Origin`, the second by `Host`.
    """

    def __init__(self, app: Any, host: str) -> None:
        self.app, self.host = app, host

    async def __call__(self, scope: Scope, receive: Messages, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *told]}
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        named, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not self.is_ours(named) or (origin is not None and origin not in (f"http://{named}", f"https://{named}")):
            answer = PlainTextResponse("This app answers no requests that were meant for, or made by, others.\n", 403)
            await answer(scope, receive, sent)
            return
        await self.app(scope, receive, sent)

    def is_ours(self, named: str) -> bool:
        """Whether a `Host` header names this server."""
        name = named.rsplit(":", 1)[0] if not named.endswith("]") else named
        name = name.strip("[]").lower()
        if name in LOOPBACK or name == self.host.lower():
            return True
        if is_loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)  # a number cannot be made to lead elsewhere
            return True
        except ValueError:
            return name in (socket.gethostname().lower(), socket.getfqdn().lower())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def bytes_in(request: Request, most: int) -> bytes:
    """The body of a request, of which no more is kept than the bound. Raises `TooLargeError`."""
    content, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= most:
            content += part
        elif size > most * PATIENCE:
            break
    if size > most:
        raise TooLargeError(f"expected at most {most >> 10:,} KiB, got more")
    return bytes(content)


async def json_in(request: Request) -> Any:
    """The JSON of a request. Raises `AttnregError` if it is none, or `TooLargeError`."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise AttnregError("expected JSON with the content type application/json; use the app's own page")
    content = await bytes_in(request, bounds.MOST_JSON)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AttnregError(f"expected UTF-8, got {error.reason}; use the app's own page") from error
    return json_of(text, "the form", _JSON)
