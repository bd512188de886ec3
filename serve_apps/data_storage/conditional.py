"""Answers with a strong ETag: 304 for who has it already. Shared caches must not keep them; private ones ask every time.

HEAD is answered wherever GET is, with the same headers and the same right to ask.
"""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catalog import etags

CACHE_CONTROL = "private, no-cache"
"""Keep it, but ask whether it is still so: a record's status and statistics change at any time."""


def answer(request: Request, body: bytes) -> Response:
    """Return the body as JSON with its ETag, or 304 where ``If-None-Match`` names it."""
    headers = {"etag": etags.etag(body), "cache-control": CACHE_CONTROL}
    if etags.matches(etags.tags(request.headers.get("if-none-match", ""), weak=True), body):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def expected(if_match: str) -> tuple[str, ...]:
    """Return the ETags of ``If-Match``; a header that names no strong tag can match nothing."""
    return etags.tags(if_match, weak=False) or (("",) if if_match else ())


class Head:
    """An ASGI layer, the outermost: HEAD is GET without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, bodiless)
