"""``POST /mcp``: the door to the MCP server, light enough to be open everywhere.

The ``mcp`` package costs 18 MiB and a second of CPU to import, so it is imported, in a thread, when the first client comes. The
shell has asked for the bearer token before a request gets here. A browser sends no bearer token of its own accord, so a page
that rebinds DNS has nothing to use; a request that a foreign page makes on purpose names its Origin and is refused. There
are no sessions and no server-sent events: GET and DELETE are 405, as the protocol has it for a server without either.
"""

from __future__ import annotations

import asyncio
import importlib
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from serve_apps.http import Problem

SERVER = "serve_apps.data_storage.mcp_server"


class McpRoute:
    """An ASGI endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        check(request.headers)
        body = await request.body()
        app: FastAPI = scope["app"]
        server = await asyncio.to_thread(importlib.import_module, SERVER)
        await server.handle(app.state.deps, scope, body, receive, send)


def check(headers: Headers) -> None:
    """Refuse what no MCP client sends. Raises ``Problem``."""
    origin = headers.get("origin", "")
    if origin and urlsplit(origin).netloc != headers.get("host", ""):
        raise Problem(403, detail=f"pages of the origin {origin} may not use this server; MCP clients send no Origin")
    media_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, detail=f"send application/json, not {media_type or 'nothing'}")
