"""uvicorn inside a process that has other things to do: how the gateway's own port and the admission webhooks are served.

Requests go to a plain ASGI app, without lifespan, logs of its own or signal handlers; who starts it decides about the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECONDS = 120
GATHERED = 65_536
"""Bytes that wait for the end of a turn of the event loop, at the most."""


class Gathering:
    """A transport that sends what was written in one turn of the event loop in one piece.

    uvicorn writes an answer's head and its body one after the other; over TLS these would be two records, each of which costs
    both sides about as much as all the rest of a small answer.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it soon, and after what was written before."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > GATHERED:
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting, self._size = [], 0
            self._transport.write(data)


class Protocol(HttpToolsProtocol):
    """uvicorn's, over a gathering transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", Gathering(cast("asyncio.Transport", transport))))


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever starts us decides about signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, *, drain_seconds: int, **options: Any) -> Server:
    """Return a server for ``serve(sockets=[…])``. ``options`` are uvicorn's, for TLS and the like."""
    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
            **options,
        )
    )
